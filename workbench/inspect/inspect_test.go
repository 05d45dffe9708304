package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

var update = flag.Bool("update", false, "rewrite testdata")

func inspectDir(t *testing.T, dir string, opts Options) *Report {
	t.Helper()
	r, err := Inspect(context.Background(), os.DirFS(dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t *testing.T, r *Report) string {
	t.Helper()
	if r.Memory != nil {
		r.Memory.Available = 0 // differs by machine
	}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestText compares the printed report of a committed model, verified and not.
func TestText(t *testing.T) {
	for file, opts := range map[string]Options{"report.txt": {}, "verified.txt": {Verify: true}} {
		got := text(t, inspectDir(t, optest.Data("models", "int4-mixed-2026"), opts))
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got), go test -update rewrites it:\n%s", file, diff)
		}
	}
}

// variant is what the models' README says of one of them: bits and group of the
// routed experts, the shared expert, the mixers and the router.
type variant struct {
	name                            string
	experts, shared, mixers, router [2]int
	layout, zeros                   string
	mtp                             []int
	files                           int
	notes                           []string // parts of the notes, in order
}

const router2025 = "the router (mlp.gate) is quantised to 8 bits"

var (
	dense    = [2]int{16, 0}
	variants = []variant{
		{"bf16", dense, dense, dense, dense, "dense", "", nil, 1, nil},
		{"int4-mixed-2026", [2]int{4, 32}, [2]int{8, 32}, [2]int{8, 32}, dense, "gptq", "symmetric", []int{4, 16}, 3, nil},
		{"int4-mixed-2025", [2]int{4, 32}, [2]int{4, 32}, [2]int{8, 32}, [2]int{8, 32}, "gptq", "symmetric", nil, 3, []string{router2025}},
		{"int8", [2]int{8, 32}, [2]int{8, 32}, [2]int{8, 32}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int3", [2]int{3, 32}, [2]int{3, 32}, [2]int{3, 32}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int2-g32-mixed", [2]int{2, 32}, [2]int{4, 64}, [2]int{4, 64}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int4-asym-gptq", [2]int{4, 32}, [2]int{4, 32}, [2]int{4, 32}, dense, "gptq", "stored-1", nil, 1, nil},
		{"int4-asym-native", [2]int{4, 32}, [2]int{4, 32}, [2]int{4, 32}, dense, "gptq", "stored", nil, 1, nil},
		{"int4-awq", [2]int{4, 32}, [2]int{4, 32}, [2]int{4, 32}, dense, "awq", "stored", nil, 1, []string{"config.json says float16, the tensors are BF16"}},
		{"int4-gidx-gptq", [2]int{4, 32}, [2]int{4, 32}, [2]int{4, 32}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int4-g64", [2]int{4, 64}, [2]int{4, 64}, [2]int{4, 64}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int4-gall", [2]int{4, -1}, [2]int{4, -1}, [2]int{4, -1}, dense, "gptq", "symmetric", nil, 1, nil},
		{"int4-scales-stress", [2]int{4, 32}, [2]int{4, 32}, [2]int{4, 32}, dense, "gptq", "symmetric", nil, 1, nil},
	}
)

// want returns bits and group of a main kind, -1 for a whole column.
func (v variant) want(kind string) (bitsGroup [2]int, ok bool) {
	switch {
	case kind == "mlp.gate":
		return v.router, true
	case strings.HasPrefix(kind, "mlp.experts."):
		return v.experts, true
	case strings.HasPrefix(kind, "mlp.shared_expert."):
		return v.shared, true
	case strings.HasSuffix(kind, "_proj") || strings.Contains(kind, "in_proj_"):
		return v.mixers, true
	}
	return dense, kind == "mlp.shared_expert_gate" || kind == "lm_head" || kind == "model.embed_tokens"
}

// folder finds a variant: three are committed, the shared data has all.
func (v variant) folder() (string, bool) {
	dir := optest.Data("models", v.name)
	if _, err := os.Stat(dir); err == nil {
		return dir, true
	}
	root, ok := shared.Dir()
	return filepath.Join(root, "models", "micro", v.name), ok
}

func TestVariants(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			dir, ok := v.folder()
			if !ok {
				t.Skip("shared data not found: model " + v.name)
			}
			r := inspectDir(t, dir, Options{Verify: true})
			if len(r.Findings) > 0 {
				t.Errorf("findings: %q", r.Findings)
			}
			notes := slices.DeleteFunc(slices.Clone(r.Notes), func(n string) bool { return strings.HasPrefix(n, "no chat template") })
			if !slices.EqualFunc(notes, v.notes, strings.Contains) {
				t.Errorf("notes %q, want %q", notes, v.notes)
			}
			checkKinds(t, r, v)
			if len(r.Files) != v.files || r.MTP.Present != (v.mtp != nil) || !slices.Equal(r.MTP.Bits, v.mtp) {
				t.Errorf("%d files, MTP %+v; want %d, %v", len(r.Files), r.MTP, v.files, v.mtp)
			}
			if want := (Tokenizer{376, 26, 8}); r.Tokenizer == nil || *r.Tokenizer != want {
				t.Errorf("tokenizer %+v, want %+v", r.Tokenizer, want)
			}
			checkSums(t, r, dir)
		})
	}
}

