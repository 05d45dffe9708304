package sample

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Sources show hooks a row that Entry was asked of: as it enters the hooks, and the
// model's own. They fetch the row where the lists do not say. The sample must stay as
// it is while they are read.
func (s *Sampler) Sources(out *ops.Sample, row func() ([]float32, error)) (entry, model hook.Source) {
	edits := s.drawn
	edited := func() ([]float32, error) {
		logits, err := s.whole(row)
		if err != nil {
			return nil, err
		}
		copied := append([]float32(nil), logits[:s.tokens]...)
		edit(copied, &edits)
		return copied, nil
	}
	own := func() ([]float32, error) {
		logits, err := s.whole(row)
		return logits[:min(s.tokens, len(logits))], err
	}
	all := len(out.Window) < edits.Window
	return &source{list: out.Window, all: all, norm: out.WindowSumExp, row: edited},
		&source{list: out.Candidates, all: len(out.Candidates) < edits.Candidates, norm: out.LogSumExp, row: own}
}

// Plain shows hooks a row, [vocabulary], that nothing is known of before they ask.
func (s *Sampler) Plain(row func() ([]float32, error)) hook.Source {
	own := func() ([]float32, error) {
		logits, err := s.whole(row)
		return logits[:min(s.tokens, len(logits))], err
	}
	return &source{row: own, open: func(to *source) error {
		logits, err := s.whole(row)
		if err != nil {
			return err
		}
		c := chains.Get().(*chain)
		defer chains.Put(c)
		var out ops.Sample
		Device(c.work, &out, &ops.Sampling{Watch: -1, Candidates: window}, logits, s.tokens)
		if out.LogSumExp != out.LogSumExp {
			return ErrLogits
		}
		to.list, to.all, to.norm = out.Candidates, len(out.Candidates) < window, out.LogSumExp
		return nil
	}}
}

// source is a hook.Source that knows the best tokens and the sum over all.
type source struct {
	list  []ops.Candidate
	all   bool // there are no others
	norm  float32
	row   func() ([]float32, error)
	whole []float32
	open  func(*source) error // finds them out; nil where they are known
}

// known finds out what is not known yet.
func (s *source) known() error {
	if s.open == nil {
		return nil
	}
	if err := s.open(s); err != nil {
		return err
	}
	s.open = nil
	return nil
}

// Row implements hook.Source.
func (s *source) Row() (_ []float32, err error) {
	if s.whole == nil {
		s.whole, err = s.row()
	}
	return s.whole, err
}

// Top implements hook.Source.
func (s *source) Top(k int) ([]hook.Candidate, error) {
	if err := s.known(); err != nil {
		return nil, err
	}
	if k > len(s.list) && !s.all {
		logits, err := s.Row()
		if err != nil {
			return nil, err
		}
		return hook.Plain(logits).Top(k)
	}
	list := make([]hook.Candidate, 0, min(k, len(s.list)))
	for _, c := range s.list[:min(k, len(s.list))] {
		list = append(list, hook.Candidate{ID: c.ID, Logit: c.Logit, Logprob: c.Logit - s.norm})
	}
	return list, nil
}

// Logprob implements hook.Source.
func (s *source) Logprob(id int32) (float32, error) {
	if err := s.known(); err != nil {
		return 0, err
	}
	for _, c := range s.list {
		if c.ID == id {
			return c.Logit - s.norm, nil
		}
	}
	if s.all {
		return float32(math.Inf(-1)), nil
	}
	logits, err := s.Row()
	if err != nil {
		return 0, err
	}
	return logits[id] - s.norm, nil
}

// Entropy implements hook.Source.
func (s *source) Entropy() (float32, error) {
	logits, err := s.Row()
	if err != nil {
		return 0, err
	}
	c := chains.Get().(*chain)
	defer chains.Put(c)
	top := float32(math.Inf(-1))
	for _, v := range logits {
		top = max(top, v)
	}
	sum, moment := c.work.level.SumExpX(logits, top, 1)
	return float32(math.Log(sum) - moment/sum), nil
}
