package qwen3next

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// published is config.json of Qwen3-Next-80B-A3B as far as it says what the model is.
const published = `{"architectures":["Qwen3NextForCausalLM"],"attention_bias":false,"bos_token_id":151643,"decoder_sparse_step":1,
"eos_token_id":151645,"full_attention_interval":4,"head_dim":256,"hidden_act":"silu","hidden_size":2048,"intermediate_size":5120,
"linear_conv_kernel_dim":4,"linear_key_head_dim":128,"linear_num_key_heads":16,"linear_num_value_heads":32,"linear_value_head_dim":128,
"max_position_embeddings":262144,"mlp_only_layers":[],"model_type":"qwen3_next","moe_intermediate_size":512,"norm_topk_prob":true,
"num_attention_heads":16,"num_experts":512,"num_experts_per_tok":10,"num_hidden_layers":48,"num_key_value_heads":2,
"partial_rotary_factor":0.25,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":10000000,"shared_expert_intermediate_size":512,
"tie_word_embeddings":false,"use_sliding_window":false,"vocab_size":151936}`

const publishedGeneration = `{"bos_token_id":151643,"do_sample":true,"eos_token_id":[151645,151643],"pad_token_id":151643,"temperature":0.7,"top_k":20,"top_p":0.8}`

// changed is the published config with keys set to JSON values; an empty value
// takes the key away.
func changed(t testing.TB, keys ...string) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(published), &all); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(keys); i += 2 {
		if keys[i+1] == "" {
			delete(all, keys[i])
			continue
		}
		all[keys[i]] = json.RawMessage(keys[i+1])
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t *testing.T, config []byte, generation string) *Config {
	t.Helper()
	c, err := ParseConfig(config, []byte(generation))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParsePublished(t *testing.T) {
	c := parse(t, []byte(published), publishedGeneration)
	rope := c.Attn.Rope
	c.Attn.Rope = ops.Rope{}
	attention := c.Attention
	c.Attention = nil
	want := &Config{Hidden: 2048, Layers: 48, Vocab: 151936, Context: 262144, Eps: 1e-6,
		Attn:    ops.AttentionShape{Heads: 16, KVHeads: 2, HeadDim: 256},
		Delta:   ops.DeltaNetShape{KeyHeads: 16, ValueHeads: 32, KeyDim: 128, ValueDim: 128, Kernel: 4},
		Experts: 512, TopK: 10, ExpertWidth: 512, SharedWidth: 512, Renormalise: true,
		BOS: 151643, EOS: []int32{151645, 151643}, Temperature: 0.7, TopP: 0.8, DefaultTopK: 20}
	if got, want := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("parsed\n%s, want\n%s", got, want)
	}
	if len(attention) != 48 {
		t.Fatalf("%d layers", len(attention))
	}
	for i, full := range attention {
		if full != (i%4 == 3) {
			t.Errorf("layer %d attends: %v", i, full)
		}
	}
	if len(rope.InvFreq) != 32 || rope.InvFreq[0] != 1 || math.Abs(float64(rope.InvFreq[16])/3.16227766e-4-1) > 1e-7 || rope.Scale != 1 {
		t.Errorf("rope %+v", rope)
	}
}

// The two forms of config.json, flat keys and rope_parameters, say the same.
func TestRopeForms(t *testing.T) {
	flat := parse(t, []byte(published), "")
	nested := parse(t, changed(t, "rope_theta", "", "rope_scaling", "", "partial_rotary_factor", "", "full_attention_interval", "",
		"rope_parameters", `{"rope_type":"default","rope_theta":10000000,"partial_rotary_factor":0.25}`), "")
	if got, want := fmt.Sprintf("%+v", nested), fmt.Sprintf("%+v", flat); got != want {
		t.Errorf("rope_parameters give\n%s, flat keys\n%s", got, want)
	}
}

