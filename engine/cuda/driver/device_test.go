package driver_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

func TestDriverDescribesDevice(t *testing.T) {
	each(t, func(m *machine) {
		count, err := m.Devices()
		m.ok(err)
		p := must(m, m.Device)(0)
		free, total, err := m.Memory()
		m.ok(err)
		m.Logf("driver of CUDA %v; %d devices; %+v; %d bytes free", m.Version(), count, p, free)
		if m.Version() < driver.Needed || count < 1 || p.Name == "" || p.Arch < 80 || p.SMs < 1 || p.Shared < 48<<10 || p.L2 < 1 {
			m.Errorf("version %v, %d devices, %+v", m.Version(), count, p)
		}
		if free <= 0 || free > total || total > p.Memory {
			m.Errorf("%d free of %d, the device has %d", free, total, p.Memory)
		}
		if _, err := m.Device(count); code(err) != driver.InvalidDevice {
			m.Errorf("device %d: %v", count, err)
		}
	})
}

// code is the code of an error of the driver; 0 where it is none.
func code(err error) driver.Code {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestDriverProvesFunctions(t *testing.T) {
	each(t, func(m *machine) {
		manifest, err := kernels.Images()
		m.ok(err)
		for _, image := range manifest.Images {
			data, err := image.Data()
			m.ok(err)
			started := time.Now()
			module := must(m, m.Load)(data)
			m.Logf("%s: %d bytes loaded in %v", image.Name, len(data), time.Since(started))
			for _, kernel := range image.Kernels {
				if _, err := m.Function(module, kernel.Name, kernel.ArgSize+8); code(err) != driver.InvalidValue {
					m.Errorf("%s with another size: %v", kernel.Name, err)
				}
			}
			_, err = m.Function(module, "rh_no_such", 8)
			var e *driver.Error
			if !errors.As(err, &e) || e.Code != driver.NotFound || e.Kernel != "rh_no_such" {
				m.Errorf("a kernel that is not there: %v", err)
			}
			m.ok(m.Unload(module))
		}
		if _, err := m.Load([]byte("no image")); code(err) != driver.InvalidImage {
			m.Errorf("no image: %v", err)
		}
		m.sync() // and the device is well
	})
}

// The device finds every member of an argument struct where Go put it.
func TestDriverPassesArguments(t *testing.T) {
	each(t, func(m *machine) {
		step := m.upload(encode([]uint32{77, 0xfeedface}))
		out := m.alloc(32)
		launch(m, "rh_smoke_echo", 1, 32, kernels.EchoArgs{
			Out: uint64(out), Step: uint64(step), Wide: 0x1122334455667788, Word: 0x99aabbcc,
			Real: -1.5, Half: 0xddee, Byte: 0x12, Last: 0x34,
		})
		got := decode[uint32](m.download(out, 32), 8)
		want := []uint32{0x55667788, 0x11223344, 0x99aabbcc, math.Float32bits(-1.5), 0xddee, 0x1234, 77, 0xfeedface}
		if !slices.Equal(got, want) {
			m.Errorf("% x, want % x", got, want)
		}
	})
}

func TestDriverFillsAndCopies(t *testing.T) {
	each(t, func(m *machine) {
		for _, n := range []int{1, 31, 1024, 1<<20 + 3} {
			const guard = 5
			a, b := m.alloc(4*(n+guard)), m.alloc(4*(n+guard))
			launch(m, "rh_smoke_fill", 7, 1024, kernels.FillArgs{Dst: uint64(a), N: uint64(n + guard), Value: 0xabad1dea})
			launch(m, "rh_smoke_fill", 3, 32, kernels.FillArgs{Dst: uint64(b), N: uint64(n + guard), Value: 1})
			launch(m, "rh_smoke_copy", 5, 64, kernels.CopyArgs{Dst: uint64(b), Src: uint64(a), N: uint64(n)})
			got := decode[uint32](m.download(b, 4*(n+guard)), n+guard)
			for i, v := range got {
				if want := map[bool]uint32{true: 0xabad1dea, false: 1}[i < n]; v != want {
					m.Fatalf("n %d: word %d is %#x, want %#x", n, i, v, want)
				}
			}
			m.ok(m.Copy(a, b+driver.Ptr(4*n), 4*guard, m.stream))
			if got := decode[uint32](m.download(a, 4*guard), guard); !slices.Equal(got, []uint32{1, 1, 1, 1, 1}) {
				m.Errorf("n %d: a copy within the device gave %v", n, got)
			}
		}
	})
}

func TestDriverRMSNorm(t *testing.T) {
	each(t, func(m *machine) {
		random := rand.New(rand.NewPCG(1, 2))
		for _, c := range []struct{ rows, n, stride, grid, block int }{
			{1, 1, 1, 1, 32}, {3, 33, 40, 3, 32}, {5, 2048, 2048, 5, 1024}, {64, 2048, 2048, 13, 256}, {7, 1000, 1003, 7, 96}, {2, 151936, 151936, 2, 1024},
		} {
			x, w := make([]float32, c.rows*c.stride), make([]float32, c.n)
			for i := range x {
				x[i] = float32(random.NormFloat64() * 3)
			}
			for i := range w {
				w[i] = float32(random.NormFloat64() * 0.2)
			}
			const eps = 1e-6
			px, pw, out := m.upload(encode(x)), m.upload(encode(w)), m.alloc(4*c.rows*c.n)
			args := kernels.RMSNormArgs{
				X: uint64(px), W: uint64(pw), Out: uint64(out), Rows: uint32(c.rows), N: uint32(c.n),
				XStride: uint32(c.stride), OutStride: uint32(c.n), Eps: eps,
			}
			launch(m, "rh_rmsnorm_generic", uint32(c.grid), uint32(c.block), args)
			apart := decode[float32](m.download(out, 4*c.rows*c.n), c.rows*c.n)
			args.Out, args.OutStride = args.X, args.XStride
			launch(m, "rh_rmsnorm_generic", 1, uint32(c.block), args) // one block for all rows: the same bits
			inPlace := decode[float32](m.download(px, 4*len(x)), len(x))
			worst := 0.0
			for row := range c.rows {
				in := x[row*c.stride:][:c.n]
				sum := 0.0
				for _, v := range in {
					sum += float64(v) * float64(v)
				}
				scale := 1 / math.Sqrt(sum/float64(c.n)+eps)
				for i, v := range in {
					want := float64(v) * scale * (1 + float64(w[i]))
					worst = max(worst, math.Abs(float64(apart[row*c.n+i])-want)/max(1e-3, math.Abs(want)))
					if apart[row*c.n+i] != inPlace[row*c.stride+i] {
						m.Fatalf("%+v: row %d, value %d is %v, in place %v", c, row, i, apart[row*c.n+i], inPlace[row*c.stride+i])
					}
				}
				if pad := x[row*c.stride:][:c.stride]; !slices.Equal(pad[c.n:], inPlace[row*c.stride:][c.n:c.stride]) {
					m.Errorf("%+v: row %d was written past its end", c, row)
				}
			}
			m.Logf("%+v: worst relative error %.2g", c, worst)
			// Some eight roundings of fp32, and a sum whose error grows with the root of
			// the additions that one thread makes.
			if worst > 2e-6 {
				m.Errorf("%+v: relative error %.3g, more than 2e-6", c, worst)
			}
		}
	})
}

// What a graph does follows the step block, not the values at capture.
func TestDriverReplaysStepBlock(t *testing.T) {
	each(t, func(m *machine) {
		step, result := m.host(8), m.host(32)
		block, out := m.alloc(8), m.alloc(32)
		m.ok(m.BeginCapture(m.stream))
		m.ok(m.CopyIn(block, step, m.stream))
		launch(m, "rh_smoke_echo", 1, 32, kernels.EchoArgs{Out: uint64(out), Step: uint64(block), Word: 42})
		m.ok(m.CopyOut(result, out, m.stream))
		graph := must(m, m.EndCapture)(m.stream)
		m.Cleanup(func() { m.ok(m.DestroyGraph(graph)) })
		m.sync()
		if got := decode[uint32](result.Bytes(), 8); got[2] == 42 {
			m.Error("the capture ran what it recorded")
		}
		done := make(chan struct{})
		go func() { // the collector must find nothing to move or free under a replay
			defer close(done)
			for range 20 {
				runtime.GC()
			}
		}()
		for i := range uint32(200) {
			copy(step.Bytes(), encode([]uint32{i, ^i}))
			m.ok(m.Replay(graph, m.stream))
			m.sync()
			if got := decode[uint32](result.Bytes(), 8); got[2] != 42 || got[6] != i || got[7] != ^i {
				m.Fatalf("replay %d: %v", i, got)
			}
		}
		<-done
		if m.fake == nil {
			if n := testing.AllocsPerRun(100, func() { _ = m.Replay(graph, m.stream) }); n != 0 {
				m.Errorf("a replay allocates %v times", n)
			}
			m.sync()
		}
	})
}

// A second stream waits for the first through an event.
func TestDriverOrdersStreams(t *testing.T) {
	each(t, func(m *machine) {
		const n = 1 << 20
		other, start, written := m.newStream(), m.newEvent(), m.newEvent()
		p, h := m.alloc(4*n), m.host(4*n)
		if done, err := m.Done(written); err != nil || !done {
			m.Errorf("an event that was never recorded: %v, %v", done, err)
		}
		for i := range uint32(10) {
			m.ok(m.Record(start, m.stream))
			launch(m, "rh_smoke_fill", 1, 32, kernels.FillArgs{Dst: uint64(p), N: n, Value: i}) // slow on purpose
			m.ok(m.Record(written, m.stream))
			m.ok(m.Wait(other, written))
			m.ok(m.CopyOut(h, p, other))
			m.ok(m.Synchronise(other))
			if got := decode[uint32](h.Bytes(), n); got[0] != i || got[n-1] != i {
				m.Fatalf("round %d: the copy did not wait: %d, %d", i, got[0], got[n-1])
			}
		}
		m.ok(m.SynchroniseEvent(written))
		elapsed, err := m.Elapsed(start, written)
		if err != nil || elapsed <= 0 {
			m.Errorf("elapsed: %v, %v", elapsed, err)
		}
		m.Logf("4 MiB by one warp: %v", elapsed)
		m.ok(m.Record(written, m.stream))
		for deadline := time.Now().Add(10 * time.Second); ; {
			done, err := m.Done(written)
			m.ok(err)
			if done {
				break
			}
			if time.Now().After(deadline) {
				m.Fatal("an event of an idle stream has not happened after 10 s")
			}
		}
	})
}

// Kernels write to mapped host memory, and a part of a buffer is a buffer.
func TestDriverMapsMemory(t *testing.T) {
	each(t, func(m *machine) {
		h := m.host(64)
		launch(m, "rh_smoke_fill", 1, 32, kernels.FillArgs{Dst: uint64(h.Slice(16, 48).Ptr()), N: 8, Value: 0x01010101})
		m.sync()
		want := slices.Concat(make([]byte, 16), bytes.Repeat([]byte{1}, 32), make([]byte, 16))
		if !bytes.Equal(h.Bytes(), want) {
			m.Errorf("% x", h.Bytes())
		}
	})
}

func TestDriverCopiesPinned(t *testing.T) {
	each(t, func(m *machine) {
		size := 1 << 20
		if m.fake == nil {
			size = 256 << 20
		}
		in, out, p := m.host(size), m.host(size), m.alloc(size)
		random := rand.NewChaCha8([32]byte{7})
		_, _ = random.Read(in.Bytes())
		start, between, end := m.newEvent(), m.newEvent(), m.newEvent()
		m.ok(m.Record(start, m.stream))
		m.ok(m.CopyIn(p, in, m.stream))
		m.ok(m.Record(between, m.stream))
		m.ok(m.CopyOut(out, p, m.stream))
		m.ok(m.Record(end, m.stream))
		m.sync()
		if !bytes.Equal(in.Bytes(), out.Bytes()) {
			m.Error("the bytes came back changed")
		}
		there, err := m.Elapsed(start, between)
		m.ok(err)
		back, err := m.Elapsed(between, end)
		m.ok(err)
		if m.fake == nil {
			m.Logf("%d MiB: in %.1f GB/s, out %.1f GB/s", size>>20, float64(size)/there.Seconds()/1e9, float64(size)/back.Seconds()/1e9)
		}
	})
}

// Another goroutine, on whatever thread, works with the context of the first.
func TestDriverContextMoves(t *testing.T) {
	each(t, func(m *machine) {
		p := m.alloc(4)
		failed := make(chan error)
		go func() {
			failed <- driver.On(m.Driver, m.context, func() error {
				args := kernels.FillArgs{Dst: uint64(p), N: 1, Value: 9}
				return m.Launch(&driver.Launch{
					Function: m.function["rh_smoke_fill"], Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: m.stream, Args: kernels.Bytes(&args),
				})
			})
		}()
		m.ok(<-failed)
		if got := decode[uint32](m.download(p, 4), 1); got[0] != 9 {
			m.Errorf("%d, want 9", got[0])
		}
	})
}
