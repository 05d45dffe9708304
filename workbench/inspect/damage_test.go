package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

const (
	first  = "model-00001-of-00002.safetensors"
	second = "model-00002-of-00002.safetensors"
	extra  = "model_extra_tensors.safetensors"
)

// sound copies a committed model into memory, for a test to damage.
func sound(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	folder := fstest.MapFS{}
	dir := os.DirFS(optest.Data("models", name))
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := fs.ReadFile(dir, e.Name())
		if err != nil {
			t.Fatal(err)
		}
		folder[e.Name()] = &fstest.MapFile{Data: data}
	}
	return folder
}

// edit replaces text in a file.
func edit(t *testing.T, folder fstest.MapFS, name, from, to string) {
	t.Helper()
	data := folder[name].Data
	if !bytes.Contains(data, []byte(from)) {
		t.Fatalf("%s does not contain %q", name, from)
	}
	folder[name] = &fstest.MapFile{Data: bytes.Replace(data, []byte(from), []byte(to), 1)}
}

// place returns the bytes of a tensor, to be written to.
func place(t *testing.T, folder fstest.MapFS, tensor string) []byte {
	t.Helper()
	c, err := safetensors.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	found, ok := c.Lookup(tensor)
	if !ok {
		t.Fatalf("no tensor %s", tensor)
	}
	return folder[found.File].Data[found.Offset:][:found.Bytes]
}