// Expected values are computed from the formulas of the YaRN paper as
// transformers has them, by a Python script of its own.
func TestYaRN(t *testing.T) {
	for _, test := range []struct {
		name    string
		keys    []string
		inverse []float64
		scale   float64
		context int
	}{
		{"factor 4, transformers 4", []string{"rope_scaling", `{"type":"yarn","factor":4.0,"original_max_position_embeddings":262144}`}, yarn4, 1.13862944, 1048576},
		{"factor 4, transformers 5", []string{"rope_theta", "", "partial_rotary_factor", "",
			"rope_parameters", `{"rope_type":"yarn","rope_theta":10000000,"partial_rotary_factor":0.25,"factor":4.0,"original_max_position_embeddings":262144}`}, yarn4, 1.13862944, 1048576},
		{"every option", []string{"head_dim", "64", "partial_rotary_factor", "0.5", "rope_theta", "10000", "max_position_embeddings", "32768",
			"rope_scaling", `{"rope_type":"yarn","factor":8,"original_max_position_embeddings":4096,"beta_fast":16,"beta_slow":2,"truncate":false,"mscale":0.707,"mscale_all_dim":1.0}`},
			[]float64{1, 0.562341325, 0.316227766, 0.177827941, 0.1, 0.0562341325, 0.0316227766, 0.0153716754, 0.00622188907, 0.00213670012,
				0.000435575476, 0.000222284926, 0.000125, 7.02926656e-05, 3.95284708e-05, 2.22284926e-05}, 0.949560882, 32768},
		{"factor from the contexts, attention factor given", []string{"head_dim", "32", "max_position_embeddings", "40960",
			"rope_scaling", `{"rope_type":"yarn","original_max_position_embeddings":8192,"attention_factor":1.25}`},
			[]float64{1, 0.0106696765, 6.32455532e-05, 1.12468265e-06}, 1.25, 40960},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := parse(t, changed(t, test.keys...), "")
			got := c.Attn.Rope
			if len(got.InvFreq) != len(test.inverse) || math.Abs(float64(got.Scale)-test.scale) > 1e-6 || c.Context != test.context {
				t.Fatalf("%d frequencies, scale %v, context %d; want %d, %v, %d", len(got.InvFreq), got.Scale, c.Context, len(test.inverse), test.scale, test.context)
			}
			for i, want := range test.inverse {
				if math.Abs(float64(got.InvFreq[i])/want-1) > 1e-6 {
					t.Errorf("frequency %d is %v, want %v", i, got.InvFreq[i], want)
				}
			}
		})
	}
}

var yarn4 = []float64{1, 0.60429639, 0.365174127, 0.220673407, 0.133352143, 0.0805842188, 0.0486967525, 0.0294272718, 0.0177827941, 0.0107460783,
	0.00649381632, 0.00392418976, 0.00237137371, 0.00143301257, 0.000865964323, 0.000474239823, 0.00025693506, 0.000137349745, 7.2173874e-05,
	3.70722498e-05, 1.8449222e-05, 8.75977007e-06, 3.84981632e-06, 2.3264301e-06, 1.40585331e-06, 8.49552082e-07, 5.13381257e-07, 3.1023444e-07,
	1.87473552e-07, 1.13289591e-07, 6.84604909e-08, 4.13704275e-08}

func TestLayerTypes(t *testing.T) {
	const full, linear = `"full_attention"`, `"linear_attention"`
	for _, test := range []struct {
		name string
		keys []string
		want string
	}{
		{"interval", []string{"num_hidden_layers", "5", "full_attention_interval", "2"}, "[false true false true false]"},
		{"interval 1", []string{"num_hidden_layers", "2", "full_attention_interval", "1"}, "[true true]"},
		{"no interval means 4", []string{"num_hidden_layers", "5", "full_attention_interval", ""}, "[false false false true false]"},
		{"the list before the interval", []string{"num_hidden_layers", "3", "full_attention_interval", "2", "layer_types", "[" + full + "," + linear + "," + full + "]"}, "[true false true]"},
		{"null is no list", []string{"num_hidden_layers", "2", "full_attention_interval", "2", "layer_types", "null"}, "[false true]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := fmt.Sprint(parse(t, changed(t, test.keys...), "").Attention); got != test.want {
				t.Errorf("attention in %s, want %s", got, test.want)
			}
		})
	}
}

