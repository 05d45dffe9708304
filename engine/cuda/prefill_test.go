package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// stand launches kernels of prefill passes by themselves.
type stand struct {
	*twin
	r *recorder
}

func newStand(t testing.TB, bytes int64) *stand {
	t.Helper()
	s := &stand{twin: newTwin(t, Options{})}
	s.arenas(bytes)
	s.r = &recorder{b: s.device, halves: map[driver.Ptr]driver.Ptr{}}
	return s
}

// room is the memory that the cases need: on a device there are larger ones.
func room() int64 {
	if silicon() {
		return 2 << 30
	}
	return 32 << 20
}

// put writes numbers to the device.
func put[T any](s *stand, values []T) driver.Ptr {
	s.Helper()
	raw := bytesOf(values)
	buf, err := s.arena.Alloc("test", ops.U8, int64(len(raw)))
	s.check(err)
	s.check(s.device.Write(buf, raw))
	return at(buf)
}

// get reads n numbers.
func get[T any](s *stand, from driver.Ptr, n int) []T {
	s.Helper()
	values := make([]T, n)
	raw := bytesOf(values)
	s.check(s.device.Read(raw, ops.Buf{Addr: uintptr(from), Len: int64(len(raw)), Type: ops.U8}))
	return values
}

// launch runs work on a pass of prefill.
func (s *stand) launch(p pass, work func(p *pass) error) {
	s.Helper()
	p.class, p.stream, p.overlap = prefilling, s.device.stream, s.device.properties.Arch >= 90
	s.check(s.r.err)
	s.check(s.device.on(func() error {
		if err := work(&p); err != nil {
			return err
		}
		return s.device.driver.Synchronise(p.stream)
	}))
}

// activations are rows of half activations and what they say.
func (s *stand) activations(n int, scale float64) (stored []uint16, values []float32) {
	normal := s.normal(scale)
	for i := range n {
		h := drivertest.ToActivation(normal(i))
		stored, values = append(stored, h), append(values, drivertest.FromActivation(h))
	}
	return stored, values
}

// packed is a matrix in slabs whose row g of slab i is output n of what of says.
func packed(bits, k, count int, of func(slab, g int) (m *ops.Matrix, n int)) (slabs, []byte) {
	s := slabs{bits: bits, count: count, stride: slabBytes(k, bits)}
	data := make([]byte, count*s.stride)
	values := make([]float32, k)
	for i := range count * slabRows {
		m, n := of(i/slabRows, i%slabRows)
		if n >= m.N {
			continue
		}
		to, g := data[i/slabRows*s.stride:], i%slabRows
		if bits == 16 {
			m.Row(values, n)
			for j, v := range values {
				binary.LittleEndian.PutUint16(to[drivertest.HalfAt(g, j):], drivertest.RoundHalf(v))
			}
			continue
		}
		for j := range k {
			word := binary.LittleEndian.Uint32(m.Weight.Data[4*(j/(32/bits)*m.N+n):])
			at, shift := drivertest.CodeAt(bits, g, j)
			to[at] |= byte(word >> (j % (32 / bits) * bits) & (1<<bits - 1) << shift)
		}
		for group := range k / slabGroup {
			copy(to[k*slabRows*bits/8+(group*slabRows+g)*2:], m.Scales.Data[2*(group*m.N+n):][:2])
		}
	}
	return s, data
}

// weight makes a matrix of 4, 8 or 16 bits.
func (s *stand) weight(bits, k, n int) *ops.Matrix {
	if bits == 16 {
		return s.dense("dense", k, n)
	}
	return s.gptq("packed", k, n, bits, slabGroup)
}

// times is x m in fp64, for rows of m's inputs.
func times(m *ops.Matrix, x []float32) []float32 {
	w := make([]float32, m.K*m.N)
	m.Tile(w, 0, m.K, 0, m.N)
	out := make([]float32, len(x)/m.K*m.N)
	sums := make([]float64, m.N)
	for row := range len(x) / m.K {
		clear(sums)
		for k, v := range x[row*m.K:][:m.K] {
			for n, weight := range w[k*m.N:][:m.N] {
				sums[n] += float64(v) * float64(weight)
			}
		}
		for n, sum := range sums {
			out[row*m.N+n] = float32(sum)
		}
	}
	return out
}

// closeTo checks numbers to a bound of far.
func (s *stand) closeTo(what string, want, got []float32, bound float64) {
	s.Helper()
	if d := far(want, got); !(d <= bound) {
		s.Errorf("%s: %.3g of the largest value away, more than %.3g", what, d, bound)
	}
}

// same checks numbers to the bit.
func (s *stand) same(what string, want, got []float32) {
	s.Helper()
	if !slices.EqualFunc(want, got, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
		s.Errorf("%s: other bits, up to %.3g of the largest value away", what, far(want, got))
	}
}

// Sums of thousands of products with weights that were rounded to fp16 stray by
// much less than one rounding, 2^-11, of the largest.
const roundedWeights = 1.0 / 2048

