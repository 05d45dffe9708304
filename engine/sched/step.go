package sched

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// work is a step from its plan to its end. Its slices are used again.
type work struct {
	step    ops.Step
	parts   []part // of each segment
	draws   []draw // of each row of logits
	logits  []int  // offsets of all segments
	decodes int
	chunk   int    // tokens of the one segment that is longer
	reader  *group // whose they are
	times   ops.Times
	routes  ops.Routes
	inside  inside
	errs    []error // of each row's sampler

	began   time.Time
	prompts int        // tokens of the prompts that it reads to their ends
	forward ops.Ticket // nil before it was queued
	err     error      // of what was queued
	over    []ending   // of streams that ended while the step was queued already
}

// part says whose a segment is: the first stream's of a group, or a sequence's beside
// it.
type part struct {
	*group
	beside *Beside
}

// draw is what a row of logits is for: a stream's next token, or else (stream nil) a
// sequence beside one, or the score of a prompt token.
type draw struct {
	group    *group
	stream   *Stream
	beside   *Beside
	sampling ops.Sampling // of a score
}

// ending is how a stream ends once its memory is no longer in use.
type ending struct {
	group  *group
	stream *Stream
	reason string
	err    error
}

// plan fills in a step: a row of every stream that decodes, oldest first, and the
// next chunk of whoever's turn it is. With a step before it that is not done yet,
// the rows of streams that draw there are of tokens not known yet; there nobody is
// put aside, and where that would be needed plan says false.
func (s *Scheduler) plan(w, before *work) bool {
	w.step.IDs, w.step.Segments, w.step.Sampling = w.step.IDs[:0], w.step.Segments[:0], w.step.Sampling[:0]
	w.parts, w.draws, w.logits, w.decodes, w.chunk, w.reader = w.parts[:0], w.draws[:0], w.logits[:0], 0, 0, nil
	w.prompts, w.forward, w.err, w.over, w.step.Routes = 0, nil, nil, w.over[:0], nil
	s.lookIn(w)
	for i := 0; i < len(s.running); i++ {
		g := s.running[i]
		t := g.first()
		switch {
		case t.over || t.late != nil || g.reading() || t.waits() || !s.looks(w, g, t.read, 1):
			continue
		case before == nil:
			if !s.grow(g) {
				continue
			}
		case t.drawn+t.flying() >= t.req.MaxTokens:
			continue // it has drawn its last
		case !t.grow():
			return false
		}
		if w.segment(g, ops.Decode, 1) > 0 {
			w.draw(g, t, 0)
			w.decodes++
			w.decodeBeside(g)
		}
	}
	if w.reader = s.reader(); w.reader != nil {
		if s.looks(w, w.reader, w.reader.first().read, s.opts.Chunk) {
			w.read(w.reader, s.opts)
		}
		if w.chunk == 0 {
			w.reader = nil
		}
	}
	return true
}

// reader returns the group whose turn it is to read: the next after the last.
func (s *Scheduler) reader() (next *group) {
	for _, g := range s.running {
		if g.first().over || g.first().fault != nil || !g.reading() || g.first().waits() {
			continue
		}
		if s.last != nil && g.order > s.last.order {
			return g
		}
		if next == nil {
			next = g
		}
	}
	return next
}

// segment adds the group's next n tokens, or as many of them as are steered alike, and
// returns how many; the wanted logits follow. Where hooks refuse, it is none.
func (w *work) segment(g *group, kind ops.SegmentKind, n int) int {
	t := g.first()
	steer, n := t.steering(t.read, n)
	if n == 0 {
		return 0
	}
	w.record(g)
	w.look(g, t.read, n)
	if t.in != nil { // its token is being drawn
		w.step.IDs = append(w.step.IDs, ops.Drawn(t.at))
	} else {
		w.step.IDs = append(w.step.IDs, t.ids[t.read:t.read+n]...)
	}
	w.step.Segments = append(w.step.Segments, ops.Segment{Kind: kind, Slot: t.place.Slot, Start: t.read, Len: n, Pages: t.place.Pages, Steer: steer})
	w.parts = append(w.parts, part{group: g})
	return n
}

