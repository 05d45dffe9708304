package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convolve emits one token of a causal convolution of four taps, AVX2 alone:
// it is bound by shuffles. The window has three values a channel, oldest first:
// of 24 values, value i is in lane i%8, and no two of one age share a lane. So
// blends gather those of an age, and a permutation sorts them by channel.
func (s isa) convolve() {
	indices := s.StaticGlobal("agesTable") // by age: lane of each channel; then channel of each lane
	s.DataAttributes(attr.RODATA | attr.NOPTR)
	var table [6][8]int
	for age := range 3 {
		for channel := range 8 {
			lane := (3*channel + age) % 8
			table[age][channel], table[3+age][lane] = lane, channel
		}
	}
	for i, row := range table {
		for j, v := range row {
			s.AddDatum(32*i+4*j, operand.U32(v))
		}
	}
	s.begin("convolve4", "func(y, window, x, taps *float32, n, stride int)", "computes y of four taps, whose rows lie stride floats apart, and moves x into the window."+whole)
	y, window, x, n := s.gp("y"), s.gp("window"), s.gp("x"), s.gp("n")
	taps := operands{stride: s.stride("stride"), base: s.gp("taps")}
	taps.triple = s.times3(taps.stride)
	permute := s.vectors(6)
	for i, v := range permute {
		s.VMOVUPS(indices.Offset(32*i), v)
	}
	s.Label("next")
	values := s.vectors(3)
	for i, v := range values {
		s.VMOVUPS(at(window, 32*i), v)
	}
	aged := s.vectors(4)
	for age := range 3 {
		s.blend3(values, aged[age], func(lane int) (i int) { // the vector whose value in this lane has the age
			for (8*i+lane)%3 != age {
				i++
			}
			return i
		})
		s.VPERMPS(aged[age], permute[age], aged[age])
	}
	s.VMOVUPS(at(x, 0), aged[3])
	sum := s.vector()
	s.VMULPS(taps.row(0, 0), aged[0], sum)
	for i := 1; i < 4; i++ {
		s.VFMADD231PS(taps.row(i, 0), aged[i], sum)
	}
	s.VMOVUPS(sum, at(y, 0))
	for age := range 3 {
		s.VPERMPS(aged[age+1], permute[3+age], aged[age+1])
	}
	for i, v := range values {
		s.blend3(aged[1:], v, func(lane int) int { return (8*i + lane) % 3 })
		s.VMOVUPS(v, at(window, 32*i))
	}
	for _, p := range []reg.Register{y, x, taps.base} {
		s.ADDQ(operand.Imm(32), p)
	}
	s.ADDQ(operand.Imm(96), window)
	s.SUBQ(operand.Imm(8), n)
	s.JNZ(operand.LabelRef("next"))
	s.end()
}

// blend3 takes each lane from one of three vectors.
func (s isa) blend3(from []reg.VecVirtual, dst reg.VecVirtual, pick func(lane int) int) {
	var mask [3]uint64
	for lane := range 8 {
		mask[pick(lane)] |= 1 << lane
	}
	s.VBLENDPS(operand.Imm(mask[1]), from[1], from[0], dst)
	s.VBLENDPS(operand.Imm(mask[2]), from[2], dst, dst)
}
