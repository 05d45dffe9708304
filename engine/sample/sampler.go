package sample

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Errors of rows that nothing can be drawn from. They come wrapped, with the
// position.
var (
	ErrLogits = errors.New("the logits have a NaN, +Inf or nothing above -Inf: the model's numbers overflowed, look at its weights and numerics mode")
	ErrBanned = errors.New("bias and mask ban every token: allow one")
)

// window is how many of the best tokens the host's chain works on. It takes the
// whole row where they are not enough.
const window = 256

// Sampler draws the tokens of one choice. It is not safe for concurrent use.
// For each token call Draw, do what it says with the row of logits, then Choose,
// then Accept:
//
//	sampling := s.Draw(position, candidates)
//	// the device fills in out
//	err := s.Choose(&out, row)
//	s.Accept(out.Token.ID)
//
// Where a draw is thrown away, do not Accept it. To go back, keep a Clone.
type Sampler struct {
	params        Params
	usual         plan         // of a token that no hook edits
	base          ops.Sampling // likewise
	tokens, vocab int

	counts  *tally     // nil without penalties
	repeats *repeats   // nil without DRY
	bias    []ops.Bias // what is added to logits; likewise hooks, and sum with DRY's
	hooks   []ops.Bias
	sum     []ops.Bias
	mu      float64   // mirostat: the most surprise that a token may have, bits
	mus     []float64 // before each accepted token, with mirostat
	beside  func(other int) ([]float32, error)

	plan     plan // of the token at hand
	drawn    ops.Sampling
	forced   bool  // it is not drawn
	chosen   int32 // by the last Choose; -1 for none
	surprise float64
}

// New returns the sampler of one choice of a request: choice is its index among
// n, tokens the ids that may be drawn, vocab the rows of the logits, both
// positive. Parameters that cannot be served give a *ParamError. The sampler
// keeps p's slices, which must not change.
func New(p Params, choice uint32, tokens, vocab int) (*Sampler, error) {
	if tokens <= 0 || tokens > vocab || vocab > math.MaxInt32 {
		return nil, fmt.Errorf("sample: %d tokens in a vocabulary of %d rows: at least one, and no more than rows", tokens, vocab)
	}
	if err := p.Check(vocab); err != nil {
		return nil, err
	}
	s := &Sampler{params: p, tokens: tokens, vocab: vocab, mu: 2 * float64(p.Mirostat.Tau), chosen: -1}
	if p.Mirostat.Eta == 0 {
		s.params.Mirostat.Eta = .1
	}
	if p.DynamicExponent == 0 {
		s.params.DynamicExponent = 1
	}
	if p.DRY.Multiplier > 0 && (p.Order == nil || slices.Contains(p.Order, StageDRY)) {
		s.repeats = newRepeats(&p)
	}
	s.usual = planOf(s.params)
	s.base = p.sampling(s.usual.stages, choice)
	if edits(&ops.Sampling{Repetition: p.Repetition, Presence: p.Presence, Frequency: p.Frequency, Seen: make([]ops.Count, 1)}) {
		s.counts = &tally{last: p.PenaltyLastN}
	}
	return s, nil
}

// Prompt tells the sampler what stands before the first token to draw. Call it
// at most once, before Accept.
func (s *Sampler) Prompt(ids []int32) {
	if s.counts != nil {
		s.counts.prompt(ids)
	}
	if s.repeats != nil {
		for _, id := range ids {
			s.repeats.add(id)
		}
	}
}

// Accept tells the sampler that id, drawn or forced, is the next token.
func (s *Sampler) Accept(id int32) {
	if s.params.Mirostat.Tau > 0 {
		s.mus = append(s.mus, s.mu)
	}
	if s.counts != nil {
		s.counts.output(id)
	}
	if s.repeats != nil {
		s.repeats.add(id)
	}
	// The surprise of a token that was not drawn is unknown.
	if m := s.params.Mirostat; m.Tau > 0 && id == s.chosen {
		s.mu -= float64(m.Eta) * (s.surprise - float64(m.Tau))
	}
	s.chosen = -1
}

// Rewind takes accepted tokens back: of all, output is left behind prompt. What is
// drawn from here on is keyed by an attempt.
func (s *Sampler) Rewind(prompt, output []int32, attempt uint32) {
	mus, mu := s.mus, s.mu
	if len(output) < len(mus) {
		mus, mu = mus[:len(output)], mus[len(output)]
	}
	if s.counts != nil {
		s.counts = &tally{last: s.counts.last}
	}
	if s.repeats != nil {
		s.repeats = newRepeats(&s.params)
	}
	s.Prompt(prompt)
	for _, id := range output {
		s.Accept(id)
	}
	s.mus, s.mu, s.base.Attempt = mus, mu, attempt
}

