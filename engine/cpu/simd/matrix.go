package simd

import (
	"encoding/binary"
	"fmt"
)

// Packed is a quantised weight W[K,N] = scale[g,n] * (code[k,n] - zero[g,n]),
// g = k / Group, read where it lies: a 32-bit lane of a row of words holds codes
// of one column only, so that a vector of words is a vector of columns.
type Packed struct {
	K, N   int      // inputs, a multiple of 32; outputs, a multiple of 8
	Bits   int      // 2, 3, 4 or 8
	Group  int      // rows of W that share a scale: a multiple of 32, or K and more
	Words  []byte   // little-endian [K*Bits/32, N] at any address, GPTQ order; 3 bits: from PackThree
	Scales []byte   // fp16 [G, N] at any address, G = ceil(K / Group)
	Zeros  []uint16 // [G, N], each at most 256; nil: 2^(Bits-1) everywhere
}

// Check says why the matrix cannot be multiplied. The products panic with the
// same words: a matrix is to be checked when it is loaded.
func (w *Packed) Check() error {
	group := w.group()
	switch {
	case w.K <= 0 || w.K%block != 0:
		return fmt.Errorf("simd: packed matrix with K = %d: want a positive multiple of %d", w.K, block)
	case w.N <= 0 || w.N%8 != 0:
		return fmt.Errorf("simd: packed matrix with N = %d: want a positive multiple of 8", w.N)
	case w.Bits != 2 && w.Bits != 3 && w.Bits != 4 && w.Bits != 8:
		return fmt.Errorf("simd: packed matrix of %d bits: want 2, 3, 4 or 8", w.Bits)
	case group <= 0 || group%block != 0:
		return fmt.Errorf("simd: packed matrix with groups of %d: want a multiple of %d, or K", w.Group, block)
	}
	groups := w.groups()
	switch {
	case len(w.Words) != w.K/block*w.Bits*4*w.N:
		return fmt.Errorf("simd: packed matrix [%d, %d] of %d bits with %d bytes of words: want %d", w.K, w.N, w.Bits, len(w.Words), w.K/block*w.Bits*4*w.N)
	case len(w.Scales) != 2*groups*w.N:
		return fmt.Errorf("simd: packed matrix [%d, %d] with %d bytes of scales: want %d for %d groups", w.K, w.N, len(w.Scales), 2*groups*w.N, groups)
	case w.Zeros != nil && len(w.Zeros) != groups*w.N:
		return fmt.Errorf("simd: packed matrix [%d, %d] with %d zeros: want %d for %d groups", w.K, w.N, len(w.Zeros), groups*w.N, groups)
	}
	return nil
}

func (w *Packed) group() int  { return min(w.Group, w.K) }
func (w *Packed) groups() int { return (w.K + w.group() - 1) / w.group() }

// Bytes returns what a product reads: words, scales and stored zeros.
func (w *Packed) Bytes() int { return len(w.Words) + len(w.Scales) + 2*len(w.Zeros) }

// words returns the words from row k, column n on. k is a multiple of 32.
func (w *Packed) words(k, n int) []byte { return w.Words[(k/block*w.Bits*w.N+n)*4:] }

// zeros returns the zeros of columns n to n+width, at most maxColumns.
func (w *Packed) zeros(g, n, width int) []uint16 {
	if w.Zeros == nil {
		return symmetric[w.Bits][:width]
	}
	return w.Zeros[g*w.N+n:][:width]
}

// scales returns the scales of columns n to n+width.
func (w *Packed) scales(g, n, width int) []byte { return w.Scales[2*(g*w.N+n):][:2*width] }

// symmetric holds the zeros of matrices that store none.
var symmetric = func() (zeros [9][]uint16) {
	for _, bits := range []int{2, 3, 4, 8} {
		zeros[bits] = make([]uint16, maxColumns)
		for i := range zeros[bits] {
			zeros[bits][i] = 1 << (bits - 1)
		}
	}
	return zeros
}()

