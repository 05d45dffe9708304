package simd

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Codes of 16 bits give products near those of fp32: off by no more than half a
// step of the codes for every input, at every level with the same bits.
func TestWideProducts(t *testing.T) {
	random := rand.New(rand.NewPCG(16, 8))
	for _, bits := range []int{2, 4, 8} {
		const k, n, rows = 256, 64, 40 // more rows than one pass takes
		w := &Packed{K: k, N: n, Bits: bits, Group: 128, Words: make([]byte, k/block*bits*4*n), Scales: make([]byte, 2*2*n)}
		for i := range w.Words {
			w.Words[i] = byte(random.Uint32())
		}
		for i := 0; i < len(w.Scales); i += 2 {
			w.Scales[i], w.Scales[i+1] = byte(random.Uint32()), 0x2c|byte(random.Uint32N(2))<<7 // some 0.06, of both signs
		}
		x := Rows{Data: normal(random, rows*k), Stride: k, Count: rows}
		var first []float32
		for _, level := range Levels() {
			s := NewScratch()
			want, got := make([]float32, rows*n), make([]float32, rows*n)
			level.MulExact(Rows{Data: want, Stride: n, Count: rows}, x, w, 0, n, s)
			codes, index := NewWideCodes(rows, k), make([]int32, rows)
			for i := range rows {
				index[i] = int32(i)
				level.Quantise(codes, i, x.Data[i*k:][:k], bits)
			}
			level.MulFast(Rows{Data: got, Stride: n, Count: rows}, codes, index, w, 0, n, s)
			for i := range got {
				row := x.Data[i/n*k:][:k]
				var top float64
				for _, v := range row {
					top = max(top, math.Abs(float64(v)))
				}
				step := top / wideMax * k * .13 * float64(int(1)<<(bits-1)) // half a step of each input times the largest weight
				if d := math.Abs(float64(got[i] - want[i])); d > step {
					t.Fatalf("%v, %d bits: product %d is %v, exactly %v: off by %.2g, more than %.2g", level, bits, i, got[i], want[i], d, step)
				}
			}
			if first == nil {
				first = got
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(first[i]) {
					t.Fatalf("%v, %d bits: product %d is %v, portable %v", level, bits, i, got[i], first[i])
				}
			}
			alone := make([]float32, n)
			level.MulFast(Rows{Data: alone, Stride: n, Count: 1}, codes, []int32{33}, w, 0, n, s)
			for j, v := range alone {
				if math.Float32bits(v) != math.Float32bits(got[33*n+j]) {
					t.Fatalf("%v, %d bits: row 33 alone differs from among others", level, bits)
				}
			}
		}
	}
}

// Low bytes take every value, and a block of zeros, infinities or NaNs is told
// as 8 bits tell it.
func TestWideCodesAtTheirEdges(t *testing.T) {
	c := NewWideCodes(1, block)
	x := make([]float32, block)
	for i := range x {
		x[i] = float32(i-16) * 8.03
	}
	Portable.Quantise(c, 0, x, 8)
	high, low := c.data[:c.pitch], c.data[c.pitch:]
	scale := math.Float32frombits(uint32(low[scaleAt]) | uint32(low[scaleAt+1])<<8 | uint32(low[scaleAt+2])<<16 | uint32(low[scaleAt+3])<<24)
	for p, i := range orders[8] {
		got := scale * float32(256*int(int8(high[p]))+int(int8(low[p])))
		if math.Abs(float64(got-x[i])) > float64(scale)*.51 {
			t.Errorf("value %d: %v became %v, steps are %v", i, x[i], got, scale)
		}
	}
	for _, bad := range []float32{float32(math.Inf(1)), float32(math.NaN())} {
		x[5] = bad
		Portable.Quantise(c, 0, x, 8)
		if v := math.Float32frombits(uint32(c.data[scaleAt]) | uint32(c.data[scaleAt+1])<<8 | uint32(c.data[scaleAt+2])<<16 | uint32(c.data[scaleAt+3])<<24); !math.IsNaN(float64(v)) {
			t.Errorf("a block with %v has the scale %v, want NaN", bad, v)
		}
	}
}

// Read sees every byte.
func TestReadSeesEveryByte(t *testing.T) {
	for _, level := range Levels() {
		data := make([]byte, 4096)
		for i := range data {
			data[i] = 1
			if level.Read(data) == 0 {
				t.Fatalf("%v: byte %d was not read", level, i)
			}
			data[i] = 0
		}
	}
}
