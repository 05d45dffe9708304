// Package cpu runs the phases on the host's cores, straight from the packed
// weights. The formulas stand here as they stand in the model's description;
// the inner loops are simd's, in plain Go or vector assembly.
//
// Numerics: in Exact activations are fp32 throughout. In Fast and Int8 the inputs
// of packed matrices are rounded to 16 or 8 bits, with a scale for every 32
// values, and multiplied as whole numbers; routers, norms, attention and the
// delta rule stay fp32.
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
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Backend runs programs on the host's cores.
type Backend struct {
	pool    *pool
	level   simd.Level
	mode    Numerics
	vectors map[*ops.Vector][]float32
	placed  map[*ops.Matrix]*matrix
}

var _ ops.Backend = (*Backend)(nil)

// Options of New. The zero value is what most people want.
type Options struct {
	Threads  int    // 0 means one a core
	Kernels  string // "portable", "avx2", "avx512"; "" for the best that the machine runs
	Numerics Numerics
}

// Numerics is how the activations that meet packed weights are kept.
type Numerics string

// Numerics; "" is Exact, which on these kernels is as fast as Fast or nearly so.
// On the demo model and real text, beside Exact (benchmarks.md): Fast keeps every
// choice of the most likely token, Int8 changes some 3 % of them, more than the
// handbook allows "fast" numerics.
const (
	Exact Numerics = "exact" // fp32
	Fast  Numerics = "fast"  // 16 bits
	Int8  Numerics = "int8"  // 8 bits
)

// resolve names the kernels and numerics that the options ask for.
func (o Options) resolve() (level simd.Level, mode Numerics, err error) {
	level = simd.Best()
	if o.Kernels != "" {
		found := false
		for _, l := range simd.Levels() {
			if l.String() == o.Kernels {
				level, found = l, true
			}
		}
		if !found {
			return 0, "", fmt.Errorf("cpu: kernels %q: this machine runs %v", o.Kernels, simd.Levels())
		}
	}
	switch o.Numerics {
	case "":
		mode = Exact
	case Exact, Fast, Int8:
		mode = o.Numerics
	default:
		return 0, "", fmt.Errorf("cpu: numerics %q: there are %s, %s and %s", o.Numerics, Exact, Fast, Int8)
	}
	return level, mode, nil
}

// New returns a backend. Its errors say which option this machine cannot meet.
func New(o Options) (*Backend, error) {
	level, mode, err := o.resolve()
	if err != nil {
		return nil, err
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	return &Backend{
		pool:    newPool(o.Threads),
		level:   level,
		mode:    mode,
		vectors: make(map[*ops.Vector][]float32),
		placed:  make(map[*ops.Matrix]*matrix),
	}, nil
}

// Caps implements ops.Backend.
func (b *Backend) Caps() ops.Caps {
	return ops.Caps{Name: "cpu", Kernels: b.level.String(), Numerics: string(b.mode), Threads: b.pool.threads, Taps: true}
}

// Place implements ops.Backend. Matrices stay where they are mapped, as far
// as their layout allows (see matrix); vectors are widened to fp32.
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
		b.placed[m] = place(m)
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
	p.scratch = newScratch(b, rows, r.plan)
	return p, nil
}

// recorder is the ops.Set that notes each phase as a closure.
type recorder struct {
	p    *program
	plan plan
	err  error
}

func (r *recorder) add(name ops.Phase, run func(*run)) {
	r.p.phases = append(r.p.phases, phase{name: name, run: run})
}

// vector returns the placed values of v, noting an error when there are none.
func (r *recorder) vector(v *ops.Vector) []float32 {
	values, ok := r.p.b.vectors[v]
	if !ok {
		r.err = errors.Join(r.err, fmt.Errorf("cpu: vector %v was recorded but never placed", v))
	}
	return values
}

// place returns a placed matrix, noting an error when there is none.
func (r *recorder) place(m *ops.Matrix) *matrix {
	placed, ok := r.p.b.placed[m]
	if !ok {
		r.err = errors.Join(r.err, fmt.Errorf("cpu: matrix %v was recorded but never placed", m))
		return &matrix{dense: &simd.Dense{}}
	}
	r.plan.inputs = max(r.plan.inputs, placed.k)
	if placed.order != nil {
		r.plan.ordered = max(r.plan.ordered, placed.k)
	}
	return placed
}

// product multiplies with m in the backend's numerics, exact in fp32.
func (r *recorder) product(m *ops.Matrix) product {
	p := r.exact(m)
	p.whole = r.p.b.mode != Exact && p.packed != nil
	return p
}

func (r *recorder) exact(m *ops.Matrix) product { return product{matrix: r.place(m)} }

// phase is one recorded step of a program.
type phase struct {
	name ops.Phase
	run  func(*run)
	gap  gap
}

// program replays its phases in order.
type program struct {
	b       *Backend
	rows    int
	phases  []phase
	scratch *scratch
	vocab   int // ids must be below it; 0 before an Embed was recorded
	routing routing
	busy    bool
}

// run is one replay: the step, and for each row where it belongs.
type run struct {
	*ops.Step
	*scratch
	pool     *pool
	level    simd.Level
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
	stop    context.CancelFunc
	done    chan struct{}
	stopped bool // before its last phase
	err     error
}

// Submit implements ops.Program: the replay runs on a goroutine that Wait
// outlives.
func (p *program) Submit(step *ops.Step) (ops.Ticket, error) {
	if p.busy {
		return nil, errors.New("cpu: program submitted again before its last ticket was waited for")
	}
	r := &run{Step: step, scratch: p.scratch, pool: p.b.pool, level: p.b.level, rows: step.Rows()}
	if err := p.lay(r); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &ticket{stop: stop, done: make(chan struct{})}
	p.busy = true
	go func() {
		defer close(t.done)
		for _, phase := range p.phases {
			if t.stopped = ctx.Err() != nil; t.stopped {
				return
			}
			start := time.Now()
			phase.run(r)
			if step.Times != nil {
				step.Times[phase.name] += time.Since(start)
			}
			if t.err = r.stop(phase.gap); t.err != nil {
				return
			}
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
	if w.t.stopped {
		return context.Cause(ctx)
	}
	return w.t.err
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
	return p.routing.lay(r.Step)
}
