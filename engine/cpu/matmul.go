package cpu

import (
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Tiles of a packed matrix are unpacked to fp32 once for up to tileRows rows:
// tileK x tileN values (8 KB) stay in the first-level cache.
const (
	tileK    = 32
	tileN    = 64
	tileRows = 64
)

// rows is an operand: len(index) rows of a matrix with the given stride, or
// count consecutive ones when index is nil.
type rows struct {
	data   []float32
	stride int
	count  int
	index  []int32
}

func (r rows) row(i, width int) []float32 {
	if r.index != nil {
		i = int(r.index[i])
	}
	return r.data[i*r.stride:][:width]
}

// part returns rows i to j.
func (r rows) part(i, j int) rows {
	if r.index != nil {
		return rows{r.data, r.stride, j - i, r.index[i:j]}
	}
	return rows{r.data[i*r.stride:], r.stride, j - i, nil}
}

// block multiplies up to tileRows rows of x with columns n0 to n1 of m (at most
// tileN) and leaves the products in acc[row*(n1-n0)+column]. Each product is
// one sum over K in ascending order, four terms at a time, whatever the number
// of rows.
func (w *worker) block(acc []float32, x rows, m *ops.Matrix, n0, n1 int) {
	if m.Layout == ops.Dense {
		w.denseBlock(acc, x, m, n0, n1)
		return
	}
	width := n1 - n0
	clear(acc[:x.count*width])
	for k0 := 0; k0 < m.K; k0 += tileK {
		k1 := min(k0+tileK, m.K)
		m.Tile(w.tile[:], k0, k1, n0, n1)
		for i := range x.count {
			accumulate(acc[i*width:][:width], x.row(i, m.K)[k0:k1], w.tile[:(k1-k0)*width])
		}
	}
}

// accumulate adds x[K] times tile[K, len(acc)] to acc. K is a multiple of 32
// for packed matrices, so four rows of the tile at a time come out even.
func accumulate(acc, x, tile []float32) {
	n := len(acc)
	for len(x) >= 4 {
		x0, x1, x2, x3 := x[0], x[1], x[2], x[3]
		t0, t1, t2, t3 := tile[:n], tile[n:][:n], tile[2*n:][:n], tile[3*n:][:n] // in this form the compiler proves the bounds
		for j := range acc {
			acc[j] += x0*t0[j] + x1*t1[j] + x2*t2[j] + x3*t3[j]
		}
		x, tile = x[4:], tile[4*n:]
	}
	for ; len(x) > 0; x, tile = x[1:], tile[n:] {
		axpy(acc, x[0], tile[:n])
	}
}

// denseBlock is block for unquantised matrices, whose rows are outputs.
func (w *worker) denseBlock(acc []float32, x rows, m *ops.Matrix, n0, n1 int) {
	values := w.row[:m.K]
	for n := n0; n < n1; n++ {
		m.Row(values, n)
		for i := range x.count {
			acc[i*(n1-n0)+n-n0] = dot(x.row(i, m.K), values)
		}
	}
}

// blocks calls do for every block of x times m, shared over the workers.
func (r *run) blocks(x rows, m *ops.Matrix, do func(w *worker, r0, r1, n0, n1 int)) {
	across := (m.N + tileN - 1) / tileN
	down := (x.count + tileRows - 1) / tileRows
	r.pool.each(across*down, func(id, item int) {
		r0, n0 := item/across*tileRows, item%across*tileN
		do(&r.workers[id], r0, min(r0+tileRows, x.count), n0, min(n0+tileN, m.N))
	})
}

// multiply computes out[row, N] = x[row, K] m.
func (r *run) multiply(out rows, x rows, m *ops.Matrix) {
	r.blocks(x, m, func(w *worker, r0, r1, n0, n1 int) {
		w.block(w.acc[:], x.part(r0, r1), m, n0, n1)
		for i := r0; i < r1; i++ {
			copy(out.row(i, m.N)[n0:n1], w.acc[(i-r0)*(n1-n0):])
		}
	})
}

// dot sums in four strands, in an order that depends on the length alone.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	for len(a) >= 4 && len(b) >= 4 { // both, so that the compiler drops the bounds checks
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// axpy computes y += a*x.
func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += a * x[i]
	}
}
