package sched

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// work is the step in the making. Its slices are used again.
type work struct {
	step    ops.Step
	groups  []*group // of each segment
	draws   []draw   // of each row of logits
	logits  []int    // offsets of all segments
	decodes int
	chunk   int // tokens of the one segment that is longer
	times   ops.Times
	errs    []error // of each row's sampler
}

// draw is what a row of logits is for: a stream's next token, or the score of a
// prompt token (stream nil).
type draw struct {
	group  *group
	stream *Stream
}

// plan fills in the step: a row of every stream that decodes, oldest first, and
// the next chunk of whoever's turn it is.
func (s *Scheduler) plan() {
	w := &s.work
	w.step.IDs, w.step.Segments, w.step.Sampling = w.step.IDs[:0], w.step.Segments[:0], w.step.Sampling[:0]
	w.groups, w.draws, w.logits, w.decodes, w.chunk = w.groups[:0], w.draws[:0], w.logits[:0], 0, 0
	for i := 0; i < len(s.running); i++ {
		g := s.running[i]
		t := g.first()
		if g.reading() || t.waits() || !s.grow(g) {
			continue
		}
		w.segment(g, ops.Decode, 1)
		w.draw(g, t, 0)
		w.decodes++
	}
	if g := s.reader(); g != nil {
		s.last = g
		w.read(g, s.opts)
	}
}

