package ops

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// halfByArithmetic widens with integers only: shift the fraction up until its
// leading bit shows, and count.
func halfByArithmetic(h uint16) uint32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&1023)
	switch {
	case exponent == 31:
		return sign | 0x7F800000 | fraction<<13
	case exponent == 0 && fraction == 0:
		return sign
	case exponent == 0:
		exponent = 113
		for fraction&1024 == 0 {
			fraction <<= 1
			exponent--
		}
		return sign | exponent<<23 | (fraction&1023)<<13
	}
	return sign | (exponent+112)<<23 | fraction<<13
}

func TestHalfEveryValue(t *testing.T) {
	for h := range 1 << 16 {
		got, want := math.Float32bits(Half(uint16(h))), halfByArithmetic(uint16(h))
		if nan := want&0x7FFFFFFF > 0x7F800000; nan {
			if !math.IsNaN(float64(Half(uint16(h)))) {
				t.Errorf("Half(%#04x) = %v, want NaN", h, Half(uint16(h)))
			}
		} else if got != want {
			t.Errorf("Half(%#04x) = %#08x, want %#08x", h, got, want)
		}
	}
}

func TestBFloat16(t *testing.T) {
	for bits, want := range map[uint16]float32{0x3F80: 1, 0xC040: -3, 0x0001: 0x1p-133, 0x8000: float32(math.Copysign(0, -1))} {
		if got := BFloat16(bits); math.Float32bits(got) != math.Float32bits(want) {
			t.Errorf("BFloat16(%#04x) = %g, want %g", bits, got, want)
		}
	}
}

func littleEndian(words ...uint32) []byte {
	var data []byte
	for _, w := range words {
		data = binary.LittleEndian.AppendUint32(data, w)
	}
	return data
}

// column makes a matrix of one column and one group with the scale given.
func column(bits int, scale uint16, words ...uint32) *Matrix {
	k := len(words) * 32 / bits
	return &Matrix{Layout: GPTQ, K: k, N: 1, Bits: bits, Group: k, Weight: Extent{Data: littleEndian(words...)},
		Scales: Extent{Data: binary.LittleEndian.AppendUint16(nil, scale)}}
}

// The worked examples of workbench/docs/autoround-format.md, section 4.4.
func TestTileWorkedExamples(t *testing.T) {
	const unit = 0.0999755859375 // fp16 0x2E66
	eightTimes := func(q ...float32) (all []float32) {
		for range 4 {
			all = append(all, q...)
		}
		return all
	}
	for _, test := range []struct {
		name  string
		m     *Matrix
		scale float32
		q     []float32 // code - zero
	}{
		{"4 bits", column(4, 0x2E66, 0x7EB0894F), unit, []float32{7, -4, 1, 0, -8, 3, 6, -1}},
		{"4 bits, negative scale", column(4, 0xAE66, 0x925F87C0), -unit, []float32{-8, 4, -1, 0, 7, -3, -6, 1}},
		{"2 bits", column(2, 0x3800, 0x7ADCEB63), 0.5, []float32{1, -2, 0, -1, 1, 0, 0, 1, -2, 1, -1, 1, 0, 0, 1, -1}},
		{"8 bits", column(8, 0x211F, 0xE481C000), Half(0x211F), []float32{-128, 64, 1, 100}},
		{"3 bits over word borders", column(3, 0x3C00, 0x88FAC688, 0xC688FAC6, 0xFAC688FA), 1, eightTimes(-4, -3, -2, -1, 0, 1, 2, 3)},
		{"smallest subnormal scale", column(4, 0x0001, 0x7EB0894F), 0x1p-24, []float32{7, -4, 1, 0, -8, 3, 6, -1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make([]float32, test.m.K)
			test.m.Tile(got, 0, test.m.K, 0, 1)
			for k, q := range test.q {
				if want := test.scale * q; got[k] != want {
					t.Errorf("W[%d] = %v, want %v", k, got[k], want)
				}
			}
		})
	}
}

// Code 9 with scale 0.5 is +0.5 for zeros stored as 8, as 7 less one, and for a
// symmetric matrix whatever is stored.
func TestTileZeroConventions(t *testing.T) {
	for _, test := range []struct {
		zeros  Zeros
		stored uint32
		want   float32
	}{
		{Stored, 8, 0.5}, {StoredMinusOne, 7, 0.5}, {Symmetric, 7, 0.5}, {Symmetric, 8, 0.5},
		{Stored, 0, 4.5}, {StoredMinusOne, 15, -3.5}, // all ones: a zero of 16, as GPTQ writers wrap it
	} {
		m := column(4, 0x3800, 0x99999999)
		m.N, m.Zeros = 8, test.zeros
		m.Weight.Data = littleEndian(0x99999999, 0x99999999, 0x99999999, 0x99999999, 0x99999999, 0x99999999, 0x99999999, 0x99999999)
		m.QZeros.Data = littleEndian(test.stored * 0x11111111)
		for range 8 {
			m.Scales.Data = binary.LittleEndian.AppendUint16(m.Scales.Data, 0x3800)
		}
		got := make([]float32, 64)
		m.Tile(got, 0, 8, 0, 8)
		for i, v := range got {
			if v != test.want {
				t.Fatalf("%v with stored zero %d: value %d is %v, want %v", test.zeros, test.stored, i, v, test.want)
			}
		}
	}
}