func TestEndTokensAndDefaults(t *testing.T) {
	for _, test := range []struct {
		name, eos, bos, generation, want string
	}{
		{"both files, without repetition", "7", "5", `{"eos_token_id":[9,7,9]}`, "[9 7] 5 1 1 0"},
		{"only config.json", "[3,4,3]", "null", "", "[3 4] -1 1 1 0"},
		{"only generation_config.json", "null", "", `{"eos_token_id":2,"bos_token_id":1}`, "[2] -1 1 1 0"},
		{"none", "", "0", `{"eos_token_id":null}`, "[] 0 1 1 0"},
		{"sampling", "1", "0", `{"temperature":0.6,"top_p":0.95,"top_k":40,"do_sample":true}`, "[1] 0 0.6 0.95 40"},
		{"not sampled", "1", "0", `{"temperature":0.6,"do_sample":false,"top_k":5}`, "[1] 0 0 1 5"},
		{"nothing said", "1", "0", `{}`, "[1] 0 1 1 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := parse(t, changed(t, "eos_token_id", test.eos, "bos_token_id", test.bos), test.generation)
			if got := fmt.Sprint(c.EOS, " ", c.BOS, " ", c.Temperature, " ", c.TopP, " ", c.DefaultTopK); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestOtherForms(t *testing.T) {
	c := parse(t, changed(t, "rms_norm_eps", "", "linear_conv_kernel_dim", "", "norm_topk_prob", "false", "tie_word_embeddings", "true",
		"hidden_act", "", "rope_theta", "", "partial_rotary_factor", "", "decoder_sparse_step", ""), "")
	if c.Eps != 1e-6 || c.Delta.Kernel != 4 || c.Renormalise || !c.Tied || len(c.Attn.Rope.InvFreq) != 32 {
		t.Errorf("parsed %+v", c)
	}
	if got := float64(c.Attn.Rope.InvFreq[16]); math.Abs(got-0.01) > 1e-9 { // 10000^-0.5
		t.Errorf("frequency 16 of the default base is %v", got)
	}
}

// bounds lists what each number may be; a step beyond either end is refused
// with the key's name.
func TestBounds(t *testing.T) {
	for _, b := range []struct {
		key       string
		low, high int
	}{
		{"hidden_size", 1, 1 << 16}, {"num_hidden_layers", 1, 1024}, {"vocab_size", 1, 1 << 22}, {"max_position_embeddings", 1, 1 << 24},
		{"num_attention_heads", 1, 1024}, {"num_key_value_heads", 1, 1024}, {"head_dim", 2, 4096}, {"linear_num_key_heads", 1, 1024},
		{"linear_num_value_heads", 1, 1024}, {"linear_key_head_dim", 1, 4096}, {"linear_value_head_dim", 1, 4096}, {"linear_conv_kernel_dim", 1, 64},
		{"num_experts", 1, 1 << 14}, {"num_experts_per_tok", 1, 256}, {"moe_intermediate_size", 1, 1 << 18},
		{"shared_expert_intermediate_size", 1, 1 << 18}, {"full_attention_interval", 1, 1024},
	} {
		for _, v := range []int{b.low - 1, b.high + 1, -1 << 40, 1 << 40} {
			want := fmt.Sprintf("config.json: %s is %d: %d to %d are possible", b.key, v, b.low, b.high)
			if _, err := ParseConfig(changed(t, b.key, fmt.Sprint(v)), nil); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s = %d: %v, want %q", b.key, v, err, want)
			}
		}
		for _, v := range []int{b.low, b.high} { // refused at most for what another key says
			if _, err := ParseConfig(changed(t, b.key, fmt.Sprint(v)), nil); err != nil && strings.Contains(err.Error(), fmt.Sprintf("%s is %d:", b.key, v)) {
				t.Errorf("%s = %d: %v", b.key, v, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	rope := func(text string) []string { return []string{"rope_scaling", text} }
	for _, test := range []struct {
		name       string
		keys       []string
		generation string
		want       string
	}{
		{"another model", []string{"model_type", `"llama"`}, "", `config.json: model_type is "llama": only qwen3_next is supported`},
		{"no model", []string{"model_type", ""}, "", `model_type is ""`},
		{"activation", []string{"hidden_act", `"gelu"`}, "", `hidden_act "gelu" is not supported: only silu`},
		{"attention bias", []string{"attention_bias", "true"}, "", "attention_bias true is not supported"},
		{"sliding window", []string{"use_sliding_window", "true"}, "", "use_sliding_window true is not supported"},
		{"sparse step", []string{"decoder_sparse_step", "2"}, "", "decoder_sparse_step other than 1"},
		{"dense layers", []string{"mlp_only_layers", "[0]"}, "", "mlp_only_layers (dense layers) are not supported"},
		{"key missing", []string{"hidden_size", ""}, "", "hidden_size is 0"},
		{"key of the wrong type", []string{"hidden_size", `"2048"`}, "", "config.json: json: cannot unmarshal string"},
		{"key with a fraction", []string{"hidden_size", "20.5"}, "", "config.json: json: cannot unmarshal number 20.5"},
		{"number of many digits", []string{"hidden_size", "99999999999999999999"}, "", "config.json: json: cannot unmarshal number"},
		{"heads", []string{"num_key_value_heads", "3"}, "", "num_attention_heads 16 is no multiple of num_key_value_heads 3"},
		{"delta heads", []string{"linear_num_key_heads", "5"}, "", "linear_num_value_heads 32 is no multiple of linear_num_key_heads 5"},
		{"experts at work", []string{"num_experts", "8"}, "", "num_experts_per_tok 10 is more than num_experts 8"},
		{"experts in all", []string{"num_hidden_layers", "1024", "num_experts", "16384"}, "", "num_hidden_layers 1024 times num_experts 16384 is more than 262144"},
		{"epsilon of zero", []string{"rms_norm_eps", "0"}, "", "rms_norm_eps is 0: 1e-12 to 1 are possible"},
		{"epsilon that fp32 does not hold", []string{"rms_norm_eps", "1e-60"}, "", "rms_norm_eps is 1e-60"},
		{"large epsilon", []string{"rms_norm_eps", "1.5"}, "", "rms_norm_eps is 1.5"},
		{"layer types too few", []string{"layer_types", `["full_attention"]`}, "", "layer_types has 1 entries for num_hidden_layers 48"},
		{"layer types empty", []string{"layer_types", `[]`}, "", "layer_types has 0 entries"},
		{"layer type unknown", []string{"num_hidden_layers", "2", "layer_types", `["full_attention","sliding_attention"]`}, "", `layer_types[1] is "sliding_attention": full_attention and linear_attention are supported`},
		{"rope base", []string{"rope_theta", "1"}, "", "rope_theta is 1: it lies above 1"},
		{"large rope base", []string{"rope_theta", "1e13"}, "", "rope_theta is 1e+13"},
		{"rotary part of nothing", []string{"partial_rotary_factor", "0"}, "", "partial_rotary_factor 0 of head_dim 256 turns 0 values"},
		{"rotary part above all", []string{"partial_rotary_factor", "1.5"}, "", "partial_rotary_factor 1.5"},
		{"rotary part that is odd", []string{"partial_rotary_factor", "0.01953125"}, "", "turns 5 values: an even number"},
		{"rotary part beyond numbers", []string{"partial_rotary_factor", "1e300"}, "", "partial_rotary_factor 1e+300"},
		{"linear rope", rope(`{"type":"linear","factor":2}`), "", `rope_type "linear" is not supported: default and yarn are`},
		{"dynamic rope", rope(`{"rope_type":"dynamic","factor":2}`), "", `rope_type "dynamic"`},
		{"long rope", rope(`{"rope_type":"longrope"}`), "", `rope_type "longrope"`},
		{"rope by kind of layer", []string{"rope_parameters", `{"full_attention":{"rope_theta":1e6}}`}, "", "rope parameters by kind of layer are not supported"},
		{"yarn factor", rope(`{"type":"yarn","factor":0.5}`), "", "yarn with factor 0.5"},
		{"yarn factor too large", rope(`{"type":"yarn","factor":2000}`), "", "yarn with factor 2000"},
		{"yarn context of zero", rope(`{"type":"yarn","original_max_position_embeddings":0}`), "", "original_max_position_embeddings 0"},
		{"yarn turns of zero", rope(`{"type":"yarn","factor":2,"beta_slow":0}`), "", "beta_slow 0"},
		{"yarn turns in the wrong order", rope(`{"type":"yarn","factor":2,"beta_slow":64}`), "", "beta_slow 64: out of range"},
		{"yarn attention", rope(`{"type":"yarn","factor":2,"attention_factor":-1}`), "", "yarn attention factor -1"},
		{"end token outside", []string{"eos_token_id", "151936"}, "", "config.json: eos_token_id 151936 lies outside the vocabulary of 151936"},
		{"end token below zero", []string{"eos_token_id", "[-1]"}, "", "config.json: eos_token_id -1"},
		{"many end tokens", []string{"eos_token_id", "[" + strings.Repeat("1,", 1024) + "1]"}, "", "more than 1024 end tokens"},
		{"end token of words", []string{"eos_token_id", `"stop"`}, "", "config.json: json"},
		{"start token outside", []string{"bos_token_id", "151936"}, "", "config.json: bos_token_id 151936"},
		{"generation's end token", nil, `{"eos_token_id":[200000]}`, "generation_config.json: eos_token_id 200000"},
		{"generation of no JSON", nil, `{`, "generation_config.json: unexpected end"},
		{"temperature", nil, `{"temperature":-1}`, "generation_config.json: temperature -1"},
		{"top-p", nil, `{"top_p":1.5}`, "top_p 1.5"},
		{"top-k", nil, `{"top_k":-1}`, "top_k -1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ParseConfig(changed(t, test.keys...), []byte(test.generation))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parsed %+v, error %v, want %q", c, err, test.want)
			}
		})
	}
	if _, err := ParseConfig([]byte("{"), nil); err == nil || !strings.HasPrefix(err.Error(), "config.json: ") {
		t.Errorf("half a config: %v", err)
	}
	if _, err := ParseConfig(make([]byte, maxConfig+1), nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("large config: %v", err)
	}
	if _, err := ParseConfig([]byte(published), make([]byte, maxConfig+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("large generation config: %v", err)
	}
}

// Problems come together, not one at a time.
func TestSeveralRefusals(t *testing.T) {
	for _, test := range []struct {
		config, generation string
		want               []string
	}{
		{string(changed(t, "hidden_size", "0", "vocab_size", "-1", "attention_bias", "true", "use_sliding_window", "true")), "", []string{"hidden_size is 0", "vocab_size is -1", "attention_bias", "use_sliding_window"}},
		{string(changed(t, "num_key_value_heads", "3", "linear_num_key_heads", "5", "num_experts", "4")), "", []string{"num_key_value_heads 3", "linear_num_key_heads 5", "num_experts 4"}},
		{string(changed(t, "layer_types", "[]", "rope_theta", "0", "eos_token_id", "[-7]")), `{"top_p":7,"eos_token_id":-8}`, []string{"layer_types has 0", "rope_theta is 0", "eos_token_id -7", "eos_token_id -8", "top_p 7"}},
	} {
		_, err := ParseConfig([]byte(test.config), []byte(test.generation))
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error lacks %q:\n%v", want, err)
			}
		}
	}
}

// models parses the configs of every folder and compares them with a plain
// reading of the same keys.
func models(t *testing.T, pattern string, least int) {
	dirs, err := filepath.Glob(pattern)
	if err != nil || len(dirs) < least {
		t.Fatalf("%d model folders: %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			config, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			generation, err := os.ReadFile(filepath.Join(dir, "generation_config.json"))
			if err != nil {
				t.Fatal(err)
			}
			var keys map[string]any
			if err := json.Unmarshal(config, &keys); err != nil {
				t.Fatal(err)
			}
			c := parse(t, config, string(generation))
			for key, got := range map[string]int{
				"hidden_size": c.Hidden, "num_hidden_layers": c.Layers, "vocab_size": c.Vocab, "max_position_embeddings": c.Context,
				"num_attention_heads": c.Attn.Heads, "num_key_value_heads": c.Attn.KVHeads, "head_dim": c.Attn.HeadDim,
				"linear_num_key_heads": c.Delta.KeyHeads, "linear_num_value_heads": c.Delta.ValueHeads, "linear_key_head_dim": c.Delta.KeyDim,
				"linear_value_head_dim": c.Delta.ValueDim, "linear_conv_kernel_dim": c.Delta.Kernel, "num_experts": c.Experts,
				"num_experts_per_tok": c.TopK, "moe_intermediate_size": c.ExpertWidth, "shared_expert_intermediate_size": c.SharedWidth,
			} {
				if want := int(keys[key].(float64)); got != want {
					t.Errorf("%s is %d, want %d", key, got, want)
				}
			}
			for i, full := range c.Attention {
				if full != (i%4 == 3) {
					t.Errorf("layer %d attends: %v", i, full)
				}
			}
			eos := int32(keys["eos_token_id"].(float64))
			if len(c.EOS) != 2 || !slices.Contains(c.EOS, eos) || c.Temperature != 0.7 || c.TopP != 0.9 || c.DefaultTopK != 20 {
				t.Errorf("end tokens %v, defaults %v %v %v", c.EOS, c.Temperature, c.TopP, c.DefaultTopK)
			}
			rope := c.Attn.Rope
			last := math.Pow(1e7, -1+2/(0.25*float64(c.Attn.HeadDim))) // of dims/2 frequencies
			if n := len(rope.InvFreq); n != c.Attn.HeadDim/8 || math.Abs(float64(rope.InvFreq[n-1])/last-1) > 1e-6 {
				t.Errorf("rope %v, want %v at last", rope.InvFreq, last)
			}
		})
	}
}

func TestModels(t *testing.T) { models(t, "../ops/optest/testdata/models/*", 3) }

func TestModelsShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: further configs beside the committed ones")
	}
	models(t, filepath.Join(dir, "models", "micro", "*"), 13)
	models(t, filepath.Join(dir, "models", "demo-*"), 1)
}

