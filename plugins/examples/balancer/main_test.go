package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
)

// A router that prefers some experts comes to use all of them more alike.
func TestBalances(t *testing.T) {
	with, without := variations(t, 4), variations(t, 0)
	if without < 0.8 || with > 0.6*without {
		t.Errorf("the variation of the load is %.2f, and %.2f without biases", with, without)
	}
}

// variations is the mean variation of the load over the last 400 of 800 tokens, where
// biases may be so large.
func variations(t *testing.T, limit float64) (mean float64) {
	t.Helper()
	model := plugins.Model{Shape: hook.Shape{Layers: 2, Experts: 8, K: 2, Hidden: 4}, Tokens: 8}
	h, err := plugin().Hook(&plugins.Sequence{Model: model, Params: map[string]any{"limit": limit}})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail,
		Notify: func(n hook.Notice) {
			if n.Position >= 400 {
				mean += n.Value.(float64) / 400
			}
		}}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if _, err := chain.Prompt([]int32{1}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	row := make(hook.Plain, model.Tokens)
	for position := 1; position < 800; position++ {
		steer, err := chain.Steer(position - 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chain.Logits(hook.At{Position: position}, row, row); err != nil {
			t.Fatal(err)
		}
		record := hook.Record{Position: position, Layers: 2, K: 2, Weights: []float32{.5, .5, .5, .5}}
		for layer := range 2 {
			var l hook.LayerSteering
			if steer != nil { // it is, while the steering is neutral
				l = steer.Layer(layer)
			}
			record.IDs = append(record.IDs, route(random, l)...)
		}
		chain.Routing(record)
	}
	return mean
}

// route chooses two of eight experts, the first ones most likely.
func route(random *rand.Rand, l hook.LayerSteering) []uint16 {
	logits := make([]float64, 8)
	for e := range logits {
		logits[e] = random.NormFloat64() - 0.5*float64(e)
	}
	for _, v := range l.Bias {
		logits[v.Expert] += float64(v.Value)
	}
	ids := []uint16{0, 1, 2, 3, 4, 5, 6, 7}
	slices.SortFunc(ids, func(a, b uint16) int {
		if logits[a] > logits[b] {
			return -1
		}
		return 1
	})
	return ids[:2]
}
