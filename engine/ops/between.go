package ops

import (
	"errors"
	"fmt"
	"slices"
)

// Point is a place inside the forward pass where values can be read and changed.
type Point uint8

const (
	// RouterLogits are what a layer's router said of each expert, before steering's
	// bias and the choice.
	RouterLogits Point = iota
	// ResidualOut is the residual behind a layer, its steering vector added.
	ResidualOut
)

func (p Point) String() string { return [...]string{"router logits", "residual"}[p] }

// MaxResidualLayers is the most layers that a step hands out the residual of: of a
// chunk of 8,192 rows of 2,048 values they are 537 MB.
const MaxResidualLayers = 8

// Residual asks for the residual behind some layers, of every row of a step, as the
// next layer reads it. A backend fills it in before the step's ticket has been waited
// for. A program without layers, such as that of the draws, leaves it alone.
type Residual struct {
	Layers []int     // ascending, each once, at most MaxResidualLayers
	Width  int       // of the residual
	Values []float32 // [rows, len(Layers), Width]
}

// Check refuses layers that a program of so many does not have. Nil asks for nothing.
func (r *Residual) Check(layers int) error {
	if r == nil {
		return nil
	}
	if len(r.Layers) > MaxResidualLayers {
		return fmt.Errorf("ops: the residual behind %d layers: a step hands out %d at most, take several steps", len(r.Layers), MaxResidualLayers)
	}
	return checkLayers(ResidualOut, r.Layers, layers)
}

// Resize makes room for the values of so many rows.
func (r *Residual) Resize(rows, width int) {
	n := rows * len(r.Layers) * width
	r.Width, r.Values = width, slices.Grow(r.Values[:0], n)[:n]
}

// Place is which of Layers a layer is. Nil has none.
func (r *Residual) Place(layer int) (place int, ok bool) {
	if r == nil {
		return 0, false
	}
	return slices.BinarySearch(r.Layers, layer)
}

// Row is where Values has a row's residual behind layer Layers[place].
func (r *Residual) Row(row, place int) []float32 {
	return r.Values[(row*len(r.Layers)+place)*r.Width:][:r.Width]
}

// Between stops a step between its phases to read values and change them on the host.
// What Residual hands out is changed already; a Tap sees values as they were made. A
// program without layers, such as that of the draws, leaves it alone.
type Between struct {
	// Router and Residual are the layers where it stops: at their RouterLogits, and at
	// their ResidualOut. Ascending, each once.
	Router, Residual []int
	// Do is called for each row of the step, an index among its ids, at each of these
	// places, with what is there: a logit for each expert, or the residual. It may change
	// values in place; they are its own until it returns. Calls come one after another,
	// for a row in the order of the pass; a backend may take some rows through all layers
	// before it begins with others. Do may submit a step to a
	// program without layers and wait for it. Its error fails the step, and what the step
	// wrote to the cache is lost.
	Do func(point Point, layer, row int, values []float32) error
}

// Check refuses layers that a program of so many does not have. Nil stops nowhere.
func (b *Between) Check(layers int) error {
	if b == nil {
		return nil
	}
	if b.Do == nil && len(b.Router)+len(b.Residual) > 0 {
		return errors.New("ops: a step that stops between its phases, with nothing to do there: set Between.Do")
	}
	return errors.Join(checkLayers(RouterLogits, b.Router, layers), checkLayers(ResidualOut, b.Residual, layers))
}

// Stops says whether there is something to do at a point of a layer. Nil stops nowhere.
func (b *Between) Stops(point Point, layer int) bool {
	if b == nil {
		return false
	}
	list := b.Router
	if point == ResidualOut {
		list = b.Residual
	}
	_, ok := slices.BinarySearch(list, layer)
	return ok
}

// checkLayers refuses layers out of order, or that are not there.
func checkLayers(point Point, list []int, layers int) error {
	last := -1
	for _, layer := range list {
		if layer <= last || layer >= layers {
			return fmt.Errorf("ops: %v of layer %d behind that of %d: layers ascend, each once, from 0 to %d", point, layer, last, layers-1)
		}
		last = layer
	}
	return nil
}
