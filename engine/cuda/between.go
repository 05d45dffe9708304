package cuda

import (
	"fmt"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// gap is what a step may read and change behind a phase: rows of width fp32 values,
// of which nobody has a copy. The zero gap is none.
type gap struct {
	point ops.Point
	layer int
	at    driver.Ptr
	width int
}

// gap says what lies behind the phase added last.
func (r *recorder) gap(point ops.Point, layer int, values ops.Buf, width int) {
	r.phases[len(r.phases)-1].gap = gap{point, layer, at(values), width}
}

// stops says whether a step wants something between its phases: then they run one by
// one, with the bits of their graph.
func (p *program) stops(step *ops.Step) bool {
	return p.layers > 0 && (step.Residual != nil && len(step.Residual.Layers) > 0 ||
		step.Between != nil && len(step.Between.Router)+len(step.Between.Residual) > 0)
}

// checkBetween refuses layers that are not there.
func (p *program) checkBetween(step *ops.Step) error {
	if p.layers == 0 {
		return nil
	}
	if err := step.Residual.Check(p.layers); err != nil {
		return err
	}
	return step.Between.Check(p.layers)
}

// between is a pass of a step that wants something between its phases.
type between struct {
	p    *program
	step *ops.Step
	slot *slot
	rows []int // of the pass: their places in the step
}

func (p *program) between(step *ops.Step, s *slot, pieces []piece) *between {
	b := &between{p: p, step: step, slot: s}
	for _, at := range pieces {
		for i := range at.len {
			b.rows = append(b.rows, at.first+i)
		}
	}
	return b
}

// at hands the values behind a phase to the step.
func (b *between) at(g gap) error {
	if b.step.Between.Stops(g.point, g.layer) {
		if err := b.change(g); err != nil {
			return err
		}
	}
	if place, ok := b.step.Residual.Place(g.layer); ok && g.point == ops.ResidualOut {
		return b.take(g, place)
	}
	return nil
}

// change lets Between.Do at the values of each row, as many rows at a time as the
// bounce buffer holds, and writes back those that it changed. Do works on a copy, so
// that nothing that it keeps points into pinned memory.
func (b *between) change(g gap) error {
	d, stream, own := b.p.b.driver, b.p.b.stream, make([]float32, g.width)
	size := 4 * g.width
	most := b.p.b.bounce.Len() / size
	for first := 0; first < len(b.rows); first += most {
		n := min(most, len(b.rows)-first)
		host, from := b.p.b.bounce.Slice(0, n*size), g.at+driver.Ptr(first*size)
		if err := d.CopyOut(host, from, stream); err != nil {
			return err
		}
		if err := d.Synchronise(stream); err != nil {
			return err
		}
		changed := make([]bool, n)
		for i, row := range b.rows[first:][:n] {
			there := part[float32](host.Bytes(), i*size, g.width)
			copy(own, there)
			if err := b.step.Between.Do(g.point, g.layer, row, own); err != nil {
				return fmt.Errorf("cuda: %v of layer %d, row %d: %w", g.point, g.layer, row, err)
			}
			changed[i] = !slices.EqualFunc(own, there, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
			copy(there, own)
		}
		if err := b.put(host, from, size, changed); err != nil {
			return err
		}
	}
	return nil
}

// put copies runs of changed rows to the device and waits, so that the bounce buffer
// is free.
func (b *between) put(host driver.Host, to driver.Ptr, size int, changed []bool) error {
	some := false
	for low := 0; low < len(changed); low++ {
		high := low
		for high < len(changed) && changed[high] {
			high++
		}
		if high == low {
			continue
		}
		some = true
		if err := b.p.b.driver.CopyIn(to+driver.Ptr(low*size), host.Slice(low*size, high*size), b.p.b.stream); err != nil {
			return err
		}
		low = high
	}
	if !some {
		return nil
	}
	return b.p.b.driver.Synchronise(b.p.b.stream)
}

// taken is residual on its way to the pinned memory of a slot.
type taken struct {
	from  int // byte
	place int // of the layer in Step.Residual
	rows  []int
}

// residualBytes is the pinned memory of a slot for residual: what all rows of a decode
// pass have behind the most layers, 4 MB of 64 rows of 2,048 values behind 8.
func (p *program) residualBytes() int {
	if p.steer == nil {
		return 0
	}
	return 4 * p.steer.hidden * min(p.rows, decodeRows) * min(p.layers, ops.MaxResidualLayers)
}

// take queues the copies of the residual behind a layer. Where there is no room for
// more, what is on its way is waited for and handed over.
func (b *between) take(g gap, place int) error {
	size, s := 4*g.width, b.slot
	for first := 0; first < len(b.rows); {
		n := min(len(b.rows)-first, (s.residual.Len()-s.residualUsed)/size)
		if n == 0 {
			if err := b.p.b.driver.Synchronise(b.p.b.stream); err != nil {
				return err
			}
			s.giveResidual(b.step)
			continue
		}
		to := s.residual.Slice(s.residualUsed, s.residualUsed+n*size)
		if err := b.p.b.driver.CopyOut(to, g.at+driver.Ptr(first*size), b.p.b.stream); err != nil {
			return err
		}
		s.taken = append(s.taken, taken{s.residualUsed, place, b.rows[first:][:n]})
		s.residualUsed, first = s.residualUsed+n*size, first+n
	}
	return nil
}

// giveResidual puts what has arrived in pinned memory into Step.Residual.
func (s *slot) giveResidual(step *ops.Step) {
	for _, t := range s.taken {
		values := part[float32](s.residual.Bytes(), t.from, len(t.rows)*step.Residual.Width)
		for i, row := range t.rows {
			copy(step.Residual.Row(row, t.place), values[i*step.Residual.Width:])
		}
	}
	s.taken, s.residualUsed = s.taken[:0], 0
}
