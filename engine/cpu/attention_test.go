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

// attentionTest is one recorded attention layer over random inputs.
type attentionTest struct {
	t       testing.TB
	shape   ops.AttentionShape
	args    ops.AttentionArgs
	program ops.Program
	inputs  []float32 // of a sequence
	pages   []int32
	width   int
}

// newAttention records a layer for sequences of up to context positions, whose
// pages lie in the pool in reverse.
func newAttention(t testing.TB, level simd.Level, threads int, shape ops.AttentionShape, rows, context int) *attentionTest {
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
	for i := range 4 {
		shape.Rope.InvFreq = append(shape.Rope.InvFreq, float32(math.Pow(10000, -float64(i)/4)))
	}
	shape.Rope.Scale = 1
	a := &attentionTest{t: t, shape: shape}
	a.width = 2*shape.Heads*shape.HeadDim + 2*shape.KVHeads*shape.HeadDim
	a.inputs = fill(context*a.width, 1)
	count := (context + ops.PageTokens - 1) / ops.PageTokens
	for i := range count {
		a.pages = append(a.pages, int32(count-1-i))
	}
	pool := count * ops.PageTokens * shape.KVHeads * shape.HeadDim
	a.args = ops.AttentionArgs{Shape: shape, Eps: 1e-6,
		In: buffer(t, arena, make([]float32, rows*a.width)...), Out: buffer(t, arena, make([]float32, rows*shape.Heads*shape.HeadDim)...),
		QNorm: vector(b, fill(shape.HeadDim, .3)...), KNorm: vector(b, fill(shape.HeadDim, .3)...),
		Keys: buffer(t, arena, make([]float32, pool)...), Values: buffer(t, arena, make([]float32, pool)...)}
	program, err := b.Record(rows, func(set ops.Set) error { set.Attention(a.args); return nil })
	if err != nil {
		t.Fatal(err)
	}
	a.program = program
	return a
}

// run runs the positions from start, in steps of the lengths, and returns the
// outputs.
func (a *attentionTest) run(kind ops.SegmentKind, start int, lengths ...int) (out []float32) {
	a.t.Helper()
	for _, n := range lengths {
		copy(floats(a.args.In), a.inputs[start*a.width:][:n*a.width])
		step := &ops.Step{IDs: make([]int32, n), Segments: []ops.Segment{{Kind: kind, Start: start, Len: n, Pages: a.pages}}}
		ticket, err := a.program.Submit(step)
		if err != nil {
			a.t.Fatal(err)
		}
		if err := ticket.Wait(context.Background()); err != nil {
			a.t.Fatal(err)
		}
		out = append(out, floats(a.args.Out)[:n*a.shape.Heads*a.shape.HeadDim]...)
		start += n
	}
	return out
}

// formula computes the output of one row in float64 from the cache.
func (a *attentionTest) formula(t int) (out []float32) {
	s := a.shape
	vector := func(from, w []float32) []float64 {
		x, squares := make([]float64, s.HeadDim), 0.0
		for i := range x {
			x[i] = float64(from[i])
			squares += x[i] * x[i]
		}
		for i := range x {
			x[i] = x[i] / math.Sqrt(squares/float64(s.HeadDim)+1e-6) * (1 + float64(w[i]))
		}
		return x
	}
	rotate := func(x []float64, position int) {
		half := len(s.Rope.InvFreq)
		for i, f := range s.Rope.InvFreq {
			sin, cos := math.Sincos(float64(float32(position) * f))
			x[i], x[i+half] = x[i]*cos-x[i+half]*sin, x[i+half]*cos+x[i]*sin
		}
	}
	backend := a.program.(*program).b
	qNorm, kNorm := backend.vectors[a.args.QNorm], backend.vectors[a.args.KNorm]
	row := a.inputs[t*a.width:]
	for head := range s.Heads {
		q := vector(row[2*head*s.HeadDim:], qNorm)
		rotate(q, t)
		weights, sum := make([]float64, t+1), 0.0
		o := make([]float64, s.HeadDim)
		for p := range weights {
			at := p*a.width + 2*s.Heads*s.HeadDim + head/(s.Heads/s.KVHeads)*s.HeadDim
			k := vector(a.inputs[at:], kNorm)
			rotate(k, p)
			for i := range k {
				weights[p] += q[i] * k[i]
			}
			weights[p] = math.Exp(weights[p] / math.Sqrt(float64(s.HeadDim)))
			sum += weights[p]
			for i := range o {
				o[i] += weights[p] * float64(a.inputs[at+s.KVHeads*s.HeadDim+i])
			}
		}
		for i, v := range o {
			gate := float64(row[(2*head+1)*s.HeadDim+i])
			out = append(out, float32(v/sum/(1+math.Exp(-gate))))
		}
	}
	return out
}

