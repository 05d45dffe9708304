package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// matrix is a placed weight, as the kernels read it. Where the file's layout is
// theirs, which holds for Intel's checkpoints, it points into the mapped file.
type matrix struct {
	k, n   int
	packed *simd.Packed // nil for dense weights
	dense  *simd.Dense  // nil for packed ones
	// order[i] is the input that row i of the packed weight belongs to, where
	// g_idx scatters groups over the inputs; nil when rows are in order (binding
	// drops a g_idx that only repeats k / Group).
	order []int32
}

// form says how a matrix is kept.
type form uint8

const (
	asStored form = iota // where it lies in the file
	repacked             // copied once at load, codes as they are
	widened              // fp32 values: a layout that the kernels cannot read
)

// formOf decides by the description alone.
func formOf(m *ops.Matrix) form {
	switch {
	case m.Layout == ops.Dense:
		return asStored
	case m.N%8 != 0 || m.K%32 != 0:
		return widened
	case len(m.GroupOf.Data) > 0:
		if groupsEven(m) {
			return repacked
		}
		return widened
	case m.Layout == ops.AWQ || m.Bits == 3:
		return repacked
	}
	return asStored
}

// KernelNames says in a few words which kernel multiplies with a matrix: "W4 avx2,
// 16-bit activations", "BF16 avx512". Router matrices always keep fp32 activations.
func KernelNames(o Options) (func(*ops.Matrix) string, error) {
	level, mode, err := o.resolve()
	if err != nil {
		return nil, err
	}
	return func(m *ops.Matrix) string {
		switch {
		case m.Layout == ops.Dense:
			return fmt.Sprintf("%v %v", m.Type, level)
		case formOf(m) == widened:
			return fmt.Sprintf("F32 %v, widened at load", level)
		}
		name := fmt.Sprintf("W%d %v", m.Bits, level)
		name += map[Numerics]string{Exact: "", Fast: ", 16-bit activations", Int8: ", 8-bit activations"}[mode]
		if formOf(m) == repacked {
			name += ", repacked at load"
		}
		return name
	}, nil
}

// place makes a matrix ready for the kernels.
func place(m *ops.Matrix) *matrix {
	p := &matrix{k: m.K, n: m.N}
	switch formOf(m) {
	case widened:
		p.dense = &simd.Dense{K: m.K, N: m.N, Type: simd.F32, Data: widen(m)}
	case repacked:
		p.packed = &simd.Packed{K: m.K, N: m.N, Bits: m.Bits, Group: m.Group, Scales: m.Scales.Data, Zeros: zeros(m)}
		p.order = byGroup(m)
		words := repack(m, p.order)
		if m.Bits == 3 {
			words = simd.PackThree(words, m.K, m.N)
		}
		p.packed.Words = words
	case asStored:
		if m.Layout == ops.Dense {
			p.dense = &simd.Dense{K: m.K, N: m.N, Type: denseType(m.Type), Data: m.Weight.Data}
			break
		}
		p.packed = &simd.Packed{K: m.K, N: m.N, Bits: m.Bits, Group: m.Group, Words: m.Weight.Data, Scales: m.Scales.Data, Zeros: zeros(m)}
	}
	return p
}

func denseType(t ops.Type) simd.DenseType {
	switch t {
	case ops.BF16:
		return simd.BF16
	case ops.F16:
		return simd.F16
	default:
		return simd.F32
	}
}

// zeros unpacks stored zero points [G, N]; nil for a symmetric matrix.
func zeros(m *ops.Matrix) []uint16 {
	if m.Zeros == ops.Symmetric {
		return nil
	}
	z := make([]uint16, m.Groups()*m.N)
	for g := range m.Groups() {
		m.ZeroPoints(z[g*m.N:][:m.N], g)
	}
	return z
}

func groupOf(m *ops.Matrix, k int) int {
	return int(int32(binary.LittleEndian.Uint32(m.GroupOf.Data[4*k:])))
}

// groupsEven says whether every group but the last has Group inputs, so that
// inputs sorted by group lie as k / Group has them.
func groupsEven(m *ops.Matrix) bool {
	count := make([]int, m.Groups())
	for k := range m.K {
		count[groupOf(m, k)]++
	}
	for g, n := range count {
		if n != min(m.Group, m.K-g*m.Group) {
			return false
		}
	}
	return true
}

// byGroup lists the inputs sorted by group; nil where they are.
func byGroup(m *ops.Matrix) []int32 {
	if len(m.GroupOf.Data) == 0 {
		return nil
	}
	order, next := make([]int32, m.K), make([]int, m.Groups())
	for g := range next {
		next[g] = g * m.Group
	}
	for k := range m.K {
		g := groupOf(m, k)
		order[next[g]] = int32(k)
		next[g]++
	}
	return order
}

// repack writes the codes as GPTQ words [K*Bits/32, N], inputs in the order
// given.
func repack(m *ops.Matrix, order []int32) []byte {
	words := make([]byte, m.K*m.N*m.Bits/8)
	row := make([]uint16, m.N)
	for k := range m.K {
		from := k
		if order != nil {
			from = int(order[k])
		}
		m.Codes(row, from)
		bit := k % 32 * m.Bits // of the column's stream of 32 codes over Bits words
		at := 4 * (k / 32 * m.Bits) * m.N
		for n, code := range row {
			low := at + 4*(bit/32*m.N+n)
			both := uint64(code) << (bit % 32)
			orWord(words[low:], uint32(both))
			if high := uint32(both >> 32); high != 0 {
				orWord(words[low+4*m.N:], high)
			}
		}
	}
	return words
}

func orWord(b []byte, bits uint32) {
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)|bits)
}

// widen unpacks a whole matrix to fp32 [N, K].
func widen(m *ops.Matrix) []byte {
	data := make([]byte, 4*m.K*m.N)
	column := make([]float32, m.K)
	for n := range m.N {
		m.Tile(column, 0, m.K, n, n+1)
		for k, v := range column {
			binary.LittleEndian.PutUint32(data[4*(n*m.K+k):], math.Float32bits(v))
		}
	}
	return data
}
