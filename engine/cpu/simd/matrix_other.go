//go:build !amd64

package simd

// kernelsOf has the kernels of each level; Best is Portable here.
var kernelsOf = [...]kernels{Portable: portable, AVX2: portable, AVX512: portable}
