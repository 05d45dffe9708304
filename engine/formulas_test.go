package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
)

// weights64 are the tensors of a random model, by name.
type weights64 map[string][]float64

// randomModel makes an unquantised fp32 checkpoint for a config.json.
func randomModel(t *testing.T, config map[string]any) (fs.FS, *qwen3next.Config, weights64) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := qwen3next.ParseConfig(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	random, w, shapes := rand.New(rand.NewPCG(21, 22)), weights64{}, map[string][]int{}
	tensor := func(name string, scale float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(float32(random.NormFloat64() * scale))
		}
		w[name], shapes[name] = values, shape
	}
	linear := func(name string, in, out int) { tensor(name+".weight", 1/math.Sqrt(float64(in)), out, in) }
	expert := func(name string, width int) {
		linear(name+".gate_proj", c.Hidden, width)
		linear(name+".up_proj", c.Hidden, width)
		linear(name+".down_proj", width, c.Hidden)
	}
	tensor("model.embed_tokens.weight", 1, c.Vocab, c.Hidden)
	tensor("model.norm.weight", .2, c.Hidden)
	if !c.Tied {
		linear("lm_head", c.Hidden, c.Vocab)
	}
	a, d := c.Attn, c.Delta
	for i, attention := range c.Attention {
		l := fmt.Sprintf("model.layers.%d.", i)
		tensor(l+"input_layernorm.weight", .2, c.Hidden)
		tensor(l+"post_attention_layernorm.weight", .2, c.Hidden)
		if attention {
			linear(l+"self_attn.q_proj", c.Hidden, 2*a.Heads*a.HeadDim)
			linear(l+"self_attn.k_proj", c.Hidden, a.KVHeads*a.HeadDim)
			linear(l+"self_attn.v_proj", c.Hidden, a.KVHeads*a.HeadDim)
			linear(l+"self_attn.o_proj", a.Heads*a.HeadDim, c.Hidden)
			tensor(l+"self_attn.q_norm.weight", .2, a.HeadDim)
			tensor(l+"self_attn.k_norm.weight", .2, a.HeadDim)
		} else {
			linear(l+"linear_attn.in_proj_qkvz", c.Hidden, 2*d.KeyHeads*d.KeyDim+2*d.ValueHeads*d.ValueDim)
			linear(l+"linear_attn.in_proj_ba", c.Hidden, 2*d.ValueHeads)
			linear(l+"linear_attn.out_proj", d.ValueHeads*d.ValueDim, c.Hidden)
			tensor(l+"linear_attn.conv1d.weight", .5, d.Channels(), 1, d.Kernel)
			tensor(l+"linear_attn.A_log", .5, d.ValueHeads)
			tensor(l+"linear_attn.dt_bias", .5, d.ValueHeads)
			tensor(l+"linear_attn.norm.weight", 1, d.ValueDim)
		}
		linear(l+"mlp.gate", c.Hidden, c.Experts)
		linear(l+"mlp.shared_expert_gate", c.Hidden, 1)
		expert(l+"mlp.shared_expert", c.SharedWidth)
		for e := range c.Experts {
			expert(fmt.Sprintf("%smlp.experts.%d", l, e), c.ExpertWidth)
		}
	}
	return fstest.MapFS{
		"config.json":       {Data: text},
		"model.safetensors": {Data: safetensorsOf(t, w, shapes)},
	}, c, w
}

// safetensorsOf writes an F32 file.
func safetensorsOf(t *testing.T, w weights64, shapes map[string][]int) []byte {
	header, at := map[string]any{}, 0
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(w)) {
		for _, v := range w[name] {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shapes[name], "data_offsets": []int{at, len(data)}}
		at = len(data)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, bytes.Repeat([]byte(" "), (8-len(text)%8)%8)...)
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
}

// formulas is the model written once more from its description: float64, one
// token at a time, no chunks, no sharing of code with the engine.
type formulas struct {
	c      *qwen3next.Config
	w      weights64
	keys   [][][]float64 // layer, position: KVHeads*HeadDim
	values [][][]float64
	state  [][]float64   // layer: ValueHeads*KeyDim*ValueDim
	past   [][][]float64 // layer: inputs of the convolution so far
	edit   func(layer int) *intervention
	chosen [][]int     // layer: experts of the last token, best first
	behind [][]float64 // layer: the residual behind it, of the last token
}

