package qwen3next

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// maxConfig bounds config.json; the real one has 36 KB.
const maxConfig = 16 << 20

// maxExperts bounds the experts of all layers; the real model has 24,576.
const maxExperts = 1 << 18

// file is config.json as transformers 4 and 5 write it.
type file struct {
	ModelType     string   `json:"model_type"`
	Architectures []string `json:"architectures"`

	Hidden   int      `json:"hidden_size"`
	Layers   int      `json:"num_hidden_layers"`
	Vocab    int      `json:"vocab_size"`
	Context  int      `json:"max_position_embeddings"`
	Eps      *float64 `json:"rms_norm_eps"`
	Tied     bool     `json:"tie_word_embeddings"`
	Act      string   `json:"hidden_act"`
	Interval *int     `json:"full_attention_interval"`
	Types    []string `json:"layer_types"`

	Heads   int  `json:"num_attention_heads"`
	KVHeads int  `json:"num_key_value_heads"`
	HeadDim int  `json:"head_dim"`
	Bias    bool `json:"attention_bias"`
	Sliding bool `json:"use_sliding_window"`

	Partial    *float64 `json:"partial_rotary_factor"`
	Theta      *float64 `json:"rope_theta"`
	Scaling    *rope    `json:"rope_scaling"`    // transformers 4
	Parameters *rope    `json:"rope_parameters"` // transformers 5

	KeyHeads   int  `json:"linear_num_key_heads"`
	ValueHeads int  `json:"linear_num_value_heads"`
	KeyDim     int  `json:"linear_key_head_dim"`
	ValueDim   int  `json:"linear_value_head_dim"`
	Kernel     *int `json:"linear_conv_kernel_dim"`

	Experts     int   `json:"num_experts"`
	TopK        int   `json:"num_experts_per_tok"`
	ExpertWidth int   `json:"moe_intermediate_size"`
	SharedWidth int   `json:"shared_expert_intermediate_size"`
	Renormalise *bool `json:"norm_topk_prob"`
	SparseStep  *int  `json:"decoder_sparse_step"`
	DenseLayers []int `json:"mlp_only_layers"`

	BOS *int32 `json:"bos_token_id"`
	EOS ids    `json:"eos_token_id"`
}

// rope is rope_scaling or rope_parameters.
type rope struct {
	Type            string   `json:"rope_type"`
	OldType         string   `json:"type"`
	Theta           *float64 `json:"rope_theta"`
	Partial         *float64 `json:"partial_rotary_factor"`
	Factor          *float64 `json:"factor"`
	Original        *float64 `json:"original_max_position_embeddings"`
	AttentionFactor *float64 `json:"attention_factor"`
	BetaFast        *float64 `json:"beta_fast"`
	BetaSlow        *float64 `json:"beta_slow"`
	MScale          *float64 `json:"mscale"`
	MScaleAllDim    *float64 `json:"mscale_all_dim"`
	Truncate        *bool    `json:"truncate"`
	// Newer models may give each kind of layer its own rope.
	Full   json.RawMessage `json:"full_attention"`
	Linear json.RawMessage `json:"linear_attention"`
}

// ids is one token id or a list of them.
type ids []int32

func (l *ids) UnmarshalJSON(data []byte) error {
	var one *int32
	if json.Unmarshal(data, &one) == nil {
		if one != nil {
			*l = ids{*one}
		}
		return nil
	}
	var many []int32
	err := json.Unmarshal(data, &many)
	if len(many) > 1024 {
		return errors.New("more than 1024 end tokens")
	}
	*l = many
	return err
}

// generationFile is generation_config.json.
type generationFile struct {
	EOS         ids      `json:"eos_token_id"`
	Sample      *bool    `json:"do_sample"`
	Temperature *float64 `json:"temperature"`
	TopP        *float64 `json:"top_p"`
	TopK        *int     `json:"top_k"`
}

// ParseConfig reads config.json and generation_config.json (may be empty) and
// checks every number. All problems come in one error.
func ParseConfig(config, generation []byte) (*Config, error) {
	if len(config) > maxConfig || len(generation) > maxConfig {
		return nil, fmt.Errorf("config.json of %d bytes, generation_config.json of %d: at most %d are read", len(config), len(generation), maxConfig)
	}
	var f file
	if err := json.Unmarshal(config, &f); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	var g generationFile
	if len(generation) > 0 {
		if err := json.Unmarshal(generation, &g); err != nil {
			return nil, fmt.Errorf("generation_config.json: %w", err)
		}
	}
	if f.ModelType != "qwen3_next" { // whose other keys would only add noise
		return nil, fmt.Errorf("config.json: model_type is %q: only qwen3_next is supported", f.ModelType)
	}
	if err := errors.Join(f.supported(), f.bounds()); err != nil {
		return nil, err
	}
	c := f.config()
	if err := errors.Join(f.layerTypes(c), f.rotary(c), g.apply(&f, c)); err != nil {
		return nil, err
	}
	return c, nil
}