func TestPrefillLinear(t *testing.T) {
	type shape struct{ rows, k, n0, n1, n2, bits0, bits1, bits2 int }
	shapes := []shape{
		{1, 128, 16, 0, 0, 4, 0, 0},
		{7, 256, 100, 0, 0, 8, 0, 0},
		{64, 192, 33, 1, 0, 16, 16, 0},
		{100, 384, 300, 40, 40, 4, 8, 4},
		{300, 256, 48, 17, 64, 8, 4, 8},
	}
	if silicon() {
		shapes = append(shapes, shape{300, 2048, 12288, 64, 0, 8, 8, 0}, shape{515, 4096, 2048, 0, 0, 4, 0, 0}, shape{1000, 2048, 512, 1, 0, 16, 16, 0})
	}
	for _, c := range shapes {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			s := newStand(t, room())
			l := newPrefillLinear(s.r)
			stored, x := s.activations(c.rows*c.k, 1)
			const ahead = 3 // columns of others
			args := kernels.LinearArgs{X: uint64(put(s, stored)), K: uint32(c.k), Rows: uint32(c.rows)}
			var parts []*ops.Matrix
			column := ahead
			for i, n := range []int{c.n0, c.n1, c.n2} {
				if n == 0 {
					continue
				}
				m := s.weight([]int{c.bits0, c.bits1, c.bits2}[i], c.k, n)
				slabs, data := packed(m.Bits, c.k, (n+slabRows-1)/slabRows, func(slab, g int) (*ops.Matrix, int) { return m, slab*slabRows + g })
				*[]*uint64{&args.Slabs0, &args.Slabs1, &args.Slabs2}[i] = uint64(put(s, data))
				*[]*uint32{&args.Count0, &args.Count1, &args.Count2}[i] = uint32(slabs.count)
				*[]*uint32{&args.Bits0, &args.Bits1, &args.Bits2}[i] = uint32(slabs.bits)
				*[]*uint32{&args.Bytes0, &args.Bytes1, &args.Bytes2}[i] = uint32(slabs.stride)
				*[]*uint32{&args.N0, &args.N1, &args.N2}[i] = uint32(n)
				*[]*uint32{&args.Column0, &args.Column1, &args.Column2}[i] = uint32(column)
				parts, column = append(parts, m), column+n
			}
			args.Stride = uint32(column + 2)
			run := func(args kernels.LinearArgs) []float32 {
				before := make([]float32, c.rows*int(args.Stride))
				for i := range before {
					before[i] = float32(i % 17)
				}
				args.Out = uint64(put(s, before))
				s.launch(pass{}, func(p *pass) error { return l.launch(p, args) })
				return get[float32](s, driver.Ptr(args.Out), len(before))
			}
			want := make([]float32, c.rows*int(args.Stride))
			for i := range want {
				want[i] = float32(i % 17)
			}
			added := slices.Clone(want)
			column = ahead
			for _, m := range parts {
				for i, v := range times(m, x) {
					at := i/m.N*int(args.Stride) + column + i%m.N
					want[at], added[at] = v, want[at]+v
				}
				column += m.N
			}
			whole := run(args)
			s.closeTo("store", want, whole, roundedWeights)
			args.Add = 1
			s.closeTo("add", added, run(args), roundedWeights)
			args.Add = 0

			// Rows backwards, each beside others, the second missing; nothing else changes.
			var wanted []kernels.Wanted
			for row := range c.rows {
				wanted = append(wanted, kernels.Wanted{Row: int32(c.rows - 1 - row), To: int32(c.rows - 1 - row)})
			}
			if c.rows > 1 {
				wanted[1].To = -1
			}
			args.Wanted = uint64(put(s, wanted))
			got := run(args)
			if c.rows > 1 {
				missing := (c.rows - 2) * int(args.Stride)
				for i := range int(args.Stride) {
					if got[missing+i] != float32((missing+i)%17) {
						t.Fatal("a row was written that nobody wanted")
					}
					got[missing+i] = whole[missing+i]
				}
			}
			s.same("rows elsewhere", whole, got)

			// What rounding lost, as a second plane, gives the product of more digits.
			args.Wanted = 0
			lost, low := s.activations(c.rows*c.k, 1.0/4096)
			args.Low = uint64(put(s, lost))
			for i := range low {
				low[i] += x[i]
			}
			column = ahead
			for _, m := range parts {
				for i, v := range times(m, low) {
					want[i/m.N*int(args.Stride)+column+i%m.N] = v
				}
				column += m.N
			}
			s.closeTo("two planes", want, run(args), roundedWeights)
		})
	}
}

// The widest product of a layer: how many operations a second the device does.
func BenchmarkPrefillLinear(b *testing.B) {
	if !silicon() {
		b.Skip("on a device only")
	}
	const k, n, most = 2048, 12352, 2048
	for _, bits := range []int{4, 8, 16} {
		s := newStand(b, 1<<30)
		l := newPrefillLinear(s.r)
		m := s.weight(bits, k, n)
		slabs, data := packed(bits, k, n/slabRows, func(slab, g int) (*ops.Matrix, int) { return m, slab*slabRows + g })
		stored, _ := s.activations(most*k, 1)
		at, x, out := put(s, data), put(s, stored), put(s, make([]float32, most*n))
		for _, rows := range []int{64, 512, most} {
			b.Run(fmt.Sprintf("%d bits, %d rows", bits, rows), func(b *testing.B) {
				args := kernels.LinearArgs{
					X: uint64(x), Out: uint64(out), Slabs0: uint64(at), Count0: uint32(slabs.count), Bits0: uint32(bits), Bytes0: uint32(slabs.stride), N0: n,
					K: k, Rows: uint32(rows), Stride: n,
				}
				b.ResetTimer()
				s.launch(pass{}, func(p *pass) error {
					for range b.N {
						if err := l.launch(p, args); err != nil {
							return err
						}
					}
					return nil
				})
				b.ReportMetric(2*float64(b.N)*float64(rows)*k*n/b.Elapsed().Seconds()/1e12, "TFLOP/s")
			})
		}
	}
}