// reader returns the group whose turn it is to read: the next after the last.
func (s *Scheduler) reader() (next *group) {
	for _, g := range s.running {
		if !g.reading() || g.first().waits() {
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

// segment adds the group's next n tokens; the wanted logits follow.
func (w *work) segment(g *group, kind ops.SegmentKind, n int) {
	t := g.first()
	w.step.IDs = append(w.step.IDs, t.ids[t.read:t.read+n]...)
	w.step.Segments = append(w.step.Segments, ops.Segment{Kind: kind, Slot: t.place.Slot, Start: t.read, Len: n, Pages: t.place.Pages})
	w.groups = append(w.groups, g)
}

// draw wants the logits at an offset of the last segment, for a stream's token.
func (w *work) draw(g *group, t *Stream, offset int) {
	w.want(draw{g, t}, offset, t.sampler.Draw(len(t.ids), t.req.Candidates))
}

func (w *work) want(d draw, offset int, sampling ops.Sampling) {
	before := len(w.logits)
	w.logits = append(w.logits, offset)
	segment := &w.step.Segments[len(w.step.Segments)-1]
	segment.Logits = w.logits[before-len(segment.Logits):]
	w.draws, w.step.Sampling = append(w.draws, d), append(w.step.Sampling, sampling)
}

// read adds a group's next chunk: of its prompt in chunk form, to a border or to
// the prompt's end; of tokens drawn before it was put aside, in step form.
func (w *work) read(g *group, opts Options) {
	t := g.first()
	prompt := len(t.req.Prompt)
	if t.read >= prompt {
		w.chunk = min(opts.Chunk, len(t.ids)-t.read)
		w.segment(g, ops.Replay, w.chunk)
	} else {
		w.chunk = opts.Chunk
		if t.req.PromptCandidates != nil {
			w.chunk = min(w.chunk, opts.LogitsRows)
		}
		w.chunk = min(w.chunk, prompt-t.read)
		w.segment(g, ops.Prefill, w.chunk)
		w.score(g)
	}
	if t.read+w.chunk == len(t.ids) {
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
		w.want(draw{g, nil}, at-t.read, ops.Sampling{Candidates: *t.req.PromptCandidates, Watch: t.ids[at+1]})
	}
}

// run runs the planned step and hands out what it gave.
func (s *Scheduler) run() {
	w := &s.work
	w.step.Samples = slices.Grow(w.step.Samples[:0], len(w.draws))[:len(w.draws)]
	w.times = ops.Times{}
	w.step.Times = &w.times
	start := time.Now()
	for _, g := range w.groups {
		if t := g.first(); t.started.IsZero() {
			for _, t := range g.streams {
				t.started = start
			}
		}
	}
	ctx, stop := s.begin()
	err := s.machine.Step(ctx, &w.step)
	took := time.Since(start)
	s.mu.Lock()
	s.abandon = nil
	s.stats.Steps.count(w.decodes, w.chunk, took)
	for i, d := range w.times {
		s.stats.PhaseTimes[i] += d
	}
	s.mu.Unlock()
	stop()
	for i, g := range w.groups {
		segment := &w.step.Segments[i]
		g.first().read += segment.Len
		if err == nil && len(g.streams) > 1 && g.first().read == len(g.first().ids) {
			err = s.fork(g)
		}
		if t := g.first(); t.drawn == 0 && t.read == len(t.ids) {
			s.mu.Lock()
			s.stats.PromptTokens += uint64(t.read)
			s.mu.Unlock()
		}
	}
	if err != nil {
		s.lose(err)
	} else {
		s.deliver()
	}
	s.split()
}

// begin notes whom the step is for: it is abandoned when all have left.
func (s *Scheduler) begin() (context.Context, func()) {
	ctx, stop := context.WithCancel(context.Background())
	s.mu.Lock()
	s.inStep = s.inStep[:0]
	for _, g := range s.work.groups {
		s.inStep = append(s.inStep, g.streams...)
	}
	s.abandon = stop
	s.count()
	s.mu.Unlock()
	s.left() // a context may have ended just before
	return ctx, stop
}

// lose ends every stream of a step that failed or was abandoned.
func (s *Scheduler) lose(err error) {
	for _, g := range s.work.groups {
		for _, t := range slices.Clone(g.streams) {
			if reason, why := t.ended(); reason != "" {
				s.finish(g, t, reason, why)
			} else {
				s.finish(g, t, "error", lost(err))
			}
		}
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
// the host do so side by side: none waits for the sum of all.
func (s *Scheduler) choose() {
	w := &s.work
	w.errs = slices.Grow(w.errs[:0], len(w.draws))[:len(w.draws)]
	var machine sync.Mutex
	var wait sync.WaitGroup
	for i, d := range w.draws {
		t := d.stream
		if t == nil {
			continue
		}
		row := func() (_ []float32, err error) {
			machine.Lock()
			defer machine.Unlock()
			t.row, err = s.machine.Row(t.row, i)
			return t.row, err
		}
		if w.step.Sampling[i].Window == 0 {
			w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row)
		} else {
			wait.Go(func() { w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row) })
		}
	}
	wait.Wait()
}

// deliver hands the samples of the step to streams and scores.
func (s *Scheduler) deliver() {
	s.choose()
	now := time.Now()
	var drawn uint64
	for i, d := range s.work.draws {
		sample := &s.work.step.Samples[i]
		switch t := d.stream; {
		case t == nil:
			score := *sample
			score.Candidates, score.Window = slices.Clone(sample.Candidates), nil
			d.group.scores = append(d.group.scores, score)
		case s.work.errs[i] != nil:
			s.finish(d.group, t, "error", s.work.errs[i])
		default:
			if t.drawn == 0 {
				t.prefilled, t.end.Prompt = now, d.group.scores
			}
			drawn++
			s.take(d.group, t, sample)
		}
	}
	s.mu.Lock()
	s.stats.GeneratedTokens += drawn
	s.mu.Unlock()
}

// take adds a drawn token to its stream.
func (s *Scheduler) take(g *group, t *Stream, sample *ops.Sample) {
	id := sample.Token.ID
	t.sampler.Accept(id)
	t.ids = append(t.ids, id)
	t.drawn++
	t.push(sample)
	switch {
	case t.req.Ends(id):
		s.finish(g, t, "stop", nil)
	case t.drawn == t.req.MaxTokens:
		s.finish(g, t, "length", nil)
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
