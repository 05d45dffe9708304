package cpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// vector places plain values.
func vector(b *Backend, values ...float32) *ops.Vector {
	v := &ops.Vector{N: len(values)}
	b.vectors[v] = values
	return v
}

func buffer(t testing.TB, arena ops.Arena, values ...float32) ops.Buf {
	t.Helper()
	buf, err := arena.Alloc("test", ops.F32, int64(len(values)))
	if err != nil {
		t.Fatal(err)
	}
	copy(floats(buf), values)
	return buf
}

func newTest(t testing.TB, threads int) (*Backend, ops.Arena) {
	b, _ := New(Options{Threads: threads})
	arena, err := b.NewArena("test", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, arena
}

// The delta rule alone, with the worked example of the model's description: key
// and value width 2, q already scaled, g = ln 1/2.
func TestDeltaRuleWorkedExample(t *testing.T) {
	keys := [][]float32{{.6, .8}, {1, 0}, {0, 1}}
	values := [][]float32{{1, 2}, {3, -1}, {-2, .5}}
	queries := [][]float32{{1, 0}, {.6, .8}, {0, 1}}
	beta := []float32{.5, 1, .25}
	want := []float32{.3, .6, 1.96, -.28, -.425, .275}
	final := []float32{1.5, -.5, -.425, .275}

	root := float32(math.Sqrt(2)) // undoes the scale of q
	d := newDeltaNet(ops.DeltaNetArgs{Shape: ops.DeltaNetShape{KeyHeads: 1, ValueHeads: 1, KeyDim: 2, ValueDim: 2, Kernel: 4}}, simd.Best())
	for name, form := range map[string]func(*run, *worker, []float32){
		"step": func(r *run, w *worker, state []float32) {
			for i := range 3 {
				d.step(r, w, i, 0, 0, 2, state)
			}
		},
		"chunk": func(r *run, w *worker, state []float32) { d.chunk(r, w, 0, 3, 0, state) },
		"two chunks": func(r *run, w *worker, state []float32) {
			d.chunk(r, w, 0, 1, 0, state)
			d.chunk(r, w, 1, 2, 0, state)
		},
	} {
		b, _ := newTest(t, 1)
		s := newScratch(b, 3, plan{mixed: 6, heads: 2, gates: 1, chunk: d.work()})
		for i := range 3 {
			copy(s.mixed[6*i:], []float32{queries[i][0] * root, queries[i][1] * root, keys[i][0], keys[i][1], values[i][0], values[i][1]})
			s.decay[i], s.beta[i] = float32(math.Log(.5)), beta[i]
		}
		state := make([]float32, 4)
		form(&run{scratch: s, Step: &ops.Step{}}, &s.workers[0], state)
		for i := range want {
			if math.Abs(float64(s.query[i]-want[i])) > 1e-6 {
				t.Errorf("%s: o = %v, want %v", name, s.query[:6], want)
				break
			}
		}
		for i := range final {
			if math.Abs(float64(state[i]-final[i])) > 1e-6 {
				t.Errorf("%s: S = %v, want %v", name, state, final)
				break
			}
		}
	}
}

// deltaProgram records one delta net over random inputs and returns a function
// that runs segments of it and gives outputs, state and window.
func deltaProgram(t testing.TB, level simd.Level, threads int, shape ops.DeltaNetShape, rows int) func(kind ops.SegmentKind, lengths ...int) (out, state, window []float32) {
	program, args, inputs := recordDelta(t, level, threads, shape, rows)
	width, wide := len(inputs)/rows, shape.ValueHeads*shape.ValueDim
	return func(kind ops.SegmentKind, lengths ...int) (out, state, window []float32) {
		start := 0
		for _, n := range lengths {
			copy(floats(args.In), inputs[start*width:][:n*width])
			step := &ops.Step{IDs: make([]int32, n), Segments: []ops.Segment{{Kind: kind, Start: start, Len: n, Pages: make([]int32, 64)}}}
			ticket, err := program.Submit(step)
			if err != nil {
				t.Fatal(err)
			}
			if err := ticket.Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
			out = append(out, floats(args.Out)[:n*wide]...)
			start += n
		}
		return out, append([]float32(nil), floats(args.State)...), append([]float32(nil), floats(args.Window)...)
	}
}

// recordDelta records one delta net with one state slot, and gives its
// arguments and random inputs for rows.
func recordDelta(t testing.TB, level simd.Level, threads int, shape ops.DeltaNetShape, rows int) (ops.Program, ops.DeltaNetArgs, []float32) {
	b, arena := newTest(t, threads)
	b.level = level
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(n int, scale float64) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64() * scale)
		}
		return values
	}
	width := 2*shape.KeyHeads*shape.KeyDim + 2*shape.ValueHeads*shape.ValueDim + 2*shape.ValueHeads
	inputs := fill(rows*width, 1)
	wide := shape.ValueHeads * shape.ValueDim
	args := ops.DeltaNetArgs{Shape: shape, Eps: 1e-6,
		In: buffer(t, arena, inputs...), Out: buffer(t, arena, make([]float32, rows*wide)...),
		State:  buffer(t, arena, fill(shape.ValueHeads*shape.KeyDim*shape.ValueDim, 9)...), // garbage: position 0 must not see it
		Window: buffer(t, arena, fill(shape.Channels()*(shape.Kernel-1), 9)...),
		Conv:   vector(b, fill(shape.Channels()*shape.Kernel, .5)...), ALog: vector(b, fill(shape.ValueHeads, .5)...),
		DTBias: vector(b, fill(shape.ValueHeads, .5)...), Norm: vector(b, fill(shape.ValueDim, 1)...)}
	program, err := b.Record(rows, func(set ops.Set) error { set.DeltaNet(args); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return program, args, inputs
}

// deltaFormula runs the step form in float64 from zeros, and returns the
// outputs of all rows.
func deltaFormula(b *Backend, args ops.DeltaNetArgs, inputs []float32, rows int) (out []float32) {
	s := args.Shape
	share, width := s.ValueHeads/s.KeyHeads, len(inputs)/rows
	group, keys := 2*s.KeyDim+2*share*s.ValueDim, s.KeyHeads*s.KeyDim
	conv, norm := b.vectors[args.Conv], b.vectors[args.Norm]
	silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
	// mixed is the convolution of a channel, whose inputs lie at column.
	mixed := func(t, channel, column int) (sum float64) {
		for i := range s.Kernel {
			if u := t - s.Kernel + 1 + i; u >= 0 {
				sum += float64(conv[channel*s.Kernel+i]) * float64(inputs[u*width+column])
			}
		}
		return silu(sum)
	}
	unit := func(t, channel, column int) []float64 {
		x, squares := make([]float64, s.KeyDim), 0.0
		for i := range x {
			x[i] = mixed(t, channel+i, column+i)
			squares += x[i] * x[i]
		}
		for i := range x {
			x[i] /= math.Sqrt(squares + 1e-6)
		}
		return x
	}
	state := make([]float64, s.ValueHeads*s.KeyDim*s.ValueDim)
	for t := range rows {
		for head := range s.ValueHeads {
			key := head / share
			q, k := unit(t, key*s.KeyDim, key*group), unit(t, keys+key*s.KeyDim, key*group+s.KeyDim)
			ba := inputs[t*width+s.KeyHeads*group+2*share*key+head%share:]
			beta := 1 / (1 + math.Exp(-float64(ba[0])))
			decay := math.Exp(-math.Exp(float64(b.vectors[args.ALog][head])) * math.Log1p(math.Exp(float64(ba[share])+float64(b.vectors[args.DTBias][head]))))
			o, squares := make([]float64, s.ValueDim), 0.0
			for j := range o {
				column := func(i int) *float64 { return &state[(head*s.KeyDim+i)*s.ValueDim+j] }
				d := mixed(t, 2*keys+head*s.ValueDim+j, key*group+2*s.KeyDim+head%share*s.ValueDim+j)
				for i := range k {
					*column(i) *= decay
					d -= *column(i) * k[i]
				}
				for i := range k {
					*column(i) += k[i] * beta * d
					o[j] += *column(i) * q[i] / math.Sqrt(float64(s.KeyDim))
				}
				squares += o[j] * o[j]
			}
			for j, v := range o {
				z := float64(inputs[t*width+key*group+2*s.KeyDim+(share+head%share)*s.ValueDim+j])
				out = append(out, float32(v/math.Sqrt(squares/float64(s.ValueDim)+1e-6)*float64(norm[j])*silu(z)))
			}
		}
	}
	return out
}

// Both forms equal the formula at the widths of the real model.
func TestDeltaNetFormula(t *testing.T) {
	const rows = 150
	shape := ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 4, KeyDim: 128, ValueDim: 128, Kernel: 4}
	for _, level := range simd.Levels() {
		p, args, inputs := recordDelta(t, level, 1, shape, rows)
		want := deltaFormula(p.(*program).b, args, inputs, rows)
		for _, kind := range []ops.SegmentKind{ops.Prefill, ops.Replay} {
			got, _, _ := deltaProgram(t, level, 1, shape, rows)(kind, rows)
			near(t, fmt.Sprintf("%v: %v", level, kind), got, want, 1e-4)
		}
	}
}

