// Package sched runs many streams on one machine. One goroutine owns the loop;
// each step holds one row of every stream that decodes and at most one chunk of
// a prompt, so a long prompt never stops running streams.
//
// Order: the queue is served by arrival, where each step of priority counts as
// much as Ageing of waiting. Two requests never change places, and a request is
// overtaken only by those that arrive within Ageing times the difference of
// priorities: none starves. Admitted prompts take turns, a chunk each.
//
// On a machine that is ahead, a step is queued while the one ahead of it runs: its
// rows are of tokens that the device knows first. The parameters of its draws follow
// when the host has seen those tokens. Who ended there has a row too many, whose
// sample nobody gets; its memory comes back when that step is done.
//
// Whose bits: chunks end on absolute borders of ops.ChunkTokens, drawn tokens
// are read in step form, and samplers see one row: neither the others in a step
// nor being put aside changes a stream.
package sched

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Ageing is the waiting time that one step of priority is worth.
const Ageing = 10 * time.Second

// maxPriority bounds priorities in both directions: to 14 hours of waiting.
const maxPriority = 5000

// Machine runs steps and moves what sequences carry. The scheduler's goroutine
// alone calls it, everything but Lock between Lock and Unlock.
type Machine interface {
	Lock()
	Unlock()
	// Forward queues the reading of all segments, and Sample the draws from the rows
	// of logits that the last Forward gives: it fills in step.Samples. Each ticket
	// is waited for. When its context ends it may stop half-way: nobody is left to
	// want what the step makes.
	Forward(step *ops.Step) (ops.Ticket, error)
	Sample(step *ops.Step) (ops.Ticket, error)
	// Ahead says whether a step may be queued before the one ahead of it is done,
	// with ops.Drawn ids of its draws. Otherwise one call is waited for before the
	// next.
	Ahead() bool
	// Wanted says whether somebody else waits for the lock.
	Wanted() bool
	// Row copies a row of logits of the last step into dst, which it makes if nil.
	Row(dst []float32, i int) ([]float32, error)
	// Lens returns the logits, [vocabulary], that a residual would have behind the last
	// layer. Those of the last step stay.
	Lens(residual []float32) ([]float32, error)
	CopySlot(dst, src int) error
	CopyPage(dst, src int32) error
	// Save copies what a sequence of so many tokens carries to host memory; Load
	// copies it back, into any place.
	Save(place *cache.Sequence, tokens int) ([]byte, error)
	Load(place *cache.Sequence, tokens int, saved []byte) error
}

// Options of New.
type Options struct {
	Chunk      int    // most prompt tokens of a step, a multiple of ops.ChunkTokens
	LogitsRows int    // most of them with logits, likewise
	Queue      int    // most requests that wait for a stream
	Overcommit string // "", "swap" or "rebuild"
}

// Scheduler runs the streams of one machine and cache. It is safe for
// concurrent use.
type Scheduler struct {
	machine Machine
	cache   *cache.Cache
	turn    *cache.Turn
	opts    Options
	wake    chan struct{}
	done    chan struct{}

	mu       sync.Mutex
	queue    []*group // by arrived
	closed   error    // why nothing more is taken
	failed   error    // why nobody goes on
	stats    Stats
	resident time.Duration // how long streams stay, smoothed
	inStep   []*Stream     // whom the step that runs is for
	abandon  func()        // stops it; nil between steps
	visits   []*visit      // that wait for the machine

	// Owned by the loop.
	running []*group // by order, oldest first
	aside   []*group // put aside, likewise
	orders  uint64
	last    *group        // the last to read a chunk
	works   [2]work       // the step that runs, and the one queued behind it
	settled time.Time     // when the last step was done
	late    []*choice     // tokens that hooks still choose
	owed    *Stream       // who skipped a step because of what others looked at
	visited chan struct{} // holds a value when a visit has come
}

// New starts a scheduler. Close ends it.
func New(m Machine, c *cache.Cache, opts Options) *Scheduler {
	s := &Scheduler{machine: m, cache: c, turn: c.NewTurn(), opts: opts,
		wake: make(chan struct{}, 1), done: make(chan struct{}), visited: make(chan struct{}, 1)}
	s.stats.Finished = map[string]uint64{"stop": 0, "length": 0, "cancelled": 0, "error": 0}
	s.stats.Steps = StepStats{Bounds: bounds, Buckets: make([]uint64, len(bounds)+1)}
	go s.loop()
	return s
}

