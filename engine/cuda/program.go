package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// program is a recording. One that has rows of tokens (the forward pass, the draft
// layer, the lens) runs in passes; one that does not (the draws) in one pass over the rows
// of Step.Sampling.
type program struct {
	b      *Backend
	rows   int // most rows of a step
	wanted int // most of them with logits
	vocab  int
	phases []phase
	reads  bool
	steer  *steering // nil without experts

	decode, prefill block
	graphs          []graph // by rows, ascending
	scratch         driver.Ptr

	layers, k                int // of the routing record
	decodeIDs, decodeWeights driver.Ptr
	chunkIDs, chunkWeights   driver.Ptr

	prepare, collect []func(step *ops.Step, parity int) error
	hosts            []driver.Host // of phases
	slots            [2]slot
	next             int
}

// graph is the captured launches of a decode pass of so many rows.
type graph struct {
	rows int
	exec driver.Graph
}

// slot is the host's side of a submitted step: there are two, so that the next step
// can be filled in while this one runs.
type slot struct {
	busy    bool
	done    driver.Event
	staging driver.Host // step blocks
	used    int
	routes  driver.Host // as much of the routing record as the step has rows

	residual     driver.Host // see residualBytes
	residualUsed int
	taken        []taken // of the step, not handed over yet
}

// stagingBytes holds the step blocks of a step, where it has rows for so many. A step
// with more waits for the copies of the first.
const stagingBytes = 4 << 20

// buckets are the rows that decode passes are captured for.
var buckets = []int{1, 2, 4, 8, 16, 32, decodeRows}

