package cpu

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// deltaNet is one recorded gated delta net (Yang et al., "Gated Delta
// Networks", 2024, as Qwen3-Next uses it).
type deltaNet struct {
	ops.DeltaNetArgs
	conv, aLog, dtBias, norm []float32

	channels int // width of the convolution: q, k, v flat
	keys     int // KeyHeads*KeyDim: where k starts in the mixed row; v starts at twice that
	share    int // value heads of one key head
	group    int // width of one key head's part of qkvz
	width    int // In row: qkvz, then ba
	perHead  int // state of one value head
}

// DeltaNet implements ops.Set.
func (r *recorder) DeltaNet(a ops.DeltaNetArgs) {
	s := a.Shape
	d := &deltaNet{
		DeltaNetArgs: a,
		conv:         r.vector(a.Conv), aLog: r.vector(a.ALog), dtBias: r.vector(a.DTBias), norm: r.vector(a.Norm),
		channels: s.Channels(), keys: s.KeyHeads * s.KeyDim, share: s.ValueHeads / s.KeyHeads,
		perHead: s.KeyDim * s.ValueDim,
	}
	d.group = 2*s.KeyDim + 2*d.share*s.ValueDim
	d.width = s.KeyHeads*d.group + 2*s.ValueHeads
	r.plan.mixed = max(r.plan.mixed, d.channels)
	r.plan.heads = max(r.plan.heads, s.ValueHeads*s.ValueDim)
	r.plan.gates = max(r.plan.gates, s.ValueHeads)
	r.plan.chunk = max(r.plan.chunk, ops.ChunkTokens*(s.ValueDim+ops.ChunkTokens))
	r.add("delta_net", a.Layer, d.run)
}

func (d *deltaNet) run(r *run) {
	s := d.Shape
	if r.Tap != nil {
		d.tapInputs(r)
	}
	at := 0
	for _, segment := range r.Segments {
		d.convolve(r, segment, at)
		at += segment.Len
	}
	r.tap(d.Layer, "conv_silu", d.channels, r.mixed[:r.rows*d.channels])
	r.pool.each(r.rows, func(_, t int) { d.normKeys(r, t); d.gates(r, t) })
	if r.Tap != nil {
		d.tapGates(r)
	}
	at = 0
	for _, segment := range r.Segments {
		r.pool.each(s.ValueHeads, func(id, head int) {
			state := floats(d.State)[(segment.Slot*s.ValueHeads+head)*d.perHead:][:d.perHead]
			if segment.Start == 0 {
				clear(state)
			}
			if segment.Kind == ops.Prefill {
				d.prefill(r, &r.workers[id], segment, at, head, state)
				return
			}
			for t := at; t < at+segment.Len; t++ {
				d.step(r, &r.workers[id], t, head, state)
			}
		})
		at += segment.Len
	}
	r.tap(d.Layer, "delta_out", s.ValueHeads*s.ValueDim, r.query[:r.rows*s.ValueHeads*s.ValueDim])
	r.pool.each(r.rows, func(_, t int) { d.gatedNorm(r, t) })
	r.tap(d.Layer, "gated_norm", s.ValueDim, floats(d.Out)[:r.rows*s.ValueHeads*s.ValueDim])
}

// input returns the convolution's raw input of channel c at row t. The file
// groups q, k, v and z by key head; the convolution's channels are all q, all
// k, all v.
func (d *deltaNet) input(in []float32, t, c int) float32 {
	s := d.Shape
	row := in[t*d.width:]
	switch {
	case c < d.keys:
		return row[c/s.KeyDim*d.group+c%s.KeyDim]
	case c < 2*d.keys:
		c -= d.keys
		return row[c/s.KeyDim*d.group+s.KeyDim+c%s.KeyDim]
	default:
		c -= 2 * d.keys
		wide := d.share * s.ValueDim // v of one key head
		return row[c/wide*d.group+2*s.KeyDim+c%wide]
	}
}

// gate returns z of a value head at row t.
func (d *deltaNet) gate(in []float32, t, head int) []float32 {
	s := d.Shape
	at := head/d.share*d.group + 2*s.KeyDim + (d.share+head%d.share)*s.ValueDim
	return in[t*d.width+at:][:s.ValueDim]
}

// convolve runs the causal convolution and SiLU over a segment whose first row
// is at, and keeps the last inputs in the segment's window.
func (d *deltaNet) convolve(r *run, segment ops.Segment, at int) {
	in, past := floats(d.In), d.Shape.Kernel-1
	windows := floats(d.Window)[segment.Slot*d.channels*past:]
	const span = 64 // channels a work item
	r.pool.each((d.channels+span-1)/span, func(_, item int) {
		for c := item * span; c < min((item+1)*span, d.channels); c++ {
			window := windows[c*past:][:past]
			if segment.Start == 0 {
				clear(window)
			}
			taps := d.conv[c*(past+1):][:past+1]
			for t := at; t < at+segment.Len; t++ {
				u := d.input(in, t, c)
				sum := float32(0)
				for i, w := range window {
					sum += taps[i] * w
				}
				sum += taps[past] * u
				r.mixed[t*d.channels+c] = silu(sum)
				if past > 0 {
					copy(window, window[1:])
					window[past-1] = u
				}
			}
		}
	})
}

