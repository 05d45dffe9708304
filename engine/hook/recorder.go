package hook

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Recorder is a hook around another that writes down what the other one sees, as a
// Recording. It asks for more than the other one: the most likely tokens of every row,
// every token and its routing. Reads of other hooks that were made before are in it too.
// What it does takes nothing of the other's budget, and a Recorder that cannot write
// goes on without: Err says why.
type Recorder struct {
	inner    Hook
	to       io.Writer
	head     Recording
	spelling *Spelling
	spec     Spec // of the other one
	pending  []RecordedStep
	written  int
	err      error
}

// NewRecorder returns a Recorder around a hook. Every line is one call of the writer,
// which it does not close. Of head, Model, Params, Request and Now are what the hook was
// given; spelling is its tokenizer, nil where it has none.
func NewRecorder(to io.Writer, head Recording, spelling *Spelling, inner Hook) *Recorder {
	return &Recorder{inner: inner, to: to, head: head, spelling: spelling}
}

// Err is why the recording is not whole; nil where it is, so far.
func (r *Recorder) Err() error { return r.err }

// Start implements Hook.
func (r *Recorder) Start(call *Call) error {
	if err := r.inner.Start(call); err != nil {
		return err
	}
	r.spec = r.inner.Spec()
	r.head.Hook, r.head.Seed, r.head.Choice = r.spec.Name, call.Seed(), call.Choice
	r.write(toHeaderJSON(&r.head))
	return nil
}

// Spec implements Hook.
func (r *Recorder) Spec() Spec {
	spec := r.inner.Spec()
	spec.Events |= OnPrompt | OnLogits | OnToken | OnRouting | OnFinish
	spec.Top = MaxCandidates
	return spec
}

// Prompt implements Hook.
func (r *Recorder) Prompt(call *Call, p *Prompt) error {
	r.write(lineJSON{Prompt: slices.Clone(p.IDs)})
	if !r.spec.Events.Has(OnPrompt) {
		return nil
	}
	return r.inner.Prompt(call, p)
}

// Logits implements Hook.
func (r *Recorder) Logits(call *Call, l *Logits) error {
	var failed error
	if r.spec.Events.Has(OnLogits) {
		failed = r.inner.Logits(call, l)
	}
	step := RecordedStep{Position: call.Position, Attempt: call.Attempt}
	var err error
	if step.Entry, err = l.Reads.recorded(); err == nil {
		step.Model, err = l.Reads.Model().recorded()
	}
	if err != nil {
		r.fail(fmt.Errorf("position %d: %w", call.Position, err))
		return failed
	}
	defer call.Aside()()
	r.flush(call.Position)
	r.pending = append(r.pending, step)
	return failed
}

// recorded is what is known of the row, the most likely tokens in any case.
func (r *Reads) recorded() (*RecordedRow, error) {
	wide := r.asked > MaxCandidates
	top, err := r.Top(min(MaxCandidates, r.tokens))
	if err != nil {
		return nil, err
	}
	row := &RecordedRow{Top: top, Entropy: r.entropy, Logprobs: maps.Clone(r.logprob), Row: r.row}
	if wide && r.row == nil {
		row.Row, err = r.whole()
	}
	return row, err
}

// Sample implements Hook.
func (r *Recorder) Sample(call *Call, c *Candidates) (int32, bool, error) {
	id, chosen, err := r.inner.Sample(call, c)
	if step := r.at(call.Position); step != nil {
		step.Left = &RecordedChoice{List: slices.Clone(c.list), Drawn: c.drawn}
	}
	return id, chosen, err
}

// Token implements Hook.
func (r *Recorder) Token(call *Call, t *Token) error {
	kept := *t
	r.step(t.Position, call.Attempt).Token = &kept
	if !r.spec.Events.Has(OnToken) {
		return nil
	}
	return r.inner.Token(call, t)
}

// Routing implements Hook.
func (r *Recorder) Routing(call *Call, routing *Routing) error {
	r.step(routing.Position, call.Attempt).Routing = routing.Record
	if !r.spec.Events.Has(OnRouting) {
		return nil
	}
	return r.inner.Routing(call, routing)
}

