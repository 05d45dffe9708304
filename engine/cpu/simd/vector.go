package simd

import "math"

// whole returns how many of n values the level's vectors cover. The rest is
// plain Go: a result depends on the values and their number, never on where
// they lie.
func (l Level) whole(n int) int {
	switch l {
	case AVX512:
		return n &^ 15
	case AVX2:
		return n &^ 7
	default:
		return 0
	}
}

// Dot returns the sum of x[i]*y[i]; y is at least as long as x.
func (l Level) Dot(x, y []float32) (sum float32) {
	y = y[:len(x)]
	if n := l.whole(len(x)); n > 0 {
		if l == AVX512 {
			sum = dotAVX512(&x[0], &y[0], n)
		} else {
			sum = dotAVX2(&x[0], &y[0], n)
		}
		x, y = x[n:], y[n:]
	}
	return sum + dot(x, y)
}

// dot sums in four strands.
func dot(x, y []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(x) >= 4 && len(y) >= 4 { // both, so that the compiler drops the bounds checks
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
		x, y = x[4:], y[4:]
	}
	for i := range x {
		s0 += x[i] * y[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// SumSquares returns the sum of x[i]^2.
func (l Level) SumSquares(x []float32) float32 { return l.Dot(x, x) }

// Axpy computes y += a*x; x is at least as long as y.
func (l Level) Axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	if n := l.whole(len(y)); n > 0 {
		if l == AVX512 {
			axpyAVX512(&y[0], &x[0], n, a)
		} else {
			axpyAVX2(&y[0], &x[0], n, a)
		}
		x, y = x[n:], y[n:]
	}
	axpy(y, a, x)
}

func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += a * x[i]
	}
}

// Add computes y += x; x is at least as long as y.
func (l Level) Add(y, x []float32) { l.Axpy(y, 1, x) }

// Scale computes y *= a.
func (l Level) Scale(y []float32, a float32) {
	if n := l.whole(len(y)); n > 0 {
		if l == AVX512 {
			scaleAVX512(&y[0], n, a)
		} else {
			scaleAVX2(&y[0], n, a)
		}
		y = y[n:]
	}
	for i := range y {
		y[i] *= a
	}
}

// Mul computes y *= x, value by value; x is at least as long as y.
func (l Level) Mul(y, x []float32) {
	x = x[:len(y)]
	if n := l.whole(len(y)); n > 0 {
		if l == AVX512 {
			mulAVX512(&y[0], &x[0], n)
		} else {
			mulAVX2(&y[0], &x[0], n)
		}
		x, y = x[n:], y[n:]
	}
	for i := range y {
		y[i] *= x[i]
	}
}

// Norm writes x * rsqrt(mean(x^2) + eps) * (offset + w): the RMS norm, with
// offset 1 for weights that are kept zero-centred and 0 for plain ones. dst may
// be x.
func (l Level) Norm(dst, x, w []float32, eps, offset float32) {
	dst, w = dst[:len(x)], w[:len(x)]
	scale := float32(1 / math.Sqrt(float64(l.SumSquares(x))/float64(len(x))+float64(eps)))
	if n := l.whole(len(x)); n > 0 {
		if l == AVX512 {
			normAVX512(&dst[0], &x[0], &w[0], n, scale, offset)
		} else {
			normAVX2(&dst[0], &x[0], &w[0], n, scale, offset)
		}
		dst, x, w = dst[n:], x[n:], w[n:]
	}
	for i, v := range x {
		dst[i] = v * scale * (offset + w[i])
	}
}

// ArgTop writes the indices of the len(ids) largest of x, which has at least as
// many and no NaN, largest first, and those values into top. The lower index
// wins among equals.
func (l Level) ArgTop(ids []int32, top, x []float32) {
	k := len(ids)
	if k == 0 {
		return
	}
	top = top[:k]
	insert := func(at, id int, v float32) { // into ids[:at], dropping what falls off
		for ; at > 0 && top[at-1] < v; at-- {
			if at < k {
				top[at], ids[at] = top[at-1], ids[at-1]
			}
		}
		if at < k {
			top[at], ids[at] = v, int32(id)
		}
	}
	for id, v := range x[:k] {
		insert(id, id, v)
	}
	const block = 32 // most blocks have nothing above the least of the top
	for id := k; id < len(x); id += block {
		part := x[id:min(id+block, len(x))]
		if l.Max(part) <= top[k-1] {
			continue
		}
		for i, v := range part {
			if v > top[k-1] {
				insert(k, id+i, v)
			}
		}
	}
}
