package cuda

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// layout says where on the device every weight lies, and which extents of the
// checkpoint have to go there.
type layout struct {
	fast     bool
	start    driver.Ptr
	next     driver.Ptr // free from here
	overflow driver.Ptr // uint32: see kernels.RepackArgs
	vectors  map[*ops.Vector]driver.Ptr
	matrices map[*ops.Matrix]*matrix
	mixtures map[*ops.Matrix]*mixture
	sources  []source
	experts  int64 // bytes of mixtures
	ends     int64 // bytes of embedding and head
}

// content says which tensor of a module a source is.
type content uint8

const (
	values content = iota // of a vector, or a dense weight
	codes
	scales
	zeros
	order
	table // of experts: no tensor of a checkpoint, its bytes are at hand
)

// source is one tensor on its way.
type source struct {
	name  string // of its module
	of    content
	m     *ops.Matrix // nil for vectors and tables
	from  ops.Extent
	bytes int64               // as its shape asks for
	piece kernels.RepackPiece // but for what cutting decides
	count int                 // what the piece would count of all of it
	unit  int                 // bytes: pieces are cut at its multiples
	step  int                 // what a unit counts for
}

// cut is the piece of the bytes from low to high.
func (s *source) cut(low, high int64) kernels.RepackPiece {
	p := s.piece
	first, next := int(low)/s.unit*s.step, int(high)/s.unit*s.step
	if high == s.bytes {
		next = s.count
	}
	p.Count = uint32(next - first)
	switch p.Kind {
	case kernels.RepackCopy:
		p.Dst += uint64(low)
	case kernels.RepackWiden:
		p.Dst += uint64(first) * 4
	default:
		p.First = uint32(first)
	}
	return p
}

// check proves that the checkpoint has as many bytes as the kernels will read.
func (s *source) check() error {
	if int64(len(s.from.Data)) == s.bytes {
		return nil
	}
	return fmt.Errorf("cuda: %s in %s has %d bytes at offset %d, its shape asks for %d", s.name, s.from.File, len(s.from.Data), s.from.Offset, s.bytes)
}

// lay lays the weights out from an address on, in the order of w: slabs where fast
// kernels can read them, and otherwise the tensors as they are.
func lay(w ops.Weights, fast bool, start driver.Ptr) *layout {
	l := &layout{fast: fast, start: start, next: start,
		vectors:  make(map[*ops.Vector]driver.Ptr, len(w.Vectors)),
		matrices: make(map[*ops.Matrix]*matrix, len(w.Matrices)),
		mixtures: make(map[*ops.Matrix]*mixture, len(w.Mixtures)),
		sources:  make([]source, 0, len(w.Vectors)+2*len(w.Matrices))}
	l.overflow = l.take(4)
	for _, v := range w.Vectors {
		l.vector(v)
	}
	experts := make(map[*ops.Matrix]bool, len(w.Matrices))
	before := l.size()
	for _, m := range w.Mixtures {
		l.mixture(m)
		for _, e := range append(slices.Clone(m.Experts), m.Shared) {
			experts[e.Gate], experts[e.Up], experts[e.Down] = true, true, true
		}
	}
	l.experts = l.size() - before
	for _, m := range w.Matrices {
		before := l.size()
		switch {
		case experts[m]:
		case m == w.Embed:
			p := l.matrix(m, 0)
			if bits := l.bits(m); m == w.Head && bits > 0 {
				p.slabs = l.slabs(m, bits)
			}
		default:
			l.matrix(m, l.bits(m))
		}
		if m == w.Embed || m == w.Head {
			l.ends += l.size() - before
		}
	}
	return l
}

// size is the bytes laid out so far.
func (l *layout) size() int64 { return int64(l.next - l.start) }

// inFileOrder sorts the sources as they lie in their files and numbers them.
func (l *layout) inFileOrder() {
	slices.SortStableFunc(l.sources, func(a, b source) int {
		return cmp.Or(cmp.Compare(a.from.File, b.from.File), cmp.Compare(a.from.Offset, b.from.Offset))
	})
	for i := range l.sources {
		l.sources[i].piece.Tensor = uint32(i + 1)
	}
}

// take hands out memory.
func (l *layout) take(bytes int64) driver.Ptr {
	at := l.next
	l.next += driver.Ptr((bytes + alignment - 1) &^ (alignment - 1))
	return at
}

