package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Select implements ops.Set.
func (r *recorder) Select(a ops.SelectArgs) {
	r.plan.vocab = max(r.plan.vocab, a.K+1)
	r.add("select", a.Layer, func(r *run) {
		logits, ids, weights := floats(a.Logits), ints(a.IDs), floats(a.Weights)
		r.pool.each(r.rows, func(id, t int) {
			choose(r.workers[id].picks, logits[t*a.Experts:][:a.Experts], ids[t*a.K:][:a.K], weights[t*a.K:][:a.K], a.Renormalise)
		})
		if r.Tap != nil {
			chosen := make([]float32, r.rows*a.K)
			for i := range chosen {
				chosen[i] = float32(ids[i])
			}
			r.tap(a.Layer, "router_experts", a.K, chosen)
		}
		r.tap(a.Layer, "router_weights", a.K, weights[:r.rows*a.K])
	})
}

// choose takes the k largest logits, best first, the lower id among equals, and
// weighs them by their softmax over all (or over the chosen, when renormalised).
func choose(picks []pick, logits []float32, ids []int32, weights []float32, renormalise bool) {
	top := largest(picks[:0], logits, len(ids))
	var sum float64
	for i, p := range top {
		ids[i] = p.id
		weights[i] = exp(p.value - top[0].value)
		sum += float64(weights[i])
	}
	if !renormalise {
		sum = 0
		for _, v := range logits {
			sum += math.Exp(float64(v - top[0].value))
		}
	}
	for i := range weights {
		weights[i] = float32(float64(weights[i]) / sum)
	}
}

// Experts implements ops.Set.
func (r *recorder) Experts(a ops.ExpertsArgs) {
	hidden, width := a.Experts[0].Gate.K, a.Experts[0].Gate.N
	for _, e := range a.Experts {
		r.need(e.Gate, e.Up, e.Down)
	}
	r.plan.pairs = max(r.plan.pairs, a.K)
	r.need(a.Shared.Gate, a.Shared.Up, a.Shared.Down)
	r.plan.width = max(r.plan.width, width, a.Shared.Gate.N)
	r.plan.experts = max(r.plan.experts, len(a.Experts))
	r.add("experts", a.Layer, func(r *run) {
		normed := rows{floats(a.Normed), hidden, r.rows, nil}
		r.sortByExpert(ints(a.IDs)[:r.rows*a.K], a.K, len(a.Experts))
		r.routedExperts(normed, a.Experts, width, hidden)
		sum := r.delta[:r.rows*hidden]
		r.weigh(sum, floats(a.Weights), a.K, hidden)
		r.tap(a.Layer, "routed_out", hidden, sum)
		r.sharedExpert(sum, normed, a.Shared, floats(a.Gate), a.Layer)
		r.tap(a.Layer, "mlp_out", hidden, sum)
		x := floats(a.X)[:len(sum)]
		add(x, sum)
		r.tap(a.Layer, "residual_out", hidden, x)
	})
}

// sortByExpert lists the (row, rank) pairs of each expert, so that its weights
// are unpacked once for all of its rows.
func (r *run) sortByExpert(ids []int32, k, experts int) {
	start := r.start[:experts+1]
	clear(start)
	for _, id := range ids {
		start[id+1]++
	}
	for e := range experts {
		start[e+1] += start[e]
	}
	for pair, id := range ids { // start[id] walks to the end of its list
		r.order[start[id]] = int32(pair)
		r.source[start[id]] = int32(pair / k)
		start[id]++
	}
	copy(start[1:], start[:experts]) // and the ends are the next list's starts
	start[0] = 0
}

// item is a block of work in the experts phase: some rows of one expert times
// some columns.
type item struct {
	expert         int
	r0, r1, n0, n1 int
}

// expertBlocks calls do for every expert with rows, in blocks of at most
// tileRows rows and tileN columns.
func (r *run) expertBlocks(experts, columns int, do func(w *worker, b item)) {
	var items []item
	for e := range experts {
		for r0, end := int(r.start[e]), int(r.start[e+1]); r0 < end; r0 += tileRows {
			for n0 := 0; n0 < columns; n0 += tileN {
				items = append(items, item{e, r0, min(r0+tileRows, end), n0, min(n0+tileN, columns)})
			}
		}
	}
	r.pool.each(len(items), func(id, i int) { do(&r.workers[id], items[i]) })
}

// routedExperts leaves down(silu(gate x) * up x) of every pair in r.routed.
func (r *run) routedExperts(x rows, experts []ops.Expert, width, hidden int) {
	r.expertBlocks(len(experts), width, func(w *worker, b item) {
		e := experts[b.expert]
		in := rows{x.data, x.stride, b.r1 - b.r0, r.source[b.r0:b.r1]}
		out := rows{r.act, width, b.r1 - b.r0, r.order[b.r0:b.r1]}
		w.swiglu(out, in, e.Gate, e.Up, b.n0, b.n1)
	})
	r.expertBlocks(len(experts), hidden, func(w *worker, b item) {
		in := rows{r.act, width, b.r1 - b.r0, r.order[b.r0:b.r1]}
		out := rows{r.routed, hidden, b.r1 - b.r0, r.order[b.r0:b.r1]}
		w.block(w.acc[:], in, experts[b.expert].Down, b.n0, b.n1)
		for i := range out.count {
			copy(out.row(i, hidden)[b.n0:b.n1], w.acc[i*(b.n1-b.n0):])
		}
	})
}

// swiglu writes silu(gate x) * up x for columns n0 to n1.
func (w *worker) swiglu(out, x rows, gate, up *ops.Matrix, n0, n1 int) {
	w.block(w.acc[:], x, gate, n0, n1)
	w.block(w.acc2[:], x, up, n0, n1)
	for i := range x.count {
		row := out.row(i, gate.N)[n0:n1]
		for j := range row {
			row[j] = silu(w.acc[i*(n1-n0)+j]) * w.acc2[i*(n1-n0)+j]
		}
	}
}

// weigh sums each row's experts in rank order.
func (r *run) weigh(sum, weights []float32, k, hidden int) {
	r.pool.each(r.rows, func(_, t int) {
		row := sum[t*hidden:][:hidden]
		clear(row)
		for rank := range k {
			pair := t*k + rank
			axpy(row, weights[pair], r.routed[pair*hidden:][:hidden])
		}
	})
}

// sharedExpert adds sigmoid(gate) * shared(x) to sum.
func (r *run) sharedExpert(sum []float32, x rows, e ops.Expert, gate []float32, layer int) {
	width, hidden := e.Gate.N, e.Down.N
	gated := rows{r.gated, width, x.count, nil}
	r.blocks(x, e.Gate, func(w *worker, r0, r1, n0, n1 int) {
		w.swiglu(gated.part(r0, r1), x.part(r0, r1), e.Gate, e.Up, n0, n1)
	})
	shared := r.shared[:x.count*hidden]
	r.multiply(rows{shared, hidden, x.count, nil}, gated, e.Down)
	r.tap(layer, "shared_out", hidden, shared)
	for t := range x.count {
		axpy(sum[t*hidden:][:hidden], sigmoid(gate[t]), shared[t*hidden:][:hidden])
	}
}