// PackThree returns GPTQ words [k*3/32, n] of 3 bits in the order that Packed
// wants. A column's 32 codes are a stream of 96 bits there, and cross words;
// here the first two words of three hold the low two bits of 16 codes each, and
// the third the high bits: that of code 16r+j+4i in bit 8i+4r+j.
func PackThree(words []byte, k, n int) []byte {
	packed := make([]byte, k/block*3*n*4)
	words = words[:len(packed)]
	for t := range k / block {
		for col := range n {
			at := func(row int) int { return ((3*t+row)*n + col) * 4 }
			lo := uint64(binary.LittleEndian.Uint32(words[at(0):])) | uint64(binary.LittleEndian.Uint32(words[at(1):]))<<32
			hi := uint64(binary.LittleEndian.Uint32(words[at(1):]))>>16 | uint64(binary.LittleEndian.Uint32(words[at(2):]))<<16
			var out [3]uint32
			for i := range block {
				code := uint32(hi>>(max(3*i-48, 0))) & 7 // bit 48 on
				if i < 16 {
					code = uint32(lo>>(3*i)) & 7
				}
				out[i/16] |= code & 3 << (2 * (i % 16))
				out[2] |= code >> 2 << (8*(i%16/4) + 4*(i/16) + i%4)
			}
			for row, word := range out {
				binary.LittleEndian.PutUint32(packed[at(row):], word)
			}
		}
	}
	return packed
}

// DenseType is the element type of an unquantised matrix.
type DenseType uint8

// Element types, little-endian.
const (
	F32 DenseType = iota
	F16
	BF16
)

func (t DenseType) size() int { return [...]int{4, 2, 2}[t] }

// Dense is an unquantised weight whose rows are outputs: y[n] = x[K] . Data[n,K].
type Dense struct {
	K, N int // any positive numbers
	Type DenseType
	Data []byte // [N, K] at any address
}

// Check says why the matrix cannot be multiplied, as that of Packed does.
func (w *Dense) Check() error {
	switch {
	case w.K <= 0 || w.N <= 0 || w.Type > BF16:
		return fmt.Errorf("simd: dense matrix [%d, %d] of type %d: want positive sizes and F32, F16 or BF16", w.N, w.K, w.Type)
	case len(w.Data) != w.N*w.K*w.Type.size():
		return fmt.Errorf("simd: dense matrix [%d, %d] with %d bytes: want %d", w.N, w.K, len(w.Data), w.N*w.K*w.Type.size())
	}
	return nil
}

// Rows are Count rows of an operand: row i begins at Data[at*Stride], at being
// Index[i], or i when Index is nil.
type Rows struct {
	Data   []float32
	Stride int
	Index  []int32
	Count  int
}

// row returns columns n0 to n1 of row i.
func (r *Rows) row(i, n0, n1 int) []float32 {
	if r.Index != nil {
		i = int(r.Index[i])
	}
	return r.Data[i*r.Stride:][n0:n1:n1]
}

const (
	block      = 32   // inputs that share a scale of 8-bit activations, and one pass of a kernel
	tileRows   = 64   // rows of activations that share an unpacked tile
	tileN      = 32   // columns of an unpacked tile: one tile of codes feeds four vectors of AVX2
	tileK      = 64   // inputs of an unpacked tile: 8 KB, a quarter of the first-level cache
	maxColumns = 2048 // columns of one row that are summed side by side: 8 KB
)

// Scratch is one worker's memory for products, allocated once.
type Scratch struct {
	acc    []float32       // sums within a group [rows, columns]
	total  []float32       // sums of the groups before, scaled
	part   []int32         // dots of half a block [tileRows, 8]
	tile   []float32       // [tileK, tileN]
	sums   [8]float32      // of a dense kernel
	planes [tileRows]int32 // rows of codes of 16 bits, by their bytes
}

// NewScratch returns what a worker needs for any matrix.
func NewScratch() *Scratch {
	return &Scratch{
		acc:   make([]float32, max(maxColumns, tileRows*tileN)),
		total: make([]float32, max(maxColumns, tileRows*tileN)),
		part:  make([]int32, tileRows*8),
		tile:  make([]float32, tileK*tileN),
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// mustSpan panics unless columns n0 to n1 can be asked of a matrix of n.
func mustSpan(n0, n1, n, unit int) {
	if n0 < 0 || n1 < n0 || n1 > n || n0%unit != 0 || n1%unit != 0 && n1 != n {
		panic(fmt.Sprintf("simd: columns %d to %d of %d: want multiples of %d or the end", n0, n1, n, unit))
	}
}