func checkKinds(t *testing.T, r *Report, v variant) {
	t.Helper()
	seen := 0
	for _, k := range r.Kinds {
		want, ok := v.want(k.Name)
		if !ok || strings.HasPrefix(k.Name, mtpPrefix) {
			continue
		}
		seen++
		if want[1] == -1 {
			want[1] = k.Inputs
		}
		layout, zeros := v.layout, v.zeros
		if want == dense {
			layout, zeros = "dense", ""
		}
		if k.Bits != want[0] || k.Group != want[1] || k.Layout != layout || k.Zeros != zeros {
			t.Errorf("%s: %d bits, group %d, %s, %q; want %v, %s, %q", k.Name, k.Bits, k.Group, k.Layout, k.Zeros, want, layout, zeros)
		}
		if k.NaN+k.Inf > 0 || (k.Scales == nil) != (want == dense) {
			t.Errorf("%s: %d NaN, %d Inf, scales %+v", k.Name, k.NaN, k.Inf, k.Scales)
		}
		if k.Scales == nil {
			continue
		}
		asymmetric := v.zeros != "symmetric" // these have positive scales only
		if n := k.Scales.Negative; asymmetric && n != 0 || !asymmetric && (n < 0.4 || n > 0.6) {
			t.Errorf("%s: %.3f of the scales are negative", k.Name, n)
		}
		if groups := int64(k.Modules * k.Outputs * (k.Inputs / k.Group)); k.Scales.Count != groups {
			t.Errorf("%s: %d scales read, there are %d", k.Name, k.Scales.Count, groups)
		}
		stress := v.name == "int4-scales-stress" && k.Name == "mlp.experts.down_proj"
		if stress != (k.Scales.Subnormals > 1000 && k.Scales.Zeros > 0) {
			t.Errorf("%s: %d zeros and %d subnormals", k.Name, k.Scales.Zeros, k.Scales.Subnormals)
		}
	}
	if seen != 17 { // 4 attention, 3 delta net, 3 experts, 3 shared, 2 gates, embedding, head
		t.Errorf("%d kinds of matrices, want 17", seen)
	}
}

// checkSums compares the sizes with the folder itself.
func checkSums(t *testing.T, r *Report, dir string) {
	t.Helper()
	var bytes, size int64
	tensors := 0
	for _, k := range r.Kinds {
		bytes += k.Bytes
	}
	for _, f := range r.Files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil || info.Size() != f.Size || len(f.HeaderSHA256) != 64 {
			t.Errorf("file %+v: %v, %v", f, info, err)
		}
		size, tensors = size+f.Size, tensors+f.Tensors
	}
	if bytes != r.Bytes || tensors != r.Tensors || r.Bytes >= size || r.Bytes < size*8/10 {
		t.Errorf("kinds have %d bytes, the report %d, the files %d; tensors %d and %d", bytes, r.Bytes, size, r.Tensors, tensors)
	}
}

