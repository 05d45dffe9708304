package hooked

import (
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Steering is what a backend is given of a hook's steering: bans and forced experts are
// biases without bounds, vectors behind one layer are one. Nil for neutral steering.
func Steering(s *hook.Steering, layers int) *ops.Steering {
	if s.Neutral() {
		return nil
	}
	out := &ops.Steering{Layers: make([]ops.LayerSteering, layers)}
	for n := range out.Layers {
		from, to := s.Layer(n), &out.Layers[n]
		to.K, to.Gate = from.K, from.Gate-1
		to.Bias, to.Scale = biases(&from), values(from.Scale)
	}
	for _, v := range s.Vectors() {
		add(&out.Layers[v.Layer], v)
	}
	return out
}

// biases lists the biases of a layer; a ban or a force takes the place of a number.
func biases(l *hook.LayerSteering) []ops.ExpertValue {
	fixed := func(list []ops.ExpertValue, experts []int32, sign int) []ops.ExpertValue {
		for _, e := range experts {
			at, found := slices.BinarySearchFunc(list, e, func(v ops.ExpertValue, e int32) int { return int(v.Expert) - int(e) })
			if !found {
				list = slices.Insert(list, at, ops.ExpertValue{Expert: e})
			}
			list[at].Value = float32(math.Inf(sign))
		}
		return list
	}
	return fixed(fixed(values(l.Bias), l.Ban, -1), l.Force, 1)
}

func values(list []hook.ExpertValue) []ops.ExpertValue {
	out := make([]ops.ExpertValue, 0, len(list))
	for _, v := range list {
		out = append(out, ops.ExpertValue{Expert: v.Expert, Value: v.Value})
	}
	return out
}

// add adds a vector to a layer. A single one keeps its values and strength, so that a
// change of strength moves no vector.
func add(l *ops.LayerSteering, v hook.Vector) {
	if l.Vector == nil {
		l.Vector, l.Strength = v.Values, v.Scale
		return
	}
	sum := make([]float32, len(v.Values))
	for i := range sum {
		sum[i] = l.Strength*l.Vector[i] + v.Scale*v.Values[i]
	}
	l.Vector, l.Strength = sum, 1
}
