package sample

import (
	"fmt"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Edits of hooks come between the request's own edits of the row (penalties, bias,
// mask) and the chain:
//
//	logit = scale*entry + bias
//
// A device knows no scale. But scale*entry + bias is scale * (entry + bias/scale), and
// the factor is a temperature before all others: of the device's chain, which begins
// with it, or a stage of its own on the host.

// plan is how a token is drawn.
type plan struct {
	params Params
	stages []Stage // those that change something
	early  bool    // DRY comes before them: an edit of the row, which a device can do
	scale  float64 // of the first stage; 1 for none
}

func planOf(p Params) plan {
	stages := p.stages()
	if len(stages) > 0 && stages[0] == StageDRY {
		return plan{p, stages[1:], true, 1}
	}
	return plan{p, stages, false, 1}
}

// Edited is Draw with a hook's edit; nil for none. With window set the host goes on
// from a window whatever the chain.
func (s *Sampler) Edited(position, candidates int, e *hook.Folded, window bool) ops.Sampling {
	if e == nil || e.Neutral() {
		e = &hook.Folded{Scale: 1}
	}
	s.forced = false
	s.plan, s.drawn = s.planned(e)
	s.drawn.Position, s.drawn.Candidates = uint32(position), candidates
	if window && s.drawn.Window == 0 {
		s.drawn = s.inWindow(s.drawn)
	}
	switch {
	case e.Scale == 1:
	case s.drawn.Window > 0:
		s.plan.scale = float64(e.Scale)
	default:
		s.drawn.Temperature /= e.Scale
	}
	if s.counts != nil {
		s.drawn.Seen = s.counts.seen
	}
	s.drawn.Bias, s.drawn.Mask = s.edits(e), meet(s.params.Mask, e.Mask)
	return s.drawn
}

// planned is the plan with the settings of an edit, and what it asks of a device.
func (s *Sampler) planned(e *hook.Folded) (plan, ops.Sampling) {
	if (e.Values == hook.Values{}) {
		return s.usual, s.base
	}
	p := s.params
	for setting, to := range map[hook.Setting]*float32{hook.Temperature: &p.Temperature, hook.TopP: &p.TopP, hook.MinP: &p.MinP, hook.Typical: &p.Typical} {
		if v, set := e.Values.Get(setting); set {
			*to = float32(v)
		}
	}
	if v, set := e.Values.Get(hook.TopK); set {
		p.TopK = int(v)
	}
	now := planOf(p)
	drawn := p.sampling(now.stages, s.base.Choice)
	drawn.Attempt = s.base.Attempt
	return now, drawn
}

// inWindow asks for a window in the place of a draw.
func (s *Sampler) inWindow(o ops.Sampling) ops.Sampling {
	o.Window, o.Temperature, o.TopK, o.TopP, o.MinP = window, 1, 0, 1, 0
	return o
}

// edits lists what is added to logits: the request's bias, and the hook's and DRY's
// over the scale.
func (s *Sampler) edits(e *hook.Folded) []ops.Bias {
	list := s.params.Bias
	s.sum = s.sum[:0]
	var later []ops.Bias // the chain's
	if s.plan.early {
		later = s.repeats.edits()
	}
	if len(e.Bias)+len(later) == 0 {
		return list
	}
	hooks := s.hooks[:0]
	for _, b := range e.Bias {
		hooks = append(hooks, ops.Bias(b))
	}
	s.hooks = hooks
	s.sum = merge(s.sum, hooks, later)
	if e.Scale != 1 {
		for i := range s.sum {
			s.sum[i].Value /= e.Scale
		}
	}
	s.bias = merge(s.bias, list, s.sum)
	return s.bias
}

// meet returns what two masks both allow; nil allows all.
func meet(a, b []uint32) []uint32 {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := slices.Clone(a[:min(len(a), len(b))])
	for i := range both {
		both[i] &= b[i]
	}
	return both
}

// Entry asks for what hooks read of a row before they edit it: a window after
// penalties, the request's bias and mask, and at least as many candidates of the
// model's own. ChooseEdited or ChooseFrom goes on from it.
func (s *Sampler) Entry(position, candidates int) ops.Sampling {
	s.drawn = s.inWindow(s.base)
	s.drawn.Position, s.drawn.Candidates = uint32(position), max(candidates, window)
	if s.counts != nil {
		s.drawn.Seen = s.counts.seen
	}
	s.drawn.Bias = s.params.Bias
	return s.drawn
}

// Forced asks for a draw that can only give one token, so that a device which works
// ahead knows it.
func (s *Sampler) Forced(position, candidates int, id int32) ops.Sampling {
	mask := make([]uint32, id/32+1)
	mask[id/32] = 1 << (id % 32)
	s.plan, s.forced = plan{params: s.params, scale: 1}, true
	s.drawn = ops.Sampling{Mask: mask, TopP: 1, Seed: s.params.Seed, Choice: s.base.Choice, Position: uint32(position), Attempt: s.base.Attempt, Candidates: candidates, Watch: -1}
	return s.drawn
}

// Force makes a token the outcome of a row that something else was asked of.
func (s *Sampler) Force(out *ops.Sample, id int32, row func() ([]float32, error)) error {
	s.chosen = -1
	if out.LogSumExp != out.LogSumExp {
		return s.failed(ErrLogits)
	}
	logprob, err := s.logprob(out, id, row)
	if err != nil {
		return s.failed(err)
	}
	out.Token, out.Chosen = ops.Candidate{ID: id, Logit: logprob + out.LogSumExp, Logprob: logprob}, 0
	return nil
}

// Redraw draws from a row anew, as the request says and no hook.
func (s *Sampler) Redraw(out *ops.Sample, row func() ([]float32, error)) error {
	drawn := s.Draw(int(s.drawn.Position), s.drawn.Candidates)
	if err := s.again(out, &drawn, row); err != nil {
		return s.failed(err)
	}
	return s.Choose(out, row)
}

// again does a device's part on the host.
func (s *Sampler) again(out *ops.Sample, drawn *ops.Sampling, row func() ([]float32, error)) error {
	logits, err := s.whole(row)
	if err != nil {
		return err
	}
	c := chains.Get().(*chain)
	defer chains.Put(c)
	Device(c.work, out, drawn, logits, s.tokens)
	return nil
}

// whole fetches a row.
func (s *Sampler) whole(row func() ([]float32, error)) ([]float32, error) {
	logits, err := row()
	if err == nil && len(logits) != s.vocab {
		err = fmt.Errorf("the row has %d logits, the vocabulary %d", len(logits), s.vocab)
	}
	return logits, err
}

// logprob returns a token's log-probability in the model's distribution.
func (s *Sampler) logprob(out *ops.Sample, id int32, row func() ([]float32, error)) (float32, error) {
	for _, list := range [2][]ops.Candidate{out.Candidates, out.Window} {
		for _, c := range list {
			if c.ID == id {
				return c.Logprob, nil
			}
		}
	}
	logits, err := s.whole(row)
	if err != nil {
		return 0, err
	}
	return logits[id] - out.LogSumExp, nil
}

// Allowed says whether a token may be chosen: it exists, and neither the request nor
// an edit bans it.
func (s *Sampler) Allowed(id int32, e *hook.Folded) bool {
	if id < 0 || int(id) >= s.tokens || e != nil && !e.Allows(id) {
		return false
	}
	if m := s.params.Mask; m != nil && (int(id/32) >= len(m) || m[id/32]>>(id%32)&1 == 0) {
		return false
	}
	at, found := find(s.params.Bias, id)
	return !found || !math.IsInf(float64(s.params.Bias[at].Value), -1)
}

// ChooseEdited chooses from a row that Entry was asked of, with a hook's edit; nil for
// none.
func (s *Sampler) ChooseEdited(out *ops.Sample, e *hook.Folded, row func() ([]float32, error)) error {
	return s.ChooseFrom(out, e, row, nil)
}

// ChooseFrom is ChooseEdited where pick may choose of what the chain leaves, or any
// token that is Allowed; it says whether it did. A nil pick never does.
func (s *Sampler) ChooseFrom(out *ops.Sample, e *hook.Folded, row func() ([]float32, error), pick func(*Left) (id int32, chosen bool, err error)) error {
	s.chosen = -1
	if err := s.chooseFrom(out, e, row, pick); err != nil {
		return s.failed(err)
	}
	if !s.forced {
		s.chosen, s.surprise = out.Token.ID, -float64(out.Chosen)/math.Ln2
	}
	return nil
}

func (s *Sampler) failed(err error) error {
	return fmt.Errorf("sample: position %d: %w", s.drawn.Position, err)
}

func (s *Sampler) chooseFrom(out *ops.Sample, e *hook.Folded, row func() ([]float32, error), pick func(*Left) (int32, bool, error)) error {
	if out.LogSumExp != out.LogSumExp {
		return ErrLogits
	}
	drawn := s.Edited(int(s.drawn.Position), s.drawn.Candidates, e, true)
	c := chains.Get().(*chain)
	defer chains.Put(c)
	seen, mask := *out, []uint32(nil)
	if e != nil {
		mask = e.Mask
	}
	switch {
	case e != nil && len(e.Add) > 0:
		if err := s.mixed(c, e, &drawn, row); err != nil {
			return err
		}
	case len(out.Window) == 0 || !c.windowEdited(out, s.tokens, s.sum, mask) || !s.run(c):
		seen.Candidates, seen.Window = nil, nil
		if err := s.again(&seen, &drawn, row); err != nil {
			return err
		}
		if err := s.leave(c, &seen, row); err != nil {
			return err
		}
	}
	l := &Left{s: s, c: c}
	id, chosen := l.Draw(), false
	if pick != nil {
		other, picked, err := pick(l)
		if err != nil {
			return err
		}
		if picked {
			id, chosen = other, true
			s.forced = id != l.drawn
		}
	}
	logprob, err := s.logprob(out, id, row)
	if err != nil {
		return err
	}
	out.Token, out.Chosen = ops.Candidate{ID: id, Logit: logprob + out.LogSumExp, Logprob: logprob}, float32(l.chosen)
	if chosen {
		out.Chosen = l.logprob(id)
	}
	return nil
}

// Beside lets edits add the rows of other sequences, [vocabulary]: rows returns one that
// Folded.Add names. Nil is for none.
func (s *Sampler) Beside(rows func(other int) ([]float32, error)) { s.beside = rows }

// mixed runs the chain on the sum of a row and those beside it: the row after the
// request's own edits, the hook's formula, and then the chain from there.
func (s *Sampler) mixed(c *chain, e *hook.Folded, drawn *ops.Sampling, row func() ([]float32, error)) error {
	own, err := s.whole(row)
	if err != nil {
		return err
	}
	sum := append(c.sum[:0], own...)
	c.sum = sum
	entry := ops.Sampling{Repetition: drawn.Repetition, Presence: drawn.Presence, Frequency: drawn.Frequency,
		Seen: drawn.Seen, Bias: s.params.Bias, Mask: s.params.Mask}
	edit(sum[:s.tokens], &entry)
	others := make([][]float32, len(e.Add))
	for i, w := range e.Add {
		if s.beside == nil {
			return fmt.Errorf("the logits of sequence %d are added, and there is none", w.Other)
		}
		if others[i], err = s.whole(func() ([]float32, error) { return s.beside(w.Other) }); err != nil {
			return err
		}
	}
	e.Apply(sum[:s.tokens], func(other int) []float32 {
		return others[slices.IndexFunc(e.Add, func(w hook.Weight) bool { return w.Other == other })]
	})
	rest := *drawn
	rest.Repetition, rest.Presence, rest.Frequency, rest.Seen, rest.Bias, rest.Mask = 0, 0, 0, nil, nil, nil
	if s.plan.early {
		rest.Bias = s.repeats.edits()
	}
	s.plan.scale, s.drawn = 1, rest // the formula has it
	var seen ops.Sample
	Device(c.work, &seen, &rest, sum, s.tokens)
	return s.leave(c, &seen, func() ([]float32, error) { return sum, nil })
}

// Left is what the chain has left of a row.
type Left struct {
	s      *Sampler
	c      *chain
	sorted []ops.Candidate
	drawn  int32
	chosen float64
	done   bool
}

// Draw returns the token that the chain draws; the same at every call.
func (l *Left) Draw() int32 {
	if !l.done {
		l.drawn, l.chosen = l.c.draw(&l.s.drawn)
		l.done = true
	}
	return l.drawn
}

// Candidates returns up to n of what is left, most likely first. Logit is as the
// chain leaves it, Logprob is of what is left.
func (l *Left) Candidates(n int) []ops.Candidate {
	if l.sorted == nil {
		sum, _ := l.c.weigh()
		norm := l.c.best() + math.Log(sum)
		l.c.byLogit()
		l.c.spare = best(l.c.spare, l.c.kept, min(len(l.c.kept), window))
		for _, t := range l.c.spare {
			l.sorted = append(l.sorted, ops.Candidate{ID: t.id, Logit: float32(t.x), Logprob: float32(t.x - norm)})
		}
	}
	return l.sorted[:min(max(n, 0), len(l.sorted))]
}

// logprob returns the log-probability of a token in what is left, -Inf where it was not.
func (l *Left) logprob(id int32) float32 {
	sum, _ := l.c.weigh()
	norm := l.c.best() + math.Log(sum)
	for _, t := range l.c.kept {
		if t.id == id {
			return float32(t.x - norm)
		}
	}
	return float32(math.Inf(-1))
}