// draw wants the logits at an offset of the last segment, for a stream's token.
func (w *work) draw(g *group, t *Stream, offset int) {
	w.want(draw{group: g, stream: t}, offset)
}

func (w *work) want(d draw, offset int) {
	before := len(w.logits)
	w.logits = append(w.logits, offset)
	segment := &w.step.Segments[len(w.step.Segments)-1]
	segment.Logits = w.logits[before-len(segment.Logits):]
	w.draws = append(w.draws, d)
}

// ask fills in what to do with each row of logits. All tokens before are known.
func (w *work) ask() {
	for _, d := range w.draws {
		switch t := d.stream; {
		case d.beside != nil:
			w.step.Sampling = append(w.step.Sampling, ops.Sampling{Watch: -1}) // its stream's hooks see the row
		case t == nil:
			w.step.Sampling = append(w.step.Sampling, d.sampling)
		case t.over:
			w.step.Sampling = append(w.step.Sampling, ops.Sampling{Watch: -1}) // for nobody
		case t.hooks != nil:
			w.step.Sampling = append(w.step.Sampling, ops.Sampling{}) // below
		default:
			w.step.Sampling = append(w.step.Sampling, t.sampler.Draw(len(t.ids), t.req.Candidates))
		}
	}
	w.askHooks()
	w.step.Samples = slices.Grow(w.step.Samples[:0], len(w.draws))[:len(w.draws)]
}

// read adds a group's next chunk: of its prompt in chunk form, to a border or to
// the prompt's end; of tokens drawn before it was put aside, in step form.
func (w *work) read(g *group, opts Options) {
	t := g.first()
	if w.readBeside(g, opts) {
		return
	}
	prompt := len(t.req.Prompt)
	if t.read >= prompt {
		w.chunk = w.segment(g, ops.Replay, min(opts.Chunk, t.together(len(t.ids))-t.read))
	} else {
		w.chunk = opts.Chunk
		if t.req.PromptCandidates != nil {
			w.chunk = min(w.chunk, opts.LogitsRows)
		}
		w.chunk = w.segment(g, ops.Prefill, min(w.chunk, prompt-t.read))
		w.score(g)
	}
	if w.chunk > 0 && t.read+w.chunk == len(t.ids) {
		for _, t := range g.streams { // all choices draw from one row
			w.draw(g, t, w.chunk-1)
		}
	}
}

// score wants what was asked for of the chunk's prompt tokens, unless an earlier
// reading gave it.
func (w *work) score(g *group) {
	t := g.first()
	if t.req.PromptCandidates == nil {
		return
	}
	for at := max(t.read, len(g.scores)); at < min(t.read+w.chunk, len(t.req.Prompt)-1); at++ {
		w.want(draw{group: g, sampling: ops.Sampling{Candidates: *t.req.PromptCandidates, Watch: t.ids[at+1]}}, at-t.read)
	}
}

// fork gives every choice of a group the state after the prompt. Its full pages
// are shared; the one that the first tokens will be written to is copied.
func (s *Scheduler) fork(g *group) error {
	from := g.first()
	for _, t := range g.streams[1:] {
		if err := s.machine.CopySlot(t.place.Slot, from.place.Slot); err != nil {
			return err
		}
		if full := from.read / ops.PageTokens; from.read%ops.PageTokens > 0 {
			if err := s.machine.CopyPage(t.place.Pages[full], from.place.Pages[full]); err != nil {
				return err
			}
		}
		t.read = from.read
	}
	return nil
}

// choose lets the samplers finish what the device could not. Those that work on
// the host do so side by side: none waits for the sum of all. Hooks that are not done
// in time go on beside the next steps.
func (s *Scheduler) choose(w *work, patience time.Duration) {
	w.errs = slices.Grow(w.errs[:0], len(w.draws))[:len(w.draws)]
	var machine sync.Mutex
	var wait sync.WaitGroup
	var hooked []*choice
	s.showBeside(w, &machine)
	for i, d := range w.draws {
		w.errs[i] = nil
		t := d.stream
		if t == nil || t.over {
			continue
		}
		row := func() (_ []float32, err error) {
			machine.Lock()
			defer machine.Unlock()
			t.row, err = s.machine.Row(t.row, i)
			return t.row, err
		}
		switch {
		case w.step.Sampling[i].Window == 0:
			w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row)
		case t.hooks != nil:
			hooked = append(hooked, s.begun(d, i, &w.step.Samples[i], row))
		default:
			wait.Go(func() { w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row) })
		}
	}
	wait.Wait()
	s.await(w, hooked, patience)
}

