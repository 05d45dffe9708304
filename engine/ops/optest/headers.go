// Package optest makes data that tests of several packages need.
package optest

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// headerTensor is a tensor of the model that WriteHeaders imitates.
type headerTensor struct {
	name, dtype string
	shape       []int
	shard       int
}

func (t *headerTensor) bytes() int64 {
	size := int64(2)
	if t.dtype == "I32" {
		size = 4
	}
	for _, dim := range t.shape {
		size *= int64(dim)
	}
	return size
}

// shardBytes is what the published shards hold at most.
const shardBytes = 4_297_000_000

// headerWriter lists tensors in the order of the model's modules.
type headerWriter struct {
	tensors []headerTensor
	shard   int
	filled  int64
}

func (w *headerWriter) add(name, dtype string, shape ...int) {
	t := headerTensor{name, dtype, shape, w.shard}
	if w.filled += t.bytes(); w.filled > shardBytes {
		w.filled = t.bytes()
		w.shard++
		t.shard = w.shard
	}
	w.tensors = append(w.tensors, t)
}

// packed adds a linear with k inputs and n outputs in groups of 128.
func (w *headerWriter) packed(name string, bits, k, n int) {
	w.add(name+".qweight", "I32", k/32*bits, n)
	w.add(name+".qzeros", "I32", k/128, n/32*bits)
	w.add(name+".scales", "F16", k/128, n)
}

func (w *headerWriter) norms(hidden int, names ...string) {
	for _, name := range names {
		w.add(name+".weight", "BF16", hidden)
	}
}

func (w *headerWriter) layer(name string, attention bool, bits int) {
	w.norms(2048, name+".input_layernorm", name+".post_attention_layernorm")
	if attention {
		attn := name + ".self_attn"
		w.packed(attn+".q_proj", bits, 2048, 8192)
		w.packed(attn+".k_proj", bits, 2048, 512)
		w.packed(attn+".v_proj", bits, 2048, 512)
		w.packed(attn+".o_proj", bits, 4096, 2048)
		w.norms(256, attn+".q_norm", attn+".k_norm")
	} else {
		delta := name + ".linear_attn"
		w.packed(delta+".in_proj_qkvz", bits, 2048, 12288)
		w.packed(delta+".in_proj_ba", bits, 2048, 64)
		w.packed(delta+".out_proj", bits, 4096, 2048)
		w.add(delta+".conv1d.weight", "BF16", 8192, 1, 4)
		w.add(delta+".A_log", "BF16", 32)
		w.add(delta+".dt_bias", "BF16", 32)
		w.norms(128, delta+".norm")
	}
	w.add(name+".mlp.gate.weight", "BF16", 512, 2048)
	w.add(name+".mlp.shared_expert_gate.weight", "BF16", 1, 2048)
	w.expert(name+".mlp.shared_expert", bits)
	for e := range 512 {
		w.expert(fmt.Sprintf("%s.mlp.experts.%d", name, e), 4)
	}
}

func (w *headerWriter) expert(name string, bits int) {
	w.packed(name+".gate_proj", bits, 2048, 512)
	w.packed(name+".up_proj", bits, 2048, 512)
	w.packed(name+".down_proj", bits, 512, 2048)
}

// WriteHeaders writes the weight files and the index of a folder like the
// published Qwen3-Next-80B-A3B int4-mixed model of April 2026: 227,088 tensors
// with their names, types and shapes in 12 files of 44 GB. The files are sparse
// and take 25 MB on disk; all values are zero. It returns the number of tensors.
func WriteHeaders(dir string) (int, error) {
	w := &headerWriter{}
	w.add("model.embed_tokens.weight", "BF16", 151936, 2048)
	for i := range 48 {
		w.layer(fmt.Sprintf("model.layers.%d", i), i%4 == 3, 8)
	}
	w.norms(2048, "model.norm")
	w.shard++
	w.filled = 0
	w.add("lm_head.weight", "BF16", 151936, 2048)
	w.shard++
	w.filled = 0
	extra := w.shard
	w.packed("mtp.fc", 4, 4096, 2048)
	w.norms(2048, "mtp.norm", "mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden")
	w.layer("mtp.layers.0", true, 4)

	file := func(shard int) string {
		if shard == extra {
			return "model_extra_tensors.safetensors"
		}
		return fmt.Sprintf("model-%05d-of-%05d.safetensors", shard+1, extra)
	}
	for shard := range extra + 1 {
		own := slices.DeleteFunc(slices.Clone(w.tensors), func(t headerTensor) bool { return t.shard != shard })
		if err := writeShard(filepath.Join(dir, file(shard)), own); err != nil {
			return 0, err
		}
	}
	return len(w.tensors), w.index(filepath.Join(dir, "model.safetensors.index.json"), extra, file)
}

// writeShard orders tensors as the safetensors library does: by type, widest
// first, then by name.
func writeShard(path string, tensors []headerTensor) error {
	order := map[string]int{"I32": 0, "BF16": 1, "F16": 2}
	slices.SortFunc(tensors, func(a, b headerTensor) int {
		return cmp.Or(order[a.dtype]-order[b.dtype], cmp.Compare(a.name, b.name))
	})
	header, at := []byte("{"), int64(0)
	for i, t := range tensors {
		if i > 0 {
			header = append(header, ',')
		}
		header = fmt.Appendf(header, `%q:{"dtype":%q,"shape":[`, t.name, t.dtype)
		for j, dim := range t.shape {
			if j > 0 {
				header = append(header, ',')
			}
			header = fmt.Appendf(header, "%d", dim)
		}
		header = fmt.Appendf(header, `],"data_offsets":[%d,%d]}`, at, at+t.bytes())
		at += t.bytes()
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(data))+at)
}

// index lists every tensor; its total leaves out the extra file, as published.
func (w *headerWriter) index(path string, extra int, file func(int) string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out, total := bufio.NewWriter(f), int64(0)
	for _, t := range w.tensors {
		if t.shard != extra {
			total += t.bytes()
		}
	}
	fmt.Fprintf(out, "{\n  \"metadata\": {\n    \"total_size\": %d\n  },\n  \"weight_map\": {", total)
	for i, t := range w.tensors {
		if i > 0 {
			out.WriteByte(',') //nolint:errcheck // Flush reports it
		}
		fmt.Fprintf(out, "\n    %q: %q", t.name, file(t.shard))
	}
	fmt.Fprint(out, "\n  }\n}\n")
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Close()
}
