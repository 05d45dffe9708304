package cuda

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cpu"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// silicon says that the tests run on a real device (ROUNDHOUSE_GPU=1).
func silicon() bool { return os.Getenv("ROUNDHOUSE_GPU") == "1" }

// open opens the driver under test: the fake one, which may run
// the kernels' own sources on the CPU (ROUNDHOUSE_HOST_KERNELS=1), or the machine's own.
func open(t testing.TB) driver.Driver {
	t.Helper()
	if silicon() {
		d, err := driver.Open()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	fake := drivertest.Open(t, drivertest.Options{Memory: 8 << 30})
	t.Cleanup(func() {
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	})
	return fake
}

// twin runs the same recording on the CPU and on the device.
type twin struct {
	testing.TB
	cpu    *cpu.Backend
	device *Backend
	random *rand.Rand
	hosts  ops.Arena
	arena  ops.Arena
}

// newTwin opens both backends, the device's with the options.
func newTwin(t testing.TB, o Options) *twin {
	t.Helper()
	d := open(t)
	w := &twin{TB: t, random: rand.New(rand.NewPCG(1, 2))}
	var err error
	threads := 2
	if silicon() {
		threads = runtime.GOMAXPROCS(0) // real dimensions take the reference longest
	}
	if w.cpu, err = cpu.New(cpu.Options{Threads: threads}); err != nil {
		t.Fatal(err)
	}
	if w.device, err = New(d, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{w.device.Close(), w.cpu.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func (w *twin) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// arenas makes room for buffers of so many bytes on both sides.
func (w *twin) arenas(bytes int64) {
	w.Helper()
	var err error
	w.hosts, err = w.cpu.NewArena("test", bytes)
	w.check(err)
	w.arena, err = w.device.NewArena("test", bytes)
	w.check(err)
	w.Cleanup(func() {
		for _, a := range []ops.Arena{w.hosts, w.arena} {
			if err := a.Close(); err != nil {
				w.Error(err)
			}
		}
	})
}

// pair is a buffer on both sides.
type pair struct{ cpu, device ops.Buf }

// of is the buffer of a side: recordings are built once for each.
func (p pair) of(device bool) ops.Buf {
	if device {
		return p.device
	}
	return p.cpu
}

// buf makes a buffer of fp32 on both sides with the same values, zero without any.
func (w *twin) buf(n int, value func(i int) float32) pair {
	w.Helper()
	var p pair
	var err error
	p.cpu, err = w.hosts.Alloc("test", ops.F32, int64(n))
	w.check(err)
	p.device, err = w.arena.Alloc("test", ops.F32, int64(n))
	w.check(err)
	if value != nil {
		values := make([]float32, n)
		for i := range values {
			values[i] = value(i)
		}
		w.write(p, values)
	}
	return p
}

func (w *twin) write(p pair, values []float32) {
	w.Helper()
	raw := bytesOf(values)
	w.check(w.cpu.Write(p.cpu, raw))
	w.check(w.device.Write(p.device, raw))
}

// read returns the values of both sides.
func (w *twin) read(p pair) (host, device []float32) {
	w.Helper()
	values := func(b ops.Backend, from ops.Buf) []float32 {
		out := make([]float32, from.Len)
		w.check(b.Read(bytesOf(out), from))
		return out
	}
	return values(w.cpu, p.cpu), values(w.device, p.device)
}

// place gives both backends the weights.
func (w *twin) place(weights ops.Weights) {
	w.Helper()
	w.check(w.cpu.Place(context.Background(), weights, nil))
	w.check(w.device.Place(context.Background(), weights, nil))
}

// record records on both sides, for steps of so many rows.
func (w *twin) record(rows int, build func(set ops.Set, device bool) error) (host, device ops.Program) {
	w.Helper()
	host, err := w.cpu.Record(rows, func(set ops.Set) error { return build(set, false) })
	w.check(err)
	device, err = w.device.Record(rows, func(set ops.Set) error { return build(set, true) })
	w.check(err)
	w.Cleanup(func() {
		for _, p := range []ops.Program{host, device} {
			if err := p.Close(); err != nil {
				w.Error(err)
			}
		}
	})
	return host, device
}

// run runs a step to its end.
func run(t testing.TB, p ops.Program, step *ops.Step) {
	t.Helper()
	ticket, err := p.Submit(step)
	if err == nil {
		err = ticket.Wait(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// far is the largest difference of two rows of numbers, relative to the largest
// magnitude of the first; NaN where one side has a NaN that the other has not.
func far(want, got []float32) float64 {
	largest, worst := 0.0, 0.0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
	}
	for i := range want {
		if math.Float32bits(want[i]) == math.Float32bits(got[i]) {
			continue
		}
		worst = max(worst, math.Abs(float64(want[i])-float64(got[i])))
	}
	if largest == 0 {
		return worst
	}
	return worst / largest
}

// near checks that both sides of a buffer agree to a bound of far.
func (w *twin) near(what string, p pair, bound float64) {
	w.Helper()
	host, device := w.read(p)
	if d := far(host, device); !(d <= bound) {
		w.Errorf("%s: device and CPU differ by %.3g of the largest value, more than %.3g", what, d, bound)
	}
}

// normal is a random value of the normal distribution, times scale.
func (w *twin) normal(scale float64) func(int) float32 {
	return func(int) float32 { return float32(w.random.NormFloat64() * scale) }
}

// vector makes a random vector: mean plus scale times the normal distribution.
func (w *twin) vector(name string, n int, mean, scale float64) *ops.Vector {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(mean + scale*w.random.NormFloat64())
	}
	return &ops.Vector{Name: name, N: n, Type: ops.F32, Source: ops.Extent{Data: bytesOf(values)}}
}

// gptq makes a random symmetric matrix of 2, 4 or 8 bits whose products with
// inputs of size one have size one.
func (w *twin) gptq(name string, k, n, bits, group int) *ops.Matrix {
	words := make([]uint32, k*bits/32*n)
	for i := range words {
		words[i] = w.random.Uint32()
	}
	spread := math.Sqrt(float64(k)) * float64(int(1)<<bits) / math.Sqrt(12)
	scales := make([]uint16, (k+group-1)/group*n)
	for i := range scales {
		scales[i] = drivertest.RoundHalf(float32((.5 + w.random.Float64()) / spread))
	}
	return &ops.Matrix{Name: name, K: k, N: n, Layout: ops.GPTQ, Bits: bits, Group: group,
		Weight: ops.Extent{Data: bytesOf(words)}, Scales: ops.Extent{Data: bytesOf(scales)}}
}

// dense makes a random bfloat16 matrix likewise.
func (w *twin) dense(name string, k, n int) *ops.Matrix {
	values := make([]uint16, k*n)
	for i := range values {
		values[i] = uint16(math.Float32bits(float32(w.random.NormFloat64()/math.Sqrt(float64(k)))) >> 16)
	}
	return &ops.Matrix{Name: name, K: k, N: n, Layout: ops.Dense, Type: ops.BF16, Bits: 16, Weight: ops.Extent{Data: bytesOf(values)}}
}

// expert makes the three matrices of an expert.
func (w *twin) expert(name string, hidden, width, bits, group int) ops.Expert {
	return ops.Expert{
		Gate: w.gptq(name+".gate", hidden, width, bits, group),
		Up:   w.gptq(name+".up", hidden, width, bits, group),
		Down: w.gptq(name+".down", width, hidden, bits, group),
	}
}

// bytesOf is the memory of a slice of numbers.
func bytesOf[T any](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(values[0])))
}

// decodes makes a step of one row for each length: a sequence of its own that has
// read so many tokens less one, in the slot of its index. Pages are dealt out in
// scattered order from a pool of pages.
func decodes(pages int, lengths ...int) *ops.Step {
	step := &ops.Step{}
	next := 0
	for slot, length := range lengths {
		s := ops.Segment{Kind: ops.Decode, Slot: slot, Start: length - 1, Len: 1, Logits: []int{0}}
		for range (length + ops.PageTokens - 1) / ops.PageTokens {
			s.Pages = append(s.Pages, int32(next*7%pages))
			next++
		}
		step.IDs, step.Segments = append(step.IDs, int32(slot)), append(step.Segments, s)
	}
	return step
}
