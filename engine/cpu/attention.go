package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// attention is one recorded gated attention layer with grouped queries.
type attention struct {
	ops.AttentionArgs
	qNorm, kNorm []float32
	width        int // In row: per head query and gate, then keys, then values
	queries      int // Heads*HeadDim
}

// Attention implements ops.Set.
func (r *recorder) Attention(a ops.AttentionArgs) {
	s := a.Shape
	at := &attention{AttentionArgs: a, qNorm: r.vector(a.QNorm), kNorm: r.vector(a.KNorm)}
	at.queries = s.Heads * s.HeadDim
	at.width = 2*at.queries + 2*s.KVHeads*s.HeadDim
	r.plan.heads = max(r.plan.heads, at.queries)
	r.plan.inputs = max(r.plan.inputs, s.HeadDim)
	r.plan.context = max(r.plan.context, int(a.Keys.Len)/(s.KVHeads*s.HeadDim))
	r.add("attention", a.Layer, at.run)
}

func (a *attention) run(r *run) {
	s, in := a.Shape, floats(a.In)
	kv := s.KVHeads * s.HeadDim
	if r.Tap != nil {
		r.tapColumns(a.Layer, "q_proj", in, a.width, 0, 2*a.queries)
		r.tapColumns(a.Layer, "k_proj", in, a.width, 2*a.queries, 2*a.queries+kv)
		r.tapColumns(a.Layer, "v_proj", in, a.width, 2*a.queries+kv, a.width)
	}
	r.pool.each(r.rows, func(_, t int) { a.rotateAndAppend(r, t) })
	r.tap(a.Layer, "q_roped", a.queries, r.query[:r.rows*a.queries])
	if r.Tap != nil {
		a.tapKeys(r)
	}
	r.pool.each(r.rows*s.Heads, func(id, item int) {
		a.attend(r, &r.workers[id], item/s.Heads, item%s.Heads)
	})
	out := floats(a.Out)[:r.rows*a.queries]
	r.tap(a.Layer, "attn_out", a.queries, out)
	r.pool.each(r.rows, func(_, t int) {
		for head := range s.Heads {
			o := out[t*a.queries+head*s.HeadDim:][:s.HeadDim]
			gate := in[t*a.width+(2*head+1)*s.HeadDim:][:s.HeadDim]
			for i := range o {
				o[i] *= sigmoid(gate[i])
			}
		}
	})
	r.tap(a.Layer, "attn_gated", a.queries, out)
}

// page returns the keys or values of one KV head in the page of a position,
// [PageTokens, HeadDim].
func (a *attention) page(pool ops.Buf, pages []int32, position, head int) []float32 {
	s := a.Shape
	size := ops.PageTokens * s.HeadDim
	at := (int(pages[position/ops.PageTokens])*s.KVHeads + head) * size
	return floats(pool)[at:][:size]
}

// rotateAndAppend norms and rotates the queries and keys of row t, and appends
// keys and values to the cache.
func (a *attention) rotateAndAppend(r *run, t int) {
	s := a.Shape
	row := floats(a.In)[t*a.width:][:a.width]
	position := int(r.position[t])
	pages := r.Segments[r.segment[t]].Pages
	for head := range s.Heads {
		q := r.query[t*a.queries+head*s.HeadDim:][:s.HeadDim]
		zeroCentredNorm(q, row[2*head*s.HeadDim:][:s.HeadDim], a.qNorm, a.Eps)
		rotate(q, s.Rope, position)
	}
	keys := row[2*a.queries:]
	values := keys[s.KVHeads*s.HeadDim:]
	slot := position % ops.PageTokens * s.HeadDim
	for head := range s.KVHeads {
		k := a.page(a.Keys, pages, position, head)[slot:][:s.HeadDim]
		zeroCentredNorm(k, keys[head*s.HeadDim:][:s.HeadDim], a.kNorm, a.Eps)
		rotate(k, s.Rope, position)
		copy(a.page(a.Values, pages, position, head)[slot:][:s.HeadDim], values[head*s.HeadDim:])
	}
}

// rotate turns the pairs (i, i+len(InvFreq)) of x by position * InvFreq[i]. The
// angle is an fp32 product, as in the references.
func rotate(x []float32, rope ops.Rope, position int) {
	half := len(rope.InvFreq)
	for i, f := range rope.InvFreq {
		sin, cos := math.Sincos(float64(float32(position) * f))
		s, c := float32(sin)*rope.Scale, float32(cos)*rope.Scale
		a, b := x[i], x[i+half]
		x[i], x[i+half] = a*c-b*s, b*c+a*s
	}
}

// attend computes softmax(q.K / sqrt(HeadDim)) V of one head at row t over all
// positions up to its own.
func (a *attention) attend(r *run, w *worker, t, head int) {
	s := a.Shape
	pages := r.Segments[r.segment[t]].Pages
	kvHead := head / (s.Heads / s.KVHeads)
	q := r.query[t*a.queries+head*s.HeadDim:][:s.HeadDim]
	length := int(r.position[t]) + 1
	scores := w.scores[:length]
	scale, top := float32(1/math.Sqrt(float64(s.HeadDim))), float32(math.Inf(-1))
	for p := range scores {
		keys := a.page(a.Keys, pages, p, kvHead)
		scores[p] = scale * dot(q, keys[p%ops.PageTokens*s.HeadDim:][:s.HeadDim])
		top = max(top, scores[p])
	}
	var sum float64
	for p, score := range scores {
		e := math.Exp(float64(score - top))
		scores[p] = float32(e)
		sum += e
	}
	o := floats(a.Out)[t*a.queries+head*s.HeadDim:][:s.HeadDim]
	clear(o)
	for p, weight := range scores {
		values := a.page(a.Values, pages, p, kvHead)
		axpy(o, weight, values[p%ops.PageTokens*s.HeadDim:][:s.HeadDim])
	}
	for i := range o {
		o[i] *= float32(1 / sum)
	}
}

// tapKeys taps the rotated keys of the step's rows, which are in the cache.
func (a *attention) tapKeys(r *run) {
	s := a.Shape
	keys := make([]float32, 0, r.rows*s.KVHeads*s.HeadDim)
	for t := range r.rows {
		position, pages := int(r.position[t]), r.Segments[r.segment[t]].Pages
		for head := range s.KVHeads {
			keys = append(keys, a.page(a.Keys, pages, position, head)[position%ops.PageTokens*s.HeadDim:][:s.HeadDim]...)
		}
	}
	r.tap(a.Layer, "k_roped", s.KVHeads*s.HeadDim, keys)
}
