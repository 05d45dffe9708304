package sched

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Sampler turns rows of logits into the tokens of one stream.
type Sampler interface {
	// Draw says what to do with the row that decides the token at position.
	Draw(position, candidates int) ops.Sampling
	// Choose finishes what the device could not; row fetches all logits.
	Choose(out *ops.Sample, row func() ([]float32, error)) error
	// Accept adds a token to the history.
	Accept(id int32)
}

// Hooked is a sampler that hooks look into. Its Draw and Choose may take long: those
// of different streams run side by side, and a stream whose Choose is late skips steps
// while the others go on. Between a Draw and the end of its Choose nothing else is
// called but Routed.
type Hooked interface {
	Sampler
	// Steer returns the steering of the row at a position, nil where it is left
	// alone; the same pointer for the next position as long as nothing changes. An
	// error ends the stream.
	Steer(position int) (*ops.Steering, error)
	// Routing says of which rows records are wanted: of drawn tokens and the
	// prompt's last, and of all others of the prompt.
	Routing() (decode, prompt bool)
	// Routed tells what a row was routed to. Each is told once, in order.
	Routed(hook.Record)
	// Inside says where hooks look into the forward pass. Hidden tells the residual of
	// a row behind it, once and in order. Within is called in the midst of it, on a
	// goroutine of the machine's, also beside a Draw, but never between a Draw that asks
	// for a window and the end of its Choose; it may change the values. A row that is
	// read again has it again.
	Inside() hook.Inside
	Hidden(hook.HiddenRecord)
	Within(place hook.Place, position, layer int, values []float32)
}

// Stop is the error of a Choose that ends its stream in the place of a token.
type Stop struct{ Reason string }

func (s *Stop) Error() string { return "stopped: " + s.Reason }

// Rewind is the error of a Choose that takes tokens back, in the place of one more: the
// next to draw is that of position To. They must be among those held (Request.Hold).
// The stream is read again from its start.
type Rewind struct{ To int }

func (r *Rewind) Error() string { return fmt.Sprintf("back to position %d", r.To) }

// Request is what the scheduler needs to know of a completion.
type Request struct {
	Prompt    []int32
	MaxTokens int // positive
	// Priority orders the queue: a step of it counts as much as Ageing of waiting.
	Priority int
	// Ends says whether a token ends the stream. The scheduler's goroutine calls it.
	Ends       func(id int32) bool
	Candidates int
	// PromptCandidates, when not nil, asks for a sample of every prompt token but
	// the first.
	PromptCandidates *int
	// Ahead is how many tokens may be drawn that nobody has taken: a stream
	// that is so far ahead of its consumer skips steps. At least 1.
	Ahead int
	// Hold is how many drawn tokens are kept from the consumer until more are drawn.
	Hold int
}

// Choice is one completion of a request: who waits for it, and how it draws.
type Choice struct {
	// Context ends the stream at the next border of steps, or of phases where
	// nobody else is in the step, and gives its memory back.
	Context context.Context
	Sampler Sampler
	// Beside are sequences that go along. A request with them has one choice.
	Beside []*Beside
}

// End says how a stream ended.
type End struct {
	Err    error
	Reason string // as in Stats.Finished
	// Prompt has a sample for every prompt token but the first, where asked for.
	Prompt                  []ops.Sample
	Queued, Prefill, Decode time.Duration
}

// Stream is one completion in the making.
type Stream struct {
	s       *Scheduler
	req     *Request
	ctx     context.Context
	unwatch func() bool
	sampler Sampler
	hooks   Hooked // the sampler, if hooks look into it; else nil
	beside  []*Beside

	tokens  chan ops.Sample
	ahead   atomic.Int64 // tokens drawn and not taken
	stopped atomic.Bool

	// Owned by the scheduler's goroutine until tokens is closed.
	ids   []int32 // prompt and drawn tokens
	read  int     // of them in the cache
	drawn int
	place *cache.Sequence // nil while queued or put aside
	saved []byte          // what a swap took off the machine
	row   []float32       // logits that the sampler fetched
	in    *work           // the step that draws its next token, nil for none,
	at    int             // and in which of its rows
	over  bool            // it has ended, and a step still uses its place
	late  *choice         // its next token, where hooks still choose it
	told  int             // rows whose routing hooks were told
	shown int             // and whose residual
	held  []ops.Sample    // drawn, and kept from the consumer
	lost  int             // drawn, and taken back
	fault error           // why hooks end it

	queued, started, prefilled time.Time
	end                        End
}

