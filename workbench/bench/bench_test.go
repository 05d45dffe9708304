package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
)

// decoded is how many tokens a decode run makes.
const decoded = 128

func open(b *testing.B) *engine.Model { return openFor(b, 4) }

func openFor(b *testing.B, streams int) *engine.Model {
	b.Helper()
	fsys, ok := demo.FS()
	if !ok {
		b.Skip(demo.ErrLeftOut)
	}
	model, err := engine.Open(b.Context(), fsys, engine.Options{Name: demo.Name, Streams: streams})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := model.Close(); err != nil {
			b.Error(err)
		}
	})
	return model
}

func complete(b *testing.B, model *engine.Model, length, tokens int) engine.Result {
	b.Helper()
	result, err := model.Generate(b.Context(), request(model, length, 0, tokens), func(engine.Token) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	if result.Completion != tokens {
		b.Fatalf("made %d tokens, want %d", result.Completion, tokens)
	}
	return result
}

func perSecond(tokens int, took time.Duration) float64 { return float64(tokens) / took.Seconds() }

func BenchmarkPrefill(b *testing.B) {
	model := open(b)
	for _, length := range []int{64, 512, 1536} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			complete(b, model, length, 1) // warms caches and memory
			var took time.Duration
			for b.Loop() {
				took += complete(b, model, length, 1).Prefill
			}
			b.ReportMetric(perSecond(length*b.N, took), "tok/s")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	model := open(b)
	for _, length := range []int{64, 1536} {
		b.Run(fmt.Sprint("after", length), func(b *testing.B) {
			complete(b, model, length, 2)
			var took time.Duration
			for b.Loop() {
				took += complete(b, model, length, decoded+1).Decode
			}
			b.ReportMetric(perSecond(decoded*b.N, took), "tok/s")
		})
	}
}

// BenchmarkDecodeStreams is the speed of so many streams together.
func BenchmarkDecodeStreams(b *testing.B) {
	for _, streams := range []int{1, 4, 8} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			model := openFor(b, streams)
			var sum float64
			for b.Loop() {
				speed, err := Decode(b.Context(), model, 64, streams, decoded+1)
				if err != nil {
					b.Fatal(err)
				}
				sum += speed
			}
			b.ReportMetric(sum/float64(b.N), "tok/s")
		})
	}
}

// BenchmarkOpen is the time from a folder to a model that is ready.
func BenchmarkOpen(b *testing.B) {
	fsys, ok := demo.FS()
	if !ok {
		b.Skip(demo.ErrLeftOut)
	}
	for b.Loop() {
		model, err := engine.Open(b.Context(), fsys, engine.Options{Name: demo.Name})
		if err != nil {
			b.Fatal(err)
		}
		if err := model.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