// poke wakes the loop if it sleeps.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it was told already
	}
}

// left is called when a stream's context has ended. A step that only such streams
// are in is abandoned.
func (s *Scheduler) left() {
	s.mu.Lock()
	if s.abandon != nil && !slices.ContainsFunc(s.inStep, func(t *Stream) bool { return t.ctx.Err() == nil }) {
		s.abandon()
	}
	s.mu.Unlock()
	s.poke()
}

// Close ends waiting requests with err, lets running streams finish, and waits
// for them and the loop.
func (s *Scheduler) Close(err error) {
	s.mu.Lock()
	if s.closed == nil {
		s.closed = err
	}
	s.mu.Unlock()
	s.poke()
	<-s.done
}

// Fail ends every stream, running or waiting, with err, which also refuses those that
// come later: the machine is gone. It does not wait for them.
func (s *Scheduler) Fail(err error) {
	s.mu.Lock()
	s.failed = cmp.Or(s.failed, err)
	s.closed = cmp.Or(s.closed, err)
	s.mu.Unlock()
	s.poke()
}

// Submit queues a request, one stream for each choice. Choices that fit in the
// cache together share one reading of the prompt; else there are several
// readings. Every stream must be waited for. The error is a *QueueError, or why
// the scheduler is closed, or says that a choice never fits.
func (s *Scheduler) Submit(req Request, choices []Choice) ([]*Stream, error) {
	arrived := time.Now()
	streams := make([]*Stream, len(choices))
	for i, choice := range choices {
		if len(choice.Beside) > 0 && len(choices) > 1 {
			return nil, errors.New("sched: choices with sequences beside are requests of their own")
		}
		t := &Stream{s: s, req: &req, ctx: choice.Context, sampler: choice.Sampler, beside: choice.Beside,
			tokens: make(chan ops.Sample, req.Ahead+req.Hold), ids: slices.Clone(req.Prompt), queued: arrived}
		t.hooks, _ = choice.Sampler.(Hooked)
		streams[i] = t
	}
	ahead := time.Duration(min(max(req.Priority, -maxPriority), maxPriority)) * Ageing
	var groups []*group
	for left := streams; len(left) > 0; {
		g := &group{streams: slices.Clone(left), arrived: arrived.Add(-ahead)}
		for !s.fits(g) {
			if slots := 1 + len(g.first().beside); len(g.streams) == 1 && slots > 1 {
				return nil, fmt.Errorf("%d prompt tokens, %d to make and %d sequences beside do not fit in the cache: lower max_tokens, or allow more than %d streams at a time", len(req.Prompt), req.MaxTokens, slots-1, slots-1)
			}
			if len(g.streams) == 1 {
				return nil, fmt.Errorf("%d prompt tokens and %d to make do not fit in the cache: shorten the prompt or lower max_tokens", len(req.Prompt), req.MaxTokens)
			}
			g.streams = g.streams[:len(g.streams)-1]
		}
		groups, left = append(groups, g), left[len(g.streams):]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return nil, s.closed
	}
	if _, free, _ := s.cache.Free(); len(s.queue) >= s.opts.Queue+free {
		s.stats.Refused++
		return nil, &QueueError{Limit: s.opts.Queue, RetryAfter: s.retry()}
	}
	for _, g := range groups {
		at, _ := slices.BinarySearchFunc(s.queue, g, func(q, g *group) int {
			if q.arrived.After(g.arrived) {
				return 1
			}
			return -1 // equals go behind
		})
		s.queue = slices.Insert(s.queue, at, g)
	}
	for _, t := range streams {
		t.unwatch = context.AfterFunc(t.ctx, s.left)
	}
	s.poke()
	return streams, nil
}

// fits says whether a group can be admitted at all, and each of its streams go
// on to its end.
func (s *Scheduler) fits(g *group) bool {
	t := g.first()
	alone := cache.Need{Tokens: len(t.req.Prompt) + t.req.MaxTokens, Count: 1}
	for _, b := range t.beside {
		alone.Tokens, alone.Count = max(alone.Tokens, len(b.prompt)+t.req.MaxTokens), alone.Count+1
	}
	return s.cache.Fits(s.need(g, 0)) && s.cache.Fits(alone)
}

