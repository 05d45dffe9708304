// Package hooked joins the hooks of a choice with its sampler: to the scheduler they
// are one sampler (see sched.Hooked).
//
// Hooks are called when a row is asked for (Draw), as long as they only edit: then the
// edits go with the draw to where the logits are, and the device may work ahead. As
// soon as a hook reads logits it waits for them: the row gives what hooks read in the
// place of a token, and the token is chosen on the host (Choose). Hooks that choose,
// or want to know of the last token before the next, are called there from the start.
package hooked

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/engine/sched"
)

// Options of New.
type Options struct {
	Layers int // of the model
	// Bytes returns the bytes of a token; nil where there is no tokenizer.
	Bytes func(id int32) []byte
	// Routing says that Extra.Routing is wanted, PromptRouting that Prompt is.
	Routing, PromptRouting bool
	// Lens returns the logits of a residual, [vocabulary], unless quit is closed first;
	// nil stays open.
	Lens func(quit <-chan struct{}, residual []float32) ([]float32, error)
}

// Sampler is the sampler of a choice with hooks. The scheduler calls it as
// sched.Hooked says; Next, Prompt, Stopped and Finish are for who takes the tokens.
type Sampler struct {
	base    *sample.Sampler
	pass    sync.Mutex // of the chain's use beside a forward pass that hooks are called in
	chain   *hook.Chain
	options Options
	needs   hook.Needs    // at the last Draw
	inside  hook.Inside   // likewise
	pending []hook.Record // to be told when no hook is at work
	hidden  []hook.HiddenRecord
	failed  error    // of a hook within the forward pass
	steered struct { // the steering asked for last
		from *hook.Steering
		to   *ops.Steering
	}

	at         hook.At // of the token that is being chosen
	candidates int
	handler    *handler       // of its logits hooks, nil where they are done or not called yet
	calling    *handler       // likewise; set before they begin
	verdict    hook.Verdict   // of them
	edit       *hook.Folded   // what they make of the draw
	err        error          // why there is none
	token      hook.Token     // chosen last
	rows       []*hook.Record // told last, of the rows that tokens are drawn from
	begun      []int32        // the prompt
	made       []int32        // tokens accepted
	quit       chan struct{}  // closed when the stream has ended
	over       bool           // likewise, and no handler is at work
	beside     []*sched.Beside

	mu     sync.Mutex
	extras []Extra
	prompt []hook.Record
	stop   string
}

// Extra is what a token has beside its sample.
type Extra struct {
	Routing *hook.Record // of the row that it was drawn from
	Forced  bool
	Changes []hook.Change // what hooks did to it
}

var _ sched.Hooked = (*Sampler)(nil)

// New joins a chain, which has seen the prompt, and a sampler. Finish closes the chain.
func New(base *sample.Sampler, chain *hook.Chain, prompt []int32, o Options) *Sampler {
	s := &Sampler{base: base, chain: chain, begun: prompt, options: o, needs: chain.Needs(), inside: chain.Inside(), quit: make(chan struct{})}
	for _, ids := range chain.Sequences() {
		s.beside = append(s.beside, sched.NewBeside(ids))
	}
	base.Beside(func(other int) ([]float32, error) { return s.beside[other].Row() })
	return s
}

// Alone says that the choice cannot share the reading of its prompt with others.
func (s *Sampler) Alone() bool { return len(s.beside) > 0 || !s.inside.Empty() }

// Beside are the sequences that go along with the stream (see sched.Choice).
func (s *Sampler) Beside() []*sched.Beside { return s.beside }

// Draw implements sched.Sampler.
func (s *Sampler) Draw(position, candidates int) ops.Sampling {
	s.pass.Lock()
	s.flush()
	s.needs, s.inside = s.chain.Needs(), s.chain.Inside()
	s.pass.Unlock()
	s.calling = nil
	s.at, s.candidates = hook.At{Position: position}, candidates
	s.handler, s.verdict, s.edit, s.err = nil, hook.Verdict{}, nil, nil
	if s.needs.Synchronous {
		return s.base.Entry(position, candidates)
	}
	if h := s.call(); h != nil {
		if !h.await() {
			s.handler = h
			return s.base.Entry(position, candidates)
		}
		s.verdict, s.err = h.verdict, h.err
	}
	if s.err != nil || s.verdict.Stop != "" {
		return ops.Sampling{Watch: -1} // Choose says why
	}
	if s.verdict.Decided {
		return s.base.Forced(position, candidates, s.verdict.ID)
	}
	s.edit = s.verdict.Edits
	return s.base.Edited(position, candidates, s.edit, false)
}

