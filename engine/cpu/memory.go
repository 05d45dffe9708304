package cpu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
)

// arena is anonymous memory outside the Go heap: reserved at its capacity,
// touched (and so resident) only where it is used.
type arena struct {
	name   string
	memory []byte
	used   int64
	high   int64 // bytes below were handed out before and may be dirty
}

// NewArena implements ops.Backend.
func (b *Backend) NewArena(name string, capacity int64) (ops.Arena, error) {
	memory, err := unix.Mmap(-1, 0, int(max(capacity, 64)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("cpu: reserve %d bytes for %s: %w: lower the context or the number of streams", capacity, name, err)
	}
	return &arena{name: name, memory: memory}, nil
}

func (a *arena) Alloc(what string, t ops.Type, n int64) (ops.Buf, error) {
	start := (a.used + 63) &^ 63
	size := n * t.Size()
	if n < 0 || size > int64(len(a.memory))-start {
		return ops.Buf{}, fmt.Errorf("cpu: %s of %d bytes does not fit in the %s arena: %d of %d bytes are used",
			what, size, a.name, a.used, len(a.memory))
	}
	a.used = start + size
	if start < a.high {
		clear(a.memory[start:min(a.used, a.high)])
	}
	a.high = max(a.high, a.used)
	if size == 0 {
		return ops.Buf{Type: t}, nil
	}
	return ops.Buf{Addr: uintptr(unsafe.Pointer(&a.memory[start])), Len: n, Type: t}, nil
}

func (a *arena) Mark() int64        { return a.used }
func (a *arena) Release(mark int64) { a.used = mark }
func (a *arena) Used() int64        { return a.used }

func (a *arena) Close() error {
	if a.memory == nil {
		return nil
	}
	err := unix.Munmap(a.memory)
	a.memory = nil
	return err
}

// pointer is the one place where an address becomes a pointer. Buffers lie in
// mmapped arenas, which the garbage collector neither moves nor frees.
func pointer(b ops.Buf) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&b.Addr))
}

func bytesOf(b ops.Buf) []byte { return unsafe.Slice((*byte)(pointer(b)), b.Bytes()) }

// floats views an F32 buffer.
func floats(b ops.Buf) []float32 {
	if b.Type != ops.F32 {
		panic("cpu: " + b.Type.String() + " buffer read as F32")
	}
	return unsafe.Slice((*float32)(pointer(b)), b.Len)
}

// ints views an I32 buffer.
func ints(b ops.Buf) []int32 {
	if b.Type != ops.I32 {
		panic("cpu: " + b.Type.String() + " buffer read as I32")
	}
	return unsafe.Slice((*int32)(pointer(b)), b.Len)
}

// plan gathers, while recording, how large the scratch buffers must be.
type plan struct {
	inputs   int // widest K of a matrix
	mixed    int // widest convolution
	heads    int // widest row of attention or delta rule outputs
	gates    int // most value heads
	hidden   int
	pairs    int // most experts a token
	width    int // widest routed expert
	shared   int // widest shared expert
	experts  int
	scores   int // fp32 values of one attention tile's work
	partials int // fp32 values of the attention rows that are split
	chunk    int // fp32 values of one delta chunk's work
	ordered  int // widest K of a matrix with inputs out of order
	joined   bool
	in       []int // widths of codes that weights reading a step's rows want
	routed   []int // that downs of routed experts want
	own      []int // that downs of shared experts want
}

// scratch is memory for values inside phases, planned at recording. Each
// worker has its own tiles.
type scratch struct {
	workers  []worker
	position []int32
	segment  []int32
	wanted   []int32
	all      []int32 // 0, 1, 2, ...

	normed  []float32 // [rows, hidden]
	delta   []float32 // [rows, hidden]: what a phase adds to the residual
	shared  []float32 // [rows, hidden]
	mixed   []float32 // [rows, channels]: after convolution
	query   []float32 // [rows, heads]: rotated queries, delta rule outputs
	decay   []float32 // [rows, value heads]: g
	beta    []float32 // [rows, value heads]
	partial []float32 // unfinished attention rows, by part
	act     []float32 // [rows*pairs, width]
	routed  []float32 // [rows*pairs, hidden]
	gated   []float32 // [rows, shared width]
	joined  []float32 // [rows, 2*hidden] of the draft layer

	inputs, routedCodes, sharedCodes *codes

	order  []int32 // pairs sorted by expert
	source []int32 // row of each sorted pair
	start  []int32 // [experts+1]: first sorted pair of each expert
	items  []item
}

// worker is the private memory of one thread.
type worker struct {
	tiles    *simd.Scratch
	up       []float32   // [blockRows, widest expert]
	gathered []float32   // [blockRows, K] of a matrix with inputs out of order
	codes    *simd.Codes // the same, quantised
	scores   []float32
	chunk    []float32
	sample   *sample.Work
}

func newScratch(b *Backend, rows int, p plan) *scratch {
	pairs := rows * max(p.pairs, 1)
	s := &scratch{
		workers:     make([]worker, b.pool.threads),
		position:    make([]int32, 0, rows),
		segment:     make([]int32, 0, rows),
		wanted:      make([]int32, 0, rows),
		all:         make([]int32, max(pairs, blockRows)),
		normed:      make([]float32, rows*p.hidden),
		delta:       make([]float32, rows*p.hidden),
		shared:      make([]float32, rows*p.hidden),
		mixed:       make([]float32, rows*p.mixed),
		query:       make([]float32, rows*p.heads),
		decay:       make([]float32, rows*p.gates),
		beta:        make([]float32, rows*p.gates),
		partial:     make([]float32, p.partials),
		act:         make([]float32, rows*p.pairs*p.width),
		routed:      make([]float32, rows*p.pairs*p.hidden),
		gated:       make([]float32, rows*p.shared),
		inputs:      b.newCodes(rows, p.inputs, p.in),
		routedCodes: b.newCodes(pairs, p.width, p.routed),
		sharedCodes: b.newCodes(rows, p.shared, p.own),
		order:       make([]int32, rows*p.pairs),
		source:      make([]int32, rows*p.pairs),
		start:       make([]int32, p.experts+1),
		items:       make([]item, 0, 1024),
	}
	if p.joined {
		s.joined = make([]float32, rows*2*p.hidden)
	}
	for i := range s.all {
		s.all[i] = int32(i)
	}
	for i := range s.workers {
		w := &s.workers[i]
		w.sample = sample.NewWork(b.level)
		w.tiles = simd.NewScratch()
		w.up = make([]float32, blockRows*max(p.width, p.shared))
		w.scores = make([]float32, p.scores)
		w.chunk = make([]float32, p.chunk)
		if p.ordered > 0 {
			w.gathered = make([]float32, blockRows*p.ordered)
			w.codes = b.roomFor(blockRows, p.ordered)
		}
	}
	return s
}
