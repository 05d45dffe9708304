package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// zeroCentredNorm writes x * rsqrt(mean(x^2) + eps) * (1 + w).
func zeroCentredNorm(dst, x, w []float32, eps float32) {
	scale := rsqrtMean(x, eps)
	for i, v := range x {
		dst[i] = v * scale * (1 + w[i])
	}
}

// rsqrtMean returns 1 / sqrt(mean(x^2) + eps).
func rsqrtMean(x []float32, eps float32) float32 {
	return float32(1 / math.Sqrt(sumSquares(x)/float64(len(x))+float64(eps)))
}

func sumSquares(x []float32) (sum float64) {
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
func silu(x float32) float32    { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }
func exp(x float32) float32     { return float32(math.Exp(float64(x))) }

// softplus is log(1 + e^x); above 20 the difference to x is below fp32.
func softplus(x float32) float32 {
	if x > 20 {
		return x
	}
	return float32(math.Log1p(math.Exp(float64(x))))
}

// normRows norms every row of x into dst.
func (r *run) normRows(dst, x []float32, w []float32, eps float32) {
	hidden := len(w)
	r.pool.each(len(x)/hidden, func(_, t int) {
		zeroCentredNorm(dst[t*hidden:][:hidden], x[t*hidden:][:hidden], w, eps)
	})
}

// Embed implements ops.Set.
func (r *recorder) Embed(a ops.EmbedArgs) {
	r.need(a.Table)
	r.p.vocab = a.Table.N
	hidden := a.Table.K
	r.add("embed", -1, func(r *run) {
		x := floats(a.X)[:r.rows*hidden]
		for t, id := range r.IDs {
			a.Table.Row(x[t*hidden:][:hidden], int(id))
		}
		r.tap(-1, "embedding", hidden, x)
	})
}

// MixerIn implements ops.Set.
func (r *recorder) MixerIn(a ops.MixerInArgs) {
	norm := r.vector(a.Norm)
	r.need(a.Weights...)
	hidden := len(norm)
	r.plan.hidden = max(r.plan.hidden, hidden)
	stride := 0
	for _, w := range a.Weights {
		stride += w.N
	}
	r.add("mixer_in", a.Layer, func(r *run) {
		normed := r.normed[:r.rows*hidden]
		r.normRows(normed, floats(a.X)[:r.rows*hidden], norm, a.Eps)
		r.tap(a.Layer, "input_norm", hidden, normed)
		at := 0
		for _, w := range a.Weights {
			out := rows{data: floats(a.Out)[at:], stride: stride, count: r.rows}
			r.multiply(out, rows{normed, hidden, r.rows, nil}, w)
			at += w.N
		}
	})
}

// MixerOut implements ops.Set.
func (r *recorder) MixerOut(a ops.MixerOutArgs) {
	r.need(a.W)
	hidden := a.W.N
	r.add("mixer_out", a.Layer, func(r *run) {
		delta := r.delta[:r.rows*hidden]
		r.multiply(rows{delta, hidden, r.rows, nil}, rows{floats(a.In), a.W.K, r.rows, nil}, a.W)
		r.tap(a.Layer, "mixer_out", hidden, delta)
		add(floats(a.X)[:len(delta)], delta)
	})
}

func add(x, delta []float32) {
	for i, d := range delta {
		x[i] += d
	}
}

// Router implements ops.Set.
func (r *recorder) Router(a ops.RouterArgs) {
	norm := r.vector(a.Norm)
	r.need(a.Router, a.Shared)
	hidden := len(norm)
	r.add("router", a.Layer, func(r *run) {
		normed := floats(a.Normed)[:r.rows*hidden]
		r.normRows(normed, floats(a.X)[:r.rows*hidden], norm, a.Eps)
		r.tap(a.Layer, "post_norm", hidden, normed)
		x := rows{normed, hidden, r.rows, nil}
		logits := floats(a.Logits)[:r.rows*a.Router.N]
		r.multiply(rows{logits, a.Router.N, r.rows, nil}, x, a.Router)
		r.tap(a.Layer, "router_logits", a.Router.N, logits)
		gate := floats(a.Gate)[:r.rows]
		r.multiply(rows{gate, 1, r.rows, nil}, x, a.Shared)
		r.tap(a.Layer, "shared_gate_logit", 1, gate)
	})
}

// Logits implements ops.Set.
func (r *recorder) Logits(a ops.LogitsArgs) {
	norm := r.vector(a.Norm)
	r.need(a.Head)
	hidden := len(norm)
	r.add("logits", -1, func(r *run) {
		out := floats(a.Hidden)[:r.rows*hidden]
		r.normRows(out, floats(a.X)[:r.rows*hidden], norm, a.Eps)
		r.tap(-1, "hidden", hidden, out)
		if len(r.wanted) == 0 {
			return
		}
		logits := floats(a.Logits)[:len(r.wanted)*a.Head.N]
		r.multiply(rows{logits, a.Head.N, len(r.wanted), nil}, rows{out, hidden, len(r.wanted), r.wanted}, a.Head)
		r.tap(-1, "logits", a.Head.N, logits)
	})
}

// DraftIn implements ops.Set.
func (r *recorder) DraftIn(a ops.DraftInArgs) {
	embedNorm, hiddenNorm := r.vector(a.EmbedNorm), r.vector(a.HiddenNorm)
	r.need(a.Table, a.FC)
	r.p.vocab = a.Table.N
	hidden := a.Table.K
	r.plan.hidden = max(r.plan.hidden, hidden)
	r.add("draft_in", -1, func(r *run) {
		for t, id := range r.IDs {
			both := r.joined[t*2*hidden:][:2*hidden]
			a.Table.Row(both[:hidden], int(id))
			zeroCentredNorm(both[:hidden], both[:hidden], embedNorm, a.Eps)
			zeroCentredNorm(both[hidden:], r.Hidden[t*hidden:][:hidden], hiddenNorm, a.Eps)
		}
		x := floats(a.X)[:r.rows*hidden]
		r.multiply(rows{x, hidden, r.rows, nil}, rows{r.joined, 2 * hidden, r.rows, nil}, a.FC)
		r.tap(-1, "fc_out", hidden, x)
	})
}
