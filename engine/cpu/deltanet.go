package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// deltaNet is one recorded gated delta net (Yang et al., "Gated Delta
// Networks", 2024, as Qwen3-Next uses it).
type deltaNet struct {
	ops.DeltaNetArgs
	level        simd.Level
	taps         []float32 // [Kernel, Channels]
	rate         []float32 // [ValueHeads]: -e^ALog
	dtBias, norm []float32

	channels int // width of the convolution: q, k, v flat
	keys     int // KeyHeads*KeyDim: where k starts in the mixed row; v starts at twice that
	share    int // value heads of one key head
	group    int // width of one key head's part of qkvz
	width    int // In row: qkvz, then ba
	perHead  int // state of one value head
	parts    int // of a value head's columns, which are work items of the step form

	// Of the replay in progress; the closures are made once, at recording.
	r                    *run
	first                []int32 // row of each segment
	convolve, rule, rest func(worker, item int)
}

// DeltaNet implements ops.Set.
func (r *recorder) DeltaNet(a ops.DeltaNetArgs) {
	s := a.Shape
	d := newDeltaNet(a, r.p.b.level)
	for i, v := range r.vector(a.Conv) { // by tap, so that neighbouring channels lie together
		d.taps[i%s.Kernel*d.channels+i/s.Kernel] = v
	}
	for i, v := range r.vector(a.ALog) {
		d.rate[i] = -exp(v)
	}
	d.dtBias, d.norm = r.vector(a.DTBias), r.vector(a.Norm)
	d.first = make([]int32, 0, r.p.rows)
	for s.ValueHeads*d.parts < 2*r.p.b.pool.threads && s.ValueDim%(2*d.parts*columnBlock) == 0 {
		d.parts *= 2
	}
	d.convolve, d.rule, d.rest = d.convolveItem, d.ruleItem, d.restItem
	r.plan.mixed = max(r.plan.mixed, d.channels)
	r.plan.heads = max(r.plan.heads, s.ValueHeads*s.ValueDim)
	r.plan.gates = max(r.plan.gates, s.ValueHeads)
	r.plan.chunk = max(r.plan.chunk, d.work())
	r.add(ops.PhaseDeltaNet, d.run)
}

// columnBlock is where the columns of a state may be split: two vectors of the
// widest level.
const columnBlock = 32

func newDeltaNet(a ops.DeltaNetArgs, level simd.Level) *deltaNet {
	s := a.Shape
	d := &deltaNet{
		DeltaNetArgs: a, level: level, taps: make([]float32, s.Channels()*s.Kernel), rate: make([]float32, s.ValueHeads), parts: 1,
		channels: s.Channels(), keys: s.KeyHeads * s.KeyDim, share: s.ValueHeads / s.KeyHeads,
		perHead: s.KeyDim * s.ValueDim,
	}
	d.group = 2*s.KeyDim + 2*d.share*s.ValueDim
	d.width = s.KeyHeads*d.group + 2*s.ValueHeads
	return d
}

// work returns how many values of private memory a worker needs.
func (d *deltaNet) work() int {
	s, c := d.Shape, ops.ChunkTokens
	return c * (2*s.KeyDim + s.ValueDim + 2*c + 2)
}

func (d *deltaNet) run(r *run) {
	s := d.Shape
	d.r, d.first = r, d.first[:0]
	at := 0
	for i := range r.Segments {
		d.first = append(d.first, int32(at))
		at += r.Segments[i].Len
	}
	if r.Tap != nil {
		d.tapInputs(r)
	}
	r.pool.each(len(r.Segments)*s.KeyHeads, d.convolve)
	if r.Tap != nil {
		r.tap(d.Layer, "conv_silu", d.channels, r.mixed[:r.rows*d.channels])
		for item := range r.rows * s.KeyHeads {
			d.normKeys(r, item/s.KeyHeads, item%s.KeyHeads)
		}
		d.tapGates(r)
	}
	r.pool.each(len(r.Segments)*s.ValueHeads*d.parts, d.rule)
	r.tap(d.Layer, "delta_out", s.ValueHeads*s.ValueDim, r.query[:r.rows*s.ValueHeads*s.ValueDim])
	if d.split() {
		r.pool.each(r.rows*s.ValueHeads, d.rest)
	}
	r.tap(d.Layer, "gated_norm", s.ValueDim, floats(d.Out)[:r.rows*s.ValueHeads*s.ValueDim])
}

// split says whether the gated norm has to wait for whole heads, or for a tap.
func (d *deltaNet) split() bool { return d.parts > 1 || d.r.Tap != nil }