// normKeys L2-norms q and k of row t by key head.
func (d *deltaNet) normKeys(r *run, t int) {
	row := r.mixed[t*d.channels:][:2*d.keys]
	for ; len(row) > 0; row = row[d.Shape.KeyDim:] {
		head := row[:d.Shape.KeyDim]
		scale := float32(1 / math.Sqrt(sumSquares(head)+1e-6)) // eps inside the root
		for i := range head {
			head[i] *= scale
		}
	}
}

// gates computes log decay g and write strength beta of row t. In ba, each key
// head has its b's, then its a's.
func (d *deltaNet) gates(r *run, t int) {
	s := d.Shape
	ba := floats(d.In)[t*d.width+s.KeyHeads*d.group:]
	for head := range s.ValueHeads {
		at := head/d.share*2*d.share + head%d.share
		b, a := ba[at], ba[at+d.share]
		r.beta[t*s.ValueHeads+head] = sigmoid(b)
		r.decay[t*s.ValueHeads+head] = -exp(d.aLog[head]) * softplus(a+d.dtBias[head])
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

// step is the delta rule for one token and one value head, S [KeyDim, ValueDim]:
//
//	S <- e^g S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q
func (d *deltaNet) step(r *run, w *worker, t, head int, state []float32) {
	dv := d.Shape.ValueDim
	q, k, v := d.vectors(r, t, head)
	decay := exp(r.decay[t*d.Shape.ValueHeads+head])
	beta := r.beta[t*d.Shape.ValueHeads+head]
	change := w.chunk[:dv]
	clear(change)
	for i, ki := range k {
		row := state[i*dv:][:dv]
		for j := range row {
			row[j] *= decay
			change[j] += ki * row[j]
		}
	}
	for j := range change {
		change[j] = beta * (v[j] - change[j])
	}
	o, scale := d.out(r, t, head), d.scale()
	clear(o)
	for i, ki := range k {
		row, qi := state[i*dv:][:dv], q[i]*scale
		for j := range row {
			row[j] += ki * change[j]
			o[j] += qi * row[j]
		}
	}
}

// prefill runs a segment in chunks whose borders are multiples of ChunkTokens
// in the sequence.
func (d *deltaNet) prefill(r *run, w *worker, segment ops.Segment, at, head int, state []float32) {
	position, left := segment.Start, segment.Len
	for left > 0 {
		n := min(ops.ChunkTokens-position%ops.ChunkTokens, left)
		d.chunk(r, w, at, n, head, state)
		at, position, left = at+n, position+n, left-n
	}
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
func (d *deltaNet) chunk(r *run, w *worker, at, c, head int, state []float32) {
	heads, dv := d.Shape.ValueHeads, d.Shape.ValueDim
	change, total := w.chunk[:c*dv], w.chunk[c*dv:][:c]
	var sum float32
	for i := range c {
		sum += r.decay[(at+i)*heads+head]
		total[i] = sum
	}
	for i := range c {
		_, k, v := d.vectors(r, at+i, head)
		beta := r.beta[(at+i)*heads+head]
		row := change[i*dv:][:dv]
		project(row, k, state, exp(total[i]))
		for j := range row {
			row[j] = beta * (v[j] - row[j])
		}
		for j := range i {
			_, kj, _ := d.vectors(r, at+j, head)
			axpy(row, -beta*dot(k, kj)*exp(total[i]-total[j]), change[j*dv:][:dv])
		}
	}
	scale := d.scale()
	for i := range c {
		q, _, _ := d.vectors(r, at+i, head)
		o := d.out(r, at+i, head)
		project(o, q, state, exp(total[i])*scale)
		for j := range i + 1 {
			_, kj, _ := d.vectors(r, at+j, head)
			axpy(o, dot(q, kj)*exp(total[i]-total[j])*scale, change[j*dv:][:dv])
		}
	}
	decay := exp(total[c-1])
	for i := range state {
		state[i] *= decay
	}
	for j := range c {
		_, k, _ := d.vectors(r, at+j, head)
		kept := exp(total[c-1] - total[j])
		for i, ki := range k {
			axpy(state[i*dv:][:dv], kept*ki, change[j*dv:][:dv])
		}
	}
}

// project writes factor * S^T x.
func project(dst, x, state []float32, factor float32) {
	clear(dst)
	for i, xi := range x {
		axpy(dst, xi, state[i*len(dst):][:len(dst)])
	}
	for j := range dst {
		dst[j] *= factor
	}
}

// gatedNorm writes w * (o * rsqrt(mean(o^2) + eps)) * SiLU(z) by value head:
// the norm comes first, and its weight is not zero-centred.
func (d *deltaNet) gatedNorm(r *run, t int) {
	s := d.Shape
	for head := range s.ValueHeads {
		o, z := d.out(r, t, head), d.gate(floats(d.In), t, head)
		y := floats(d.Out)[(t*s.ValueHeads+head)*s.ValueDim:][:s.ValueDim]
		scale := rsqrtMean(o, d.Eps)
		for i := range y {
			y[i] = d.norm[i] * (o[i] * scale) * silu(z[i])
		}
	}
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
