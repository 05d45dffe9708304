package drivertest

import (
	"errors"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// rounded writes the weights of output n as products of the prefill class have
// them: codes times their scale, in fp16.
func (s slabs) rounded(dst []float32, n int) {
	for k := range dst {
		dst[k] = ops.Half(RoundHalf(s.scale(n, k) * s.value(n, k)))
	}
}

// times gives the product of every output with each of some activations, in their
// order of k.
func (s slabs) times(x [][]float32, put func(token, n int, sum float32)) {
	w := make([]float32, s.k)
	for n := range len(s.data) / s.stride * slabOutputs {
		s.rounded(w, n)
		for token, x := range x {
			put(token, n, dot(w, x))
		}
	}
}

// dot is the sum of products in order; x may go through w's inputs more than once.
func dot(w, x []float32) float32 {
	sum := float32(0)
	for ; len(x) > 0; x = x[len(w):] {
		for i, v := range w {
			sum += v * x[i]
		}
	}
	return sum
}

func linearPrefill(m Memory, a kernels.LinearArgs) error {
	rows, err := places(m, a.Wanted, int(a.Rows))
	if err != nil {
		return err
	}
	var x [][]float32
	var to []int
	for _, row := range rows {
		if row.To < 0 {
			continue
		}
		var both []float32 // planes
		for _, plane := range []uint64{a.X, a.Low} {
			if plane == 0 {
				continue
			}
			values, err := activations[float32](m, plane+2*uint64(row.Row)*uint64(a.K), int(a.K))
			if err != nil {
				return err
			}
			both = append(both, values...)
		}
		x, to = append(x, both), append(to, int(row.To))
	}
	var errs []error
	for _, part := range []struct {
		at                            uint64
		count, bits, bytes, n, column uint32
	}{
		{a.Slabs0, a.Count0, a.Bits0, a.Bytes0, a.N0, a.Column0},
		{a.Slabs1, a.Count1, a.Bits1, a.Bytes1, a.N1, a.Column1},
		{a.Slabs2, a.Count2, a.Bits2, a.Bytes2, a.N2, a.Column2},
	} {
		if part.count == 0 {
			continue
		}
		s, err := viewSlabs(m, part.at, int(part.count), int(part.bytes), int(a.K), int(part.bits))
		errs = append(errs, err)
		out := make([][]float32, len(to))
		for i, row := range to {
			out[i], err = Slice[float32](m, a.Out+4*(uint64(row)*uint64(a.Stride)+uint64(part.column)), int(part.n))
			errs = append(errs, err)
		}
		if errors.Join(errs...) != nil {
			break
		}
		s.times(x, func(token, n int, sum float32) {
			switch {
			case n >= int(part.n):
			case a.Add != 0:
				out[token][n] += sum
			default:
				out[token][n] = sum
			}
		})
	}
	return errors.Join(errs...)
}
