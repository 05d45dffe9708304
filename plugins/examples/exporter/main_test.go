package main

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
)

// Every choice of an expert is counted, over all answers.
func TestCounts(t *testing.T) {
	e := newExporter()
	model := plugins.Model{Shape: hook.Shape{Layers: 2, Experts: 4, K: 2, Hidden: 4}, Tokens: 8}
	row := make(hook.Plain, model.Tokens)
	for range 2 {
		h, err := e.plugin().Hook(&plugins.Sequence{Model: model})
		if err != nil {
			t.Fatal(err)
		}
		chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chain.Prompt([]int32{1}); err != nil {
			t.Fatal(err)
		}
		for position := 1; position < 9; position++ {
			if _, err := chain.Logits(hook.At{Position: position}, row, row); err != nil {
				t.Fatal(err)
			}
			chain.Routing(hook.Record{Position: position, Layers: 2, K: 2, IDs: []uint16{0, 1, 2, hook.NoExpert}, Weights: make([]float32, 4)})
		}
		if _, err := chain.Logits(hook.At{Position: 9}, row, row); err != nil {
			t.Fatal(err)
		}
		chain.Finish(hook.Finish{Reason: "length"})
		chain.Close()
	}
	for expert, want := range map[string]float64{"0": 16, "1": 16, "2": 0} {
		if got := testutil.ToFloat64(e.tokens.WithLabelValues("0", expert)); got != want {
			t.Errorf("expert %s of layer 0: %v, want %v", expert, got, want)
		}
	}
	if h := testutil.ToFloat64(e.entropy.WithLabelValues("0")); math.Abs(h-0.5) > 1e-9 {
		t.Errorf("entropy %v: two of four experts share the load", h)
	}
	if n := testutil.ToFloat64(e.choices); n != 2 {
		t.Errorf("%v answers", n)
	}
}