// intervention is what steering does to a layer, as the handbook has it, and what is
// added to the router logits themselves.
type intervention struct {
	router      map[int]float64
	bias, scale map[int]float64
	ban, force  []int
	gate        float64 // factor of the shared expert's gate; 0 stands for 1
	k           int
	vector      []float64
}

func newFormulas(c *qwen3next.Config, w weights64) *formulas {
	f := &formulas{c: c, w: w, chosen: make([][]int, c.Layers), behind: make([][]float64, c.Layers), keys: make([][][]float64, c.Layers), values: make([][][]float64, c.Layers), past: make([][][]float64, c.Layers)}
	for range c.Layers {
		f.state = append(f.state, make([]float64, c.Delta.ValueHeads*c.Delta.KeyDim*c.Delta.ValueDim))
	}
	return f
}

func (f *formulas) linear(name string, x []float64) []float64 {
	w := f.w[name+".weight"]
	out := make([]float64, len(w)/len(x))
	for n := range out {
		for k, v := range x {
			out[n] += v * w[n*len(x)+k]
		}
	}
	return out
}

func (f *formulas) norm(name string, x []float64, plus float64) []float64 {
	mean := 0.0
	for _, v := range x {
		mean += v * v / float64(len(x))
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(mean+float64(f.c.Eps)) * (plus + f.w[name][i])
	}
	return out
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func (f *formulas) swiglu(name string, x []float64) []float64 {
	gate, up := f.linear(name+".gate_proj", x), f.linear(name+".up_proj", x)
	for i := range gate {
		gate[i] *= sigmoid64(gate[i]) * up[i]
	}
	return f.linear(name+".down_proj", gate)
}

// token reads one token and returns the logits after it.
func (f *formulas) token(id int32, position int) []float64 {
	x := slices.Clone(f.w["model.embed_tokens.weight"][int(id)*f.c.Hidden:][:f.c.Hidden])
	for i, attention := range f.c.Attention {
		l := fmt.Sprintf("model.layers.%d.", i)
		mixer := f.deltaNet
		if attention {
			mixer = f.attention
		}
		for j, v := range mixer(i, l, f.norm(l+"input_layernorm.weight", x, 1), position) {
			x[j] += v
		}
		edit := &intervention{}
		if f.edit != nil && f.edit(i) != nil {
			edit = f.edit(i)
		}
		for j, v := range f.experts(i, l+"mlp.", f.norm(l+"post_attention_layernorm.weight", x, 1), edit) {
			x[j] += v
		}
		for j, v := range edit.vector {
			x[j] += v
		}
		f.behind[i] = slices.Clone(x)
	}
	head := "lm_head"
	if f.c.Tied {
		head = "model.embed_tokens"
	}
	return f.linear(head, f.norm("model.norm.weight", x, 1))
}

func (f *formulas) attention(layer int, l string, x []float64, position int) []float64 {
	s := f.c.Attn
	rotate := func(head []float64) {
		half := len(s.Rope.InvFreq)
		for i, frequency := range s.Rope.InvFreq {
			sin, cos := math.Sincos(float64(position) * float64(frequency))
			sin, cos = sin*float64(s.Rope.Scale), cos*float64(s.Rope.Scale)
			head[i], head[i+half] = head[i]*cos-head[i+half]*sin, head[i+half]*cos+head[i]*sin
		}
	}
	q, k, v := f.linear(l+"self_attn.q_proj", x), f.linear(l+"self_attn.k_proj", x), f.linear(l+"self_attn.v_proj", x)
	for h := range s.KVHeads {
		head := f.norm(l+"self_attn.k_norm.weight", k[h*s.HeadDim:][:s.HeadDim], 1)
		rotate(head)
		copy(k[h*s.HeadDim:], head)
	}
	f.keys[layer], f.values[layer] = append(f.keys[layer], k), append(f.values[layer], v)
	var all []float64
	for h := range s.Heads {
		query := f.norm(l+"self_attn.q_norm.weight", q[2*h*s.HeadDim:][:s.HeadDim], 1)
		rotate(query)
		at := h * s.KVHeads / s.Heads * s.HeadDim
		sum, out := 0.0, make([]float64, s.HeadDim)
		for p := range f.keys[layer] {
			score := 0.0
			for i := range query {
				score += query[i] * f.keys[layer][p][at+i]
			}
			e := math.Exp(score / math.Sqrt(float64(s.HeadDim)))
			sum += e
			for i := range out {
				out[i] += e * f.values[layer][p][at+i]
			}
		}
		for i := range out {
			all = append(all, out[i]/sum*sigmoid64(q[(2*h+1)*s.HeadDim+i]))
		}
	}
	return f.linear(l+"self_attn.o_proj", all)
}

func (f *formulas) deltaNet(layer int, l string, x []float64, _ int) []float64 {
	s := f.c.Delta
	qkvz, ba := f.linear(l+"linear_attn.in_proj_qkvz", x), f.linear(l+"linear_attn.in_proj_ba", x)
	share := s.ValueHeads / s.KeyHeads
	var q, k, v, z, b, a []float64
	for range s.KeyHeads { // each group: q, k, then v and z of its value heads; b, then a
		cut := func(from *[]float64, n int) []float64 {
			part := (*from)[:n]
			*from = (*from)[n:]
			return part
		}
		q, k = append(q, cut(&qkvz, s.KeyDim)...), append(k, cut(&qkvz, s.KeyDim)...)
		v, z = append(v, cut(&qkvz, share*s.ValueDim)...), append(z, cut(&qkvz, share*s.ValueDim)...)
		b, a = append(b, cut(&ba, share)...), append(a, cut(&ba, share)...)
	}
	f.past[layer] = append(f.past[layer], slices.Concat(q, k, v))
	mixed := make([]float64, s.Channels())
	for c := range mixed {
		for tap := range s.Kernel {
			if t := len(f.past[layer]) - s.Kernel + tap; t >= 0 {
				mixed[c] += f.w[l+"linear_attn.conv1d.weight"][c*s.Kernel+tap] * f.past[layer][t][c]
			}
		}
		mixed[c] *= sigmoid64(mixed[c])
	}
	unit := func(x []float64) []float64 {
		sum := 1e-6
		for _, v := range x {
			sum += v * v
		}
		out := make([]float64, len(x))
		for i := range x {
			out[i] = x[i] / math.Sqrt(sum)
		}
		return out
	}
	var all []float64
	for h := range s.ValueHeads {
		at := h / share * s.KeyDim
		qh, kh := unit(mixed[at:][:s.KeyDim]), unit(mixed[s.KeyHeads*s.KeyDim+at:][:s.KeyDim])
		vh := mixed[2*s.KeyHeads*s.KeyDim+h*s.ValueDim:][:s.ValueDim]
		decay := math.Exp(-math.Exp(f.w[l+"linear_attn.A_log"][h]) * math.Log1p(math.Exp(a[h]+f.w[l+"linear_attn.dt_bias"][h])))
		state := f.state[layer][h*s.KeyDim*s.ValueDim:][:s.KeyDim*s.ValueDim]
		out := make([]float64, s.ValueDim)
		for j := range out {
			seen := 0.0
			for i := range kh {
				state[i*s.ValueDim+j] *= decay
				seen += state[i*s.ValueDim+j] * kh[i]
			}
			for i := range kh {
				state[i*s.ValueDim+j] += kh[i] * sigmoid64(b[h]) * (vh[j] - seen)
				out[j] += state[i*s.ValueDim+j] * qh[i] / math.Sqrt(float64(s.KeyDim))
			}
		}
		for j, o := range f.norm(l+"linear_attn.norm.weight", out, 0) {
			gate := z[h*s.ValueDim+j]
			all = append(all, o*gate*sigmoid64(gate))
		}
	}
	return f.linear(l+"linear_attn.out_proj", all)
}

func (f *formulas) experts(layer int, l string, x []float64, edit *intervention) []float64 {
	weights, sum := f.linear(l+"gate", x), 0.0
	rank, order := slices.Clone(weights), []int{}
	for e := range rank {
		weights[e] = math.Exp(weights[e] + edit.router[e])
		sum += weights[e]
		if rank[e] += edit.router[e] + edit.bias[e]; slices.Contains(edit.force, e) {
			rank[e] = math.Inf(1)
		}
		if !slices.Contains(edit.ban, e) {
			order = append(order, e)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[b], rank[a]) })
	chosen := order[:cmp.Or(edit.k, f.c.TopK)]
	f.chosen[layer] = chosen
	if f.c.Renormalise {
		sum = 0
		for _, e := range chosen {
			sum += weights[e]
		}
	}
	out := make([]float64, len(x))
	for _, e := range chosen {
		factor, scaled := edit.scale[e]
		if !scaled {
			factor = 1
		}
		for i, v := range f.swiglu(fmt.Sprintf("%sexperts.%d", l, e), x) {
			out[i] += weights[e] / sum * factor * v
		}
	}
	gate := sigmoid64(f.linear(l+"shared_expert_gate", x)[0]) * cmp.Or(edit.gate, 1)
	for i, v := range f.swiglu(l+"shared_expert", x) {
		out[i] += gate * v
	}
	return out
}

