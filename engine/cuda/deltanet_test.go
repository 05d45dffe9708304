package cuda

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// deltaTwin is one delta net on both sides, whose slots hold garbage.
type deltaTwin struct {
	*twin
	shape                  ops.DeltaNetShape
	rows                   int
	inputs                 []float32 // of a sequence of so many tokens
	in, out, state, window pair
	onHost, onDevice       ops.Program
}

// Shapes: odd ones are for generic kernels only.
var (
	deltaOdd   = ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 6, KeyDim: 24, ValueDim: 40, Kernel: 3}
	deltaLarge = ops.DeltaNetShape{KeyHeads: 1, ValueHeads: 1, KeyDim: 256, ValueDim: 256, Kernel: 8}
	deltaSmall = ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 4, KeyDim: 128, ValueDim: 128, Kernel: 4}
	deltaModel = ops.DeltaNetShape{KeyHeads: 16, ValueHeads: 32, KeyDim: 128, ValueDim: 128, Kernel: 4}
)

// newDelta makes a delta net with some state slots and a sequence of random inputs.
func newDelta(t testing.TB, n Numerics, shape ops.DeltaNetShape, slots, rows, tokens int) *deltaTwin {
	t.Helper()
	w := &deltaTwin{twin: newTwin(t, Options{Numerics: n, Streams: slots}), shape: shape, rows: rows}
	wide := shape.ValueHeads * shape.ValueDim
	width := shape.Channels() + wide + 2*shape.ValueHeads
	state, window := slots*wide*shape.KeyDim, slots*shape.Channels()*(shape.Kernel-1)
	w.arenas(int64(4*(rows*(width+wide)+state+window+shape.Channels()*shape.Kernel)) + 8192)
	w.inputs = make([]float32, tokens*width)
	for i := range w.inputs {
		w.inputs[i] = w.normal(1)(i)
	}
	w.in, w.out = w.buf(rows*width, nil), w.buf(rows*wide, nil)
	w.state, w.window = w.buf(state, w.normal(9)), w.buf(window, w.normal(9))
	args := ops.DeltaNetArgs{Layer: 3, Shape: shape, Eps: 1e-6,
		Conv: w.vector("conv", shape.Channels()*shape.Kernel, 0, .5), ALog: w.vector("A_log", shape.ValueHeads, -1, 1),
		DTBias: w.vector("dt_bias", shape.ValueHeads, 0, .5), Norm: w.vector("norm", shape.ValueDim, 1, .3)}
	w.placeVectors(args.Conv, args.ALog, args.DTBias, args.Norm)
	w.onHost, w.onDevice = w.record(rows, func(set ops.Set, device bool) error {
		a := args
		a.In, a.Out, a.State, a.Window = w.in.of(device), w.out.of(device), w.state.of(device), w.window.of(device)
		if r, ok := set.(*recorder); ok {
			r.reads, r.pages = true, (tokens+ops.PageTokens-1)/ops.PageTokens+1
		}
		set.DeltaNet(a)
		return nil
	})
	return w
}

// placeVectors gives both backends vectors of fp32.
func (w *deltaTwin) placeVectors(vectors ...*ops.Vector) {
	w.Helper()
	w.check(w.cpu.Place(context.Background(), ops.Weights{Vectors: vectors}, nil))
	for _, v := range vectors {
		b, err := w.arena.Alloc(v.Name, ops.F32, int64(v.N))
		w.check(err)
		w.check(w.device.Write(b, v.Source.Data))
		w.device.vectors[v] = at(b)
	}
}

// deltaSegment is a segment of some tokens of a sequence, with pages that nobody reads.
func deltaSegment(kind ops.SegmentKind, slot, start, n int) ops.Segment {
	return ops.Segment{Kind: kind, Slot: slot, Start: start, Len: n, Pages: make([]int32, (start+n+ops.PageTokens-1)/ops.PageTokens)}
}

// step runs segments on both sides. Inputs are those of the sequence from each
// segment's start, turned by its slot.
func (w *deltaTwin) step(segments ...ops.Segment) {
	w.Helper()
	width := len(w.inputs) / max(w.tokens(), 1)
	step := &ops.Step{Segments: segments}
	in := make([]float32, w.rows*width)
	row := 0
	for _, s := range segments {
		for t := range s.Len {
			from := (s.Start + t + 5*s.Slot) % w.tokens()
			copy(in[row*width:], w.inputs[from*width:][:width])
			row++
		}
		step.IDs = append(step.IDs, make([]int32, s.Len)...)
	}
	for i := row * width; i < len(in); i++ {
		in[i] = float32(math.NaN()) // dead rows
	}
	w.write(w.in, in)
	run(w, w.onHost, step)
	run(w, w.onDevice, step)
}

func (w *deltaTwin) tokens() int {
	return len(w.inputs) / (w.shape.Channels() + w.shape.ValueHeads*(w.shape.ValueDim+2))
}

// agree checks the first rows of the output, the state and the window.
func (w *deltaTwin) agree(what string, rows int, bound float64) {
	w.Helper()
	host, device := w.read(w.out)
	n := rows * w.shape.ValueHeads * w.shape.ValueDim
	if d := far(host[:n], device[:n]); !(d <= bound) {
		w.Errorf("%s: outputs differ by %.3g of the largest", what, d)
	}
	w.near(what+": state", w.state, bound)
	w.near(what+": window", w.window, 0)
}

// TestDeltaNetMatchesTheCPU: prompts, then decoded tokens of several sequences, then
// a replay, in the same slots.
func TestDeltaNetMatchesTheCPU(t *testing.T) {
	for _, c := range []struct {
		name     string
		numerics Numerics
		shape    ops.DeltaNetShape
		lengths  []int
	}{
		{"exact odd", Exact, deltaOdd, []int{1, 2, 65, 130}},
		{"exact large", Exact, deltaLarge, []int{63, 3}},
		{"exact small", Exact, deltaSmall, []int{64, 1}},
		{"fast odd", Fast, deltaOdd, []int{1, 2, 65, 130}},
		{"fast small", Fast, deltaSmall, []int{1, 63, 64, 65, 200, 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newDelta(t, c.numerics, c.shape, len(c.lengths)+1, 1000, 1010)
			const bound = 2e-5
			var decodes []ops.Segment
			for slot, n := range c.lengths {
				w.step(deltaSegment(ops.Prefill, slot, 0, n))
				w.agree(fmt.Sprintf("prompt of %d", n), n, bound)
				decodes = append(decodes, deltaSegment(ops.Decode, slot, n, 1))
			}
			w.step(decodes...)
			w.agree("decode", len(decodes), bound)
			last := len(c.lengths) - 1
			w.step(deltaSegment(ops.Replay, last, c.lengths[last]+1, 5), decodes[0],
				deltaSegment(ops.Decode, last+1, 0, 1))
			w.agree("replay beside decode", 7, bound)
			w.step(deltaSegment(ops.Prefill, last, c.lengths[last]+6, 3))
			w.agree("prompt behind decoded tokens", 3, bound)
		})
	}
}