// Step form and chunk form agree, and splits on borders change no bit, for
// shapes with every ratio of heads and widths that differ.
func TestDeltaNetFormsAndSplits(t *testing.T) {
	for _, shape := range []ops.DeltaNetShape{
		{KeyHeads: 2, ValueHeads: 4, KeyDim: 8, ValueDim: 8, Kernel: 4},
		{KeyHeads: 1, ValueHeads: 3, KeyDim: 16, ValueDim: 4, Kernel: 2},
		{KeyHeads: 3, ValueHeads: 3, KeyDim: 4, ValueDim: 12, Kernel: 1},
		{KeyHeads: 1, ValueHeads: 2, KeyDim: 64, ValueDim: 128, Kernel: 4},
	} {
		for _, level := range simd.Levels() {
			t.Run(fmt.Sprintf("%v/%d heads of %d", level, shape.ValueHeads, shape.ValueDim), func(t *testing.T) {
				for _, n := range []int{1, 63, 64, 65, 200} {
					formsAndSplits(t, level, shape, n)
				}
			})
		}
	}
}

func formsAndSplits(t *testing.T, level simd.Level, shape ops.DeltaNetShape, n int) {
	t.Helper()
	run := deltaProgram(t, level, 1, shape, 200)
	chunkOut, chunkState, chunkWindow := run(ops.Prefill, n)
	stepOut, stepState, stepWindow := run(ops.Replay, n)
	near(t, "outputs", chunkOut, stepOut, 2e-4)
	near(t, "state", chunkState, stepState, 2e-4)
	same(t, "window", chunkWindow, stepWindow)
	if n < 200 {
		return
	}
	for _, threads := range []int{2, 5} { // with five, the columns of the last shape are split
		run := deltaProgram(t, level, threads, shape, 200)
		for _, split := range [][]int{{200}, {64, 136}, {128, 72}, {64, 64, 64, 8}} {
			out, state, window := run(ops.Prefill, split...)
			same(t, "split outputs", out, chunkOut)
			same(t, "split state", state, chunkState)
			same(t, "split window", window, chunkWindow)
		}
		ones := make([]int, n)
		for i := range ones {
			ones[i] = 1
		}
		out, state, _ := run(ops.Decode, ones...)
		same(t, "decode outputs", out, stepOut)
		same(t, "decode state", state, stepState)
	}
}

