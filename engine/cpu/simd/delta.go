package simd

// DeltaStep is the gated delta rule for one token over some columns of a head's
// state S, whose len(k) rows lie stride floats apart:
//
//	change = beta (v - decay S^T k);  S <- decay S + k change^T;  out = S^T q
//
// (Yang et al., "Gated Delta Networks", 2024). Columns are independent: a split
// of them at multiples of 32 changes no bit. v, change and out have one value a
// column. The state is read once from memory and written once.
func (l Level) DeltaStep(out, state []float32, stride int, q, k, v, change []float32, beta, decay float32) {
	rows, columns := len(k), len(v)
	q, change, out = q[:rows], change[:columns], out[:columns]
	if rows == 0 || columns == 0 {
		return
	}
	_ = state[(rows-1)*stride+columns-1]
	l.deltaRead(change, state, stride, k)
	l.Scale(change, -beta*decay)
	l.Axpy(change, beta, v)
	l.deltaWrite(out, state, stride, q, k, change, decay)
}

// deltaRead computes dst = S^T k.
func (l Level) deltaRead(dst, state []float32, stride int, k []float32) {
	at, rows := 0, len(k)
	for lanes := l.lanes(); lanes > 0 && at+lanes <= len(dst); {
		wide := at+8*lanes <= len(dst)
		switch {
		case wide && l == AVX512:
			deltaRead8AVX512(&dst[at], &state[at], &k[0], rows, stride)
		case l == AVX512:
			deltaRead1AVX512(&dst[at], &state[at], &k[0], rows, stride)
		case wide:
			deltaRead8AVX2(&dst[at], &state[at], &k[0], rows, stride)
		default:
			deltaRead1AVX2(&dst[at], &state[at], &k[0], rows, stride)
		}
		at += lanes
		if wide {
			at += 7 * lanes
		}
	}
	clear(dst[at:])
	for i, ki := range k {
		axpy(dst[at:], ki, state[i*stride+at:])
	}
}

// deltaWrite computes S <- decay S + k change^T and dst = S^T q.
func (l Level) deltaWrite(dst, state []float32, stride int, q, k, change []float32, decay float32) {
	at, rows := 0, len(k)
	for lanes := l.lanes(); lanes > 0 && at+lanes <= len(dst); {
		width := 4 * lanes
		if l == AVX512 {
			width = 8 * lanes
		}
		wide := at+width <= len(dst)
		switch {
		case wide && l == AVX512:
			deltaWrite8AVX512(&dst[at], &state[at], &k[0], &q[0], &change[at], rows, stride, decay)
		case l == AVX512:
			deltaWrite1AVX512(&dst[at], &state[at], &k[0], &q[0], &change[at], rows, stride, decay)
		case wide:
			deltaWrite4AVX2(&dst[at], &state[at], &k[0], &q[0], &change[at], rows, stride, decay)
		default:
			deltaWrite1AVX2(&dst[at], &state[at], &k[0], &q[0], &change[at], rows, stride, decay)
		}
		if !wide {
			width = lanes
		}
		at += width
	}
	dst, change = dst[at:], change[at:]
	clear(dst)
	if len(dst) == 0 {
		return
	}
	for i, ki := range k {
		row := state[i*stride+at:][:len(dst)]
		for j := range row {
			row[j] = decay*row[j] + ki*change[j]
			dst[j] += q[i] * row[j]
		}
	}
}

// lanes returns the fp32 values of a vector, 0 without vectors.
func (l Level) lanes() int { return [...]int{0, 8, 16}[l] }

// Convolve is one token of a causal convolution by channel, of kernel taps:
//
//	y = taps[0]*oldest + ... + taps[kernel-2]*newest + taps[kernel-1]*x
//
// The window holds the last kernel-1 inputs of each channel, oldest first, and x
// moves in. The channels of a tap lie together, the taps stride apart; y says
// how many channels there are. Vectors have kernels of 4; others are plain Go.
func (l Level) Convolve(y, window, x, taps []float32, kernel, stride int) {
	past := kernel - 1
	window, x, taps = window[:past*len(y)], x[:len(y)], taps[:past*stride+len(y)]
	at := 0
	if n := len(y) &^ 7; l >= AVX2 && n > 0 && kernel == 4 {
		convolve4AVX2(&y[0], &window[0], &x[0], &taps[0], n, stride)
		at = n
	}
	for ; at < len(y); at++ {
		w := window[past*at:][:past]
		y[at] = 0
		for i, v := range w {
			y[at] += taps[i*stride+at] * v
		}
		y[at] += taps[past*stride+at] * x[at]
		if past > 0 {
			copy(w, w[1:])
			w[past-1] = x[at]
		}
	}
}
