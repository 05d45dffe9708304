package main

import (
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
)

// The temperature falls as the entropy rises.
func TestTemperature(t *testing.T) {
	model := plugins.Model{Shape: hook.Shape{Layers: 1, Experts: 4, K: 1, Hidden: 4}, Tokens: 8}
	h, err := plugin().Hook(&plugins.Sequence{Model: model, Params: map[string]any{"high": 1.0, "low": 0.5, "limit": math.Log(8)}})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	never := float32(math.Inf(-1))
	for position, c := range []struct {
		row  hook.Plain
		want float64
	}{
		{hook.Plain{0, never, never, never, never, never, never, never}, 1},
		{hook.Plain{0, 0, never, never, never, never, never, never}, 1 - 0.5/3},
		{hook.Plain{0, 0, 0, 0, 0, 0, 0, 0}, 0.5},
	} {
		v, err := chain.Logits(hook.At{Position: position}, c.row, c.row)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := v.Edits.Values.Get(plugins.Temperature); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("row %d: temperature %v, want %v", position, got, c.want)
		}
	}
}
