// Command vocab generates the kernels that walk a row of logits.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd/asm/emit"
)

func main() {
	c := build.NewContext()
	data(c)
	maximum(c)
	peaks(c)
	sumExp2(c, "sumExpAVX2", false)
	sumExp2(c, "sumExpXAVX2", true)
	sumExp512(c, "sumExpAVX512", false)
	sumExp512(c, "sumExpXAVX512", true)
	atLeast2(c)
	atLeast512(c)
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
	c.Store(across(c, strand), c.ReturnIndex(0))
	c.VZEROUPPER()
	c.RET()
}

// across returns the largest of all lanes of four registers, in lane 0.
func across(c *build.Context, strand [4]reg.VecVirtual) reg.VecVirtual {
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
	return half
}

// peaks is bound by the reads, so one width is enough.
func peaks(c *build.Context) {
	emit.Func(c, "peaksAVX2", "func(peaks, x *float32, blocks int)", "writes the largest of each 64 values of x; blocks is positive.")
	peaks := c.Load(c.Param("peaks"), c.GP64())
	x := c.Load(c.Param("x"), c.GP64())
	blocks := c.Load(c.Param("blocks"), c.GP64())
	c.Label("next")
	var strand [4]reg.VecVirtual
	for i := range strand {
		strand[i] = c.YMM()
		c.VMOVUPS(operand.Mem{Base: x, Disp: 32 * i}, strand[i])
	}
	for i := range strand {
		c.VMAXPS(operand.Mem{Base: x, Disp: 128 + 32*i}, strand[i], strand[i])
	}
	c.VMOVSS(across(c, strand), operand.Mem{Base: peaks})
	c.ADDQ(operand.U32(256), x)
	c.ADDQ(operand.Imm(4), peaks)
	c.DECQ(blocks)
	c.JNZ(operand.LabelRef("next"))
	c.VZEROUPPER()
	c.RET()
}

// Constants of exp, in this order, each eight times over to fill a register. The
// polynomial is that of Cephes' expf: e^r = 1 + r + r^2 (p5 + r (p4 + ...)) for
// |r| <= ln 2 / 2.
const (
	lowest = iota // a lower argument counts as this: 2^n stays a normal number
	log2e         // argument / ln 2, rounded, is the power of two
	ln2Hi         // ln 2 in two parts, the first short, so that n*ln2Hi is exact
	ln2Lo
	p0
	p1
	p2
	p3
	p4
	p5
	one
	constants
)

var table, lanes operand.Mem

func data(c *build.Context) {
	table = c.StaticGlobal("expTable")
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	for _, v := range [constants]float32{
		lowest: -87, log2e: math.Log2E, ln2Hi: 0.693359375, ln2Lo: -2.12194440e-4,
		p0: 1.9875691500e-4, p1: 1.3981999507e-3, p2: 8.3334519073e-3, p3: 4.1665795894e-2, p4: 1.6666665459e-1, p5: 5.0000001201e-1,
		one: 1,
	} {
		for range 8 {
			c.AppendDatum(operand.F32(v))
		}
	}
	lanes = c.StaticGlobal("lanes")
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range 16 {
		c.AppendDatum(operand.U32(i))
	}
}

func constant(i int) operand.Mem { return table.Offset(32 * i) }

// broadcast loads a float32 parameter into every lane.
func broadcast(c *build.Context, name string, r reg.VecVirtual) reg.VecVirtual {
	at, err := c.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	c.VBROADCASTSS(at.Addr, r)
	return r
}

// begin opens a sum of exp, with or without the sum of y exp(y) beside it.
func begin(c *build.Context, name string, moment bool) {
	results, doc := "float64", "returns the sum of exp(y)"
	if moment {
		results, doc = "(sum, moment float64)", "returns the sums of exp(y) and y*exp(y)"
	}
	emit.Func(c, name, "func(x *float32, n int, top, scale float32) "+results, doc+" over y = (x-top)*scale; n is a positive multiple of 16.")
}

