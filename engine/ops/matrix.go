package ops

import "io"

// Layout says how the codes of a packed matrix lie in 32-bit words.
type Layout uint8

const (
	// Dense is an unquantised weight [N, K], row-major, of Matrix.Type.
	Dense Layout = iota
	// GPTQ packs codes along K: words [K*Bits/32, N]. For 2, 4 and 8 bits a
	// word holds 32/Bits codes, least significant first; for 3 bits 32 codes of
	// a column form one little-endian 96-bit stream over three words. Zeros are
	// packed the same way along N: words [G, N*Bits/32].
	GPTQ
	// AWQ packs eight neighbouring columns in a word, 4 bits only: words
	// [K, N/8]; nibbles from low to high hold columns 0,2,4,6,1,3,5,7. Zeros
	// likewise: words [G, N/8].
	AWQ
)

func (l Layout) String() string { return [...]string{"dense", "gptq", "awq"}[l] }

// Zeros says where the zero point of a group comes from.
type Zeros uint8

const (
	// Symmetric: the zero is 2^(Bits-1); stored zeros are not read, because
	// writers disagree about them (AUTOROUND_FORMAT, rules 3 and 4).
	Symmetric Zeros = iota
	// Stored: the zero is the stored field.
	Stored
	// StoredMinusOne: the zero is the stored field plus one.
	StoredMinusOne
)

func (z Zeros) String() string { return [...]string{"symmetric", "stored", "stored-1"}[z] }

// Extent is a run of bytes of a checkpoint: where it lies in its file, and the
// mapped view of it. The bytes are little-endian and must not be written to.
type Extent struct {
	File   string
	Offset int64 // from the start of the file
	Data   []byte
	Reader io.ReaderAt // of the file, to read without touching the view; nil for none
}

// Matrix describes a weight y[N] = x[K] W[K,N] where it lies in a checkpoint.
// W[k,n] = scale[g(k),n] * (code[k,n] - zero[g(k),n]) for packed layouts, with
// g(k) = k / Group, or GIdx[k] when GIdx is present.
type Matrix struct {
	Name   string // module name, without .weight or .qweight
	K, N   int    // inputs, outputs
	Layout Layout
	Type   Type // element type of Dense weights
	Bits   int  // 2, 3, 4 or 8; 16 or 32 for Dense
	Group  int  // rows of W that share a scale; K for one group a column
	Zeros  Zeros

	Weight  Extent // codes, or the dense weight
	Scales  Extent // fp16 [G, N]: signed, possibly subnormal
	QZeros  Extent // packed zeros; empty when Zeros is Symmetric
	GroupOf Extent // int32 [K] group of each input; empty for k / Group
}

// Groups returns the number of scale groups along K.
func (m *Matrix) Groups() int {
	if m.Layout == Dense {
		return 0
	}
	return (m.K + m.Group - 1) / m.Group
}

// Bytes returns what the matrix takes in its checkpoint, with scales and zeros.
func (m *Matrix) Bytes() int64 {
	return int64(len(m.Weight.Data) + len(m.Scales.Data) + len(m.QZeros.Data) + len(m.GroupOf.Data))
}

// Vector is a small unquantised tensor (norm weights, convolution, A_log),
// placed as fp32 whatever its stored type.
type Vector struct {
	Name   string
	N      int // elements, all dimensions flattened
	Type   Type
	Source Extent
}
