package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// attention is one recorded gated attention layer with grouped queries.
//
// Whose bits: a prefill row runs over its positions in spans, from the first.
// The positions of a decode or replay row are cut into parts, by its own length
// alone, that may run on different workers and are joined in order.
type attention struct {
	ops.AttentionArgs
	level        simd.Level
	qNorm, kNorm []float32
	width        int // In row: per head query and gate, then keys, then values
	queries      int // Heads*HeadDim
	group        int // query heads of one KV head
	together     int // rows of a prefill tile
	slots        int // parts that r.partial holds

	// Of the replay in progress; the closures are made once, at recording.
	r                           *run
	tiles                       []tile
	joins                       []join
	rotate, attend, join, gates func(worker, item int)
}

const (
	spanTokens = 512 // positions whose scores are weighed at once: 16 KB for eight heads
	maxParts   = 32  // of a decode row
	tileHeads  = 64  // rows times query heads that share what is read of a page
)

// tile is a block of work for each KV head: the queries of some rows against
// positions from to to.
type tile struct {
	row, rows int
	from, to  int
	slot      int // of the part in r.partial, -1 when the tile is the whole of its rows
}

// join is a row whose parts are to be put together.
type join struct{ row, slot, parts int }

// Attention implements ops.Set.
func (r *recorder) Attention(a ops.AttentionArgs) {
	s := a.Shape
	at := &attention{AttentionArgs: a, level: r.p.b.level, qNorm: r.vector(a.QNorm), kNorm: r.vector(a.KNorm)}
	at.queries = s.Heads * s.HeadDim
	at.width = 2*at.queries + 2*s.KVHeads*s.HeadDim
	at.group = s.Heads / s.KVHeads
	at.together = max(1, tileHeads/at.group)
	context := int(a.Keys.Len) / (s.KVHeads * s.HeadDim)
	if context > spanTokens {
		at.slots = 2 * max(2, r.p.b.pool.threads) * maxParts
	}
	at.tiles = make([]tile, 0, r.p.rows+at.slots)
	at.joins = make([]join, 0, r.p.rows)
	at.rotate, at.attend, at.join, at.gates = at.rotateItem, at.attendItem, at.joinItem, at.gateItem
	r.plan.heads = max(r.plan.heads, at.queries)
	r.plan.scores = max(r.plan.scores, at.together*at.group*(s.HeadDim+spanTokens+2), 2*len(s.Rope.InvFreq))
	r.plan.partials = max(r.plan.partials, at.slots*s.Heads*at.part())
	r.add(ops.PhaseAttention, at.run)
}

// part returns the values of a part for one head: an unfinished output, the
// largest score, the sum of weights.
func (a *attention) part() int { return a.Shape.HeadDim + 2 }

func (a *attention) run(r *run) {
	s, in := a.Shape, floats(a.In)
	a.r = r
	if r.Tap != nil {
		kv := s.KVHeads * s.HeadDim
		r.tapColumns(a.Layer, "q_proj", in, a.width, 0, 2*a.queries)
		r.tapColumns(a.Layer, "k_proj", in, a.width, 2*a.queries, 2*a.queries+kv)
		r.tapColumns(a.Layer, "v_proj", in, a.width, 2*a.queries+kv, a.width)
	}
	r.pool.each(r.rows, a.rotate)
	if r.Tap != nil {
		a.tapRotated(r)
	}
	a.attendAll(r)
	if r.Tap != nil {
		out := floats(a.Out)[:r.rows*a.queries]
		r.tap(a.Layer, "attn_out", a.queries, out)
		r.pool.each(r.rows*s.Heads, a.gates)
		r.tap(a.Layer, "attn_gated", a.queries, out)
	}
}

// attendAll cuts the step into tiles and runs them, as many at a time as
// r.partial has room for.
func (a *attention) attendAll(r *run) {
	a.tiles, a.joins = a.tiles[:0], a.joins[:0]
	slot, row := 0, 0
	for i := range r.Segments {
		segment := &r.Segments[i]
		for at := 0; at < segment.Len; {
			length := segment.Start + at + 1
			if segment.Kind == ops.Prefill {
				n := min(a.together, segment.Len-at)
				a.tiles = append(a.tiles, tile{row + at, n, 0, length + n - 1, -1})
				at += n
				continue
			}
			size, parts := partsOf(length)
			if slot+parts > a.slots && parts > 1 {
				a.flush(r)
				slot = 0
			}
			if parts == 1 {
				a.tiles = append(a.tiles, tile{row + at, 1, 0, length, -1})
			} else {
				a.joins = append(a.joins, join{row + at, slot, parts})
				for from := 0; from < length; from += size {
					a.tiles = append(a.tiles, tile{row + at, 1, from, min(from+size, length), slot})
					slot++
				}
			}
			at++
		}
		row += segment.Len
	}
	a.flush(r)
}