// The octet of codes 0 to 7 is 0x75316420 in awq's order.
func TestTileAWQOrder(t *testing.T) {
	m := &Matrix{Layout: AWQ, K: 1, N: 8, Bits: 4, Group: 1, Zeros: Stored,
		Weight: Extent{Data: littleEndian(0x75316420)}, QZeros: Extent{Data: littleEndian(0)}}
	for range 8 {
		m.Scales.Data = binary.LittleEndian.AppendUint16(m.Scales.Data, 0x3C00)
	}
	got := make([]float32, 8)
	m.Tile(got, 0, 1, 0, 8)
	for n, v := range got {
		if v != float32(n) {
			t.Errorf("column %d is %v", n, v)
		}
	}
}

// random makes a matrix of random words; finite scales of both signs.
func random(r *rand.Rand, layout Layout, bits, k, n, group int, zeros Zeros, gidx bool) *Matrix {
	m := &Matrix{Layout: layout, K: k, N: n, Bits: bits, Group: group, Zeros: zeros}
	noise := func(words int) []byte {
		data := make([]byte, 0, 4*words)
		for range words {
			data = binary.LittleEndian.AppendUint32(data, r.Uint32())
		}
		return data
	}
	m.Weight.Data, m.QZeros.Data = noise(k*n*bits/32), noise(m.Groups()*n*bits/32)
	for range m.Groups() * n {
		m.Scales.Data = binary.LittleEndian.AppendUint16(m.Scales.Data, uint16(r.Uint32()&0xBBFF))
	}
	if gidx {
		for range k {
			m.GroupOf.Data = binary.LittleEndian.AppendUint32(m.GroupOf.Data, r.Uint32N(uint32(m.Groups())))
		}
	}
	return m
}

// Any part of a matrix is what the whole has there, also where the parts break
// words, groups and octets, where N is wider than a stripe, and where the words
// lie on odd addresses.
func TestTilePartsEqualWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	type kind struct {
		layout Layout
		bits   int
		gidx   bool
	}
	kinds := []kind{{GPTQ, 2, false}, {GPTQ, 3, false}, {GPTQ, 4, false}, {GPTQ, 8, false}, {AWQ, 4, false}, {GPTQ, 4, true}, {GPTQ, 3, true}}
	for _, q := range kinds {
		for _, zeros := range []Zeros{Symmetric, Stored, StoredMinusOne} {
			m := random(r, q.layout, q.bits, 96, 288, 64, zeros, q.gidx)
			t.Run(fmt.Sprintf("%v-%dbit-%v-gidx=%v", q.layout, q.bits, zeros, q.gidx), func(t *testing.T) {
				whole := make([]float32, m.K*m.N)
				m.Tile(whole, 0, m.K, 0, m.N)
				odd := *m
				odd.Weight.Data = append(make([]byte, 1), m.Weight.Data...)[1:]
				for range 30 {
					k0, n0 := r.IntN(m.K), r.IntN(m.N)
					k1, n1 := k0+1+r.IntN(m.K-k0), n0+1+r.IntN(m.N-n0)
					part := make([]float32, (k1-k0)*(n1-n0))
					odd.Tile(part, k0, k1, n0, n1)
					for i, v := range part {
						k, n := k0+i/(n1-n0), n0+i%(n1-n0)
						if math.Float32bits(v) != math.Float32bits(whole[k*m.N+n]) {
							t.Fatalf("tile [%d:%d, %d:%d]: W[%d,%d] = %v, the whole has %v", k0, k1, n0, n1, k, n, v, whole[k*m.N+n])
						}
					}
				}
			})
		}
	}
}

func TestTileDense(t *testing.T) {
	const k, n = 5, 3
	for typ, encode := range map[Type]func([]byte, float32) []byte{
		F32: func(b []byte, v float32) []byte { return binary.LittleEndian.AppendUint32(b, math.Float32bits(v)) },
		BF16: func(b []byte, v float32) []byte {
			return binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(v)>>16))
		},
		F16: func(b []byte, v float32) []byte { // v is a whole number from 1 to 15
			exponent := math.Ilogb(float64(v))
			return binary.LittleEndian.AppendUint16(b, uint16(15+exponent)<<10|uint16((float64(v)/math.Ldexp(1, exponent)-1)*1024))
		},
	} {
		m := &Matrix{Layout: Dense, Type: typ, K: k, N: n}
		for i := range k * n { // stored [N, K]
			m.Weight.Data = encode(m.Weight.Data, float32(i+1))
		}
		got := make([]float32, 6)
		m.Tile(got, 1, 4, 1, 3)
		row := make([]float32, k)
		m.Row(row, 2)
		v := Vector{N: k * n, Type: typ, Source: m.Weight}
		all := make([]float32, k*n)
		v.Values(all)
		for i, want := range []float32{7, 12, 8, 13, 9, 14} {
			if got[i] != want {
				t.Errorf("%v: tile[%d] = %v, want %v", typ, i, got[i], want)
			}
		}
		if row[0] != 11 || row[4] != 15 || all[0] != 1 || all[14] != 15 {
			t.Errorf("%v: row %v, values %v", typ, row, all)
		}
	}
}

func BenchmarkTile4Bit(b *testing.B) {
	m := random(rand.New(rand.NewPCG(1, 2)), GPTQ, 4, 2048, 512, 128, Symmetric, false)
	dst := make([]float32, 64*128)
	b.SetBytes(int64(m.K * m.N / 2))
	for b.Loop() {
		for n := 0; n < m.N; n += 128 {
			for k := 0; k < m.K; k += 64 {
				m.Tile(dst, k, k+64, n, n+128)
			}
		}
	}
}
