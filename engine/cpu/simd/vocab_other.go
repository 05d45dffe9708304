//go:build !amd64

package simd

// Best is Portable here, so these are never called.

func maxAVX2(*float32, int) float32 { panic("simd: no assembly on this platform") }