// A step of mixed segments gives each the bits it has alone.
func TestDeltaNetMixedStep(t *testing.T) {
	shape := ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 4, KeyDim: 16, ValueDim: 64, Kernel: 4}
	for _, level := range simd.Levels() {
		p, args, inputs := recordDelta(t, level, 3, shape, 200)
		copy(floats(args.In), inputs)
		args.State, args.Window = ops.Buf{}, ops.Buf{}
		_, arena := newTest(t, 1)
		const slots = 3
		b := p.(*program).b
		args.State = buffer(t, arena, make([]float32, slots*shape.ValueHeads*shape.KeyDim*shape.ValueDim)...)
		args.Window = buffer(t, arena, make([]float32, slots*shape.Channels()*(shape.Kernel-1))...)
		mixed, err := b.Record(200, func(set ops.Set) error { set.DeltaNet(args); return nil })
		if err != nil {
			t.Fatal(err)
		}
		pages := make([]int32, 64)
		segments := []ops.Segment{
			{Kind: ops.Decode, Slot: 2, Start: 0, Len: 1, Pages: pages},
			{Kind: ops.Prefill, Slot: 0, Start: 0, Len: 130, Pages: pages},
			{Kind: ops.Replay, Slot: 1, Start: 0, Len: 20, Pages: pages},
		}
		submit := func(segments ...ops.Segment) []float32 {
			rows := 0
			for _, s := range segments {
				rows += s.Len
			}
			ticket, err := mixed.Submit(&ops.Step{IDs: make([]int32, rows), Segments: segments})
			if err != nil {
				t.Fatal(err)
			}
			if err := ticket.Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
			return append([]float32(nil), floats(args.Out)[:rows*shape.ValueHeads*shape.ValueDim]...)
		}
		together := submit(segments...)
		for _, s := range segments {
			alone := submit(s)
			same(t, fmt.Sprintf("%v: %v", level, s.Kind), together[:len(alone)], alone)
			together = together[len(alone):]
			width := len(inputs) / 200
			copy(floats(args.In), floats(args.In)[s.Len*width:])
		}
	}
}

func near(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i]-want[i]))/(1+math.Abs(float64(want[i]))))
	}
	if len(got) != len(want) || worst > tolerance || math.IsNaN(worst) {
		t.Errorf("%s: %d values differ by %.3g from %d", what, len(got), worst, len(want))
	}
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want the bits of %v", what, i, got[i], want[i])
		}
	}
}