// sumExp2 takes 16 values a step, in two halves that overlap.
func sumExp2(c *build.Context, name string, moment bool) {
	begin(c, name, moment)
	x := c.Load(c.Param("x"), c.GP64())
	n := c.Load(c.Param("n"), c.GP64())
	top, scale := broadcast(c, "top", c.YMM()), broadcast(c, "scale", c.YMM())
	low := c.YMM()
	c.VMOVUPS(constant(lowest), low)
	var sum [4]reg.VecVirtual // of the lower and upper lanes; then their moments
	for i := range sum {
		sum[i] = c.YMM()
		c.VXORPD(sum[i], sum[i], sum[i])
	}
	accumulate := func(y reg.VecVirtual, lower, upper reg.VecVirtual) {
		wide, half := c.YMM(), c.XMM()
		c.VCVTPS2PD(y.AsX(), wide)
		c.VADDPD(wide, lower, lower)
		c.VEXTRACTF128(operand.Imm(1), y, half)
		c.VCVTPS2PD(half, wide)
		c.VADDPD(wide, upper, upper)
	}
	c.Label("next")
	for half := range 2 {
		r := c.YMM()
		c.VMOVUPS(operand.Mem{Base: x, Disp: 32 * half}, r)
		c.VSUBPS(top, r, r)
		c.VMULPS(scale, r, r)
		c.VMAXPS(r, low, r) // as the second source a NaN goes through
		argument := c.YMM()
		if moment {
			c.VMOVAPS(r, argument)
		}
		power := c.YMM()
		c.VMULPS(constant(log2e), r, power)
		c.VROUNDPS(operand.Imm(0), power, power)
		c.VFNMADD231PS(constant(ln2Hi), power, r)
		c.VFNMADD231PS(constant(ln2Lo), power, r)
		y := c.YMM()
		c.VMOVUPS(constant(p0), y)
		for p := p1; p <= p5; p++ {
			c.VFMADD213PS(constant(p), r, y)
		}
		square := c.YMM()
		c.VMULPS(r, r, square)
		c.VADDPS(constant(one), r, r)
		c.VFMADD213PS(r, square, y)
		c.VCVTPS2DQ(power, power)
		c.VPSLLD(operand.Imm(23), power, power)
		c.VPADDD(power, y, y)
		accumulate(y, sum[0], sum[1])
		if moment {
			c.VMULPS(argument, y, y)
			accumulate(y, sum[2], sum[3])
		}
	}
	c.ADDQ(operand.Imm(64), x)
	c.SUBQ(operand.Imm(16), n)
	c.JNZ(operand.LabelRef("next"))
	c.VADDPD(sum[1], sum[0], sum[0])
	total(c, sum[0], 0)
	if moment {
		c.VADDPD(sum[3], sum[2], sum[2])
		total(c, sum[2], 1)
	}
	c.VZEROUPPER()
	c.RET()
}

// total makes the sum of four float64 lanes a result.
func total(c *build.Context, sum reg.VecVirtual, result int) {
	upper := c.XMM()
	c.VEXTRACTF128(operand.Imm(1), sum, upper)
	c.VADDPD(sum.AsX(), upper, upper)
	other := c.XMM()
	c.VPERMILPD(operand.Imm(1), upper, other)
	c.VADDSD(other, upper, upper)
	c.Store(upper, c.ReturnIndex(result))
}

// sumExp512 takes 16 values a step.
func sumExp512(c *build.Context, name string, moment bool) {
	begin(c, name, moment)
	x := c.Load(c.Param("x"), c.GP64())
	n := c.Load(c.Param("n"), c.GP64())
	top, scale := broadcast(c, "top", c.ZMM()), broadcast(c, "scale", c.ZMM())
	var k [constants]reg.VecVirtual
	for i := range k {
		k[i] = c.ZMM()
		c.VBROADCASTSS(constant(i), k[i])
	}
	var sum [4]reg.VecVirtual // of the lower and upper lanes; then their moments
	for i := range sum {
		sum[i] = c.ZMM()
		c.VPXORD(sum[i], sum[i], sum[i])
	}
	r, power, y, square, argument := c.ZMM(), c.ZMM(), c.ZMM(), c.ZMM(), c.ZMM()
	accumulate := func(lower, upper reg.VecVirtual) {
		wide, half := c.ZMM(), c.YMM()
		c.VCVTPS2PD(y.AsY(), wide)
		c.VADDPD(wide, lower, lower)
		c.VEXTRACTF64X4(operand.Imm(1), y, half)
		c.VCVTPS2PD(half, wide)
		c.VADDPD(wide, upper, upper)
	}
	c.Label("next")
	c.VMOVUPS(operand.Mem{Base: x}, r)
	c.VSUBPS(top, r, r)
	c.VMULPS(scale, r, r)
	c.VMAXPS(r, k[lowest], r) // as the second source a NaN goes through
	if moment {
		c.VMOVAPS(r, argument)
	}
	c.VMULPS(k[log2e], r, power)
	c.VRNDSCALEPS(operand.Imm(0), power, power)
	c.VFNMADD231PS(k[ln2Hi], power, r)
	c.VFNMADD231PS(k[ln2Lo], power, r)
	c.VMOVAPS(k[p0], y)
	for p := p1; p <= p5; p++ {
		c.VFMADD213PS(k[p], r, y)
	}
	c.VMULPS(r, r, square)
	c.VADDPS(k[one], r, r)
	c.VFMADD213PS(r, square, y)
	c.VSCALEFPS(power, y, y)
	accumulate(sum[0], sum[1])
	if moment {
		c.VMULPS(argument, y, y)
		accumulate(sum[2], sum[3])
	}
	c.ADDQ(operand.Imm(64), x)
	c.SUBQ(operand.Imm(16), n)
	c.JNZ(operand.LabelRef("next"))
	for result := 0; result == 0 || moment && result == 1; result++ {
		lower, half := sum[2*result], c.YMM()
		c.VADDPD(sum[2*result+1], lower, lower)
		c.VEXTRACTF64X4(operand.Imm(1), lower, half)
		c.VADDPD(lower.AsY(), half, half)
		total(c, half, result)
	}
	c.VZEROUPPER()
	c.RET()
}