// retry estimates when one waiting request will have been admitted.
func (s *Scheduler) retry() time.Duration {
	return max(s.resident/time.Duration(max(s.stats.Running, 1)), 100*time.Millisecond)
}

// Stats returns the counters. It never waits for a step.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Finished = maps.Clone(out.Finished)
	out.Steps.Buckets = slices.Clone(out.Steps.Buckets)
	for _, g := range s.queue {
		out.Queued += len(g.streams)
	}
	pages, slots, _ := s.cache.Free()
	out.PagesTotal, out.SlotsTotal = s.cache.Size()
	out.PagesUsed, out.SlotsUsed = out.PagesTotal-pages, out.SlotsTotal-slots
	return out
}

// loop runs steps until the scheduler is closed and nobody is left.
func (s *Scheduler) loop() {
	defer close(s.done)
	defer s.turn.Leave()
	for {
		s.collect()
		s.sweep()
		s.machine.Lock()
		s.receive()
		s.admit()
		w := &s.works[0]
		s.plan(w, nil)
		rows := len(w.step.IDs)
		if rows > 0 {
			s.run(w)
		}
		s.machine.Unlock()
		s.mu.Lock()
		s.count()
		over := s.closed != nil && len(s.queue)+len(s.running)+len(s.aside) == 0
		s.mu.Unlock()
		if over {
			return
		}
		if rows == 0 {
			select {
			case <-s.wake:
			case <-s.turn.Ready:
			}
		}
	}
}

// count publishes how many streams are where. The caller holds the lock.
func (s *Scheduler) count() {
	s.stats.Running, s.stats.Swapped = 0, 0
	for _, g := range s.running {
		s.stats.Running += len(g.streams)
	}
	for _, g := range s.aside {
		s.stats.Swapped += len(g.streams)
	}
}

// sweep ends the streams that must not go on, wherever they are.
func (s *Scheduler) sweep() {
	s.mu.Lock()
	closed, failed := s.closed, s.failed
	var queue []*group
	for _, g := range s.queue {
		if closed != nil || g.dead() {
			queue = append(queue, g)
		}
	}
	s.mu.Unlock()
	for _, g := range queue {
		if failed != nil {
			s.bury(g, "error", failed)
		} else {
			s.bury(g, "cancelled", closed)
		}
	}
	for _, groups := range [2][]*group{s.running, s.aside} {
		for _, g := range groups {
			if failed != nil {
				s.bury(g, "error", lost(failed))
			} else {
				s.bury(g, "", nil)
			}
		}
	}
	s.mu.Lock()
	s.queue = slices.DeleteFunc(s.queue, empty)
	s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, empty)
	s.aside = slices.DeleteFunc(s.aside, empty)
}

// bury ends those of a group that must not go on; all, where there is an error for
// the others.
func (s *Scheduler) bury(g *group, others string, why error) {
	if why == nil && !g.dead() {
		return
	}
	for _, t := range slices.Clone(g.streams) {
		reason, err := t.ended()
		if reason == "" && why != nil {
			reason, err = others, why
		}
		if reason != "" && t.late == nil { // else when its hooks are done
			s.finish(g, t, reason, err)
		}
	}
}

func empty(g *group) bool { return len(g.streams) == 0 }

// dead says whether a stream of the group has ended.
func (g *group) dead() bool {
	return slices.ContainsFunc(g.streams, func(t *Stream) bool { reason, _ := t.ended(); return reason != "" })
}

// finish takes a stream out of its group, gives its memory back and tells its
// consumer. A group whose first stream goes while reading is read on by the next.
func (s *Scheduler) finish(g *group, t *Stream, reason string, err error) {
	if g.first() == t && len(g.streams) > 1 {
		next := g.streams[1]
		next.place, t.place = t.place, next.place
		next.read, next.started = t.read, t.started
	}
	rest := slices.DeleteFunc(slices.Clone(g.streams), func(other *Stream) bool { return other == t })
	s.mu.Lock()
	g.streams = rest // Stats may be counting the queue
	s.mu.Unlock()
	t.leave()
	t.saved = nil
	if err == nil {
		t.release(0)
	}
	t.unwatch()
	now := time.Now()
	t.end.Err, t.end.Reason = err, reason
	switch {
	case t.started.IsZero():
		t.end.Queued = now.Sub(t.queued)
	case t.prefilled.IsZero():
		t.end.Queued, t.end.Prefill = t.started.Sub(t.queued), now.Sub(t.started)
	default:
		t.end.Queued, t.end.Prefill, t.end.Decode = t.started.Sub(t.queued), t.prefilled.Sub(t.started), now.Sub(t.prefilled)
	}
	s.mu.Lock()
	s.stats.Finished[reason]++
	if !t.started.IsZero() {
		stayed := now.Sub(t.started)
		if s.resident == 0 {
			s.resident = stayed
		}
		s.resident += (stayed - s.resident) / 8
	}
	s.count()
	s.mu.Unlock()
	close(t.tokens)
}

