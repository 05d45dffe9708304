package kernels

// RMSNormArgs is the argument of rh_rmsnorm_generic: a zero-centred RMSNorm of
// Rows rows of N values, out = x * rsqrt(mean(x^2) + eps) * (1 + w).
type RMSNormArgs struct {
	X         uint64 // float32[rows][x_stride]
	W         uint64 // float32[n]
	Out       uint64 // float32[rows][out_stride]; may be x itself
	Rows      uint32
	N         uint32
	XStride   uint32 // elements
	OutStride uint32
	Eps       float32
	Pad       uint32
}
