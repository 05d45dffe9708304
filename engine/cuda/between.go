package cuda

import (
	"bytes"
	"fmt"
	"slices"
	"unsafe"

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

	values []float32 // of a gap
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

// change lets Between.Do at the values of each row and writes back those that it
// changed. They lie on the heap: the bounce buffer is what else Do submits goes through.
func (b *between) change(g gap) error {
	n := len(b.rows) * g.width
	b.values = slices.Grow(b.values[:0], n)[:n]
	if err := b.p.b.read(memoryOf(b.values), g.at); err != nil {
		return err
	}
	before, first := make([]float32, g.width), 0 // the first row of a run that was changed
	write := func(end int) error {
		if first == end {
			return nil
		}
		return b.p.b.write(g.at+driver.Ptr(4*first*g.width), memoryOf(b.values[first*g.width:end*g.width]))
	}
	for i, row := range b.rows {
		values := b.values[i*g.width:][:g.width:g.width]
		copy(before, values)
		if err := b.step.Between.Do(g.point, g.layer, row, values); err != nil {
			return fmt.Errorf("cuda: %v of layer %d, row %d: %w", g.point, g.layer, row, err)
		}
		if bytes.Equal(memoryOf(before), memoryOf(values)) {
			if err := write(i); err != nil {
				return err
			}
			first = i + 1
		}
	}
	return write(len(b.rows))
}

// memoryOf is the bytes of values.
func memoryOf(values []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
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