func inspectFS(t *testing.T, fsys fs.FS, opts Options) *Report {
	t.Helper()
	r, err := Inspect(context.Background(), fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Report) kind(name string) (found Kind) {
	for _, k := range r.Kinds {
		if k.Name == name {
			return k
		}
	}
	return found
}

// TestDamage damages a folder in one way each and states every finding.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name     string
		damage   func(t *testing.T, f fstest.MapFS)
		findings []string // a part of each, in order
		modules  int      // of mlp.experts.up_proj that are still described, of 32
	}{
		{"cut file", func(_ *testing.T, f fstest.MapFS) { f[second].Data = f[second].Data[:len(f[second].Data)-2] },
			[]string{second + `: tensor "model.layers.3.`, "missing from the checkpoint"}, 15},
		{"lost file", func(_ *testing.T, f fstest.MapFS) { delete(f, second) },
			[]string{second + ": is missing: 219 tensors of the index are in it", "missing from the checkpoint (and"}, 15},
		{"pointer", func(_ *testing.T, f fstest.MapFS) {
			f[first].Data = []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
		}, []string{first + " at offset 0: is a git-lfs pointer", "missing from the checkpoint (and"}, 17},
		{"two files", func(_ *testing.T, f fstest.MapFS) {
			f[first].Data = f[first].Data[:7]
			f[second].Data[0] = 0xFF
			f[second].Data[7] = 0xFF
		}, []string{first + " at offset 0: has 7 bytes", second + " at offset 0: header of", "missing from the checkpoint"}, 0},
		{"same tensors twice", func(_ *testing.T, f fstest.MapFS) { f["model-copy.safetensors"] = f[extra] },
			[]string{`model_extra_tensors.safetensors: tensor "mtp.`}, 32},
		{"broken index", func(_ *testing.T, f fstest.MapFS) { f[indexName].Data = []byte(`{"weight_map": {`) },
			[]string{indexName + " at offset 16: is broken"}, 32},
		{"escaping index", func(t *testing.T, f fstest.MapFS) { edit(t, f, indexName, first, "../"+first) },
			[]string{`names the file "../` + first + `"`}, 32},
		{"no config", func(_ *testing.T, f fstest.MapFS) { delete(f, "config.json") },
			[]string{"config.json is missing"}, 32},
		{"config of another model", func(t *testing.T, f fstest.MapFS) { edit(t, f, "config.json", `"qwen3_next"`, `"llama"`) },
			[]string{`model_type is "llama"`}, 32},
		{"config beyond the engine", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"attention_bias": false`, `"attention_bias": true`)
			edit(t, f, "config.json", `"use_sliding_window": false`, `"use_sliding_window": true`)
		}, []string{"attention_bias true", "use_sliding_window true"}, 32},
		{"absurd config", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"hidden_size": 128`, `"hidden_size": -128`)
			edit(t, f, "config.json", `"num_experts": 8`, `"num_experts": 80000`)
		}, []string{"hidden_size is -128", "num_experts is 80000"}, 32},
		{"config and tensors disagree", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"moe_intermediate_size": 64`, `"moe_intermediate_size": 32`)
		}, []string{"mlp.experts.0.gate_proj", "mlp.experts.0.up_proj", "mlp.experts.0.down_proj"}, 32},
		{"quantisation", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"quant_method": "auto-round"`, `"quant_method": "bitsandbytes"`)
		}, []string{`quant_method "bitsandbytes" is not supported`}, 32},
		{"no tokenizer", func(_ *testing.T, f fstest.MapFS) { delete(f, "tokenizer.json") }, []string{"tokenizer.json is missing"}, 32},
		{"broken tokenizer", func(_ *testing.T, f fstest.MapFS) { f["tokenizer.json"].Data = []byte("{") }, []string{"tokenizer.json: "}, 32},
		{"vocabulary", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"vocab_size": 384`, `"vocab_size": 353`)
		}, []string{"config.json asks for [353 128]", "tokenizer.json has 376 ids, the embedding only 353 rows"}, 32},
		{"end token", func(t *testing.T, f fstest.MapFS) {
			edit(t, f, "config.json", `"eos_token_id": 352`, `"eos_token_id": 380`)
		}, []string{"eos_token_id 380 is no token"}, 32},
		{"template", func(_ *testing.T, f fstest.MapFS) {
			f["chat_template.jinja"] = &fstest.MapFile{Data: []byte("{% if %}")}
		}, []string{"chat template: "}, 32},
		{"generation config", func(_ *testing.T, f fstest.MapFS) { f["generation_config.json"].Data = []byte("[") },
			[]string{"generation_config.json"}, 32},
		{"nothing", func(_ *testing.T, f fstest.MapFS) {
			for name := range f {
				delete(f, name)
			}
		}, []string{"config.json is missing", "no *.safetensors files", "tokenizer.json is missing"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := sound(t, "int4-mixed-2026")
			c.damage(t, folder)
			r := inspectFS(t, folder, Options{Verify: true})
			rest := r.Findings
			for _, want := range c.findings {
				for len(rest) > 0 && !strings.Contains(rest[0], want) {
					rest = rest[1:]
				}
				if len(rest) == 0 {
					t.Fatalf("findings %q\nlack, in their order, %q", r.Findings, want)
				}
			}
			if got := r.kind("mlp.experts.up_proj").Modules; got != c.modules {
				t.Errorf("%d modules of up_proj are described, want %d", got, c.modules)
			}
			if printed := text(t, r); !strings.Contains(printed, "Findings (") || strings.Contains(printed, "No problems") {
				t.Errorf("printed:\n%s", printed)
			}
		})
	}
}

// TestAllAtOnce makes sure that one problem hides no other.
func TestAllAtOnce(t *testing.T) {
	folder := sound(t, "int4-mixed-2026")
	edit(t, folder, "config.json", `"num_experts_per_tok": 2`, `"num_experts_per_tok": 0`)
	folder["tokenizer.json"].Data = []byte("{}")
	folder["chat_template.jinja"] = &fstest.MapFile{Data: []byte("{{")}
	copy(place(t, folder, "model.norm.weight"), []byte{0xC0, 0x7F}) // NaN
	folder[extra].Data = folder[extra].Data[:100]
	r := inspectFS(t, folder, Options{Verify: true})
	all := strings.Join(r.Findings, "\n")
	for _, want := range []string{"num_experts_per_tok is 0", "tokenizer.json:", "chat template:", extra, `"model.norm.weight"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%q lacks %q", r.Findings, want)
		}
	}
	// Without a usable config, bits and groups come from the shapes alone.
	for name, want := range map[string][2]int{"mlp.experts.down_proj": {4, 32}, "linear_attn.in_proj_ba": {8, 32}, "mlp.gate": {16, 0}} {
		if k := r.kind(name); k.Bits != want[0] || k.Group != want[1] {
			t.Errorf("%s: %d bits, group %d; want %v", name, k.Bits, k.Group, want)
		}
	}
	if r.Layers[0].Count != 3 || r.Layers[1].Count != 1 || r.Layers[1].Indices[0] != 3 {
		t.Errorf("layers %+v", r.Layers)
	}
}