// admit brings back what was put aside, oldest first, then admits from the
// queue, both while they fit. Under overcommit a page for each running stream
// stays free, so that not every border of pages puts somebody aside.
func (s *Scheduler) admit() {
	for len(s.aside) > 0 {
		g := s.aside[0]
		if !s.place(g) {
			return
		}
		s.aside = slices.Delete(s.aside, 0, 1)
		s.restore(g)
	}
	for {
		s.mu.Lock()
		var g *group
		if len(s.queue) > 0 {
			g = s.queue[0]
		}
		s.mu.Unlock()
		if g == nil {
			s.turn.Leave()
			return
		}
		if !s.place(g) {
			return
		}
		// A group with a higher priority may have come meanwhile; it is next.
		s.mu.Lock()
		s.queue = slices.DeleteFunc(s.queue, func(other *group) bool { return other == g })
		s.stats.Admitted += uint64(len(g.streams))
		s.mu.Unlock()
		g.order = s.orders
		s.orders += uint64(len(g.streams))
		s.running = append(s.running, g)
	}
}

// place takes memory for a group.
func (s *Scheduler) place(g *group) bool {
	places, ok := s.turn.TryAcquire(s.need(g, len(s.running)))
	if !ok {
		return false
	}
	for i, t := range g.streams {
		t.place = places[i]
	}
	for i, b := range g.first().beside {
		b.place = places[len(g.streams)+i]
	}
	return true
}

// restore puts a group that has its place again where it was.
func (s *Scheduler) restore(g *group) {
	t := g.first()
	at, _ := slices.BinarySearchFunc(s.running, g.order, func(other *group, order uint64) int {
		if other.order < order {
			return -1
		}
		return 1
	})
	s.running = slices.Insert(s.running, at, g)
	s.mu.Lock()
	s.stats.Restored += uint64(len(g.streams))
	s.mu.Unlock()
	if t.saved == nil {
		return
	}
	saved := t.saved
	t.saved = nil
	if err := s.machine.Load(t.place, t.read, saved); err != nil {
		s.finish(g, t, "error", lost(err))
		s.running = slices.DeleteFunc(s.running, empty)
	}
}

// putAside takes a group's memory. Drawn tokens stay; a swap keeps the state, a
// rebuild reads them again; prompts half read begin anew in both.
func (s *Scheduler) putAside(g *group) {
	s.running = slices.DeleteFunc(s.running, func(other *group) bool { return other == g })
	t := g.first()
	if s.opts.Overcommit == "swap" && !g.reading() && len(t.beside) == 0 {
		var err error
		if t.saved, err = s.machine.Save(t.place, t.read); err != nil {
			s.finish(g, t, "error", lost(err))
			return
		}
	} else {
		t.restart()
	}
	for _, t := range g.streams {
		t.leave()
	}
	at, _ := slices.BinarySearchFunc(s.aside, g.order, func(other *group, order uint64) int {
		if other.order < order {
			return -1
		}
		return 1
	})
	s.aside = slices.Insert(s.aside, at, g)
	s.mu.Lock()
	s.stats.Preempted += uint64(len(g.streams))
	s.mu.Unlock()
}

// grow takes the page of a group's next token, if need be from the newest. It
// says whether the group may decode; the newest of all is put aside itself.
func (s *Scheduler) grow(g *group) bool {
	t := g.first()
	for !t.grow() {
		newest := s.running[len(s.running)-1]
		if newest == g && len(s.running) == 1 {
			return false // sequences that are not ours hold the rest
		}
		s.putAside(newest)
		if newest == g {
			return false
		}
	}
	return true
}