// supported refuses models of another kind.
func (f *file) supported() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("config.json: "+format, args...))
		}
	}
	refuse(len(f.Architectures) > 0 && !slices.Contains(f.Architectures, "Qwen3NextForCausalLM"),
		"architectures is %q: only Qwen3NextForCausalLM is supported", f.Architectures)
	refuse(f.Act != "" && f.Act != "silu", "hidden_act %q is not supported: only silu", f.Act)
	refuse(f.Bias, "attention_bias true is not supported")
	refuse(f.Sliding, "use_sliding_window true is not supported")
	refuse(f.SparseStep != nil && *f.SparseStep != 1, "decoder_sparse_step other than 1 (dense layers) is not supported")
	refuse(len(f.DenseLayers) > 0, "mlp_only_layers (dense layers) are not supported")
	return errors.Join(errs...)
}

// bounds checks every dimension, so that nothing absurd is ever allocated.
func (f *file) bounds() error {
	var errs []error
	within := func(key string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("config.json: %s is %d: %d to %d are possible", key, value, low, high))
		}
	}
	within("hidden_size", f.Hidden, 1, 1<<16)
	within("num_hidden_layers", f.Layers, 1, 1024)
	within("vocab_size", f.Vocab, 1, 1<<22)
	within("max_position_embeddings", f.Context, 1, 1<<24)
	within("num_attention_heads", f.Heads, 1, 1024)
	within("num_key_value_heads", f.KVHeads, 1, 1024)
	within("head_dim", f.HeadDim, 2, 4096)
	within("linear_num_key_heads", f.KeyHeads, 1, 1024)
	within("linear_num_value_heads", f.ValueHeads, 1, 1024)
	within("linear_key_head_dim", f.KeyDim, 1, 4096)
	within("linear_value_head_dim", f.ValueDim, 1, 4096)
	within("linear_conv_kernel_dim", or(f.Kernel, 4), 1, 64)
	within("num_experts", f.Experts, 1, 1<<14)
	within("num_experts_per_tok", f.TopK, 1, 256)
	within("moe_intermediate_size", f.ExpertWidth, 1, 1<<18)
	within("shared_expert_intermediate_size", f.SharedWidth, 1, 1<<18)
	within("full_attention_interval", or(f.Interval, 4), 1, 1024)
	if eps := or(f.Eps, 1e-6); !(eps >= 1e-12 && eps <= 1) {
		errs = append(errs, fmt.Errorf("config.json: rms_norm_eps is %v: 1e-12 to 1 are possible", eps))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	divides := func(key string, value int, byKey string, by int) {
		if value%by != 0 {
			errs = append(errs, fmt.Errorf("config.json: %s %d is no multiple of %s %d", key, value, byKey, by))
		}
	}
	divides("num_attention_heads", f.Heads, "num_key_value_heads", f.KVHeads)
	divides("linear_num_value_heads", f.ValueHeads, "linear_num_key_heads", f.KeyHeads)
	if f.Layers*f.Experts > maxExperts {
		errs = append(errs, fmt.Errorf("config.json: num_hidden_layers %d times num_experts %d is more than %d", f.Layers, f.Experts, maxExperts))
	}
	if f.TopK > f.Experts {
		errs = append(errs, fmt.Errorf("config.json: num_experts_per_tok %d is more than num_experts %d", f.TopK, f.Experts))
	}
	return errors.Join(errs...)
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (f *file) config() *Config {
	return &Config{
		Hidden: f.Hidden, Layers: f.Layers, Vocab: f.Vocab, Context: f.Context,
		Eps: float32(or(f.Eps, 1e-6)), Tied: f.Tied,
		Attn: ops.AttentionShape{Heads: f.Heads, KVHeads: f.KVHeads, HeadDim: f.HeadDim},
		Delta: ops.DeltaNetShape{KeyHeads: f.KeyHeads, ValueHeads: f.ValueHeads,
			KeyDim: f.KeyDim, ValueDim: f.ValueDim, Kernel: or(f.Kernel, 4)},
		Experts: f.Experts, TopK: f.TopK, ExpertWidth: f.ExpertWidth, SharedWidth: f.SharedWidth,
		Renormalise: or(f.Renormalise, true), BOS: or(f.BOS, -1),
	}
}

// layerTypes prefers the list; without it every interval-th layer attends.
func (f *file) layerTypes(c *Config) error {
	if f.Types == nil {
		interval := or(f.Interval, 4)
		for i := range c.Layers {
			c.Attention = append(c.Attention, (i+1)%interval == 0)
		}
		return nil
	}
	if len(f.Types) != c.Layers {
		return fmt.Errorf("config.json: layer_types has %d entries for num_hidden_layers %d", len(f.Types), c.Layers)
	}
	for i, kind := range f.Types {
		if kind != "full_attention" && kind != "linear_attention" {
			return fmt.Errorf("config.json: layer_types[%d] is %q: full_attention and linear_attention are supported", i, kind)
		}
		c.Attention = append(c.Attention, kind == "full_attention")
	}
	return nil
}

// rotary computes the inverse frequencies, default or YaRN (Peng et al., 2023),
// in fp32 as transformers does.
func (f *file) rotary(c *Config) error {
	r := rope{}
	switch {
	case f.Parameters != nil:
		r = *f.Parameters
	case f.Scaling != nil:
		r = *f.Scaling
	}
	theta := or(r.Theta, or(f.Theta, 10000))
	partial := or(r.Partial, or(f.Partial, 0.25))
	dims := int(float64(f.HeadDim) * partial)
	switch {
	case r.Full != nil || r.Linear != nil:
		return errors.New("config.json: rope parameters by kind of layer are not supported: one set for all is")
	case !(theta > 1 && theta <= 1e12):
		return fmt.Errorf("config.json: rope_theta is %v: it lies above 1 and up to 1e12", theta)
	case !(partial > 0 && partial <= 1) || dims < 2 || dims%2 != 0:
		return fmt.Errorf("config.json: partial_rotary_factor %v of head_dim %d turns %d values: an even number from 2 to head_dim is needed", partial, f.HeadDim, dims)
	}
	inverse := make([]float64, dims/2)
	for i := range inverse {
		inverse[i] = 1 / math.Pow(theta, float64(2*i)/float64(dims))
	}
	c.Attn.Rope.Scale = 1
	kind := r.Type
	if kind == "" {
		kind = r.OldType
	}
	switch kind {
	case "", "default":
	case "yarn":
		if err := r.yarn(c, inverse, theta, dims); err != nil {
			return err
		}
	default:
		return fmt.Errorf("config.json: rope_type %q is not supported: default and yarn are", kind)
	}
	for _, v := range inverse {
		c.Attn.Rope.InvFreq = append(c.Attn.Rope.InvFreq, float32(v))
	}
	return nil
}

// yarn stretches the low frequencies by factor and leaves the high ones, with a
// ramp between the dimensions that turn betaFast and betaSlow times in the
// original context. It also raises the context limit to factor * original.
func (r *rope) yarn(c *Config, inverse []float64, theta float64, dims int) error {
	original := or(r.Original, float64(c.Context))
	factor := or(r.Factor, float64(c.Context)/original)
	fast, slow := or(r.BetaFast, 32), or(r.BetaSlow, 1)
	if !(original >= 1 && original <= 1<<24) || !(factor >= 1 && factor <= 1024) || !(fast > 0 && fast < 1e6) || !(slow > 0 && slow <= fast) {
		return fmt.Errorf("config.json: yarn with factor %v, original_max_position_embeddings %v, beta_fast %v, beta_slow %v: out of range", factor, original, fast, slow)
	}
	mscale := func(m float64) float64 {
		if factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(factor) + 1
	}
	attention := mscale(1)
	if a, b := or(r.MScale, 0), or(r.MScaleAllDim, 0); a != 0 && b != 0 {
		attention = mscale(a) / mscale(b)
	}
	if attention = or(r.AttentionFactor, attention); !(attention > 0 && attention < 1e3) {
		return fmt.Errorf("config.json: yarn attention factor %v: it lies above 0 and below 1000", attention)
	}
	turns := func(rotations float64) float64 { // the dimension that turns so often
		return float64(dims) * math.Log(original/(rotations*2*math.Pi)) / (2 * math.Log(theta))
	}
	low, high := turns(fast), turns(slow)
	if or(r.Truncate, true) {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dims-1))
	if low == high {
		high += 0.001 // as transformers does, against dividing by zero
	}
	for i, v := range inverse {
		stretched := min(max((float64(i)-low)/(high-low), 0), 1)
		inverse[i] = v/factor*stretched + v*(1-stretched)
	}
	c.Attn.Rope.Scale = float32(attention)
	c.Context = max(c.Context, int(min(factor*original, 1<<24)))
	return nil
}

