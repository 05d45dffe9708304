package simd

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
