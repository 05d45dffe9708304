package cuda

import (
	"context"
	"fmt"
	"math"
	"slices"
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
	deltaLong  = ops.DeltaNetShape{KeyHeads: 1, ValueHeads: 2, KeyDim: 128, ValueDim: 128, Kernel: 4}
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

// fill makes a step of segments. Inputs are those of the sequence from each
// segment's start, turned by its slot; dead rows hold NaN.
func (w *deltaTwin) fill(segments ...ops.Segment) *ops.Step {
	w.Helper()
	width := len(w.inputs) / w.tokens()
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
		in[i] = float32(math.NaN())
	}
	w.write(w.in, in)
	return step
}

// step runs segments on both sides.
func (w *deltaTwin) step(segments ...ops.Segment) {
	w.Helper()
	step := w.fill(segments...)
	run(w, w.onHost, step)
	run(w, w.onDevice, step)
}

func (w *deltaTwin) stepOnDevice(segments ...ops.Segment) {
	w.Helper()
	run(w, w.onDevice, w.fill(segments...))
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
		{"fast long", Fast, deltaLong, []int{1, deltaPiece + 70}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newDelta(t, c.numerics, c.shape, len(c.lengths)+1, slices.Max(c.lengths)+6, slices.Max(c.lengths)+10)
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

// bits are the outputs of rows, the state and the window of a slot on the device.
func (w *deltaTwin) bits(rows, slot int) []float32 {
	w.Helper()
	s := w.shape
	wide := s.ValueHeads * s.ValueDim
	part := func(p pair, first, n int) []float32 {
		values := make([]float32, n)
		w.check(w.device.Read(bytesOf(values), p.device.Slice(int64(first), int64(n))))
		return values
	}
	return slices.Concat(part(w.out, 0, rows*wide), part(w.state, slot*wide*s.KeyDim, wide*s.KeyDim),
		part(w.window, slot*s.Channels()*(s.Kernel-1), s.Channels()*(s.Kernel-1)))
}

// same checks that two rows of numbers have the same bits.
func (w *deltaTwin) same(what string, want, got []float32) {
	w.Helper()
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			w.Errorf("%s: value %d is %v, want the bits of %v", what, i, got[i], want[i])
			return
		}
	}
}

// forget fills the slots with garbage, which position 0 must not see.
func (w *deltaTwin) forget() {
	w.Helper()
	for _, p := range []pair{w.state, w.window} {
		values := make([]float32, p.cpu.Len)
		for i := range values {
			values[i] = float32(math.NaN())
		}
		w.write(p, values)
	}
}

// deltaForms are the kernels that bits are compared in.
var deltaForms = []struct {
	name     string
	numerics Numerics
	shape    ops.DeltaNetShape
}{
	{"exact", Exact, deltaOdd},
	{"fast", Fast, deltaSmall},
}

// TestDeltaNetSplitsKeepBits: a prompt in pieces that end at chunk borders gives the
// bits of the whole.
func TestDeltaNetSplitsKeepBits(t *testing.T) {
	for _, c := range deltaForms {
		t.Run(c.name, func(t *testing.T) {
			const tokens = 200
			w := newDelta(t, c.numerics, c.shape, 2, tokens, tokens)
			for _, start := range []int{0, 37} { // 37: behind decoded tokens
				run := func(lengths ...int) (rows []float32) {
					w.forget()
					if start > 0 {
						w.stepOnDevice(deltaSegment(ops.Replay, 1, 0, start))
					}
					at := start
					for _, n := range lengths {
						w.stepOnDevice(deltaSegment(ops.Prefill, 1, at, n))
						rows = append(rows, w.bits(n, 1)[:n*c.shape.ValueHeads*c.shape.ValueDim]...)
						at += n
					}
					return append(rows, w.bits(0, 1)...)
				}
				want := run(tokens - start)
				for border := ops.ChunkTokens; border < tokens; border += ops.ChunkTokens {
					w.same(fmt.Sprintf("from %d, split at %d", start, border), want, run(border-start, tokens-border))
				}
				w.same(fmt.Sprintf("from %d, split at every border", start), want, run(64-start, 64, 64, 8))
			}
		})
	}
}

