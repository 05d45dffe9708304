package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Select implements ops.Set.
func (r *recorder) Select(a ops.SelectArgs) {
	r.plan.pairs = max(r.plan.pairs, a.K)
	r.p.steered(a.Layer, a.Experts, a.K, 0)
	level, logits, ids, weights := r.p.b.level, floats(a.Logits), ints(a.IDs), floats(a.Weights)
	row := func(r *run, t int) {
		ids, weights, logits := ids[t*a.K:][:a.K], weights[t*a.K:][:a.K], logits[t*a.Experts:][:a.Experts]
		if l := r.steering(t, a.Layer); l != nil {
			chooseSteered(level, ids, weights, logits, a.Renormalise, l)
		} else {
			choose(level, ids, weights, logits, a.Renormalise)
		}
		r.note(t, a.Layer, ids, weights)
	}
	r.add(ops.PhaseSelect, func(r *run) {
		if r.rows <= 4 { // some microseconds: not worth waking anyone
			for t := range r.rows {
				row(r, t)
			}
		} else {
			r.pool.each(r.rows, func(_, t int) { row(r, t) })
		}
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

// choose takes the largest logits, best first, the lower id among equals, and
// weighs them by their softmax over all (or over the chosen, when renormalised).
func choose(level simd.Level, ids []int32, weights, logits []float32, renormalise bool) {
	level.ArgTop(ids, weights, logits)
	soften(weights, logits, weights[0], renormalise)
}

// soften turns the chosen of the logits into weights; best is the largest of those
// that the weights are made of.
func soften(chosen, logits []float32, best float32, renormalise bool) {
	var sum float64
	for i, v := range chosen {
		chosen[i] = float32(math.Exp(float64(v) - float64(best)))
		sum += float64(chosen[i])
	}
	if !renormalise {
		sum = 0
		for _, v := range logits {
			sum += math.Exp(float64(v) - float64(best))
		}
	}
	for i := range chosen {
		chosen[i] = float32(float64(chosen[i]) / sum)
	}
}

// swiglu is one expert as its kernels want it.
type swiglu struct{ gate, up, down product }

// experts is one recorded mixture of experts. The shared expert takes part as
// the last one: all rows choose it.
type experts struct {
	ops.ExpertsArgs
	all                 []swiglu // routed, then shared
	hidden              int
	width, shared       int   // of a routed expert, of the shared one
	inBits              []int // widths of codes that gates and ups read
	routedBits, ownBits []int // that routed and shared downs read

	r                              *run // the replay at hand
	gateDo, downDo, weighDo, addDo func(worker, item int)
}

// item is a block of work: some rows of one expert times some columns. Rows of
// a routed expert are places in the list of sorted pairs.
type item struct{ expert, r0, r1, n0, n1 int }

// Experts implements ops.Set.
func (r *recorder) Experts(a ops.ExpertsArgs) {
	e := &experts{ExpertsArgs: a, hidden: a.Shared.Gate.K, width: a.Experts[0].Gate.N, shared: a.Shared.Gate.N}
	for _, x := range append(append([]ops.Expert(nil), a.Experts...), a.Shared) {
		s := swiglu{r.product(x.Gate), r.product(x.Up), r.product(x.Down)}
		e.inBits = s.up.needs(s.gate.needs(e.inBits))
		if len(e.all) < len(a.Experts) {
			e.routedBits = s.down.needs(e.routedBits)
		} else {
			e.ownBits = s.down.needs(e.ownBits)
		}
		e.all = append(e.all, s)
	}
	r.p.steered(a.Layer, len(a.Experts), a.K, e.hidden)
	e.gateDo, e.downDo, e.weighDo, e.addDo = e.gateItem, e.downItem, e.weigh, e.finish
	r.plan.pairs = max(r.plan.pairs, a.K)
	r.plan.width = max(r.plan.width, e.width)
	r.plan.shared = max(r.plan.shared, e.shared)
	r.plan.hidden = max(r.plan.hidden, e.hidden)
	r.plan.experts = max(r.plan.experts, len(a.Experts))
	r.plan.in, r.plan.routed, r.plan.own = union(r.plan.in, e.inBits), union(r.plan.routed, e.routedBits), union(r.plan.own, e.ownBits)
	r.add(ops.PhaseExperts, e.run)
	r.gap(ops.ResidualOut, a.Layer, a.X, e.hidden)
}

func (e *experts) run(r *run) {
	e.r = r
	r.sortByExpert(ints(e.IDs)[:r.rows*e.K], e.K, len(e.Experts))
	if len(e.inBits) > 0 {
		r.inputs.fill(r, r.rowsOf(floats(e.Normed), e.hidden), e.hidden, e.inBits)
	}
	e.list(func(s *swiglu) int { return s.gate.n })
	r.pool.each(len(r.items), e.gateDo)
	if len(e.routedBits) > 0 {
		pairs := simd.Rows{Data: r.act, Stride: e.width, Index: r.all[:r.rows*e.K], Count: r.rows * e.K}
		r.routedCodes.fill(r, pairs, e.width, e.routedBits)
	}
	if len(e.ownBits) > 0 {
		r.sharedCodes.fill(r, r.rowsOf(r.gated, e.shared), e.shared, e.ownBits)
	}
	e.list(func(s *swiglu) int { return s.down.n })
	r.pool.each(len(r.items), e.downDo)
	r.tap(e.Layer, "shared_out", e.hidden, r.shared[:r.rows*e.hidden])

	sum := r.delta[:r.rows*e.hidden]
	r.pool.each(r.rows, e.weighDo)
	r.tap(e.Layer, "routed_out", e.hidden, sum)
	r.pool.each(r.rows, e.addDo)
	r.tap(e.Layer, "mlp_out", e.hidden, sum)
	r.tap(e.Layer, "residual_out", e.hidden, floats(e.X)[:len(sum)])
}

// sortByExpert lists the (row, rank) pairs of each expert, so that its weights
// are unpacked once for all of its rows.
func (r *run) sortByExpert(ids []int32, k, experts int) {
	start := r.start[:experts+1]
	clear(start)
	for _, id := range ids {
		if id >= 0 { // steering may choose fewer
			start[id+1]++
		}
	}
	for e := range experts {
		start[e+1] += start[e]
	}
	for pair, id := range ids { // start[id] walks to the end of its list
		if id < 0 {
			continue
		}
		r.order[start[id]] = int32(pair)
		r.source[start[id]] = int32(pair / k)
		start[id]++
	}
	copy(start[1:], start[:experts]) // and the ends are the next list's starts
	start[0] = 0
}

// list sets r.items to the blocks of every expert with rows; columns tells how
// many an expert has.
func (e *experts) list(columns func(*swiglu) int) {
	r := e.r
	blocks := 0 // of whole rows
	for i := range e.all {
		r0, end := e.rows(i)
		blocks += (end - r0 + blockRows - 1) / blockRows
	}
	r.items = r.items[:0]
	for i := range e.all {
		r0, end := e.rows(i)
		n := columns(&e.all[i])
		wide := span(n, blocks, r.pool.threads)
		for ; r0 < end; r0 += blockRows {
			for n0 := 0; n0 < n; n0 += wide {
				r.items = append(r.items, item{i, r0, min(r0+blockRows, end), n0, min(n0+wide, n)})
			}
		}
	}
}

// rows returns where the rows of an expert begin and end.
func (e *experts) rows(i int) (r0, end int) {
	if i == len(e.Experts) {
		return 0, e.r.rows
	}
	return int(e.r.start[i]), int(e.r.start[i+1])
}

// places returns for a block the rows of the step, and the rows of its own
// activations: pairs for a routed expert, rows for the shared one.
func (e *experts) places(b item) (source, own []int32) {
	if b.expert < len(e.Experts) {
		return e.r.source[b.r0:b.r1], e.r.order[b.r0:b.r1]
	}
	return e.r.all[b.r0:b.r1], e.r.all[b.r0:b.r1]
}

// gateItem computes silu(gate x) * up x of a block.
func (e *experts) gateItem(worker, i int) {
	r, b := e.r, e.r.items[i]
	w, s := &r.workers[worker], &e.all[b.expert]
	source, own := e.places(b)
	count, n0, n1 := len(own), b.n0, b.n1
	x := simd.Rows{Data: floats(e.Normed), Stride: e.hidden, Index: source, Count: count}
	out := simd.Rows{Data: r.act, Stride: e.width, Index: own, Count: count}
	if b.expert == len(e.Experts) {
		out.Data, out.Stride = r.gated, e.shared
	}
	up := simd.Rows{Data: w.up, Stride: out.Stride, Index: r.all[:count], Count: count}
	s.gate.block(r, w, out, x, r.inputs, n0, n1)
	s.up.block(r, w, up, x, r.inputs, n0, n1)
	for j := range count {
		row := out.Data[int(own[j])*out.Stride:]
		r.level.SiLUMul(row[n0:n1], row[n0:n1], up.Data[j*up.Stride:][n0:n1])
	}
}

// downItem projects the activations of a block back.
func (e *experts) downItem(worker, i int) {
	r, b := e.r, e.r.items[i]
	_, own := e.places(b)
	x := simd.Rows{Data: r.act, Stride: e.width, Index: own, Count: len(own)}
	out := simd.Rows{Data: r.routed, Stride: e.hidden, Index: own, Count: len(own)}
	c := r.routedCodes
	if b.expert == len(e.Experts) {
		x.Data, x.Stride, out.Data, c = r.gated, e.shared, r.shared, r.sharedCodes
	}
	e.all[b.expert].down.block(r, &r.workers[worker], out, x, c, b.n0, b.n1)
}

// weigh sums a row's experts in rank order.
func (e *experts) weigh(_, t int) {
	r, weights := e.r, floats(e.Weights)
	sum := r.delta[t*e.hidden:][:e.hidden]
	clear(sum)
	for rank := range e.K {
		pair := t*e.K + rank
		if ints(e.IDs)[pair] < 0 {
			break
		}
		r.level.Axpy(sum, weights[pair], r.routed[pair*e.hidden:][:e.hidden])
	}
}

// finish adds the gated shared expert to a row's sum, that to the residual, and a
// steering vector.
func (e *experts) finish(_, t int) {
	r := e.r
	sum, x := r.delta[t*e.hidden:][:e.hidden], floats(e.X)[t*e.hidden:][:e.hidden]
	gate, l := sigmoid(floats(e.Gate)[t]), r.steering(t, e.Layer)
	if l != nil {
		gate *= 1 + l.Gate
	}
	r.level.Axpy(sum, gate, r.shared[t*e.hidden:][:e.hidden])
	r.level.Add(x, sum)
	if l != nil && l.Adds() {
		r.level.Axpy(x, l.Strength, l.Vector)
	}
}
