// Command matrix generates the kernels of packed and dense matrices. Each is
// written once for vectors of 8 lanes (AVX2) and of 16 (AVX-512); a lane is a
// column. Operands stand in Go's order: sources first, destination last.
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd/asm/emit"
)

// What the callers fix: a tile's columns, and where a record of activations has
// its scale and its sum.
const (
	tileN   = 32
	scaleAt = 32
	sumAt   = 36
)

// gen is a build context with a vector width.
type gen struct {
	*build.Context
	lanes int
}

func main() {
	c := build.NewContext()
	for _, lanes := range []int{8, 16} {
		g := gen{c, lanes}
		for _, bits := range []int{2, 3, 4, 8} {
			if bits == 8 && lanes == 8 {
				g.fastBytes()
			} else {
				g.fast(bits)
			}
			g.exact(bits)
			g.unpack(bits)
		}
		for _, rows := range []int{1, 2, 4} {
			g.fma(rows)
		}
		g.settle()
		for _, kind := range []string{"F32", "F16", "BF16"} {
			g.dense(kind, "1", 1, 4)
			g.dense(kind, "4", 4, 2)
		}
		g.read()
	}
	gen{c, 8}.quantise()
	emit.Files(c, "matrix")
}

// name ends with the level, and with the bits where there are any.
func (g gen) name(stem string, bits int) string {
	if bits > 0 {
		stem += fmt.Sprint(bits)
	}
	return stem + map[int]string{8: "AVX2", 16: "AVX512"}[g.lanes]
}

func (g gen) vec() reg.VecVirtual {
	if g.lanes == 16 {
		return g.ZMM()
	}
	return g.YMM()
}

func (g gen) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = g.vec()
	}
	return v
}

// size is that of a vector in bytes.
func (g gen) size() int { return 4 * g.lanes }

func (g gen) ptr(name string) reg.GPVirtual {
	return g.Load(g.Param(name).Base(), g.GP64()).(reg.GPVirtual)
}
func (g gen) len(name string) reg.GPVirtual {
	return g.Load(g.Param(name).Len(), g.GP64()).(reg.GPVirtual)
}
func (g gen) num(name string) reg.GPVirtual { return g.Load(g.Param(name), g.GP64()).(reg.GPVirtual) }

func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func imm(n int) operand.Constant {
	if n < 128 {
		return operand.U8(uint8(n))
	}
	return operand.U32(uint32(n))
}

// splat fills a vector with a 32-bit constant.
func (g gen) splat(n uint32) reg.VecVirtual {
	r, x, v := g.GP32(), g.XMM(), g.vec()
	g.MOVL(operand.U32(n), r)
	g.VMOVD(r, x)
	g.VPBROADCASTD(x, v)
	return v
}

func (g gen) and(a operand.Op, b, dst reg.VecVirtual) {
	if g.lanes == 16 {
		g.VPANDD(a, b, dst)
	} else {
		g.VPAND(a, b, dst)
	}
}

func (g gen) or(a operand.Op, b, dst reg.VecVirtual) {
	if g.lanes == 16 {
		g.VPORD(a, b, dst)
	} else {
		g.VPOR(a, b, dst)
	}
}

func (g gen) xor(a operand.Op, b, dst reg.VecVirtual) {
	if g.lanes == 16 {
		g.VPXORD(a, b, dst)
	} else {
		g.VPXOR(a, b, dst)
	}
}

func (g gen) zero() reg.VecVirtual {
	v := g.vec()
	g.xor(v, v, v)
	return v
}

// right shifts by n bits, to the left when n is negative.
func (g gen) right(n int, src, dst reg.VecVirtual) {
	if n >= 0 {
		g.VPSRLD(imm(n), src, dst)
	} else {
		g.VPSLLD(imm(-n), src, dst)
	}
}

// wordRows returns the operands of the rows of words of a block.
func (g gen) wordRows(w, stride reg.GPVirtual, bits int) []operand.Mem {
	three := g.GP64()
	if bits > 2 {
		g.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, three)
	}
	var rows []operand.Mem
	base := w
	for i := range bits {
		if i == 4 {
			base = g.GP64()
			g.LEAQ(operand.Mem{Base: w, Index: stride, Scale: 4}, base)
		}
		switch i % 4 {
		case 0:
			rows = append(rows, operand.Mem{Base: base})
		case 3:
			rows = append(rows, operand.Mem{Base: base, Index: three, Scale: 1})
		default:
			rows = append(rows, operand.Mem{Base: base, Index: stride, Scale: uint8(i % 4)})
		}
	}
	return rows
}

