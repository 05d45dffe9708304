// Package ops is the contract between the model and the machines that run it.
//
// A forward pass is ten phases (see Set). engine/qwen3next records them once
// into a Program; a Backend replays the Program for every Step. Whatever
// changes from step to step (token ids, positions, pages, sampler parameters)
// lives in the Step, so that a recording never has to be patched.
//
// The package imports the standard library only.
package ops

import "context"

// Type is the element type of a buffer or of a stored tensor.
type Type uint8

// Element types.
const (
	F32 Type = iota
	F16
	BF16
	I32
	U8
)

// Size returns the bytes of one element.
func (t Type) Size() int64 {
	switch t {
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	default:
		return 1
	}
}

func (t Type) String() string {
	return [...]string{"F32", "F16", "BF16", "I32", "U8"}[t]
}

// Buf is a piece of one backend's memory: a plain value without an owner. The
// arena it came from owns the bytes.
type Buf struct {
	Addr uintptr // host address on a CPU, device address on a GPU; never Go heap
	Len  int64   // elements
	Type Type
}

// Bytes returns the size of the buffer.
func (b Buf) Bytes() int64 { return b.Len * b.Type.Size() }

// Slice returns n elements of b from element i on.
func (b Buf) Slice(i, n int64) Buf {
	if i < 0 || n < 0 || i+n > b.Len {
		panic("ops: slice outside its buffer")
	}
	return Buf{Addr: b.Addr + uintptr(i*b.Type.Size()), Len: n, Type: b.Type}
}

// Arena hands out memory of one lifetime (weights, cache, scratch). It grows
// up to the capacity it was made with and is freed as a whole.
type Arena interface {
	// Alloc returns n zeroed elements aligned to 64 bytes; what names them in
	// errors and in memory tables.
	Alloc(what string, t Type, n int64) (Buf, error)
	// Mark and Release give memory back in stack order.
	Mark() int64
	Release(mark int64)
	Used() int64
	Close() error
}

// Caps says what a backend is and can do.
type Caps struct {
	Name     string // "cpu", "cuda:0"
	Kernels  string // the kernel set chosen, part of the model fingerprint
	Numerics string // "exact" or "fast"
	Threads  int    // worker threads of a CPU backend
	Taps     bool   // fills Step.Tap with the values inside phases
	Ahead    bool   // takes a step with Drawn ids before the draw is done
}

// Weights are the tensors a model wants a backend to hold.
type Weights struct {
	Matrices []*Matrix
	Vectors  []*Vector
	// Mixtures says which matrices are the experts of one layer, so that a backend
	// can lay them side by side. Each of them is in Matrices too.
	Mixtures []Mixture
	// Embed is the matrix whose rows are looked up by token, and Head the one that
	// gives logits: the same where they are tied. nil where there is none. They are in
	// Matrices too.
	Embed, Head *Matrix
}

// Mixture is the experts of one layer, all of one shape, and the shared one.
type Mixture struct {
	Experts []Expert
	Shared  Expert
}

// Backend is a machine that holds weights and replays programs. Its methods
// are called by one goroutine at a time.
type Backend interface {
	Caps() Caps
	NewArena(name string, capacity int64) (Arena, error)
	// Place maps or repacks the weights; report (may be nil) is told the bytes
	// done. Recording refers to the placed tensors by pointer.
	Place(ctx context.Context, w Weights, report func(done, total int64)) error
	// Copy copies src to dst, both of this backend, of equal size.
	Copy(dst, src Buf) error
	// Read and Write move bytes between a buffer and host memory.
	Read(dst []byte, src Buf) error
	Write(dst Buf, src []byte) error
	// Record runs build once with a Set that notes each phase, and returns
	// what was noted for replay. Scratch memory is planned here, for steps of
	// at most rows rows.
	Record(rows int, build func(Set) error) (Program, error)
	Close() error
}

// Program is a recorded sequence of phases.
type Program interface {
	// Submit starts one replay. The step must not be touched before its ticket has
	// been waited for, but for Sampling and Samples where the program does not
	// sample: they may be filled in meanwhile.
	Submit(*Step) (Ticket, error)
	Close() error
}

// Ticket is one submitted step.
type Ticket interface {
	// Wait blocks until the step is done. When ctx ends first the step is
	// abandoned: backends stop at the next phase border, and the state slots
	// it was writing must be treated as lost.
	Wait(ctx context.Context) error
}
