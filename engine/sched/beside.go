package sched

import (
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Beside is a sequence that goes along with a stream: it begins with a prompt of its
// own, reads every token that the stream draws, in the same steps, and gives a row of
// logits beside each of the stream's. Its rows are steered as the stream's are. It has a
// slot and pages of its own from admission to the stream's end. When its stream is put
// aside, it is read again.
type Beside struct {
	prompt []int32

	// Owned by the scheduler's goroutine.
	place  *cache.Sequence // nil while queued or put aside
	read   int             // tokens in the cache
	row    []float32
	logits logits
}

// NewBeside returns a sequence that begins with a prompt, for one stream.
func NewBeside(prompt []int32) *Beside { return &Beside{prompt: prompt} }

// Row returns the logits beside the row that Choose is at, [vocabulary]: they are the
// sequence's, and good until Choose returns. It is called in Choose only.
func (b *Beside) Row() ([]float32, error) { return b.logits.get() }

// length is how many tokens the sequence has, those drawn among them.
func (b *Beside) length(t *Stream) int { return len(b.prompt) + len(t.ids) - len(t.req.Prompt) }

// position is where the stream has what the sequence has behind so many tokens.
func (b *Beside) position(t *Stream, tokens int) int {
	return len(t.req.Prompt) + tokens - len(b.prompt)
}

// next returns the sequence's next n tokens.
func (b *Beside) next(t *Stream, n int) []int32 {
	if b.read < len(b.prompt) {
		return b.prompt[b.read:][:n]
	}
	return t.ids[b.position(t, b.read):][:n]
}

// grow takes the pages of the stream's next token, and says whether there were enough.
func (t *Stream) grow() bool {
	for _, b := range t.beside {
		if !b.place.Grow(b.length(t)) {
			return false
		}
	}
	return t.place.Grow(len(t.ids) + t.flying())
}

// leave gives the stream's memory back.
func (t *Stream) leave() {
	if t.place != nil {
		t.place.Release()
		t.place = nil
	}
	for _, b := range t.beside {
		if b.place != nil {
			b.place.Release()
			b.place = nil
		}
	}
}

// restart has everything read again.
func (t *Stream) restart() {
	t.read = 0
	for _, b := range t.beside {
		b.read = 0
	}
}

// decodeBeside adds the rows beside that of a group which decodes.
func (w *work) decodeBeside(g *group) {
	for _, b := range g.first().beside {
		if w.segmentBeside(g, b, ops.Decode, 1) > 0 {
			w.want(draw{group: g, beside: b}, 0)
		}
	}
}

// together is how many tokens a stream and the sequences beside it read before they decode
// together: all of the prompts, but not the token drawn last.
func (t *Stream) together(tokens int) int {
	if t.drawn > 0 && len(t.beside) > 0 {
		return tokens - 1
	}
	return tokens
}

// readBeside adds the next chunk of the sequences beside a group that reads, before
// its own, and says whether there is one left. The logits behind a prompt are kept until
// the stream has read its own.
func (w *work) readBeside(g *group, opts Options) bool {
	t := g.first()
	for _, b := range t.beside {
		length := t.together(b.length(t))
		switch {
		case b.read == length:
			continue
		case b.read < len(b.prompt):
			w.chunk = w.segmentBeside(g, b, ops.Prefill, min(opts.Chunk, len(b.prompt)-b.read))
		default:
			w.chunk = w.segmentBeside(g, b, ops.Replay, min(opts.Chunk, length-b.read))
		}
		if w.chunk > 0 && b.read+w.chunk == b.length(t) {
			w.want(draw{group: g, beside: b}, w.chunk-1)
		}
		return true
	}
	return false
}

// segmentBeside is segment for a sequence beside the group's stream.
func (w *work) segmentBeside(g *group, b *Beside, kind ops.SegmentKind, n int) int {
	t := g.first()
	at := 0 // the prompt is steered as the stream's
	if b.read >= len(b.prompt) {
		at = b.position(t, b.read)
	}
	steer, n := t.steering(at, n)
	if n == 0 {
		return 0
	}
	w.step.IDs = append(w.step.IDs, b.next(t, n)...)
	w.step.Segments = append(w.step.Segments, ops.Segment{Kind: kind, Slot: b.place.Slot, Start: b.read, Len: n, Pages: b.place.Pages, Steer: steer})
	w.parts = append(w.parts, part{group: g, beside: b})
	return n
}

// showBeside shows samplers the rows beside theirs. Those of a sequence that was read
// are kept: their stream draws in a later step.
func (s *Scheduler) showBeside(w *work, machine *sync.Mutex) {
	for i, d := range w.draws {
		b := d.beside
		if b == nil || d.group.first().over {
			continue
		}
		b.logits.of(func() (_ []float32, err error) {
			machine.Lock()
			defer machine.Unlock()
			b.row, err = s.machine.Row(b.row, i)
			return b.row, err
		})
		if w.reader == d.group {
			_, _ = b.logits.get() // the next step writes over it
		}
	}
}
