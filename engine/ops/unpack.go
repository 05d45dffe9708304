package ops

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Half widens an IEEE half, subnormals and signs included.
func Half(h uint16) float32 { return halves[h] }

var halves = func() (table [1 << 16]float32) {
	for h := range table {
		sign, exponent, fraction := 1.0, h>>10&31, float64(h&1023)
		if h&0x8000 != 0 {
			sign = -1
		}
		switch exponent {
		case 0:
			table[h] = float32(math.Copysign(math.Ldexp(fraction, -24), sign))
		case 31:
			table[h] = float32(math.Inf(int(sign)))
			if fraction != 0 {
				table[h] = float32(math.NaN())
			}
		default:
			table[h] = float32(sign * math.Ldexp(1024+fraction, exponent-25))
		}
	}
	return table
}()

// BFloat16 widens a bfloat16.
func BFloat16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// widen converts len(dst) stored elements.
func widen(dst []float32, src []byte, t Type) {
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = Half(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BF16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(src[2*i])<<16 | uint32(src[2*i+1])<<24)
		}
	default:
		panic("ops: " + t.String() + " is not a float type")
	}
}

// Values writes the vector's N values as fp32.
func (v *Vector) Values(dst []float32) { widen(dst[:v.N], v.Source.Data, v.Type) }

// Row writes output n of a dense matrix, its K weights, as fp32.
func (m *Matrix) Row(dst []float32, n int) {
	size := int64(m.K) * m.Type.Size()
	widen(dst[:m.K], m.Weight.Data[int64(n)*size:], m.Type)
}

// words views 32-bit words of a mapped extent; the header's alignment rule puts
// them on 8-byte borders, and a copy is made where a file breaks it.
func words(data []byte) []uint32 {
	if len(data) == 0 {
		return nil
	}
	if uintptr(unsafe.Pointer(&data[0]))%4 == 0 {
		return unsafe.Slice((*uint32)(unsafe.Pointer(&data[0])), len(data)/4)
	}
	out := make([]uint32, len(data)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return out
}

// awqOrder[i] is the nibble of column i of an octet.
var awqOrder = [8]int{0, 4, 1, 5, 2, 6, 3, 7}

// code returns the field of column n, row k.
func (m *Matrix) code(w []uint32, k, n int) int {
	switch {
	case m.Layout == AWQ:
		return int(w[k*(m.N/8)+n/8] >> (4 * awqOrder[n%8]) & 15)
	case m.Bits == 3:
		bit := k % 32 * 3
		at := (k/32*3 + bit/32) * m.N
		v := uint64(w[at+n])
		if bit/32 < 2 {
			v |= uint64(w[at+m.N+n]) << 32
		}
		return int(v >> (bit % 32) & 7)
	default:
		per := 32 / m.Bits
		return int(w[k/per*m.N+n] >> (k % per * m.Bits) & (1<<m.Bits - 1))
	}
}

// zero returns the zero point of group g, column n.
func (m *Matrix) zero(z []uint32, g, n int) int {
	field := 0
	switch {
	case m.Zeros == Symmetric:
		return 1 << (m.Bits - 1)
	case m.Layout == AWQ:
		field = int(z[g*(m.N/8)+n/8] >> (4 * awqOrder[n%8]) & 15)
	default:
		row := z[g*(m.N*m.Bits/32):][:m.N*m.Bits/32]
		bit := n * m.Bits
		v := uint64(row[bit/32])
		if bit/32+1 < len(row) {
			v |= uint64(row[bit/32+1]) << 32
		}
		field = int(v >> (bit % 32) & (1<<m.Bits - 1))
	}
	if m.Zeros == StoredMinusOne {
		field++
	}
	return field
}

// Tile writes W[k0:k1, n0:n1] as exact fp32, row-major: dst[(k-k0)*(n1-n0)+n-n0].
// Any range within K and N will do.
func (m *Matrix) Tile(dst []float32, k0, k1, n0, n1 int) {
	width := n1 - n0
	if m.Layout == Dense {
		row, size := make([]float32, k1-k0), m.Type.Size()
		for n := n0; n < n1; n++ {
			widen(row, m.Weight.Data[(int64(n)*int64(m.K)+int64(k0))*size:], m.Type)
			for i, v := range row {
				dst[i*width+n-n0] = v
			}
		}
		return
	}
	w, z, idx := words(m.Weight.Data), words(m.QZeros.Data), words(m.GroupOf.Data)
	if m.Layout == GPTQ && m.Bits != 3 && idx == nil {
		for n := n0; n < n1; n += stripe {
			m.fastTile(dst[n-n0:], width, w, z, k0, k1, n, min(n+stripe, n1))
		}
		return
	}
	scales := m.Scales.Data
	for k := k0; k < k1; k++ {
		g := k / m.Group
		if idx != nil {
			g = int(int32(idx[k]))
		}
		for n := n0; n < n1; n++ {
			scale := Half(binary.LittleEndian.Uint16(scales[2*(g*m.N+n):]))
			dst[(k-k0)*width+n-n0] = scale * float32(m.code(w, k, n)-m.zero(z, g, n))
		}
	}
}

// stripe is the number of columns that fastTile takes at a time: their scales
// and zeros, 2 KB, stay in the first-level cache.
const stripe = 256

// fastTile unpacks up to stripe columns of 2, 4 or 8 bits without g_idx, word
// row by word row. Rows of dst are pitch values apart.
func (m *Matrix) fastTile(dst []float32, pitch int, w, z []uint32, k0, k1, n0, n1 int) {
	width, per := n1-n0, 32/m.Bits
	mask := uint32(1)<<m.Bits - 1
	var scale, zero [stripe]float32
	last := -1
	for k := k0; k < k1; k++ {
		if g := k / m.Group; g != last {
			for j := range width {
				scale[j] = Half(binary.LittleEndian.Uint16(m.Scales.Data[2*(g*m.N+n0+j):]))
				zero[j] = float32(m.zero(z, g, n0+j))
			}
			last = g
		}
		row, shift := w[k/per*m.N+n0:][:width], k%per*m.Bits
		out, s, o := dst[(k-k0)*pitch:][:width], scale[:width], zero[:width]
		for j, word := range row {
			out[j] = s[j] * (float32(int32(word>>(shift&31)&mask)) - o[j])
		}
	}
}
