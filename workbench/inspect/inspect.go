// Package inspect describes a model folder: what its tensors are, how they are
// quantised, what running them takes, and everything that is wrong with it. A
// damaged folder gives as much of a report as its sound files allow.
//
// Where to look: report.go has the result; inspect.go goes through the folder;
// files.go opens what can be opened; kinds.go sorts tensors into kinds;
// unusual.go knows the usual checkpoint; verify.go reads the data; text.go
// prints tables.
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/hostmem"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

const (
	maxJSON = 256 << 20 // bytes of config.json or tokenizer.json
	// maxAlike bounds the findings of one file: a shard of the real model that
	// was cut off makes 20,000.
	maxAlike = 20
	// maxSorts bounds the sorts of findings about binding; there are 45 kinds.
	maxSorts = 100
)

// Options say how closely to look.
type Options struct {
	// Verify reads every tensor: NaN, Inf and the scales' ranges.
	Verify bool
	// Kernels, when set, is asked what will multiply with the matrices of a model that
	// can be bound. Its error is a finding: loading would stop at it.
	Kernels func(ops.Weights) (func(*ops.Matrix) string, error)
	// Progress hears how many bytes Verify has read. Calls come one at a time.
	Progress func(done, total int64)
}

// Inspect reports on the model folder fsys. Problems of the folder stand in
// the report's Findings; the error is only for ctx's end.
func Inspect(ctx context.Context, fsys fs.FS, opts Options) (*Report, error) {
	x := &inspection{fsys: fsys, r: &Report{
		Layers: []Layers{}, Kinds: []Kind{}, Files: []File{}, MTP: MTP{Bits: []int{}}, Notes: []string{}, Findings: []string{},
	}}
	x.config()
	x.open()
	defer x.checkpoint.Close() //nolint:errcheck // mapped read-only
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x.bind(opts)
	x.sortTensors()
	x.unusual()
	x.text()
	if err := x.data(ctx, opts); err != nil {
		return nil, err
	}
	x.summarise()
	return x.r, nil
}

// inspection is the state of one Inspect.
type inspection struct {
	fsys   fs.FS
	kernel func(*ops.Matrix) string // nil where nobody can say
	r      *Report

	raw        []byte            // config.json
	cfg        *qwen3next.Config // nil when unusable
	quant      *autoround.Config // nil for an unquantised model
	checkpoint *safetensors.Checkpoint
	listed     int64                  // bytes of tensors in the files of the index
	bound      map[string]*ops.Matrix // by module
	used       map[string]bool        // modules and tensors that the model reads
	kinds      []*kind
}

func (x *inspection) finding(format string, args ...any) {
	x.r.Findings = append(x.r.Findings, fmt.Sprintf(format, args...))
}

func (x *inspection) note(format string, args ...any) {
	x.r.Notes = append(x.r.Notes, fmt.Sprintf(format, args...))
}

// config reads config.json, generation_config.json and the quantisation.
func (x *inspection) config() {
	var err error
	if x.raw, err = readBounded(x.fsys, "config.json"); err != nil {
		x.finding("%v: without it only the tensors can be listed", err)
		return
	}
	generation, err := readBounded(x.fsys, "generation_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.finding("%v", err)
	}
	if x.cfg, err = qwen3next.ParseConfig(x.raw, generation); err != nil {
		x.failures(err)
		if len(generation) > 0 { // config.json by itself may be sound
			x.cfg, _ = qwen3next.ParseConfig(x.raw, nil)
		}
	}
	if x.quant, err = autoround.ReadConfig(x.fsys, x.raw); err != nil {
		x.failures(err)
	}
	if x.cfg != nil {
		x.r.Config = x.describeConfig()
	}
}

// failures takes each error of a joined one as a finding.
func (x *inspection) failures(err error) {
	for _, err := range flatten(err) {
		x.finding("%v", err)
	}
}

func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // only joined errors themselves are taken apart
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, flatten(err)...)
	}
	return all
}

