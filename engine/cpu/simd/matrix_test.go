package simd

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// shape is one random matrix of the tests.
type shape struct {
	k, n, bits, group int
	stored            bool // zeros
	codes             int  // every code; -1: random
}

func (s shape) String() string {
	return fmt.Sprintf("[%d, %d] of %d bits, groups of %d, zeros stored %v", s.k, s.n, s.bits, s.group, s.stored)
}

// awkward are scales that a product must get right: both zeros, the smallest and
// the largest subnormal, the smallest and a common normal, and signs.
var awkward = []uint16{0, 0x8000, 0x0001, 0x83ff, 0x0400, 0x2e66, 0xae66, 0x3c00}

// matrix makes a matrix and its exact weights [K, N]. Its bytes lie at odd
// addresses.
func (s shape) matrix(random *rand.Rand) (*Packed, []float64) {
	groups := (s.k + s.group - 1) / s.group
	w := &Packed{K: s.k, N: s.n, Bits: s.bits, Group: s.group}
	words, scales := make([]byte, s.k*s.bits/8*s.n), odd(2*groups*s.n)
	codes := make([]int, s.k*s.n)
	for k := range s.k {
		for n := range s.n {
			code := s.codes
			if code < 0 {
				code = random.IntN(1 << s.bits)
			}
			codes[k*s.n+n] = code
			for b := range s.bits { // a column is a stream of bits over its words
				bit := k%32*s.bits + b
				at := ((k/32*s.bits+bit/32)*s.n + n) * 4
				words[at+bit%32/8] |= byte(code >> b & 1 << (bit % 8))
			}
		}
	}
	for i := range groups * s.n {
		scale := awkward[random.IntN(len(awkward))]
		if random.IntN(4) > 0 {
			scale = uint16(0x2000 + random.IntN(0x800) + random.IntN(2)<<15)
		}
		binary.LittleEndian.PutUint16(scales[2*i:], scale)
	}
	if s.stored {
		w.Zeros = make([]uint16, groups*s.n)
		for i := range w.Zeros {
			w.Zeros[i] = uint16(random.IntN(1<<s.bits + 1))
		}
	}
	if s.bits == 3 {
		words = PackThree(words, s.k, s.n)
	}
	w.Words, w.Scales = odd(len(words)), scales
	copy(w.Words, words)
	exact := make([]float64, len(codes))
	for i, code := range codes {
		g, n := i/s.n/s.group, i%s.n
		zero := 1 << (s.bits - 1)
		if s.stored {
			zero = int(w.Zeros[g*s.n+n])
		}
		exact[i] = float64(half(binary.LittleEndian.Uint16(scales[2*(g*s.n+n):]))) * float64(code-zero)
	}
	return w, exact
}

// odd returns n bytes at an odd address.
func odd(n int) []byte { return make([]byte, n+1)[1:] }