// Shapes that no published model has: nothing in the engine may rely on theirs.
func TestOddShapesFollowTheFormulas(t *testing.T) {
	base := map[string]any{
		"model_type": "qwen3_next", "hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 53, "max_position_embeddings": 512,
		"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 20, "partial_rotary_factor": 0.3,
		"layer_types":          []string{"full_attention", "linear_attention", "linear_attention"},
		"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 12, "linear_value_head_dim": 20, "linear_conv_kernel_dim": 3,
		"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40,
	}
	for name, change := range map[string]map[string]any{
		"tied, not renormalised": {"tie_word_embeddings": true, "norm_topk_prob": false},
		"one key head for all, all experts, whole rotation": {"num_attention_heads": 5, "num_key_value_heads": 1, "partial_rotary_factor": 1.0,
			"linear_num_key_heads": 1, "num_experts_per_tok": 5},
		"one head each, one expert, no past": {"num_attention_heads": 4, "num_key_value_heads": 4, "linear_num_key_heads": 6,
			"linear_conv_kernel_dim": 1, "num_experts_per_tok": 1, "linear_key_head_dim": 20, "linear_value_head_dim": 4},
		"interval and long convolution": {"layer_types": nil, "full_attention_interval": 2, "linear_conv_kernel_dim": 9},
		"only attention, yarn": {"layer_types": []string{"full_attention", "full_attention", "full_attention"},
			"rope_parameters": map[string]any{"rope_type": "yarn", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "factor": 4.0, "original_max_position_embeddings": 128}},
		"only delta nets": {"layer_types": []string{"linear_attention", "linear_attention", "linear_attention"}, "rms_norm_eps": 1e-3},
	} {
		t.Run(name, func(t *testing.T) {
			config := maps.Clone(base)
			maps.Copy(config, change)
			fsys, c, w := randomModel(t, config)
			m, err := Open(context.Background(), fsys, Options{Name: name, Streams: 2, Numerics: "exact"})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			ids := make([]int32, 70)
			for i := range ids {
				ids[i] = int32(i * 7 % c.Vocab)
			}
			reference := newFormulas(c, w)
			all, want := make([]int, len(ids)), make([][]float64, len(ids))
			for i, id := range ids {
				all[i], want[i] = i, reference.token(id, i)
			}
			for _, stepForm := range []bool{false, true} {
				seq, err := m.NewSequence(context.Background(), len(ids))
				if err != nil {
					t.Fatal(err)
				}
				_, err = seq.Read(context.Background(), ids, StepOptions{Logits: all, StepForm: stepForm, Rows: func(at int, row []float32) {
					for j, v := range row {
						if d := math.Abs(float64(v) - want[at][j]); !(d < 1e-3) {
							t.Fatalf("step form %v: token %d, logit %d is %v, the formulas say %v", stepForm, at, j, v, want[at][j])
						}
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				seq.Release()
			}
		})
	}
}
