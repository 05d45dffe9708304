package sched

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// run runs the planned step and, as long as the next can be queued ahead, those
// that follow, so that the device never waits for the host.
func (s *Scheduler) run(w *work) {
	s.start(w)
	w.ask() // hooks answer while the step runs
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
	for _, g := range w.parts {
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
	for i, g := range w.parts {
		t, read, all := g.first(), &g.first().read, len(g.first().ids)
		if g.beside != nil {
			read, all = &g.beside.read, g.beside.length(t)
		}
		*read += w.step.Segments[i].Len
		g.in = w
		if t.drawn == 0 && *read == all {
			w.prompts += all
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
	s.collect()
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
		if d.beside != nil || d.stream != nil && (w.step.Sampling[i].Window > 0 || len(d.group.streams) > 1) {
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
	for _, g := range w.parts {
		if g.in == w {
			g.in = nil
		}
		if err == nil && g.in == nil && len(g.streams) > 1 && g.first().read == len(g.first().ids) {
			err = s.fork(g.group)
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
		w.routed()
		w.shown()
		s.deliver(w, took)
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
	for _, g := range w.parts {
		s.inStep = append(s.inStep, g.streams...)
	}
	s.abandon = stop
	s.count()
	s.mu.Unlock()
	s.left() // a context may have ended just before
	return ctx, stop
}

// lose ends every stream of a step that failed or was abandoned. Of a machine that is
// gone all are told the same.
func (s *Scheduler) lose(w *work, err error) {
	s.mu.Lock()
	err = cmp.Or(s.failed, err)
	s.mu.Unlock()
	for _, g := range w.parts {
		for _, t := range slices.Clone(g.streams) {
			if reason, why := t.ended(); reason != "" {
				s.end(g.group, t, reason, why)
			} else {
				s.end(g.group, t, "error", lost(err))
			}
		}
	}
}
