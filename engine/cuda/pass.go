package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// class is the kind of arithmetic that a pass runs its rows through.
//
// Whose bits: a row's bits depend on its own inputs, position and class only. In
// the decode class (decode and replay segments) every sum over k has one order
// fixed by the matrix's shape, whatever the number of rows; in the prefill class
// (prefill segments) likewise, in an order of its own.
type class uint8

const (
	decoding class = iota
	prefilling
)

// decodeRows is the most rows of a pass of the decode class.
const decodeRows = 64

// pass is one run of all phases over some rows of a step: up to decodeRows rows of
// decode and replay segments, or the rows of one prefill segment. For the decode
// class its launches are captured once for each bucket of rows, and what changes
// from step to step lies behind the addresses; for the prefill class they are
// launched anew with the numbers of the step.
type pass struct {
	class    class
	rows     int // of the grids: the bucket, or the rows themselves in prefill
	segments int // likewise
	wanted   int // rows of logits, likewise

	// Device addresses in the step block: Row [rows], Segment [segments], Wanted
	// [wanted], and the page tables that Row.Page and Segment.Page point into.
	row, segment, want, pages driver.Ptr

	// The routing record: uint16 [rows][layers][k] and float32 likewise; 0 for none.
	routeIDs, routeWeights driver.Ptr

	// Of a prefill segment: the position of the first row. 0 in the decode class.
	start int

	scratch driver.Ptr // what recorder.need asked for, shared by all phases
	stream  driver.Stream
	overlap bool // launches may overlap the kernel before them

	// tap hands rows x width values (F32) at an address to Step.Tap; nil when nobody
	// looks. See ops.Step. Of the pass's rows, the first live hold something, and asked
	// rows of logits from firstAsked on are its own.
	tap                     func(layer int, what string, rows, width int, at driver.Ptr) error
	live, asked, firstAsked int

	// gap is called behind each phase that leaves something that a step may change; nil
	// where this one does not.
	gap func(gap) error
}

// look is tap of all live rows, where there is one.
func (p *pass) look(layer int, what string, width int, at driver.Ptr) error {
	if p.tap == nil {
		return nil
	}
	return p.tap(layer, what, p.live, width, at)
}
