package simd

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// far is how many bytes of weights a benchmark goes round: many times the caches.
const far = 1 << 30

// fill spreads words that are cheap to make over data.
func fill(data []byte) {
	random := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < len(data); i++ {
		if i < 1<<16 {
			data[i] = byte(random.Uint32())
		} else {
			i += copy(data[i:], data[:1<<16]) - 1
		}
	}
}

// weights are memory that all benchmarks cut matrices from.
var weights = sync.OnceValue(func() []byte {
	data := make([]byte, far)
	fill(data)
	return data
})

// parallel runs n pieces of work on GOMAXPROCS workers and returns the time.
func parallel(n int, worker func() func(i int)) time.Duration {
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			do := worker()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// roofline is what all workers read together, in bytes a second.
func roofline(level Level) float64 {
	data, piece := weights(), 1<<20
	best := time.Hour
	for range 3 {
		best = min(best, parallel(far/piece, func() func(int) {
			return func(i int) { level.Read(data[i*piece:][:piece]) }
		}))
	}
	return far / best.Seconds()
}

func BenchmarkRead(b *testing.B) {
	for _, level := range Levels() {
		b.Run(level.String(), func(b *testing.B) {
			for range b.N {
				b.ReportMetric(roofline(level)/1e9, "GB/s")
			}
		})
	}
}

// report gives the weights read in a second, beside the roofline, and the
// products of one worker in a second.
func report(b *testing.B, bytes, macs int, took time.Duration, roof float64) {
	rate := float64(bytes) * float64(b.N) / took.Seconds()
	b.SetBytes(int64(bytes))
	b.ReportMetric(rate/1e9, "GB/s")
	b.ReportMetric(100*rate/roof, "%roof")
	b.ReportMetric(float64(macs)*float64(b.N)/took.Seconds()/1e9, "GMAC/s")
}

// BenchmarkMul multiplies by one matrix after another, each by one worker, over
// weights that fill no cache.
func BenchmarkMul(b *testing.B) {
	for _, size := range []struct{ k, n int }{{2048, 512}, {512, 2048}, {2048, 12288}} {
		for _, bits := range []int{2, 3, 4, 8} {
			words := size.k * size.n * bits / 8
			scales := size.k / 128 * size.n * 2
			for _, level := range Levels() {
				for _, count := range []int{1, 2, 8, 64} {
					if level == Portable && count > 1 {
						continue
					}
					for _, mode := range []string{"exact", "fast"} {
						b.Run(fmt.Sprintf("%dx%d/w%d/%v/%s/rows=%d", size.k, size.n, bits, level, mode, count), func(b *testing.B) {
							data, roof := weights(), roofline(level)
							matrices := far / (words + scales)
							x := Rows{Data: normal(rand.New(rand.NewPCG(1, 2)), count*size.k), Stride: size.k, Count: count}
							c, rows := NewCodes(count, size.k), make([]int32, count)
							for i := range count {
								level.Quantise(c, i, x.row(i, 0, size.k), bits)
								rows[i] = int32(i)
							}
							b.ResetTimer()
							took := parallel(b.N, func() func(int) {
								scratch, out := NewScratch(), Rows{Data: make([]float32, count*size.n), Stride: size.n, Count: count}
								return func(i int) {
									at := data[i%matrices*(words+scales):]
									w := &Packed{K: size.k, N: size.n, Bits: bits, Group: 128, Words: at[:words], Scales: at[words:][:scales]}
									if mode == "exact" {
										level.MulExact(out, x, w, 0, size.n, scratch)
									} else {
										level.MulFast(out, c, rows, w, 0, size.n, scratch)
									}
								}
							})
							report(b, words+scales, size.k*size.n*count, took, roof)
						})
					}
				}
			}
		}
	}
}

// BenchmarkMulDense is the head of a vocabulary, in parts.
func BenchmarkMulDense(b *testing.B) {
	const k, n = 2048, 512
	for _, kind := range []DenseType{F32, F16, BF16} {
		for _, level := range Levels() {
			for _, count := range []int{1, 8} {
				b.Run(fmt.Sprintf("%s/%v/rows=%d", [...]string{"f32", "f16", "bf16"}[kind], level, count), func(b *testing.B) {
					data, roof, bytes := weights(), roofline(level), k*n*kind.size()
					x := Rows{Data: normal(rand.New(rand.NewPCG(1, 2)), count*k), Stride: k, Count: count}
					b.ResetTimer()
					took := parallel(b.N, func() func(int) {
						scratch, out := NewScratch(), Rows{Data: make([]float32, count*n), Stride: n, Count: count}
						return func(i int) {
							level.MulDense(out, x, &Dense{K: k, N: n, Type: kind, Data: data[i%(far/bytes)*bytes:][:bytes]}, 0, n, scratch)
						}
					})
					report(b, bytes, k*n*count, took, roof)
				})
			}
		}
	}
}
