package sched

import (
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// How long a step's streams wait for the hooks of some: a quarter of what the step
// took, within these bounds. So hooks of the usual length cost nobody a step, and a
// slow one holds up its own stream only.
const (
	leastPatience = time.Millisecond
	mostPatience  = 10 * time.Millisecond
)

// choice is a token that hooks choose, on a goroutine of its own.
type choice struct {
	draw
	row    int // in the step
	sample ops.Sample
	err    error
	done   chan struct{} // closed when sample and err are final
	logits *logits
}

// logits are a row of the last step, fetched when they are asked for, once.
type logits struct {
	mu    sync.Mutex
	fetch func() ([]float32, error) // nil when row and err are there
	row   []float32
	err   error
}

// of is where the row is to be had, until the next step.
func (l *logits) of(fetch func() ([]float32, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetch = fetch
}

// get returns the row. Who calls it before the next step has it fetched in time.
func (l *logits) get() ([]float32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fetch != nil {
		l.row, l.err = l.fetch()
		l.fetch = nil
	}
	return l.row, l.err
}

// begun starts a choice. Its sample is a copy: it may outlive the step.
func (s *Scheduler) begun(d draw, row int, sample *ops.Sample, fetch func() ([]float32, error)) *choice {
	c := &choice{draw: d, row: row, sample: *sample, done: make(chan struct{}), logits: &logits{fetch: fetch}}
	c.sample.Candidates, c.sample.Window = slices.Clone(sample.Candidates), slices.Clone(sample.Window)
	go func() {
		c.err = c.stream.sampler.Choose(&c.sample, c.logits.get)
		close(c.done)
		s.poke()
	}()
	return c
}

// await waits for the choices of a step, and no longer than patience: those that are
// late then are collected later.
func (s *Scheduler) await(w *work, choices []*choice, patience time.Duration) {
	if len(choices) == 0 {
		return
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	passed := false
	for _, c := range choices {
		for !passed && !c.ready() {
			select {
			case <-c.done:
			case <-s.visited:
				s.receive()
			case <-limit.C:
				passed = true
			}
		}
		if c.ready() {
			w.step.Samples[c.row], w.errs[c.row] = c.sample, c.err
			continue
		}
		_, _ = c.logits.get() // the next step writes over it
		for _, b := range c.stream.beside {
			_, _ = b.logits.get()
		}
		c.stream.late = c
		s.late = append(s.late, c)
	}
}

// ready says that the choice is made.
func (c *choice) ready() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// collect takes the late tokens that hooks have chosen meanwhile.
func (s *Scheduler) collect() {
	waiting := s.late[:0]
	for _, c := range s.late {
		if !c.ready() {
			waiting = append(waiting, c)
			continue
		}
		c.stream.late = nil
		if reason, _ := c.stream.ended(); reason != "" {
			continue // swept next
		}
		if c.err == nil {
			s.mu.Lock()
			s.stats.GeneratedTokens++
			s.mu.Unlock()
		}
		if g := s.groupOf(c.stream); g != nil {
			s.take(g, c.stream, &c.sample, c.err)
		}
	}
	clear(s.late[len(waiting):])
	s.late = waiting
	s.running = slices.DeleteFunc(s.running, empty)
	s.aside = slices.DeleteFunc(s.aside, empty)
}

// groupOf finds the group that a stream is in by now.
func (s *Scheduler) groupOf(t *Stream) *group {
	for _, groups := range [2][]*group{s.running, s.aside} {
		for _, g := range groups {
			if slices.Contains(g.streams, t) {
				return g
			}
		}
	}
	return nil // a stream that is neither has ended
}

// askHooks asks hooks what to do with their streams' rows, side by side.
func (w *work) askHooks() {
	var wait sync.WaitGroup
	for i, d := range w.draws {
		if t := d.stream; t != nil && t.hooks != nil && !t.over {
			wait.Go(func() { w.step.Sampling[i] = t.sampler.Draw(len(t.ids), t.req.Candidates) })
		}
	}
	wait.Wait()
}

// steering returns how the stream's rows from a position on are steered, and how many
// of n are steered like the first; none where hooks end the stream.
func (t *Stream) steering(from, n int) (*ops.Steering, int) {
	if t.hooks == nil {
		return nil, n
	}
	first, err := t.hooks.Steer(from)
	if err != nil {
		t.fault = err
		t.s.poke() // the loop sweeps it
		return nil, 0
	}
	if from < len(t.req.Prompt) { // nothing changes within a prompt
		return first, n
	}
	for i := 1; i < n; i++ {
		if next, err := t.hooks.Steer(from + i); err != nil || next != first {
			return first, i
		}
	}
	return first, n
}

// record has the step's routing recorded if the group's hooks want to know.
func (w *work) record(g *group) {
	for _, t := range g.streams {
		if t.hooks == nil {
			continue
		}
		if decode, prompt := t.hooks.Routing(); decode || prompt {
			w.step.Routes = &w.routes
		}
	}
}

// routed tells hooks what their streams' rows were routed to.
func (w *work) routed() {
	if w.step.Routes == nil {
		return
	}
	row, size := 0, w.routes.Layers*w.routes.K
	for i, g := range w.parts {
		segment := &w.step.Segments[i]
		for _, t := range g.streams {
			if t.hooks != nil && !t.over && g.beside == nil {
				t.tell(segment, &w.routes, row*size)
			}
		}
		row += segment.Len
	}
}

// tell tells a stream's hooks of the rows of a segment that they want and have not
// been told of; at is where the record has the first.
func (t *Stream) tell(segment *ops.Segment, routes *ops.Routes, at int) {
	decode, prompt := t.hooks.Routing()
	size := routes.Layers * routes.K
	for i := range segment.Len {
		position := segment.Start + i
		of := position < len(t.req.Prompt)
		if wanted := prompt || decode && position >= len(t.req.Prompt)-1; !wanted || position < t.told {
			continue
		}
		t.told = position + 1
		from := at + i*size
		t.hooks.Routed(hook.Record{Position: position, Prompt: of, Layers: routes.Layers, K: routes.K,
			IDs: slices.Clone(routes.IDs[from:][:size]), Weights: slices.Clone(routes.Weights[from:][:size])})
	}
}
