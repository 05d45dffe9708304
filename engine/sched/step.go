package sched

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// work is a step from its plan to its end. Its slices are used again.
type work struct {
	step    ops.Step
	groups  []*group // of each segment
	draws   []draw   // of each row of logits
	logits  []int    // offsets of all segments
	decodes int
	chunk   int    // tokens of the one segment that is longer
	reader  *group // whose they are
	times   ops.Times
	errs    []error // of each row's sampler

	began   time.Time
	prompts int        // tokens of the prompts that it reads to their ends
	forward ops.Ticket // nil before it was queued
	err     error      // of what was queued
	over    []ending   // of streams that ended while the step was queued already
}

// draw is what a row of logits is for: a stream's next token, or the score of a
// prompt token (stream nil).
type draw struct {
	group    *group
	stream   *Stream
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
	w.groups, w.draws, w.logits, w.decodes, w.chunk, w.reader = w.groups[:0], w.draws[:0], w.logits[:0], 0, 0, nil
	w.prompts, w.forward, w.err, w.over = 0, nil, nil, w.over[:0]
	for i := 0; i < len(s.running); i++ {
		g := s.running[i]
		t := g.first()
		switch {
		case t.over || g.reading() || t.waits():
			continue
		case before == nil:
			if !s.grow(g) {
				continue
			}
		case t.drawn+t.flying() >= t.req.MaxTokens:
			continue // it has drawn its last
		case !t.place.Grow(len(t.ids) + t.flying()):
			return false
		}
		w.segment(g, ops.Decode, 1)
		w.draw(g, t, 0)
		w.decodes++
	}
	if w.reader = s.reader(); w.reader != nil {
		w.read(w.reader, s.opts)
	}
	return true
}

// reader returns the group whose turn it is to read: the next after the last.
func (s *Scheduler) reader() (next *group) {
	for _, g := range s.running {
		if g.first().over || !g.reading() || g.first().waits() {
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
	if t.in != nil { // its token is being drawn
		w.step.IDs = append(w.step.IDs, ops.Drawn(t.at))
	} else {
		w.step.IDs = append(w.step.IDs, t.ids[t.read:t.read+n]...)
	}
	w.step.Segments = append(w.step.Segments, ops.Segment{Kind: kind, Slot: t.place.Slot, Start: t.read, Len: n, Pages: t.place.Pages})
	w.groups = append(w.groups, g)
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
		case t == nil:
			w.step.Sampling = append(w.step.Sampling, d.sampling)
		case t.over:
			w.step.Sampling = append(w.step.Sampling, ops.Sampling{Watch: -1}) // for nobody
		default:
			w.step.Sampling = append(w.step.Sampling, t.sampler.Draw(len(t.ids), t.req.Candidates))
		}
	}
	w.step.Samples = slices.Grow(w.step.Samples[:0], len(w.draws))[:len(w.draws)]
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
		w.want(draw{group: g, sampling: ops.Sampling{Candidates: *t.req.PromptCandidates, Watch: t.ids[at+1]}}, at-t.read)
	}
}

// run runs the planned step and, as long as the next can be queued ahead, those
// that follow, so that the device never waits for the host.
func (s *Scheduler) run(w *work) {
	w.ask()
	s.start(w)
	for {
		var draws ops.Ticket
		if s.machine.Ahead() && len(w.draws) > 0 && w.err == nil {
			draws, w.err = s.machine.Sample(&w.step)
		}
		next := s.next(w)
		s.settle(w, draws, next)
		if next == nil {
			return
		}
		w = next
		w.ask()
	}
}

// start queues the forward pass of a step. From here on its tokens count as read.
func (s *Scheduler) start(w *work) {
	w.times = ops.Times{}
	w.step.Times = &w.times
	w.began = time.Now()
	for _, g := range w.groups {
		if g.first().started.IsZero() {
			for _, t := range g.streams {
				t.started = w.began
			}
		}
	}
	w.forward, w.err = s.machine.Forward(&w.step)
	if w.reader != nil {
		s.last = w.reader
	}
	for i, g := range w.groups {
		t := g.first()
		t.read += w.step.Segments[i].Len
		g.in = w
		if t.drawn == 0 && t.read == len(t.ids) {
			w.prompts += t.read
		}
	}
	for i, d := range w.draws {
		if d.stream != nil {
			d.stream.in, d.stream.at = w, i
		}
	}
}

// next queues the step behind one that runs; nil where that one decides how to go
// on, or somebody waits for the machine.
func (s *Scheduler) next(w *work) *work {
	if !s.machine.Ahead() || w.err != nil || !s.steady(w) || s.machine.Wanted() {
		return nil
	}
	s.admit()
	next := &s.works[0]
	if next == w {
		next = &s.works[1]
	}
	if !s.plan(next, w) || len(next.step.IDs) == 0 {
		return nil
	}
	s.start(next)
	return next
}

