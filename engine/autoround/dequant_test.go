package autoround

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// dequantCases is the json beside a file of packed matrices and their values.
type dequantCases struct {
	Cases map[string]struct {
		Bits      int    `json:"bits"`
		In        int    `json:"in"`
		Out       int    `json:"out"`
		Group     int    `json:"group_size"`
		Symmetric bool   `json:"sym"`
		Zeros     string `json:"zeros"`
		Layout    string `json:"layout"`
	} `json:"cases"`
}

// dequantise binds every case of name and compares all values bit by bit.
func dequantise(t *testing.T, files fstest.MapFS, name string) {
	var golden dequantCases
	if err := json.Unmarshal(files[name+".json"].Data, &golden); err != nil {
		t.Fatal(err)
	}
	c, err := safetensors.OpenFile(files, name+".safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(golden.Cases) == 0 {
		t.Fatal("no cases")
	}
	for module, q := range golden.Cases {
		t.Run(module, func(t *testing.T) {
			cfg := &Config{Method: "auto-round", Bits: q.Bits, GroupSize: q.Group, Symmetric: &q.Symmetric}
			switch {
			case q.Layout == "awq":
				cfg.Packing = "auto_round:auto_awq"
			case q.Zeros == "stored as they are":
				cfg.Packing = "auto_round:gptqmodel"
			default:
				cfg.Packing = "auto_round:auto_gptq"
			}
			m, warnings, err := Bind(c, cfg, module, q.In, q.Out)
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 || m.Bits != q.Bits || m.Group != q.Group || m.Layout.String() != q.Layout {
				t.Errorf("bound as %d bits, group %d, layout %v; warnings %q", m.Bits, m.Group, m.Layout, warnings)
			}
			got := make([]float32, q.In*q.Out)
			m.Tile(got, 0, q.In, 0, q.Out)
			weight, ok := c.Lookup(module + ".weight")
			if !ok || len(weight.Data()) != 4*len(got) {
				t.Fatal("no values to compare with")
			}
			for k := range q.In {
				for n := range q.Out {
					want := math.Float32frombits(binary.LittleEndian.Uint32(weight.Data()[4*(n*q.In+k):]))
					v := got[k*q.Out+n]
					if math.Float32bits(v) != math.Float32bits(want) && (v != 0 || want != 0) {
						t.Fatalf("W[%d,%d] = %v (%08x), want %v (%08x)", k, n, v, math.Float32bits(v), want, math.Float32bits(want))
					}
				}
			}
		})
	}
}

// Values computed by an independent reader of the format: 41 matrices of all
// bit widths, layouts and conventions of zeros.
func TestDequantise(t *testing.T) {
	files, err := shared.Unzip("../ops/optest/testdata/dequant")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"awq", "extra-layer", "gptq-asym", "gptq-gidx", "gptq-sym", "raw-asym"} {
		t.Run(name, func(t *testing.T) { dequantise(t, files, name) })
	}
}

// Headers that are not padded put the data on odd addresses.
func TestDequantiseUnaligned(t *testing.T) {
	files, err := shared.Unzip("../ops/optest/testdata/dequant")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"awq", "gptq-asym", "gptq-gidx", "gptq-sym"} {
		aligned := files[name+".safetensors"].Data
		length := binary.LittleEndian.Uint64(aligned)
		file := binary.LittleEndian.AppendUint64(nil, length+1)
		file = append(append(append(file, aligned[8:8+length]...), ' '), aligned[8+length:]...)
		files[name+".safetensors"].Data = file
		t.Run(name, func(t *testing.T) { dequantise(t, files, name) })
	}
}

func TestDequantiseShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: further dequantisation cases beside the committed ones")
	}
	dir = filepath.Join(dir, "goldens", "dequant")
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) < 6 {
		t.Fatalf("%d dequantisation goldens: %v", len(names), err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		files := fstest.MapFS{}
		for _, ext := range []string{".json", ".safetensors"} {
			data, err := os.ReadFile(filepath.Join(dir, name+ext))
			if err != nil {
				t.Fatal(err)
			}
			files[name+ext] = &fstest.MapFile{Data: data}
		}
		t.Run(name, func(t *testing.T) { dequantise(t, files, name) })
	}
}