// Hidden implements Hook. Residuals are not written down.
func (r *Recorder) Hidden(call *Call, h *Hidden) error { return r.inner.Hidden(call, h) }

// Route implements Hook. Router logits are not written down.
func (r *Recorder) Route(call *Call, router *Router) error { return r.inner.Route(call, router) }

// Finish implements Hook.
func (r *Recorder) Finish(call *Call, f *Finish) error {
	r.flushAll()
	end := finishJSON(*f)
	r.write(lineJSON{Finish: &end})
	if !r.spec.Events.Has(OnFinish) {
		return nil
	}
	return r.inner.Finish(call, f)
}

// Close implements Hook.
func (r *Recorder) Close() {
	r.flushAll()
	r.spell()
	r.inner.Close()
}

// Stale implements Renewer.
func (r *Recorder) Stale() bool {
	inner, ok := r.inner.(Renewer)
	return ok && inner.Stale()
}

// Renew implements Renewer.
func (r *Recorder) Renew(call *Call) error {
	err := r.inner.(Renewer).Renew(call)
	r.spec = r.inner.Spec()
	return err
}

// State implements Rewinder; nil where the other one has none.
func (r *Recorder) State() ([]byte, error) {
	if inner, ok := r.inner.(Rewinder); ok {
		return inner.State()
	}
	return nil, nil
}

// Restore implements Rewinder.
func (r *Recorder) Restore(state []byte) error {
	if inner, ok := r.inner.(Rewinder); ok {
		return inner.Restore(state)
	}
	return nil
}

// at is the newest step of a position; nil where there is none.
func (r *Recorder) at(position int) *RecordedStep {
	for i := len(r.pending) - 1; i >= 0; i-- {
		if r.pending[i].Position == position {
			return &r.pending[i]
		}
	}
	return nil
}

// step is the newest step of a position, which is made where there is none: no logits
// are seen of tokens that are injected, nor of the prompt.
func (r *Recorder) step(position, attempt int) *RecordedStep {
	if s := r.at(position); s != nil {
		return s
	}
	at := len(r.pending)
	for at > 0 && r.pending[at-1].Position > position {
		at--
	}
	r.pending = slices.Insert(r.pending, at, RecordedStep{Position: position, Attempt: attempt})
	return &r.pending[at]
}

// flush writes the steps that nothing more will be told of when the logits of a position
// are seen: those that are far enough behind, and those that were taken back.
func (r *Recorder) flush(position int) {
	done := 0
	for done < len(r.pending) {
		if p := r.pending[done].Position; p < position && p > position-DefaultLag {
			break
		}
		done++
	}
	for i := range r.pending[:done] {
		r.write(toLineJSON(&r.pending[i]))
	}
	r.pending = slices.Delete(r.pending, 0, done)
}

func (r *Recorder) flushAll() {
	for i := range r.pending {
		r.write(toLineJSON(&r.pending[i]))
	}
	r.pending = nil
}

// write writes a line, and what was asked of the tokenizer since the one before.
func (r *Recorder) write(line any) {
	r.put(line)
	r.spell()
}

// spell writes what was asked of the tokenizer.
func (r *Recorder) spell() {
	asked, err := r.spelling.take()
	for _, s := range asked {
		r.put(toSpelledJSON(s))
	}
	if err != nil {
		r.fail(err)
	}
}

// put writes a line. After the first that fails there are no others.
func (r *Recorder) put(line any) {
	if r.err != nil {
		return
	}
	text, err := json.Marshal(line)
	text = append(text, '\n')
	r.written += len(text)
	switch {
	case err != nil:
	case len(text) > maxRecordLine:
		err = fmt.Errorf("a line would be over %d MiB, the most that is read again", maxRecordLine>>20)
	case r.written > MaxRecording:
		err = fmt.Errorf("it would be over %d MiB, the most that is read again", MaxRecording>>20)
	default:
		_, err = r.to.Write(text)
	}
	if err != nil {
		r.fail(err)
	}
}

func (r *Recorder) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("record hook %s: %w", r.spec.Name, err)
	}
}
