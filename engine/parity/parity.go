// Package parity compares a model, as this engine runs it, with reference
// values computed by another implementation: every tensor of a golden file, each
// at the tolerance that the file states.
package parity

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Report is the outcome of a comparison.
type Report struct {
	Model  string `json:"model"`
	Golden string `json:"golden"`
	Engine string `json:"engine"`
	Rows   []Row  `json:"rows"`
	OK     bool   `json:"ok"`
}

// Kinds reduces the rows to the worst of each kind of tensor, in order of name.
func (r *Report) Kinds() []Row {
	worst := map[string]Row{}
	for _, row := range r.Rows {
		kind := kindOf(row.Tensor)
		old, seen := worst[kind]
		row.Tensor = kind
		row.Count += old.Count
		if seen && (old.MaxAbs > row.MaxAbs || !old.OK) {
			old.Count = row.Count
			old.OK = old.OK && row.OK
			row = old
		}
		worst[kind] = row
	}
	rows := make([]Row, 0, len(worst))
	for _, row := range worst {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Tensor, b.Tensor) })
	return rows
}

// kindOf returns the last part of a tensor's name.
func kindOf(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// Run computes every tensor of the golden and compares. Rows come in the
// golden's order of prompts.
func Run(ctx context.Context, m *engine.Model, g *Golden) (*Report, error) {
	r := &Report{Model: m.Info().Name, Golden: g.Name, Engine: m.Info().Fingerprint, OK: true}
	compared := map[string]bool{}
	for _, p := range g.Prompts {
		c := &comparison{m: m, g: g, p: p, made: map[string][]float32{}}
		run := c.prompt
		if len(p.Next) > 0 {
			run = c.draft
		}
		if err := run(ctx); err != nil {
			return nil, fmt.Errorf("prompt %s: %w", p.Name, err)
		}
		for _, row := range c.rows() {
			compared[row.Tensor] = true
			r.Rows = append(r.Rows, row)
			r.OK = r.OK && row.OK
		}
	}
	for _, file := range g.file.Files {
		for _, t := range file.Tensors {
			if !compared[t.Name] {
				r.OK = false
				r.Rows = append(r.Rows, Row{Tensor: t.Name, MaxAbs: math.Inf(1), Note: "the engine made no such tensor"})
			}
		}
	}
	return r, nil
}

// comparison holds what the engine made of one prompt.
type comparison struct {
	m    *engine.Model
	g    *Golden
	p    Prompt
	made map[string][]float32 // by WHAT or layer.N.WHAT
}

func (c *comparison) tap(layer int, what string, _ int, data []float32) {
	if layer >= 0 {
		what = "layer." + strconv.Itoa(layer) + "." + what
	}
	c.made[what] = append(c.made[what], data...)
}

// prompt reads the prompt in prefill form, takes the states, and continues it
// along the golden's greedy tokens.
func (c *comparison) prompt(ctx context.Context) error {
	greedy, _, _ := c.g.values(c.p.Name + ".greedy_ids")
	seq, err := c.m.NewSequence(ctx, len(c.p.IDs)+max(len(greedy), 1))
	if err != nil {
		return err
	}
	defer seq.Release()
	var last []float32
	opts := engine.StepOptions{Tap: c.tap, Logits: c.p.Positions, Rows: func(_ int, row []float32) { last = slices.Clone(row) }}
	if n := len(c.p.IDs) - 1; len(greedy) > 0 && !slices.Contains(opts.Logits, n) {
		return fmt.Errorf("the golden continues the prompt but has no logits of its last position %d", n)
	}
	if _, err := seq.Read(ctx, c.p.IDs, opts); err != nil {
		return err
	}
	if err := c.states(seq); err != nil {
		return err
	}
	for _, id := range greedy {
		c.best(last)
		_, err := seq.Read(ctx, []int32{int32(id)}, engine.StepOptions{StepForm: true, Logits: []int{0}, Rows: opts.Rows})
		if err != nil {
			return err
		}
	}
	return nil
}

// best notes the most likely token, and the 20 best with their log-probabilities.
func (c *comparison) best(logits []float32) {
	ids := make([]int, len(logits))
	for i := range ids {
		ids[i] = i
	}
	slices.SortFunc(ids, func(a, b int) int {
		if logits[a] != logits[b] {
			return map[bool]int{true: -1, false: 1}[logits[a] > logits[b]]
		}
		return a - b
	})
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - logits[ids[0]]))
	}
	c.made["greedy_ids"] = append(c.made["greedy_ids"], float32(ids[0]))
	for _, id := range ids[:min(20, len(ids))] {
		c.made["top20_ids"] = append(c.made["top20_ids"], float32(id))
		c.made["top20_logprobs"] = append(c.made["top20_logprobs"], float32(float64(logits[id]-logits[ids[0]])-math.Log(sum)))
	}
}

// states takes recurrent and conv state, keys and values of every layer.
func (c *comparison) states(seq *engine.Sequence) error {
	for layer := range c.m.Info().Layers {
		s, err := seq.State(layer)
		if err != nil {
			return err
		}
		for what, data := range map[string][]float32{"keys": s.Keys, "values": s.Values, "recurrent_state": s.Recurrent, "conv_state": s.Window} {
			if data != nil {
				c.tap(layer, what, 0, data)
			}
		}
	}
	return nil
}

