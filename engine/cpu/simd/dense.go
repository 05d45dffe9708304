package simd

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Outputs of a dense kernel: one row by four outputs when the weights come from
// memory, four rows by two when they stay in the first-level cache.
const (
	denseOne  = 4
	denseMany = 2
)

// MulDense writes out[i, n] = x[i, K] . W[n, K] for outputs n0 to n1, any two. A
// product is one sum for each lane of a vector (8 with AVX2, 16 with AVX512, 4
// in portable Go), k ascending, then the lanes in a fixed order, then the last
// values that fill no vector. A row's bits depend on the level and on nothing
// else in the call.
func (l Level) MulDense(out, x Rows, w *Dense, n0, n1 int, s *Scratch) {
	must(w.Check())
	mustSpan(n0, n1, w.N, 1)
	if out.Count != x.Count {
		panic(fmt.Sprintf("simd: %d rows of products for %d rows", out.Count, x.Count))
	}
	k := &kernelsOf[l]
	whole := w.K / k.lanes * k.lanes
	sums := s.sums[:]
	size := w.Type.size()
	weight := func(n int) []byte { return w.Data[min(n, n1-1)*w.K*size:][:w.K*size] }
	put := func(i, n int, sum float32) {
		if i >= x.Count || n >= n1 {
			return // a row or output that stood in for one past the end
		}
		if whole < w.K {
			sum += tail(x.row(i, whole, w.K), weight(n)[whole*size:], w.Type)
		}
		out.row(i, n, n+1)[0] = sum
	}
	if x.Count == 1 {
		row := x.row(0, 0, whole)
		for n := n0; n < n1; n += denseOne {
			k.dense1[w.Type](sums, row, weight(n), weight(n+1), weight(n+2), weight(n+3))
			for j := range denseOne {
				put(0, n+j, sums[j])
			}
		}
		return
	}
	at := func(i int) []float32 { return x.row(min(i, x.Count-1), 0, whole) }
	for n := n0; n < n1; n += denseMany {
		for i := 0; i < x.Count; i += 4 {
			k.dense4[w.Type](sums, at(i), at(i+1), at(i+2), at(i+3), weight(n), weight(n+1))
			for j := range 4 * denseMany {
				put(i+j/denseMany, n+j%denseMany, sums[j])
			}
		}
	}
}

// tail is the dot of the values that fill no vector.
func tail(x []float32, w []byte, t DenseType) (sum float32) {
	for i, v := range x {
		sum += float32(v * element(w, i, t))
	}
	return sum
}

// element widens element i.
func element(w []byte, i int, t DenseType) float32 {
	switch t {
	case F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(w[4*i:]))
	case F16:
		return half(binary.LittleEndian.Uint16(w[2*i:]))
	default:
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(w[2*i:])) << 16)
	}
}

// half widens an IEEE half: the bits moved up, and the exponent set right by a
// product that is exact, subnormals included. Infinities and NaNs keep theirs.
func half(h uint16) float32 {
	bits := uint32(h&0x7fff) << 13
	v := math.Float32frombits(bits) * (1 << 112)
	if h&0x7c00 == 0x7c00 {
		v = math.Float32frombits(bits | 0x7f800000)
	}
	return math.Float32frombits(math.Float32bits(v) | uint32(h&0x8000)<<16)
}
