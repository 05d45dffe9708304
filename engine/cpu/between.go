package cpu

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// cut is what a step may read and change behind a phase: rows of width values. The
// zero cut is none.
type cut struct {
	point  ops.Point
	layer  int
	values ops.Buf
	width  int
}

// cut says what the phase added last leaves behind.
func (r *recorder) cut(point ops.Point, layer int, values ops.Buf, width int) {
	r.p.phases[len(r.p.phases)-1].cut = cut{point, layer, values, width}
}

// stop hands the values behind a phase to a step that wants them.
func (r *run) stop(c cut) error {
	if c.width == 0 {
		return nil
	}
	if r.Between.Stops(c.point, c.layer) {
		if err := r.change(c); err != nil {
			return err
		}
	}
	if place, ok := r.Residual.Place(c.layer); ok && c.point == ops.ResidualOut {
		values := floats(c.values)
		for row := range r.rows {
			copy(r.Residual.Row(row, place), values[row*c.width:])
		}
	}
	return nil
}

// change lets Between.Do at the values of each row. It works on a copy, so that
// nothing that it keeps points into memory that is not the heap's.
func (r *run) change(c cut) error {
	values, own := floats(c.values), make([]float32, c.width)
	for row := range r.rows {
		there := values[row*c.width:][:c.width]
		copy(own, there)
		if err := r.Between.Do(c.point, c.layer, row, own); err != nil {
			return fmt.Errorf("cpu: %v of layer %d, row %d: %w", c.point, c.layer, row, err)
		}
		copy(there, own)
	}
	return nil
}