// ahead prefetches the same columns of the next block: a tenth faster up to 4
// bits. The eight rows of 8 bits push more out than they bring: a quarter slower.
func (g gen) ahead(w, stride reg.GPVirtual, bits int) {
	if bits == 8 {
		return
	}
	p := g.GP64()
	g.LEAQ(operand.Mem{Base: w, Index: stride, Scale: uint8(min(bits, 2))}, p)
	for i := min(bits, 2); i < bits; i++ {
		g.ADDQ(stride, p)
	}
	for _, m := range g.wordRows(p, stride, bits) {
		g.PREFETCHT0(m)
	}
}

// fma adds rows of x[k] times tile[k, tileN] to rows of acc[tileN]: two vectors
// of columns at a time, their sums in registers.
func (g gen) fma(rows int) {
	signature := "func(acc"
	for i := range rows {
		signature += fmt.Sprintf(", x%d", i)
	}
	emit.Func(g.Context, g.name("fma", rows), signature+", tile []float32)", fmt.Sprintf("adds %d rows of x[k] times tile[k, %d] to rows of acc; k is a positive multiple of 4.", rows, tileN))
	acc, tile := g.ptr("acc"), g.ptr("tile")
	x := make([]reg.GPVirtual, rows)
	for i := range x {
		x[i] = g.ptr(fmt.Sprintf("x%d", i))
	}
	for pass := range tileN / (2 * g.lanes) {
		from := 2 * g.size() * pass
		var sums [][]reg.VecVirtual
		for i := range rows {
			sums = append(sums, g.vecs(2))
			for j, s := range sums[i] {
				g.VMOVUPS(at(acc, i*4*tileN+from+j*g.size()), s)
			}
		}
		t, k, left := g.GP64(), g.GP64(), g.len("x0")
		g.MOVQ(tile, t)
		g.XORQ(k, k)
		label := fmt.Sprintf("next%d", pass)
		g.Label(label)
		for step := range 4 {
			w, b := g.vecs(2), g.vec()
			for j := range w {
				g.VMOVUPS(at(t, step*4*tileN+from+j*g.size()), w[j])
			}
			for i := range rows {
				g.VBROADCASTSS(operand.Mem{Base: x[i], Index: k, Scale: 4, Disp: 4 * step}, b)
				for j := range w {
					g.VFMADD231PS(w[j], b, sums[i][j])
				}
			}
		}
		g.ADDQ(imm(4*4*tileN), t)
		g.ADDQ(imm(4), k)
		g.CMPQ(k, left)
		g.JL(operand.LabelRef(label))
		for i := range rows {
			for j, s := range sums[i] {
				g.VMOVUPS(s, at(acc, i*4*tileN+from+j*g.size()))
			}
		}
	}
	g.VZEROUPPER()
	g.RET()
}

// settle rounds the product before it adds: levels agree.
func (g gen) settle() {
	emit.Func(g.Context, g.name("settle", 0), "func(total, acc []float32, pitch int, scales []byte, columns, rows int)", fmt.Sprintf("adds scale * acc to total and clears acc; columns is a positive multiple of %d.", g.lanes))
	total, acc, pitch, columns, rows := g.ptr("total"), g.ptr("acc"), g.num("pitch"), g.num("columns"), g.num("rows")
	nothing, scales, n := g.zero(), g.ptr("scales"), g.GP64()
	g.Label("row")
	g.XORQ(n, n)
	g.Label("next")
	v := g.vec()
	g.VCVTPH2PS(operand.Mem{Base: scales, Index: n, Scale: 2}, v)
	g.VMULPS(operand.Mem{Base: acc, Index: n, Scale: 4}, v, v)
	g.VADDPS(operand.Mem{Base: total, Index: n, Scale: 4}, v, v)
	g.VMOVUPS(v, operand.Mem{Base: total, Index: n, Scale: 4})
	g.VMOVUPS(nothing, operand.Mem{Base: acc, Index: n, Scale: 4})
	g.ADDQ(imm(g.lanes), n)
	g.CMPQ(n, columns)
	g.JL(operand.LabelRef("next"))
	g.LEAQ(operand.Mem{Base: acc, Index: pitch, Scale: 4}, acc)
	g.LEAQ(operand.Mem{Base: total, Index: pitch, Scale: 4}, total)
	g.DECQ(rows)
	g.JNZ(operand.LabelRef("row"))
	g.VZEROUPPER()
	g.RET()
}

