package kernels

// EmbedArgs is the argument of rh_embed_generic: Out[r] = Table[i], fp32, where i is
// the row's id or, with BySource, its place in the step. A row whose i is not in the
// table (what was drawn from logits without a distribution is -1) is zeros.
type EmbedArgs struct {
	Row       uint64 // Row[Rows]
	Drawn     uint64 // int32: where an id below 0 is found; 0 when none can be
	Table     uint64 // [Count][N] of Type; with Slab, 16-bit slabs
	Out       uint64 // float32[Rows][OutStride]
	Rows      uint32
	N         uint32
	Count     uint32
	Type      uint32 // ops.Type
	Slab      uint32 // bytes from one slab to the next; 0 for no slabs
	BySource  uint32
	OutStride uint32 // elements
	Pad       uint32
}