// deliver hands the samples of the step to streams and scores.
func (s *Scheduler) deliver(w *work, took time.Duration) {
	s.choose(w, min(max(took/4, leastPatience), mostPatience))
	now := time.Now()
	drawn := uint64(0)
	for i, d := range w.draws {
		if t := d.stream; t != nil && !t.over && t.late == nil && w.errs[i] == nil {
			drawn++
		}
	}
	s.mu.Lock()
	s.stats.GeneratedTokens += drawn // before anybody learns of a stream's end
	s.mu.Unlock()
	for i, d := range w.draws {
		sample := &w.step.Samples[i]
		switch t := d.stream; {
		case d.beside != nil:
			// Its stream's hooks have it.
		case t == nil:
			score := *sample
			score.Candidates, score.Window = slices.Clone(sample.Candidates), nil
			d.group.scores = append(d.group.scores, score)
		case t.over:
			// It ended at the token before.
		case t.late != nil:
			t.scored(d.group, now) // its token comes when its hooks have chosen it
		default:
			t.scored(d.group, now)
			s.take(d.group, t, sample, w.errs[i])
		}
	}
}

// scored notes that the prompt is read.
func (t *Stream) scored(g *group, now time.Time) {
	if t.prefilled.IsZero() {
		t.prefilled, t.end.Prompt = now, g.scores
	}
}

// take adds a drawn token to its stream, or ends it for what came in its place.
func (s *Scheduler) take(g *group, t *Stream, sample *ops.Sample, err error) {
	var stop *Stop
	var back *Rewind
	switch {
	case errors.As(err, &back):
		s.rewind(g, t, back.To)
		return
	case errors.As(err, &stop):
		s.end(g, t, "stop", nil)
		return
	case err != nil:
		s.end(g, t, "error", err)
		return
	}
	id := sample.Token.ID
	t.sampler.Accept(id)
	t.ids = append(t.ids, id)
	t.drawn++
	t.push(sample)
	switch {
	case t.req.Ends(id):
		s.end(g, t, "stop", nil)
	case t.drawn == t.req.MaxTokens:
		s.end(g, t, "length", nil)
	}
}

// maxWork is how many tokens a stream may draw for each that it is asked for: those
// that were taken back count.
const maxWork = 4

// rewind takes the tokens from a position on back. Their state is not kept: the stream
// is read again, its prompt in chunks and what it drew in step form, to the same bits.
func (s *Scheduler) rewind(g *group, t *Stream, to int) {
	n := len(t.ids) - to
	if n < 1 || n > len(t.held) || n > t.drawn {
		s.end(g, t, "error", fmt.Errorf("sched: back to position %d of %d, %d tokens are held", to, len(t.ids), len(t.held)))
		return
	}
	t.ids, t.held, t.drawn = t.ids[:to], t.held[:len(t.held)-n], t.drawn-n
	t.restart()
	t.told, t.shown = min(t.told, to), min(t.shown, to)
	if t.lost += n; t.drawn+t.lost >= maxWork*t.req.MaxTokens {
		s.end(g, t, "length", nil)
	}
}

// split makes groups of one of the choices that have forked.
func (s *Scheduler) split() {
	for i := 0; i < len(s.running); i++ {
		g := s.running[i]
		if len(g.streams) < 2 || g.reading() {
			continue
		}
		for n, t := range g.streams[1:] {
			alone := &group{streams: []*Stream{t}, order: g.order + uint64(n) + 1}
			s.running = slices.Insert(s.running, i+n+1, alone)
		}
		g.streams = g.streams[:1:1]
	}
	s.running = slices.DeleteFunc(s.running, empty)
}
