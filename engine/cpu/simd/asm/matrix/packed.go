package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd/asm/emit"
)

const fastSignature = "func(acc []float32, part []int32, words []byte, stride int, zeros []uint16, codes []byte, pitch int, rows []int32)"

// fast unpacks a block of a vector of columns into eight registers of unsigned
// bytes, four inputs to a lane, and dots every row with them.
func (g gen) fast(bits int) {
	emit.Func(g.Context, g.name("fast", bits), fastSignature, g.fastDoc(bits))
	w, stride, zeros, columns := g.ptr("words"), g.num("stride"), g.ptr("zeros"), g.len("zeros")
	acc, across := g.ptr("acc"), g.GP64()
	g.MOVQ(columns, across)
	g.SHLQ(imm(2), across)
	low := g.slotMask(bits)
	var ones, high reg.VecVirtual
	if g.lanes == 8 {
		ones = g.splat(0x00010001)
	}
	if bits == 3 {
		high = g.splat(0x04040404)
	}
	g.Label("columns")
	slots := g.slots(w, stride, bits, low, high)
	zero := g.vec()
	g.VPMOVZXWD(at(zeros, 0), zero)
	g.ahead(w, stride, bits)
	g.eachRow("rows", acc, across, func(x, sums reg.GPVirtual) {
		g.finish(g.dot(x, 0, slots, ones), x, sums, zero)
	})
	g.nextColumns(w, zeros, acc, columns)
}

func (g gen) fastDoc(bits int) string {
	return fmt.Sprintf("adds to acc the dots of rows in 8 bits with a block of %d-bit codes; the columns are a positive multiple of %d.", bits, g.lanes)
}

// slotMask keeps a code in each byte.
func (g gen) slotMask(bits int) reg.VecVirtual {
	switch bits {
	case 4:
		return g.splat(0x0f0f0f0f)
	case 8:
		return nil
	default:
		return g.splat(0x03030303)
	}
}

// slots unpacks the eight dwords of a block.
func (g gen) slots(w, stride reg.GPVirtual, bits int, low, high reg.VecVirtual) []reg.VecVirtual {
	slots, rows := g.vecs(8), g.wordRows(w, stride, bits)
	per := map[int]int{2: 4, 3: 4, 4: 2, 8: 1}[bits] // slots a word
	for i, s := range slots {
		if per == 1 {
			g.VMOVDQU32(rows[i], s)
			continue
		}
		if i%per == 0 {
			g.VMOVUPS(rows[i/per], s)
		} else {
			g.VPSRLD(imm(8/per*(i%per)), slots[i-i%per], s)
		}
	}
	if per == 1 {
		return slots
	}
	for _, s := range slots {
		g.and(low, s, s)
	}
	if bits == 3 {
		word := g.vec()
		g.VMOVUPS(rows[2], word)
		for i, s := range slots {
			t := g.vec()
			g.right(i-2, word, t) // bit i of a byte becomes bit 2
			g.and(high, t, t)
			g.or(t, s, s)
		}
	}
	return slots
}

// dot multiplies slots with as many dwords of a record from one on, to int32.
// With AVX2 the sums of 16 bits hold: 8 slots of 2 products of at most 15 * 127.
func (g gen) dot(x reg.GPVirtual, from int, slots []reg.VecVirtual, ones reg.VecVirtual) reg.VecVirtual {
	if g.lanes == 16 {
		sums := []reg.VecVirtual{g.zero(), g.zero()}
		for i, s := range slots {
			g.VPDPBUSD_BCST(at(x, 4*(from+i)), s, sums[i%2]) // signed, unsigned, sum
		}
		g.VPADDD(sums[1], sums[0], sums[0])
		return sums[0]
	}
	sum := g.vec()
	for i, s := range slots {
		t := g.vec()
		g.VPBROADCASTD(at(x, 4*(from+i)), t)
		if i == 0 {
			g.VPMADDUBSW(t, s, sum) // signed, unsigned
			continue
		}
		g.VPMADDUBSW(t, s, t)
		g.VPADDW(t, sum, sum)
	}
	g.VPMADDWD(ones, sum, sum)
	return sum
}