// Choose implements sched.Sampler.
func (s *Sampler) Choose(out *ops.Sample, row func() ([]float32, error)) error {
	if s.failed != nil {
		return s.failed
	}
	read := s.needs.Synchronous || s.handler != nil
	switch {
	case s.handler != nil:
		s.verdict, s.err = s.handler.finish(out, row)
		s.handler = nil
	case s.needs.Synchronous:
		s.flush() // the row that this token is drawn from
		s.ask(out, row)
	}
	s.finishRow(read, out, row)
	for s.err == nil && s.verdict.Rewind && s.verdict.To == s.at.Position { // the same row once more
		s.base.Rewind(s.begun, s.made, uint32(s.verdict.Attempt))
		s.base.Entry(s.at.Position, s.candidates)
		s.ask(out, row)
		s.finishRow(true, out, row)
	}
	switch {
	case s.err != nil:
		return s.err
	case s.verdict.Stop != "":
		s.mu.Lock()
		s.stop = s.verdict.Stop
		s.mu.Unlock()
		return &sched.Stop{Reason: s.verdict.Stop}
	case s.verdict.Rewind:
		s.back(s.verdict.To)
		return &sched.Rewind{To: s.verdict.To}
	}
	out.Candidates = out.Candidates[:min(s.candidates, len(out.Candidates))]
	s.token = hook.Token{Position: s.at.Position, ID: out.Token.ID, Logprob: out.Token.Logprob, Forced: s.verdict.Forced}
	return nil
}

// ask asks the logits hooks, with a row that they may read.
func (s *Sampler) ask(out *ops.Sample, row func() ([]float32, error)) {
	entry, model := s.base.Sources(out, row)
	var beside []hook.Source
	for _, b := range s.beside {
		beside = append(beside, s.base.Plain(b.Row))
	}
	s.verdict, s.err = s.chain.Logits(s.at, entry, model, beside...)
}

// finishRow makes a token of a row, unless hooks want none of it.
func (s *Sampler) finishRow(read bool, out *ops.Sample, row func() ([]float32, error)) {
	switch {
	case s.err != nil || s.verdict.Stop != "" || s.verdict.Rewind:
	case read:
		s.err = s.chooseRead(out, row)
	default:
		s.err = s.chooseDrawn(out, row)
	}
}

// back takes the tokens from a position on back.
func (s *Sampler) back(to int) {
	left := to - len(s.begun)
	lost := len(s.made) - left
	s.made = s.made[:left]
	s.base.Rewind(s.begun, s.made, uint32(s.verdict.Attempt))
	s.rows = slices.DeleteFunc(s.rows, func(r *hook.Record) bool { return r.Position >= to })
	s.mu.Lock()
	s.extras = s.extras[:len(s.extras)-lost]
	s.mu.Unlock()
}

// chooseDrawn finishes what the device drew.
func (s *Sampler) chooseDrawn(out *ops.Sample, row func() ([]float32, error)) error {
	err := s.base.Choose(out, row)
	if !errors.Is(err, sample.ErrBanned) || s.edit == nil {
		return err
	}
	if err := s.chain.Spoil(s.at, err); err != nil {
		return err
	}
	return s.base.Redraw(out, row)
}

// chooseRead chooses on the host, of a row that hooks have read.
func (s *Sampler) chooseRead(out *ops.Sample, row func() ([]float32, error)) error {
	if s.verdict.Decided {
		return s.base.Force(out, s.verdict.ID, row)
	}
	if s.edit = s.verdict.Edits; s.edit != nil {
		plain := *out
		if err := s.base.ChooseEdited(&plain, nil, row); err != nil {
			return err
		}
		err := s.pick(out, row)
		if errors.Is(err, sample.ErrBanned) {
			if err := s.chain.Spoil(s.at, err); err != nil {
				return err
			}
			s.edit = nil
			return s.pick(out, row)
		}
		if err == nil && s.verdict.Stop == "" && !s.verdict.Decided && !s.verdict.Rewind {
			if s.chain.Credit(out.Token.ID, plain.Token.ID); out.Token.ID != plain.Token.ID {
				s.verdict.Instead = &plain.Token.ID
			}
		}
		return err
	}
	return s.pick(out, row)
}

// pick lets hooks choose of what the chain leaves, or draws.
func (s *Sampler) pick(out *ops.Sample, row func() ([]float32, error)) error {
	if !s.needs.Events.Has(hook.OnSample) {
		return s.base.ChooseEdited(out, s.edit, row)
	}
	return s.base.ChooseFrom(out, s.edit, row, func(left *sample.Left) (int32, bool, error) {
		verdict, err := s.chain.Sample(s.at, chooser{left}, func(id int32) bool { return s.base.Allowed(id, s.edit) })
		if verdict.Stop != "" || verdict.Decided || verdict.Rewind {
			s.verdict = verdict
		}
		return verdict.ID, verdict.Decided, err
	})
}

