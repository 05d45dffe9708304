package kernels

// DeltaArgs is the argument of every rh_deltanet kernel but one: the phase
// ops.DeltaNetArgs over the rows From to From+Rows of each segment of a pass. In,
// Out and Half lie at the first of these rows; so do the buffers between kernels:
// Mixed to Pairs.
type DeltaArgs struct {
	In       uint64 // float32[rows][qkvz + ba], grouped by key head
	Conv     uint64 // float32[channels][Kernel]
	ALog     uint64 // float32[ValueHeads]
	DTBias   uint64 // float32[ValueHeads]
	Norm     uint64 // float32[ValueDim]
	State    uint64 // float32[slots][ValueHeads][KeyDim][ValueDim]
	Window   uint64 // float32[slots][channels][Kernel-1], oldest first
	Segments uint64 // Segment[]
	Table    uint64 // Row[Rows]
	Out      uint64 // float32[rows][ValueHeads*ValueDim]
	Half     uint64 // half[rows][ValueHeads*ValueDim] of Out; 0 for none

	Mixed uint64 // float32[rows][channels]: q, k, v behind the convolution
	Heads uint64 // float32[rows][ValueHeads*ValueDim]: the rule's output
	Beta  uint64 // float32[rows][ValueHeads]
	Decay uint64 // float32[rows][ValueHeads]: log of it, g

	// Of the chunk form: U [rows][ValueHeads][128], W likewise, and q k^T with its
	// decay, [rows][ValueHeads][64]. See deltanet_prefill.cu.
	Change, Carry, Pairs uint64

	KeyHeads, ValueHeads uint32
	KeyDim, ValueDim     uint32
	Kernel               uint32
	From, Rows           uint32
	Tile                 uint32 // rows of a block of rh_deltanet_conv, at least Kernel-1
	Eps                  float32
	Pad                  uint32
}

// ColumnsArgs is the argument of rh_deltanet_columns: dst[r] = src[r][:Width].
type ColumnsArgs struct {
	Dst    uint64 // float32[Rows][Width]
	Src    uint64 // float32[Rows][Stride], at the first column
	Rows   uint32
	Width  uint32
	Stride uint32
	Pad    uint32
}