// dense sums a strand of lanes for each pair of row and output.
func (g gen) dense(kind, suffix string, rows, outputs int) {
	signature := "func(sums"
	for i := range rows {
		signature += fmt.Sprintf(", x%d", i)
	}
	signature += " []float32"
	for j := range outputs {
		signature += fmt.Sprintf(", w%d", j)
	}
	emit.Func(g.Context, g.name("dense"+suffix+kind, 0), signature+" []byte)", fmt.Sprintf("writes the dots of %d rows with %d outputs; len(x0) is a multiple of %d.", rows, outputs, g.lanes))
	x, w := make([]reg.GPVirtual, rows), make([]reg.GPVirtual, outputs)
	for i := range x {
		x[i] = g.ptr(fmt.Sprintf("x%d", i))
	}
	for j := range w {
		w[j] = g.ptr(fmt.Sprintf("w%d", j))
	}
	left, k := g.len("x0"), g.GP64()
	g.XORQ(k, k)
	var sums [][]reg.VecVirtual
	for i := range rows {
		sums = append(sums, g.vecs(outputs))
		for _, s := range sums[i] {
			g.xor(s, s, s)
		}
	}
	g.CMPQ(k, left)
	g.JGE(operand.LabelRef("done"))
	g.Label("next")
	v := g.vecs(outputs)
	for j := range w {
		switch kind {
		case "F32":
			g.VMOVUPS(operand.Mem{Base: w[j], Index: k, Scale: 4}, v[j])
		case "F16":
			g.VCVTPH2PS(operand.Mem{Base: w[j], Index: k, Scale: 2}, v[j])
		case "BF16":
			g.VPMOVZXWD(operand.Mem{Base: w[j], Index: k, Scale: 2}, v[j])
			g.VPSLLD(imm(16), v[j], v[j])
		}
	}
	for i := range x {
		row := g.vec()
		g.VMOVUPS(operand.Mem{Base: x[i], Index: k, Scale: 4}, row)
		for j := range w {
			g.VFMADD231PS(v[j], row, sums[i][j])
		}
	}
	g.ADDQ(imm(g.lanes), k)
	g.CMPQ(k, left)
	g.JL(operand.LabelRef("next"))
	g.Label("done")
	to := g.ptr("sums")
	for i := range x {
		for j := range w {
			g.VMOVSS(g.fold(sums[i][j]), at(to, 4*(i*outputs+j)))
		}
	}
	g.VZEROUPPER()
	g.RET()
}

// fold adds the lanes, halves first.
func (g gen) fold(v reg.VecVirtual) reg.VecVirtual {
	if g.lanes == 16 {
		half := g.YMM()
		g.VEXTRACTF64X4(imm(1), v, half)
		g.VADDPS(half, v.AsY(), half)
		v = half
	}
	half, other := g.XMM(), g.XMM()
	g.VEXTRACTF128(imm(1), v, half)
	g.VADDPS(half, v.AsX(), half)
	g.VMOVHLPS(half, half, other)
	g.VADDPS(other, half, half)
	g.VMOVSHDUP(half, other)
	g.VADDSS(other, half, half)
	return half
}

// read takes 256 bytes a step.
func (g gen) read() {
	emit.Func(g.Context, g.name("read", 0), "func(data []byte) uint64", "returns the exclusive or of a positive multiple of 256 bytes, folded.")
	p, n := g.ptr("data"), g.len("data")
	sums := g.vecs(256 / g.size())
	for _, s := range sums {
		g.xor(s, s, s)
	}
	g.Label("next")
	for i, s := range sums {
		g.xor(at(p, i*g.size()), s, s)
	}
	g.ADDQ(imm(256), p)
	g.SUBQ(imm(256), n)
	g.JNZ(operand.LabelRef("next"))
	for _, s := range sums[1:] {
		g.xor(s, sums[0], sums[0])
	}
	v := sums[0]
	if g.lanes == 16 {
		half := g.YMM()
		g.VEXTRACTI64X4(imm(1), v, half)
		g.VPXOR(half, v.AsY(), half)
		v = half
	}
	half, other, out := g.XMM(), g.XMM(), g.GP64()
	g.VEXTRACTI128(imm(1), v, half)
	g.VPXOR(half, v.AsX(), half)
	g.VPSHUFD(imm(0x4e), half, other)
	g.VPXOR(other, half, half)
	g.VMOVQ(half, out)
	g.Store(out, g.ReturnIndex(0))
	g.VZEROUPPER()
	g.RET()
}