func gaussian(random *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

// shapes walks every bit width, group, kind of zeros and odd width.
func shapes() (all []shape) {
	sizes := []struct{ k, n int }{{32, 8}, {64, 32}, {96, 24}, {160, 72}, {256, 64}, {512, 512}, {2048, 40}, {128, 2056}}
	for i, size := range sizes {
		for _, bits := range []int{2, 3, 4, 8} {
			for _, group := range []int{32, 64, 128, size.k, 1 << 30} {
				if size.k*size.n > 1<<17 && group != 128 {
					continue
				}
				all = append(all, shape{size.k, size.n, bits, group, (i+bits+group/32)%2 == 0, -1})
			}
		}
	}
	for _, bits := range []int{2, 3, 4, 8} {
		all = append(all, shape{128, 24, bits, 64, true, -1}, shape{128, 24, bits, 64, false, -1}, shape{128, 24, bits, 128, false, 1<<bits - 1}, shape{128, 24, bits, 128, false, 0})
	}
	return all
}

// tests of one shape take so many rows, out of order and strided.
var counts = []int{1, 2, 3, 5, 8, 17, 64, 67}

// many returns count rows of k values, in an order and a stride of their own.
func many(random *rand.Rand, count, k int) Rows {
	index := make([]int32, count)
	for i, at := range random.Perm(count) {
		index[i] = int32(at)
	}
	return Rows{Data: gaussian(random, count*(k+5)), Stride: k + 5, Index: index, Count: count}
}

// products is room for count rows of n values, with a canary after each row.
func products(count, n int) Rows {
	out := Rows{Data: make([]float32, count*(n+3)), Stride: n + 3, Count: count}
	for i := range out.Data {
		out.Data[i] = 12345
	}
	return out
}

// checkCanaries looks at what lies between the rows.
func checkCanaries(t *testing.T, out Rows, n int) {
	t.Helper()
	for i := range out.Count {
		for _, v := range out.Data[i*out.Stride+n : (i+1)*out.Stride] {
			if v != 12345 {
				t.Fatalf("row %d: a product was written past column %d", i, n)
			}
		}
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func TestMulExactIsNearTheExactProduct(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range shapes() {
		w, exact := s.matrix(random)
		count := counts[random.IntN(len(counts))]
		x := many(random, count, s.k)
		want, scale := reference(x, exact, s)
		for _, level := range Levels() {
			out := products(count, s.n)
			level.MulExact(out, x, w, 0, s.n, NewScratch())
			checkCanaries(t, out, s.n)
			for i := range count {
				for n, got := range out.row(i, 0, s.n) {
					if off := math.Abs(float64(got) - want[i*s.n+n]); off > 1e-5*scale[i*s.n+n] {
						t.Fatalf("%v: %v: row %d of %d, column %d: %v, want %v", level, s, i, count, n, got, want[i*s.n+n])
					}
				}
			}
		}
	}
}

// reference returns the products and the sums of their terms' magnitudes.
func reference(x Rows, w []float64, s shape) (want, scale []float64) {
	want, scale = make([]float64, x.Count*s.n), make([]float64, x.Count*s.n)
	for i := range x.Count {
		for k, v := range x.row(i, 0, s.k) {
			for n := range s.n {
				want[i*s.n+n] += float64(v) * w[k*s.n+n]
				scale[i*s.n+n] += math.Abs(float64(v) * w[k*s.n+n])
			}
		}
	}
	return want, scale
}

// quantised returns x in 8 bits, and what these stand for.
func quantised(level Level, x Rows, s shape) (*Codes, Rows) {
	c := NewCodes(x.Count, s.k)
	back := Rows{Data: make([]float32, x.Count*s.k), Stride: s.k, Count: x.Count}
	for i := range x.Count {
		level.Quantise(c, i, x.row(i, 0, s.k), s.bits)
		for k := range s.k {
			at := c.data[i*c.pitch+k/block*record:][:record]
			code := int8(at[position(s.bits, k%block)])
			back.Data[i*s.k+k] = float32(code) * math.Float32frombits(binary.LittleEndian.Uint32(at[scaleAt:]))
		}
	}
	return c, back
}

func TestMulFastIsNearTheProductOfItsCodes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, s := range shapes() {
		w, exact := s.matrix(random)
		count := counts[random.IntN(len(counts))]
		x := many(random, count, s.k)
		if s.codes >= 0 {
			for i := range x.Data { // codes of +127 and -127 alone
				x.Data[i] = []float32{1, -1}[min(1, random.IntN(8))]
			}
		}
		rows := x.Index
		x.Index = nil
		c, back := quantised(Portable, x, s)
		back.Index = rows
		want, scale := reference(back, exact, s)
		first := products(count, s.n)
		for _, level := range Levels() {
			out := products(count, s.n)
			level.MulFast(out, c, rows, w, 0, s.n, NewScratch())
			checkCanaries(t, out, s.n)
			for i := range count {
				for n, got := range out.row(i, 0, s.n) {
					if off := math.Abs(float64(got) - want[i*s.n+n]); off > 1e-5*scale[i*s.n+n] {
						t.Fatalf("%v: %v: row %d of %d, column %d: %v, want %v", level, s, i, count, n, got, want[i*s.n+n])
					}
				}
			}
			if level == Portable {
				first = out
			} else if !sameBits(first.Data, out.Data) {
				t.Fatalf("%v: %v: %d rows: other bits than %v", level, s, count, Portable)
			}
		}
	}
}

// TestRowsAreTheirOwn: a row's bits depend neither on the rows beside it nor on
// the columns asked for with it.
func TestRowsAreTheirOwn(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, bits := range []int{2, 3, 4, 8} {
		for _, group := range []int{32, 128, 320} {
			s := shape{320, 136, bits, group, group == 32, -1}
			w, _ := s.matrix(random)
			x := many(random, 67, s.k)
			for _, level := range Levels() {
				c, _ := quantised(level, x, s)
				one, scratch := Rows{Data: make([]float32, s.n), Stride: s.n, Count: 1}, NewScratch()
				for name, mul := range map[string]func(out Rows, first, count, n0, n1 int){
					"exact": func(out Rows, first, count, n0, n1 int) {
						part := x
						part.Index, part.Count = x.Index[first:first+count], count
						level.MulExact(out, part, w, n0, n1, scratch)
					},
					"fast": func(out Rows, first, count, n0, n1 int) {
						rows := make([]int32, count)
						for i := range rows {
							rows[i] = int32(first + i)
						}
						level.MulFast(out, c, rows, w, n0, n1, scratch)
					},
				} {
					all := products(67, s.n)
					mul(all, 0, 67, 0, s.n)
					for i := range 67 {
						for n0, n1 := 0, 0; n0 < s.n; n0 = n1 {
							n1 = min(n0+8*(1+random.IntN(9)), s.n)
							mul(one, i, 1, n0, n1)
						}
						if !sameBits(one.Data, all.row(i, 0, s.n)) {
							t.Fatalf("%v %s: %v: row %d alone has other bits than among 67", level, name, s, i)
						}
					}
					for _, count := range []int{2, 3, 4, 7, 9} {
						part := products(count, s.n)
						mul(part, 11, count, 0, s.n)
						for i := range count {
							if !sameBits(part.row(i, 0, s.n), all.row(11+i, 0, s.n)) {
								t.Fatalf("%v %s: %v: row %d among %d has other bits than among 67", level, name, s, 11+i, count)
							}
						}
					}
				}
			}
		}
	}
}

func TestMulDense(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, kind := range []DenseType{F32, F16, BF16} {
		for _, size := range []struct{ k, n int }{{1, 1}, {7, 3}, {32, 5}, {100, 64}, {2048, 1}, {2048, 37}} {
			w := &Dense{K: size.k, N: size.n, Type: kind, Data: odd(size.k * size.n * kind.size())}
			exact := make([]float64, size.k*size.n)
			for i := range exact {
				v, at := float32(random.NormFloat64()), w.Data[i*kind.size():]
				switch kind {
				case F32:
					binary.LittleEndian.PutUint32(at, math.Float32bits(v))
				case F16:
					binary.LittleEndian.PutUint16(at, uint16(random.IntN(0x7000)+random.IntN(2)<<15))
				case BF16:
					binary.LittleEndian.PutUint16(at, uint16(math.Float32bits(v)>>16))
				}
				exact[i%size.k*size.n+i/size.k] = float64(element(w.Data, i, kind))
			}
			for _, level := range Levels() {
				var all Rows
				for _, count := range []int{9, 1, 2, 4, 5} {
					var x Rows
					if count == 9 {
						x = many(rand.New(rand.NewPCG(9, 9)), count, size.k)
						all = products(count, size.n)
					} else {
						x = many(rand.New(rand.NewPCG(9, 9)), 9, size.k)
						x.Count, x.Index = count, x.Index[:count]
					}
					out := products(count, size.n)
					half := size.n / 2
					level.MulDense(out, x, w, 0, half, NewScratch())
					level.MulDense(out, x, w, half, size.n, NewScratch())
					checkCanaries(t, out, size.n)
					want, scale := reference(x, exact, shape{k: size.k, n: size.n})
					for i := range count {
						for n, got := range out.row(i, 0, size.n) {
							if off := math.Abs(float64(got) - want[i*size.n+n]); off > 1e-5*scale[i*size.n+n] {
								t.Fatalf("%v: type %d [%d, %d]: row %d of %d, output %d: %v, want %v", level, kind, size.n, size.k, i, count, n, got, want[i*size.n+n])
							}
						}
					}
					if count == 9 {
						all = out
					} else if !sameBits(all.Data[:count*all.Stride], out.Data) {
						t.Fatalf("%v: type %d [%d, %d]: %d rows have other bits than among 9", level, kind, size.n, size.k, count)
					}
				}
			}
		}
	}
}

func TestHalf(t *testing.T) {
	for h, want := range map[uint16]float64{0: 0, 1: 0x1p-24, 0x03ff: 0x3ffp-24, 0x0400: 0x1p-14, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1)} {
		if got := half(h); float64(got) != want {
			t.Errorf("half %#04x is %v, want %v", h, got, want)
		}
	}
	if got := half(0x8000); math.Float32bits(got) != 1<<31 {
		t.Errorf("half 0x8000 is %v, want -0", got)
	}
	if got := half(0x7e00); got == got {
		t.Errorf("half 0x7e00 is %v, want NaN", got)
	}
}

// TestPackThree takes the worked example of the format: codes 0 to 7 over and
// over.
func TestPackThree(t *testing.T) {
	words := make([]byte, 12)
	for i, word := range []uint32{0x88FAC688, 0xC688FAC6, 0xFAC688FA} {
		binary.LittleEndian.PutUint32(words[4*i:], word)
	}
	packed := PackThree(words, 32, 1)
	for k := range 32 {
		var code [1]int32
		codes(code[:], packed, 4, 3, k)
		if code[0] != int32(k%8) {
			t.Errorf("code %d is %d, want %d", k, code[0], k%8)
		}
	}
}

func TestQuantise(t *testing.T) {
	random := rand.New(rand.NewPCG(10, 11))
	x := gaussian(random, 32*12)
	fill := func(b int, v float32) {
		for i := range block {
			x[b*block+i] = v
		}
	}
	fill(1, 0)
	fill(2, 1e-38)
	fill(3, -3e38)
	x[4*block+31] = float32(math.Inf(-1))
	x[5*block+8] = float32(math.NaN())
	for i := range block { // ties: 127 is the top
		x[6*block+i] = float32(i) - 15.5
	}
	x[6*block] = 127
	for _, bits := range []int{2, 3, 4, 8} {
		first := NewCodes(3, len(x))
		Portable.Quantise(first, 1, x, bits)
		for b := range 12 {
			at := first.data[first.pitch+b*record:][:record]
			scale, sum := math.Float32frombits(binary.LittleEndian.Uint32(at[scaleAt:])), int32(0)
			for i := range block {
				code, v := int8(at[position(bits, i)]), x[b*block+i]
				sum += int32(code)
				switch {
				case b == 4 || b == 5:
					if scale == scale {
						t.Errorf("block %d: scale %v, want NaN", b, scale)
					}
				case b == 6 && float64(code) != math.RoundToEven(float64(v)):
					t.Errorf("%v became %d", v, code)
				case math.Abs(float64(v)-float64(scale)*float64(code)) > 0.501*float64(scale)+1e-37:
					t.Errorf("block %d: %v became %d times %v", b, v, code, scale)
				}
			}
			if got := int32(binary.LittleEndian.Uint32(at[sumAt:])); got != sum {
				t.Errorf("block %d: sum %d, want %d", b, got, sum)
			}
		}
		for _, level := range Levels() {
			c := NewCodes(3, len(x))
			level.Quantise(c, 1, x, bits)
			if !slices.Equal(c.data, first.data) {
				t.Errorf("%v: %d bits: other codes than %v", level, bits, Portable)
			}
		}
	}
}

func TestChecks(t *testing.T) {
	good := Packed{K: 64, N: 8, Bits: 4, Group: 32, Words: make([]byte, 256), Scales: make([]byte, 32)}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Packed){
		"K": func(w *Packed) { w.K = 40 }, "N": func(w *Packed) { w.N = 4 }, "bits": func(w *Packed) { w.Bits = 5 },
		"group": func(w *Packed) { w.Group = 16 }, "words": func(w *Packed) { w.Words = w.Words[1:] },
		"scales": func(w *Packed) { w.Scales = nil }, "zeros": func(w *Packed) { w.Zeros = make([]uint16, 3) },
	} {
		bad := good
		spoil(&bad)
		if bad.Check() == nil {
			t.Errorf("a matrix with a wrong %s passed", name)
		}
	}
	if (&Dense{K: 3, N: 2, Type: BF16, Data: make([]byte, 11)}).Check() == nil {
		t.Error("a dense matrix that is too short passed")
	}
}
