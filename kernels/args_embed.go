package kernels

// EmbedArgs is the argument of rh_embed_generic: Out[r] = Table[id of row r], fp32.
// A row without an id in the vocabulary (what was drawn from logits without a
// distribution is -1) is zeros.
type EmbedArgs struct {
	Row       uint64 // Row[Rows]
	Drawn     uint64 // int32: where an id below 0 is found
	Table     uint64 // [Vocabulary][N] of Type
	Out       uint64 // float32[Rows][OutStride]
	Rows      uint32
	N         uint32
	Vocab     uint32
	Type      uint32 // ops.Type
	OutStride uint32 // elements
	Pad       uint32
}