// partsOf returns the size and the number of the parts of a row that sees so
// many positions: a span each, or more so that there are at most maxParts.
func partsOf(length int) (size, parts int) {
	spans := (length + spanTokens - 1) / spanTokens
	size = (spans + maxParts - 1) / maxParts * spanTokens
	return size, (length + size - 1) / size
}

func (a *attention) flush(r *run) {
	r.pool.each(len(a.tiles)*a.Shape.KVHeads, a.attend)
	if len(a.joins) > 0 {
		r.pool.each(len(a.joins)*a.Shape.Heads, a.join)
	}
	a.tiles, a.joins = a.tiles[:0], a.joins[:0]
}

// page returns the keys or values of one KV head in the page of a position,
// [PageTokens, HeadDim].
func (a *attention) page(pool ops.Buf, pages []int32, position, head int) []float32 {
	s := a.Shape
	size := ops.PageTokens * s.HeadDim
	at := (int(pages[position/ops.PageTokens])*s.KVHeads + head) * size
	return floats(pool)[at:][:size]
}

// query returns the rotated queries of row t that share a KV head, [group,
// HeadDim]. Those of a KV head's rows follow one another.
func (a *attention) query(r *run, t, head int) []float32 {
	size := a.group * a.Shape.HeadDim
	return r.query[(head*r.rows+t)*size:][:size]
}

// rotateItem norms and rotates the queries and keys of row t, and appends keys
// and values to the cache.
func (a *attention) rotateItem(id, t int) {
	s, r, l := a.Shape, a.r, a.level
	row := floats(a.In)[t*a.width:][:a.width]
	position := int(r.position[t])
	pages := r.Segments[r.segment[t]].Pages
	turn := r.workers[id].scores[:2*len(s.Rope.InvFreq)]
	angles(turn, s.Rope, position)
	for head := range s.Heads {
		q := a.query(r, t, head/a.group)[head%a.group*s.HeadDim:][:s.HeadDim]
		l.Norm(q, row[2*head*s.HeadDim:][:s.HeadDim], a.qNorm, a.Eps, 1)
		rotate(q, turn)
	}
	keys := row[2*a.queries:]
	values := keys[s.KVHeads*s.HeadDim:]
	slot := position % ops.PageTokens * s.HeadDim
	for head := range s.KVHeads {
		k := a.page(a.Keys, pages, position, head)[slot:][:s.HeadDim]
		l.Norm(k, keys[head*s.HeadDim:][:s.HeadDim], a.kNorm, a.Eps, 1)
		rotate(k, turn)
		copy(a.page(a.Values, pages, position, head)[slot:][:s.HeadDim], values[head*s.HeadDim:])
	}
}

// angles writes the cosines and then the sines of position * InvFreq, times the
// scale. The angle is an fp32 product, as in the references.
func angles(turn []float32, rope ops.Rope, position int) {
	half := len(rope.InvFreq)
	for i, f := range rope.InvFreq {
		sin, cos := math.Sincos(float64(float32(position) * f))
		turn[i], turn[half+i] = float32(cos)*rope.Scale, float32(sin)*rope.Scale
	}
}

// rotate turns the pairs (i, i+half) of x.
func rotate(x, turn []float32) {
	half := len(turn) / 2
	cos, sin, low, high := turn[:half], turn[half:][:half], x[:half], x[half:][:half]
	for i, c := range cos {
		a, b := low[i], high[i]
		low[i], high[i] = a*c-b*sin[i], b*c+a*sin[i]
	}
}

