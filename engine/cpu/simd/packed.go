package simd

import "fmt"

// MulExact writes out[i, n] = x[i, K] W[K, n] for columns n0 to n1 with fp32
// activations: within a group one chain acc += x[k] * (code - zero), k
// ascending, fused from AVX2 on; then total += scale * acc, group by group. A
// row's bits depend on the level (AVX2 and AVX512 agree) and on nothing else in
// the call. n0 and n1 are multiples of 8. out and x must not overlap.
func (l Level) MulExact(out, x Rows, w *Packed, n0, n1 int, s *Scratch) {
	must(w.Check())
	mustSpan(n0, n1, w.N, 8)
	if out.Count != x.Count {
		panic(fmt.Sprintf("simd: %d rows of products for %d rows", out.Count, x.Count))
	}
	if x.Count == 1 && kernelsOf[l].exact[w.Bits] != nil {
		l.exactRow(out.row(0, n0, n1), x.row(0, 0, w.K), w, n0, s)
		return
	}
	for r0 := 0; r0 < x.Count; r0 += tileRows {
		r1 := min(r0+tileRows, x.Count)
		for n := n0; n < n1; {
			level, width := l.strip(min(tileN, n1-n))
			level.exactStrip(out, x, r0, r1, w, n, width, s)
			n += width
		}
	}
}

// strip returns the level and the width for the next columns of which so many
// are left: AVX512 takes 16 at a time, and leaves the last 8 to AVX2.
func (l Level) strip(columns int) (Level, int) {
	switch {
	case l < AVX512 || columns%16 == 0:
		return l, columns
	case columns < 16:
		return AVX2, columns
	default:
		return l, columns &^ 15
	}
}

// exactRow is the product of one row, in strips as wide as the scratch: the
// words are read once, row by row, as they lie.
func (l Level) exactRow(out, x []float32, w *Packed, n0 int, s *Scratch) {
	group := w.group()
	for n := n0; len(out) > 0; {
		level, width := l.strip(min(maxColumns, len(out)))
		k := &kernelsOf[level]
		acc, total := s.acc[:width], s.total[:width]
		clear(acc)
		clear(total)
		for g := range w.groups() {
			zeros := w.zeros(g, n, width)
			for k0 := g * group; k0 < min((g+1)*group, w.K); k0 += block {
				k.exact[w.Bits](acc, w.words(k0, n), 4*w.N, zeros, x[k0:][:block])
			}
			k.settle(total, acc, width, w.scales(g, n, width), width, 1)
		}
		copy(out, total)
		n, out = n+width, out[width:]
	}
}

// exactStrip multiplies rows r0 to r1 by at most tileN columns, unpacking
// tileK x tileN codes at a time for all of them.
func (l Level) exactStrip(out, x Rows, r0, r1 int, w *Packed, n, width int, s *Scratch) {
	k, group, rows := &kernelsOf[l], w.group(), r1-r0
	acc, total := s.acc[:rows*tileN], s.total[:rows*tileN]
	clear(acc)
	clear(total)
	for g := range w.groups() {
		zeros, end := w.zeros(g, n, width), min((g+1)*group, w.K)
		for k0 := g * group; k0 < end; k0 += tileK {
			k1 := min(k0+tileK, end)
			for at := k0; at < k1; at += block {
				k.unpack[w.Bits](s.tile[(at-k0)*tileN:], w.words(at, n), 4*w.N, zeros)
			}
			i := 0
			for ; i+4 <= rows; i += 4 {
				k.fma4(acc[i*tileN:], x.row(r0+i, k0, k1), x.row(r0+i+1, k0, k1), x.row(r0+i+2, k0, k1), x.row(r0+i+3, k0, k1), s.tile)
			}
			for ; i+2 <= rows; i += 2 {
				k.fma2(acc[i*tileN:], x.row(r0+i, k0, k1), x.row(r0+i+1, k0, k1), s.tile)
			}
			if i < rows {
				k.fma1(acc[i*tileN:], x.row(r0+i, k0, k1), s.tile)
			}
		}
		k.settle(total, acc, tileN, w.scales(g, n, width), width, rows)
	}
	for i := range rows {
		copy(out.row(r0+i, n, n+width), total[i*tileN:])
	}
}

// MulFast is MulExact for activations in 8 bits: row rows[i] of x gives row i of
// out. The dot of a block of 32 inputs, less zero times the sum of its codes, is
// exact in int32; then acc += float32(dot) * scale of the block, block by block,
// and total += scale of the group * acc, group by group, products rounded before
// they are added. Of 16 bits, high and low bytes are multiplied so, and their
// products added. A row's bits depend on nothing but the row: all levels agree.
func (l Level) MulFast(out Rows, x *Codes, rows []int32, w *Packed, n0, n1 int, s *Scratch) {
	must(w.Check())
	mustSpan(n0, n1, w.N, 8)
	if out.Count != len(rows) || x.k < w.K {
		panic(fmt.Sprintf("simd: %d rows of products for %d rows of %d codes, K = %d", out.Count, len(rows), x.k, w.K))
	}
	together := tileRows
	if x.wide {
		together /= 2
	}
	for r0 := 0; r0 < len(rows); r0 += together {
		part := x.planes(rows[r0:min(r0+together, len(rows))], s)
		for _, i := range part {
			if orders[w.Bits] != orders[x.order[i]] {
				panic(fmt.Sprintf("simd: row %d was quantised for %d bits, the matrix has %d", i, x.order[i], w.Bits))
			}
		}
		wide := max(tileN, maxColumns/len(part)&^(tileN-1))
		for n := n0; n < n1; {
			level, width := l.strip(min(wide, n1-n))
			level.fastStrip(out, r0, x, part, w, n, width, s)
			n += width
		}
	}
}

// fastStrip gives rows r0 on of out their columns n to n+width: the fewer rows,
// the wider, so that one row reads the words as they lie and many share a tile.
func (l Level) fastStrip(out Rows, r0 int, x *Codes, rows []int32, w *Packed, n, width int, s *Scratch) {
	k, group := &kernelsOf[l], w.group()
	acc, total := s.acc[:len(rows)*width], s.total[:len(rows)*width]
	clear(acc)
	clear(total)
	for g := range w.groups() {
		zeros := w.zeros(g, n, width)
		for k0 := g * group; k0 < min((g+1)*group, w.K); k0 += block {
			k.fast[w.Bits](acc, s.part, w.words(k0, n), 4*w.N, zeros, x.data[k0/block*record:], x.pitch, rows)
		}
		k.settle(total, acc, width, w.scales(g, n, width), width, len(rows))
	}
	x.join(out, r0, n, width, total)
}
