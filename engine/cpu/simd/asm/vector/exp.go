package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Rows of the table of constants, 16 lanes each: e^x = 2^n * e^r with
// n = round(x log2 e), and e^r on [-ln2/2, ln2/2] by the polynomial of the
// Cephes library (S. Moshier, expf.c). ln2 is in two parts, so that n times the
// first is exact.
const (
	top    = iota // beyond it the result is Inf
	bottom        // below -103.97 the result rounds to 0
	log2e
	ln2High
	ln2Low
	one
	bias
	poly // coefficients of r^7 ... r^2
)

func expTable(c *build.Context) operand.Mem {
	table := c.StaticGlobal("expTable")
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	at := 0
	row := func(value operand.Constant) {
		for range 16 {
			c.AddDatum(at, value)
			at += 4
		}
	}
	for _, value := range []float32{90, -105, 1.44269504088896341, 0.693359375, -2.12194440e-4, 1} {
		row(operand.F32(value))
	}
	row(operand.U32(127))
	for _, value := range []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		row(operand.F32(value))
	}
	return table
}

// exponential holds what a loop of exponentials keeps in registers.
type exponential struct {
	isa
	table       operand.Mem
	top, bottom reg.VecVirtual
}

func (s isa) exponential(table operand.Mem) exponential {
	e := exponential{s, table, s.vector(), s.vector()}
	s.VMOVUPS(e.at(top), e.top)
	s.VMOVUPS(e.at(bottom), e.bottom)
	return e
}

func (e exponential) at(row int) operand.Mem { return e.table.Offset(64 * row) }

// of replaces x by e^x; NaN stays NaN: both clamps return their last operand
// (the first in this notation) when one is NaN.
func (e exponential) of(x reg.VecVirtual) {
	n, p := e.vector(), e.vector()
	e.VMINPS(x, e.top, x)
	e.VMAXPS(x, e.bottom, x)
	e.VMULPS(e.at(log2e), x, n)
	if e.bytes == 64 {
		e.VRNDSCALEPS(operand.Imm(0), n, n)
	} else {
		e.VROUNDPS(operand.Imm(0), n, n)
	}
	e.VFNMADD231PS(e.at(ln2High), n, x)
	e.VFNMADD231PS(e.at(ln2Low), n, x)
	e.VMOVUPS(e.at(poly), p)
	for i := 1; i < 6; i++ {
		e.VFMADD213PS(e.at(poly+i), x, p)
	}
	e.VFMADD213PS(e.at(one), x, p)
	e.VFMADD213PS(e.at(one), x, p)
	if e.bytes == 64 {
		e.VSCALEFPS(n, p, x)
		return
	}
	half := e.vector() // 2^n in two factors: one alone would leave the exponent's range
	e.VCVTPS2DQ(n, n)
	e.VPSRAD(operand.Imm(1), n, half)
	e.VPSUBD(half, n, n)
	for _, v := range []reg.VecVirtual{half, n} {
		e.VPADDD(e.at(bias), v, v)
		e.VPSLLD(operand.Imm(23), v, v)
		e.VMULPS(v, p, p)
	}
	e.VMOVAPS(p, x)
}

func (s isa) exponentials(table operand.Mem) {
	s.begin("exp", "func(dst, x *float32, n int, scale, shift float32) float32", "computes dst = e^(scale*(x-shift)) and returns its sum."+whole)
	dst, x, n := s.gp("dst"), s.gp("x"), s.gp("n")
	scale, shift := s.spread("scale"), s.spread("shift")
	e := s.exponential(table)
	sum := s.vector()
	s.zero(sum)
	s.walk(n, []reg.GPVirtual{dst, x}, func(_, disp int) {
		v := s.vector()
		s.VMOVUPS(at(x, disp), v)
		s.VSUBPS(shift, v, v)
		s.VMULPS(scale, v, v)
		e.of(v)
		s.VADDPS(v, sum, sum)
		s.VMOVUPS(v, at(dst, disp))
	})
	s.endWith(s.sum(sum))

	s.begin("gate", "func(dst, x, z *float32, n int)", "computes dst = x / (1 + e^-z)."+whole)
	s.sigmoid(table, func(v, e reg.VecVirtual, x operand.Mem) {
		s.VMOVUPS(x, v)
		s.VDIVPS(e, v, v)
	})
	s.begin("siluMul", "func(dst, x, z *float32, n int)", "computes dst = z / (1 + e^-z) * x."+whole)
	s.sigmoid(table, func(v, e reg.VecVirtual, x operand.Mem) {
		s.VDIVPS(e, v, v)
		s.VMULPS(x, v, v)
	})
}

// sigmoid walks over x and z; do is given z, 1 + e^-z and x, and leaves the
// result in the first.
func (s isa) sigmoid(table operand.Mem, do func(z, e reg.VecVirtual, x operand.Mem)) {
	dst, x, z, n := s.gp("dst"), s.gp("x"), s.gp("z"), s.gp("n")
	e := s.exponential(table)
	s.walk(n, []reg.GPVirtual{dst, x, z}, func(_, disp int) {
		v, w := s.vector(), s.vector()
		s.VMOVUPS(at(z, disp), v)
		s.zero(w)
		s.VSUBPS(v, w, w)
		e.of(w)
		s.VADDPS(e.at(one), w, w)
		do(v, w, at(x, disp))
		s.VMOVUPS(v, at(dst, disp))
	})
	s.end()
}