func TestVerifyFindsNaNAndInf(t *testing.T) {
	folder := sound(t, "int4-mixed-2026")
	scales := place(t, folder, "model.layers.0.mlp.experts.3.up_proj.scales")
	for i, h := range []uint16{0x7E00, 0x7C00, 0xFC00, 0x0001, 0x8001, 0x8000, 0x0000} {
		binary.LittleEndian.PutUint16(scales[2*(i+5):], h)
	}
	copy(place(t, folder, "lm_head.weight")[2*1000:], []byte{0x80, 0xFF}) // bfloat16 -Inf
	before := inspectDir(t, optest.Data("models", "int4-mixed-2026"), Options{Verify: true}).kind("mlp.experts.up_proj")

	r := inspectFS(t, folder, Options{Verify: true})
	if k := r.kind("mlp.experts.up_proj"); k.NaN != 1 || k.Inf != 2 || k.Scales.Zeros != before.Scales.Zeros+2 ||
		k.Scales.Subnormals != before.Scales.Subnormals+2 || k.Scales.Count != before.Scales.Count {
		t.Errorf("%+v, scales %+v; before %+v", k, k.Scales, before.Scales)
	}
	if k := r.kind("lm_head"); k.NaN != 0 || k.Inf != 1 {
		t.Errorf("%+v", k)
	}
	want := []string{
		`"lm_head.weight"`, "0 NaN and 1 Inf among 49152 values, the first at element 1000",
		`"model.layers.0.mlp.experts.3.up_proj.scales"`, "1 NaN and 2 Inf among 256 values, the first at element 5",
	}
	all := strings.Join(r.Findings, "\n")
	for _, part := range want {
		if len(r.Findings) != 2 || !strings.Contains(all, part) {
			t.Errorf("findings %q, want %q", r.Findings, part)
		}
	}
	if r := inspectFS(t, sound(t, "int4-mixed-2026"), Options{}); r.Verified || len(r.Findings) > 0 {
		t.Errorf("without verify: %v, %q", r.Verified, r.Findings)
	}
}

// TestStoredZeros tells the two constants of the writers apart from others.
func TestStoredZeros(t *testing.T) {
	for value, want := range map[uint32]string{0x77777777: "minus one", 0x88888888: "as they are", 0x12345678: "other"} {
		folder := sound(t, "int4-mixed-2026")
		words := place(t, folder, "mtp.fc.qzeros")
		for i := 0; i < len(words); i += 4 {
			binary.LittleEndian.PutUint32(words[i:], value)
		}
		r := inspectFS(t, folder, Options{})
		if got := r.kind("mtp.fc").StoredZeros; got != want {
			t.Errorf("%#x: %q, want %q", value, got, want)
		}
		if noted := strings.Contains(strings.Join(r.Notes, "\n"), "zeros stored with mtp.fc are not"); noted != (want == "other") {
			t.Errorf("%#x: notes %q", value, r.Notes)
		}
		if i := len(words) / 2 &^ 3; value != 0x12345678 {
			binary.LittleEndian.PutUint32(words[i:], 1)
			if got := inspectFS(t, folder, Options{}).kind("mtp.fc").StoredZeros; got != "mixed" {
				t.Errorf("%#x and 1: %q, want mixed", value, got)
			}
		}
	}
	// AUTOROUND_FORMAT, section 4.1.
	for bits, want := range map[int][3]uint32{
		2: {0x55555555, 0x55555555, 0x55555555}, 3: {0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D},
		4: {0x77777777, 0x77777777, 0x77777777}, 8: {0x7F7F7F7F, 0x7F7F7F7F, 0x7F7F7F7F},
	} {
		for word := range want {
			if got := constant(1<<(bits-1)-1, bits, word); got != want[word] {
				t.Errorf("%d bits, word %d: %#x, want %#x", bits, word, got, want[word])
			}
		}
	}
}

