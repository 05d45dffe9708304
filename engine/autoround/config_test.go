package autoround

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestParseConfigRefuses(t *testing.T) {
	many := make([]string, maxPatterns+1)
	for i := range many {
		many[i] = fmt.Sprintf(`".*%d":{}`, i)
	}
	for _, test := range []struct{ name, config, want string }{
		{"not JSON", `{`, "quantization_config: unexpected end"},
		{"a list", `[]`, "quantization_config: json"},
		{"bits of the wrong type", `{"bits":"4"}`, "bits"},
		{"another method", `{"quant_method":"fp8"}`, `quant_method "fp8" is not supported: use auto-round, gptq or awq`},
		{"another packing", `{"packing_format":"auto_roundabout"}`, `packing_format "auto_roundabout" is not supported`},
		{"compressed tensors", `{"packing_format":"llm_compressor"}`, `packing_format "llm_compressor"`},
		{"8-bit activations", `{"act_bits":8}`, "act_bits 8: activations of fewer than 16 bits are not supported"},
		{"8-bit activations of a module", `{"extra_config":{"m":{"act_bits":8}}}`, `extra_config of "m": act_bits 8`},
		{"another type", `{"data_type":"mx_fp"}`, `data_type "mx_fp" is not supported: use int`},
		{"5 bits", `{"bits":5}`, "5 bits are not supported: use 2, 3, 4 or 8"},
		{"6 bits", `{"bits":6}`, "6 bits are not supported"},
		{"7 bits", `{"bits":7}`, "7 bits are not supported"},
		{"5 bits of a module", `{"extra_config":{"m":{"bits":5}}}`, `extra_config of "m": 5 bits are not supported`},
		{"negative bits", `{"bits":-4}`, "-4 bits"},
		{"many bits", `{"bits":1000000}`, "1000000 bits"},
		{"negative group", `{"group_size":-2}`, "group_size -2: -1 or 1 to 1048576"},
		{"large group", `{"group_size":1048577}`, "group_size 1048577"},
		{"large group of a module", `{"extra_config":{"m":{"group_size":1048577}}}`, `extra_config of "m": group_size 1048577`},
		{"awq of another kind", `{"quant_method":"awq","version":"gemv"}`, `awq version "gemv" is not supported: use gemm`},
		{"marlin", `{"quant_method":"gptq","checkpoint_format":"marlin"}`, `checkpoint_format "marlin" is not supported`},
		{"a pattern of Python alone", `{"extra_config":{".*(?!x)":{"bits":8}}}`, "the pattern is not understood"},
		{"many patterns", `{"extra_config":{` + strings.Join(many, ",") + `}}`, "more than 256 patterns"},
		{"a long pattern", `{"extra_config":{"*` + strings.Repeat("x", maxPattern) + `":{}}}`, "more than 256 patterns, or one of more than 1024 bytes"},
		{"long", strings.Repeat(" ", maxConfig+1), "quantization_config of more than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(test.config))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("read %+v, error %v, want %q", c, err, test.want)
			}
		})
	}
	_, err := ParseConfig([]byte(`{"bits":5,"act_bits":4,"extra_config":{"b":{"bits":6},"a":{"group_size":-7}}}`))
	want := []string{"5 bits", "act_bits 4", `"a": group_size -7`, `"b": 6 bits`}
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("several problems: %v lacks %q", err, w)
		}
	}
}

// The exact name wins; then the longest pattern, unanchored; a plain name is
// not looked for inside others; what an entry leaves out is as for all.
func TestOverrides(t *testing.T) {
	c := config(t, `{"bits":4,"group_size":128,"sym":true,"extra_config":{
		"model.layers.0.mlp.gate":{"bits":16,"data_type":"fp"},
		"mlp.gate":{"bits":2},
		".*self_attn.*":{"bits":8},
		".*self_attn\\.k_proj.*":{"bits":3,"group_size":32,"sym":false},
		"model.layers.3.self_attn.k_proj":{"group_size":64}}}`)
	for name, want := range map[string]string{
		"model.layers.0.mlp.gate":              "16 128 true false",
		"model.layers.0.mlp.gate_proj":         "4 128 true true",
		"model.layers.1.mlp.gate":              "4 128 true true",
		"model.layers.7.self_attn.q_proj":      "8 128 true true",
		"model.layers.7.self_attn.k_proj":      "3 32 false true",
		"model.layers.3.self_attn.k_proj":      "4 64 true true",
		"model.layers.0.mlp.experts.3.up_proj": "4 128 true true",
	} {
		m := c.module(name)
		if got := fmt.Sprint(m.Bits, m.GroupSize, m.symmetric(), m.quantised()); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestReadConfig(t *testing.T) {
	inside, beside := `{"quantization_config":{"bits":4}}`, &fstest.MapFile{Data: []byte(`{"bits":8}`)}
	for _, test := range []struct {
		name, config string
		fsys         fstest.MapFS
		want         string
	}{
		{"config.json first", inside, fstest.MapFS{"quantization_config.json": beside}, "4"},
		{"file beside", `{}`, fstest.MapFS{"quantization_config.json": beside}, "8"},
		{"null is none", `{"quantization_config":null}`, fstest.MapFS{"quantization_config.json": beside}, "8"},
		{"not quantised", `{}`, fstest.MapFS{}, "none"},
		{"broken", `{`, fstest.MapFS{}, "config.json: unexpected end of JSON input"},
		{"a folder", `{}`, fstest.MapFS{"quantization_config.json/x": beside}, "quantization_config.json: read quantization_config.json: invalid argument"},
		{"long", `{}`, fstest.MapFS{"quantization_config.json": {Data: make([]byte, maxConfig+2)}}, "quantization_config of more than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ReadConfig(test.fsys, []byte(test.config))
			got := "none"
			if err != nil {
				got = err.Error()
			} else if c != nil {
				got = fmt.Sprint(c.Bits)
			}
			if !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzQuantConfig: whatever is accepted answers for any module, and has bits
// and groups that exist.
func FuzzQuantConfig(f *testing.F) {
	paths, err := filepath.Glob("../ops/optest/testdata/models/*/quantization_config.json")
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
	f.Add([]byte(`{"quant_method":"gptq","checkpoint_format":"gptq_v2","extra_config":{".*a":{"bits":8,"sym":false}}}`))
	f.Add([]byte(`{"quant_method":"awq","version":"GEMM","zero_point":true,"bits":4,"group_size":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			if c != nil || strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("error %q with a configuration %v", err, c)
			}
			return
		}
		for _, name := range []string{"model.layers.0.mlp.gate", "lm_head", ""} {
			m := c.module(name)
			if !bitsPossible(m.Bits) || !groupPossible(m.GroupSize) || m.ActBits != 0 && m.ActBits < 16 {
				t.Fatalf("%s: accepted %+v", name, m)
			}
			m.symmetric()
			m.minusOne()
		}
	})
}
