package drivertest

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// RoundHalf rounds to fp16, to nearest even as __float2half_rn does: infinite from
// 65520 on. ops.Half is the way back.
func RoundHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	magnitude := math.Abs(float64(v))
	switch {
	case v != v:
		return sign | 0x7fff
	case magnitude >= 65520:
		return sign | 0x7c00
	case magnitude < 1.0/(1<<14): // subnormal: units of 2^-24
		return sign | uint16(math.RoundToEven(magnitude*(1<<24)))
	}
	_, exponent := math.Frexp(magnitude) // magnitude = [0.5, 1) * 2^exponent
	units := uint16(math.RoundToEven(math.Ldexp(magnitude, 11-exponent)))
	return sign | uint16(exponent+13)<<10 + units // 1024 <= units <= 2048 carries into the exponent
}

// roundSaturated is RoundHalf with the largest number in place of infinity; a NaN
// stays one.
func roundSaturated(v float32) uint16 { return RoundHalf(max(-65504, min(65504, v))) }

// ToActivation makes v a half activation: scaled (kHalfScale of abi.cuh), saturated.
func ToActivation(v float32) uint16 { return roundSaturated(v * kernels.HalfScale) }

// FromActivation is the value that a half activation stands for.
func FromActivation(h uint16) float32 { return ops.Half(h) / kernels.HalfScale }

// activations are n half activations at an address.
func activations[T float32 | float64](m Memory, at uint64, n int) ([]T, error) {
	stored, err := Slice[uint16](m, at, n)
	values := make([]T, len(stored))
	for i, h := range stored {
		values[i] = T(FromActivation(h))
	}
	return values, err
}

// roundBFloat16 rounds to the nearest bfloat16, ties to even. ops.BFloat16 is the way
// back.
func roundBFloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return 0x7fff
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