// chooser shows hooks what the chain left.
type chooser struct{ *sample.Left }

func (c chooser) Candidates(n int) ([]hook.Candidate, error) {
	var list []hook.Candidate
	for _, o := range c.Left.Candidates(n) {
		list = append(list, hook.Candidate(o))
	}
	return list, nil
}

func (c chooser) Draw() (int32, error) { return c.Left.Draw(), nil }

// Accept implements sched.Sampler.
func (s *Sampler) Accept(id int32) {
	s.base.Accept(id)
	s.made = append(s.made, id)
	if s.options.Bytes != nil {
		s.token.Text = strings.ToValidUTF8(string(s.options.Bytes(id)), "�")
	}
	changes := s.chain.Changes(s.token.Position, s.verdict)
	s.chain.Token(s.token)
	extra := Extra{Forced: s.token.Forced, Changes: changes}
	for _, r := range s.rows {
		if r.Position == s.token.Position-1 {
			extra.Routing = r
		}
	}
	s.mu.Lock()
	s.extras = append(s.extras, extra)
	s.mu.Unlock()
}

// Steer implements sched.Hooked.
func (s *Sampler) Steer(position int) (*ops.Steering, error) {
	s.pass.Lock()
	now, err := s.chain.Steer(position)
	s.pass.Unlock()
	if err != nil {
		return nil, err
	}
	if now != s.steered.from {
		s.steered.from, s.steered.to = now, Steering(now, s.options.Layers)
	}
	return s.steered.to, nil
}

// Routing implements sched.Hooked.
func (s *Sampler) Routing() (decode, prompt bool) {
	prompt = s.needs.CaptureAll || s.options.PromptRouting
	return s.needs.Events.Has(hook.OnRouting) || s.options.Routing, prompt
}

// Routed implements sched.Hooked.
func (s *Sampler) Routed(r hook.Record) {
	s.pending = append(s.pending, r)
	if s.options.Routing {
		s.rows = append(s.rows[max(0, len(s.rows)-hook.MaxHold):], &r)
	}
	if r.Prompt && s.options.PromptRouting {
		s.mu.Lock()
		s.prompt = append(s.prompt, r)
		s.mu.Unlock()
	}
}

// Inside implements sched.Hooked.
func (s *Sampler) Inside() hook.Inside {
	s.pass.Lock()
	defer s.pass.Unlock()
	return s.inside
}

// Hidden implements sched.Hooked.
func (s *Sampler) Hidden(r hook.HiddenRecord) { s.hidden = append(s.hidden, r) }

// Within implements sched.Hooked.
func (s *Sampler) Within(place hook.Place, position, layer int, values []float32) {
	s.pass.Lock()
	defer s.pass.Unlock()
	if s.failed == nil {
		s.failed = s.chain.Within(place, position, layer, values)
	}
}

// Lens makes a source of what a residual would be behind the last layer. Hooks call it:
// those that were called before their row is there wait for it first.
func (s *Sampler) Lens(residual []float32) (hook.Source, error) {
	if h := s.calling; h != nil {
		if _, err := (&later{h, false}).source(); err != nil {
			return nil, err
		}
	}
	quit := s.quit
	if s.over {
		quit = nil
	}
	row, err := s.options.Lens(quit, residual)
	if err != nil {
		return nil, err
	}
	return s.base.Plain(func() ([]float32, error) { return row, nil }), nil
}

// flush tells the chain of rows, while no hook is at work.
func (s *Sampler) flush() {
	for _, r := range s.pending {
		s.chain.Routing(r)
	}
	s.pending = s.pending[:0]
	for _, r := range s.hidden {
		s.chain.Hidden(r)
	}
	s.hidden = s.hidden[:0]
}

// Hold is how many tokens hooks have held back.
func (s *Sampler) Hold() int { return s.needs.Hold }

// Digest names what steering does to the prompt; "" where it does nothing, or fails,
// which the first row will tell.
func (s *Sampler) Digest() string {
	digest, err := s.chain.Digest()
	if err != nil {
		return ""
	}
	return digest
}

// Next returns what the next token of the stream has beside its sample.
func (s *Sampler) Next() Extra {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.extras[0]
	s.extras = s.extras[1:]
	return next
}

// Prompt returns the records of the prompt's rows.
func (s *Sampler) Prompt() []hook.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prompt
}

// Stopped says why a hook ended the stream; "" where none did.
func (s *Sampler) Stopped() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// Finish tells hooks how the choice ended and lets go of them. The stream has ended,
// or was never begun.
func (s *Sampler) Finish(f hook.Finish) hook.Report {
	close(s.quit)
	if s.handler != nil {
		<-s.handler.done
	}
	s.calling, s.over = nil, true
	s.flush()
	report := s.chain.Finish(f)
	s.chain.Close()
	return report
}
