package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

func TestChooseSteered(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, c := range map[string]struct {
		logits []float32
		l      ops.LayerSteering
		ids    []int32
	}{
		"bias ranks, logits weigh": {[]float32{0, 2, 1, -1}, ops.LayerSteering{Bias: []ops.ExpertValue{{Expert: 3, Value: 4}}}, []int32{3, 1}},
		"ban":                      {[]float32{0, 2, 1, -1}, ops.LayerSteering{Bias: []ops.ExpertValue{{Expert: 1, Value: -inf}}}, []int32{2, 0}},
		"ban but one":              {[]float32{0, 2, 1}, ops.LayerSteering{Bias: []ops.ExpertValue{{Expert: 1, Value: -inf}, {Expert: 2, Value: -inf}}}, []int32{0, -1}},
		"force":                    {[]float32{0, 2, nan, -inf}, ops.LayerSteering{Bias: []ops.ExpertValue{{Expert: 0, Value: inf}, {Expert: 3, Value: 1}}}, []int32{0, 1}},
		"fewer":                    {[]float32{0, 2, 1}, ops.LayerSteering{K: 1}, []int32{1, -1}},
		"ties":                     {[]float32{2, 1, 1, 1}, ops.LayerSteering{Bias: []ops.ExpertValue{{Expert: 0, Value: -1}}}, []int32{0, 1}},
	} {
		for _, renormalise := range []bool{true, false} {
			ids, weights := make([]int32, 2), make([]float32, 2)
			chooseSteered(simd.Best(), ids, weights, c.logits, renormalise, &c.l)
			if !slices.Equal(ids, c.ids) {
				t.Errorf("%s: chose %v, expected %v", name, ids, c.ids)
			}
			sum := 0.0
			for id, v := range c.logits {
				if !renormalise || slices.Contains(c.ids, int32(id)) {
					sum += math.Exp(float64(v))
				}
			}
			for rank, id := range c.ids {
				want := 0.0
				if id >= 0 {
					want = math.Exp(float64(c.logits[id])) / sum
				}
				if got := float64(weights[rank]); math.Abs(got-want) > 1e-6 || math.IsNaN(got) != math.IsNaN(want) {
					t.Errorf("%s: weight %d is %g, expected %g", name, rank, got, want)
				}
			}
		}
	}
}

// Steering without an effect has the bits of none: here where it goes the long way.
func TestChooseSteeredNeutral(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		logits := make([]float32, 20)
		for i := range logits {
			logits[i] = float32(random.IntN(30)) / 4
		}
		plain, plainWeights := make([]int32, 5), make([]float32, 5)
		ids, weights := make([]int32, 5), make([]float32, 5)
		for _, renormalise := range []bool{true, false} {
			choose(simd.Best(), plain, plainWeights, logits, renormalise)
			chooseSteered(simd.Best(), ids, weights, logits, renormalise, &ops.LayerSteering{
				Bias: []ops.ExpertValue{{Expert: 4}}, Scale: []ops.ExpertValue{{Expert: plain[0], Value: 1}}, K: 5})
			if !slices.Equal(ids, plain) || !slices.Equal(weights, plainWeights) {
				t.Fatalf("logits %v: %v %v, without steering %v %v", logits, ids, weights, plain, plainWeights)
			}
		}
	}
}