// finish adds float(dot - zero * sum) * scale to the sums. Zero and sum fit 16
// bits (256, 32 * 127), so that pmaddwd multiplies them.
func (g gen) finish(dot reg.VecVirtual, x, sums reg.GPVirtual, zero reg.VecVirtual) {
	t := g.vec()
	g.VPBROADCASTD(at(x, sumAt), t)
	g.VPMADDWD(t, zero, t)
	g.VPSUBD(t, dot, dot)
	g.VCVTDQ2PS(dot, dot)
	g.VBROADCASTSS(at(x, scaleAt), t)
	g.VMULPS(t, dot, dot)
	g.VADDPS(at(sums, 0), dot, dot)
	g.VMOVUPS(dot, at(sums, 0))
}

// eachRow runs body for every row, with its record and its sums.
func (g gen) eachRow(label string, acc, across reg.GPVirtual, body func(x, sums reg.GPVirtual)) {
	index, left, sums := g.ptr("rows"), g.len("rows"), g.GP64()
	codes, pitch := g.ptr("codes"), g.num("pitch")
	g.MOVQ(acc, sums)
	g.Label(label)
	x := g.GP64()
	g.MOVLQSX(at(index, 0), x)
	g.IMULQ(pitch, x)
	g.ADDQ(codes, x)
	body(x, sums)
	g.ADDQ(across, sums)
	g.ADDQ(imm(4), index)
	g.DECQ(left)
	g.JNZ(operand.LabelRef(label))
}

// nextColumns moves on by a vector and ends the function after the last.
func (g gen) nextColumns(w, zeros, acc, columns reg.GPVirtual) {
	g.ADDQ(imm(g.size()), w)
	g.ADDQ(imm(2*g.lanes), zeros)
	g.ADDQ(imm(g.size()), acc)
	g.SUBQ(imm(g.lanes), columns)
	g.JNZ(operand.LabelRef("columns"))
	g.VZEROUPPER()
	g.RET()
}

// fastBytes is fast for 8 bits with AVX2, whose maddubs would saturate: it takes
// the nibbles of a byte apart, and half a block at a time, for its registers hold
// no more. The dots of the first half wait in part.
func (g gen) fastBytes() {
	emit.Func(g.Context, g.name("fast", 8), fastSignature, g.fastDoc(8))
	w, stride, zeros, columns := g.ptr("words"), g.num("stride"), g.ptr("zeros"), g.len("zeros")
	acc, across := g.ptr("acc"), g.GP64()
	g.MOVQ(columns, across)
	g.SHLQ(imm(2), across)
	low, ones, sixteens := g.splat(0x0f0f0f0f), g.splat(0x00010001), g.splat(0x00100010)
	g.Label("columns")
	for half := range 2 {
		lo, hi := g.vecs(4), g.vecs(4)
		rows := g.wordRows(w, stride, 8)[4*half:][:4]
		for i := range lo {
			g.VMOVUPS(rows[i], lo[i])
			g.VPSRLD(imm(4), lo[i], hi[i])
			g.VPAND(low, lo[i], lo[i])
			g.VPAND(low, hi[i], hi[i])
		}
		if half == 0 {
			g.ahead(w, stride, 8)
		}
		part := g.ptr("part")
		g.eachRow(fmt.Sprintf("rows%d", half), acc, across, func(x, sums reg.GPVirtual) {
			dot, more := g.dot(x, 4*half, lo, ones), g.dot(x, 4*half, hi, sixteens)
			g.VPADDD(more, dot, dot)
			if half == 0 {
				g.VMOVDQU(dot, at(part, 0))
			} else {
				zero := g.vec()
				g.VPMOVZXWD(at(zeros, 0), zero)
				g.VPADDD(at(part, 0), dot, dot)
				g.finish(dot, x, sums, zero)
			}
			g.ADDQ(imm(32), part)
		})
	}
	g.nextColumns(w, zeros, acc, columns)
}

