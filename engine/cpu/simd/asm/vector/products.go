package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// products emits the inner blocks of small matrix products. Whatever the number
// of rows in a block, an element is one sum in the order of k.
func (s isa) products() {
	rows, keys := []int{4, 1}, 2
	if s.bytes == 64 {
		rows, keys = []int{8, 4, 1}, 4
	}
	for _, r := range rows {
		s.gemm(r)
	}
	for _, r := range []int{4, 1} {
		for _, j := range []int{keys, 1} {
			s.gemmT(r, j)
		}
	}
}

// operands addresses up to eight rows from base by their stride.
type operands struct {
	stride, triple reg.GPVirtual
	base, base4    reg.GPVirtual
}

func (o operands) row(i, disp int) operand.Mem {
	base := o.base
	if i >= 4 {
		base = o.base4
	}
	switch i % 4 {
	case 0:
		return operand.Mem{Base: base, Disp: disp}
	case 3:
		return operand.Mem{Base: base, Index: o.triple, Scale: 1, Disp: disp}
	default:
		return operand.Mem{Base: base, Index: o.stride, Scale: uint8(i % 4), Disp: disp}
	}
}

// gemm adds A[rows, k] B[k, n] to C[rows, n], two vectors of columns at a time.
// The values of a row of A lie ka floats apart.
func (s isa) gemm(rows int) {
	s.begin(fmt.Sprintf("gemm%d", rows), "func(c, a, b *float32, n, k, ldc, lda, ka, ldb int)", fmt.Sprintf("computes C[%d, n] += A[%[1]d, k] B[k, n]. n is a multiple of two vectors; k is positive.", rows))
	c, b, n := s.gp("c"), s.gp("b"), s.gp("n")
	ldc, ldb, ka := s.stride("ldc"), s.stride("ldb"), s.stride("ka")
	a := operands{stride: s.stride("lda"), base: s.GP64()}
	if rows >= 4 {
		a.triple = s.times3(a.stride)
	}
	if rows > 4 {
		a.base4 = s.GP64()
	}
	acc := s.vectors(2 * rows)
	bp, k := s.GP64(), s.GP64()

	s.Label("panel")
	s.Load(s.Param("a"), a.base)
	s.Load(s.Param("k"), k)
	if rows > 4 {
		s.LEAQ(operand.Mem{Base: a.base, Index: a.stride, Scale: 4}, a.base4)
	}
	s.MOVQ(b, bp)
	for _, v := range acc {
		s.zero(v)
	}
	s.Label("inner")
	b0, b1 := s.vector(), s.vector()
	s.VMOVUPS(at(bp, 0), b0)
	s.VMOVUPS(at(bp, s.bytes), b1)
	for line := 0; line < 2*s.bytes; line += 64 { // the strip of columns that comes next, four panels on for AVX2
		s.PREFETCHT0(at(bp, 256+line))
	}
	for i := range rows {
		v := s.vector()
		s.VBROADCASTSS(a.row(i, 0), v)
		s.VFMADD231PS(b0, v, acc[2*i])
		s.VFMADD231PS(b1, v, acc[2*i+1])
	}
	s.ADDQ(ldb, bp)
	s.ADDQ(ka, a.base)
	if rows > 4 {
		s.ADDQ(ka, a.base4)
	}
	s.DECQ(k)
	s.JNZ(operand.LabelRef("inner"))

	cp := s.GP64()
	s.MOVQ(c, cp)
	for i := range rows {
		for j := range 2 {
			s.VADDPS(at(cp, j*s.bytes), acc[2*i+j], acc[2*i+j])
			s.VMOVUPS(acc[2*i+j], at(cp, j*s.bytes))
		}
		if i < rows-1 {
			s.ADDQ(ldc, cp)
		}
	}
	s.ADDQ(operand.U32(2*s.bytes), b)
	s.ADDQ(operand.U32(2*s.bytes), c)
	s.SUBQ(operand.U32(2*s.lanes()), n)
	s.JNZ(operand.LabelRef("panel"))
	s.end()
}

// gemmT computes products of rows with rows: lanes are along k, and each
// element is one vector of sums, added across at the end.
func (s isa) gemmT(rows, keys int) {
	s.begin(fmt.Sprintf("gemmT%dx%d", rows, keys), "func(c, a, b *float32, n, k, ldc, lda, ldb int)", fmt.Sprintf("computes C[%d, n] = A[%[1]d, k] B[n, k]^T. n is a positive multiple of %d and k of the lanes.", rows, keys))
	c, n, ldc := s.gp("c"), s.gp("n"), s.stride("ldc")
	a := operands{stride: s.stride("lda"), base: s.GP64()}
	if rows == 4 {
		a.triple = s.times3(a.stride)
	}
	b := operands{stride: s.stride("ldb"), base: s.GP64()}
	if keys == 4 {
		b.triple = s.times3(b.stride)
	}
	bp, k, ahead := s.gp("b"), s.GP64(), s.GP64()
	acc := s.vectors(rows * keys)

	s.Label("keys")
	s.Load(s.Param("a"), a.base)
	s.Load(s.Param("k"), k)
	s.MOVQ(bp, b.base)
	if rows > 1 { // the rows that come next, when they follow one another
		s.MOVQ(b.stride, ahead)
		s.SHLQ(operand.Imm(4), ahead)
		s.ADDQ(bp, ahead)
	}
	for _, v := range acc {
		s.zero(v)
	}
	s.Label("inner")
	bv := s.vectors(keys)
	for j, v := range bv {
		s.VMOVUPS(b.row(j, 0), v)
	}
	if rows > 1 {
		for line := 0; line < keys*s.bytes; line += 64 {
			s.PREFETCHT0(at(ahead, line))
		}
		s.ADDQ(operand.U32(keys*s.bytes), ahead)
	}
	for i := range rows {
		v := s.vector()
		s.VMOVUPS(a.row(i, 0), v)
		for j := range keys {
			s.VFMADD231PS(bv[j], v, acc[i*keys+j])
		}
	}
	s.ADDQ(operand.U32(s.bytes), a.base)
	s.ADDQ(operand.U32(s.bytes), b.base)
	s.SUBQ(operand.U32(s.lanes()), k)
	s.JNZ(operand.LabelRef("inner"))

	cp := s.GP64()
	s.MOVQ(c, cp)
	for i := 0; i < rows; i++ {
		if keys == 2 && rows > 1 { // two rows of AVX2 at once
			x := s.sums4(acc[i*keys:])
			s.VMOVLPS(x, at(cp, 0))
			s.ADDQ(ldc, cp)
			s.VMOVHPS(x, at(cp, 0))
			i++
		} else {
			for j := range keys {
				s.VMOVSS(s.sum(acc[i*keys+j]), at(cp, 4*j))
			}
		}
		if i < rows-1 {
			s.ADDQ(ldc, cp)
		}
	}
	s.ADDQ(operand.U32(4*keys), c)
	for range keys {
		s.ADDQ(b.stride, bp)
	}
	s.SUBQ(operand.U32(keys), n)
	s.JNZ(operand.LabelRef("keys"))
	s.end()
}
