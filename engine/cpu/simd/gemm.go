package simd

// Gemm adds the product of two small fp32 matrices: C[m,n] += A[m,k] B[k,n],
// rows lda, ldb and ldc floats apart. An element is one sum in the order of k,
// then added to C: its bits depend on its column's place in n and on k, not on
// the number of rows.
func (l Level) Gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int) {
	l.gemm(c, ldc, a, lda, 1, b, ldb, m, n, k)
}

// GemmAT is Gemm with A transposed: C[m,n] += A[k,m]^T B[k,n].
func (l Level) GemmAT(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int) {
	l.gemm(c, ldc, a, 1, lda, b, ldb, m, n, k)
}

// gemm takes the values of a row of A ka floats apart.
func (l Level) gemm(c []float32, ldc int, a []float32, lda, ka int, b []float32, ldb int, m, n, k int) {
	if m == 0 || n == 0 || k == 0 {
		return
	}
	_, _, _ = c[(m-1)*ldc+n-1], a[(m-1)*lda+(k-1)*ka], b[(k-1)*ldb+n-1]
	const strip = 64 // columns at a time: with k = 64, 16 KB of B stay in the first-level cache for all rows
	done := 0
	for done < n {
		width, lanes := min(strip, n-done), 0
		switch {
		case l == AVX512 && width >= 32:
			lanes = 16
		case l >= AVX2 && width >= 16:
			lanes = 8
		}
		if lanes == 0 {
			gemm(c[done:], ldc, a, lda, ka, b[done:], ldb, m, width, k)
			done += width
			continue
		}
		width -= width % (2 * lanes)
		for i, rows := 0, 8; i < m; i += rows {
			for rows > 1 && i+rows > m || rows == 8 && lanes == 8 {
				rows = max(1, rows/2&^3)
			}
			to, from := &c[i*ldc+done], &a[i*lda]
			switch {
			case rows == 8:
				gemm8AVX512(to, from, &b[done], width, k, ldc, lda, ka, ldb)
			case rows == 4 && lanes == 16:
				gemm4AVX512(to, from, &b[done], width, k, ldc, lda, ka, ldb)
			case rows == 4:
				gemm4AVX2(to, from, &b[done], width, k, ldc, lda, ka, ldb)
			case lanes == 16:
				gemm1AVX512(to, from, &b[done], width, k, ldc, lda, ka, ldb)
			default:
				gemm1AVX2(to, from, &b[done], width, k, ldc, lda, ka, ldb)
			}
		}
		done += width
	}
}

// gemm takes at most 64 columns.
func gemm(c []float32, ldc int, a []float32, lda, ka int, b []float32, ldb int, m, n, k int) {
	var sums [64]float32
	for i := range m {
		sum := sums[:n]
		clear(sum)
		for p := range k {
			axpy(sum, a[i*lda+p*ka], b[p*ldb:])
		}
		axpy(c[i*ldc:][:n], 1, sum)
	}
}

// GemmT writes the products of rows with rows: C[m,n] = A[m,k] B[n,k]^T. The
// bits of an element depend on its two rows alone.
func (l Level) GemmT(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int) {
	if m == 0 || n == 0 {
		return
	}
	whole := l.whole(k)
	if whole == 0 {
		for i := range m {
			for j := range n {
				c[i*ldc+j] = dot(a[i*lda:][:k], b[j*ldb:][:k])
			}
		}
		return
	}
	_, _, _ = c[(m-1)*ldc+n-1], a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1]
	const strip = 16 // rows of B that stay in the first-level cache for all of A
	for j := 0; j < n; j += strip {
		width := min(strip, n-j)
		for i, rows := 0, 4; i < m; i += rows {
			if i+rows > m {
				rows = 1
			}
			several, one, count := l.transposed(rows)
			even := width - width%count
			if even > 0 {
				several(&c[i*ldc+j], &a[i*lda], &b[j*ldb], even, whole, ldc, lda, ldb)
			}
			if even < width {
				one(&c[i*ldc+j+even], &a[i*lda], &b[(j+even)*ldb], width-even, whole, ldc, lda, ldb)
			}
		}
	}
	if whole == k {
		return
	}
	for i := range m {
		for j := range n {
			c[i*ldc+j] += dot(a[i*lda+whole:][:k-whole], b[j*ldb+whole:][:k-whole])
		}
	}
}

// product is the signature of the blocks in assembly.
type product func(c, a, b *float32, n, k, ldc, lda, ldb int)

// transposed picks the blocks of four rows or one: with several rows of B at a
// time, and with one.
func (l Level) transposed(rows int) (several, one product, count int) {
	switch {
	case l == AVX512 && rows == 4:
		return gemmT4x4AVX512, gemmT4x1AVX512, 4
	case l == AVX512:
		return gemmT1x4AVX512, gemmT1x1AVX512, 4
	case rows == 4:
		return gemmT4x2AVX2, gemmT4x1AVX2, 2
	default:
		return gemmT1x2AVX2, gemmT1x1AVX2, 2
	}
}
