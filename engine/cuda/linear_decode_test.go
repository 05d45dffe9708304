package cuda

import (
	"errors"
	"fmt"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// How many bytes of weights a second arrive, by launches in a graph as decode has
// them. Weights lie there often enough that no cache holds them.
func BenchmarkDecodeLinear(b *testing.B) {
	if !silicon() {
		b.Skip("on a device only")
	}
	const launches, uncached = 64, 512 << 20
	for _, c := range []struct {
		k, n, bits int
		normed     bool
	}{
		{2048, 12352, 4, true}, {2048, 12352, 8, true}, {2048, 12352, 4, false}, {2048, 12352, 8, false},
		{4096, 2048, 4, false}, {4096, 2048, 8, false}, {2048, 512, 16, true}, {2048, 151936, 16, false},
	} {
		stride := slabBytes(c.k, c.bits)
		count := (c.n + slabRows - 1) / slabRows
		size := count * stride
		copies := max(1, uncached/size)
		s := newStand(b, int64(copies*size+decodeRows*(c.k*6+c.n*4))+1<<20)
		slabs, err := s.arena.Alloc("slabs", ops.U8, int64(copies*size))
		s.check(err)
		x, residual, norm := put(s, make([]uint16, decodeRows*c.k)), put(s, make([]float32, decodeRows*c.k)), put(s, make([]float32, c.k))
		out := put(s, make([]float32, decodeRows*c.n))
		l := s.r.decodeLinear()
		for _, rows := range []int{1, 2, 8, 16, 32, 64} {
			if c.normed && rows > decodeTiles[0] {
				continue
			}
			b.Run(fmt.Sprintf("%dx%d, %d bits, normed %v, %d rows", c.n, c.k, c.bits, c.normed, rows), func(b *testing.B) {
				args := kernels.LinearArgs{X: uint64(x), Out: uint64(out), Count0: uint32(count), Bits0: uint32(c.bits), Bytes0: uint32(stride),
					N0: uint32(c.n), K: uint32(c.k), Rows: uint32(rows), Stride: uint32(c.n)}
				if c.normed {
					args.Residual, args.Norm = uint64(residual), uint64(norm)
				}
				s.launch(pass{}, func(p *pass) error {
					d := s.device.driver
					if err := d.BeginCapture(p.stream); err != nil {
						return err
					}
					var failed error
					for i := range launches {
						args.Slabs0 = uint64(at(slabs)) + uint64(i%copies*size)
						failed = errors.Join(failed, l.launch(p, args))
					}
					graph, err := d.EndCapture(p.stream)
					if err := errors.Join(failed, err); err != nil {
						return err
					}
					b.ResetTimer()
					for range b.N {
						if err := d.Replay(graph, p.stream); err != nil {
							return err
						}
					}
					err = d.Synchronise(p.stream)
					b.StopTimer()
					return errors.Join(err, d.DestroyGraph(graph))
				})
				seconds := b.Elapsed().Seconds() / float64(b.N*launches)
				b.ReportMetric(float64(size)/seconds/1e12, "TB/s")
				b.ReportMetric(seconds*1e6, "us/launch")
			})
		}
	}
}
