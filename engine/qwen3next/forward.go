package qwen3next

import (
	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Buffers hold the values between the phases of a step of up to T rows.
type Buffers struct {
	X       ops.Buf // [T, hidden] the residual stream
	Proj    ops.Buf // [T, widest mixer input]
	Heads   ops.Buf // [T, widest mixer output]
	Normed  ops.Buf // [T, hidden] input of router and experts
	Router  ops.Buf // [T, experts] router logits
	Gate    ops.Buf // [T] shared expert gate, before its sigmoid
	IDs     ops.Buf // I32 [T, k] chosen experts, best first
	Weights ops.Buf // [T, k] their weights
	Hidden  ops.Buf // [T, hidden] after the final norm
	Logits  ops.Buf // [logits rows, vocabulary]
}

// Forward records the forward pass, from token ids to logits:
//
//	x = embed[ids]
//	for each layer:  x += mixer(norm(x));  x += moe(norm(x))
//	logits = lm_head(norm(x))
func Forward(set ops.Set, cfg *Config, w *Weights, kv *cache.Cache, b *Buffers) {
	set.Embed(ops.EmbedArgs{Table: w.Embed, X: b.X})
	for i := range w.Layers {
		layer(set, cfg, &w.Layers[i], i, kv.Layers[i], b)
	}
	set.Logits(ops.LogitsArgs{X: b.X, Norm: w.Norm, Eps: cfg.Eps, Head: w.Head, Hidden: b.Hidden, Logits: b.Logits})
}

// Draft records the draft (MTP) layer: from the next token's id and the main
// model's hidden state after its final norm, to the logits of the token after.
// It has its own KV pages and shares embedding and lm_head.
func Draft(set ops.Set, cfg *Config, w *Weights, kv *cache.Cache, b *Buffers) {
	d := w.Draft
	set.DraftIn(ops.DraftInArgs{Table: w.Embed, EmbedNorm: d.EmbedNorm, HiddenNorm: d.HiddenNorm, Eps: cfg.Eps, FC: d.FC, X: b.X})
	layer(set, cfg, &d.Layer, 0, kv.Layers[0], b)
	set.Logits(ops.LogitsArgs{X: b.X, Norm: d.Norm, Eps: cfg.Eps, Head: w.Head, Hidden: b.Hidden, Logits: b.Logits})
}

// layer records one layer: a mixer (gated delta net or gated attention), then
// the mixture of experts, each on the normed residual and added to it.
func layer(set ops.Set, cfg *Config, l *Layer, i int, kv cache.Layer, b *Buffers) {
	if d := l.Delta; d != nil {
		set.MixerIn(ops.MixerInArgs{Layer: i, X: b.X, Norm: l.InputNorm, Eps: cfg.Eps,
			Weights: []*ops.Matrix{d.QKVZ, d.BA}, Out: b.Proj})
		set.DeltaNet(ops.DeltaNetArgs{Layer: i, Shape: cfg.Delta, In: b.Proj,
			Conv: d.Conv, ALog: d.ALog, DTBias: d.DTBias, Norm: d.Norm, Eps: cfg.Eps,
			State: kv.State, Window: kv.Window, Out: b.Heads})
	} else {
		a := l.Attn
		set.MixerIn(ops.MixerInArgs{Layer: i, X: b.X, Norm: l.InputNorm, Eps: cfg.Eps,
			Weights: []*ops.Matrix{a.Q, a.K, a.V}, Out: b.Proj})
		set.Attention(ops.AttentionArgs{Layer: i, Shape: cfg.Attn, In: b.Proj,
			QNorm: a.QNorm, KNorm: a.KNorm, Eps: cfg.Eps, Keys: kv.Keys, Values: kv.Values, Out: b.Heads})
	}
	set.MixerOut(ops.MixerOutArgs{Layer: i, In: b.Heads, W: l.Out, X: b.X})

	set.Router(ops.RouterArgs{Layer: i, X: b.X, Norm: l.PostNorm, Eps: cfg.Eps,
		Router: l.Router, Shared: l.SharedGate, Normed: b.Normed, Logits: b.Router, Gate: b.Gate})
	set.Select(ops.SelectArgs{Layer: i, Logits: b.Router, Experts: cfg.Experts, K: cfg.TopK,
		Renormalise: cfg.Renormalise, IDs: b.IDs, Weights: b.Weights})
	set.Experts(ops.ExpertsArgs{Layer: i, Normed: b.Normed, IDs: b.IDs, Weights: b.Weights, K: cfg.TopK,
		Experts: l.Experts, Gate: b.Gate, Shared: l.Shared, X: b.X})
}

// Shape returns what the model's layers keep in the cache.
func (c *Config) Shape() cache.Shape {
	return cache.Shape{Attention: c.Attention, Attn: c.Attn, Delta: c.Delta}
}

// DraftShape returns what the draft layer keeps: one attention layer.
func (c *Config) DraftShape() cache.Shape {
	return cache.Shape{Attention: []bool{true}, Attn: c.Attn, Delta: c.Delta}
}

// elements of each buffer for rows token rows and logitsRows rows of logits.
func (c *Config) elements(rows, logitsRows int) []int64 {
	s, a := c.Delta, c.Attn
	qkvz := 2*s.KeyHeads*s.KeyDim + 2*s.ValueHeads*s.ValueDim + 2*s.ValueHeads
	qkv := 2*a.Heads*a.HeadDim + 2*a.KVHeads*a.HeadDim
	t := int64(rows)
	return []int64{
		t * int64(c.Hidden),
		t * int64(max(qkvz, qkv)),
		t * int64(max(s.ValueHeads*s.ValueDim, a.Heads*a.HeadDim)),
		t * int64(c.Hidden),
		t * int64(c.Experts),
		t,
		t * int64(c.TopK),
		t * int64(c.TopK),
		t * int64(c.Hidden),
		int64(logitsRows) * int64(c.Vocab),
	}
}

// BufferBytes returns what NewBuffers takes from its arena.
func (c *Config) BufferBytes(rows, logitsRows int) (total int64) {
	for _, n := range c.elements(rows, logitsRows) {
		total += n*ops.F32.Size() + 64
	}
	return total
}

// NewBuffers takes the buffers of steps of up to rows token rows, logitsRows of
// them with logits.
func NewBuffers(arena ops.Arena, c *Config, rows, logitsRows int) (*Buffers, error) {
	b := &Buffers{}
	n := c.elements(rows, logitsRows)
	for i, buf := range []struct {
		what string
		t    ops.Type
		dst  *ops.Buf
	}{
		{"residual", ops.F32, &b.X},
		{"mixer inputs", ops.F32, &b.Proj},
		{"mixer outputs", ops.F32, &b.Heads},
		{"expert inputs", ops.F32, &b.Normed},
		{"router logits", ops.F32, &b.Router},
		{"shared gates", ops.F32, &b.Gate},
		{"expert ids", ops.I32, &b.IDs},
		{"expert weights", ops.F32, &b.Weights},
		{"hidden states", ops.F32, &b.Hidden},
		{"logits", ops.F32, &b.Logits},
	} {
		var err error
		if *buf.dst, err = arena.Alloc(buf.what, buf.t, n[i]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
