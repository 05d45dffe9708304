package synth

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// shardBytes is the size of a published file.
const shardBytes = 4_297_000_000

// base is what a folder takes from another model.
var base = []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}

// A file is one safetensors file in the making.
type file struct {
	name    string
	tensors []tensor
	header  []byte // with its length in front
	size    int64
}

// Write makes the folder dir: config, index, the tensors, by all cores, and the
// tokenizer and template that lie in text; nil leaves these out. report (may be
// nil) hears the bytes done.
func (m Model) Write(ctx context.Context, dir string, text fs.FS, report func(done, total int64)) error {
	files, err := m.prepare(dir, text)
	if err != nil {
		return err
	}
	var total, done int64
	for _, f := range files {
		total += f.size
	}
	for _, f := range files {
		err := f.write(ctx, dir, m.Seed, func(n int64) {
			if now := atomic.AddInt64(&done, n); report != nil {
				report(now, total)
			}
		})
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// Outline makes a folder of the same headers whose tensors are holes: all zeros
// that take no room on the disk.
func (m Model) Outline(dir string) error {
	files, err := m.prepare(dir, nil)
	if err != nil {
		return err
	}
	for _, f := range files {
		out, err := os.Create(filepath.Join(dir, f.name))
		if err != nil {
			return err
		}
		_, err = out.Write(f.header)
		if err := errors.Join(err, out.Truncate(f.size), out.Close()); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// prepare writes everything but the tensors.
func (m Model) prepare(dir string, text fs.FS) ([]*file, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	switch entries, err := os.ReadDir(dir); {
	case err != nil:
		return nil, err
	case len(entries) > 0:
		return nil, fmt.Errorf("%s is not empty: name a folder that is, or a new one", dir)
	}
	for _, name := range base {
		if text == nil {
			break
		}
		data, err := fs.ReadFile(text, name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			return nil, err
		}
	}
	config, err := m.config()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
	}
	if err != nil {
		return nil, err
	}
	files := m.files()
	if len(files) > 1 {
		return files, writeIndex(filepath.Join(dir, "model.safetensors.index.json"), files)
	}
	return files, nil
}

// config is config.json, as transformers and auto-round write it.
func (m Model) config() ([]byte, error) {
	kinds := make([]string, m.Layers)
	for i := range kinds {
		kinds[i] = "linear_attention"
		if m.attention(i) {
			kinds[i] = "full_attention"
		}
	}
	main, _ := m.tensors()
	extra := map[string]any{}
	for _, t := range main {
		if module, ok := strings.CutSuffix(t.name, ".qweight"); ok && m.bits(module) != 4 {
			extra[module] = map[string]int{"bits": m.bits(module)}
		}
		if module, ok := strings.CutSuffix(t.name, ".mlp.gate.weight"); ok {
			extra[module+".mlp.gate"] = map[string]any{"bits": 16, "data_type": "float"}
		}
		if module, ok := strings.CutSuffix(t.name, ".shared_expert_gate.weight"); ok {
			extra[module+".shared_expert_gate"] = map[string]any{"bits": 16, "data_type": "fp"}
		}
	}
	return json.MarshalIndent(map[string]any{
		"architectures": []string{"Qwen3NextForCausalLM"}, "model_type": "qwen3_next", "dtype": "bfloat16",
		"attention_bias": false, "attention_dropout": 0.0, "decoder_sparse_step": 1, "hidden_act": "silu",
		"initializer_range": 0.02, "intermediate_size": 2 * m.Hidden, "mlp_only_layers": []int{}, "norm_topk_prob": true,
		"output_router_logits": false, "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-6, "rope_scaling": nil,
		"rope_theta": 10_000_000, "router_aux_loss_coef": 0.001, "tie_word_embeddings": false, "use_cache": true,
		"use_sliding_window": false, "bos_token_id": m.Vocab - 26, "eos_token_id": m.Vocab - 24,
		"hidden_size": m.Hidden, "num_hidden_layers": m.Layers, "num_experts": m.Shape.Experts,
		"moe_intermediate_size": m.Width, "shared_expert_intermediate_size": m.Width, "layer_types": kinds,
		"full_attention_interval": m.Interval, "vocab_size": m.Vocab, "num_experts_per_tok": m.Chosen,
		"num_attention_heads": m.QueryHeads, "num_key_value_heads": m.KVHeads, "head_dim": m.Head,
		"linear_num_key_heads": m.KeyHeads, "linear_num_value_heads": m.ValueHeads, "linear_conv_kernel_dim": 4,
		"linear_key_head_dim": m.State, "linear_value_head_dim": m.State, "max_position_embeddings": m.Context,
		"quantization_config": map[string]any{
			"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "autoround_version": "0.12.0",
			"bits": 4, "group_size": group, "sym": true, "data_type": "int", "iters": 0, "extra_config": extra,
		},
	}, "", "  ")
}

// bits of a packed module of the main layers.
func (m Model) bits(module string) int {
	switch {
	case strings.Contains(module, ".experts."):
		return m.Layout.Experts
	case strings.Contains(module, ".shared_expert."):
		return m.Shared
	case strings.HasSuffix(module, ".mlp.gate"):
		return m.Router
	}
	return m.Mixers
}

// files deals the tensors out as a published checkpoint has them: a module stays
// together, a file holds wider types first, then names in order.
func (m Model) files() []*file {
	main, draft := m.tensors()
	var shards [][]tensor
	size := int64(math.MaxInt64)
	for i, t := range main {
		head := i == 0 || module(t.name) != module(main[i-1].name)
		if head && size > shardBytes {
			shards, size = append(shards, nil), 0
		}
		shards[len(shards)-1] = append(shards[len(shards)-1], t)
		size += t.bytes()
	}
	var files []*file
	for i, tensors := range shards {
		name := "model.safetensors"
		if len(shards) > 1 || len(draft) > 0 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		files = append(files, newFile(name, tensors))
	}
	if len(draft) > 0 {
		files = append(files, newFile("model_extra_tensors.safetensors", draft))
	}
	return files
}

// module is the name of the module that a tensor belongs to.
func module(name string) string { return name[:strings.LastIndexByte(name, '.')] }

func newFile(name string, tensors []tensor) *file {
	width := map[string]int{"I32": 0, "BF16": 1, "F16": 2}
	slices.SortFunc(tensors, func(a, b tensor) int {
		return cmp.Or(cmp.Compare(width[a.dtype], width[b.dtype]), strings.Compare(a.name, b.name))
	})
	f := &file{name: name, tensors: tensors}
	type entry struct {
		Type    string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, offset := map[string]entry{}, int64(0)
	for _, t := range tensors {
		header[t.name] = entry{t.dtype, t.shape, [2]int64{offset, offset + t.bytes()}}
		offset += t.bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err) // plain strings and numbers
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	f.header = append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	f.size = int64(len(f.header)) + offset
	return f
}

func writeIndex(name string, files []*file) error {
	var index struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	index.WeightMap = map[string]string{}
	for _, f := range files {
		for _, t := range f.tensors {
			index.WeightMap[t.name] = f.name
			index.Metadata.TotalSize += t.bytes()
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

// write writes a file with one writer a core, each at its place.
func (f *file) write(ctx context.Context, dir string, seed uint64, done func(int64)) (err error) {
	out, err := os.Create(filepath.Join(dir, f.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := out.Write(f.header); err != nil {
		return err
	}
	offsets := make([]int64, len(f.tensors))
	at := int64(len(f.header))
	for i, t := range f.tensors {
		offsets[i], at = at, at+t.bytes()
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for w := range errs {
		wait.Go(func() {
			buffer := make([]byte, pieceBytes)
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(f.tensors) {
					return
				}
				errs[w] = f.tensors[i].write(ctx, io.NewOffsetWriter(out, offsets[i]), buffer, seed, done)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// pieceBytes is what is made and written at a time, a multiple of eight.
const pieceBytes = 4 << 20

// write makes the values of a tensor: they depend on the seed and its name alone.
func (t tensor) write(ctx context.Context, out io.Writer, buffer []byte, seed uint64, done func(int64)) error {
	name := fnv.New64a()
	name.Write([]byte(t.name))
	random := rand.NewPCG(seed, name.Sum64())
	values := t.table()
	for left := t.bytes(); left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(left, int64(len(buffer)))
		t.fill(buffer[:n], random, values)
		if _, err := out.Write(buffer[:n]); err != nil {
			return err
		}
		left -= n
		done(n)
	}
	return nil
}

// fill makes the next values.
func (t tensor) fill(piece []byte, random *rand.PCG, values *[1 << 14]uint16) {
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(piece))), len(piece)/8)
	switch {
	case t.same != 0:
		for i := range words {
			words[i] = uint64(t.same) | uint64(t.same)<<32
		}
	case values == nil:
		for i := range words {
			words[i] = random.Uint64()
		}
	default:
		for i := range words {
			r := random.Uint64()
			words[i] = uint64(values[r&0x3fff]) | uint64(values[r>>16&0x3fff])<<16 | uint64(values[r>>32&0x3fff])<<32 | uint64(values[r>>48&0x3fff])<<48
		}
	}
	for i := len(words) * 8; i < len(piece); i += 2 { // a tail of fewer than four values
		switch r := random.Uint64(); {
		case t.same != 0:
			binary.LittleEndian.PutUint16(piece[i:], uint16(t.same))
		case values == nil:
			binary.LittleEndian.PutUint16(piece[i:], uint16(r))
		default:
			binary.LittleEndian.PutUint16(piece[i:], values[r&0x3fff])
		}
	}
}

// table holds 16,384 values of the tensor's normal distribution, of which each
// element is one: a draw costs two bytes of a random number. Nil for codes.
func (t tensor) table() *[1 << 14]uint16 {
	if t.dtype == "I32" {
		return nil
	}
	values := new([1 << 14]uint16)
	for i := range values {
		p := (float64(i/2) + .5) / float64(len(values)/2)
		v := t.centre + t.spread*math.Sqrt2*math.Erfinv(2*p-1)
		if t.signed && i%2 == 1 {
			v = -v
		}
		values[i] = sixteen(t.dtype, float32(v))
	}
	return values
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