// Clone returns a sampler that goes on from here by itself.
func (s *Sampler) Clone() *Sampler {
	c := *s
	c.bias, c.hooks, c.sum, c.mus = nil, nil, nil, slices.Clone(s.mus)
	if s.counts != nil {
		c.counts = s.counts.clone()
	}
	if s.repeats != nil {
		c.repeats = s.repeats.clone()
	}
	c.drawn.Seen, c.drawn.Bias = slices.Clone(s.drawn.Seen), slices.Clone(s.drawn.Bias)
	return &c
}

// Draw returns what to ask of the device for the token at a position, with so
// many candidates to report: the whole draw where its chain does what the
// parameters say, else a window. The slices in it are the sampler's, good until
// the next Draw or Accept.
func (s *Sampler) Draw(position, candidates int) ops.Sampling {
	return s.Edited(position, candidates, nil, false)
}

// Choose finishes the last Draw with what the device made of it. After a window
// it runs the chain and sets Token and Chosen; after a whole draw it only checks
// that there was something to draw. row gives the unmodified logits, [vocab], of
// the same row; it is called when the window might not be enough, which shows in
// nothing but time. The errors are row's, or wrap ErrLogits or ErrBanned.
func (s *Sampler) Choose(out *ops.Sample, row func() ([]float32, error)) error {
	s.chosen = -1
	err := s.choose(out, row)
	if err != nil {
		return s.failed(err)
	}
	if !s.forced {
		s.chosen, s.surprise = out.Token.ID, -float64(out.Chosen)/math.Ln2
	}
	return nil
}

func (s *Sampler) choose(out *ops.Sample, row func() ([]float32, error)) error {
	switch {
	case out.LogSumExp != out.LogSumExp:
		return ErrLogits
	case s.drawn.Window == 0 && out.Token.ID < 0, s.drawn.Window > 0 && len(out.Window) == 0:
		return ErrBanned
	case s.drawn.Window == 0:
		return nil
	}
	c := chains.Get().(*chain)
	defer chains.Put(c)
	if err := s.leave(c, out, row); err != nil {
		return err
	}
	id, chosen := c.draw(&s.drawn)
	logprob, err := s.logprob(out, id, row)
	if err != nil {
		return err
	}
	out.Token = ops.Candidate{ID: id, Logprob: logprob}
	out.Token.Logit = out.Token.Logprob + out.LogSumExp
	out.Chosen = float32(chosen)
	return nil
}

// leave runs the stages on a window of the draw, and on the row where that is not
// enough.
func (s *Sampler) leave(c *chain, out *ops.Sample, row func() ([]float32, error)) error {
	if len(out.Window) == 0 {
		return ErrBanned
	}
	c.window(out, s.drawn.Window, s.tokens)
	if s.run(c) {
		return nil
	}
	logits, err := s.whole(row)
	if err != nil {
		return err
	}
	edited := c.edited(logits[:s.tokens], &s.drawn)
	c.window(out, s.drawn.Window, s.tokens)
	if c.behind(edited); !s.run(c) {
		if c.row(edited); len(c.kept) == 0 {
			return ErrBanned // the row is not the one that the window is of
		}
		s.run(c)
	}
	return nil
}

// chains are the scratch memories of Choose: some megabytes each once they have
// held a whole row, so that samplers share them.
var chains = sync.Pool{New: func() any { return &chain{work: NewWork(simd.Best())} }}

// tally counts tokens for the penalties, all or the last ones.
type tally struct {
	last    int // how many tokens back; 0 for all
	seen    seen
	recent  []int32 // the tokens counted, when last > 0: a ring
	next    int     // where the ring goes on
	prompts int     // how many of the ring's oldest are of the prompt
}

func (t *tally) clone() *tally {
	c := *t
	c.seen, c.recent = slices.Clone(t.seen), slices.Clone(t.recent)
	return &c
}

func (t *tally) prompt(ids []int32) {
	if t.last > 0 {
		ids = ids[max(0, len(ids)-t.last):]
		t.recent, t.prompts = slices.Clone(ids), len(ids)
	}
	t.seen.prompt(ids)
}

func (t *tally) output(id int32) {
	t.seen.add(id, 0, 1)
	switch {
	case t.last == 0:
	case len(t.recent) < t.last:
		t.recent = append(t.recent, id)
	default:
		if oldest := t.recent[t.next]; t.prompts > 0 {
			t.seen.add(oldest, -1, 0)
			t.prompts--
		} else {
			t.seen.add(oldest, 0, -1)
		}
		t.recent[t.next] = id
		t.next = (t.next + 1) % t.last
	}
}
