// Package cpu is the reference machine: every phase in plain Go, fp32, straight
// from the packed weights, parallel over cores. The formulas stand here as they
// stand in the model's description; faster machines are admitted when they pass
// the same goldens.
//
// Whose bits: every sum runs in an order fixed by the matrix and the position
// alone. Neither the number of threads, nor the other rows of a step, nor the
// split of a prompt changes a bit of a row.
package cpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Backend runs programs on the host's cores.
type Backend struct {
	pool    *pool
	vectors map[*ops.Vector][]float32
	placed  map[*ops.Matrix]bool
}

var _ ops.Backend = (*Backend)(nil)

// Options of New. The zero value is what most people want.
type Options struct {
	Threads  int    // 0 means one a core
	Kernels  string // "portable", "avx2", "avx512"; "" for the best that the machine runs
	Numerics string // "exact" or "fast"; "" for exact
}

// New returns a backend. Its errors say which option this machine cannot meet.
func New(o Options) (*Backend, error) {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	return &Backend{
		pool:    newPool(o.Threads),
		vectors: make(map[*ops.Vector][]float32),
		placed:  make(map[*ops.Matrix]bool),
	}, nil
}

// Caps implements ops.Backend.
func (b *Backend) Caps() ops.Caps {
	return ops.Caps{Name: "cpu", Kernels: "go-reference", Numerics: "exact", Threads: b.pool.threads, Taps: true}
}

// Place implements ops.Backend. Matrices stay where they are mapped; vectors
// are widened to fp32.
func (b *Backend) Place(ctx context.Context, w ops.Weights, report func(done, total int64)) error {
	var done, total int64
	for _, m := range w.Matrices {
		total += m.Bytes()
	}
	for _, v := range w.Vectors {
		values := make([]float32, v.N)
		v.Values(values)
		b.vectors[v] = values
	}
	for _, m := range w.Matrices {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.placed[m] = true
		done += m.Bytes()
		if report != nil {
			report(done, total)
		}
	}
	return nil
}

// Close stops the worker threads.
func (b *Backend) Close() error {
	b.pool.close()
	return nil
}

// Copy implements ops.Backend.
func (b *Backend) Copy(dst, src ops.Buf) error {
	if dst.Bytes() != src.Bytes() {
		return fmt.Errorf("cpu: copy of %d bytes into %d", src.Bytes(), dst.Bytes())
	}
	copy(bytesOf(dst), bytesOf(src))
	return nil
}

// Read implements ops.Backend.
func (b *Backend) Read(dst []byte, src ops.Buf) error {
	if int64(len(dst)) != src.Bytes() {
		return fmt.Errorf("cpu: read of %d bytes into %d", src.Bytes(), len(dst))
	}
	copy(dst, bytesOf(src))
	return nil
}

// Write implements ops.Backend.
func (b *Backend) Write(dst ops.Buf, src []byte) error {
	if int64(len(src)) != dst.Bytes() {
		return fmt.Errorf("cpu: write of %d bytes into %d", len(src), dst.Bytes())
	}
	copy(bytesOf(dst), src)
	return nil
}

// Record implements ops.Backend.
func (b *Backend) Record(rows int, build func(ops.Set) error) (ops.Program, error) {
	p := &program{b: b, rows: rows}
	r := &recorder{p: p}
	if err := errors.Join(build(r), r.err); err != nil {
		return nil, err
	}
	p.scratch = newScratch(rows, b.pool.threads, r.plan)
	return p, nil
}

// recorder is the ops.Set that notes each phase as a closure.
type recorder struct {
	p    *program
	plan plan
	err  error
}

func (r *recorder) add(name string, layer int, run func(*run)) {
	r.p.phases = append(r.p.phases, phase{name: name, layer: layer, run: run})
}

// vector returns the placed values of v, noting an error when there are none.
func (r *recorder) vector(v *ops.Vector) []float32 {
	values, ok := r.p.b.vectors[v]
	if !ok {
		r.err = errors.Join(r.err, fmt.Errorf("cpu: vector %v was recorded but never placed", v))
	}
	return values
}