// sane checks what the rest of the engine relies on.
func sane(t *testing.T, c *Config) {
	rope := c.Attn.Rope
	if len(c.Attention) != c.Layers || len(rope.InvFreq) < 1 || 2*len(rope.InvFreq) > c.Attn.HeadDim || !(rope.Scale > 0) {
		t.Fatalf("accepted %d kinds of %d layers, %d frequencies, scale %v", len(c.Attention), c.Layers, len(rope.InvFreq), rope.Scale)
	}
	for _, f := range rope.InvFreq {
		if !(f >= 0 && f <= 1) {
			t.Fatalf("accepted frequency %v", f)
		}
	}
	if c.Attn.Heads%c.Attn.KVHeads != 0 || c.Delta.ValueHeads%c.Delta.KeyHeads != 0 || c.TopK > c.Experts || !(c.Eps > 0) || c.Context < 1 {
		t.Fatalf("accepted %+v", c)
	}
	for _, id := range c.EOS {
		if id < 0 || int(id) >= c.Vocab {
			t.Fatalf("accepted end token %d of %d", id, c.Vocab)
		}
	}
	if !(c.Temperature >= 0 && c.TopP >= 0 && c.TopP <= 1) || c.DefaultTopK < 0 {
		t.Fatalf("accepted %v %v %v", c.Temperature, c.TopP, c.DefaultTopK)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(published))
	f.Add(changed(f, "rope_scaling", `{"type":"yarn","factor":4.0,"original_max_position_embeddings":262144,"mscale":0.7,"mscale_all_dim":1,"truncate":false}`))
	f.Add(changed(f, "rope_parameters", `{"rope_type":"yarn","rope_theta":10000000,"partial_rotary_factor":0.25,"beta_fast":16}`, "layer_types", `["full_attention"]`, "num_hidden_layers", "1"))
	paths, err := filepath.Glob("../ops/optest/testdata/models/*/config.json")
	if err != nil || len(paths) == 0 {
		f.Fatalf("%d seeds: %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		c, err := ParseConfig(config, nil)
		if err == nil {
			sane(t, c)
		} else if c != nil || !strings.Contains(err.Error(), "config.json") {
			t.Fatalf("error %v with %v", err, c)
		}
	})
}

func FuzzGeneration(f *testing.F) {
	f.Add([]byte(publishedGeneration))
	f.Add([]byte(`{"eos_token_id":1,"do_sample":false,"temperature":1e-3,"top_k":0}`))
	f.Add([]byte(`{"eos_token_id":[-1,null],"top_p":2}`))
	f.Fuzz(func(t *testing.T, generation []byte) {
		c, err := ParseConfig([]byte(published), generation)
		if err == nil {
			sane(t, c)
		} else if c != nil || !strings.Contains(err.Error(), "generation_config.json") {
			t.Fatalf("error %v with %v", err, c)
		}
	})
}