// Every form equals the formula; no split of a prompt and no number of threads
// changes a bit, and replay has the bits of decode.
func TestAttention(t *testing.T) {
	for _, shape := range []ops.AttentionShape{
		{Heads: 8, KVHeads: 2, HeadDim: 32},
		{Heads: 3, KVHeads: 1, HeadDim: 20},
		{Heads: 2, KVHeads: 2, HeadDim: 8},
	} {
		const n = 1200 // three parts
		wide := shape.Heads * shape.HeadDim
		for _, level := range simd.Levels() {
			t.Run(fmt.Sprintf("%v/%d", level, shape.Heads), func(t *testing.T) {
				a := newAttention(t, level, 1, shape, n, n)
				whole := a.run(ops.Prefill, 0, n)
				rows := []int{0, 1, 63, 64, 100, 511, 512, 513, 1023, 1024, 1199}
				for _, row := range rows {
					near(t, fmt.Sprintf("row %d", row), whole[row*wide:][:wide], a.formula(row), 1e-5)
				}
				replay := a.run(ops.Replay, 900, 300)
				near(t, "replay", replay, whole[900*wide:], 1e-5)
				more := newAttention(t, level, 3, shape, n, n)
				same(t, "split prompt", more.run(ops.Prefill, 0, 64, 448, 128, 7, 553), whole)
				for i := range 300 {
					same(t, "decode", more.run(ops.Decode, 900+i, 1), replay[i*wide:][:wide])
				}
			})
		}
	}
}

// Decode and prefill rows equal the formula at the real model's shape and a
// context of 4096, over a cache of random keys and values.
func TestAttentionAtLength(t *testing.T) {
	shape := ops.AttentionShape{Heads: 16, KVHeads: 2, HeadDim: 256}
	const length, rows = 4096, 3
	for _, level := range simd.Levels() {
		a := newAttention(t, level, 2, shape, rows, length)
		random := rand.New(rand.NewPCG(3, 4))
		keys, values := floats(a.args.Keys), floats(a.args.Values)
		for i := range keys {
			keys[i], values[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
		}
		prefill := a.run(ops.Prefill, length-rows, rows) // appends its own keys and values
		decode := a.run(ops.Decode, length-1, 1)
		wide := shape.Heads * shape.HeadDim
		near(t, fmt.Sprintf("%v: prefill and decode", level), prefill[(rows-1)*wide:], decode, 1e-5)
		row := a.inputs[(length-1)*a.width:]
		qNorm := a.program.(*program).b.vectors[a.args.QNorm]
		for head := range shape.Heads {
			q := make([]float32, shape.HeadDim)
			turn := make([]float32, 2*len(a.shape.Rope.InvFreq))
			angles(turn, a.shape.Rope, length-1)
			simd.Portable.Norm(q, row[2*head*shape.HeadDim:][:shape.HeadDim], qNorm, 1e-6, 1)
			rotate(q, turn)
			sum, o := 0.0, make([]float64, shape.HeadDim)
			for p := range length {
				at := ((int(a.pages[p/ops.PageTokens])*shape.KVHeads+head/8)*ops.PageTokens + p%ops.PageTokens) * shape.HeadDim
				score := 0.0
				for i, v := range q {
					score += float64(v) * float64(keys[at+i])
				}
				weight := math.Exp(score / 16)
				sum += weight
				for i := range o {
					o[i] += weight * float64(values[at+i])
				}
			}
			want := make([]float32, shape.HeadDim)
			for i, v := range o {
				want[i] = float32(v / sum / (1 + math.Exp(-float64(row[(2*head+1)*shape.HeadDim+i]))))
			}
			near(t, fmt.Sprintf("%v: head %d", level, head), decode[head*shape.HeadDim:][:shape.HeadDim], want, 1e-5)
		}
	}
}

// A step of many long rows needs more parts than there is room for at once, and
// gives each row the bits that it has alone.
func TestAttentionOfManyRows(t *testing.T) {
	shape := ops.AttentionShape{Heads: 4, KVHeads: 1, HeadDim: 16}
	const length, streams = 4000, 40 // 8 parts a row, room for 128
	a := newAttention(t, simd.Best(), 2, shape, 64, length)
	for start := 0; start < length; start += 50 {
		a.run(ops.Prefill, start, 50)
	}
	wide := shape.Heads * shape.HeadDim
	step := &ops.Step{IDs: make([]int32, streams)}
	var want []float32
	for i := range streams { // one sequence at many positions; keys and values stay what they are
		start := length - 1 - 90*i
		want = append(want, a.run(ops.Decode, start, 1)...)
		step.Segments = append(step.Segments, ops.Segment{Kind: ops.Decode, Start: start, Len: 1, Pages: a.pages})
	}
	for i, segment := range step.Segments {
		copy(floats(a.args.In)[i*a.width:][:a.width], a.inputs[segment.Start*a.width:])
	}
	ticket, err := a.program.Submit(step)
	if err != nil {
		t.Fatal(err)
	}
	if err := ticket.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	same(t, "batched rows", floats(a.args.Out)[:streams*wide], want)
}