func (l *layout) vector(v *ops.Vector) {
	at := l.take(int64(v.N) * 4)
	l.vectors[v] = at
	size := int(v.Type.Size())
	l.sources = append(l.sources, source{name: v.Name, from: v.Source, bytes: int64(v.N * size), count: v.N, unit: 16, step: 16 / size,
		piece: kernels.RepackPiece{Dst: uint64(at), Kind: kernels.RepackWiden, Type: uint32(v.Type)}})
}

// bits says with how many bits a matrix is kept in slabs; 0 for raw.
func (l *layout) bits(m *ops.Matrix) int {
	if !l.fast {
		return 0
	}
	bits, _ := slabBits(m)
	return bits
}

// matrix lays out one weight: in slabs of so many bits, or raw for 0.
func (l *layout) matrix(m *ops.Matrix, bits int) *matrix {
	p := &matrix{Matrix: m}
	if bits > 0 {
		p.slabs = l.slabs(m, bits)
	} else {
		p.raw = l.raw(m)
	}
	l.matrices[m] = p
	return p
}

// raw lays a weight out as its checkpoint has it.
func (l *layout) raw(m *ops.Matrix) (r raw) {
	copied := func(of content, from ops.Extent, bytes int64) driver.Ptr {
		if bytes == 0 {
			return 0
		}
		at := l.take(bytes)
		l.copied(source{name: m.Name, of: of, m: m, from: from, bytes: bytes}, at)
		return at
	}
	words := codes
	if m.Layout == ops.Dense {
		words = values
	}
	sizes := storedBytes(m)
	return raw{copied(words, m.Weight, sizes[0]), copied(scales, m.Scales, sizes[1]),
		copied(zeros, m.QZeros, sizes[2]), copied(order, m.GroupOf, sizes[3])}
}

// copied notes a source that stays as it is.
func (l *layout) copied(s source, at driver.Ptr) {
	s.count, s.unit, s.step = int(s.bytes), 16, 16
	s.piece = kernels.RepackPiece{Dst: uint64(at), Kind: kernels.RepackCopy}
	l.sources = append(l.sources, s)
}

// storedBytes is what the parts of a matrix take in a checkpoint: codes or values,
// scales, zeros, order of groups.
func storedBytes(m *ops.Matrix) (sizes [4]int64) {
	k, n, bits := int64(m.K), int64(m.N), int64(m.Bits)
	if m.Layout == ops.Dense {
		sizes[0] = k * n * m.Type.Size()
		return sizes
	}
	groups := int64(m.Groups())
	sizes[0], sizes[1] = k*bits/32*n*4, groups*n*2
	if m.Layout == ops.AWQ {
		sizes[0] = k * (n / 8) * 4
	}
	if m.Zeros != ops.Symmetric {
		sizes[2] = groups * (n * bits / 32) * 4
	}
	if len(m.GroupOf.Data) > 0 {
		sizes[3] = 4 * k
	}
	return sizes
}

// slabs lays a weight out in slabs.
func (l *layout) slabs(m *ops.Matrix, bits int) slabs {
	s := slabs{bits: bits, count: (m.N + slabRows - 1) / slabRows, stride: slabBytes(m.K, bits)}
	s.data = l.take(int64(s.count) * int64(s.stride))
	l.intoSlabs(m, s, kernels.RepackPlain)
	return s
}

// intoSlabs notes the tensors of a weight whose slabs, or rows of slabs, lie at s.
func (l *layout) intoSlabs(m *ops.Matrix, s slabs, side uint32) {
	sizes := storedBytes(m)
	piece := kernels.RepackPiece{Dst: uint64(s.data), Type: uint32(m.Type), Bits: uint32(s.bits),
		K: uint32(m.K), N: uint32(m.N), Stride: uint32(s.stride), Side: side}
	if m.Layout == ops.Dense {
		piece.Kind = kernels.RepackDense
		l.sources = append(l.sources, source{name: m.Name, of: values, m: m, from: m.Weight, bytes: sizes[0], count: m.N,
			unit: slabRows * m.K * int(m.Type.Size()), step: slabRows, piece: piece})
		return
	}
	piece.Kind = kernels.RepackGPTQ
	if m.Layout == ops.AWQ {
		piece.Kind = kernels.RepackAWQ
	}
	l.sources = append(l.sources, source{name: m.Name, of: codes, m: m, from: m.Weight, bytes: sizes[0], count: m.K,
		unit: slabGroup * m.N * m.Bits / 8, step: slabGroup, piece: piece})
	piece.Kind = kernels.RepackScales
	piece.Dst += uint64(slabRows * m.K * s.bits / 8)
	l.sources = append(l.sources, source{name: m.Name, of: scales, m: m, from: m.Scales, bytes: sizes[1], count: m.Groups(),
		unit: m.N * 2, step: 1, piece: piece})
}

