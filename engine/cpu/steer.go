package cpu

import (
	"errors"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// routing is what the mixtures of a program have in common: their number, and the
// largest of each dimension.
type routing struct{ layers, experts, k, hidden int }

// steered notes a layer whose rows may be steered; 0 for what the phase at hand does
// not know.
func (p *program) steered(layer, experts, k, hidden int) {
	r := &p.routing
	r.layers, r.experts, r.k, r.hidden = max(r.layers, layer+1), max(r.experts, experts), max(r.k, k), max(r.hidden, hidden)
}

// lay refuses steering, and layers asked for, that do not fit, and makes room for what
// is read of them.
func (r *routing) lay(step *ops.Step) error {
	if r.layers == 0 {
		return nil // a program that routes nothing
	}
	for i := range step.Segments {
		if err := step.Segments[i].Steer.Check(r.layers, r.experts, r.k, r.hidden); err != nil {
			return err
		}
	}
	if err := errors.Join(step.Residual.Check(r.layers), step.Between.Check(r.layers)); err != nil {
		return err
	}
	if to := step.Residual; to != nil {
		to.Resize(step.Rows(), r.hidden)
	}
	if to := step.Routes; to != nil {
		n := step.Rows() * r.layers * r.k
		to.Layers, to.K = r.layers, r.k
		to.IDs, to.Weights = slices.Grow(to.IDs[:0], n)[:n], slices.Grow(to.Weights[:0], n)[:n]
		for i := range n {
			to.IDs[i], to.Weights[i] = ops.NoExpert, 0
		}
	}
	return nil
}

// steering is the steering of a row in a layer; nil where it is left alone.
func (r *run) steering(row, layer int) *ops.LayerSteering {
	s := r.Segments[r.segment[row]].Steer
	if s == nil || layer >= len(s.Layers) || s.Layers[layer].Neutral() {
		return nil
	}
	return &s.Layers[layer]
}

// note puts a row's choice into the routing record.
func (r *run) note(row, layer int, ids []int32, weights []float32) {
	to := r.Routes
	if to == nil {
		return
	}
	at := (row*to.Layers + layer) * to.K
	for rank, id := range ids {
		to.IDs[at+rank] = uint16(id) // -1 is NoExpert
	}
	copy(to.Weights[at:], weights)
}

// chooseSteered is choose with a bias on the logits that are ranked, factors on the
// weights, and a k of its own; ranks that get no expert have id -1 and weight 0.
func chooseSteered(level simd.Level, ids []int32, weights, logits []float32, renormalise bool, l *ops.LayerSteering) {
	ranked := slices.Clone(logits)
	allowed := make([]int32, 0, len(logits))
	next := 0
	for id := range ranked {
		if next < len(l.Bias) && int(l.Bias[next].Expert) == id {
			bias := l.Bias[next].Value
			next++
			if math.IsInf(float64(bias), -1) {
				continue
			}
			if ranked[id] += bias; math.IsInf(float64(bias), 1) {
				ranked[id] = bias // also of a logit that is no number
			}
		}
		if ranked[id] != ranked[id] {
			ranked[id] = float32(math.Inf(-1)) // NaN goes last
		}
		ranked[len(allowed)] = ranked[id]
		allowed = append(allowed, int32(id))
	}
	k := len(ids)
	if l.K > 0 {
		k = min(k, l.K)
	}
	k = min(k, len(allowed))
	for i := k; i < len(ids); i++ {
		ids[i], weights[i] = -1, 0
	}
	if k == 0 {
		return
	}
	ids, weights = ids[:k], weights[:k]
	level.ArgTop(ids, weights, ranked[:len(allowed)])
	for i, place := range ids {
		ids[i] = allowed[place]
		weights[i] = logits[ids[i]]
	}
	best := slices.Max(weights)
	if !renormalise {
		best = slices.Max(logits)
	}
	soften(weights, logits, best, renormalise)
	for _, v := range l.Scale {
		if rank := slices.Index(ids, v.Expert); rank >= 0 {
			weights[rank] *= v.Value
		}
	}
}
