package kernels

// What a RepackPiece holds.
const (
	RepackCopy   = iota // Count bytes as they are
	RepackWiden         // Count values of Type, to fp32
	RepackGPTQ          // code words of Count inputs from First on, [Count*Bits/32][N]
	RepackAWQ           // code words of Count inputs from First on, [Count][N/8]
	RepackScales        // fp16 of Count groups from First on, [Count][N]
	RepackDense         // values of Type of Count outputs from First on, [Count][K]
)

// Which rows of a slab an output n takes: see slabs and expertSlabs in engine/cuda.
const (
	RepackPlain = iota // row n%16 of slab n/16
	RepackGate         // row n%8 of slab n/8
	RepackUp           // row 8+n%8 of slab n/8
)

// RepackPiece is a piece of a tensor in a staging buffer and where it goes. A piece
// of code words or dense values fills whole blocks of slabs: First and Count are
// multiples of 128 inputs, or of 16 outputs up to the last.
type RepackPiece struct {
	// Dst is where the piece goes (copy, widen), or the matrix's first slab; for
	// scales, those of the first slab. Slabs are zero before.
	Dst          uint64
	Source       uint32 // in the staging buffer, a multiple of 16 bytes
	Kind         uint32
	Type         uint32 // ops.Type
	Bits         uint32 // 4, 8 or 16
	K, N         uint32 // of the matrix
	First, Count uint32
	Stride       uint32 // bytes from one slab to the next
	Side         uint32
	Tensor       uint32 // its number, above 0, for Overflow
	Pad          uint32
}

// RepackArgs is the argument of rh_repack_pieces, which puts the pieces of one
// staging buffer in their places.
type RepackArgs struct {
	Staging  uint64 // bytes
	Pieces   uint64 // RepackPiece[Count]
	Overflow uint64 // uint32: the largest Tensor with a value that fp16 cannot hold
	Count    uint32
	Pad      uint32
}

// What a RandomPiece fills.
const (
	RandomWords  = iota // N runs of Count 32-bit words, Stride bytes apart
	RandomValues        // Count values of Type in a row
	RandomScales        // fp16 of Count groups of N outputs, in slabs
	RandomDense         // fp16 of N outputs of Count inputs, in slabs
)

// RandomPiece is a tensor to be made up where it lies. Value i of it comes from a
// hash of Seed and i: words as they are, values as Centre plus Spread times a sum of
// four uniform numbers of deviation 1, half of them negated where Signs is 1.
type RandomPiece struct {
	Dst            uint64 // the first value, or slab, or the scales of the first slab
	Seed           uint64
	Count          uint64
	Kind           uint32
	Type           uint32 // ops.Type
	N              uint32
	Stride         uint32
	Side           uint32
	Signs          uint32
	Centre, Spread float32
}

// RandomArgs is the argument of rh_repack_random.
type RandomArgs struct {
	Pieces uint64 // RandomPiece[Count]
	Count  uint32
	Pad    uint32
}