// ordered is VCMPPS's "less or equal, false for NaN, quiet".
const ordered = 0x12

// atLeast2 looks at 32 values a step. Nearly always none qualifies, so those
// that do are written one by one.
func atLeast2(c *build.Context) {
	emit.Func(c, "atLeastAVX2", "func(ids *int32, x *float32, n int, floor float32) int", "writes the indices of values >= floor and returns how many; n is a positive multiple of 32.")
	ids := c.Load(c.Param("ids"), c.GP64())
	x := c.Load(c.Param("x"), c.GP64())
	n := c.Load(c.Param("n"), c.GP64())
	floor := broadcast(c, "floor", c.YMM())
	at, found := c.GP64(), c.GP64()
	c.XORQ(at, at)
	c.XORQ(found, found)
	c.Label("next")
	var pass [4]reg.VecVirtual
	for i := range pass {
		pass[i] = c.YMM()
		c.VCMPPS(operand.Imm(ordered), operand.Mem{Base: x, Index: at, Scale: 4, Disp: 32 * i}, floor, pass[i])
	}
	some, more := c.YMM(), c.YMM()
	c.VORPS(pass[0], pass[1], some)
	c.VORPS(pass[2], pass[3], more)
	c.VORPS(some, more, some)
	c.VPTEST(some, some)
	c.JZ(operand.LabelRef("none"))
	bits, part := c.GP32(), c.GP32()
	c.VMOVMSKPS(pass[3], bits)
	for i := 2; i >= 0; i-- {
		c.SHLL(operand.Imm(8), bits)
		c.VMOVMSKPS(pass[i], part)
		c.ORL(part, bits)
	}
	c.Label("write")
	lane, rest := c.GP32(), c.GP32()
	c.BSFL(bits, lane)
	c.ADDL(at.As32(), lane)
	c.MOVL(lane, operand.Mem{Base: ids, Index: found, Scale: 4})
	c.INCQ(found)
	c.LEAL(operand.Mem{Base: bits.As64(), Disp: -1}, rest)
	c.ANDL(rest, bits)
	c.JNZ(operand.LabelRef("write"))
	c.Label("none")
	c.ADDQ(operand.Imm(32), at)
	c.CMPQ(at, n)
	c.JLT(operand.LabelRef("next"))
	c.Store(found, c.ReturnIndex(0))
	c.VZEROUPPER()
	c.RET()
}

// atLeast512 compresses 16 ids a step. It stores all lanes: what lies behind the
// found ones is no more than what was looked at, and is written again later.
func atLeast512(c *build.Context) {
	emit.Func(c, "atLeastAVX512", "func(ids *int32, x *float32, n int, floor float32) int", "writes the indices of values >= floor and returns how many; n is a positive multiple of 16; ids has room for n.")
	ids := c.Load(c.Param("ids"), c.GP64())
	x := c.Load(c.Param("x"), c.GP64())
	n := c.Load(c.Param("n"), c.GP64())
	floor := broadcast(c, "floor", c.ZMM())
	lane, step, packed := c.ZMM(), c.ZMM(), c.ZMM()
	c.VMOVDQU32(lanes, lane)
	sixteen := c.GP32()
	c.MOVL(operand.U32(16), sixteen)
	c.VPBROADCASTD(sixteen, step)
	bits := c.GP32()
	pass := c.K()
	c.Label("next")
	c.VCMPPS(operand.Imm(ordered), operand.Mem{Base: x}, floor, pass)
	c.KMOVW(pass, bits)
	c.TESTL(bits, bits)
	c.JZ(operand.LabelRef("none"))
	c.VPCOMPRESSD_Z(lane, pass, packed)
	c.VMOVDQU32(packed, operand.Mem{Base: ids})
	c.POPCNTL(bits, bits)
	c.LEAQ(operand.Mem{Base: ids, Index: bits.As64(), Scale: 4}, ids)
	c.Label("none")
	c.VPADDD(step, lane, lane)
	c.ADDQ(operand.Imm(64), x)
	c.SUBQ(operand.Imm(16), n)
	c.JNZ(operand.LabelRef("next"))
	first := c.Load(c.Param("ids"), c.GP64())
	c.SUBQ(first, ids)
	c.SHRQ(operand.Imm(2), ids)
	c.Store(ids, c.ReturnIndex(0))
	c.VZEROUPPER()
	c.RET()
}