// Record implements ops.Backend. Everything that replays need is allocated here,
// and the graphs are captured.
func (b *Backend) Record(rows int, build func(ops.Set) error) (ops.Program, error) {
	p := &program{b: b, rows: rows}
	err := b.on(func() error {
		r := &recorder{b: b, rows: rows, halves: map[driver.Ptr]driver.Ptr{}}
		err := build(r)
		p.hosts = r.hosts
		if err := errors.Join(err, r.err); err != nil {
			return err
		}
		return p.open(r)
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *program) open(r *recorder) error {
	p.phases, p.vocab, p.reads, p.steer = r.phases, r.vocab, r.reads, r.steer
	p.layers, p.k = r.layers, r.k
	p.prepare, p.collect = r.prepare, r.collect
	if p.wanted = r.wanted; p.wanted == 0 { // nothing makes logits: what is asked for plays no part
		p.wanted = p.rows + decodeRows
	}
	alloc := func(what string, bytes int64) (at_ driver.Ptr, err error) {
		if bytes == 0 {
			return 0, nil
		}
		buf, err := p.b.scratch.Alloc(what, ops.U8, bytes)
		return at(buf), err
	}
	var err error
	if p.steer != nil {
		if err := p.steer.open(); err != nil {
			return err
		}
	}
	if p.scratch, err = alloc("scratch", r.scratch); err != nil {
		return err
	}
	p.decode = block{rows: decodeRows, segments: decodeRows, wanted: decodeRows, pages: decodeRows * max(r.pages, 1)}
	p.prefill = block{rows: p.rows, segments: 1, wanted: p.wanted, pages: max(r.pages, 1)}
	for _, k := range []*block{&p.decode, &p.prefill} {
		if k.at, err = alloc("step block", int64(k.bytes())); err != nil {
			return err
		}
	}
	record := int64(p.layers * p.k)
	for _, part := range []struct {
		at    *driver.Ptr
		bytes int64
	}{
		{&p.decodeIDs, decodeRows * record * 2}, {&p.decodeWeights, decodeRows * record * 4},
		{&p.chunkIDs, int64(p.rows) * record * 2}, {&p.chunkWeights, int64(p.rows) * record * 4},
	} {
		if *part.at, err = alloc("routing record", part.bytes); err != nil {
			return err
		}
	}
	for i := range p.slots {
		s := &p.slots[i]
		if s.done, err = p.b.driver.NewEvent(); err != nil {
			return err
		}
		if !p.reads {
			continue
		}
		if s.staging, err = p.b.driver.AllocHost(p.stagingBytes()); err != nil {
			return err
		}
		if record > 0 {
			if s.routes, err = p.b.driver.AllocHost(p.rows * int(record) * 6); err != nil {
				return err
			}
		}
		if bytes := p.residualBytes(); bytes > 0 {
			if s.residual, err = p.b.driver.AllocHost(bytes); err != nil {
				return err
			}
		}
	}
	if err := p.b.driver.Synchronise(p.b.stream); err != nil {
		return err
	}
	return p.capture()
}

// stagingBytes is the pinned memory of a slot for step blocks: there is a pass for each
// row at most.
func (p *program) stagingBytes() int {
	one := max(p.decode.bytes(), p.prefill.bytes())
	return max(min(stagingBytes, p.rows*(one+255)), one)
}

// pass returns what the launches of either class have in common.
func (p *program) pass(c class) pass {
	made := pass{class: c, scratch: p.scratch, stream: p.b.stream, overlap: p.b.properties.Arch >= 90}
	if c == decoding {
		p.decode.addresses(&made)
		made.routeIDs, made.routeWeights = p.decodeIDs, p.decodeWeights
	} else {
		p.prefill.addresses(&made)
		made.routeIDs, made.routeWeights = p.chunkIDs, p.chunkWeights
	}
	return made
}

// capture records a graph of the decode class for each bucket, the last one cut to
// the program's rows: behind those, buffers and scratch end.
func (p *program) capture() error {
	if !p.reads {
		return nil
	}
	for _, rows := range buckets {
		rows = min(rows, p.rows)
		pass := p.pass(decoding)
		pass.rows, pass.segments, pass.wanted = rows, rows, rows
		exec, err := p.graph(&pass, func(ops.Phase) bool { return true })
		if err != nil {
			return fmt.Errorf("cuda: capture of a step of %d rows: %w", rows, err)
		}
		p.graphs = append(p.graphs, graph{rows, exec})
		if rows == p.rows {
			break
		}
	}
	return nil
}

// graph captures the phases that are wanted.
func (p *program) graph(pass *pass, wanted func(ops.Phase) bool) (driver.Graph, error) {
	if err := p.b.driver.BeginCapture(pass.stream); err != nil {
		return 0, err
	}
	var failed error
	for _, phase := range p.phases {
		if wanted(phase.name) {
			if failed = phase.run(pass); failed != nil {
				failed = fmt.Errorf("%v: %w", phase.name, failed)
				break
			}
		}
	}
	exec, err := p.b.driver.EndCapture(pass.stream)
	return exec, errors.Join(failed, err)
}

// Submit implements ops.Program. Two steps may be on their way at a time.
func (p *program) Submit(step *ops.Step) (ops.Ticket, error) {
	s := &p.slots[p.next]
	if s.busy {
		return nil, errors.New("cuda: a third step was submitted before the first was waited for")
	}
	if p.reads {
		if err := p.check(step); err != nil {
			return nil, err
		}
	} else if len(step.Sampling) == 0 {
		return nil, errors.New("cuda: a step without draws was submitted to be drawn from")
	}
	t := &ticket{p: p, step: step, parity: p.next}
	err := p.b.on(func() error {
		err := p.submit(step, s, t.parity)
		if err == nil || errors.Is(err, driver.ErrDeviceLost) {
			return err
		}
		// What was queued before reads pinned memory that the next step fills in.
		return errors.Join(err, p.b.driver.Synchronise(p.b.stream))
	})
	if err != nil {
		return nil, err
	}
	s.busy, p.next = true, 1-p.next
	return t, nil
}

func (p *program) submit(step *ops.Step, s *slot, parity int) error {
	for _, prepare := range p.prepare {
		if err := prepare(step, parity); err != nil {
			return err
		}
	}
	if p.steer != nil {
		if err := p.steer.prepare(step); err != nil {
			return err
		}
	}
	s.used, s.residualUsed, s.taken = 0, 0, s.taken[:0]
	if step.Residual != nil && p.layers > 0 {
		step.Residual.Resize(step.Rows(), p.steer.hidden)
	}
	if !p.reads {
		pass := p.pass(decoding)
		pass.rows, pass.wanted = len(step.Sampling), len(step.Sampling)
		if err := p.launch(&pass); err != nil {
			return err
		}
	} else {
		for _, pieces := range cut(step) {
			if err := p.run(step, s, pieces); err != nil {
				return err
			}
		}
	}
	return p.b.driver.Record(s.done, p.b.stream)
}

// run puts one pass of a step into the stream.
func (p *program) run(step *ops.Step, s *slot, pieces []piece) error {
	rows, wanted := 0, 0
	for _, at := range pieces {
		rows += at.len
		for _, offset := range at.segment.Logits {
			if offset >= at.offset && offset < at.offset+at.len {
				wanted++
			}
		}
	}
	prefill := pieces[0].segment.Kind == ops.Prefill
	if !prefill && wanted > decodeRows {
		return fmt.Errorf("cuda: %d rows of logits of a decode pass: at most %d fit", wanted, decodeRows)
	}
	k, pass := p.decode, p.pass(decoding)
	if prefill {
		k, pass = p.prefill, p.pass(prefilling)
		k.rows = rows // the parts lie where a block of so many rows has them
		k.addresses(&pass)
		pass.rows, pass.segments, pass.wanted, pass.start = rows, 1, wanted, pieces[0].segment.Start
	}
	if s.used+k.bytes() > s.staging.Len() {
		if err := p.b.driver.Synchronise(p.b.stream); err != nil {
			return err
		}
		s.used = 0
	}
	to := s.staging.Slice(s.used, s.used+k.bytes())
	n := k.fill(to.Bytes(), step, pieces, p.table)
	s.used += (n + 255) &^ 255
	if err := p.b.driver.CopyIn(k.at, to.Slice(0, n), p.b.stream); err != nil {
		return err
	}
	if err := p.replay(step, s, &pass, pieces, max(rows, wanted), prefill); err != nil {
		return err
	}
	return p.takeRoutes(step, s, &pass, pieces)
}

// table is the steering table of a segment.
func (p *program) table(s *ops.Segment) int32 {
	if p.steer == nil {
		return -1
	}
	return p.steer.table(s)
}

// replay runs the phases: as a graph where one was captured and nobody looks in.
func (p *program) replay(step *ops.Step, s *slot, pass *pass, pieces []piece, rows int, prefill bool) error {
	if !prefill {
		at := slices.IndexFunc(p.graphs, func(g graph) bool { return g.rows >= rows })
		if at < 0 {
			return fmt.Errorf("cuda: %d rows, or rows of logits, in a decode pass: at most %d fit", rows, decodeRows)
		}
		if step.Tap == nil && !p.stops(step) {
			return p.b.driver.Replay(p.graphs[at].exec, pass.stream)
		}
		pass.rows, pass.segments, pass.wanted = p.graphs[at].rows, p.graphs[at].rows, p.graphs[at].rows
	}
	if step.Tap != nil {
		p.tap(step, pass, pieces)
	}
	if p.stops(step) {
		pass.gap = p.between(step, s, pieces).at
	}
	return p.launch(pass)
}

// tap lets Step.Tap look into a pass.
func (p *program) tap(step *ops.Step, pass *pass, pieces []piece) {
	for i, at := range pieces {
		before := 0
		for _, offset := range at.segment.Logits {
			if offset >= at.offset && offset < at.offset+at.len {
				pass.asked++
			} else if offset < at.offset {
				before++
			}
		}
		if i == 0 {
			pass.firstAsked = at.logits + before
		}
		pass.live += at.len
	}
	pass.tap = func(layer int, what string, rows, width int, from driver.Ptr) error {
		raw := make([]byte, 4*rows*width)
		if err := p.b.read(raw, from); err != nil {
			return err
		}
		values := make([]float32, rows*width)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		step.Tap(layer, what, width, values)
		return nil
	}
}

// launch runs the phases one by one.
func (p *program) launch(pass *pass) error {
	for _, phase := range p.phases {
		if err := phase.run(pass); err != nil {
			return fmt.Errorf("%v: %w", phase.name, err)
		}
		if pass.gap != nil && phase.gap.width > 0 {
			if err := pass.gap(phase.gap); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeRoutes queues the copies of a pass's routing record, where it was asked for:
// ids, then weights, of the step's rows.
func (p *program) takeRoutes(step *ops.Step, s *slot, pass *pass, pieces []piece) error {
	if step.Routes == nil || p.layers == 0 {
		return nil
	}
	record, row := p.layers*p.k, 0
	weights := p.rows * record * 2 // where weights begin in pinned memory
	for _, at := range pieces {
		n := at.len * record
		ids := s.routes.Slice(at.first*record*2, at.first*record*2+n*2)
		if err := p.b.driver.CopyOut(ids, pass.routeIDs+driver.Ptr(row*record*2), p.b.stream); err != nil {
			return err
		}
		from := weights + at.first*record*4
		if err := p.b.driver.CopyOut(s.routes.Slice(from, from+n*4), pass.routeWeights+driver.Ptr(row*record*4), p.b.stream); err != nil {
			return err
		}
		row += at.len
	}
	return nil
}

// ticket is a submitted step.
type ticket struct {
	p      *program
	step   *ops.Step
	parity int
}

// Wait implements ops.Ticket. A device cannot be stopped half-way: the step is
// always waited for, and whole when it is.
func (t *ticket) Wait(context.Context) error {
	s := &t.p.slots[t.parity]
	if !s.busy {
		return errors.New("cuda: a step was waited for twice")
	}
	err := t.p.b.on(func() error {
		if err := t.p.b.driver.SynchroniseEvent(s.done); err != nil {
			return err
		}
		for _, collect := range t.p.collect {
			if err := collect(t.step, t.parity); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		t.p.giveRoutes(t.step, s)
		s.giveResidual(t.step)
	}
	s.busy = false
	return err
}

// giveRoutes turns the routing record in pinned memory into Step.Routes.
func (p *program) giveRoutes(step *ops.Step, s *slot) {
	if step.Routes == nil || p.layers == 0 {
		return
	}
	r, n := step.Routes, step.Rows()*p.layers*p.k
	r.Layers, r.K = p.layers, p.k
	r.IDs = append(r.IDs[:0], part[uint16](s.routes.Bytes(), 0, n)...)
	r.Weights = append(r.Weights[:0], part[float32](s.routes.Bytes(), p.rows*p.layers*p.k*2, n)...)
}

// Close implements ops.Program.
func (p *program) Close() error {
	return p.b.release(func() error {
		errs := []error{p.b.driver.Synchronise(p.b.stream)}
		for _, g := range p.graphs {
			errs = append(errs, p.b.driver.DestroyGraph(g.exec))
		}
		for _, h := range p.hosts {
			errs = append(errs, p.b.driver.FreeHost(h))
		}
		for i := range p.slots {
			s := &p.slots[i]
			if s.done != 0 {
				errs = append(errs, p.b.driver.DestroyEvent(s.done))
			}
			for _, h := range []driver.Host{s.staging, s.routes, s.residual} {
				if h.Len() > 0 {
					errs = append(errs, p.b.driver.FreeHost(h))
				}
			}
		}
		if p.steer != nil {
			errs = append(errs, p.steer.close())
		}
		p.graphs, p.hosts, p.slots = nil, nil, [2]slot{}
		return errors.Join(errs...)
	})
}