// codes walks the 32 inputs of a block, k ascending, and gives body code - zero
// of vectors of columns as int32.
func (g gen) codes(w, stride reg.GPVirtual, bits int, zero []reg.VecVirtual, mask, high reg.VecVirtual, body func(k int, code []reg.VecVirtual)) {
	rows := g.wordRows(w, stride, bits)
	word, top := g.vecs(len(zero)), g.vecs(len(zero))
	load := func(row int, to []reg.VecVirtual) {
		for v := range to {
			m := rows[row]
			m.Disp = v * g.size()
			g.VMOVUPS(m, to[v])
		}
	}
	width := bits
	if bits == 3 {
		width = 2
		load(2, top)
	}
	for k := range 32 {
		per := 32 / width
		if k%per == 0 {
			load(k/per, word)
		}
		code := g.vecs(len(zero))
		for v := range code {
			src := word[v]
			if shift := k % per * width; shift > 0 {
				g.right(shift, src, code[v])
				src = code[v]
			}
			if k%per < per-1 {
				g.and(mask, src, code[v])
			}
			if bits == 3 {
				t := g.vec()
				g.right(8*(k%16/4)+4*(k/16)+k%4-2, top[v], t)
				g.and(high, t, t)
				g.or(t, code[v], code[v])
			}
			g.VPSUBD(zero[v], code[v], code[v])
		}
		body(k, code)
	}
}

// codeMasks returns what keeps a code in a lane, and the high bit of one of three.
func (g gen) codeMasks(bits int) (mask, high reg.VecVirtual) {
	if bits == 3 {
		return g.splat(3), g.splat(4)
	}
	return g.splat(1<<bits - 1), nil
}

// exact keeps two vectors of sums in registers over a block.
func (g gen) exact(bits int) {
	emit.Func(g.Context, g.name("exact", bits), "func(acc []float32, words []byte, stride int, zeros []uint16, x []float32)", fmt.Sprintf("adds x[32] times a block of %d-bit codes less zero to acc; the columns are a positive multiple of %d.", bits, g.lanes))
	w, stride, zeros, columns := g.ptr("words"), g.num("stride"), g.ptr("zeros"), g.len("zeros")
	acc, x := g.ptr("acc"), g.ptr("x")
	mask, high := g.codeMasks(bits)
	step := func(vectors int) {
		sums, zero := g.vecs(vectors), g.vecs(vectors)
		for v := range sums {
			g.VMOVUPS(at(acc, v*g.size()), sums[v])
			g.VPMOVZXWD(at(zeros, v*2*g.lanes), zero[v])
		}
		g.ahead(w, stride, bits)
		g.codes(w, stride, bits, zero, mask, high, func(k int, code []reg.VecVirtual) {
			b := g.vec()
			g.VBROADCASTSS(at(x, 4*k), b)
			for v := range code {
				g.VCVTDQ2PS(code[v], code[v])
				g.VFMADD231PS(code[v], b, sums[v])
			}
		})
		for v := range sums {
			g.VMOVUPS(sums[v], at(acc, v*g.size()))
		}
		g.ADDQ(imm(vectors*g.size()), w)
		g.ADDQ(imm(vectors*2*g.lanes), zeros)
		g.ADDQ(imm(vectors*g.size()), acc)
		g.SUBQ(imm(vectors*g.lanes), columns)
	}
	g.Label("two")
	g.CMPQ(columns, imm(2*g.lanes))
	g.JL(operand.LabelRef("one"))
	step(2)
	g.JMP(operand.LabelRef("two"))
	g.Label("one")
	g.TESTQ(columns, columns)
	g.JZ(operand.LabelRef("done"))
	step(1)
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
}

// unpack writes a block of a tile.
func (g gen) unpack(bits int) {
	emit.Func(g.Context, g.name("unpack", bits), "func(tile []float32, words []byte, stride int, zeros []uint16)", fmt.Sprintf("writes code - zero of a block of %d-bit codes to tile[32, %d]; the columns are a positive multiple of %d.", bits, tileN, g.lanes))
	w, stride, zeros, columns := g.ptr("words"), g.num("stride"), g.ptr("zeros"), g.len("zeros")
	tile := g.ptr("tile")
	mask, high := g.codeMasks(bits)
	g.Label("columns")
	zero := g.vecs(1)
	g.VPMOVZXWD(at(zeros, 0), zero[0])
	g.ahead(w, stride, bits)
	g.codes(w, stride, bits, zero, mask, high, func(k int, code []reg.VecVirtual) {
		g.VCVTDQ2PS(code[0], code[0])
		g.VMOVUPS(code[0], at(tile, k*4*tileN))
	})
	g.nextColumns(w, zeros, tile, columns)
}
