package kernels

// SelectArgs is the argument of rh_select_topk: the K best experts of each row, best
// first, and their weights.
type SelectArgs struct {
	Logits       uint64 // float32[rows][Experts]
	Chosen       uint64 // int32[rows][K]; -1 where a row chooses fewer
	Weights      uint64 // float32[rows][K]
	Row          uint64 // Row[rows]
	Steer        uint64 // steering tables, at the layer (see steer.cuh)
	RouteChosen  uint64 // uint16[rows][RouteStride], at the layer; 0 for none
	RouteWeights uint64 // float32[rows][RouteStride], at the layer
	Names        uint64 // float32[rows][K]: the ids as a tap shows them; 0 for none
	Experts, K   uint32
	Renormalise  uint32
	RouteStride  uint32 // elements
	SteerStride  uint32 // words from one table to the next
	Pad          uint32
}

// ExpertsGenericArgs is the argument of rh_experts_gate_up_generic, which writes H,
// and rh_experts_down_generic, which reads it: experts of any shape and packing.
type ExpertsGenericArgs struct {
	X       uint64 // float32[rows][Hidden]
	Chosen  uint64 // int32[rows][K]
	Weights uint64 // float32[rows][K]
	Gate    uint64 // float32[rows], of the shared expert
	Row     uint64 // Row[rows]
	Steer   uint64 // steering tables, at the layer
	Table   uint64 // Weight[Experts+1][3]: gate, up, down; the shared expert is the last
	H       uint64 // float32[rows][K+1][Width]: silu(gate)*up
	Out     uint64 // float32[rows][Hidden]: added to, or of a tap
	Experts uint32
	K       uint32
	Hidden  uint32
	Width   uint32 // of the widest expert

	// Stage is what Out gets: 0 adds all to it; 1 writes the shared expert's output,
	// 2 the routed experts' sum, 3 both, as they are added.
	Stage       uint32
	SteerStride uint32
}

// ExpertsArgs is the argument of rh_experts_gate_up and rh_experts_down: experts in
// slabs, of 4, 8 or 16 bits, and half activations.
type ExpertsArgs struct {
	X       uint64 // half[rows][Hidden]
	Chosen  uint64 // int32[rows][K]
	Weights uint64 // float32[rows][K]
	Gate    uint64 // float32[rows]
	Row     uint64 // Row[rows]
	Steer   uint64 // steering tables, at the layer
	H       uint64 // half[rows][K+1][Width]
	Out     uint64 // float32[rows][Hidden]

	GateUp, Down             uint64 // slabs of the first expert
	GateUpBytes, DownBytes   uint64 // from one expert to the next
	SharedGateUp, SharedDown uint64

	// Of each: bits, bytes from one slab to the next; slabs of a gate and up.
	GateUpBits, DownBits, SharedGateUpBits, SharedDownBits         uint32
	GateUpStride, DownStride, SharedGateUpStride, SharedDownStride uint32
	Count, SharedCount                                             uint32
	Inner, SharedInner                                             uint32 // widths of an expert, multiples of what slabs ask

	Experts, K, Hidden, Width uint32
	Stage                     uint32 // as in ExpertsGenericArgs
	SteerStride               uint32
}