// draft reads the prompt for its hidden states, then the next tokens through
// the draft layer.
func (c *comparison) draft(ctx context.Context) error {
	main, err := c.m.NewSequence(ctx, len(c.p.IDs))
	if err != nil {
		return err
	}
	defer main.Release()
	if _, err := main.Read(ctx, c.p.IDs, engine.StepOptions{Tap: c.tap}); err != nil {
		return err
	}
	hidden := c.made["hidden"]
	c.made = map[string][]float32{"hidden_after_model_norm": hidden}
	seq, err := c.m.NewDraft(ctx, len(c.p.Next))
	if err != nil {
		return err
	}
	defer seq.Release()
	all := make([]int, len(c.p.Next))
	for i := range all {
		all[i] = i
	}
	if _, err := seq.Read(ctx, c.p.Next, engine.StepOptions{Tap: c.tap, Logits: all, Hidden: hidden}); err != nil {
		return err
	}
	for tap, name := range map[string]string{"hidden": "mtp_norm_out", "layer.0.residual_out": "layer_out",
		"layer.0.router_experts": "router_experts", "layer.0.router_weights": "router_weights", "layer.0.router_logits": "router_logits"} {
		c.made[name] = c.made[tap]
	}
	return nil
}

// rows compares every tensor that the golden has of this prompt.
func (c *comparison) rows() (rows []Row) {
	for _, file := range c.g.file.Files {
		for _, t := range file.Tensors {
			what, ours := strings.CutPrefix(t.Name, c.p.Name+".")
			if !ours {
				continue
			}
			want, width, ok := c.g.values(t.Name)
			got, made := c.made[what]
			if !ok || !made {
				continue // Run reports what nobody compared
			}
			rows = append(rows, c.row(t.Name, what, got, want, width))
		}
	}
	return rows
}

func (c *comparison) row(name, what string, got, want []float32, width int) Row {
	kind := kindOf(what)
	prefix := strings.TrimSuffix(what, kind)
	switch kind {
	case "conv_state": // the golden keeps one input more than the window needs
		got, want = newest(got, want, width)
	case "router_experts":
		return c.experts(name, prefix, got, want, width)
	case "router_weights":
		got = c.aligned(prefix, got, width)
	case "top20_ids":
		return c.topIDs(name, got, want)
	}
	return compare(name, got, want, c.g.bound(kind))
}

// newest cuts the golden's columns that the engine does not keep.
func newest(got, want []float32, width int) (g, w []float32) {
	channels := len(want) / width
	kept := len(got) / max(channels, 1)
	for channel := range channels {
		w = append(w, want[(channel+1)*width-min(kept, width):(channel+1)*width]...)
	}
	return got, w
}

// experts compares chosen sets, token by token. Where the gap between the last
// chosen and the first left-out logit is below the router tolerance, either is
// right.
func (c *comparison) experts(name, prefix string, got, want []float32, k int) Row {
	row := Row{Tensor: name, Count: len(want), Cosine: 1}
	logits, experts := c.made[prefix+"router_logits"], c.m.Info().Experts
	if len(got) != len(want) || len(logits)*k != len(want)*experts {
		row.MaxAbs, row.Note = math.Inf(1), fmt.Sprintf("%d ids, the golden has %d", len(got), len(want))
		return row
	}
	swapped := 0
	for t := range len(want) / k {
		a, b := slices.Sorted(slices.Values(got[t*k:][:k])), slices.Sorted(slices.Values(want[t*k:][:k]))
		if slices.Equal(a, b) {
			continue
		}
		sorted := slices.Sorted(slices.Values(logits[t*experts:][:experts]))
		if gap := sorted[experts-k] - sorted[experts-k-1]; float64(gap) < c.g.bound("router_logits") {
			swapped++
			continue
		}
		row.MaxAbs++
	}
	row.OK = row.MaxAbs == 0
	if swapped > 0 {
		row.Note = fmt.Sprintf("%d tokens swapped near ties", swapped)
	}
	return row
}

// aligned puts the engine's weights in the golden's order of experts.
func (c *comparison) aligned(prefix string, got []float32, k int) []float32 {
	ours := c.made[prefix+"router_experts"]
	theirs, _, ok := c.g.values(c.p.Name + "." + prefix + "router_experts")
	if !ok || len(ours) != len(got) || len(theirs) != len(got) {
		return got
	}
	out := make([]float32, len(got))
	for t := range len(got) / k {
		for rank := range k {
			out[t*k+rank] = got[t*k+rank]
			if at := slices.Index(ours[t*k:][:k], theirs[t*k+rank]); at >= 0 {
				out[t*k+rank] = got[t*k+at]
			}
		}
	}
	return out
}

// topIDs counts places where the order differs by more than a near tie.
func (c *comparison) topIDs(name string, got, want []float32) Row {
	row := Row{Tensor: name, Count: len(want), Cosine: 1, OK: len(got) == len(want)}
	logprobs, _, ok := c.g.values(c.p.Name + ".top20_logprobs")
	if !row.OK || !ok || len(logprobs) != len(want) {
		row.OK, row.MaxAbs, row.Note = false, math.Inf(1), fmt.Sprintf("%d ids, the golden has %d", len(got), len(want))
		return row
	}
	bound := 2 * c.g.bound("top20_logprobs")
	for i := range want {
		if got[i] == want[i] {
			continue
		}
		near := func(j int) bool {
			return j < 0 || j >= len(want) || j/20 != i/20 || math.Abs(float64(logprobs[j]-logprobs[i])) < bound
		}
		if !near(i-1) && !near(i+1) {
			row.MaxAbs++
		}
	}
	row.OK = row.MaxAbs == 0
	return row
}