// mixture lays out the experts of a layer.
func (l *layout) mixture(w ops.Mixture) {
	if len(w.Experts) == 0 {
		return
	}
	first := w.Experts[0]
	m := &mixture{hidden: first.Gate.K, width: first.Gate.N, count: len(w.Experts)}
	l.mixtures[first.Gate] = m
	shared := []ops.Expert{w.Shared}
	if w.Shared.Gate == nil {
		shared = nil
	} else {
		m.inner = w.Shared.Gate.N
	}
	bits, sharedBits := l.alike(w.Experts), l.alike(shared)
	if bits > 0 && (shared == nil || sharedBits > 0) {
		m.experts = l.expertSlabs(w.Experts, bits)
		m.shared = l.expertSlabs(shared, sharedBits)
		return
	}
	entries := make([]kernels.Weight, 0, 3*(len(w.Experts)+1))
	for _, e := range slices.Concat(w.Experts, shared) {
		for _, part := range []*ops.Matrix{e.Gate, e.Up, e.Down} {
			entries = append(entries, l.matrix(part, 0).weight())
		}
	}
	m.weights = l.take(int64(cap(entries)) * int64(unsafe.Sizeof(kernels.Weight{})))
	data := bytesOfTable(entries)
	l.copied(source{name: "table of experts", of: table, from: ops.Extent{Data: data}, bytes: int64(len(data))}, m.weights)
}

func bytesOfTable(entries []kernels.Weight) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(entries))), len(entries)*int(unsafe.Sizeof(entries[0])))
}

// weight is a raw matrix as generic kernels take it.
func (m *matrix) weight() kernels.Weight {
	return kernels.Weight{
		Words: uint64(m.raw.words), Scales: uint64(m.raw.scales), Zeros: uint64(m.raw.zeros), GroupOf: uint64(m.raw.groupOf),
		K: uint32(m.K), N: uint32(m.N), Bits: uint32(m.Bits), Group: uint32(m.Group),
		Layout: uint32(m.Layout), ZeroKind: uint32(m.Zeros), Type: uint32(m.Type),
	}
}

// alike says with how many bits all matrices of some experts are kept in slabs; 0
// where they differ in bits or shape.
func (l *layout) alike(experts []ops.Expert) int {
	if len(experts) == 0 {
		return 0
	}
	first := experts[0]
	bits := l.bits(first.Gate)
	for _, e := range experts {
		if e.Gate.K != first.Gate.K || e.Gate.N != first.Gate.N || e.Up.K != e.Gate.K || e.Up.N != e.Gate.N ||
			e.Down.K != e.Gate.N || e.Down.N != e.Gate.K ||
			l.bits(e.Gate) != bits || l.bits(e.Up) != bits || l.bits(e.Down) != bits {
			return 0
		}
	}
	return bits
}

// expertSlabs lays out experts of one shape.
func (l *layout) expertSlabs(experts []ops.Expert, bits int) (s expertSlabs) {
	if len(experts) == 0 {
		return s
	}
	hidden, width := experts[0].Gate.K, experts[0].Gate.N
	gateUp := slabs{bits: bits, count: (width + slabRows/2 - 1) / (slabRows / 2), stride: slabBytes(hidden, bits)}
	down := slabs{bits: bits, count: (hidden + slabRows - 1) / slabRows, stride: slabBytes(width, bits)}
	s.gateUpBytes, s.downBytes = int64(gateUp.count)*int64(gateUp.stride), int64(down.count)*int64(down.stride)
	gateUp.data, down.data = l.take(s.gateUpBytes*int64(len(experts))), l.take(s.downBytes*int64(len(experts)))
	s.gateUp, s.down = gateUp, down
	for _, e := range experts {
		l.intoSlabs(e.Gate, gateUp, kernels.RepackGate)
		l.intoSlabs(e.Up, gateUp, kernels.RepackUp)
		l.intoSlabs(e.Down, down, kernels.RepackPlain)
		gateUp.data, down.data = gateUp.data+driver.Ptr(s.gateUpBytes), down.data+driver.Ptr(s.downBytes)
	}
	return s
}
