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

// Widen converts len(dst) stored elements of a float type to fp32.
func Widen(dst []float32, src []byte, t Type) {
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
func (v *Vector) Values(dst []float32) { Widen(dst[:v.N], v.Source.Data, v.Type) }

// Row writes output n of a dense matrix, its K weights, as fp32.
func (m *Matrix) Row(dst []float32, n int) {
	size := int64(m.K) * m.Type.Size()
	Widen(dst[:m.K], m.Weight.Data[int64(n)*size:], m.Type)
}

// words are little-endian 32-bit words at any address: files whose header is not
// padded put them on odd ones.
type words []byte

func (w words) at(i int) uint32 { return binary.LittleEndian.Uint32(w[4*i:]) }

// aligned views the words as they lie, where their address and this machine's
// byte order allow it; reading through the view is a quarter faster.
func (w words) aligned() ([]uint32, bool) {
	if len(w) == 0 || uintptr(unsafe.Pointer(&w[0]))%4 != 0 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, false
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(&w[0])), len(w)/4), true
}

// awqOrder[i] is the nibble of column i of an octet.
var awqOrder = [8]int{0, 4, 1, 5, 2, 6, 3, 7}

// code returns the field of column n, row k.
func (m *Matrix) code(w words, k, n int) int {
	switch {
	case m.Layout == AWQ:
		return int(w.at(k*(m.N/8)+n/8) >> (4 * awqOrder[n%8]) & 15)
	case m.Bits == 3:
		bit := k % 32 * 3
		at := (k/32*3 + bit/32) * m.N
		v := uint64(w.at(at + n))
		if bit/32 < 2 {
			v |= uint64(w.at(at+m.N+n)) << 32
		}
		return int(v >> (bit % 32) & 7)
	default:
		per := 32 / m.Bits
		return int(w.at(k/per*m.N+n) >> (k % per * m.Bits) & (1<<m.Bits - 1))
	}
}

// zero returns the zero point of group g, column n.
func (m *Matrix) zero(z words, g, n int) int {
	field := 0
	switch {
	case m.Zeros == Symmetric:
		return 1 << (m.Bits - 1)
	case m.Layout == AWQ:
		field = int(z.at(g*(m.N/8)+n/8) >> (4 * awqOrder[n%8]) & 15)
	default:
		width, bit := m.N*m.Bits/32, n*m.Bits
		first := g*width + bit/32
		v := uint64(z.at(first))
		if bit/32+1 < width {
			v |= uint64(z.at(first+1)) << 32
		}
		field = int(v >> (bit % 32) & (1<<m.Bits - 1))
	}
	if m.Zeros == StoredMinusOne {
		field++
	}
	return field
}

// Codes writes the N codes of row k of a packed matrix, as they are stored.
func (m *Matrix) Codes(dst []uint16, k int) {
	for n := range dst[:m.N] {
		dst[n] = uint16(m.code(words(m.Weight.Data), k, n))
	}
}

// ZeroPoints writes the N zero points of group g of a packed matrix, at most 256.
func (m *Matrix) ZeroPoints(dst []uint16, g int) {
	for n := range dst[:m.N] {
		dst[n] = uint16(m.zero(words(m.QZeros.Data), g, n))
	}
}

// Tile writes W[k0:k1, n0:n1] as exact fp32, row-major: dst[(k-k0)*(n1-n0)+n-n0].
// Any range within K and N will do.
func (m *Matrix) Tile(dst []float32, k0, k1, n0, n1 int) {
	width := n1 - n0
	if m.Layout == Dense {
		row, size := make([]float32, k1-k0), m.Type.Size()
		for n := n0; n < n1; n++ {
			Widen(row, m.Weight.Data[(int64(n)*int64(m.K)+int64(k0))*size:], m.Type)
			for i, v := range row {
				dst[i*width+n-n0] = v
			}
		}
		return
	}
	w, z, groups := words(m.Weight.Data), words(m.QZeros.Data), words(m.GroupOf.Data)
	if view, ok := w.aligned(); ok && m.Layout == GPTQ && m.Bits != 3 && len(groups) == 0 {
		for n := n0; n < n1; n += stripe {
			m.fastTile(dst[n-n0:], width, view, z, k0, k1, n, min(n+stripe, n1))
		}
		return
	}
	scales := m.Scales.Data
	for k := k0; k < k1; k++ {
		g := k / m.Group
		if len(groups) > 0 {
			g = int(groups.at(k))
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
func (m *Matrix) fastTile(dst []float32, pitch int, w []uint32, z words, k0, k1, n0, n1 int) {
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
