// Package twin holds one hook in three forms, a script, a Go plugin and a Python plugin, which
// must do the same to the last bit: a sampler, a mask and an edit of routing. Its tests
// compare them, and measure what each costs.
package twin

import (
	"cmp"
	"math"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

// Plugin is the Go form; twin.ts and main.py beside it are the others.
func Plugin() *plugins.Plugin {
	return &plugins.Plugin{
		Name: "twin", Version: "1.0",
		Params: plugins.Params{"lag": {Type: "integer", Default: 2.0}},
		New: func(s *plugins.Sequence) (any, error) {
			s.Spec.Lag = int(s.Params["lag"].(float64))
			return &twin{experts: s.Model.Shape.Experts}, nil
		},
	}
}

// Steered is the layer whose experts it edits, Window how many rows it looks back.
const (
	Steered = 3
	Window  = 8
)

type twin struct {
	experts int
	last    [][]uint16
}

// Logits bans two tokens at every third position, one at the others.
func (t *twin) Logits(c *plugins.Call, l *plugins.Logits) error {
	if c.Position%3 == 0 {
		return l.Ban([]int32{7, 300})
	}
	return l.Ban([]int32{265})
}

// Sample draws of the best 20 that have a tenth of the best one's probability.
func (t *twin) Sample(c *plugins.Call, s *plugins.Candidates) (int32, bool, error) {
	top, err := s.Top()
	if err != nil {
		return 0, false, err
	}
	best, sum := float64(top[0].Logprob), 0.0
	weights := make([]float64, 0, 20)
	for _, x := range top[:min(20, len(top))] {
		w := math.Exp(float64(x.Logprob) - best)
		if w < 0.1 {
			break
		}
		sum += w
		weights = append(weights, w)
	}
	u := c.Random() * sum
	for i, w := range weights {
		if u -= w; u < 0 {
			return top[i].ID, true, nil
		}
	}
	return top[len(weights)-1].ID, true, nil
}

// Routing bans the expert that the last rows chose most.
func (t *twin) Routing(c *plugins.Call, r *plugins.Routing) error {
	ids, err := r.Experts(Steered)
	if err != nil {
		return err
	}
	if t.last = append(t.last, ids); len(t.last) > Window {
		t.last = t.last[1:]
	}
	counts := make([]int, t.experts)
	for _, ids := range t.last {
		for _, id := range ids {
			counts[id]++
		}
	}
	most := 0
	for id := range counts {
		if cmp.Compare(counts[id], counts[most]) > 0 {
			most = id
		}
	}
	if err := c.Steer.Clear([]int{Steered}); err != nil {
		return err
	}
	return c.Steer.Ban([]int{Steered}, []int32{int32(most)})
}
