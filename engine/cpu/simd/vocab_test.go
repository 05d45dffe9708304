package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var rowLengths = []int{1, 7, 15, 16, 31, 32, 33, 63, 64, 65, 100, 1000, 4096, 151936}

func normalRow(random *rand.Rand, n int, spread float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64() * spread)
	}
	return x
}

func TestMax(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, level := range Levels() {
		for _, n := range rowLengths {
			x := normalRow(random, n, 1)
			if got, want := level.Max(x), slices.Max(x); got != want {
				t.Errorf("%v: Max of %d values = %v, want %v", level, n, got, want)
			}
		}
	}
}

func TestPeaks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 3))
	for _, level := range Levels() {
		for _, n := range rowLengths {
			x := normalRow(random, n, 1)
			peaks := make([]float32, (n+Block-1)/Block)
			level.Peaks(peaks, x)
			for i, got := range peaks {
				if want := slices.Max(x[i*Block : min(i*Block+Block, n)]); got != want {
					t.Fatalf("%v: peak %d of %d values = %v, want %v", level, i, n, got, want)
				}
			}
		}
	}
}

// The log of the sum is good to 1e-6, and a NaN anywhere shows.
func TestSumExp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4))
	for _, level := range Levels() {
		for _, n := range rowLengths {
			for _, scale := range []float32{0, .5, 1, 1 / .7, 10, math.MaxFloat32} {
				x := normalRow(random, n, 4)
				for i := range x {
					x[i] = min(x[i], 17)
				}
				x[random.IntN(n)] = float32(math.Inf(-1))
				x[random.IntN(n)] = -1e30
				x[random.IntN(n)] = 17
				if scale == 0 {
					x = slices.DeleteFunc(x, func(v float32) bool { return math.IsInf(float64(v), -1) })
				}
				want, moment := 0.0, 0.0
				for _, v := range x {
					y := max(float64(v-17)*float64(scale), -1e3)
					want, moment = want+math.Exp(y), moment+y*math.Exp(y)
				}
				sum, got := level.SumExpX(x, 17, scale)
				if !(math.Abs(math.Log(sum)-math.Log(want)) <= 1e-6 && math.Abs(got-moment) <= 1e-6*(want-moment)) {
					t.Errorf("%v: SumExpX of %d values at %v = %v, %v, want %v, %v", level, n, scale, sum, got, want, moment)
				}
				if got := level.SumExp(x, 17, scale); !(math.Abs(math.Log(got)-math.Log(want)) <= 1e-6) {
					t.Errorf("%v: SumExp of %d values at %v = %v, want %v", level, n, scale, got, want)
				}
			}
			x := normalRow(random, n, 1)
			x[random.IntN(n)] = float32(math.NaN())
			if got, moment := level.SumExpX(x, 5, 1); got == got || moment == moment {
				t.Errorf("%v: SumExpX of %d values with a NaN = %v, %v", level, n, got, moment)
			}
			if got := level.SumExp(x, 5, 1); got == got {
				t.Errorf("%v: SumExp of %d values with a NaN = %v", level, n, got)
			}
			for _, infinite := range []float64{math.Inf(1), math.Inf(-1)} {
				x[n/2] = float32(infinite)
				if got := level.SumExp(slices.Repeat([]float32{float32(infinite)}, n), float32(infinite), 1); got == got {
					t.Errorf("%v: SumExp of %d times %v = %v", level, n, infinite, got)
				}
			}
		}
	}
}

// Each term is within an ulp and a half of exp: one value sixteen times over.
func TestSumExpTerms(t *testing.T) {
	for _, level := range Levels() {
		worst := 0.0
		x := make([]float32, 16)
		for v := float32(-80); v <= 0; v += 1.0 / 512 {
			for i := range x {
				x[i] = v
			}
			want := math.Exp(float64(v))
			ulp := float64(math.Nextafter32(float32(want), 2)) - float64(float32(want))
			worst = max(worst, math.Abs(level.SumExp(x, 0, 1)/16-want)/ulp)
		}
		t.Logf("%v: %.2f ulp", level, worst)
		if worst > 1.5 {
			t.Errorf("%v: exp is %.2f ulp off", level, worst)
		}
	}
}

func TestAtLeast(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 5))
	for _, level := range Levels() {
		for _, n := range rowLengths {
			x := normalRow(random, n, 1)
			for i := range x {
				switch random.IntN(10) {
				case 0:
					x[i] = 1
				case 1:
					x[i] = float32(math.NaN())
				case 2:
					x[i] = float32(math.Inf(-1))
				}
			}
			for _, floor := range []float32{-math.MaxFloat32, float32(math.Inf(-1)), 0, 1, 3, 100, float32(math.NaN())} {
				ids := make([]int32, n)
				got := ids[:level.AtLeast(ids, x, floor)]
				var want []int32
				for i, v := range x {
					if v >= floor {
						want = append(want, int32(i))
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%v: %d of %d values not below %v, want %d", level, len(got), n, floor, len(want))
				}
			}
		}
	}
}

func BenchmarkVocabulary(b *testing.B) {
	x := normalRow(rand.New(rand.NewPCG(1, 6)), 151936, 3)
	peaks, ids := make([]float32, len(x)/Block), make([]int32, len(x))
	for _, level := range Levels() {
		for name, kernel := range map[string]func(){
			"Max":     func() { level.Max(x) },
			"Peaks":   func() { level.Peaks(peaks, x) },
			"SumExp":  func() { level.SumExp(x, 17, 1) },
			"SumExpX": func() { level.SumExpX(x, 17, 1) },
			"AtLeast": func() { level.AtLeast(ids, x, 9) },
		} {
			b.Run(fmt.Sprintf("%s/%v", name, level), func(b *testing.B) {
				b.SetBytes(int64(4 * len(x)))
				for b.Loop() {
					kernel()
				}
			})
		}
	}
}
