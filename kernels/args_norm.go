package kernels

// RMSNormArgs is the argument of rh_rmsnorm_generic and rh_rmsnorm_half: a
// zero-centred RMSNorm of Rows rows of N values, out = x * rsqrt(mean(x^2) + eps) *
// (1 + w). Out, Half and Low are written where they are not 0: with h = out *
// HalfScale, Half is h rounded to fp16 and Low is h - Half likewise, so that both
// together have 22 bits of it.
type RMSNormArgs struct {
	X         uint64 // float32[rows][XStride]
	W         uint64 // float32[N]
	Out       uint64 // float32[rows][OutStride]; may be X itself
	Half      uint64 // half[rows][OutStride]
	Low       uint64 // half[rows][OutStride]
	Rows      uint32
	N         uint32
	XStride   uint32 // elements
	OutStride uint32
	Eps       float32
	Pad       uint32
}
