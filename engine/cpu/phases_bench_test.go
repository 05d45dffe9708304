package cpu

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// The mixers of the real model: 36 delta nets and 12 attention layers of these
// shapes.
var (
	realDelta     = ops.DeltaNetShape{KeyHeads: 16, ValueHeads: 32, KeyDim: 128, ValueDim: 128, Kernel: 4}
	realAttention = ops.AttentionShape{Heads: 16, KVHeads: 2, HeadDim: 256}
)

// rate reports so much work an operation as billions a second.
func rate(b *testing.B, what string, each int) {
	b.ReportMetric(float64(each)*float64(b.N)/b.Elapsed().Seconds()/1e9, what)
}

// BenchmarkMemory is what the other figures are held against: the rate of
// reading, and of reading and writing in place, far beyond the caches.
func BenchmarkMemory(b *testing.B) {
	x := make([]float32, 32<<20)
	for i := range x {
		x[i] = 1
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			simd.Best().Max(x)
		}
		rate(b, "GB/s", 4*len(x))
	})
	b.Run("read and write", func(b *testing.B) {
		for b.Loop() {
			simd.Best().Scale(x, 1)
		}
		rate(b, "GB/s", 2*4*len(x))
	})
}

// BenchmarkDeltaStep decodes so many streams, whose states exceed the caches;
// GB/s are of state, read and written.
func BenchmarkDeltaStep(b *testing.B) {
	const streams = 24 // 2 MB each
	for _, level := range simd.Levels() {
		for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("%v/%d threads", level, threads), func(b *testing.B) {
				p, args, inputs := recordDelta(b, level, threads, realDelta, streams)
				_, arena := newTest(b, 1)
				perSlot := realDelta.ValueHeads * realDelta.KeyDim * realDelta.ValueDim
				args.State = buffer(b, arena, make([]float32, streams*perSlot)...)
				args.Window = buffer(b, arena, make([]float32, streams*realDelta.Channels()*(realDelta.Kernel-1))...)
				copy(floats(args.In), inputs)
				step := &ops.Step{IDs: make([]int32, streams)}
				for i := range streams {
					step.Segments = append(step.Segments, ops.Segment{Kind: ops.Decode, Slot: i, Start: 1, Len: 1, Pages: make([]int32, 1)})
				}
				p, err := p.(*program).b.Record(streams, func(set ops.Set) error { set.DeltaNet(args); return nil })
				if err != nil {
					b.Fatal(err)
				}
				do := replay(b, p, step)
				for b.Loop() {
					do()
				}
				rate(b, "GB/s", 2*4*streams*perSlot)
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*streams), "us/token")
			})
		}
	}
}

// BenchmarkDeltaChunk prefills; GFLOP/s count the products of the chunk form as
// the formulas have them, the triangles of pairs as halves.
func BenchmarkDeltaChunk(b *testing.B) {
	const rows = 256
	const c, d = ops.ChunkTokens, 128
	for _, level := range simd.Levels() {
		for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("%v/%d threads", level, threads), func(b *testing.B) {
				p, args, inputs := recordDelta(b, level, threads, realDelta, rows)
				copy(floats(args.In), inputs)
				do := replay(b, p, &ops.Step{IDs: make([]int32, rows), Segments: []ops.Segment{{Kind: ops.Prefill, Start: 0, Len: rows, Pages: make([]int32, 4)}}})
				for b.Loop() {
					do()
				}
				rate(b, "GFLOP/s", 2*(3*c*d*d+4*c*c*d/2)*realDelta.ValueHeads*rows/c)
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "us/token")
			})
		}
	}
}

// BenchmarkAttentionDecode reads keys and values of one row's whole context.
func BenchmarkAttentionDecode(b *testing.B) {
	for _, context := range []int{4096, 32768} {
		for _, level := range simd.Levels() {
			for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
				b.Run(fmt.Sprintf("%d/%v/%d threads", context, level, threads), func(b *testing.B) {
					a := attentionOf(b, level, threads, 1, context)
					do := replay(b, a, &ops.Step{IDs: make([]int32, 1), Segments: []ops.Segment{{Kind: ops.Decode, Start: context - 1, Len: 1, Pages: pagesOf(context)}}})
					for b.Loop() {
						do()
					}
					rate(b, "GB/s", 2*4*context*realAttention.KVHeads*realAttention.HeadDim)
				})
			}
		}
	}
}

// BenchmarkAttentionPrefill runs the last 256 rows of a prompt.
func BenchmarkAttentionPrefill(b *testing.B) {
	const rows = 256
	for _, context := range []int{1024, 4096} {
		for _, level := range simd.Levels()[min(1, len(simd.Levels())-1):] {
			for _, threads := range []int{1, runtime.GOMAXPROCS(0)} {
				b.Run(fmt.Sprintf("%d/%v/%d threads", context, level, threads), func(b *testing.B) {
					a := attentionOf(b, level, threads, rows, context)
					do := replay(b, a, &ops.Step{IDs: make([]int32, rows), Segments: []ops.Segment{{Kind: ops.Prefill, Start: context - rows, Len: rows, Pages: pagesOf(context)}}})
					for b.Loop() {
						do()
					}
					seen := rows*(context-rows) + rows*rows/2
					rate(b, "GFLOP/s", 4*seen*realAttention.Heads*realAttention.HeadDim)
					b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "us/token")
				})
			}
		}
	}
}

func pagesOf(context int) (pages []int32) {
	for i := range (context + ops.PageTokens - 1) / ops.PageTokens {
		pages = append(pages, int32(i))
	}
	return pages
}

// attentionOf records a layer of the real shape over a cache of small values.
func attentionOf(b *testing.B, level simd.Level, threads, rows, context int) ops.Program {
	backend, arena := newTest(b, threads)
	backend.level = level
	s := realAttention
	s.Rope = ops.Rope{InvFreq: make([]float32, 32), Scale: 1}
	pool := make([]float32, context*s.KVHeads*s.HeadDim)
	for i := range pool {
		pool[i] = float32(i%17-8) / 8
	}
	width := 2*s.Heads*s.HeadDim + 2*s.KVHeads*s.HeadDim
	input := make([]float32, rows*width)
	for i := range input {
		input[i] = float32(i%13-6) / 6
	}
	args := ops.AttentionArgs{Shape: s, Eps: 1e-6,
		In: buffer(b, arena, input...), Out: buffer(b, arena, make([]float32, rows*s.Heads*s.HeadDim)...),
		QNorm: vector(backend, make([]float32, s.HeadDim)...), KNorm: vector(backend, make([]float32, s.HeadDim)...)}
	var err error
	caches, err := backend.NewArena("cache", int64(len(pool))*8+128)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { caches.Close() })
	args.Keys, args.Values = buffer(b, caches, pool...), buffer(b, caches, pool...)
	p, err := backend.Record(rows, func(set ops.Set) error { set.Attention(args); return nil })
	if err != nil {
		b.Fatal(err)
	}
	return p
}
