package cuda

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// recorder is the ops.Set that notes each phase as a function that launches its
// kernels for a pass. Each phase stands in the file of its name.
type recorder struct {
	b       *Backend
	rows    int // most rows of a step
	phases  []phase
	scratch int64
	reading int64 // see phase.bytes; of the phase in the making
	halves  map[driver.Ptr]driver.Ptr
	reads   bool // an Embed, DraftIn or Logits was recorded: the program has rows of tokens
	vocab   int  // ids must be below it; 0 without an Embed
	wanted  int  // rows of the logits buffer
	pages   int  // of the KV pools
	layers  int  // with experts, of which a row chooses k at most
	k       int
	steer   *steering // nil without a Select

	// Of a phase that needs parameters of the step beside the step block, or gives
	// results beside the buffers: see Sample.
	prepare []func(step *ops.Step, parity int) error
	collect []func(step *ops.Step, parity int) error
	hosts   []driver.Host // see pinned

	err error
}

var _ ops.Set = (*recorder)(nil)

// phase is one recorded phase.
type phase struct {
	name  ops.Phase
	run   func(p *pass) error
	bytes int64 // of weights and recurrent state that one row reads and writes
	gap   gap
}

// add notes a phase.
func (r *recorder) add(name ops.Phase, run func(p *pass) error) {
	r.phases = append(r.phases, phase{name: name, run: run, bytes: r.reading})
	r.reading = 0
}

// note keeps an error of recording.
func (r *recorder) note(err error) { r.err = errors.Join(r.err, err) }

// need asks for scratch memory of a phase's own at pass.scratch; phases share it.
func (r *recorder) need(bytes int64) { r.scratch = max(r.scratch, bytes) }

// pinned allocates pinned memory of the program's lifetime.
func (r *recorder) pinned(bytes int) driver.Host {
	host, err := r.b.driver.AllocHost(bytes)
	if err != nil {
		r.note(err)
		return driver.Host{}
	}
	r.hosts = append(r.hosts, host)
	return host
}

// vector returns where the fp32 values of v lie.
func (r *recorder) vector(v *ops.Vector) driver.Ptr {
	at, ok := r.b.vectors[v]
	if !ok {
		r.note(fmt.Errorf("cuda: vector %v was recorded but never placed", v))
	}
	return at
}

// matrix returns a placed matrix.
func (r *recorder) matrix(m *ops.Matrix) *matrix {
	placed, ok := r.b.matrices[m]
	if !ok {
		r.note(fmt.Errorf("cuda: matrix %v was recorded but never placed", m))
		return &matrix{Matrix: &ops.Matrix{}}
	}
	if placed.slabs.data != 0 {
		r.reading += int64(placed.slabs.count) * int64(placed.slabs.stride)
	} else {
		r.reading += m.Bytes()
	}
	return placed
}

// mixture returns the placed experts of a layer.
func (r *recorder) mixture(experts []ops.Expert) *mixture {
	if len(experts) > 0 {
		if placed, ok := r.b.mixtures[experts[0].Gate]; ok {
			return placed
		}
	}
	r.note(errors.New("cuda: experts were recorded but never placed"))
	return &mixture{}
}

// half returns the companion of a buffer of fp32 rows: half activations (see
// kHalfScale) of the same shape, which fast kernels read in its place. Whoever
// writes the buffer writes its companion too, except with generic kernels, where
// there is none: 0.
func (r *recorder) half(b ops.Buf) driver.Ptr {
	if !r.b.fast {
		return 0
	}
	at := driver.Ptr(b.Addr)
	if _, ok := r.halves[at]; !ok {
		buf, err := r.b.scratch.Alloc("half activations", ops.F16, b.Len)
		r.note(err)
		r.halves[at] = driver.Ptr(buf.Addr)
	}
	return r.halves[at]
}

// at is the device address of a buffer.
func at(b ops.Buf) driver.Ptr { return driver.Ptr(b.Addr) }