// steady says whether the step behind w can be planned before w is done: the host
// chooses no token in w, no choices part there, nobody was put aside or has left.
func (s *Scheduler) steady(w *work) bool {
	for i, d := range w.draws {
		if d.stream != nil && (w.step.Sampling[i].Window > 0 || len(d.group.streams) > 1) {
			return false
		}
	}
	if len(s.aside) > 0 || slices.ContainsFunc(s.running, (*group).dead) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.closed == nil || len(s.queue) == 0) && !slices.ContainsFunc(s.queue, (*group).dead)
}

// settle waits for a step and hands out what it gave. next is the step that is
// queued behind it, if any.
func (s *Scheduler) settle(w *work, draws ops.Ticket, next *work) {
	ctx, stop := s.begin(w)
	err := s.wait(ctx, w, draws)
	now := time.Now()
	took := now.Sub(w.began)
	if s.settled.After(w.began) {
		took = now.Sub(s.settled) // it was queued behind another
	}
	s.settled = now
	s.mu.Lock()
	s.abandon = nil
	s.stats.Steps.count(w.decodes, w.chunk, took)
	s.stats.PromptTokens += uint64(w.prompts)
	for i, d := range w.times {
		s.stats.PhaseTimes[i] += d
	}
	s.mu.Unlock()
	stop()
	for _, e := range w.over {
		s.finish(e.group, e.stream, e.reason, e.err)
	}
	for _, g := range w.groups {
		if g.in == w {
			g.in = nil
		}
		if err == nil && g.in == nil && len(g.streams) > 1 && g.first().read == len(g.first().ids) {
			err = s.fork(g)
		}
	}
	for _, d := range w.draws {
		if d.stream != nil && d.stream.in == w {
			d.stream.in = nil
		}
	}
	if err != nil {
		s.lose(w, err)
	} else {
		s.deliver(w)
	}
	if next == nil {
		s.split()
	}
	s.running = slices.DeleteFunc(s.running, empty)
}

// wait waits for both halves of a step. A machine that is not ahead is given the
// second one when the first is done.
func (s *Scheduler) wait(ctx context.Context, w *work, draws ops.Ticket) error {
	err := w.err
	if w.forward != nil {
		err = errors.Join(err, w.forward.Wait(ctx))
	}
	if err == nil && draws == nil && len(w.draws) > 0 {
		draws, err = s.machine.Sample(&w.step)
	}
	if draws != nil {
		err = errors.Join(err, draws.Wait(ctx))
	}
	return err
}

// end ends a stream: at once, or with the step that still uses its memory.
func (s *Scheduler) end(g *group, t *Stream, reason string, err error) {
	if g.in == nil {
		s.finish(g, t, reason, err)
		return
	}
	if !t.over {
		t.over = true
		g.in.over = append(g.in.over, ending{g, t, reason, err})
	}
}

// begin notes whom the step is for: it is abandoned when all have left.
func (s *Scheduler) begin(w *work) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.Background())
	s.mu.Lock()
	s.inStep = s.inStep[:0]
	for _, g := range w.groups {
		s.inStep = append(s.inStep, g.streams...)
	}
	s.abandon = stop
	s.count()
	s.mu.Unlock()
	s.left() // a context may have ended just before
	return ctx, stop
}

// lose ends every stream of a step that failed or was abandoned.
func (s *Scheduler) lose(w *work, err error) {
	for _, g := range w.groups {
		for _, t := range slices.Clone(g.streams) {
			if reason, why := t.ended(); reason != "" {
				s.end(g, t, reason, why)
			} else {
				s.end(g, t, "error", lost(err))
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
func (s *Scheduler) choose(w *work) {
	w.errs = slices.Grow(w.errs[:0], len(w.draws))[:len(w.draws)]
	var machine sync.Mutex
	var wait sync.WaitGroup
	for i, d := range w.draws {
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
		if w.step.Sampling[i].Window == 0 {
			w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row)
		} else {
			wait.Go(func() { w.errs[i] = t.sampler.Choose(&w.step.Samples[i], row) })
		}
	}
	wait.Wait()
}

// deliver hands the samples of the step to streams and scores.
func (s *Scheduler) deliver(w *work) {
	s.choose(w)
	now := time.Now()
	var drawn uint64
	for i, d := range w.draws {
		sample := &w.step.Samples[i]
		switch t := d.stream; {
		case t == nil:
			score := *sample
			score.Candidates, score.Window = slices.Clone(sample.Candidates), nil
			d.group.scores = append(d.group.scores, score)
		case t.over:
			// It ended at the token before.
		case w.errs[i] != nil:
			s.end(d.group, t, "error", w.errs[i])
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
		s.end(g, t, "stop", nil)
	case t.drawn == t.req.MaxTokens:
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