// attendItem runs a tile for one KV head: softmax(q.K / sqrt(HeadDim)) V, where
// the weights are relative to the largest score so far, and what was summed
// before is scaled down when a larger one comes.
func (a *attention) attendItem(id, item int) {
	s, r, l := a.Shape, a.r, a.level
	w := &r.workers[id]
	tile, head := &a.tiles[len(a.tiles)-1-item/s.KVHeads], item%s.KVHeads // the longest rows, which take longest, come first
	pages := r.Segments[r.segment[tile.row]].Pages
	q := r.query[(head*r.rows+tile.row)*a.group*s.HeadDim:]
	n := tile.rows * a.group
	sums, scores, top, total := w.scores[:n*s.HeadDim], w.scores[n*s.HeadDim:][:n*spanTokens], w.scores[n*(s.HeadDim+spanTokens):][:n], w.scores[n*(s.HeadDim+spanTokens+1):][:n]
	clear(sums)
	clear(total)
	for i := range top {
		top[i] = float32(math.Inf(-1))
	}
	for from := tile.from; from < tile.to; from += spanTokens {
		to := min(from+spanTokens, tile.to)
		for p := from; p < to; p += ops.PageTokens {
			l.GemmT(scores[p-from:], spanTokens, q, s.HeadDim, a.page(a.Keys, pages, p, head), s.HeadDim, n, min(ops.PageTokens, to-p), s.HeadDim)
		}
		for i := range n {
			seen := min(to, int(r.position[tile.row+i/a.group])+1) - from
			a.weigh(scores[i*spanTokens:][:to-from], max(seen, 0), sums[i*s.HeadDim:][:s.HeadDim], &top[i], &total[i])
		}
		for p := from; p < to; p += ops.PageTokens {
			l.Gemm(sums, s.HeadDim, scores[p-from:], spanTokens, a.page(a.Values, pages, p, head), s.HeadDim, n, s.HeadDim, min(ops.PageTokens, to-p))
		}
	}
	for i := range n {
		t, h := tile.row+i/a.group, head*a.group+i%a.group
		sum := sums[i*s.HeadDim:][:s.HeadDim]
		if tile.slot < 0 {
			copy(a.out(t, h), sum)
			a.finish(t, h, total[i])
			continue
		}
		part := r.partial[(tile.slot*s.Heads+h)*a.part():][:a.part()]
		copy(part, sum)
		part[s.HeadDim], part[s.HeadDim+1] = top[i], total[i]
	}
}

// weigh turns the first scores of a span, those that the row sees, into weights,
// and the others into zeros.
func (a *attention) weigh(scores []float32, seen int, sums []float32, top, total *float32) {
	clear(scores[seen:])
	if seen == 0 {
		return
	}
	if m := a.level.Max(scores[:seen]); m > *top {
		fade := exp(a.scale() * (*top - m))
		a.level.Scale(sums, fade)
		*total *= fade
		*top = m
	}
	*total += a.level.Exp(scores[:seen], scores[:seen], a.scale(), *top)
}

// scale is what a score is multiplied with: 1/sqrt(HeadDim).
func (a *attention) scale() float32 { return float32(1 / math.Sqrt(float64(a.Shape.HeadDim))) }

// joinItem puts the parts of one head of a row together.
func (a *attention) joinItem(_, item int) {
	s, r := a.Shape, a.r
	j, head := &a.joins[item/s.Heads], item%s.Heads
	part := func(i int) []float32 { return r.partial[((j.slot+i)*s.Heads+head)*a.part():][:a.part()] }
	top, total := float32(math.Inf(-1)), float32(0)
	for i := range j.parts {
		top = max(top, part(i)[s.HeadDim])
	}
	out := a.out(j.row, head)
	clear(out)
	for i := range j.parts {
		fade := exp(a.scale() * (part(i)[s.HeadDim] - top))
		a.level.Axpy(out, fade, part(i))
		total += fade * part(i)[s.HeadDim+1]
	}
	a.finish(j.row, head, total)
}

func (a *attention) out(t, head int) []float32 {
	return floats(a.Out)[t*a.queries+head*a.Shape.HeadDim:][:a.Shape.HeadDim]
}

// finish divides an output by the sum of its weights and gates it, unless a tap
// is to see it before.
func (a *attention) finish(t, head int, total float32) {
	a.level.Scale(a.out(t, head), 1/total)
	if a.r.Tap == nil {
		a.gateItem(0, t*a.Shape.Heads+head)
	}
}

// gateItem multiplies one head of one row with the sigmoid of its gate.
func (a *attention) gateItem(_, item int) {
	s := a.Shape
	t, head := item/s.Heads, item%s.Heads
	a.level.Gate(a.out(t, head), a.out(t, head), floats(a.In)[t*a.width+(2*head+1)*s.HeadDim:])
}

// tapRotated taps the rotated queries and keys of the step's rows; the keys are
// in the cache.
func (a *attention) tapRotated(r *run) {
	s := a.Shape
	queries, keys := make([]float32, 0, r.rows*a.queries), make([]float32, 0, r.rows*s.KVHeads*s.HeadDim)
	for t := range r.rows {
		position, pages := int(r.position[t]), r.Segments[r.segment[t]].Pages
		for head := range s.KVHeads {
			queries = append(queries, a.query(r, t, head)...)
			keys = append(keys, a.page(a.Keys, pages, position, head)[position%ops.PageTokens*s.HeadDim:][:s.HeadDim]...)
		}
	}
	r.tap(a.Layer, "q_roped", a.queries, queries)
	r.tap(a.Layer, "k_roped", s.KVHeads*s.HeadDim, keys)
}
