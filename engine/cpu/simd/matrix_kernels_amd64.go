package simd

// kernelsOf has the kernels of each level.
var kernelsOf = [...]kernels{
	Portable: portable,
	AVX2: {
		fast:     [9]func([]float32, []int32, []byte, int, []uint16, []byte, int, []int32){2: fast2AVX2, 3: fast3AVX2, 4: fast4AVX2, 8: fast8AVX2},
		exact:    [9]func([]float32, []byte, int, []uint16, []float32){2: exact2AVX2, 3: exact3AVX2, 4: exact4AVX2, 8: exact8AVX2},
		unpack:   [9]func([]float32, []byte, int, []uint16){2: unpack2AVX2, 3: unpack3AVX2, 4: unpack4AVX2, 8: unpack8AVX2},
		fma1:     fma1AVX2,
		fma2:     fma2AVX2,
		fma4:     fma4AVX2,
		settle:   settleAVX2,
		dense1:   [3]func(sums, x0 []float32, w0, w1, w2, w3 []byte){dense1F32AVX2, dense1F16AVX2, dense1BF16AVX2},
		dense4:   [3]func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte){dense4F32AVX2, dense4F16AVX2, dense4BF16AVX2},
		lanes:    8,
		quantise: quantiseAVX2,
		read:     readAVX2,
	},
	AVX512: {
		fast:     [9]func([]float32, []int32, []byte, int, []uint16, []byte, int, []int32){2: fast2AVX512, 3: fast3AVX512, 4: fast4AVX512, 8: fast8AVX512},
		exact:    [9]func([]float32, []byte, int, []uint16, []float32){2: exact2AVX512, 3: exact3AVX512, 4: exact4AVX512, 8: exact8AVX512},
		unpack:   [9]func([]float32, []byte, int, []uint16){2: unpack2AVX512, 3: unpack3AVX512, 4: unpack4AVX512, 8: unpack8AVX512},
		fma1:     fma1AVX512,
		fma2:     fma2AVX512,
		fma4:     fma4AVX512,
		settle:   settleAVX512,
		dense1:   [3]func(sums, x0 []float32, w0, w1, w2, w3 []byte){dense1F32AVX512, dense1F16AVX512, dense1BF16AVX512},
		dense4:   [3]func(sums, x0, x1, x2, x3 []float32, w0, w1 []byte){dense4F32AVX512, dense4F16AVX512, dense4BF16AVX512},
		lanes:    16,
		quantise: quantiseAVX2,
		read:     readAVX512,
	},
}