// TestClaims changes what the config says; the tensors stay right.
func TestClaims(t *testing.T) {
	change := func(t *testing.T, change func(quant map[string]any)) []string {
		folder := sound(t, "int4-mixed-2026")
		var config map[string]any
		if err := json.Unmarshal(folder["config.json"].Data, &config); err != nil {
			t.Fatal(err)
		}
		change(config["quantization_config"].(map[string]any))
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		folder["config.json"].Data = data
		r := inspectFS(t, folder, Options{})
		if len(r.Findings) > 0 {
			t.Errorf("findings %q: the tensors are right", r.Findings)
		}
		return r.Notes
	}
	for _, c := range []struct {
		name   string
		change func(quant map[string]any)
		want   []string // parts of the notes
	}{
		{"as it is", func(map[string]any) {}, nil},
		{"global bits", func(q map[string]any) { q["bits"] = 2 },
			[]string{"model.layers.0.mlp.experts.0.down_proj has 4 bits, quantization_config says 2", "(and 31 more of mlp.experts.down_proj)"}},
		{"global group", func(q map[string]any) { q["group_size"] = 64 },
			[]string{"has groups of 32, quantization_config says 64", "(and 2 more of linear_attn.in_proj_ba)"}},
		{"router", func(q map[string]any) {
			q["extra_config"].(map[string]any)["model.layers.1.mlp.gate"] = map[string]any{"bits": 8}
		}, []string{"model.layers.1.mlp.gate is not quantised, extra_config says 8 bits"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			notes := change(t, c.change)
			all := strings.Join(notes, "\n")
			if (len(c.want) == 0) != (len(notes) == 0) {
				t.Errorf("notes %q, want %q", notes, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(all, want) {
					t.Errorf("notes %q lack %q", notes, want)
				}
			}
		})
	}
}

func TestUnusual(t *testing.T) {
	folder := sound(t, "int4-mixed-2026")
	header := `{"mtp.rotary.inv_freq":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	folder["strange.safetensors"] = &fstest.MapFile{Data: append(append(data, header...), make([]byte, 8)...)}
	r := inspectFS(t, folder, Options{})
	all := strings.Join(r.Notes, "\n")
	for _, want := range []string{"strange.safetensors is not in the index", "1 tensors are not part of the model and are not used, the first is mtp.rotary.inv_freq"} {
		if len(r.Findings) > 0 || !strings.Contains(all, want) {
			t.Errorf("findings %q, notes %q; want %q", r.Findings, r.Notes, want)
		}
	}
}

func TestProgressAndCancel(t *testing.T) {
	dir := os.DirFS(optest.Data("models", "int4-mixed-2026"))
	var last, all int64
	r, err := Inspect(context.Background(), dir, Options{Verify: true, Progress: func(done, total int64) {
		if done <= last {
			t.Errorf("progress went from %d to %d", last, done)
		}
		last, all = done, total
	}})
	if err != nil || last != r.Bytes || all != r.Bytes {
		t.Errorf("ended at %d of %d of %d bytes, %v", last, all, r.Bytes, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	if _, err := Inspect(ctx, dir, Options{Verify: true, Progress: func(int64, int64) { calls++; cancel() }}); !errors.Is(err, context.Canceled) || calls > 16 {
		t.Errorf("cancelled: %v after %d calls", err, calls)
	}
	if _, err := Inspect(ctx, dir, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// TestUnreadable cuts a file off while it is mapped: what a broken disk does.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 16
	header := fmt.Sprintf(`{"a":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}`, size/2, size)
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	path := filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(path, append(data, make([]byte, size)...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := safetensors.Open(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	x := &inspection{r: &Report{}, checkpoint: c}
	x.sortTensors()
	if err := x.data(context.Background(), Options{Verify: true}); err != nil {
		t.Fatal(err)
	}
	if len(x.r.Findings) != 1 || !strings.Contains(x.r.Findings[0], `"a"`) || !strings.Contains(x.r.Findings[0], "cannot be read from the disk") {
		t.Errorf("findings %q", x.r.Findings)
	}
}

// TestManyFindings keeps a report of a ruined folder to a readable size.
func TestManyFindings(t *testing.T) {
	folder := sound(t, "int4-mixed-2026")
	folder[first].Data = folder[first].Data[:len(folder[first].Data)/3]
	r := inspectFS(t, folder, Options{})
	if n := len(r.Findings); n < 10 || n > 2*maxAlike {
		t.Errorf("%d findings:\n%s", n, strings.Join(r.Findings, "\n"))
	}
}
