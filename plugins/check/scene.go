package check

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
)

// scene is a model that is made up, with two rows of logits that take turns.
type scene struct {
	name  string
	model hook.Model
	rows  [2]*row
}

// scenes are a model with few tokens and one of the real shape. Both have the real layers
// and experts, which plugins may count on.
func scenes() []*scene {
	shape := hook.Shape{Layers: 48, Experts: 512, K: 10, MaxK: 32}
	small, large := shape, shape
	small.Hidden, large.Hidden = 64, 2048
	list := []*scene{
		{name: "small", model: hook.Model{Name: "small", Shape: small, Tokens: 512, EOS: []int32{1}}},
		{name: "large", model: hook.Model{Name: "large", Shape: large, Tokens: 151936, EOS: []int32{151645}}},
	}
	for _, s := range list {
		for n := range s.rows {
			plain := make(hook.Plain, s.model.Tokens)
			for id := range plain {
				plain[id] = float32(math.Sin(float64((id+1)*(n+3)))) * 8
			}
			s.rows[n] = &row{Plain: plain}
		}
	}
	return list
}

// row is a row of logits whose sums and best tokens are found once: many choices read it.
type row struct {
	hook.Plain
	once    sync.Once
	top     []hook.Candidate
	entropy float32
	norm    float32
}

func (r *row) prepare() {
	r.once.Do(func() {
		// A row that was made is whole: there are no errors.
		r.top, _ = r.Plain.Top(len(r.Plain))
		r.entropy, _ = r.Plain.Entropy()
		first, _ := r.Plain.Logprob(0)
		r.norm = r.Plain[0] - first
	})
}

// Top implements hook.Source, as those below.
func (r *row) Top(k int) ([]hook.Candidate, error) {
	r.prepare()
	return slices.Clone(r.top[:min(k, len(r.top))]), nil
}

func (r *row) Logprob(id int32) (float32, error) {
	r.prepare()
	return r.Plain[id] - r.norm, nil
}

func (r *row) Entropy() (float32, error) {
	r.prepare()
	return r.entropy, nil
}

// letters is a tokenizer that is made up: of bytes.
type letters struct{ tokens int }

// Encode implements hook.Tokenizer.
func (l letters) Encode(text string) (ids []int32, err error) {
	for _, b := range []byte(text) {
		ids = append(ids, int32(int(b)%l.tokens))
	}
	return ids, nil
}

// Decode implements hook.Tokenizer.
func (l letters) Decode(ids []int32) string {
	var text strings.Builder
	for _, id := range ids {
		text.Write(token(id))
	}
	return strings.ToValidUTF8(text.String(), "�")
}

// token is the text of a token.
func token(id int32) []byte { return []byte{byte(id)} }

// env is what a choice sees.
func (c *checker) env(s *scene) host.Env {
	return host.Env{
		Params: c.Params, Model: s.model, Tokenizer: letters{s.model.Tokens}, Token: token,
		Request: hook.Request{ID: "check", MaxTokens: 64, Choices: 1, Body: map[string]any{"model": s.model.Name, "prompt": "Once upon a time", "max_tokens": 64}},
		Vectors: func(string) ([]float32, error) { return make([]float32, s.model.Shape.Hidden), nil },
	}
}

// options of a chain: no budget holds, so that what is slow can be told from what is wrong.
func (s *scene) options(notify func(hook.Notice)) hook.Options {
	return hook.Options{Shape: s.model.Shape, Tokens: s.model.Tokens, Seed: 7, Notify: notify, Lens: func([]float32) (hook.Source, error) { return s.rows[0], nil }}
}

// play plays a prompt and some tokens to a chain.
func (s *scene) play(ctx context.Context, chain *hook.Chain, tokens int, pace time.Duration) error {
	ids, err := chain.Prompt([]int32{5, 6, 7, 8})
	if err != nil {
		return err
	}
	for position := range ids {
		if err := s.read(chain, position, true); err != nil {
			return err
		}
	}
	position, reason := len(ids), "length"
	for steps := 0; steps < tokens && position < len(ids)+tokens; steps++ {
		if err := pause(ctx, pace); err != nil {
			return err
		}
		v, err := s.draw(chain, position)
		switch {
		case err != nil:
			return err
		case v.Rewind:
			position = v.To
			continue
		case v.Stop != "":
			reason, tokens = v.Stop, 0
			continue
		}
		chain.Token(hook.Token{Position: position, ID: v.ID, Text: string(rune('a' + v.ID%26)), Logprob: -1, Forced: v.Forced})
		if err := s.read(chain, position, false); err != nil {
			return err
		}
		position++
	}
	chain.Finish(hook.Finish{Reason: reason, Prompt: len(ids), Completion: position - len(ids)})
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// draw draws the token at a position: the most likely that is left.
func (s *scene) draw(chain *hook.Chain, position int) (hook.Verdict, error) {
	from := s.rows[position%2]
	var beside []hook.Source
	for range chain.Sequences() {
		beside = append(beside, s.rows[(position+1)%2])
	}
	at := hook.At{Position: position}
	v, err := chain.Logits(at, from, from, beside...)
	if err != nil || v.Stop != "" || v.Decided || v.Rewind {
		return v, err
	}
	edits := v.Edits
	allowed := func(id int32) bool { return edits == nil || edits.Allows(id) }
	left, err := from.Top(s.model.Tokens)
	if err != nil {
		return v, err
	}
	left = slices.DeleteFunc(left, func(c hook.Candidate) bool { return !allowed(c.ID) })
	if chain.Needs().Events.Has(hook.OnSample) {
		chosen, err := chain.Sample(at, chooser(left), allowed)
		if err != nil || chosen.Stop != "" || chosen.Decided || chosen.Rewind {
			return chosen, err
		}
	}
	v.ID = left[0].ID
	return v, nil
}

// chooser has what edits left.
type chooser []hook.Candidate

// Candidates implements hook.Chooser.
func (c chooser) Candidates(n int) ([]hook.Candidate, error) { return c[:min(n, len(c))], nil }

// Draw implements hook.Chooser.
func (c chooser) Draw() (int32, error) { return c[0].ID, nil }

// read reads the row at a position.
func (s *scene) read(chain *hook.Chain, position int, prompt bool) error {
	if _, err := chain.Steer(position); err != nil {
		return err
	}
	shape, in := s.model.Shape, chain.Inside()
	for _, layer := range in.Route {
		if err := chain.Within(hook.AtRouter, position, layer, wave(shape.Experts, position)); err != nil {
			return err
		}
	}
	for _, layer := range in.Write {
		if err := chain.Within(hook.AtResidual, position, layer, wave(shape.Hidden, position)); err != nil {
			return err
		}
	}
	record := hook.Record{Position: position, Prompt: prompt, Layers: shape.Layers, K: shape.K}
	for n := range shape.Layers * shape.K {
		record.IDs = append(record.IDs, uint16((n*7+position)%shape.Experts))
		record.Weights = append(record.Weights, 1/float32(shape.K))
	}
	chain.Routing(record)
	if len(in.Read) > 0 {
		chain.Hidden(hook.HiddenRecord{Position: position, Prompt: prompt, Layers: in.Read, Width: shape.Hidden, Values: wave(len(in.Read)*shape.Hidden, position)})
	}
	return nil
}

// wave makes values up.
func wave(n, position int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.Sin(float64(i + position)))
	}
	return values
}
