package qwen3next

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// Weights are the tensors of a checkpoint, bound to their places in the model.
type Weights struct {
	Embed  *ops.Matrix // [vocabulary, hidden] rows
	Layers []Layer
	Norm   *ops.Vector
	Head   *ops.Matrix // hidden -> vocabulary
	Draft  *DraftLayer // nil without MTP

	// All lists every tensor once, for placing.
	All ops.Weights
	// Warnings are oddities that do not keep the model from running.
	Warnings []string
}

// Layer has a delta net or an attention mixer, never both.
type Layer struct {
	InputNorm, PostNorm *ops.Vector
	Delta               *DeltaNet
	Attn                *Attention
	Out                 *ops.Matrix // out_proj or o_proj

	Router     *ops.Matrix
	SharedGate *ops.Matrix // hidden -> 1
	Shared     ops.Expert
	Experts    []ops.Expert
}

// DeltaNet are the weights of a gated delta net.
type DeltaNet struct {
	QKVZ, BA                 *ops.Matrix
	Conv, ALog, DTBias, Norm *ops.Vector
}

// Attention are the weights of a gated attention.
type Attention struct {
	Q, K, V      *ops.Matrix // Q has query and gate of each head
	QNorm, KNorm *ops.Vector
}

// DraftLayer is the multi-token-prediction layer.
type DraftLayer struct {
	EmbedNorm, HiddenNorm, Norm *ops.Vector
	FC                          *ops.Matrix
	Layer                       Layer
}

// Bind finds every tensor of the model in the checkpoint and checks its shape.
// All problems are reported together.
func Bind(c *safetensors.Checkpoint, cfg *Config, quant *autoround.Config) (*Weights, error) {
	b := &binder{checkpoint: c, cfg: cfg, quant: quant}
	w := &Weights{
		Embed: b.matrix("model.embed_tokens", cfg.Hidden, cfg.Vocab),
		Norm:  b.vector("model.norm.weight", cfg.Hidden),
	}
	if w.Embed != nil && w.Embed.Layout != ops.Dense {
		b.fail(errors.New("model.embed_tokens is quantised, which is not supported: use a checkpoint with a 16-bit embedding"))
	}
	if cfg.Tied {
		w.Head = w.Embed
	} else {
		w.Head = b.matrix("lm_head", cfg.Hidden, cfg.Vocab)
	}
	for i := range cfg.Layers {
		w.Layers = append(w.Layers, b.layer(fmt.Sprintf("model.layers.%d", i), cfg.Attention[i]))
	}
	if _, ok := c.Lookup("mtp.norm.weight"); ok {
		w.Draft = &DraftLayer{
			EmbedNorm:  b.vector("mtp.pre_fc_norm_embedding.weight", cfg.Hidden),
			HiddenNorm: b.vector("mtp.pre_fc_norm_hidden.weight", cfg.Hidden),
			Norm:       b.vector("mtp.norm.weight", cfg.Hidden),
			FC:         b.matrix("mtp.fc", 2*cfg.Hidden, cfg.Hidden),
			Layer:      b.layer("mtp.layers.0", true),
		}
		cfg.DraftLayers = 1
	}
	b.all.Embed, b.all.Head = w.Embed, w.Head
	w.All, w.Warnings = b.all, b.warnings
	return w, errors.Join(b.errs...)
}

type binder struct {
	checkpoint *safetensors.Checkpoint
	cfg        *Config
	quant      *autoround.Config
	all        ops.Weights
	warnings   []string
	errs       []error
}

func (b *binder) fail(err error) { b.errs = append(b.errs, err) }

func (b *binder) layer(name string, attention bool) (l Layer) {
	cfg := b.cfg
	l.InputNorm = b.vector(name+".input_layernorm.weight", cfg.Hidden)
	l.PostNorm = b.vector(name+".post_attention_layernorm.weight", cfg.Hidden)
	if attention {
		l.Attn, l.Out = b.attention(name + ".self_attn")
	} else {
		l.Delta, l.Out = b.deltaNet(name + ".linear_attn")
	}
	l.Router = b.matrix(name+".mlp.gate", cfg.Hidden, cfg.Experts)
	l.SharedGate = b.matrix(name+".mlp.shared_expert_gate", cfg.Hidden, 1)
	l.Shared = b.expert(name+".mlp.shared_expert", cfg.SharedWidth)
	for e := range cfg.Experts {
		l.Experts = append(l.Experts, b.expert(fmt.Sprintf("%s.mlp.experts.%d", name, e), cfg.ExpertWidth))
	}
	b.all.Mixtures = append(b.all.Mixtures, ops.Mixture{Experts: l.Experts, Shared: l.Shared})
	return l
}

func (b *binder) attention(name string) (*Attention, *ops.Matrix) {
	hidden, s := b.cfg.Hidden, b.cfg.Attn
	return &Attention{
		Q:     b.matrix(name+".q_proj", hidden, 2*s.Heads*s.HeadDim),
		K:     b.matrix(name+".k_proj", hidden, s.KVHeads*s.HeadDim),
		V:     b.matrix(name+".v_proj", hidden, s.KVHeads*s.HeadDim),
		QNorm: b.vector(name+".q_norm.weight", s.HeadDim),
		KNorm: b.vector(name+".k_norm.weight", s.HeadDim),
	}, b.matrix(name+".o_proj", s.Heads*s.HeadDim, hidden)
}

func (b *binder) deltaNet(name string) (*DeltaNet, *ops.Matrix) {
	hidden, s := b.cfg.Hidden, b.cfg.Delta
	return &DeltaNet{
		QKVZ:   b.matrix(name+".in_proj_qkvz", hidden, 2*s.KeyHeads*s.KeyDim+2*s.ValueHeads*s.ValueDim),
		BA:     b.matrix(name+".in_proj_ba", hidden, 2*s.ValueHeads),
		Conv:   b.vector(name+".conv1d.weight", s.Channels()*s.Kernel),
		ALog:   b.vector(name+".A_log", s.ValueHeads),
		DTBias: b.vector(name+".dt_bias", s.ValueHeads),
		Norm:   b.vector(name+".norm.weight", s.ValueDim),
	}, b.matrix(name+".out_proj", s.ValueHeads*s.ValueDim, hidden)
}

func (b *binder) expert(name string, width int) ops.Expert {
	return ops.Expert{
		Gate: b.matrix(name+".gate_proj", b.cfg.Hidden, width),
		Up:   b.matrix(name+".up_proj", b.cfg.Hidden, width),
		Down: b.matrix(name+".down_proj", width, b.cfg.Hidden),
	}
}

// matrix binds module name, [k] -> [n]. It returns nil after an error, which
// Bind reports in the end.
func (b *binder) matrix(name string, k, n int) *ops.Matrix {
	m, warnings, err := autoround.Bind(b.checkpoint, b.quant, name, k, n)
	if err != nil {
		b.fail(err)
		return nil
	}
	for _, w := range warnings {
		b.warnings = append(b.warnings, fmt.Sprint(w))
	}
	b.all.Matrices = append(b.all.Matrices, m)
	return m
}

// vector binds an unquantised tensor of n elements.
func (b *binder) vector(name string, n int) *ops.Vector {
	t, ok := b.checkpoint.Lookup(name)
	if !ok {
		b.fail(fmt.Errorf("%s is missing from the checkpoint", name))
		return nil
	}
	v := &ops.Vector{Name: name, N: n, Source: ops.Extent{File: t.File, Offset: t.Offset, Data: t.Data(), Reader: t.Reader()}}
	switch t.DType {
	case safetensors.F32:
		v.Type = ops.F32
	case safetensors.F16:
		v.Type = ops.F16
	case safetensors.BF16:
		v.Type = ops.BF16
	default:
		b.fail(fmt.Errorf("%s in %s is %v: expected F32, F16 or BF16", name, t.File, t.DType))
		return nil
	}
	if got := int64(len(v.Source.Data)) / v.Type.Size(); got != int64(n) {
		b.fail(fmt.Errorf("%s in %s has shape %v (%d elements): config.json asks for %d", name, t.File, t.Shape, got, n))
		return nil
	}
	b.all.Vectors = append(b.all.Vectors, v)
	return v
}
