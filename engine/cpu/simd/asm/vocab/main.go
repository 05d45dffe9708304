// Command vocab generates the kernels that walk a row of logits.
package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd/asm/emit"
)

func main() {
	c := build.NewContext()
	maximum(c)
	emit.Files(c, "vocab")
}

// maximum keeps four strands of eight maxima: a step of 32 values.
func maximum(c *build.Context) {
	emit.Func(c, "maxAVX2", "func(x *float32, n int) float32", "returns the largest of n values; n is a positive multiple of 32.")
	x := c.Load(c.Param("x"), c.GP64())
	n := c.Load(c.Param("n"), c.GP64())
	var strand [4]reg.VecVirtual
	for i := range strand {
		strand[i] = c.YMM()
		c.VMOVUPS(operand.Mem{Base: x, Disp: 32 * i}, strand[i])
	}
	c.Label("next")
	for i := range strand {
		c.VMAXPS(operand.Mem{Base: x, Disp: 32 * i}, strand[i], strand[i])
	}
	c.ADDQ(operand.Imm(128), x)
	c.SUBQ(operand.Imm(32), n)
	c.JNZ(operand.LabelRef("next"))
	c.VMAXPS(strand[1], strand[0], strand[0])
	c.VMAXPS(strand[3], strand[2], strand[2])
	c.VMAXPS(strand[2], strand[0], strand[0])
	half := c.XMM()
	c.VEXTRACTF128(operand.Imm(1), strand[0], half)
	c.VMAXPS(strand[0].AsX(), half, half)
	other := c.XMM()
	c.VMOVHLPS(half, half, other)
	c.VMAXPS(other, half, half)
	c.VMOVSHDUP(half, other)
	c.VMAXSS(other, half, half)
	c.Store(half, c.ReturnIndex(0))
	c.VZEROUPPER()
	c.RET()
}
