package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd/asm/emit"
)

// quantise writes a record for each 32 values: maxima by the bits of the
// magnitudes, as integers, so that infinities and NaNs come out on top.
func (g gen) quantise() {
	emit.Func(g.Context, g.name("quantise", 0), "func(dst []byte, x []float32, order *[32]uint8)", "writes a record for each 32 values; there is at least one. order is that of the codes within 16 bytes.")
	dst, x, left := g.ptr("dst"), g.ptr("x"), g.len("x")
	order, ones8, ones16, sign, lanes := g.vec(), g.splat(0x01010101), g.splat(0x00010001), g.splat(0x7fffffff), g.vec()
	g.VBROADCASTI128(at(g.num("order"), 0), order)
	// After packing, dword i of the codes holds values 4*(i%4*2 + i/4) on.
	index := g.XMM()
	wide := g.GP64()
	g.MOVQ(operand.U64(0x0703060205010400), wide)
	g.VMOVQ(wide, index)
	g.VPMOVZXBD(index, lanes)
	g.Label("next")
	v := g.vecs(4)
	top, t := g.vec(), g.vec()
	for i := range v {
		g.VMOVUPS(at(x, 32*i), v[i])
		if i == 0 {
			g.VPAND(sign, v[i], top)
			continue
		}
		g.VPAND(sign, v[i], t)
		g.VPMAXSD(t, top, top)
	}
	half, other := g.XMM(), g.XMM()
	g.VEXTRACTI128(imm(1), top, half)
	g.VPMAXSD(top.AsX(), half, half)
	g.VPSHUFD(imm(0x4e), half, other)
	g.VPMAXSD(other, half, half)
	g.VPSHUFD(operand.U8(0xb1), half, other)
	g.VPMAXSD(other, half, half)
	bits, scale, inverse := g.GP32(), g.XMM(), g.XMM()
	g.VMOVD(half, bits)
	g.VPXOR(scale, scale, scale)
	g.VPXOR(inverse, inverse, inverse)
	g.CMPL(bits, operand.U32(math.Float32bits(1e-30)))
	g.JB(operand.LabelRef("scaled"))
	g.constant(math.Float32bits(float32(math.NaN())), scale)
	g.CMPL(bits, operand.U32(0x7f800000))
	g.JAE(operand.LabelRef("poison"))
	g.constant(math.Float32bits(127), other)
	g.VDIVSS(other, half, scale)   // half / other
	g.VDIVSS(half, other, inverse) // other / half
	g.Label("scaled")
	many := g.vec()
	g.VBROADCASTSS(inverse, many)
	for i := range v {
		g.VMULPS(many, v[i], v[i])
		g.VCVTPS2DQ(v[i], v[i])
	}
	g.JMP(operand.LabelRef("pack"))
	g.Label("poison")
	for i := range v {
		g.VPXOR(v[i], v[i], v[i])
	}
	g.Label("pack")
	g.VPACKSSDW(v[1], v[0], v[0])
	g.VPACKSSDW(v[3], v[2], v[2])
	g.VPACKSSWB(v[2], v[0], v[0])
	g.VPERMD(v[0], lanes, v[0])
	g.VPSHUFB(order, v[0], v[0])
	g.VMOVDQU(v[0], at(dst, 0))
	g.VMOVSS(scale, at(dst, scaleAt))
	g.VPMADDUBSW(v[0], ones8, t) // signed, unsigned
	g.VPMADDWD(ones16, t, t)
	g.VEXTRACTI128(imm(1), t, half)
	g.VPADDD(t.AsX(), half, half)
	g.VPSHUFD(imm(0x4e), half, other)
	g.VPADDD(other, half, half)
	g.VPSHUFD(operand.U8(0xb1), half, other)
	g.VPADDD(other, half, half)
	g.VMOVD(half, at(dst, sumAt))
	g.ADDQ(imm(40), dst)
	g.ADDQ(imm(128), x)
	g.SUBQ(imm(32), left)
	g.JNZ(operand.LabelRef("next"))
	g.VZEROUPPER()
	g.RET()
}

// constant sets the low lane.
func (g gen) constant(bits uint32, x reg.VecVirtual) {
	r := g.GP32()
	g.MOVL(operand.U32(bits), r)
	g.VMOVD(r, x)
}