func (r *recorder) need(matrices ...*ops.Matrix) {
	for _, m := range matrices {
		if !r.p.b.placed[m] {
			r.err = errors.Join(r.err, fmt.Errorf("cpu: matrix %v was recorded but never placed", m))
			return
		}
		r.plan.inputs = max(r.plan.inputs, m.K)
	}
}

// phase is one recorded step of a program.
type phase struct {
	name  string
	layer int
	run   func(*run)
}

// program replays its phases in order.
type program struct {
	b       *Backend
	rows    int
	phases  []phase
	scratch *scratch
	vocab   int // ids must be below it; 0 before an Embed was recorded
	busy    bool
}

// run is one replay: the step, and for each row where it belongs.
type run struct {
	*ops.Step
	*scratch
	pool     *pool
	rows     int
	position []int32 // of each row, in its sequence
	segment  []int32 // of each row
	wanted   []int32 // rows whose logits are asked for
}

func (r *run) tap(layer int, what string, width int, data []float32) {
	if r.Tap != nil {
		r.Tap(layer, what, width, data)
	}
}

// ticket is a replay in flight.
type ticket struct {
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// Submit implements ops.Program: the replay runs on a goroutine that Wait
// outlives.
func (p *program) Submit(step *ops.Step) (ops.Ticket, error) {
	if p.busy {
		return nil, errors.New("cpu: program submitted again before its last ticket was waited for")
	}
	r := &run{Step: step, scratch: p.scratch, pool: p.b.pool, rows: step.Rows()}
	if err := p.lay(r); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &ticket{stop: stop, done: make(chan struct{})}
	p.busy = true
	go func() {
		defer close(t.done)
		for _, phase := range p.phases {
			if t.err = ctx.Err(); t.err != nil {
				return
			}
			phase.run(r)
		}
	}()
	return &waiter{p, t}, nil
}

type waiter struct {
	p *program
	t *ticket
}

// Wait implements ops.Ticket. It always waits for the goroutine, which ends at
// the next phase border once ctx has ended.
func (w *waiter) Wait(ctx context.Context) error {
	select {
	case <-w.t.done:
	case <-ctx.Done():
		w.t.stop()
		<-w.t.done
	}
	w.t.stop()
	w.p.busy = false
	if w.t.err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Close implements ops.Program.
func (p *program) Close() error { return nil }

// lay works out the place of every row and refuses a step that does not fit
// what was recorded.
func (p *program) lay(r *run) error {
	if r.rows == 0 || r.rows > p.rows {
		return fmt.Errorf("cpu: step of %d rows for a program of 1 to %d", r.rows, p.rows)
	}
	for _, id := range r.IDs {
		if p.vocab > 0 && (id < 0 || int(id) >= p.vocab) {
			return fmt.Errorf("cpu: token id %d outside the vocabulary of %d", id, p.vocab)
		}
	}
	r.position, r.segment, r.wanted = r.scratch.position[:0], r.scratch.segment[:0], r.scratch.wanted[:0]
	for i, s := range r.Segments {
		if s.Kind == ops.Decode && s.Len != 1 {
			return fmt.Errorf("cpu: decode segment of %d tokens", s.Len)
		}
		if need := (s.Start + s.Len + ops.PageTokens - 1) / ops.PageTokens; len(s.Pages) < need {
			return fmt.Errorf("cpu: segment to position %d has %d KV pages, needs %d", s.Start+s.Len, len(s.Pages), need)
		}
		for _, offset := range s.Logits {
			if offset < 0 || offset >= s.Len {
				return fmt.Errorf("cpu: logits asked at offset %d of a segment of %d tokens", offset, s.Len)
			}
			r.wanted = append(r.wanted, int32(len(r.position)+offset))
		}
		for offset := range s.Len {
			r.position = append(r.position, int32(s.Start+offset))
			r.segment = append(r.segment, int32(i))
		}
	}
	if len(r.position) != r.rows {
		return fmt.Errorf("cpu: segments of %d tokens for %d ids", len(r.position), r.rows)
	}
	return nil
}
