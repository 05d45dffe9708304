package sched

import (
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// inside is where the hooks of a step's streams look into its forward pass.
type inside struct {
	residual ops.Residual
	between  ops.Between
}

// lookIn begins a step with what a stream looks at that skipped one for others.
func (s *Scheduler) lookIn(w *work) {
	w.step.Residual, w.step.Between = nil, nil
	w.inside.residual.Layers = w.inside.residual.Layers[:0]
	w.inside.between = ops.Between{Do: w.within}
	if t := s.owed; t != nil && t.place != nil {
		w.inside.residual.Layers = append(w.inside.residual.Layers, t.hooks.Inside().Read...)
	}
	s.owed = nil
}

// wants says whether hooks look into the row at a position: the rows of the prompt but
// the last are only for those that want all.
func (t *Stream) wants(in *hook.Inside, position int) bool {
	return in.Prompt || position >= len(t.req.Prompt)-1
}

// looks says whether the next n rows of a group can be in the step: it hands out the
// residual of so many layers only.
func (s *Scheduler) looks(w *work, g *group, from, n int) bool {
	t := g.first()
	if t.hooks == nil {
		return true
	}
	in := t.hooks.Inside()
	if len(in.Read) == 0 || !t.wants(&in, min(from+n, len(t.ids))-1) || len(merge(w.inside.residual.Layers, in.Read)) <= ops.MaxResidualLayers {
		return true
	}
	if s.owed == nil {
		s.owed = t
	}
	return false
}

// look has the step stop, and its residual handed out, where the group's hooks look into
// one of n rows.
func (w *work) look(g *group, from, n int) {
	t := g.first()
	if t.hooks == nil {
		return
	}
	in := t.hooks.Inside()
	if in.Empty() || !t.wants(&in, from+n-1) {
		return
	}
	if len(in.Read) > 0 {
		w.inside.residual.Layers = merge(w.inside.residual.Layers, in.Read)
		w.step.Residual = &w.inside.residual
	}
	if len(in.Write)+len(in.Route) > 0 {
		b := &w.inside.between
		b.Residual, b.Router = merge(b.Residual, in.Write), merge(b.Router, in.Route)
		w.step.Between = b
	}
}

// merge returns what either of two ascending lists holds.
func merge(a, b []int) []int {
	both := append(slices.Clone(a), b...)
	slices.Sort(both)
	return slices.Compact(both)
}

// within calls the hooks of a row in the midst of the forward pass.
func (w *work) within(point ops.Point, layer, row int, values []float32) error {
	for i := range w.step.Segments {
		segment := &w.step.Segments[i]
		if row >= segment.Len {
			row -= segment.Len
			continue
		}
		t, position := w.parts[i].first(), segment.Start+row
		if t.hooks == nil || t.over || w.parts[i].beside != nil {
			return nil
		}
		in := t.hooks.Inside()
		place, layers := hook.AtRouter, in.Route
		if point == ops.ResidualOut {
			place, layers = hook.AtResidual, in.Write
		}
		if t.wants(&in, position) && slices.Contains(layers, layer) {
			t.hooks.Within(place, position, layer, values)
		}
		return nil
	}
	return nil
}

// shown tells hooks the residual of their streams' rows.
func (w *work) shown() {
	r := w.step.Residual
	if r == nil {
		return
	}
	row := 0
	for i, g := range w.parts {
		segment := &w.step.Segments[i]
		if t := g.first(); t.hooks != nil && !t.over && g.beside == nil {
			t.show(segment, r, row)
		}
		row += segment.Len
	}
}

// show tells a stream's hooks the residual of the rows of a segment that they want and
// have not been told of; row is the first.
func (t *Stream) show(segment *ops.Segment, r *ops.Residual, row int) {
	in := t.hooks.Inside()
	if len(in.Read) == 0 {
		return
	}
	for i := range segment.Len {
		position := segment.Start + i
		if !t.wants(&in, position) || position < t.shown {
			continue
		}
		t.shown = position + 1
		record := hook.HiddenRecord{Position: position, Prompt: position < len(t.req.Prompt), Width: r.Width}
		for _, layer := range in.Read {
			if place, ok := r.Place(layer); ok { // hooks that came since are told from their next row on
				record.Layers = append(record.Layers, layer)
				record.Values = append(record.Values, r.Row(row+i, place)...)
			}
		}
		if len(record.Layers) > 0 {
			t.hooks.Hidden(record)
		}
	}
}

// visit is something that somebody beside the loop wants of the machine.
type visit struct {
	do   func(Machine)
	done chan struct{}
}

// Visit has the loop do something with the machine, between steps or while one waits for
// hooks, and waits for it, but no longer than quit stays open. It says whether it was
// done. Hooks of streams that run may call it.
func (s *Scheduler) Visit(quit <-chan struct{}, do func(Machine)) bool {
	v := &visit{do: do, done: make(chan struct{})}
	s.mu.Lock()
	s.visits = append(s.visits, v)
	s.mu.Unlock()
	select {
	case s.visited <- struct{}{}:
	default: // it was told already
	}
	s.poke()
	select {
	case <-v.done:
		return true
	case <-quit:
	}
	s.mu.Lock()
	at := slices.Index(s.visits, v)
	if at >= 0 {
		s.visits = slices.Delete(s.visits, at, at+1)
	}
	s.mu.Unlock()
	if at < 0 { // the loop has it
		<-v.done
	}
	return at < 0
}

// receive does what visits want.
func (s *Scheduler) receive() {
	for {
		s.mu.Lock()
		if len(s.visits) == 0 {
			s.mu.Unlock()
			return
		}
		v := s.visits[0]
		s.visits = s.visits[1:]
		s.mu.Unlock()
		v.do(s.machine)
		close(v.done)
	}
}