func TestDemo(t *testing.T) {
	r := inspectDir(t, optest.Demo(t), Options{})
	if len(r.Findings)+len(r.Notes) > 0 || !r.Template.Parses || r.Bytes != 20_414_304 {
		t.Errorf("findings %q, notes %q, template %+v, %d bytes", r.Findings, r.Notes, r.Template, r.Bytes)
	}
	if r.Memory == nil || r.Memory.PerToken != 2048 || r.Memory.Weights < 20_000_000 || r.Memory.Weights > r.Bytes {
		t.Errorf("memory %+v", r.Memory)
	}
}

func TestJSON(t *testing.T) {
	r := inspectDir(t, optest.Data("models", "int4-awq"), Options{Verify: true})
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, back); diff != "" {
		t.Errorf("through JSON (-want +got):\n%s", diff)
	}
}

// TestSampledScales keeps the sampled share close to the full one.
func TestSampledScales(t *testing.T) {
	dir := optest.Demo(t)
	some, all := inspectDir(t, dir, Options{}), inspectDir(t, dir, Options{Verify: true})
	for i, k := range some.Kinds {
		full := all.Kinds[i]
		if k.Name != full.Name || (k.Scales == nil) != (full.Scales == nil) {
			t.Fatalf("%s and %s differ", k.Name, full.Name)
		}
		if k.Scales == nil {
			continue
		}
		if d := k.Scales.Negative - full.Scales.Negative; d > 0.1 || d < -0.1 {
			t.Errorf("%s: sampled %.3f, all %.3f", k.Name, k.Scales.Negative, full.Scales.Negative)
		}
		if fewer := k.Scales.Count < full.Scales.Count; fewer != (k.Modules > sampled) {
			t.Errorf("%s: %d of %d scales were sampled from %d modules", k.Name, k.Scales.Count, full.Scales.Count, k.Modules)
		}
	}
}

func TestNamesToKinds(t *testing.T) {
	for module, want := range map[string]string{
		"model.layers.12.mlp.experts.511.up_proj": "mlp.experts.up_proj",
		"model.layers.3.self_attn.q_proj":         "self_attn.q_proj",
		"mtp.layers.0.mlp.experts.7.down_proj":    "mtp.mlp.experts.down_proj",
		"mtp.fc":                                  "mtp.fc",
		"model.layers.0.mlp.experts.gate_up_proj": "mlp.experts.gate_up_proj",
		"model.layers.x.mlp.gate":                 "model.layers.x.mlp.gate",
		"model.layers.":                           "model.layers.",
		"lm_head":                                 "lm_head",
	} {
		if got := kindOf(module); got != want {
			t.Errorf("%s: %s, want %s", module, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100", 44166760774: "44,166,760,774"} {
		if got := number(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, fmt.Errorf("disk full")
	}
	return len(p), nil
}

func TestWriteTextReportsTheWriter(t *testing.T) {
	r := inspectDir(t, optest.Data("models", "int4-awq"), Options{})
	for _, room := range []int{0, 300, 1500} {
		if err := r.WriteText(&failing{room}); err == nil {
			t.Errorf("no error with room for %d bytes", room)
		}
	}
}

// The column of kernels is there when somebody can name them; two names make
// two rows of a kind.
func TestKernelColumn(t *testing.T) {
	r := inspectDir(t, optest.Data("models", "int4-mixed-2026"), Options{Kernels: func(ops.Weights) (func(*ops.Matrix) string, error) {
		return func(m *ops.Matrix) string { return fmt.Sprintf("W%d test", m.Bits) }, nil
	}})
	named := 0
	for _, k := range r.Kinds {
		if (k.Kernel != "") != (k.Layout != "vector") && !strings.HasPrefix(k.Name, mtpPrefix) {
			t.Errorf("%s, %s: kernel %q", k.Name, k.Layout, k.Kernel)
		}
		if strings.HasPrefix(k.Kernel, "W4") {
			named++
		}
	}
	if printed := text(t, r); named == 0 || !strings.Contains(printed, "Kernel\n") || !strings.Contains(printed, "W4 test\n") {
		t.Errorf("%d kinds of 4 bits:\n%s", named, printed)
	}
	r = inspectDir(t, optest.Data("models", "int4-mixed-2026"), Options{Kernels: func(ops.Weights) (func(*ops.Matrix) string, error) { return nil, errors.New("too odd") }})
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0], "no kernels: too odd") {
		t.Errorf("findings %v", r.Findings)
	}
}
