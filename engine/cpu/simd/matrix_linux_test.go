package simd

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"
)

// fenced copies data to the end of a mapping whose next page cannot be read, so
// that a read past the end is a fault.
func fenced(t *testing.T, data []byte) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (len(data) + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	if err := syscall.Mprotect(m[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	at := m[size-len(data) : size : size]
	copy(at, data)
	return at
}

func fencedFloats(t *testing.T, x []float32) []float32 {
	t.Helper()
	at := fenced(t, unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x)))
	return unsafe.Slice((*float32)(unsafe.Pointer(&at[0])), len(x))
}

func TestNothingIsReadPastTheEnd(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 13))
	for _, bits := range []int{2, 3, 4, 8} {
		for _, n := range []int{8, 24, 48} {
			s := shape{96, n, bits, 64, true, -1}
			w, _ := s.matrix(random)
			w.Words, w.Scales = fenced(t, w.Words), fenced(t, w.Scales)
			zeros := fenced(t, unsafe.Slice((*byte)(unsafe.Pointer(&w.Zeros[0])), 2*len(w.Zeros)))
			w.Zeros = unsafe.Slice((*uint16)(unsafe.Pointer(&zeros[0])), len(w.Zeros))
			for _, count := range []int{1, 2, 7} {
				x := Rows{Data: fencedFloats(t, normal(random, count*s.k)), Stride: s.k, Count: count}
				for _, level := range Levels() {
					c, rows := NewCodes(count, s.k), make([]int32, count)
					c.data = fenced(t, c.data)
					for i := range rows {
						rows[i] = int32(i)
						level.Quantise(c, i, x.row(i, 0, s.k), bits)
					}
					exact := Rows{Data: fencedFloats(t, make([]float32, count*n)), Stride: n, Count: count}
					fast := Rows{Data: fencedFloats(t, make([]float32, count*n)), Stride: n, Count: count}
					level.MulExact(exact, x, w, 0, n, NewScratch())
					level.MulFast(fast, c, rows, w, 0, n, NewScratch())
				}
			}
		}
	}
	for kind := range BF16 + 1 {
		for _, k := range []int{5, 24, 100} {
			w := &Dense{K: k, N: 3, Type: kind, Data: fenced(t, make([]byte, 3*k*kind.size()))}
			for _, count := range []int{1, 2, 5} {
				x := Rows{Data: fencedFloats(t, normal(random, count*k)), Stride: k, Count: count}
				for _, level := range Levels() {
					out := Rows{Data: fencedFloats(t, normal(random, count*3)), Stride: 3, Count: count}
					level.MulDense(out, x, w, 0, 3, NewScratch())
					for _, v := range out.Data {
						if v != 0 {
							t.Fatalf("%v: type %d, K = %d: %v from weights of zero", level, kind, k, v)
						}
					}
				}
			}
		}
	}
}

// TestProductsAllocateNothing: a step's products run on memory made before it.
func TestProductsAllocateNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 15))
	s := shape{128, 40, 4, 64, false, -1}
	w, _ := s.matrix(random)
	dense := &Dense{K: 128, N: 40, Type: F32, Data: odd(128 * 40 * 4)}
	for _, level := range Levels() {
		for _, count := range []int{1, 7} {
			x, out, scratch := many(random, count, s.k), products(count, s.n), NewScratch()
			c, _ := quantised(level, x, s)
			if n := testing.AllocsPerRun(10, func() {
				level.Quantise(c, 0, x.row(0, 0, s.k), s.bits)
				level.MulExact(out, x, w, 0, s.n, scratch)
				level.MulFast(out, c, x.Index, w, 0, s.n, scratch)
				level.MulDense(out, x, dense, 0, s.n, scratch)
				level.Read(w.Words)
			}); n != 0 {
				t.Errorf("%v: %d rows: %v allocations", level, count, n)
			}
		}
	}
}
