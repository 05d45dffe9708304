package kernels

// LinearArgs is the argument of rh_linear_decode and rh_linear_prefill: up to three
// matrices in slabs times half activations,
//
//	out[to(r)][column_i + n] (+)= sum over k of W_i[n][k] * x[from(r)][k]
//
// with from and to as Wanted has them, or r where it is 0.
//
// The members from Out1 on are of the decode kernels, and those from Residual on of
// the smallest: there x is the zero-centred RMSNorm of Residual, computed by every
// block, and X and Low are not read; Low says whether the low plane is wanted.
type LinearArgs struct {
	X      uint64 // half[rows][K]
	Low    uint64 // half[rows][K], what X lost to rounding; 0 for none
	Wanted uint64 // Wanted[Rows]; 0 for none
	Out    uint64 // float32[rows][Stride]

	Slabs0, Slabs1, Slabs2    uint64 // 0 for none
	Count0, Count1, Count2    uint32 // slabs
	Bits0, Bits1, Bits2       uint32 // 4, 8 or 16
	Bytes0, Bytes1, Bytes2    uint32 // from one slab to the next
	N0, N1, N2                uint32 // outputs
	Column0, Column1, Column2 uint32

	K      uint32
	Rows   uint32
	Stride uint32 // of Out, elements
	Add    uint32 // 1: add to Out
	Pad    uint32

	Out1 uint64 // float32[rows][N1]: where the second matrix goes instead; 0 for Out

	Residual   uint64 // float32[rows][K]; 0: X is read
	Norm       uint64 // float32[K]
	Normed     uint64 // float32[rows][K]: where x goes too; 0 for nowhere
	NormedHalf uint64 // half[rows][K]: likewise
	Eps        float32
	Pad1       uint32
}

// Weight is a matrix as its checkpoint has it (ops.Matrix), for generic kernels.
type Weight struct {
	Words, Scales, Zeros, GroupOf uint64 // Zeros and GroupOf 0 where there are none
	K, N, Bits, Group             uint32
	Layout                        uint32 // ops.Layout
	ZeroKind                      uint32 // ops.Zeros
	Type                          uint32 // ops.Type of a dense weight
	Pad                           uint32
}

// LinearGenericArgs is the argument of rh_linear_generic: one matrix of any shape
// and packing times fp32 activations, as LinearArgs does it.
type LinearGenericArgs struct {
	X      uint64 // float32[rows][XStride]
	Wanted uint64 // Wanted[Rows]; 0 for none
	Out    uint64 // float32[rows][OutStride], at the matrix's first column

	Words, Scales, Zeros, GroupOf uint64
	K, N, Bits, Group             uint32
	Layout, ZeroKind, Type        uint32
	Rows, XStride, OutStride, Add uint32
	Pad                           uint32
}
