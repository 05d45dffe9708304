package drivertest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// tiles is a matrix in slabs, as products of the prefill class read it.
type tiles struct {
	data                   []byte
	count, bits, stride, k int
}

func tilesAt(m Memory, at uint64, count, bits, stride, k uint32) (tiles, error) {
	s := tiles{count: int(count), bits: int(bits), stride: int(stride), k: int(k)}
	if s.k%64 != 0 || s.bits < 16 && s.k%128 != 0 {
		return s, fmt.Errorf("slabs of %d bits with %d inputs", s.bits, s.k)
	}
	var err error
	s.data, err = Slice[byte](m, at, s.count*s.stride)
	return s, err
}

// row writes the weights of row g of a slab: codes times their scale, in fp16.
func (s tiles) row(dst []float32, slab, g int) {
	data := s.data[slab*s.stride:][:s.stride]
	for k := range dst[:s.k] {
		if s.bits == 16 {
			dst[k] = ops.Half(binary.LittleEndian.Uint16(data[HalfAt(g, k):]))
			continue
		}
		at, shift := CodeAt(s.bits, g, k)
		code := int(data[at]) >> shift & (1<<s.bits - 1)
		scale := ops.Half(binary.LittleEndian.Uint16(data[16*s.k*s.bits/8+(k/128*16+g)*2:]))
		dst[k] = ops.Half(Half(scale * float32(code-1<<(s.bits-1))))
	}
}

// times gives the product of every row of every slab with each of some half
// activations, in their order of k.
func (s tiles) times(x [][]float32, put func(token, slab, g int, sum float32)) {
	w := make([]float32, s.k)
	for i := range s.count * 16 {
		s.row(w, i/16, i%16)
		for token, x := range x {
			put(token, i/16, i%16, dot(w, x)/kernels.HalfScale)
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

// halfRow is n half activations at an address, still scaled.
func halfRow(m Memory, at uint64, n int) ([]float32, error) {
	stored, err := Slice[uint16](m, at, n)
	values := make([]float32, len(stored))
	for i, h := range stored {
		values[i] = ops.Half(h)
	}
	return values, err
}

func linearPrefill(m Memory, a kernels.LinearArgs) error {
	var x [][]float32
	var to []int
	for row := range int(a.Rows) {
		from := kernels.Wanted{Row: int32(row), To: int32(row)}
		if a.Wanted != 0 {
			wanted, err := Slice[kernels.Wanted](m, a.Wanted, int(a.Rows))
			if err != nil {
				return err
			}
			from = wanted[row]
		}
		if from.To < 0 {
			continue
		}
		var both []float32
		for _, plane := range []uint64{a.X, a.Low} {
			if plane == 0 {
				continue
			}
			values, err := halfRow(m, plane+uint64(from.Row)*uint64(a.K)*2, int(a.K))
			if err != nil {
				return err
			}
			both = append(both, values...)
		}
		x, to = append(x, both), append(to, int(from.To))
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
		s, err := tilesAt(m, part.at, part.count, part.bits, part.bytes, a.K)
		errs = append(errs, err)
		out := make([][]float32, len(to))
		for i, row := range to {
			out[i], err = Slice[float32](m, a.Out+4*(uint64(row)*uint64(a.Stride)+uint64(part.column)), int(part.n))
			errs = append(errs, err)
		}
		if errors.Join(errs...) != nil {
			break
		}
		s.times(x, func(token, slab, g int, sum float32) {
			n := slab*16 + g
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
