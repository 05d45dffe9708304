package simd

import (
	"encoding/binary"
	"math"
)

// wideMax is the largest code of 16 bits whose low byte, rounded to the nearest
// multiple of 256, leaves a high byte of at most 127.
const wideMax = 127*256 + 127

// quantiseWide writes x = scale * (256 * high + low) as two records a block, each
// with the scale that its own codes want.
func quantiseWide(high, low []byte, x []float32, order *[block]uint8) {
	for ; len(x) > 0; high, low, x = high[record:], low[record:], x[block:] {
		var top uint32
		for _, v := range x[:block] {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		absmax := math.Float32frombits(top)
		scale, inverse := absmax/wideMax, wideMax/absmax
		switch {
		case top >= 0x7f800000: // infinity; NaNs lie above
			scale, inverse = float32(math.NaN()), 0
		case absmax < tiny:
			scale, inverse = 0, 0
		}
		highSum, lowSum := int32(0), int32(0)
		for p, i := range order {
			code := int32(0)
			if inverse != 0 {
				code = int32(math.RoundToEven(float64(x[i] * inverse)))
			}
			l := int32(int8(code))
			h := (code - l) >> 8
			high[p], low[p] = byte(h), byte(l)
			highSum, lowSum = highSum+h, lowSum+l
		}
		for _, r := range [...]struct {
			to    []byte
			scale float32
			sum   int32
		}{{high, 256 * scale, highSum}, {low, scale, lowSum}} {
			binary.LittleEndian.PutUint32(r.to[scaleAt:], math.Float32bits(r.scale))
			binary.LittleEndian.PutUint32(r.to[sumAt:], uint32(r.sum))
		}
	}
}

// planes returns the rows of 8-bit codes that rows are made of.
func (c *Codes) planes(rows []int32, s *Scratch) []int32 {
	if !c.wide {
		return rows
	}
	planes := s.planes[:2*len(rows)]
	for i, r := range rows {
		planes[2*i], planes[2*i+1] = 2*r, 2*r+1
	}
	return planes
}

// join writes the products of rows r0 on: of 16 bits, those of high and of low
// bytes added.
func (c *Codes) join(out Rows, r0, n, width int, products []float32) {
	for i := 0; len(products) > 0; i++ {
		row := out.row(r0+i, n, n+width)
		copy(row, products[:width])
		products = products[width:]
		if c.wide {
			for j, low := range products[:width] {
				row[j] += low
			}
			products = products[width:]
		}
	}
}
