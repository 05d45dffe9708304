package simd

import (
	"encoding/binary"
	"math"
)

// kernels are the inner loops of one level. Slices say where an operand begins;
// callers have checked the shapes. words begins at the first column of a block of
// 32 inputs, whose rows of words are stride bytes apart; the number of columns is
// len(zeros), a multiple of 8 (16 with AVX512).
type kernels struct {
	// fast adds to acc[len(rows), columns] the dots of a block times the blocks'
	// scales; row i of the activations has its record at codes[rows[i]*pitch].
	fast [9]func(acc []float32, part []int32, words []byte, stride int, zeros []uint16, codes []byte, pitch int, rows []int32)
	// exact adds x[32] times a block to acc[columns]. Levels without it unpack.
	exact [9]func(acc []float32, words []byte, stride int, zeros []uint16, x []float32)
	// unpack writes code - zero of a block to tile[32, tileN].
	unpack [9]func(tile []float32, words []byte, stride int, zeros []uint16)
	// fma1, 2 and 4 add rows of x[k] times tile[k, tileN] to rows of acc[tileN].
	fma1 func(acc, x0, tile []float32)
	fma2 func(acc, x0, x1, tile []float32)
	fma4 func(acc, x0, x1, x2, x3, tile []float32)
	// settle adds scale * acc to total and clears acc, for rows of columns values
	// that are pitch apart.
	settle func(total, acc []float32, pitch int, scales []byte, columns, rows int)
	// dense1 writes the dots of x with four outputs; dense4 those of four rows
	// with two outputs, rows outermost. len(x0) is a multiple of lanes.
	dense1 [3]func(sums, x0 []float32, w0, w1, w2, w3 []byte)
	dense4 [3]func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte)
	lanes  int
	// quantise writes a record for each 32 values.
	quantise func(dst []byte, x []float32, order *[block]uint8)
	// read returns the exclusive or of a multiple of 256 bytes.
	read func(data []byte) uint64
}

var portable = kernels{
	fast:     [9]func([]float32, []int32, []byte, int, []uint16, []byte, int, []int32){2: fastPortable(2), 3: fastPortable(3), 4: fastPortable(4), 8: fastPortable(8)},
	unpack:   [9]func([]float32, []byte, int, []uint16){2: unpackPortable(2), 3: unpackPortable(3), 4: unpackPortable(4), 8: unpackPortable(8)},
	fma1:     fmaPortable,
	fma2:     func(acc, x0, x1, tile []float32) { fmaPortable(acc, x0, tile); fmaPortable(acc[tileN:], x1, tile) },
	fma4:     fma4Portable,
	settle:   settlePortable,
	dense1:   [3]func(sums, x0 []float32, w0, w1, w2, w3 []byte){dense1Portable(F32), dense1Portable(F16), dense1Portable(BF16)},
	dense4:   [3]func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte){dense4Portable(F32), dense4Portable(F16), dense4Portable(BF16)},
	lanes:    4,
	quantise: quantisePortable,
	read:     readPortable,
}

// codes writes the codes of input k of a block, one a column.
func codes(dst []int32, words []byte, stride, bits, k int) {
	if bits == 3 { // as PackThree lays them
		codes(dst, words, stride, 2, k)
		high, shift := words[2*stride:], 8*(k%16/4)+4*(k/16)+k%4
		for j := range dst {
			dst[j] |= int32(binary.LittleEndian.Uint32(high[4*j:])>>shift&1) << 2
		}
		return
	}
	per := 32 / bits
	row, shift, mask := words[k/per*stride:][:4*len(dst)], k%per*bits, uint32(1)<<bits-1
	for j := range dst {
		dst[j] = int32(binary.LittleEndian.Uint32(row[4*j:]) >> (shift & 31) & mask)
	}
}

// fastPortable takes tileN columns at a time, so that their codes and dots stay
// in the first-level cache.
func fastPortable(bits int) func([]float32, []int32, []byte, int, []uint16, []byte, int, []int32) {
	return func(acc []float32, _ []int32, words []byte, stride int, zeros []uint16, x []byte, pitch int, rows []int32) {
		var tile [block][tileN]int32
		columns := len(zeros)
		for n := 0; n < columns; n += tileN {
			width := min(tileN, columns-n)
			for p, k := range orders[bits] {
				codes(tile[p][:width], words[4*n:], stride, bits, int(k))
			}
			for i, r := range rows {
				var dots [tileN]int32
				at := x[int(r)*pitch:][:record]
				for p := range tile {
					code := int32(int8(at[p]))
					for j, c := range &tile[p] {
						dots[j] += code * c
					}
				}
				scale := math.Float32frombits(binary.LittleEndian.Uint32(at[scaleAt:]))
				sum := int32(binary.LittleEndian.Uint32(at[sumAt:]))
				for j, zero := range zeros[n:][:width] {
					acc[i*columns+n+j] += float32(float32(dots[j]-sum*int32(zero)) * scale)
				}
			}
		}
	}
}

func unpackPortable(bits int) func([]float32, []byte, int, []uint16) {
	return func(tile []float32, words []byte, stride int, zeros []uint16) {
		var row [tileN]int32
		for k := range block {
			codes(row[:len(zeros)], words, stride, bits, k)
			for j, zero := range zeros {
				tile[k*tileN+j] = float32(row[j] - int32(zero))
			}
		}
	}
}

func fmaPortable(acc, x, tile []float32) {
	acc = acc[:tileN]
	for i, v := range x {
		for j, t := range tile[i*tileN:][:tileN] {
			acc[j] += float32(v * t)
		}
	}
}

func fma4Portable(acc, x0, x1, x2, x3, tile []float32) {
	for i, x := range [...][]float32{x0, x1, x2, x3} {
		fmaPortable(acc[i*tileN:], x, tile)
	}
}

func settlePortable(total, acc []float32, pitch int, scales []byte, columns, rows int) {
	for i := range rows {
		t, a := total[i*pitch:][:columns], acc[i*pitch:][:columns]
		for j := range t {
			t[j] += float32(half(binary.LittleEndian.Uint16(scales[2*j:])) * a[j])
		}
		clear(a)
	}
}

// dotPortable sums in four strands.
func dotPortable(x []float32, w []byte, t DenseType) float32 {
	var s0, s1, s2, s3 float32
	for i := 0; i+4 <= len(x); i += 4 {
		s0 += float32(x[i] * element(w, i, t))
		s1 += float32(x[i+1] * element(w, i+1, t))
		s2 += float32(x[i+2] * element(w, i+2, t))
		s3 += float32(x[i+3] * element(w, i+3, t))
	}
	return (s0 + s1) + (s2 + s3)
}

func dense1Portable(t DenseType) func(sums, x []float32, w0, w1, w2, w3 []byte) {
	return func(sums, x []float32, w0, w1, w2, w3 []byte) {
		for j, w := range [...][]byte{w0, w1, w2, w3} {
			sums[j] = dotPortable(x, w, t)
		}
	}
}

func dense4Portable(t DenseType) func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte) {
	return func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte) {
		for i, x := range [...][]float32{x0, x1, x2, x3} {
			sums[denseMany*i], sums[denseMany*i+1] = dotPortable(x, w0, t), dotPortable(x, w1, t)
		}
	}
}