// TestDeltaNetReplayIsDecode: a replay has the bits of as many decode steps, in any
// company.
func TestDeltaNetReplayIsDecode(t *testing.T) {
	for _, c := range deltaForms {
		t.Run(c.name, func(t *testing.T) {
			const tokens = 7
			w := newDelta(t, c.numerics, c.shape, 64, 64, 70)
			wide := c.shape.ValueHeads * c.shape.ValueDim
			var want []float32
			w.forget()
			for i := range tokens {
				w.stepOnDevice(deltaSegment(ops.Decode, 2, i, 1))
				want = append(want, w.bits(1, 2)[:wide]...)
			}
			want = append(want, w.bits(0, 2)...)
			w.forget()
			w.stepOnDevice(deltaSegment(ops.Replay, 2, 0, tokens))
			w.same("replay", want, w.bits(tokens, 2))
			w.forget()
			w.stepOnDevice(deltaSegment(ops.Replay, 2, 0, 3))
			got := w.bits(3, 2)[:3*wide]
			w.stepOnDevice(deltaSegment(ops.Replay, 2, 3, tokens-3), deltaSegment(ops.Replay, 9, 0, 20), deltaSegment(ops.Decode, 4, 0, 1))
			w.same("replay in two parts, in company", want, append(got, w.bits(tokens-3, 2)...))
			w.forget()
			got = nil
			for i := range tokens {
				segments := []ops.Segment{deltaSegment(ops.Decode, 2, i, 1)}
				for slot := 3; slot < 3+61/(i+1); slot++ {
					segments = append(segments, deltaSegment(ops.Decode, slot, i, 1))
				}
				w.stepOnDevice(segments...)
				got = append(got, w.bits(1, 2)[:wide]...)
			}
			w.same("decode in company", want, append(got, w.bits(0, 2)...))
		})
	}
}

// TestDeltaNetFillsABucket: 64 sequences at once, at their first and second token.
func TestDeltaNetFillsABucket(t *testing.T) {
	for _, c := range deltaForms {
		t.Run(c.name, func(t *testing.T) {
			w := newDelta(t, c.numerics, c.shape, decodeRows, decodeRows, 70)
			for start := range 2 {
				var segments []ops.Segment
				for slot := range decodeRows {
					segments = append(segments, deltaSegment(ops.Decode, slot, start, 1))
				}
				w.step(segments...)
				w.agree(fmt.Sprint("token ", start), decodeRows, 2e-5)
			}
		})
	}
}

// TestDeltaNetTaps: exact numerics show what lies between, as the CPU does.
func TestDeltaNetTaps(t *testing.T) {
	w := newDelta(t, Exact, deltaOdd, 2, 40, 40)
	type tapped struct {
		layer int
		data  []float32
	}
	var seen [2]map[string]tapped
	for i, p := range []ops.Program{w.onHost, w.onDevice} {
		seen[i] = map[string]tapped{}
		step := w.fill(deltaSegment(ops.Prefill, 1, 0, 33))
		step.Tap = func(layer int, what string, _ int, data []float32) {
			seen[i][what] = tapped{layer, append([]float32(nil), data...)}
		}
		run(t, p, step)
	}
	if len(seen[0]) == 0 || len(seen[1]) != len(seen[0]) {
		t.Fatalf("the device shows %d values, the CPU %d", len(seen[1]), len(seen[0]))
	}
	for what, want := range seen[0] {
		got := seen[1][what]
		if got.layer != want.layer || len(got.data) != len(want.data) {
			t.Errorf("%s: %d values of layer %d, want %d of %d", what, len(got.data), got.layer, len(want.data), want.layer)
		} else if d := far(want.data, got.data); !(d <= 2e-5) {
			t.Errorf("%s differs by %.3g of the largest", what, d)
		}
	}
}