// convolveItem makes q, k, v, decay and beta of one key head in one segment. The
// file groups q, k, v and z by key head; the convolution's channels are all q,
// all k, all v.
func (d *deltaNet) convolveItem(_, item int) {
	s, r := d.Shape, d.r
	segment, head := &r.Segments[item/s.KeyHeads], item%s.KeyHeads
	at, column, values := int(d.first[item/s.KeyHeads]), head*d.group, d.share*s.ValueDim
	d.convolveRun(r, segment, at, column, head*s.KeyDim, s.KeyDim)
	d.convolveRun(r, segment, at, column+s.KeyDim, d.keys+head*s.KeyDim, s.KeyDim)
	d.convolveRun(r, segment, at, column+2*s.KeyDim, 2*d.keys+head*values, values)
	for t := at; t < at+segment.Len; t++ {
		d.gates(r, t, head)
		if r.Tap == nil {
			d.normKeys(r, t, head)
		}
	}
}

// convolveRun runs the causal convolution and SiLU over n neighbouring channels,
// from a column of the input.
func (d *deltaNet) convolveRun(r *run, segment *ops.Segment, at, column, channel, n int) {
	past := d.Shape.Kernel - 1
	window, in := floats(d.Window)[(segment.Slot*d.channels+channel)*past:][:n*past], floats(d.In)
	if segment.Start == 0 {
		clear(window)
	}
	for t := at; t < at+segment.Len; t++ {
		y := r.mixed[t*d.channels+channel:][:n]
		d.level.Convolve(y, window, in[t*d.width+column:], d.taps[channel:], d.Shape.Kernel, d.channels)
		d.level.SiLU(y, y)
	}
}

// normKeys L2-norms q and k of a key head at row t.
func (d *deltaNet) normKeys(r *run, t, head int) {
	row := r.mixed[t*d.channels+head*d.Shape.KeyDim:]
	for _, x := range [2][]float32{row[:d.Shape.KeyDim], row[d.keys:][:d.Shape.KeyDim]} {
		d.level.Scale(x, float32(1/math.Sqrt(float64(d.level.SumSquares(x))+1e-6))) // eps inside the root
	}
}

// gates computes log decay g and write strength beta of a key head's value
// heads at row t. In ba, each key head has its b's, then its a's.
func (d *deltaNet) gates(r *run, t, head int) {
	s := d.Shape
	ba := floats(d.In)[t*d.width+s.KeyHeads*d.group+2*d.share*head:][:2*d.share]
	for i := range d.share {
		n := head*d.share + i
		r.beta[t*s.ValueHeads+n] = sigmoid(ba[i])
		r.decay[t*s.ValueHeads+n] = d.rate[n] * softplus(ba[d.share+i]+d.dtBias[n])
	}
}

// vectors returns q, k and v of a value head at row t.
func (d *deltaNet) vectors(r *run, t, head int) (q, k, v []float32) {
	s := d.Shape
	row := r.mixed[t*d.channels:][:d.channels]
	at := head / d.share * s.KeyDim
	return row[at:][:s.KeyDim], row[d.keys+at:][:s.KeyDim], row[2*d.keys+head*s.ValueDim:][:s.ValueDim]
}

// out returns where the delta rule's output of a value head at row t goes.
func (d *deltaNet) out(r *run, t, head int) []float32 {
	s := d.Shape
	return r.query[(t*s.ValueHeads+head)*s.ValueDim:][:s.ValueDim]
}

// scale is what q is multiplied with: 1/sqrt(KeyDim).
func (d *deltaNet) scale() float32 { return float32(1 / math.Sqrt(float64(d.Shape.KeyDim))) }

// ruleItem runs the delta rule for some columns of a value head in one segment.
// The chunk form takes all columns at once.
func (d *deltaNet) ruleItem(id, item int) {
	s, r := d.Shape, d.r
	index, part := item/d.parts, item%d.parts
	segment, head := &r.Segments[index/s.ValueHeads], index%s.ValueHeads
	at, w := int(d.first[index/s.ValueHeads]), &r.workers[id]
	state := floats(d.State)[(segment.Slot*s.ValueHeads+head)*d.perHead:][:d.perHead]
	width := s.ValueDim / d.parts
	if segment.Kind == ops.Prefill {
		if part > 0 {
			return
		}
		width = s.ValueDim
	}
	if segment.Start == 0 {
		for i := range s.KeyDim {
			clear(state[i*s.ValueDim+part*width:][:width])
		}
	}
	if segment.Kind == ops.Prefill {
		d.prefill(r, w, segment, at, head, state)
	} else {
		for t := at; t < at+segment.Len; t++ {
			d.step(r, w, t, head, part*width, width, state)
		}
	}
	if d.split() {
		return
	}
	for t := at; t < at+segment.Len; t++ {
		d.gatedNorm(r, t, head)
	}
}

