package simd

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMax(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, level := range Levels() {
		for _, n := range []int{1, 7, 31, 32, 33, 64, 1000, 151936} {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(random.NormFloat64())
			}
			if got, want := level.Max(x), slices.Max(x); got != want {
				t.Errorf("%v: Max of %d values = %v, want %v", level, n, got, want)
			}
		}
	}
}
