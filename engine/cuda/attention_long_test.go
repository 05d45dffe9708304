package cuda

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// precise is the output of a row of a step in fp64, from the pools as the CPU left
// them.
func (g *gqa) precise(step *ops.Step, row int) []float32 {
	g.Helper()
	segment := step.Segments[0]
	position, dim := segment.Start+row, g.shape.HeadDim
	in := g.inputs(segment.Slot, position)
	keys, values := make([]float32, g.keys.cpu.Len), make([]float32, g.values.cpu.Len)
	g.check(g.cpu.Read(bytesOf(keys), g.keys.cpu))
	g.check(g.cpu.Read(bytesOf(values), g.values.cpu))
	norm := make([]float32, dim)
	ops.Widen(norm, g.qNorm.Source.Data, g.qNorm.Type)
	out := make([]float32, g.shape.Heads*dim)
	var wait sync.WaitGroup
	for head := range g.shape.Heads {
		wait.Go(func() {
			kv := head / (g.shape.Heads / g.shape.KVHeads)
			at := func(pool []float32, p int) []float32 {
				page := int(segment.Pages[p/ops.PageTokens])
				return pool[((page*g.shape.KVHeads+kv)*ops.PageTokens+p%ops.PageTokens)*dim:][:dim]
			}
			q := turned(in[2*head*dim:][:dim], norm, g.shape.Rope, position)
			scores := make([]float64, position+1)
			for p := range scores {
				for i, k := range at(keys, p) {
					scores[p] += q[i] * float64(k)
				}
				scores[p] /= math.Sqrt(float64(dim))
			}
			top, total := slices.Max(scores), 0.0
			sums := make([]float64, dim)
			for p, score := range scores {
				weight := math.Exp(score - top)
				total += weight
				for i, v := range at(values, p) {
					sums[i] += weight * float64(v)
				}
			}
			for i, sum := range sums {
				gate := float64(in[(2*head+1)*dim+i])
				out[head*dim+i] = float32(sum / total / (1 + math.Exp(-gate)))
			}
		})
	}
	wait.Wait()
	return out
}

// turned norms and rotates a query. The angle is an fp32 product, as everywhere.
func turned(x, norm []float32, rope ops.Rope, position int) []float64 {
	squares := 0.0
	for _, v := range x {
		squares += float64(v) * float64(v)
	}
	scale := 1 / math.Sqrt(squares/float64(len(x))+1e-6)
	q := make([]float64, len(x))
	for i, v := range x {
		q[i] = float64(v) * scale * (1 + float64(norm[i]))
	}
	half := len(rope.InvFreq)
	for i, f := range rope.InvFreq {
		sin, cos := math.Sincos(float64(float32(position) * f))
		a, b := q[i], q[i+half]
		q[i], q[i+half] = a*cos-b*sin, b*cos+a*sin
	}
	return q
}

// measure runs a step on both sides and compares some of its rows with fp64: the
// device's must keep the bound, and what the CPU is off by is told beside it.
func (g *gqa) measure(what string, step *ops.Step, rows ...int) {
	g.Helper()
	device := g.bits(step)
	run(g, g.host, step)
	host, _ := g.read(g.out)
	for _, row := range rows {
		want, n := g.precise(step, row), len(device[row])
		off := far(want, device[row])
		g.Logf("%s, row %d: %.3g of the largest value from fp64, the CPU %.3g; bound %.3g", what, row, off, far(want, host[row*n:][:n]), g.bound)
		if !(off <= g.bound) {
			g.Errorf("%s, %s: row %d is %.3g of its largest value from fp64, bound %.3g", g.name, what, row, off, g.bound)
		}
	}
}

// The longest context of the model, on a device that has the memory and the time; a
// short one elsewhere.
func TestAttentionLongContext(t *testing.T) {
	longest := 448
	if silicon() {
		longest = 262144
	}
	for _, s := range []sizes{{8, 1, 256, 32, Fast, ops.F16}, {8, 1, 256, 32, Fast, ops.BF16}, {8, 1, 256, 32, Exact, ops.F32}} {
		t.Run(s.String(), func(t *testing.T) {
			g := newGQA(t, s, 200, longest/ops.PageTokens)
			g.measure("the last token", g.segment(ops.Decode, longest-1, 1), 0)
			g.measure("a replay", g.segment(ops.Replay, longest-9, 9), 0, 8)
			g.measure("a chunk", g.segment(ops.Prefill, longest-200, 200), 0, 77, 199)
			whole := g.bits(g.segment(ops.Prefill, longest-192, 192))
			parts := append(g.bits(g.segment(ops.Prefill, longest-192, 64)), g.bits(g.segment(ops.Prefill, longest-128, 128))...)
			for i := range whole {
				if !slices.Equal(parts[i], whole[i]) {
					t.Errorf("cut in two, row %d has other bits", i)
					break
				}
			}
		})
	}
}
