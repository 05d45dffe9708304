package engine

import (
	"context"
	"os"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

func demo(b *testing.B) *Model {
	m, err := Open(context.Background(), os.DirFS(optest.Demo(b)), Options{Name: "demo"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

func promptIDs(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(300 + i*37%3000)
	}
	return ids
}

// BenchmarkDemoDecode reads one token at a time behind a prompt of 64.
func BenchmarkDemoDecode(b *testing.B) {
	m := demo(b)
	const prompt, steps = 64, 128
	for b.Loop() {
		seq, err := m.NewSequence(context.Background(), prompt+steps)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := seq.Read(context.Background(), promptIDs(prompt), StepOptions{}); err != nil {
			b.Fatal(err)
		}
		for range steps {
			if _, err := seq.Read(context.Background(), []int32{7}, StepOptions{StepForm: true, Logits: []int{0}}); err != nil {
				b.Fatal(err)
			}
		}
		seq.Release()
	}
	b.ReportMetric(float64(b.N)*(prompt+steps)/b.Elapsed().Seconds(), "tok/s-mixed")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/steps*1e3, "ms/tok-at-most")
}

// BenchmarkDemoPrefill reads a prompt of 512 tokens.
func BenchmarkDemoPrefill(b *testing.B) {
	m := demo(b)
	const prompt = 512
	for b.Loop() {
		seq, err := m.NewSequence(context.Background(), prompt)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := seq.Read(context.Background(), promptIDs(prompt), StepOptions{Logits: []int{prompt - 1}}); err != nil {
			b.Fatal(err)
		}
		seq.Release()
	}
	b.ReportMetric(float64(b.N)*prompt/b.Elapsed().Seconds(), "tok/s")
}
