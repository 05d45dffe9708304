package cpu

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// gap is what a step may read and change behind a phase: rows of width values. The
// zero gap is none.
type gap struct {
	point  ops.Point
	layer  int
	values ops.Buf
	width  int
}

// gap says what lies behind the phase added last.
func (r *recorder) gap(point ops.Point, layer int, values ops.Buf, width int) {
	r.p.phases[len(r.p.phases)-1].gap = gap{point, layer, values, width}
}

// stop hands the values behind a phase to a step that wants them.
func (r *run) stop(g gap) error {
	if g.width == 0 {
		return nil
	}
	if r.Between.Stops(g.point, g.layer) {
		if err := r.change(g); err != nil {
			return err
		}
	}
	if place, ok := r.Residual.Place(g.layer); ok && g.point == ops.ResidualOut {
		values := floats(g.values)
		for row := range r.rows {
			copy(r.Residual.Row(row, place), values[row*g.width:])
		}
	}
	return nil
}

// change lets Between.Do at the values of each row, in memory of their own: what it
// keeps must not point into memory that is not the heap's.
func (r *run) change(g gap) error {
	values, own := floats(g.values), make([]float32, g.width)
	for row := range r.rows {
		there := values[row*g.width:][:g.width]
		copy(own, there)
		if err := r.Between.Do(g.point, g.layer, row, own); err != nil {
			return fmt.Errorf("cpu: %v of layer %d, row %d: %w", g.point, g.layer, row, err)
		}
		copy(there, own)
	}
	return nil
}
