package main

import "github.com/mmcloughlin/avo/reg"

const whole = " n is a multiple of the lanes."

func (s isa) elementwise() {
	s.begin("dot", "func(x, y *float32, n int) float32", "returns the sum of x[i]*y[i], in four strands of vectors."+whole)
	x, y, n := s.gp("x"), s.gp("y"), s.gp("n")
	strand, v := s.vectors(4), s.vectors(4)
	for _, a := range strand {
		s.zero(a)
	}
	s.walk(n, []reg.GPVirtual{x, y}, func(i, disp int) {
		s.VMOVUPS(at(x, disp), v[i])
		s.VFMADD231PS(at(y, disp), v[i], strand[i])
	})
	s.VADDPS(strand[1], strand[0], strand[0])
	s.VADDPS(strand[3], strand[2], strand[2])
	s.VADDPS(strand[2], strand[0], strand[0])
	s.endWith(s.sum(strand[0]))

	s.begin("axpy", "func(y, x *float32, n int, a float32)", "computes y += a*x."+whole)
	x, y, n = s.gp("x"), s.gp("y"), s.gp("n")
	a := s.spread("a")
	s.walk(n, []reg.GPVirtual{x, y}, func(_, disp int) {
		v := s.vector()
		s.VMOVUPS(at(y, disp), v)
		s.VFMADD231PS(at(x, disp), a, v)
		s.VMOVUPS(v, at(y, disp))
	})
	s.end()

	s.begin("scale", "func(y *float32, n int, a float32)", "computes y *= a."+whole)
	y, n = s.gp("y"), s.gp("n")
	a = s.spread("a")
	s.walk(n, []reg.GPVirtual{y}, func(_, disp int) {
		v := s.vector()
		s.VMULPS(at(y, disp), a, v)
		s.VMOVUPS(v, at(y, disp))
	})
	s.end()

	s.begin("mul", "func(y, x *float32, n int)", "computes y *= x."+whole)
	x, y, n = s.gp("x"), s.gp("y"), s.gp("n")
	s.walk(n, []reg.GPVirtual{x, y}, func(_, disp int) {
		v := s.vector()
		s.VMOVUPS(at(y, disp), v)
		s.VMULPS(at(x, disp), v, v)
		s.VMOVUPS(v, at(y, disp))
	})
	s.end()

	s.begin("norm", "func(dst, x, w *float32, n int, scale, offset float32)", "computes dst = x * scale * (offset + w)."+whole)
	dst, x, w, n := s.gp("dst"), s.gp("x"), s.gp("w"), s.gp("n")
	scale, offset := s.spread("scale"), s.spread("offset")
	s.walk(n, []reg.GPVirtual{dst, x, w}, func(_, disp int) {
		v, u := s.vector(), s.vector()
		s.VMULPS(at(x, disp), scale, v)
		s.VADDPS(at(w, disp), offset, u)
		s.VMULPS(u, v, v)
		s.VMOVUPS(v, at(dst, disp))
	})
	s.end()
}
