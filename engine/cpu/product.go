package cpu

import (
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
)

// A work item is at most blockRows rows by a span of columns. More rows share
// the unpacking of a tile; 64 of them still leave enough items for every core.
const blockRows = 64

// product multiplies rows with a matrix. Neither the rows of a call nor its
// span changes a bit of a row: that is simd's promise.
type product struct {
	*matrix
	whole bool // activations are quantised to whole numbers
}

// block computes columns n0 to n1 of the rows of out, at most blockRows of them,
// from the rows of x by the same count. Both have an Index; c holds the rows of
// x quantised, when the product wants them so.
func (p product) block(r *run, w *worker, out, x simd.Rows, c *codes, n0, n1 int) {
	switch {
	case p.dense != nil:
		r.level.MulDense(out, x, p.dense, n0, n1, w.tiles)
	case p.order != nil:
		w.reorder(r, p, out, x, n0, n1)
	case p.whole:
		r.level.MulFast(out, c.of[p.packed.Bits], x.Index, p.packed, n0, n1, w.tiles)
	default:
		r.level.MulExact(out, x, p.packed, n0, n1, w.tiles)
	}
}

// reorder multiplies with a matrix whose g_idx scatters groups over the inputs:
// the rows are gathered in its order first, by every item for itself.
func (w *worker) reorder(r *run, p product, out, x simd.Rows, n0, n1 int) {
	sorted := simd.Rows{Data: w.gathered[:x.Count*p.k], Stride: p.k, Index: r.all[:x.Count], Count: x.Count}
	for i := range x.Count {
		row, from := sorted.Data[i*p.k:][:p.k], x.Data[int(x.Index[i])*x.Stride:]
		for j, k := range p.order {
			row[j] = from[k]
		}
		if p.whole {
			r.level.Quantise(w.codes, i, row, p.packed.Bits)
		}
	}
	if p.whole {
		r.level.MulFast(out, w.codes, sorted.Index, p.packed, n0, n1, w.tiles)
	} else {
		r.level.MulExact(out, sorted, p.packed, n0, n1, w.tiles)
	}
}

// codes are rows of activations quantised to whole numbers, once for each width of
// weights that reads them: the order of codes follows that of the weights.
type codes struct {
	of [9]*simd.Codes // by bits; nil where no weight needs them
	// of the fill at hand
	r       *run
	x       simd.Rows
	k, bits int
	do      func(worker, item int)
}

// newCodes holds rows of up to k values, for weights of each of so many bits.
func (b *Backend) newCodes(rows, k int, bits []int) *codes {
	c := &codes{}
	for _, width := range bits {
		c.of[width] = b.roomFor(rows, k)
	}
	c.do = func(_, i int) {
		at := int(c.x.Index[i])
		c.r.level.Quantise(c.of[c.bits], at, c.x.Data[at*c.x.Stride:][:c.k], c.bits)
	}
	return c
}

// roomFor returns codes of the backend's numerics.
func (b *Backend) roomFor(rows, k int) *simd.Codes {
	if b.mode == Int8 {
		return simd.NewCodes(rows, k)
	}
	return simd.NewWideCodes(rows, k)
}

// fill quantises rows of k values for weights of each of so many bits.
func (c *codes) fill(r *run, x simd.Rows, k int, bits []int) {
	c.r, c.x, c.k = r, x, k
	for _, c.bits = range bits {
		r.pool.each(x.Count, c.do)
	}
}

// linear multiplies the rows of a step with matrices side by side, recorded for
// replay.
type linear struct {
	parts []part
	bits  []int // widths of those that want codes
	add   bool  // and adds the products to sum

	// of the replay at hand
	r    *run
	x    simd.Rows
	sum  []float32
	down int // blocks of rows
	do   func(worker, item int)
}

// part is one matrix of a linear, and where its products go.
type part struct {
	product
	out  simd.Rows // Index and Count are set by the replay
	span int
	last int // items of this part and those before it
}

func (r *recorder) linear(parts ...part) *linear {
	l := &linear{parts: parts}
	for _, p := range parts {
		l.bits = p.needs(l.bits)
	}
	r.plan.in = union(r.plan.in, l.bits)
	l.do = l.item
	return l
}

// needs adds the width of codes that a product reads to bits.
func (p product) needs(bits []int) []int {
	if !p.whole || p.order != nil {
		return bits
	}
	return union(bits, []int{p.packed.Bits})
}

func union(a, b []int) []int {
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

// run multiplies the rows of x, which has an Index; row i of each part's output
// is row i of the step. Quantised rows go to the run's inputs.
func (l *linear) run(r *run, x simd.Rows) {
	l.r, l.x = r, x
	if len(l.bits) > 0 {
		r.inputs.fill(r, x, l.parts[0].k, l.bits)
	}
	l.down = (x.Count + blockRows - 1) / blockRows
	items := 0
	for i := range l.parts {
		p := &l.parts[i]
		p.span = span(p.n, l.down, r.pool.threads)
		items += l.down * ((p.n + p.span - 1) / p.span)
		p.last = items
	}
	r.pool.each(items, l.do)
}

// span returns how many of n columns an item takes, where so many items would
// take all: few enough that every thread finds several, and as many as that
// allows, for the words of neighbouring columns lie together.
func span(n, items, threads int) int {
	s := (n*items/(4*threads) + 63) &^ 63
	return max(64, min(s, 512))
}

func (l *linear) item(worker, item int) {
	first := 0
	for i := range l.parts {
		p := &l.parts[i]
		if item >= p.last {
			first = p.last
			continue
		}
		item -= first
		r0, n0 := item%l.down*blockRows, item/l.down*p.span
		r1, n1 := min(r0+blockRows, l.x.Count), min(n0+p.span, p.n)
		r := l.r
		out, x := p.out, l.x
		out.Index, out.Count = r.all[r0:r1], r1-r0
		x.Index, x.Count = l.x.Index[r0:r1], r1-r0
		p.block(r, &r.workers[worker], out, x, r.inputs, n0, n1)
		if l.add {
			for t := r0; t < r1; t++ {
				r.level.Add(l.sum[t*p.n+n0:t*p.n+n1], out.Data[t*out.Stride+n0:][:n1-n0])
			}
		}
		return
	}
}
