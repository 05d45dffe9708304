package drivertest

import (
	"errors"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// delta is a launch of a kernel of the gated delta net: its arguments, the geometry
// of rh::delta::Layout, and the first error of an address.
type delta struct {
	kernels.DeltaArgs
	m        Memory
	err      error
	level    simd.Level
	segments int

	share, group, keys, channels, width, wide int
	keyDim, valueDim, keyHeads, valueHeads    int
}

// deltaKernel makes a Kernel of what it does to a launch.
func deltaKernel(work func(d *delta)) Kernel {
	return func(m Memory, l driver.Launch) error {
		a, err := Args[kernels.DeltaArgs](l)
		if err != nil {
			return err
		}
		d := &delta{DeltaArgs: a, m: m, level: simd.Best(), segments: int(l.Grid[2]),
			keyDim: int(a.KeyDim), valueDim: int(a.ValueDim), keyHeads: int(a.KeyHeads), valueHeads: int(a.ValueHeads)}
		d.share = d.valueHeads / d.keyHeads
		d.group = 2*d.keyDim + 2*d.share*d.valueDim
		d.keys = d.keyHeads * d.keyDim
		d.channels = 2*d.keys + d.valueHeads*d.valueDim
		d.width = d.keyHeads*d.group + 2*d.valueHeads
		d.wide = d.valueHeads * d.valueDim
		work(d)
		return d.err
	}
}

// floats are n values behind an address.
func (d *delta) floats(base uint64, first, n int) []float32 {
	values, err := Slice[float32](d.m, base+4*uint64(first), n)
	if err != nil {
		d.err = errors.Join(d.err, err)
		return make([]float32, n)
	}
	return values
}

// each visits the pieces of segments that a launch runs.
func (d *delta) each(visit func(s kernels.Segment)) {
	segments, err := Slice[kernels.Segment](d.m, d.Segments, d.segments)
	d.err = errors.Join(d.err, err)
	for _, s := range segments {
		s.Start += int32(d.From)
		s.Len = min(s.Len-int32(d.From), int32(d.Rows))
		if s.Len > 0 {
			visit(s)
		}
	}
}

// rows visits the rows that hold something.
func (d *delta) rows(visit func(row int)) {
	table, err := Slice[kernels.Row](d.m, d.Table, int(d.Rows))
	d.err = errors.Join(d.err, err)
	for i := range table {
		if table[i].Slot >= 0 {
			visit(i)
		}
	}
}

// column is where In has the input of a channel of the convolution.
func (d *delta) column(channel int) int {
	if channel < 2*d.keys {
		part, i := channel/d.keys, channel%d.keys
		return i/d.keyDim*d.group + part*d.keyDim + i%d.keyDim
	}
	i := channel - 2*d.keys
	head := i / d.valueDim
	return head/d.share*d.group + 2*d.keyDim + head%d.share*d.valueDim + i%d.valueDim
}

func (d *delta) convolve() {
	past := int(d.Kernel) - 1
	d.each(func(s kernels.Segment) {
		window := d.floats(d.Window, int(s.Slot)*d.channels*past, d.channels*past)
		taps := d.floats(d.Conv, 0, d.channels*int(d.Kernel))
		if s.Start == 0 {
			clear(window)
		}
		for t := range int(s.Len) {
			in := d.floats(d.In, (int(s.First)+t)*d.width, d.width)
			mixed := d.floats(d.Mixed, (int(s.First)+t)*d.channels, d.channels)
			for c := range mixed {
				w, x, y := window[c*past:][:past], in[d.column(c)], float32(0)
				for i, v := range w {
					y += taps[c*(past+1)+i] * v
				}
				y += taps[c*(past+1)+past] * x
				copy(w, w[1:])
				w[past-1] = x
				mixed[c] = silu(y)
			}
		}
	})
}

// gates norms q and k of a row, and gives beta and g of its heads.
func (d *delta) gates(row int) {
	mixed := d.floats(d.Mixed, row*d.channels, 2*d.keys)
	for at := 0; at < 2*d.keys; at += d.keyDim {
		x := mixed[at:][:d.keyDim]
		d.level.Scale(x, float32(1/math.Sqrt(float64(d.level.SumSquares(x))+1e-6)))
	}
	beta, decay := d.floats(d.Beta, row*d.valueHeads, d.valueHeads), d.floats(d.Decay, row*d.valueHeads, d.valueHeads)
	rate, bias := d.floats(d.ALog, 0, d.valueHeads), d.floats(d.DTBias, 0, d.valueHeads)
	for n := range beta {
		ba := d.floats(d.In, row*d.width+d.keyHeads*d.group+n/d.share*2*d.share+n%d.share, d.share+1)
		beta[n] = float32(1 / (1 + math.Exp(-float64(ba[0]))))
		decay[n] = float32(-math.Exp(float64(rate[n])) * softplus(float64(ba[d.share]+bias[n])))
	}
}

func softplus(x float64) float64 {
	if x > 20 {
		return x
	}
	return math.Log1p(math.Exp(x))
}

func silu(x float32) float32 { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }

// state is that of a value head in the slot of a segment, zero at its start.
func (d *delta) state(s kernels.Segment, head int) []float32 {
	n := d.keyDim * d.valueDim
	state := d.floats(d.State, (int(s.Slot)*d.valueHeads+head)*n, n)
	if s.Start == 0 {
		clear(state)
	}
	return state
}

// vectors are q, k and v of a value head at a row.
func (d *delta) vectors(row, head int) (q, k, v []float32) {
	mixed := d.floats(d.Mixed, row*d.channels, d.channels)
	at := head / d.share * d.keyDim
	return mixed[at:][:d.keyDim], mixed[d.keys+at:][:d.keyDim], mixed[2*d.keys+head*d.valueDim:][:d.valueDim]
}

// rule runs the delta rule token by token.
func (d *delta) rule() {
	change := make([]float32, d.valueDim)
	d.each(func(s kernels.Segment) {
		for head := range d.valueHeads {
			state := d.state(s, head)
			for row := int(s.First); row < int(s.First+s.Len); row++ {
				q, k, v := d.vectors(row, head)
				gate := row*d.valueHeads + head
				beta, decay := d.floats(d.Beta, gate, 1)[0], d.floats(d.Decay, gate, 1)[0]
				out := d.floats(d.Heads, row*d.wide+head*d.valueDim, d.valueDim)
				d.level.DeltaStep(out, state, d.valueDim, q, k, v, change, beta, exp(decay))
				d.level.Scale(out, float32(1/math.Sqrt(float64(d.keyDim))))
			}
		}
	})
}

// step is all that follows the convolution, token by token.
func (d *delta) step() {
	d.rows(d.gates)
	d.rule()
	d.rows(d.norm)
}

// deltaChunk is the chunk of the prefill form: see deltanet_prefill.cu.
const deltaChunk = 64

// chunks visits the chunks of a prompt by value head: their first row and how many
// they have.
func (d *delta) chunks(visit func(s kernels.Segment, head, first, n int)) {
	d.each(func(s kernels.Segment) {
		for head := range d.valueHeads {
			for at := 0; at < int(s.Len); {
				n := min(deltaChunk-(int(s.Start)+at)%deltaChunk, int(s.Len)-at)
				visit(s, head, int(s.First)+at, n)
				at += n
			}
		}
	})
}

// solve makes U, W, P and G of each chunk, and norms q and k before.
func (d *delta) solve() {
	d.rows(d.gates)
	scale := float32(1 / math.Sqrt(float64(d.keyDim)))
	d.chunks(func(_ kernels.Segment, head, first, n int) {
		total := make([]float32, n)
		var sum float32
		for i := range n {
			g := d.floats(d.Decay, (first+i)*d.valueHeads+head, 1)
			sum += g[0]
			total[i], g[0] = sum, sum
		}
		for i := range n {
			q, k, v := d.vectors(first+i, head)
			beta := d.floats(d.Beta, (first+i)*d.valueHeads+head, 1)[0]
			u, w, pairs := d.solved(first+i, head)
			for c := range v {
				u[c], w[c] = beta*v[c], beta*exp(total[i])*k[c]
			}
			clear(pairs)
			for j := range i + 1 {
				_, kj, _ := d.vectors(first+j, head)
				fade := exp(total[i] - total[j])
				pairs[j] = d.level.Dot(q, kj) * fade * scale
				if j < i {
					uj, wj, _ := d.solved(first+j, head)
					against := -beta * d.level.Dot(k, kj) * fade
					d.level.Axpy(u, against, uj)
					d.level.Axpy(w, against, wj)
				}
			}
		}
	})
}

// solved are the rows of U, W and P of a value head.
func (d *delta) solved(row, head int) (u, w, pairs []float32) {
	at := row*d.wide + head*d.valueDim
	return d.floats(d.Change, at, d.valueDim), d.floats(d.Carry, at, d.valueDim),
		d.floats(d.Pairs, (row*d.valueHeads+head)*deltaChunk, deltaChunk)
}

// scan walks over the chunks with the state.
func (d *delta) scan() {
	scale := float32(1 / math.Sqrt(float64(d.keyDim)))
	d.chunks(func(s kernels.Segment, head, first, n int) {
		n0 := d.keyDim * d.valueDim
		state := d.floats(d.State, (int(s.Slot)*d.valueHeads+head)*n0, n0)
		if s.Start == 0 && first == int(s.First) {
			clear(state)
		}
		total := func(i int) float32 { return d.floats(d.Decay, (first+i)*d.valueHeads+head, 1)[0] }
		changes := make([][]float32, n)
		for i := range n {
			q, _, _ := d.vectors(first+i, head)
			u, w, pairs := d.solved(first+i, head)
			changes[i] = append([]float32(nil), u...)
			out := d.floats(d.Heads, (first+i)*d.wide+head*d.valueDim, d.valueDim)
			clear(out)
			grown := exp(total(i)) * scale
			for c := range d.keyDim {
				row := state[c*d.valueDim:][:d.valueDim]
				d.level.Axpy(changes[i], -w[c], row)
				d.level.Axpy(out, grown*q[c], row)
			}
			for j := range i + 1 {
				d.level.Axpy(out, pairs[j], changes[j])
			}
		}
		d.level.Scale(state, exp(total(n-1)))
		for j := range n {
			_, k, _ := d.vectors(first+j, head)
			fade := exp(total(n-1) - total(j))
			for c := range k {
				d.level.Axpy(state[c*d.valueDim:][:d.valueDim], fade*k[c], changes[j])
			}
		}
	})
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// norm is the gated norm of a row.
func (d *delta) norm(row int) {
	weight := d.floats(d.Norm, 0, d.valueDim)
	out, in := d.floats(d.Out, row*d.wide, d.wide), d.floats(d.In, row*d.width, d.width)
	heads := d.floats(d.Heads, row*d.wide, d.wide)
	for head := range d.valueHeads {
		z := in[head/d.share*d.group+2*d.keyDim+(d.share+head%d.share)*d.valueDim:]
		o := heads[head*d.valueDim:][:d.valueDim]
		rms := 1 / math.Sqrt(float64(d.level.SumSquares(o))/float64(d.valueDim)+float64(d.Eps))
		for i, v := range o {
			out[head*d.valueDim+i] = v * float32(rms) * weight[i] * silu(z[i])
		}
	}
	if d.Half == 0 {
		return
	}
	half, err := Slice[uint16](d.m, d.Half+2*uint64(row*d.wide), d.wide)
	d.err = errors.Join(d.err, err)
	for i := range half {
		half[i] = ToActivation(out[i])
	}
}

// columns copies neighbouring columns of rows.
func columns(m Memory, a kernels.ColumnsArgs) error {
	for row := range uint64(a.Rows) {
		dst, err := Slice[float32](m, a.Dst+4*row*uint64(a.Width), int(a.Width))
		src, srcErr := Slice[float32](m, a.Src+4*row*uint64(a.Stride), int(a.Width))
		if err := errors.Join(err, srcErr); err != nil {
			return err
		}
		copy(dst, src)
	}
	return nil
}
