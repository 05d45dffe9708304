package simd

import (
	"encoding/binary"
	"fmt"
	"math"
)

// record is a block of 32 activations in 8 bits: the codes, four to a dword as
// the bytes of a word's slot want them; their scale, fp32; their sum, int32.
const (
	record   = block + 8
	scaleAt  = block
	sumAt    = block + 4
	cacheRow = 64
)

// Codes are rows of activations in 8 or 16 bits: x = scale * code, with a scale
// for each 32 values. Different rows may be written at the same time.
type Codes struct {
	k     int
	wide  bool    // 16 bits: row i is rows 2i, the high bytes, and 2i+1, the low ones
	pitch int     // bytes from row to row: an odd number of cache lines, so that rows spread over the sets
	order []uint8 // bits of the weights that a row's order is for; 0: not yet written
	data  []byte
}

// NewCodes returns room for rows of up to k values in 8 bits; k is a multiple of
// 32.
func NewCodes(rows, k int) *Codes { return newCodes(rows, k, false) }

// NewWideCodes is NewCodes for 16 bits. A product with them costs that of two
// rows of 8 bits, and is as near to fp32 as makes no difference to a model.
func NewWideCodes(rows, k int) *Codes { return newCodes(2*rows, k, true) }

func newCodes(rows, k int, wide bool) *Codes {
	pitch := ((k/block*record+cacheRow-1)/cacheRow | 1) * cacheRow
	return &Codes{k: k, wide: wide, pitch: pitch, order: make([]uint8, rows), data: make([]byte, rows*pitch)}
}

// position returns where value i of a block lies in a record for weights of so
// many bits. Slot j of word r, that is (word>>(bits*j)) with all but the low
// bits of each byte cleared, holds codes 32/bits*r + j + 8/bits*byte; 3 bits lie
// as 2 bits do.
func position(bits, i int) int {
	if bits == 3 {
		bits = 2
	}
	slots := 8 / bits
	return i/(4*slots)*(4*slots) + i%slots*4 + i%(4*slots)/slots
}

// orders[bits][p] is the value that lies at p of a record.
var orders = func() (orders [9][block]uint8) {
	for _, bits := range []int{2, 3, 4, 8} {
		for i := range block {
			orders[bits][position(bits, i)] = uint8(i)
		}
	}
	return orders
}()

// Quantise writes x, a multiple of 32 values of which c has room, as row row of
// c for weights of so many bits: scale = absmax / 127 (of 16 bits / 32639), codes rounded half to
// even. A block whose absmax is below 1e-30 becomes zeros, and one that holds an
// infinity or a NaN becomes NaN as a whole. All levels give the same bits.
func (l Level) Quantise(c *Codes, row int, x []float32, bits int) {
	if len(x)%block != 0 || len(x) > c.k || orders[bits][1] == 0 {
		panic(fmt.Sprintf("simd: quantise %d values for %d bits into rows of %d", len(x), bits, c.k))
	}
	if c.wide {
		quantiseWide(c.data[2*row*c.pitch:][:c.pitch], c.data[(2*row+1)*c.pitch:][:c.pitch], x, &orders[bits])
		c.order[2*row], c.order[2*row+1] = uint8(bits), uint8(bits)
		return
	}
	if len(x) > 0 {
		kernelsOf[l].quantise(c.data[row*c.pitch:][:c.pitch], x, &orders[bits])
	}
	c.order[row] = uint8(bits)
}

// tiny is the absmax below which 127/absmax might overflow.
const tiny = 1e-30

func quantisePortable(dst []byte, x []float32, order *[block]uint8) {
	for ; len(x) > 0; dst, x = dst[record:], x[block:] {
		var top uint32
		for _, v := range x[:block] {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		absmax := math.Float32frombits(top)
		scale, inverse := absmax/127, 127/absmax
		switch {
		case top >= 0x7f800000: // infinity; NaNs lie above
			scale, inverse = float32(math.NaN()), 0
		case absmax < tiny:
			scale, inverse = 0, 0
		}
		sum := int32(0)
		for p, i := range order {
			code := int32(0)
			if inverse != 0 {
				code = int32(math.RoundToEven(float64(x[i] * inverse)))
			}
			dst[p] = byte(code)
			sum += code
		}
		binary.LittleEndian.PutUint32(dst[scaleAt:], math.Float32bits(scale))
		binary.LittleEndian.PutUint32(dst[sumAt:], uint32(sum))
	}
}
