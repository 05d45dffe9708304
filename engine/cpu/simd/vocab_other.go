//go:build !amd64

package simd

// Best is Portable here, so these are never called.

const missing = "simd: no assembly on this platform"

func maxAVX2(*float32, int) float32                        { panic(missing) }
func peaksAVX2(*float32, *float32, int)                    { panic(missing) }
func sumExpAVX2(*float32, int, float32, float32) float64   { panic(missing) }
func sumExpAVX512(*float32, int, float32, float32) float64 { panic(missing) }
func atLeastAVX2(*int32, *float32, int, float32) int       { panic(missing) }
func atLeastAVX512(*int32, *float32, int, float32) int     { panic(missing) }

func sumExpXAVX2(*float32, int, float32, float32) (sum, moment float64)   { panic(missing) }
func sumExpXAVX512(*float32, int, float32, float32) (sum, moment float64) { panic(missing) }