func (x *inspection) describeConfig() *Config {
	var said struct {
		Type  string `json:"model_type"`
		DType string `json:"dtype"`
		Torch string `json:"torch_dtype"` // what older versions called it
	}
	if err := json.Unmarshal(x.raw, &said); err != nil {
		x.note("config.json: %v", err)
	}
	if said.DType == "" {
		said.DType = said.Torch
	}
	c := x.cfg
	out := &Config{
		ModelType: said.Type, DType: said.DType, Hidden: c.Hidden, Layers: c.Layers, Vocab: c.Vocab, Context: c.Context, Tied: c.Tied,
		Heads: c.Attn.Heads, KVHeads: c.Attn.KVHeads, HeadDim: c.Attn.HeadDim, RotaryDims: 2 * len(c.Attn.Rope.InvFreq),
		KeyHeads: c.Delta.KeyHeads, ValueHeads: c.Delta.ValueHeads, KeyDim: c.Delta.KeyDim, ValueDim: c.Delta.ValueDim,
		Experts: c.Experts, TopK: c.TopK, ExpertWidth: c.ExpertWidth, SharedWidth: c.SharedWidth,
	}
	if q := x.quant; q != nil {
		packing := q.Packing
		if packing == "" {
			packing = q.Backend
		}
		out.Quantisation = &Quant{Method: q.Method, Packing: packing, Bits: q.Bits, Group: q.GroupSize,
			Symmetric: q.Symmetric == nil || *q.Symmetric, Version: q.Version}
	}
	return out
}

// bind finds the tensors that the model needs, as loading does.
func (x *inspection) bind(opts Options) {
	x.bound, x.used = map[string]*ops.Matrix{}, map[string]bool{}
	if x.cfg == nil {
		return
	}
	w, err := qwen3next.Bind(x.checkpoint, x.cfg, x.quant)
	if err != nil {
		var texts []string
		for _, err := range flatten(err) {
			texts = append(texts, err.Error())
		}
		x.group(texts, x.finding)
	}
	if w == nil {
		return
	}
	for _, m := range w.All.Matrices {
		x.bound[m.Name], x.used[m.Name] = m, true
	}
	for _, v := range w.All.Vectors {
		module, _ := moduleOf(v.Name)
		x.used[module] = true
	}
	x.group(w.Warnings, x.note)
	if err == nil && opts.Kernels != nil {
		if x.kernel, err = opts.Kernels(w.All); err != nil {
			x.finding("no kernels: %v", err)
		}
	}
}

// group says once what many modules of a kind have alike. Errors and warnings
// of binding begin with the tensor's or the module's name.
func (x *inspection) group(texts []string, say func(format string, args ...any)) {
	type sort struct {
		kind, what string
	}
	first, count := map[sort]string{}, map[sort]int{}
	var order []sort
	for _, text := range texts {
		name, what, _ := strings.Cut(text, " ")
		module, role := moduleOf(name)
		s := sort{kindOf(module) + role, what}
		if count[s]++; count[s] == 1 {
			first[s] = name
			order = append(order, s)
		}
	}
	for i, s := range order {
		if i == maxSorts {
			say("and %d more sorts of tensors that do not fit the configuration", len(order)-i)
			break
		}
		if n := count[s]; n > 1 {
			say("%s %s (and %d more of %s)", first[s], s.what, n-1, s.kind)
		} else {
			say("%s %s", first[s], s.what)
		}
	}
}

// text looks at tokenizer and template.
func (x *inspection) text() {
	data, err := readBounded(x.fsys, "tokenizer.json")
	if err != nil {
		x.finding("%v: the model cannot read or write text", err)
	} else if t, err := tokenizer.Parse(data); err != nil {
		x.finding("tokenizer.json: %v", err)
	} else {
		x.tokenizer(t)
	}
	_, err = chat.Load(x.fsys)
	x.r.Template = Template{Present: !errors.Is(err, fs.ErrNotExist), Parses: err == nil}
	if errors.Is(err, fs.ErrNotExist) {
		x.note("no chat template: the model completes text, but cannot chat")
	} else if err != nil {
		x.finding("chat template: %v", err)
	}
}

