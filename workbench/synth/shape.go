// Package synth writes AutoRound model folders of random weights: the dimensions,
// layouts and files of real checkpoints without their 44 GB of downloads. Weights
// are scaled so that activations stay sane and routing is spread; what such a
// model says means nothing. The same seed gives the same bytes.
package synth

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Shape is the dimensions of a model.
type Shape struct {
	Hidden, Layers, Experts, Width int
	Chosen                         int // experts a token
	Vocab, Context                 int
	QueryHeads, KVHeads, Head      int  // attention
	KeyHeads, ValueHeads, State    int  // delta net; State is the width of keys and values
	Interval                       int  // every so manyth layer is attention
	MTP                            bool // has a draft layer
}

// Shapes are what Named knows: the demo's architecture enlarged to 0.9 GB, the
// real model, and the smallest one that satisfies the predicate of every fast
// kernel.
var Shapes = map[string]Shape{
	"demo": {Hidden: 1024, Layers: 8, Experts: 128, Width: 512, Chosen: 4, Vocab: 4096, Context: 32768,
		QueryHeads: 4, KVHeads: 2, Head: 64, KeyHeads: 2, ValueHeads: 4, State: 64, Interval: 4},
	"kernel-test": {Hidden: 512, Layers: 4, Experts: 32, Width: 128, Chosen: 10, Vocab: 4096, Context: 32768,
		QueryHeads: 8, KVHeads: 1, Head: 256, KeyHeads: 4, ValueHeads: 8, State: 128, Interval: 4},
	"qwen3-next-80b": {Hidden: 2048, Layers: 48, Experts: 512, Width: 512, Chosen: 10, Vocab: 151936, Context: 262144,
		QueryHeads: 16, KVHeads: 2, Head: 256, KeyHeads: 16, ValueHeads: 32, State: 128, Interval: 4, MTP: true},
}

// A Layout says how many bits each kind of module has; 16 is not quantised.
type Layout struct {
	Experts, Shared, Mixers, Router int
	Draft                           bool // the draft layer is in the files, of 4 bits
}

// Layouts are the bit maps of published checkpoints: int4-mixed-2026 and -2025 as
// Intel has them since April 2026 and before, int4 with 4 bits wherever it can be
// (workbench/docs/autoround-format.md, section 3).
var Layouts = map[string]Layout{
	"int4-mixed-2026": {Experts: 4, Shared: 8, Mixers: 8, Router: 16, Draft: true},
	"int4-mixed-2025": {Experts: 4, Shared: 4, Mixers: 8, Router: 8},
	"int4":            {Experts: 4, Shared: 4, Mixers: 4, Router: 16},
}

// Options of a model.
type Options struct {
	Shape, Layout string
	Layers        int // 0 for those of the shape
	Interval      int // 0 for that of the shape
	Seed          uint64
}

// A Model is what Options ask for.
type Model struct {
	Shape
	Layout
	Seed uint64
}

// New looks the options up.
func New(o Options) (Model, error) {
	shape, ok := Shapes[o.Shape]
	if !ok {
		return Model{}, fmt.Errorf("shape %q: there are %s", o.Shape, strings.Join(slices.Sorted(maps.Keys(Shapes)), ", "))
	}
	layout, ok := Layouts[o.Layout]
	if !ok {
		return Model{}, fmt.Errorf("layout %q: there are %s", o.Layout, strings.Join(slices.Sorted(maps.Keys(Layouts)), ", "))
	}
	if o.Layers < 0 || o.Layers > 1024 || o.Interval < 0 {
		return Model{}, fmt.Errorf("%d layers, attention every %d: layers may be 1 to 1024, or 0 for those of the shape", o.Layers, o.Interval)
	}
	if o.Layers > 0 {
		shape.Layers = o.Layers
	}
	if o.Interval > 0 {
		shape.Interval = o.Interval
	}
	layout.Draft = layout.Draft && shape.MTP
	return Model{shape, layout, o.Seed}, nil
}

func (m Model) attention(layer int) bool { return layer%m.Interval == m.Interval-1 }

// group is how many inputs share a scale in the published files.
const group = 128

// A tensor of a synthetic file: 16-bit values around a centre, codes, or words that
// are all the same.
type tensor struct {
	name, dtype    string
	shape          []int
	centre, spread float64
	signed         bool   // half of the values are negative
	same           uint32 // of I32: every word; 0 for random codes
}

func (t tensor) bytes() int64 {
	size := map[string]int64{"I32": 4, "BF16": 2, "F16": 2}[t.dtype]
	for _, n := range t.shape {
		size *= int64(n)
	}
	return size
}

// linear is a module y[n] = x[k] W[k,n] of so many bits, whose outputs are as large
// as its inputs. zero is the stored zero point's distance from the middle: 1 in
// most files, 0 in the draft layers of 2026.
func linear(name string, k, n, bits, zero int) []tensor {
	if bits == 16 {
		return []tensor{dense(name, 1/math.Sqrt(float64(k)), n, k)}
	}
	groups := k / group
	scale := 1 / math.Sqrt(float64(k)) / float64(int(1)<<(bits-2)) // codes spread over 2^bits values
	field := uint32(int(1)<<(bits-1) - zero)
	for width := bits; width < 32; width *= 2 {
		field |= field << width
	}
	return []tensor{
		{name: name + ".qweight", dtype: "I32", shape: []int{k * bits / 32, n}},
		{name: name + ".qzeros", dtype: "I32", shape: []int{groups, n * bits / 32}, same: field},
		{name: name + ".scales", dtype: "F16", shape: []int{groups, n}, centre: scale, spread: scale / 4, signed: true},
	}
}

func dense(name string, spread float64, shape ...int) tensor {
	return tensor{name: name + ".weight", dtype: "BF16", shape: shape, spread: spread}
}

// tensors lists the tensors of the model, and of its draft layer.
func (m Model) tensors() (main, draft []tensor) {
	small := 1 / math.Sqrt(float64(m.Hidden))
	main = []tensor{
		dense("model.embed_tokens", 1, m.Vocab, m.Hidden),
		dense("lm_head", small, m.Vocab, m.Hidden),
		dense("model.norm", 0.1, m.Hidden),
	}
	for layer := range m.Layers {
		main = append(main, m.layer(fmt.Sprintf("model.layers.%d.", layer), m.attention(layer))...)
	}
	if m.Draft {
		four := Model{m.Shape, Layout{Experts: 4, Shared: 4, Mixers: 4, Router: 16}, m.Seed}
		draft = append(four.layer("mtp.layers.0.", true), linear("mtp.fc", 2*m.Hidden, m.Hidden, 4, 0)...)
		draft = append(draft, dense("mtp.norm", 0.1, m.Hidden), dense("mtp.pre_fc_norm_embedding", 0.1, m.Hidden),
			dense("mtp.pre_fc_norm_hidden", 0.1, m.Hidden))
		for i := range draft {
			if strings.HasSuffix(draft[i].name, ".qzeros") {
				draft[i].same = 0x88888888
			}
		}
	}
	return main, draft
}

func (m Model) layer(at string, attention bool) []tensor {
	small := 1 / math.Sqrt(float64(m.Hidden))
	all := []tensor{dense(at+"input_layernorm", 0.1, m.Hidden), dense(at+"post_attention_layernorm", 0.1, m.Hidden),
		dense(at+"mlp.shared_expert_gate", small, 1, m.Hidden)}
	all = append(all, linear(at+"mlp.gate", m.Hidden, m.Shape.Experts, m.Router, 1)...)
	if attention {
		all = append(all, m.attentionMixer(at+"self_attn.")...)
	} else {
		all = append(all, m.deltaMixer(at+"linear_attn.")...)
	}
	all = append(all, m.expert(at+"mlp.shared_expert.", m.Shared)...)
	for e := range m.Shape.Experts {
		all = append(all, m.expert(fmt.Sprintf("%smlp.experts.%d.", at, e), m.Layout.Experts)...)
	}
	return all
}

func (m Model) attentionMixer(at string) []tensor {
	all := []tensor{dense(at+"q_norm", 0.1, m.Head), dense(at+"k_norm", 0.1, m.Head)}
	all = append(all, linear(at+"q_proj", m.Hidden, 2*m.QueryHeads*m.Head, m.Mixers, 1)...)
	all = append(all, linear(at+"k_proj", m.Hidden, m.KVHeads*m.Head, m.Mixers, 1)...)
	all = append(all, linear(at+"v_proj", m.Hidden, m.KVHeads*m.Head, m.Mixers, 1)...)
	return append(all, linear(at+"o_proj", m.QueryHeads*m.Head, m.Hidden, m.Mixers, 1)...)
}

func (m Model) deltaMixer(at string) []tensor {
	values := m.ValueHeads * m.State
	mixed := 2*m.KeyHeads*m.State + values
	all := []tensor{
		{name: at + "A_log", dtype: "BF16", shape: []int{m.ValueHeads}, centre: 1, spread: 0.5},
		{name: at + "dt_bias", dtype: "BF16", shape: []int{m.ValueHeads}, centre: 1, spread: 0.5},
		dense(at+"conv1d", 0.5, mixed, 1, 4),
		{name: at + "norm.weight", dtype: "BF16", shape: []int{m.State}, centre: 1, spread: 0.1},
	}
	ba := m.Mixers
	if 2*m.ValueHeads%32 != 0 { // an exporter leaves such modules alone
		ba = 16
	}
	all = append(all, linear(at+"in_proj_ba", m.Hidden, 2*m.ValueHeads, ba, 1)...)
	all = append(all, linear(at+"in_proj_qkvz", m.Hidden, mixed+values, m.Mixers, 1)...)
	return append(all, linear(at+"out_proj", values, m.Hidden, m.Mixers, 1)...)
}

func (m Model) expert(at string, bits int) []tensor {
	all := linear(at+"gate_proj", m.Hidden, m.Width, bits, 1)
	all = append(all, linear(at+"up_proj", m.Hidden, m.Width, bits, 1)...)
	return append(all, linear(at+"down_proj", m.Width, m.Hidden, bits, 1)...)
}
