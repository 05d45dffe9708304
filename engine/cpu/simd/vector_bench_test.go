package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// perSecond reports a rate beside ns/op.
func perSecond(b *testing.B, what string, each float64) {
	b.ReportMetric(each*float64(b.N)/b.Elapsed().Seconds()/1e9, what)
}

func BenchmarkGemm(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	const m, n, k = 64, 64, 128
	x, y, c := normal(random, m*k), normal(random, n*k), make([]float32, m*n)
	for _, level := range Levels() {
		b.Run("Gemm/"+level.String(), func(b *testing.B) {
			for b.Loop() {
				level.Gemm(c, n, x, k, y, n, m, n, k)
			}
			perSecond(b, "GFLOP/s", 2*m*n*k)
		})
		b.Run("GemmT/"+level.String(), func(b *testing.B) {
			for b.Loop() {
				level.GemmT(c, n, x, k, y, k, m, n, k)
			}
			perSecond(b, "GFLOP/s", 2*m*n*k)
		})
	}
}

func BenchmarkVectors(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	x, y, w := normal(random, 2048), normal(random, 2048), normal(random, 2048)
	taps, window := normal(random, 4*2048), normal(random, 3*2048)
	ids, top := make([]int32, 10), make([]float32, 10)
	for _, level := range Levels() {
		for name, f := range map[string]func(){
			"Exp":        func() { level.Exp(x, y, 1, 0) },
			"SiLUMul":    func() { level.SiLUMul(x, y, w) },
			"Norm":       func() { level.Norm(x, y, w, 1e-6, 1) },
			"Dot":        func() { level.Dot(x, y) },
			"Axpy":       func() { level.Axpy(x, 1e-9, y) },
			"Convolve":   func() { level.Convolve(x, window, y, taps, 4, 2048) },
			"ArgTop 512": func() { level.ArgTop(ids, top, y[:512]) },
		} {
			b.Run(name+"/"+level.String(), func(b *testing.B) {
				for b.Loop() {
					f()
				}
			})
		}
	}
}

// BenchmarkDeltaStep walks over states of 64 KB, in the second-level cache and
// beyond the caches.
func BenchmarkDeltaStep(b *testing.B) {
	const heads, d = 1024, 128
	state := make([]float32, heads*d*d)
	q, k, v, out, change := make([]float32, d), make([]float32, d), make([]float32, d), make([]float32, d), make([]float32, d)
	for _, level := range Levels() {
		for _, resident := range []int{4, heads} {
			b.Run(fmt.Sprintf("%v/%d KB", level, 64*resident), func(b *testing.B) {
				for b.Loop() {
					for head := range resident {
						level.DeltaStep(out, state[head*d*d:], d, q, k, v, change, .5, .5)
					}
				}
				perSecond(b, "GB/s", float64(2*4*resident*d*d))
			})
		}
	}
}
