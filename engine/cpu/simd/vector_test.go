package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func normal(random *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

// lengths has every remainder of every unrolled loop.
func lengths() (n []int) {
	for i := range 70 {
		n = append(n, i)
	}
	return append(n, 127, 128, 129, 200, 256, 1000, 2048)
}

// close fails unless got is within tolerance of want, relative to size.
func closeTo(t *testing.T, what string, got float32, want, size, tolerance float64) {
	t.Helper()
	if d := math.Abs(float64(got) - want); !(d <= tolerance*(size+1e-30)) {
		t.Fatalf("%s = %v, want %v (off by %.3g of %.3g)", what, got, want, d, size)
	}
}

// Every primitive equals its float64 form, at every length, and does not write
// beyond its slice.
func TestElementwise(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, level := range Levels() {
		for _, n := range lengths() {
			x, y, w := normal(random, n+1), normal(random, n+1), normal(random, n+1)
			guard := y[n]
			name := func(what string) string { return fmt.Sprintf("%v: %s of %d", level, what, n) }
			var dot, size, squares float64
			for i := range n {
				dot += float64(x[i]) * float64(y[i])
				size += math.Abs(float64(x[i]) * float64(y[i]))
				squares += float64(x[i]) * float64(x[i])
			}
			closeTo(t, name("Dot"), level.Dot(x[:n], y), dot, size, 2e-7*math.Sqrt(float64(n+1)))
			closeTo(t, name("SumSquares"), level.SumSquares(x[:n]), squares, squares, 1e-6)
			for what, f := range map[string]struct {
				run  func(y []float32)
				want func(i int) float64
			}{
				"Axpy":  {func(y []float32) { level.Axpy(y, 1.7, x) }, func(i int) float64 { return float64(y[i]) + float64(float32(1.7))*float64(x[i]) }},
				"Add":   {func(y []float32) { level.Add(y, x) }, func(i int) float64 { return float64(y[i]) + float64(x[i]) }},
				"Scale": {func(y []float32) { level.Scale(y, -.3) }, func(i int) float64 { return float64(y[i]) * float64(float32(-.3)) }},
				"Mul":   {func(y []float32) { level.Mul(y, x) }, func(i int) float64 { return float64(y[i]) * float64(x[i]) }},
				"SiLU":  {func(y []float32) { level.SiLU(y, y) }, func(i int) float64 { return float64(y[i]) / (1 + math.Exp(-float64(y[i]))) }},
				"SiLUMul": {func(y []float32) { level.SiLUMul(y, x, y) }, func(i int) float64 {
					return float64(x[i]) / (1 + math.Exp(-float64(x[i]))) * float64(y[i])
				}},
				"Gate": {func(y []float32) { level.Gate(y, y, x) }, func(i int) float64 { return float64(y[i]) / (1 + math.Exp(-float64(x[i]))) }},
				"Norm": {func(y []float32) { level.Norm(y, x[:n], w, .5, 1) }, func(i int) float64 {
					return float64(x[i]) / math.Sqrt(squares/float64(n)+.5) * (1 + float64(w[i]))
				}},
			} {
				got := slices.Clone(y)
				f.run(got[:n])
				for i := range n {
					closeTo(t, name(what), got[i], f.want(i), 1+math.Abs(float64(y[i]))+math.Abs(f.want(i)), 5e-7)
				}
				if got[n] != guard {
					t.Fatalf("%s wrote beyond its slice", name(what))
				}
			}
		}
	}
}

// e^x is within 2 units in the last place where it is normal, and has the same
// bits at any place of a slice.
func TestExp(t *testing.T) {
	for _, level := range Levels() {
		var x []float32
		for v := float32(-110); v < 89; v += .00731 {
			x = append(x, v)
		}
		got := make([]float32, len(x))
		level.Exp(got, x, 1, 0)
		worst := 0.0
		for i, v := range x {
			want := math.Exp(float64(v))
			unit := math.Ldexp(1, max(math.Ilogb(want)-23, -149))
			if want <= math.MaxFloat32 {
				worst = max(worst, math.Abs(float64(got[i])-want)/unit)
			}
		}
		t.Logf("%v: %.3f ulp", level, worst)
		if !(worst <= 2) {
			t.Errorf("%v: e^x is %.2f units off", level, worst)
		}
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		edge := []float32{0, -104, -1000, -inf, 88.7, 89, 1000, inf, nan, -87.5}
		for i, v := range edge {
			for _, n := range []int{1, 8, 15, 16, 33} {
				same := make([]float32, n)
				for j := range same {
					same[j] = v
				}
				sum := level.Exp(same, same, 1, 0)
				want := float32(math.Exp(float64(v)))
				for _, e := range same {
					if math.Float32bits(e) != math.Float32bits(same[0]) {
						t.Fatalf("%v: e^%v has two values", level, v)
					}
				}
				if e := same[0]; e != want && !(e != e && want != want) && (i < 9 && i != 4 || math.Abs(float64(e/want-1)) > 1e-6) {
					t.Errorf("%v: e^%v = %v, want %v", level, v, e, want)
				}
				if v == 0 && sum != float32(n) {
					t.Errorf("%v: sum of %d ones = %v", level, n, sum)
				}
			}
		}
		x = []float32{1, 2, 3}
		if level.Exp(x, x, -2, 3); math.Abs(float64(x[0])/math.Exp(4)-1) > 1e-6 || x[2] != 1 {
			t.Errorf("%v: scaled and shifted: %v", level, x)
		}
	}
}

func TestArgTop(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, level := range Levels() {
		for range 300 {
			x := make([]float32, 1+random.IntN(600))
			for i := range x {
				x[i] = float32(random.IntN(1 + random.IntN(400))) // many ties
			}
			order := make([]int32, len(x))
			for i := range order {
				order[i] = int32(i)
			}
			slices.SortStableFunc(order, func(a, b int32) int { return int(x[b] - x[a]) })
			k := min(len(x), random.IntN(20))
			ids, top := make([]int32, k), make([]float32, k)
			level.ArgTop(ids, top, x)
			if !slices.Equal(ids, order[:k]) {
				t.Fatalf("%v: the %d largest of %v = %v, want %v", level, k, x, ids, order[:k])
			}
			for i, id := range ids {
				if top[i] != x[id] {
					t.Fatalf("%v: value of %d = %v, want %v", level, id, top[i], x[id])
				}
			}
		}
	}
}

// Products equal float64 ones; a row's bits are those of the row alone, and of
// GemmT's elements those of the element alone.
func TestGemm(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, level := range Levels() {
		for range 200 {
			m, n, k := 1+random.IntN(20), 1+random.IntN(150), 1+random.IntN(80)
			lda, ldb, ldc, ldt := k+random.IntN(4), n+random.IntN(4), n+random.IntN(4), k+random.IntN(4)
			a, b, bt, c := normal(random, m*lda), normal(random, k*ldb), normal(random, n*ldt), normal(random, m*ldc)
			got, gotT, gotAT := slices.Clone(c), slices.Clone(c), slices.Clone(c)
			level.Gemm(got, ldc, a, lda, b, ldb, m, n, k)
			at := make([]float32, k*(m+1))
			for i := range m {
				for p := range k {
					at[p*(m+1)+i] = a[i*lda+p]
				}
			}
			if level.GemmAT(gotAT, ldc, at, m+1, b, ldb, m, n, k); !slices.Equal(got, gotAT) {
				t.Fatalf("%v: GemmAT differs from Gemm", level)
			}
			level.GemmT(gotT, ldc, a, lda, bt, ldt, m, n, k)
			alone := make([]float32, n)
			for i := range m {
				copy(alone, c[i*ldc:][:n])
				level.Gemm(alone, n, a[i*lda:], lda, b, ldb, 1, n, k)
				for j := range ldc {
					if i*ldc+j >= len(c) {
						break
					}
					if j >= n {
						if got[i*ldc+j] != c[i*ldc+j] || gotT[i*ldc+j] != c[i*ldc+j] {
							t.Fatalf("%v: product wrote between rows", level)
						}
						continue
					}
					want, wantT := float64(c[i*ldc+j]), 0.0
					for p := range k {
						want += float64(a[i*lda+p]) * float64(b[p*ldb+j])
						wantT += float64(a[i*lda+p]) * float64(bt[j*ldt+p])
					}
					closeTo(t, fmt.Sprintf("%v: Gemm %dx%dx%d", level, m, n, k), got[i*ldc+j], want, 10, 2e-6)
					closeTo(t, fmt.Sprintf("%v: GemmT %dx%dx%d", level, m, n, k), gotT[i*ldc+j], wantT, 10, 2e-6)
					one := []float32{0}
					level.GemmT(one, 1, a[i*lda:], lda, bt[j*ldt:], ldt, 1, 1, k)
					if got[i*ldc+j] != alone[j] || gotT[i*ldc+j] != one[0] {
						t.Fatalf("%v: bits of element %d, %d depend on the others", level, i, j)
					}
				}
			}
		}
	}
}

// The step equals its float64 form for any width, and columns on their own have
// the bits of the whole.
func TestDeltaStep(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, level := range Levels() {
		for _, columns := range []int{1, 4, 8, 15, 32, 64, 100, 128, 129, 256} {
			rows, stride := 1+random.IntN(40), columns+random.IntN(3)
			q, k, v, s := normal(random, rows), normal(random, rows), normal(random, columns), normal(random, rows*stride)
			out, change, state := make([]float32, columns), make([]float32, columns), slices.Clone(s)
			const beta, decay = .6, .8
			level.DeltaStep(out, state, stride, q, k, v, change, beta, decay)
			for j := range columns {
				var project, o float64
				for i := range rows {
					project += float64(s[i*stride+j]) * float64(k[i])
				}
				d := float64(float32(beta)) * (float64(v[j]) - float64(float32(decay))*project)
				for i := range rows {
					want := float64(float32(decay))*float64(s[i*stride+j]) + float64(k[i])*d
					closeTo(t, fmt.Sprintf("%v: state of %d columns", level, columns), state[i*stride+j], want, 20, 1e-6)
					o += float64(q[i]) * want
				}
				closeTo(t, fmt.Sprintf("%v: output of %d columns", level, columns), out[j], o, 100, 1e-6)
			}
			for c0 := 0; c0 < columns; c0 += 32 {
				c1 := min(c0+32, columns)
				part := slices.Clone(s)
				o := make([]float32, c1-c0)
				level.DeltaStep(o, part[c0:], stride, q, k, v[c0:c1], change, beta, decay)
				if !slices.Equal(o, out[c0:c1]) {
					t.Fatalf("%v: columns %d to %d alone give %v, want %v", level, c0, c1, o, out[c0:c1])
				}
			}
		}
	}
}

func TestConvolve(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for _, level := range Levels() {
		for n := 1; n < 70; n++ {
			kernel := []int{4, 4, 1, 2, 5}[n%5]
			stride, past := n+random.IntN(3), kernel-1
			window, x, taps, y := normal(random, past*n), normal(random, n), normal(random, kernel*stride), make([]float32, n)
			moved := slices.Clone(window)
			level.Convolve(y, moved, x, taps, kernel, stride)
			for c := range n {
				inputs := append(slices.Clone(window[past*c:][:past]), x[c])
				want := 0.0
				for i, v := range inputs {
					want += float64(v) * float64(taps[i*stride+c])
				}
				closeTo(t, fmt.Sprintf("%v: channel %d of %d", level, c, n), y[c], want, 10, 1e-6)
				if !slices.Equal(moved[past*c:][:past], inputs[1:]) {
					t.Fatalf("%v: window of channel %d of %d is %v, want %v", level, c, n, moved[past*c:][:past], inputs[1:])
				}
			}
		}
	}
}

func TestVectorsAllocateNothing(t *testing.T) {
	x, y := make([]float32, 45), make([]float32, 45)
	ids := make([]int32, 4)
	for _, level := range Levels() {
		if n := testing.AllocsPerRun(10, func() {
			level.Exp(x, y, 1, 0)
			level.SiLUMul(x, x, y)
			level.Norm(x, x, y, 1, 1)
			level.ArgTop(ids, y, x)
			level.Gemm(x, 5, y, 5, y, 5, 5, 5, 5)
			level.GemmT(x, 5, y, 5, y, 5, 5, 5, 5)
		}); n != 0 {
			t.Errorf("%v: %v allocations", level, n)
		}
	}
}
