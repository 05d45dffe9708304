package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A shape is the size of a synthetic model.
type shape struct {
	hidden, layers, experts, width int
	vocab                          int
	queryHeads, kvHeads, head      int // attention
	keyHeads, valueHeads, state    int // delta net; state is the width of keys and values
	interval                       int // every so manyth layer is attention
	chosen                         int // experts a token
}

// shapes are the demo's architecture, enlarged, and the real model's dimensions.
var shapes = map[string]shape{
	"demo": {hidden: 1024, layers: 8, experts: 128, width: 512, vocab: 4096,
		queryHeads: 4, kvHeads: 2, head: 64, keyHeads: 2, valueHeads: 4, state: 64, interval: 4, chosen: 4},
	"qwen3-next-80b": {hidden: 2048, layers: 48, experts: 512, width: 512, vocab: 151936,
		queryHeads: 16, kvHeads: 2, head: 256, keyHeads: 16, valueHeads: 32, state: 128, interval: 4, chosen: 10},
}

// synthGroup is the group size of the published files.
const synthGroup = 128

// synth writes a model of random weights with the demo's tokenizer: something
// as large as wanted, in the layout of the published files, to measure loading
// and speed with. The default is about 0.9 GB. It says nothing sensible.
func synth(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("synth", flag.ContinueOnError)
	name := flags.String("shape", "demo", "demo, or qwen3-next-80b with its real dimensions")
	layers := flags.Int("layers", 0, "layers; 0 for those of the shape")
	interval := flags.Int("interval", 0, "every so manyth layer is attention; 0 for that of the shape")
	demo := flags.String("demo", "workbench/demo/model", "the demo model's folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, ok := shapes[*name]
	if *layers > 0 {
		s.layers = *layers
	}
	if *interval > 0 {
		s.interval = *interval
	}
	if flags.NArg() != 1 || !ok || *layers < 0 || *interval < 0 {
		return errors.New("name a folder to write and a shape: demo or qwen3-next-80b; layers and interval must not be negative")
	}
	dir := flags.Arg(0)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"} {
		data, err := os.ReadFile(filepath.Join(*demo, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := writeConfig(filepath.Join(*demo, "config.json"), filepath.Join(dir, "config.json"), s); err != nil {
		return err
	}
	return writeTensors(filepath.Join(dir, "model.safetensors"), tensors(s))
}

func writeConfig(from, to string, s shape) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	kinds := make([]string, s.layers)
	for i := range kinds {
		kinds[i] = "linear_attention"
		if s.attention(i) {
			kinds[i] = "full_attention"
		}
	}
	for key, value := range map[string]any{
		"hidden_size": s.hidden, "num_hidden_layers": s.layers, "num_experts": s.experts,
		"moe_intermediate_size": s.width, "shared_expert_intermediate_size": s.width, "layer_types": kinds,
		"full_attention_interval": s.interval, "vocab_size": s.vocab, "num_experts_per_tok": s.chosen,
		"num_attention_heads": s.queryHeads, "num_key_value_heads": s.kvHeads, "head_dim": s.head,
		"linear_num_key_heads": s.keyHeads, "linear_num_value_heads": s.valueHeads,
		"linear_key_head_dim": s.state, "linear_value_head_dim": s.state, "max_position_embeddings": 32768,
	} {
		config[key] = value
	}
	eight := map[string]any{}
	for _, t := range tensors(s) {
		if module, ok := strings.CutSuffix(t.name, ".qweight"); ok && !strings.Contains(module, ".experts.") {
			eight[module] = map[string]int{"bits": 8}
		}
	}
	quantisation, ok := config["quantization_config"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no quantization_config", from)
	}
	quantisation["extra_config"] = eight
	text, err = json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

// A tensor of a synthetic file. Codes are random words; 16-bit values lie
// around a centre.
type tensor struct {
	name, dtype    string
	shape          []int
	centre, spread float64
}

func (t tensor) bytes() int64 {
	size := map[string]int64{"I32": 4, "BF16": 2, "F16": 2}[t.dtype]
	for _, n := range t.shape {
		size *= int64(n)
	}
	return size
}

// quantised is a symmetric gptq module: y[n] = x[k] W[k,n].
func quantised(name string, k, n, bits int) []tensor {
	groups := k / synthGroup
	// Codes spread over 2^bits values: keep the weight near 1/sqrt(k).
	scale := 1 / math.Sqrt(float64(k)) / float64(int(1)<<(bits-2))
	return []tensor{
		{name: name + ".qweight", dtype: "I32", shape: []int{k * bits / 32, n}},
		{name: name + ".qzeros", dtype: "I32", shape: []int{groups, n * bits / 32}},
		{name: name + ".scales", dtype: "F16", shape: []int{groups, n}, centre: scale, spread: scale / 4},
	}
}

func dense(name string, spread float64, shape ...int) tensor {
	return tensor{name: name + ".weight", dtype: "BF16", shape: shape, spread: spread}
}

// tensors lists a model's tensors in the order of the file.
func tensors(s shape) []tensor {
	small := 1 / math.Sqrt(float64(s.hidden))
	all := []tensor{
		dense("model.embed_tokens", 1, s.vocab, s.hidden),
		dense("lm_head", small, s.vocab, s.hidden),
		dense("model.norm", 0.1, s.hidden),
	}
	for layer := range s.layers {
		at := fmt.Sprintf("model.layers.%d.", layer)
		all = append(all, dense(at+"input_layernorm", 0.1, s.hidden), dense(at+"post_attention_layernorm", 0.1, s.hidden),
			dense(at+"mlp.gate", small, s.experts, s.hidden), dense(at+"mlp.shared_expert_gate", small, 1, s.hidden))
		if s.attention(layer) {
			all = append(all, attention(at+"self_attn.", s)...)
		} else {
			all = append(all, deltaNet(at+"linear_attn.", s)...)
		}
		all = append(all, expert(at+"mlp.shared_expert.", s, 8)...)
		for e := range s.experts {
			all = append(all, expert(fmt.Sprintf("%smlp.experts.%d.", at, e), s, 4)...)
		}
	}
	return all
}

func (s shape) attention(layer int) bool { return layer%s.interval == s.interval-1 }

func attention(at string, s shape) []tensor {
	all := []tensor{dense(at+"q_norm", 0.1, s.head), dense(at+"k_norm", 0.1, s.head)}
	all = append(all, quantised(at+"q_proj", s.hidden, 2*s.queryHeads*s.head, 8)...)
	all = append(all, quantised(at+"k_proj", s.hidden, s.kvHeads*s.head, 8)...)
	all = append(all, quantised(at+"v_proj", s.hidden, s.kvHeads*s.head, 8)...)
	return append(all, quantised(at+"o_proj", s.queryHeads*s.head, s.hidden, 8)...)
}

func deltaNet(at string, s shape) []tensor {
	mixed, values := (2*s.keyHeads+s.valueHeads)*s.state, s.valueHeads*s.state
	all := []tensor{
		{name: at + "A_log", dtype: "BF16", shape: []int{s.valueHeads}, centre: 1, spread: 0.5},
		{name: at + "dt_bias", dtype: "BF16", shape: []int{s.valueHeads}, centre: 1, spread: 0.5},
		dense(at+"conv1d", 0.5, mixed, 1, 4),
		dense(at+"in_proj_ba", 0.1, 2*s.valueHeads, s.hidden),
		{name: at + "norm.weight", dtype: "BF16", shape: []int{s.state}, centre: 1, spread: 0.1},
	}
	all = append(all, quantised(at+"in_proj_qkvz", s.hidden, mixed+values, 8)...)
	return append(all, quantised(at+"out_proj", values, s.hidden, 8)...)
}

func expert(at string, s shape, bits int) []tensor {
	all := quantised(at+"gate_proj", s.hidden, s.width, bits)
	all = append(all, quantised(at+"up_proj", s.hidden, s.width, bits)...)
	return append(all, quantised(at+"down_proj", s.width, s.hidden, bits)...)
}

// writeTensors writes one safetensors file, piece by piece.
func writeTensors(name string, all []tensor) (err error) {
	type entry struct {
		Type    string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, offset := map[string]entry{}, int64(0)
	for _, t := range all {
		header[t.name] = entry{t.dtype, t.shape, [2]int64{offset, offset + t.bytes()}}
		offset += t.bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := binary.Write(file, binary.LittleEndian, uint64(len(text))); err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	for _, t := range all {
		if err := t.write(file, random); err != nil {
			return err
		}
	}
	info, err := file.Stat()
	if err == nil {
		fmt.Printf("%s: %d tensors, %.2f GB\n", name, len(all), float64(info.Size())/1e9)
	}
	return err
}

func (t tensor) write(out io.Writer, random *rand.ChaCha8) error {
	data := make([]byte, t.bytes())
	if t.dtype == "I32" {
		if _, err := random.Read(data); err != nil {
			return err
		}
	} else {
		normal := rand.New(random)
		for i := 0; i < len(data); i += 2 {
			value := float32(t.centre + t.spread*normal.NormFloat64())
			binary.LittleEndian.PutUint16(data[i:], sixteen(t.dtype, value))
		}
	}
	_, err := out.Write(data)
	return err
}

// sixteen rounds towards zero to 16 bits: fine for weights that mean nothing.
func sixteen(dtype string, value float32) uint16 {
	bits := math.Float32bits(value)
	if dtype == "BF16" {
		return uint16(bits >> 16)
	}
	sign, exponent := uint16(bits>>16)&0x8000, int(bits>>23&0xff)-127+15
	if exponent <= 0 || exponent >= 31 {
		return sign // too small for a normal fp16, or too large to be a scale
	}
	return sign | uint16(exponent)<<10 | uint16(bits>>13&0x3ff)
}

// sizeOf adds up the safetensors files of a model.
func sizeOf(model string) (size int64, err error) {
	err = filepath.WalkDir(model, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".safetensors" {
			return err
		}
		info, err := os.Stat(name)
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