// step is the delta rule for one token and n columns of one value head.
func (d *deltaNet) step(r *run, w *worker, t, head, column, n int, state []float32) {
	q, k, v := d.vectors(r, t, head)
	o := d.out(r, t, head)[column:][:n]
	gate := t*d.Shape.ValueHeads + head
	d.level.DeltaStep(o, state[column:], d.Shape.ValueDim, q, k, v[column:][:n], w.chunk[:n], r.beta[gate], exp(r.decay[gate]))
	d.level.Scale(o, d.scale())
}

// prefill runs a segment in chunks whose borders are multiples of ChunkTokens
// in the sequence.
func (d *deltaNet) prefill(r *run, w *worker, segment *ops.Segment, at, head int, state []float32) {
	position, left := segment.Start, segment.Len
	for left > 0 {
		n := min(ops.ChunkTokens-position%ops.ChunkTokens, left)
		d.chunk(r, w, at, n, head, state)
		at, position, left = at+n, position+n, left-n
	}
}

// deltaChunk is the work of one chunk of one value head, in a worker's memory.
type deltaChunk struct {
	queries, keys  []float32 // [C, KeyDim], together: their rows lie far apart in the step
	change         []float32 // [C, ValueDim]: D
	fade, products []float32 // [C, ChunkTokens]: e^{G_i-G_j} for j <= i; products of pairs
	total, grown   []float32 // [C]: G and e^G
}

func (d *deltaNet) cut(memory []float32) (c deltaChunk) {
	s := d.Shape
	for _, part := range []struct {
		to    *[]float32
		width int
	}{
		{&c.queries, s.KeyDim}, {&c.keys, s.KeyDim}, {&c.change, s.ValueDim},
		{&c.fade, ops.ChunkTokens}, {&c.products, ops.ChunkTokens}, {&c.total, 1}, {&c.grown, 1},
	} {
		*part.to, memory = memory[:ops.ChunkTokens*part.width], memory[ops.ChunkTokens*part.width:]
	}
	return c
}

// chunk is the delta rule for C tokens at once, equal to C steps. With G_i the
// sum of g up to row i and S the incoming state, the change each row writes is
//
//	D_i = beta_i (v_i - e^{G_i} S^T k_i) - sum_{j<i} beta_i (k_i.k_j) e^{G_i-G_j} D_j
//
// by forward substitution, and then
//
//	o_i = e^{G_i} S^T q_i + sum_{j<=i} (q_i.k_j) e^{G_i-G_j} D_j
//	S  <- e^{G_C} S + sum_j e^{G_C-G_j} k_j D_j^T
//
// All exponents are at most 0: e^{-G} would overflow.
func (d *deltaNet) chunk(r *run, w *worker, at, n, head int, state []float32) {
	heads, dk, dv, l := d.Shape.ValueHeads, d.Shape.KeyDim, d.Shape.ValueDim, d.level
	c := d.cut(w.chunk)
	var sum float32
	for i := range n {
		q, k, _ := d.vectors(r, at+i, head)
		copy(c.queries[i*dk:], q)
		copy(c.keys[i*dk:], k)
		sum += r.decay[(at+i)*heads+head]
		c.total[i] = sum
		l.Exp(c.fade[i*ops.ChunkTokens:][:i+1], c.total[:i+1], -1, sum)
	}
	l.Scale(c.queries[:n*dk], d.scale())
	l.Exp(c.grown, c.total[:n], 1, 0)
	d.changes(r, &c, at, n, head, state)

	out, stride := r.query[(at*heads+head)*dv:], heads*dv
	for i := range n {
		clear(out[i*stride:][:dv])
	}
	l.Gemm(out, stride, c.queries, dk, state, dv, n, dv, dk)
	for i := range n {
		l.Scale(out[i*stride:][:dv], c.grown[i])
	}
	for i := 0; i < n; i += pairRows {
		rows := min(pairRows, n-i)
		d.pairs(&c, c.queries, i, rows)
		l.Gemm(out[i*stride:], stride, c.products[i*ops.ChunkTokens:], ops.ChunkTokens, c.change, dv, rows, dv, i+rows)
	}

	l.Scale(state, c.grown[n-1])
	for j, kept := range c.fade[(n-1)*ops.ChunkTokens:][:n] {
		l.Scale(c.keys[j*dk:][:dk], kept)
	}
	l.GemmAT(state, dv, c.keys, dk, c.change, dv, dk, dv, n)
}

