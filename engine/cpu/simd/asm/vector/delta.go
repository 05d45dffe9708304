package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
)

// delta emits the two passes of the delta rule's step over a block of columns
// of the state, whose rows lie stride floats apart.
func (s isa) delta() {
	write := 4 // three vectors a column block: change, output, state
	if s.bytes == 64 {
		write = 8
	}
	for _, width := range []int{8, 1} {
		s.deltaRead(width)
	}
	for _, width := range []int{write, 1} {
		s.deltaWrite(width)
	}
}

func (s isa) deltaRead(width int) {
	s.begin(fmt.Sprintf("deltaRead%d", width), "func(dst, state, k *float32, rows, stride int)",
		fmt.Sprintf("computes dst = S^T k for %d vectors of columns.", width))
	dst, state, k, rows, stride := s.gp("dst"), s.gp("state"), s.gp("k"), s.gp("rows"), s.stride("stride")
	acc := s.vectors(width)
	for _, v := range acc {
		s.zero(v)
	}
	ahead := s.GP64() // whole rows, of which other blocks of columns read the rest
	s.MOVQ(stride, ahead)
	s.SHLQ(operand.Imm(4), ahead)
	s.Label("next")
	ki := s.vector()
	s.VBROADCASTSS(at(k, 0), ki)
	for disp := 0; width > 1 && disp < 512; disp += 64 {
		s.PREFETCHT0(operand.Mem{Base: state, Index: ahead, Scale: 1, Disp: disp})
	}
	for i, v := range acc {
		s.VFMADD231PS(at(state, i*s.bytes), ki, v)
	}
	s.ADDQ(operand.Imm(4), k)
	s.ADDQ(stride, state)
	s.DECQ(rows)
	s.JNZ(operand.LabelRef("next"))
	for i, v := range acc {
		s.VMOVUPS(v, at(dst, i*s.bytes))
	}
	s.end()
}

func (s isa) deltaWrite(width int) {
	s.begin(fmt.Sprintf("deltaWrite%d", width), "func(dst, state, k, q, change *float32, rows, stride int, decay float32)",
		fmt.Sprintf("computes S = decay*S + k change^T and dst = S^T q for %d vectors of columns.", width))
	dst, state, k, q, rows, stride := s.gp("dst"), s.gp("state"), s.gp("k"), s.gp("q"), s.gp("rows"), s.stride("stride")
	decay, from := s.spread("decay"), s.gp("change")
	acc, change := s.vectors(width), s.vectors(width)
	for i := range acc {
		s.zero(acc[i])
		s.VMOVUPS(at(from, i*s.bytes), change[i])
	}
	s.Label("next")
	ki, qi := s.vector(), s.vector()
	s.VBROADCASTSS(at(k, 0), ki)
	s.VBROADCASTSS(at(q, 0), qi)
	for i := range acc {
		v := s.vector()
		s.VMULPS(at(state, i*s.bytes), decay, v)
		s.VFMADD231PS(change[i], ki, v)
		s.VMOVUPS(v, at(state, i*s.bytes))
		s.VFMADD231PS(v, qi, acc[i])
	}
	s.ADDQ(operand.Imm(4), k)
	s.ADDQ(operand.Imm(4), q)
	s.ADDQ(stride, state)
	s.DECQ(rows)
	s.JNZ(operand.LabelRef("next"))
	for i, v := range acc {
		s.VMOVUPS(v, at(dst, i*s.bytes))
	}
	s.end()
}
