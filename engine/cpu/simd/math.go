package simd

import "math"

// The functions of this file give each value the same bits wherever it stands
// in a slice: what is left over beside whole vectors goes through one padded
// vector. AVX2 and AVX-512 are within 2 units in the last place of e^x, exact
// at 0, subnormal below -87.3, 0 below -104 and NaN for NaN.

// Exp writes e^(scale*(x-shift)) and returns its sum. dst may be x, and is at
// least as long.
func (l Level) Exp(dst, x []float32, scale, shift float32) (sum float32) {
	dst = dst[:len(x)]
	if l == Portable {
		for i, v := range x {
			dst[i] = float32(math.Exp(float64(scale * (v - shift))))
			sum += dst[i]
		}
		return sum
	}
	n := l.whole(len(x))
	if n > 0 {
		sum = l.exp(dst, x, n, scale, shift)
	}
	if n < len(x) {
		var pad [16]float32
		copy(pad[:], x[n:])
		l.exp(pad[:], pad[:], len(pad), scale, shift)
		for _, v := range pad[:copy(dst[n:], pad[:])] {
			sum += v
		}
	}
	return sum
}

func (l Level) exp(dst, x []float32, n int, scale, shift float32) float32 {
	if l == AVX512 {
		return expAVX512(&dst[0], &x[0], n, scale, shift)
	}
	return expAVX2(&dst[0], &x[0], n, scale, shift)
}

// Gate writes x / (1 + e^-g), x times the sigmoid of g. dst may be x or g.
func (l Level) Gate(dst, x, g []float32) { l.gated(dst, x, g, false) }

// SiLU writes x / (1 + e^-x). dst may be x.
func (l Level) SiLU(dst, x []float32) { l.Gate(dst, x, x) }

// SiLUMul writes SiLU(g) * x. dst may be x or g.
func (l Level) SiLUMul(dst, g, x []float32) { l.gated(dst, x, g, true) }

func (l Level) gated(dst, x, g []float32, silu bool) {
	dst, g = dst[:len(x)], g[:len(x)]
	if l == Portable {
		for i, v := range x {
			e := 1 + math.Exp(-float64(g[i]))
			if silu {
				dst[i] = float32(float64(g[i])/e) * v
			} else {
				dst[i] = float32(float64(v) / e)
			}
		}
		return
	}
	n := l.whole(len(x))
	if n > 0 {
		l.gate(dst, x, g, n, silu)
	}
	if n < len(x) {
		var padX, padG [16]float32
		copy(padX[:], x[n:])
		copy(padG[:], g[n:])
		l.gate(padX[:], padX[:], padG[:], len(padX), silu)
		copy(dst[n:], padX[:])
	}
}

func (l Level) gate(dst, x, g []float32, n int, silu bool) {
	switch {
	case l == AVX512 && silu:
		siluMulAVX512(&dst[0], &x[0], &g[0], n)
	case l == AVX512:
		gateAVX512(&dst[0], &x[0], &g[0], n)
	case silu:
		siluMulAVX2(&dst[0], &x[0], &g[0], n)
	default:
		gateAVX2(&dst[0], &x[0], &g[0], n)
	}
}