func (x *inspection) tokenizer(t *tokenizer.Tokenizer) {
	out := &Tokenizer{Size: t.Size()}
	x.r.Tokenizer = out
	for id := range t.Size() {
		if _, _, added, ok := t.Token(int32(id)); ok && added {
			out.Added++
		}
	}
	if x.cfg == nil {
		return
	}
	out.Unused = max(0, x.cfg.Vocab-out.Size)
	if out.Size > x.cfg.Vocab {
		x.finding("tokenizer.json has %d ids, the embedding only %d rows: the files do not belong together", out.Size, x.cfg.Vocab)
	}
	for _, id := range x.cfg.EOS {
		if _, _, _, ok := t.Token(id); !ok {
			x.finding("eos_token_id %d is no token of tokenizer.json: the files do not belong together", id)
		}
	}
}

// summarise fills in what follows from the tables.
func (x *inspection) summarise() {
	r := x.r
	r.Layers = x.layers()
	var odd []string
	for _, k := range x.kinds {
		if k.StoredZeros == "other" || k.StoredZeros == "mixed" {
			odd = append(odd, k.Name)
		}
		if strings.HasPrefix(k.Name, mtpPrefix) {
			r.MTP.Present = true
			r.MTP.Tensors += k.tensors
			r.MTP.Bytes += k.Bytes
			if k.Layout != "vector" && !slices.Contains(r.MTP.Bits, k.Bits) {
				r.MTP.Bits = append(r.MTP.Bits, k.Bits)
			}
		}
		r.Bytes += k.Bytes
		r.Tensors += k.tensors
		r.Kinds = append(r.Kinds, k.Kind)
	}
	if len(odd) > 0 {
		x.note("the config says symmetric, yet the zeros stored with %s are not those of symmetric matrices; they are not used", strings.Join(odd, ", "))
	}
	slices.Sort(r.MTP.Bits)
	// The writers that add MTP tensors later do not count them.
	if total := x.checkpoint.IndexTotal; total > 0 && total != x.listed && total != x.listed-r.MTP.Bytes {
		x.note("the index promises %d bytes of tensors, its files hold %d", total, x.listed)
	}
	if x.cfg != nil {
		x.memory()
	}
}

func (x *inspection) memory() {
	shape := x.cfg.Shape()
	m := &Memory{PerToken: shape.KVBytesPerToken(), PerSequence: shape.StateBytes()}
	for _, matrix := range x.bound {
		m.Weights += matrix.Bytes()
	}
	for _, k := range x.kinds {
		if k.Layout == "vector" {
			m.Weights += k.Bytes
		}
	}
	if x.r.MTP.Present {
		m.Draft = x.cfg.DraftShape().KVBytesPerToken()
	}
	if free, ok := hostmem.Available(); ok {
		if m.Available = free; m.Weights > free {
			x.note("the weights take %s, %s of memory are free here", bytesText(m.Weights), bytesText(free))
		}
	}
	x.r.Memory = m
}

// layers counts the layers of each kind, from the config or, without it, from
// the names of the tensors.
func (x *inspection) layers() []Layers {
	attention := map[int]bool{}
	if x.cfg != nil {
		for i, a := range x.cfg.Attention {
			attention[i] = a
		}
	} else {
		for _, k := range x.kinds {
			for _, module := range k.modules {
				if i, rest, ok := layerOf(module.name); ok && !strings.HasPrefix(module.name, mtpPrefix) {
					attention[i] = attention[i] || strings.HasPrefix(rest, "self_attn.")
				}
			}
		}
	}
	out := []Layers{{Kind: "gated delta net", Indices: []int{}}, {Kind: "gated attention", Indices: []int{}}}
	for i, a := range attention {
		l := &out[0]
		if a {
			l = &out[1]
		}
		l.Count++
		l.Indices = append(l.Indices, i)
	}
	slices.Sort(out[0].Indices)
	slices.Sort(out[1].Indices)
	return out
}

// readBounded reads a file that should be there. Its error names the file.
func readBounded(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(name)
	} else if err != nil {
		return nil, fmt.Errorf("%s cannot be opened: %w", name, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxJSON+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", name, err)
	case len(data) > maxJSON:
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxJSON)
	case strings.HasPrefix(string(data[:min(len(data), 64)]), "version https://git-lfs"):
		return nil, fmt.Errorf("%s is a git-lfs pointer, not the file: run `git lfs pull` in the folder, or download it anew", name)
	}
	return data, nil
}

// missing is the name of a file that should be there.
type missing string

func (m missing) Error() string        { return string(m) + " is missing" }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }
