package autoround

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// part is one tensor of a checkpoint made for a test; nil data means zeros.
type part struct {
	dtype string
	shape []int64
	data  []byte
}

var dtypeSizes = map[string]int64{"I32": 4, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}

// checkpoint writes the tensors into one file and opens it.
func checkpoint(t *testing.T, parts map[string]part) *safetensors.Checkpoint {
	t.Helper()
	header := map[string]any{}
	var body []byte
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		size := dtypeSizes[p.dtype]
		for _, dim := range p.shape {
			size *= dim
		}
		data := make([]byte, size)
		copy(data, p.data)
		header[name] = map[string]any{"dtype": p.dtype, "shape": p.shape, "data_offsets": []int{len(body), len(body) + len(data)}}
		body = append(body, data...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	file = append(append(file, text...), body...)
	c, err := safetensors.Open(fstest.MapFS{"model.safetensors": {Data: file}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// packed4 is a module "m" of 4 bits in gptq layout.
func packed4(k, n, groups int64) map[string]part {
	return map[string]part{
		"m.qweight": {"I32", []int64{k / 8, n}, nil},
		"m.scales":  {"F16", []int64{groups, n}, nil},
		"m.qzeros":  {"I32", []int64{groups, n / 8}, nil},
	}
}

func groupIndex(groups ...int32) (data []byte) {
	for _, g := range groups {
		data = binary.LittleEndian.AppendUint32(data, uint32(g))
	}
	return data
}

func with(parts map[string]part, name string, p part) map[string]part {
	parts[name] = p
	return parts
}

func without(parts map[string]part, name string) map[string]part {
	delete(parts, name)
	return parts
}

func config(t *testing.T, text string) *Config {
	t.Helper()
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const symmetric = `{"bits":4,"group_size":32,"sym":true}`

func TestBind(t *testing.T) {
	plain, shuffled := make([]int32, 64), make([]int32, 64)
	for k := range plain {
		plain[k], shuffled[k] = int32(k/32), int32(k%2)
	}
	asymmetric := func(more string) string { return `{"bits":4,"group_size":32,"sym":false` + more + `}` }
	for _, test := range []struct {
		name   string
		parts  map[string]part
		config string // empty for none
		k, n   int
		want   string // bits group layout zeros
		warns  string
	}{
		{"symmetric", packed4(64, 32, 2), symmetric, 64, 32, "4 32 gptq symmetric", ""},
		{"symmetric without zeros", without(packed4(64, 32, 2), "m.qzeros"), symmetric, 64, 32, "4 32 gptq symmetric", ""},
		{"short last group", packed4(96, 32, 2), `{"bits":4,"group_size":64}`, 96, 32, "4 64 gptq symmetric", ""},
		{"short last group, groups do not divide", packed4(160, 32, 3), `{"bits":4,"group_size":64}`, 160, 32, "4 64 gptq symmetric", ""},
		{"one group a column", packed4(64, 32, 1), `{"bits":4,"group_size":-1}`, 64, 32, "4 64 gptq symmetric", ""},
		{"group larger than the matrix", packed4(64, 32, 1), `{"bits":4,"group_size":128}`, 64, 32, "4 64 gptq symmetric", ""},
		{"the tensors count, not the group size", packed4(64, 32, 2), `{"bits":4,"group_size":16}`, 64, 32, "4 32 gptq symmetric", "has groups of 32, quantization_config says 16"},
		{"the tensors count, not the bits", packed4(64, 32, 2), `{"bits":8,"group_size":32}`, 64, 32, "4 32 gptq symmetric", "has 4 bits, quantization_config says 8"},
		{"listed as not quantised", packed4(64, 32, 2), `{"bits":4,"group_size":32,"extra_config":{"m":{"bits":16,"data_type":"fp"}}}`, 64, 32, "4 32 gptq symmetric", "has 4 bits"},
		{"listed bits", packed4(64, 32, 2), `{"bits":8,"group_size":128,"extra_config":{"m":{"bits":4,"group_size":32}}}`, 64, 32, "4 32 gptq symmetric", ""},
		{"listed symmetry", packed4(64, 32, 2), `{"bits":4,"group_size":32,"sym":true,"extra_config":{"m":{"sym":false}}}`, 64, 32, "4 32 gptq stored-1", ""},
		{"auto_gptq zeros", packed4(64, 32, 2), asymmetric(`,"packing_format":"auto_round:auto_gptq"`), 64, 32, "4 32 gptq stored-1", ""},
		{"packing unknown of old", packed4(64, 32, 2), asymmetric(``), 64, 32, "4 32 gptq stored-1", ""},
		{"older backend key", packed4(64, 32, 2), asymmetric(`,"backend":"auto_round:gptq:exllamav2"`), 64, 32, "4 32 gptq stored-1", ""},
		{"gptqmodel zeros", packed4(64, 32, 2), asymmetric(`,"packing_format":"auto_round:gptqmodel"`), 64, 32, "4 32 gptq stored", ""},
		{"auto_round zeros", packed4(64, 32, 2), asymmetric(`,"packing_format":"auto_round"`), 64, 32, "4 32 gptq stored", ""},
		{"other back ends' zeros", packed4(64, 32, 2), asymmetric(`,"packing_format":"auto_round:tritonv2"`), 64, 32, "4 32 gptq stored", ""},
		{"plain gptq zeros", packed4(64, 32, 2), asymmetric(`,"quant_method":"gptq"`), 64, 32, "4 32 gptq stored-1", ""},
		{"gptq_v2 zeros", packed4(64, 32, 2), asymmetric(`,"quant_method":"gptq","checkpoint_format":"gptq_v2"`), 64, 32, "4 32 gptq stored", ""},
		{"awq", map[string]part{"m.qweight": {"I32", []int64{64, 4}, nil}, "m.scales": {"F16", []int64{2, 32}, nil}, "m.qzeros": {"I32", []int64{2, 4}, nil}},
			`{"quant_method":"awq","bits":4,"group_size":32,"zero_point":true,"version":"GEMM"}`, 64, 32, "4 32 awq stored", ""},
		{"group index that says nothing new", with(packed4(64, 32, 2), "m.g_idx", part{"I32", []int64{64}, groupIndex(plain...)}), symmetric, 64, 32, "4 32 gptq symmetric", ""},
		{"group index out of order", with(packed4(64, 32, 2), "m.g_idx", part{"I32", []int64{64}, groupIndex(shuffled...)}), `{"bits":4,"group_size":32,"desc_act":true}`, 64, 32, "4 32 gptq symmetric g_idx", ""},
		{"not quantised, no config", map[string]part{"m.weight": {"BF16", []int64{32, 64}, nil}}, "", 64, 32, "16 0 dense symmetric", ""},
		{"listed as quantised", map[string]part{"m.weight": {"F32", []int64{32, 64}, nil}}, `{"bits":4,"extra_config":{"m":{"bits":8}}}`, 64, 32, "32 0 dense symmetric", "is not quantised, extra_config says 8 bits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var cfg *Config
			if test.config != "" {
				cfg = config(t, test.config)
			}
			m, warnings, err := Bind(checkpoint(t, test.parts), cfg, "m", test.k, test.n)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(m.Bits, m.Group, " ", m.Layout, " ", m.Zeros)
			if m.GroupOf.Data != nil {
				got += " g_idx"
			}
			if got != test.want {
				t.Errorf("bound as %s, want %s", got, test.want)
			}
			if all := strings.Join(warnings, "\n"); test.warns == "" && all != "" || !strings.Contains(all, test.warns) {
				t.Errorf("warnings %q, want %q", all, test.warns)
			}
			m.Tile(make([]float32, test.k*test.n), 0, test.k, 0, test.n) // all within bounds
		})
	}
}

func TestBindRefuses(t *testing.T) {
	bits := func(bits int64) map[string]part {
		return map[string]part{"m.qweight": {"I32", []int64{64 * bits / 32, 32}, nil}, "m.scales": {"F16", []int64{2, 32}, nil}}
	}
	tooFar := make([]int32, 64)
	tooFar[5] = 2
	negative := make([]int32, 64)
	negative[63] = -1
	for _, test := range []struct {
		name   string
		parts  map[string]part
		config string
		want   string
	}{
		{"nothing there", map[string]part{"other.weight": {"BF16", []int64{1}, nil}}, symmetric, "m.weight is missing from the checkpoint"},
		{"scales missing", without(packed4(64, 32, 2), "m.scales"), symmetric, "m.scales is missing"},
		{"zeros missing", without(packed4(64, 32, 2), "m.qzeros"), `{"bits":4,"sym":false}`, "m.qzeros is missing"},
		{"group index missing", packed4(64, 32, 2), `{"bits":4,"desc_act":true}`, "m.g_idx is missing"},
		{"no configuration", packed4(64, 32, 2), "", "neither config.json nor quantization_config.json says how"},
		{"5 bits", bits(5), symmetric, "that is 5 bits for 64 inputs: 2, 3, 4 and 8 are supported"},
		{"6 bits", bits(6), symmetric, "that is 6 bits for 64 inputs"},
		{"7 bits", bits(7), symmetric, "that is 7 bits for 64 inputs"},
		{"16 bits", bits(16), symmetric, "that is 16 bits for 64 inputs"},
		{"half a bit more", with(bits(4), "m.qweight", part{"I32", []int64{9, 32}, nil}), symmetric, "that is 4.5 bits"},
		{"other outputs", packed4(64, 64, 2), symmetric, "config.json asks for 64 inputs and 32 outputs"},
		{"codes of the wrong type", with(packed4(64, 32, 2), "m.qweight", part{"F32", []int64{8, 32}, nil}), symmetric, "m.qweight in model.safetensors at offset"},
		{"scales of the wrong type", with(packed4(64, 32, 2), "m.scales", part{"BF16", []int64{2, 32}, nil}), symmetric, "is BF16 [2 32]: expected rank 2 of [F16]"},
		{"scales of the wrong rank", with(packed4(64, 32, 2), "m.scales", part{"F16", []int64{64}, nil}), symmetric, "expected rank 2"},
		{"scales of other outputs", with(packed4(64, 32, 2), "m.scales", part{"F16", []int64{2, 16}, nil}), symmetric, "expected [groups 32]"},
		{"no groups", with(packed4(64, 32, 2), "m.scales", part{"F16", []int64{0, 32}, nil}), symmetric, "with 1 to 64 groups"},
		{"more groups than inputs", with(packed4(64, 32, 2), "m.scales", part{"F16", []int64{65, 32}, nil}), symmetric, "with 1 to 64 groups"},
		{"groups that fit nothing", packed4(64, 32, 3), `{"bits":4,"group_size":32}`, "3 groups do not divide 64 inputs, and group_size 32"},
		{"zeros of the wrong shape", with(packed4(64, 32, 2), "m.qzeros", part{"I32", []int64{2, 3}, nil}), `{"bits":4,"sym":false}`, "expected [2 4]"},
		{"zeros of the wrong type", with(packed4(64, 32, 2), "m.qzeros", part{"F32", []int64{2, 4}, nil}), symmetric, "expected rank 2 of [I32]"},
		{"group index too short", with(packed4(64, 32, 2), "m.g_idx", part{"I32", []int64{63}, nil}), symmetric, "one group for each of 64 inputs"},
		{"group index too far", with(packed4(64, 32, 2), "m.g_idx", part{"I32", []int64{64}, groupIndex(tooFar...)}), symmetric, "input 5 is in group 2 of 2"},
		{"group index negative", with(packed4(64, 32, 2), "m.g_idx", part{"I32", []int64{64}, groupIndex(negative...)}), symmetric, "input 63 is in group -1 of 2"},
		{"dense of another shape", map[string]part{"m.weight": {"BF16", []int64{64, 32}, nil}}, "", "config.json asks for [32 64]"},
		{"dense of another type", map[string]part{"m.weight": {"U8", []int64{32, 64}, nil}}, "", "expected rank 2 of [BF16 F16 F32]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var cfg *Config
			if test.config != "" {
				cfg = config(t, test.config)
			}
			m, _, err := Bind(checkpoint(t, test.parts), cfg, "m", 64, 32)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("bound %+v, error %v, want %q", m, err, test.want)
			}
		})
	}
	odd := map[string]part{"m.qweight": {"I32", []int64{8, 4}, nil}, "m.scales": {"F16", []int64{2, 4}, nil}}
	if _, _, err := Bind(checkpoint(t, odd), config(t, symmetric), "m", 64, 4); err == nil || !strings.Contains(err.Error(), "4 outputs of 4 bits do not fill whole words") {
		t.Errorf("4 outputs: %v", err)
	}
	if _, _, err := Bind(checkpoint(t, packed4(64, 32, 2)), config(t, symmetric), "m", 48, 32); err == nil || !strings.Contains(err.Error(), "48 inputs: packed matrices need a multiple of 32") {
		t.Errorf("48 inputs: %v", err)
	}
}

// Every shape that Bind accepts can be unpacked: a search over small shapes and
// settings, wrong ones included.
func FuzzBind(f *testing.F) {
	f.Add(uint8(8), uint8(32), uint8(2), uint8(4), uint8(64), uint8(32), 32, false)
	f.Add(uint8(6), uint8(32), uint8(2), uint8(3), uint8(64), uint8(32), 64, true)
	f.Add(uint8(64), uint8(4), uint8(2), uint8(4), uint8(64), uint8(32), 32, false)
	f.Fuzz(func(t *testing.T, rows, columns, groups, width, k, n uint8, group int, sym bool) {
		outputs := int64(n)
		parts := map[string]part{
			"m.qweight": {"I32", []int64{int64(rows), int64(columns)}, nil},
			"m.scales":  {"F16", []int64{int64(groups), outputs}, nil},
			"m.qzeros":  {"I32", []int64{int64(groups), int64(width)}, nil},
		}
		if k == 0 || n == 0 {
			return // config.json's bounds exclude them
		}
		cfg := &Config{Bits: 4, GroupSize: group, Symmetric: &sym}
		if !groupPossible(group) {
			return
		}
		m, _, err := Bind(checkpoint(t, parts), cfg, "m", int(k), int(n))
		if err != nil {
			return
		}
		if m.Layout == ops.Dense || m.Group < 1 || m.Groups() != int(groups) {
			t.Fatalf("bound %d groups of %d, layout %v", m.Groups(), m.Group, m.Layout)
		}
		m.Tile(make([]float32, m.K*m.N), 0, m.K, 0, m.N)
	})
}
