package parity

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// maxGolden bounds the json beside the tensors.
const maxGolden = 64 << 20

// Golden is a file of reference values: prompts, and for each the tensors that
// a correct engine computes (names PROMPT.WHAT and PROMPT.layer.N.WHAT).
type Golden struct {
	Name      string
	Model     string           `json:"model"`
	Prompts   []Prompt         `json:"prompts"`
	Tolerance map[string]Bound `json:"tolerance"`
	file      *safetensors.Checkpoint
}

// Prompt is one input of a golden.
type Prompt struct {
	Name      string  `json:"name"`
	IDs       []int32 `json:"ids"`
	Positions []int   `json:"positions"` // of the rows of logits
	Next      []int32 `json:"next_ids"`  // draft goldens: the token after each position
}

// Bound is the largest absolute difference allowed. In the json some members of
// the object are prose; they read as 0.
type Bound float64

// UnmarshalJSON reads {"abs": x}, a number, or prose.
func (b *Bound) UnmarshalJSON(data []byte) error {
	var abs struct {
		Abs float64 `json:"abs"`
	}
	if json.Unmarshal(data, &abs) == nil {
		*b = Bound(abs.Abs)
		return nil
	}
	var number float64
	if json.Unmarshal(data, &number) == nil {
		*b = Bound(number)
	}
	return nil
}

// ReadGolden opens NAME.safetensors and the NAME.json beside it.
func ReadGolden(fsys fs.FS, name string) (*Golden, error) {
	name = strings.TrimSuffix(name, ".safetensors")
	file, err := fsys.Open(name + ".json")
	if err != nil {
		return nil, fmt.Errorf("golden: %w: the json must stand beside the safetensors", err)
	}
	defer file.Close() // read only
	if info, err := file.Stat(); err != nil || info.Size() > maxGolden {
		return nil, fmt.Errorf("golden: %s.json cannot be read or is larger than %d bytes: %w", name, maxGolden, err)
	}
	g := &Golden{Name: path.Base(name)}
	if err := json.NewDecoder(file).Decode(g); err != nil {
		return nil, fmt.Errorf("golden: %s.json: %w", name, err)
	}
	for _, p := range g.Prompts {
		if len(p.IDs) == 0 || len(p.Next) > 0 && len(p.Next) != len(p.IDs) {
			return nil, fmt.Errorf("golden: %s.json: prompt %q has %d ids and %d next ids", name, p.Name, len(p.IDs), len(p.Next))
		}
		for i, at := range p.Positions {
			if at < 0 || at >= len(p.IDs) || i > 0 && at <= p.Positions[i-1] {
				return nil, fmt.Errorf("golden: %s.json: prompt %q: position %d of %d tokens is out of order or range", name, p.Name, at, len(p.IDs))
			}
		}
	}
	if len(g.Prompts) == 0 {
		return nil, fmt.Errorf("golden: %s.json has no prompts", name)
	}
	g.file, err = safetensors.OpenFile(fsys, name+".safetensors")
	return g, err
}

// Close unmaps the tensors.
func (g *Golden) Close() error { return g.file.Close() }

// values returns a tensor as fp32; integers are exact up to 2^24.
func (g *Golden) values(name string) (data []float32, width int, ok bool) {
	t, ok := g.file.Lookup(name)
	if !ok || len(t.Shape) == 0 {
		return nil, 0, false
	}
	switch t.DType {
	case safetensors.F32:
		v := ops.Vector{N: int(t.Bytes / 4), Type: ops.F32, Source: ops.Extent{Data: t.Data()}}
		data = make([]float32, v.N)
		v.Values(data)
	case safetensors.I32:
		raw := t.Data()
		for ; len(raw) >= 4; raw = raw[4:] {
			data = append(data, float32(int32(uint32(raw[0])|uint32(raw[1])<<8|uint32(raw[2])<<16|uint32(raw[3])<<24)))
		}
	default:
		return nil, 0, false
	}
	return data, int(t.Shape[len(t.Shape)-1]), true
}

// bound returns the tolerance of a kind of tensor. Values inside a phase have
// none of their own: they are held to that of the residual they feed.
func (g *Golden) bound(kind string) float64 {
	class := kind
	switch kind {
	case "recurrent_state", "conv_state", "keys", "values":
		class = "states"
	case "top20_logprobs":
		class = "logprobs"
	case "router_experts", "greedy_ids", "top20_ids":
		return 0
	case "router_weights":
		class = "router_logits"
	}
	if b, ok := g.Tolerance[class]; ok && b > 0 {
		return float64(b)
	}
	if b, ok := g.Tolerance["residual_out"]; ok {
		return float64(b)
	}
	return float64(g.Tolerance["abs"])
}

// Row is one comparison.
type Row struct {
	Tensor    string  `json:"tensor"`
	Count     int     `json:"values"`
	MaxAbs    float64 `json:"max_abs"`
	Relative  float64 `json:"relative"` // max_abs over the largest reference value
	Cosine    float64 `json:"cosine"`
	Tolerance float64 `json:"tolerance"`
	OK        bool    `json:"ok"`
	Note      string  `json:"note,omitempty"`
}

// compare measures got against want.
func compare(name string, got, want []float32, tolerance float64) Row {
	row := Row{Tensor: name, Count: len(want), Tolerance: tolerance}
	if len(got) != len(want) {
		row.MaxAbs = math.Inf(1)
		row.Note = fmt.Sprintf("%d values, the golden has %d", len(got), len(want))
		return row
	}
	var top, dot, gg, ww float64
	for i := range want {
		g, w := float64(got[i]), float64(want[i])
		if d := math.Abs(g - w); d > row.MaxAbs || math.IsNaN(d) {
			row.MaxAbs = d
			if math.IsNaN(d) {
				row.MaxAbs = math.Inf(1)
			}
		}
		top = max(top, math.Abs(w))
		dot, gg, ww = dot+g*w, gg+g*g, ww+w*w
	}
	row.Cosine = 1
	if gg > 0 && ww > 0 {
		row.Cosine = dot / math.Sqrt(gg*ww)
	}
	if top > 0 {
		row.Relative = row.MaxAbs / top
	}
	row.OK = row.MaxAbs <= tolerance
	return row
}
