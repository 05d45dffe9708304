package cpu

import (
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
)

func TestChooseWeighsExperts(t *testing.T) {
	for _, level := range simd.Levels() {
		logits := []float32{0, 2, 1, 2}
		ids, weights := make([]int32, 2), make([]float32, 2)
		choose(level, ids, weights, logits, true)
		if ids[0] != 1 || ids[1] != 3 || weights[0] != .5 || weights[1] != .5 {
			t.Errorf("%v, renormalised: %v %v", level, ids, weights)
		}
		choose(level, ids, weights, logits, false)
		want := math.Exp(2) / (1 + math.E + 2*math.Exp(2))
		if math.Abs(float64(weights[0])-want) > 1e-6 {
			t.Errorf("%v, not renormalised: %v, want %v", level, weights[0], want)
		}
	}
}