// Tokens delivers the tokens in order; it is closed when the stream has ended
// and its memory is given back.
func (t *Stream) Tokens() <-chan ops.Sample { return t.tokens }

// Taken tells that one more token was looked at and did not end the stream.
func (t *Stream) Taken() {
	if t.ahead.Add(-1) == int64(t.req.Ahead)-1 {
		t.s.poke() // it was skipping steps
	}
}

// Stop ends the stream at the next border of steps: its text is complete.
func (t *Stream) Stop() {
	t.stopped.Store(true)
	t.s.poke()
}

// Wait drops the tokens that are left and returns how the stream ended.
func (t *Stream) Wait() End {
	for range t.tokens {
		continue
	}
	return t.end
}

// ended returns why the stream must not go on, "" when it may.
func (t *Stream) ended() (reason string, err error) {
	switch {
	case t.stopped.Load():
		return "stop", nil
	case t.ctx.Err() != nil:
		return "cancelled", context.Cause(t.ctx)
	case t.fault != nil:
		return "error", t.fault
	}
	return "", nil
}

// group is what is admitted and put aside as one: the choices of a request
// until its prompt is read, by the first of them for all; then each alone.
type group struct {
	streams []*Stream
	arrived time.Time // less what its priority is worth
	order   uint64    // of admission
	scores  []ops.Sample
	in      *work // the last step that it has a segment in, nil once that is done
}

func (g *group) first() *Stream { return g.streams[0] }

// reading says whether the group has more to read than the last drawn token.
func (g *group) reading() bool {
	t := g.first()
	return t.in == nil && t.late == nil && (len(t.ids)-t.read > 1 || t.drawn == 0)
}

// need is what the group takes to be admitted, or to come back.
func (s *Scheduler) need(g *group, spare int) cache.Need {
	t := g.first()
	prompt, shared := len(t.req.Prompt), len(t.req.Prompt)
	for _, b := range t.beside {
		prompt, shared = max(prompt, len(b.prompt)), 0
	}
	tokens := prompt + t.req.MaxTokens
	if s.opts.Overcommit == "" {
		spare = 0
	} else {
		tokens = min(tokens, prompt+t.drawn+1)
	}
	return cache.Need{Tokens: tokens, Count: len(g.streams) + len(t.beside), Shared: shared, Spare: spare}
}

// flying is how many of its tokens are being drawn: 0 or 1.
func (t *Stream) flying() int {
	if t.in != nil {
		return 1
	}
	return 0
}

// waits says whether the stream is as far ahead of its consumer as it may be.
func (t *Stream) waits() bool { return t.ahead.Load()+int64(t.flying()) >= int64(t.req.Ahead) }

// push hands a token to the consumer, or keeps it and hands out the oldest that is
// kept. There is room: see waits.
func (t *Stream) push(sample *ops.Sample) {
	out := *sample
	out.Candidates, out.Window, out.Drawn = slices.Clone(sample.Candidates), nil, time.Now()
	t.held = append(t.held, out)
	t.release(t.req.Hold)
}

// release hands out what is kept, but for so many tokens.
func (t *Stream) release(keep int) {
	for len(t.held) > keep {
		t.ahead.Add(1)
		t.tokens <- t.held[0]
		t.held = t.held[1:]
	}
}

// lost says what a stream gets whose step, or way back, failed.
func lost(err error) error {
	return fmt.Errorf("the stream's state is lost, send the request again: %w", err)
}
