package cpu

import (
	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// norm is a zero-centred RMSNorm of every row, recorded for replay:
// y = x * rsqrt(mean(x^2) + eps) * (1 + w).
type norm struct {
	w     []float32
	eps   float32
	level simd.Level
	// of the replay at hand
	dst, x []float32
	do     func(worker, item int)
}

func (r *recorder) norm(w *ops.Vector, eps float32) *norm {
	n := &norm{w: r.vector(w), eps: eps, level: r.p.b.level}
	r.plan.hidden = max(r.plan.hidden, len(n.w))
	n.do = func(_, t int) { n.row(n.dst[t*len(n.w):], n.x[t*len(n.w):]) }
	return n
}

func (n *norm) row(dst, x []float32) {
	n.level.Norm(dst[:len(n.w)], x[:len(n.w)], n.w, n.eps, 1)
}

// run norms the rows of x into dst. A few rows are not worth waking anyone.
func (n *norm) run(r *run, dst, x []float32) {
	n.dst, n.x = dst, x
	count := len(x) / len(n.w)
	if len(x) < 1<<14 {
		for t := range count {
			n.do(0, t)
		}
		return
	}
	r.pool.each(count, n.do)
}

// rowsOf views rows of a buffer by the run's list of all rows.
func (r *run) rowsOf(data []float32, stride int) simd.Rows {
	return simd.Rows{Data: data, Stride: stride, Index: r.all[:r.rows], Count: r.rows}
}

// Embed implements ops.Set.
func (r *recorder) Embed(a ops.EmbedArgs) {
	r.place(a.Table)
	r.p.vocab = a.Table.N
	hidden := a.Table.K
	r.add(ops.PhaseEmbed, func(r *run) {
		x := floats(a.X)[:r.rows*hidden]
		for t, id := range r.IDs {
			a.Table.Row(x[t*hidden:][:hidden], int(id))
		}
		r.tap(-1, "embedding", hidden, x)
	})
}

// MixerIn implements ops.Set.
func (r *recorder) MixerIn(a ops.MixerInArgs) {
	norm := r.norm(a.Norm, a.Eps)
	hidden, stride, at := len(norm.w), 0, 0
	for _, w := range a.Weights {
		stride += w.N
	}
	parts := make([]part, len(a.Weights))
	for i, w := range a.Weights {
		parts[i] = part{product: r.product(w), out: simd.Rows{Data: floats(a.Out)[at:], Stride: stride}}
		at += w.N
	}
	project := r.linear(parts...)
	r.add(ops.PhaseMixerIn, func(r *run) {
		normed := r.normed[:r.rows*hidden]
		norm.run(r, normed, floats(a.X)[:r.rows*hidden])
		r.tap(a.Layer, "input_norm", hidden, normed)
		project.run(r, r.rowsOf(normed, hidden))
	})
}

// MixerOut implements ops.Set.
func (r *recorder) MixerOut(a ops.MixerOutArgs) {
	hidden := a.W.N
	r.plan.hidden = max(r.plan.hidden, hidden)
	project := r.linear(part{product: r.product(a.W)})
	project.add = true
	r.add(ops.PhaseMixerOut, func(r *run) {
		project.parts[0].out = simd.Rows{Data: r.delta, Stride: hidden}
		project.sum = floats(a.X)
		project.run(r, r.rowsOf(floats(a.In), a.W.K))
		r.tap(a.Layer, "mixer_out", hidden, r.delta[:r.rows*hidden])
	})
}

// Router implements ops.Set. Its matrices keep fp32 activations in every mode:
// a flipped expert is dearer than the time saved.
func (r *recorder) Router(a ops.RouterArgs) {
	norm := r.norm(a.Norm, a.Eps)
	hidden := len(norm.w)
	project := r.linear(
		part{product: r.exact(a.Router), out: simd.Rows{Data: floats(a.Logits), Stride: a.Router.N}},
		part{product: r.exact(a.Shared), out: simd.Rows{Data: floats(a.Gate), Stride: 1}},
	)
	r.add(ops.PhaseRouter, func(r *run) {
		normed := floats(a.Normed)[:r.rows*hidden]
		norm.run(r, normed, floats(a.X)[:r.rows*hidden])
		r.tap(a.Layer, "post_norm", hidden, normed)
		project.run(r, r.rowsOf(normed, hidden))
		r.tap(a.Layer, "router_logits", a.Router.N, floats(a.Logits)[:r.rows*a.Router.N])
		r.tap(a.Layer, "shared_gate_logit", 1, floats(a.Gate)[:r.rows])
	})
	r.gap(ops.RouterLogits, a.Layer, a.Logits, a.Router.N)
}

// Logits implements ops.Set.
func (r *recorder) Logits(a ops.LogitsArgs) {
	norm := r.norm(a.Norm, a.Eps)
	hidden := len(norm.w)
	project := r.linear(part{product: r.product(a.Head), out: simd.Rows{Data: floats(a.Logits), Stride: a.Head.N}})
	r.add(ops.PhaseLogits, func(r *run) {
		out := floats(a.Hidden)[:r.rows*hidden]
		norm.run(r, out, floats(a.X)[:r.rows*hidden])
		r.tap(-1, "hidden", hidden, out)
		if len(r.wanted) == 0 {
			return
		}
		project.run(r, simd.Rows{Data: out, Stride: hidden, Index: r.wanted, Count: len(r.wanted)})
		r.tap(-1, "logits", a.Head.N, floats(a.Logits)[:len(r.wanted)*a.Head.N])
	})
}

// DraftIn implements ops.Set.
func (r *recorder) DraftIn(a ops.DraftInArgs) {
	embedNorm, hiddenNorm := r.norm(a.EmbedNorm, a.Eps), r.norm(a.HiddenNorm, a.Eps)
	r.place(a.Table)
	r.p.vocab = a.Table.N
	hidden := a.Table.K
	r.plan.joined = true
	project := r.linear(part{product: r.product(a.FC), out: simd.Rows{Data: floats(a.X), Stride: hidden}})
	r.add(ops.PhaseDraftIn, func(r *run) {
		for t, id := range r.IDs {
			both := r.joined[t*2*hidden:][:2*hidden]
			a.Table.Row(both[:hidden], int(id))
			embedNorm.row(both[:hidden], both[:hidden])
			hiddenNorm.row(both[hidden:], r.Hidden[t*hidden:])
		}
		project.run(r, r.rowsOf(r.joined, 2*hidden))
		r.tap(-1, "fc_out", hidden, floats(a.X)[:r.rows*hidden])
	})
}