// apply merges the end tokens and takes the sampling defaults.
func (g *generationFile) apply(f *file, c *Config) error {
	var errs []error
	within := func(file, key string, id int32) bool {
		inside := id >= 0 && int(id) < c.Vocab
		if !inside {
			errs = append(errs, fmt.Errorf("%s: %s %d lies outside the vocabulary of %d", file, key, id, c.Vocab))
		}
		return inside
	}
	end := func(file string, all ids) {
		for _, id := range all {
			if within(file, "eos_token_id", id) && !slices.Contains(c.EOS, id) {
				c.EOS = append(c.EOS, id)
			}
		}
	}
	end("generation_config.json", g.EOS)
	end("config.json", f.EOS)
	if f.BOS != nil {
		within("config.json", "bos_token_id", *f.BOS)
	}
	temperature, topP, topK := or(g.Temperature, 1), or(g.TopP, 1), or(g.TopK, 0)
	if !or(g.Sample, true) {
		temperature = 0
	}
	if !(temperature >= 0 && temperature <= 100) || !(topP >= 0 && topP <= 1) || topK < 0 {
		errs = append(errs, fmt.Errorf("generation_config.json: temperature %v, top_p %v, top_k %d: 0 to 100, 0 to 1, and 0 or more are possible", temperature, topP, topK))
	}
	c.Temperature, c.TopP, c.DefaultTopK = float32(temperature), float32(topP), topK
	return errors.Join(errs...)
}
