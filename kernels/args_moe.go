package kernels

// MoeTile is a piece of an expert's work in a prefill pass: up to 64 places, which
// the expert's assignments take one after another. An assignment is a row's choice
// of an expert; the shared expert has one of every row.
type MoeTile struct {
	Expert int32 // experts are numbered from 0, the shared one is the last
	First  int32 // place
	Count  int32 // places, 1 to 64
	Pad    int32
}

// MoePlanArgs is the argument of rh_moe_plan, which gives every assignment its
// place: by expert, in order of rows. Those of the shared expert have the places
// Rows*K and on, so that none moves when a row chooses fewer experts.
type MoePlanArgs struct {
	Chosen  uint64 // int32[Rows][K]; below 0 for none
	Place   uint64 // int32[Rows][K]: of each assignment; -1 for none
	Source  uint64 // int32[Rows*(K+1)]: the row of each place
	Tiles   uint64 // MoeTile[]: those of the shared expert first
	Count   uint64 // uint32: tiles
	Rows, K uint32
	Experts uint32
	Pad     uint32
}

// MoeArgs is the argument of rh_moe_gate_up, which writes silu(gate)*up as half
// activations [places][OutStride], and of rh_moe_down, which writes fp32
// [places][OutStride].
type MoeArgs struct {
	X      uint64 // half[][XStride]
	Source uint64 // int32[]: the row of X of each place; 0: the place itself
	Out    uint64
	Tiles  uint64 // MoeTile[Count]
	Count  uint64 // uint32

	Slabs  uint64 // of the first expert
	Stride uint64 // bytes from one expert to the next
	Shared uint64 // slabs of the shared expert

	// Of an expert and of the shared one: slabs, bits, bytes from one slab to the
	// next, inputs.
	SlabCount, SharedCount uint32
	Bits, SharedBits       uint32
	Bytes, SharedBytes     uint32
	K, SharedK             uint32

	Experts            uint32
	XStride, OutStride uint32 // elements
	Pad                uint32
}

// MoeCombineArgs is the argument of rh_moe_combine,
//
//	Out[row] += sum over ranks, in order, of weight * Y[place]
//	          + sigmoid(Gate[row]) * factor * Y[Rows*K + row] + steering vector
//
// for some columns of Out, with the factor and the vector of the row's steering.
type MoeCombineArgs struct {
	Y       uint64 // float32[places][Columns]
	Place   uint64 // int32[Rows][K]
	Weights uint64 // float32[Rows][K]
	Gate    uint64 // float32[Rows]
	Row     uint64 // Row[Rows]
	Steer   uint64 // steering tables, at the layer (see steer.cuh)
	Out     uint64 // float32[Rows][Hidden]
	Rows, K uint32
	Hidden  uint32
	Experts uint32
	Column  uint32 // the first
	Columns uint32 // a multiple of 4

	Stage       uint32 // as in ExpertsGenericArgs
	SteerStride uint32 // words from one table to the next
}
