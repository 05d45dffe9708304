package simd

import "math"

// Max returns the largest of x, which is not empty and has no NaN.
func (l Level) Max(x []float32) float32 {
	top := x[0]
	if n := len(x) &^ 31; l >= AVX2 && n > 0 {
		top, x = maxAVX2(&x[0], n), x[n:]
	}
	for _, v := range x {
		top = max(top, v)
	}
	return top
}

// Block is how many values share a peak.
const Block = 64

// Peaks writes the largest of each Block of x to peaks, which is as long as
// there are blocks, the last perhaps a short one. The n-th largest peak is a
// lower bound of the n-th largest value, and a close one.
func (l Level) Peaks(peaks, x []float32) {
	if n := len(x) / Block; l >= AVX2 && n > 0 {
		peaksAVX2(&peaks[0], &x[0], n)
		peaks, x = peaks[n:], x[n*Block:]
	}
	for i := range peaks {
		peaks[i] = Portable.Max(x[i*Block : min((i+1)*Block, len(x))])
	}
}

// SumExp returns the sum of exp((v - top) * scale) over x: top is not below any
// value, scale is finite and not negative. A NaN in x, or an infinite top, gives
// NaN. Terms have float32 precision (about 1 ulp, and nothing below e^-87), the
// sum is float64; levels differ in the last bits.
func (l Level) SumExp(x []float32, top, scale float32) (sum float64) {
	switch n := len(x) &^ 15; {
	case l >= AVX512 && n > 0:
		sum, x = sumExpAVX512(&x[0], n, top, scale), x[n:]
	case l >= AVX2 && n > 0:
		sum, x = sumExpAVX2(&x[0], n, top, scale), x[n:]
	}
	for _, v := range x {
		sum += math.Exp(float64((v - top) * scale))
	}
	return sum
}

// SumExpX is SumExp with the sum of y*exp(y) beside it, y = (v - top) * scale:
// what an entropy is made of.
func (l Level) SumExpX(x []float32, top, scale float32) (sum, moment float64) {
	switch n := len(x) &^ 15; {
	case l >= AVX512 && n > 0:
		sum, moment = sumExpXAVX512(&x[0], n, top, scale)
		x = x[n:]
	case l >= AVX2 && n > 0:
		sum, moment = sumExpXAVX2(&x[0], n, top, scale)
		x = x[n:]
	}
	for _, v := range x {
		y := max((v-top)*scale, -87) // -Inf*0 is no number
		e := math.Exp(float64(y))
		sum, moment = sum+e, moment+float64(y)*e
	}
	return sum, moment
}

// AtLeast writes the indices of the values not below floor to ids, ascending,
// and returns how many there are. It has room for len(x).
func (l Level) AtLeast(ids []int32, x []float32, floor float32) int {
	done, found := 0, 0
	if n := len(x) &^ 31; n > 0 {
		switch {
		case l >= AVX512:
			done, found = n, atLeastAVX512(&ids[0], &x[0], n, floor)
		case l >= AVX2:
			done, found = n, atLeastAVX2(&ids[0], &x[0], n, floor)
		}
	}
	for i, v := range x[done:] {
		if v >= floor {
			ids[found] = int32(done + i)
			found++
		}
	}
	return found
}