// TestDeltaNetOfTheModel runs the model's own dimensions, past a piece of the chunk
// form: a device does it in no time.
func TestDeltaNetOfTheModel(t *testing.T) {
	if !silicon() {
		t.Skip("only on a device")
	}
	const tokens = 5000
	w := newDelta(t, Fast, deltaModel, 3, tokens, tokens+4)
	w.step(deltaSegment(ops.Prefill, 1, 0, tokens))
	w.agree("prompt", tokens, 1e-4)
	w.step(deltaSegment(ops.Replay, 1, tokens, 3), deltaSegment(ops.Decode, 2, 0, 1))
	w.agree("replay", 4, 1e-4)
	w.forget()
	w.stepOnDevice(deltaSegment(ops.Prefill, 1, 0, tokens))
	want := w.bits(0, 1)
	w.forget()
	for at := 0; at < tokens; at += 1984 {
		w.stepOnDevice(deltaSegment(ops.Prefill, 1, at, min(1984, tokens-at)))
	}
	w.same("prompt in pieces", want, w.bits(0, 1))
}

// Delta nets of the model, each with states of its own, so that they come from
// memory as in a step of all layers.
func BenchmarkDeltaNet(b *testing.B) {
	if !silicon() {
		b.Skip("on a device only")
	}
	const layers, slots, most = 12, 32, 2048
	s := deltaModel
	wide := s.ValueHeads * s.ValueDim
	width, state, window := s.Channels()+wide+2*s.ValueHeads, slots*wide*s.KeyDim, slots*s.Channels()*(s.Kernel-1)
	w := &deltaTwin{twin: newTwin(b, Options{Numerics: Fast, Streams: slots}), shape: s, rows: most}
	w.arenas(int64(4*(most*(width+wide)+s.Channels()*s.Kernel)) + 8192)
	states, err := w.device.NewArena("states", int64(4*layers*(state+window))+8192)
	w.check(err)
	w.Cleanup(func() { w.check(states.Close()) })
	args := ops.DeltaNetArgs{Shape: s, Eps: 1e-6, Conv: w.vector("conv", s.Channels()*s.Kernel, 0, .5),
		ALog: w.vector("A_log", s.ValueHeads, -1, 1), DTBias: w.vector("dt_bias", s.ValueHeads, 0, .5), Norm: w.vector("norm", s.ValueDim, 1, .3),
		In: w.buf(most*width, w.normal(1)).device, Out: w.buf(most*wide, nil).device}
	w.placeVectors(args.Conv, args.ALog, args.DTBias, args.Norm)
	program, err := w.device.Record(most, func(set ops.Set) error {
		set.(*recorder).reads, set.(*recorder).pages = true, most/ops.PageTokens
		for range layers {
			a := args
			a.State, err = states.Alloc("state", ops.F32, int64(state))
			w.check(err)
			a.Window, err = states.Alloc("window", ops.F32, int64(window))
			w.check(err)
			set.DeltaNet(a)
		}
		return nil
	})
	w.check(err)
	w.Cleanup(func() { w.check(program.Close()) })
	for _, rows := range []int{1, 2, 8, 32, 2048} {
		step := &ops.Step{IDs: make([]int32, rows)}
		if rows > slots {
			step.Segments = []ops.Segment{deltaSegment(ops.Prefill, 0, 0, rows)}
		} else {
			for slot := range rows {
				step.Segments = append(step.Segments, deltaSegment(ops.Decode, slot, 5, 1))
			}
		}
		b.Run(fmt.Sprintf("%d rows", rows), func(b *testing.B) {
			for b.Loop() {
				run(b, program, step)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/layers, "us/layer")
		})
	}
}
