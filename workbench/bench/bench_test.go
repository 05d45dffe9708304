// Package bench measures the demo model end to end, beside
// transformers_demo.py, which does the same work with transformers: the same
// weights, prompt lengths and number of tokens.
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

func open(b *testing.B) *engine.Model {
	b.Helper()
	fsys, ok := demo.FS()
	if !ok {
		b.Skip(demo.ErrLeftOut)
	}
	model, err := engine.Open(b.Context(), fsys, engine.Options{Name: demo.Name})
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

// prompt is n ids spread over the vocabulary; transformers_demo.py has the
// same.
func prompt(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(3 + i*7919%4000)
	}
	return ids
}

func complete(b *testing.B, model *engine.Model, length, tokens int) engine.Result {
	b.Helper()
	request := engine.Request{Prompt: prompt(length), MaxTokens: tokens, IgnoreEOS: true}
	result, err := model.Generate(b.Context(), request, func(engine.Token) error { return nil })
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