// pairRows is how many rows of pairs are multiplied at once: of the square of
// pairs only the lower triangle is needed, in steps of so many rows.
const pairRows = 16

// pairs leaves (x_i.k_j) e^{G_i-G_j} of some rows in c.products, 0 for j > i.
func (d *deltaNet) pairs(c *deltaChunk, x []float32, first, rows int) {
	dk := d.Shape.KeyDim
	d.level.GemmT(c.products[first*ops.ChunkTokens:], ops.ChunkTokens, x[first*dk:], dk, c.keys, dk, rows, first+rows, dk)
	for i := first; i < first+rows; i++ {
		row := c.products[i*ops.ChunkTokens:][:first+rows]
		d.level.Mul(row[:i+1], c.fade[i*ops.ChunkTokens:])
		clear(row[i+1:])
	}
}

// changes solves for D: earlier blocks of rows by products, then row by row.
func (d *deltaNet) changes(r *run, c *deltaChunk, at, n, head int, state []float32) {
	heads, dk, dv, l := d.Shape.ValueHeads, d.Shape.KeyDim, d.Shape.ValueDim, d.level
	clear(c.change[:n*dv])
	l.Gemm(c.change, dv, c.keys, dk, state, dv, n, dv, dk)
	for first := 0; first < n; first += pairRows {
		rows := min(pairRows, n-first)
		d.pairs(c, c.keys, first, rows)
		for i := first; i < first+rows; i++ {
			_, _, v := d.vectors(r, at+i, head)
			beta := r.beta[(at+i)*heads+head]
			l.Scale(c.change[i*dv:][:dv], -beta*c.grown[i])
			l.Axpy(c.change[i*dv:][:dv], beta, v)
			l.Scale(c.products[i*ops.ChunkTokens:][:i], -beta)
		}
		l.Gemm(c.change[first*dv:], dv, c.products[first*ops.ChunkTokens:], ops.ChunkTokens, c.change, dv, rows, dv, first)
		for i := first + 1; i < first+rows; i++ {
			for j := first; j < i; j++ {
				l.Axpy(c.change[i*dv:][:dv], c.products[i*ops.ChunkTokens+j], c.change[j*dv:])
			}
		}
	}
}

// restItem norms one head of one row where ruleItem could not.
func (d *deltaNet) restItem(_, item int) {
	d.gatedNorm(d.r, item/d.Shape.ValueHeads, item%d.Shape.ValueHeads)
}

// gatedNorm writes w * (o * rsqrt(mean(o^2) + eps)) * SiLU(z) of a value head at
// row t: the norm comes first, and its weight is not zero-centred.
func (d *deltaNet) gatedNorm(r *run, t, head int) {
	s := d.Shape
	y := floats(d.Out)[(t*s.ValueHeads+head)*s.ValueDim:][:s.ValueDim]
	z := floats(d.In)[t*d.width+head/d.share*d.group+2*s.KeyDim+(d.share+head%d.share)*s.ValueDim:][:s.ValueDim]
	d.level.Norm(y, d.out(r, t, head), d.norm, d.Eps, 0)
	d.level.SiLUMul(y, z, y)
}

func (d *deltaNet) tapInputs(r *run) {
	wide := d.Shape.KeyHeads * d.group
	r.tapColumns(d.Layer, "in_proj_qkvz", floats(d.In), d.width, 0, wide)
	r.tapColumns(d.Layer, "in_proj_ba", floats(d.In), d.width, wide, d.width)
}

func (d *deltaNet) tapGates(r *run) {
	r.tapColumns(d.Layer, "q_l2", r.mixed, d.channels, 0, d.keys)
	r.tapColumns(d.Layer, "k_l2", r.mixed, d.channels, d.keys, 2*d.keys)
	r.tap(d.Layer, "g", d.Shape.ValueHeads, r.decay[:r.rows*d.Shape.ValueHeads])
	r.tap(d.Layer, "beta", d.Shape.ValueHeads, r.beta[:r.rows*d.Shape.ValueHeads])
}

// tapColumns taps columns c0 to c1 of rows with a stride.
func (r *run) tapColumns(layer int, what string, data []float32, stride, c0, c1 int) {
	part := make([]float32, 0, r.rows*(c1-c0))
	for t := range r.rows {
		part = append(part, data[t*stride+c0:t*stride+c1]...)
	}
	r.tap(layer, what, c1-c0, part)
}
