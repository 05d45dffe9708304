package driver_test

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// A machine is a driver with a context, a stream and every kernel loaded.
type machine struct {
	driver.Driver
	*testing.T
	fake     *drivertest.Fake // nil on a device
	context  driver.Context
	stream   driver.Stream
	function map[string]driver.Function
}

// each runs a test on the fake driver and, with ROUNDHOUSE_GPU=1, on the
// machine's own: what is written about one must hold for the other.
func each(t *testing.T, test func(m *machine)) {
	t.Run("fake", func(t *testing.T) {
		fake := newFake(t)
		t.Cleanup(func() {
			if problems := fake.Problems(); len(problems) > 0 {
				t.Errorf("at the end: %v", problems)
			}
		})
		test(ready(t, fake, fake))
	})
	t.Run("device", func(t *testing.T) { test(ready(t, device(t), nil)) })
}

func newFake(t *testing.T) *drivertest.Fake {
	t.Helper()
	return drivertest.Open(t, drivertest.Options{})
}

func device(t *testing.T) driver.Driver {
	t.Helper()
	if os.Getenv("ROUNDHOUSE_GPU") != "1" {
		t.Skip("needs an NVIDIA device: set ROUNDHOUSE_GPU=1 where there is one")
	}
	d, err := driver.Open()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ready opens a driver; all is given back when the test ends, which must succeed.
func ready(t *testing.T, d driver.Driver, fake *drivertest.Fake) *machine {
	t.Helper()
	return open(t, d, fake, func(release func() error) {
		t.Cleanup(func() {
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	})
}

// open hands what must be released to a function of the caller's.
func open(t *testing.T, d driver.Driver, fake *drivertest.Fake, later func(release func() error)) *machine {
	t.Helper()
	m := &machine{Driver: d, T: t, fake: fake, function: map[string]driver.Function{}}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	m.context = must(m, d.Retain)(0)
	later(func() error { return d.Release(0) })
	m.ok(d.SetCurrent(m.context))
	manifest, err := kernels.Images()
	m.ok(err)
	for _, image := range manifest.Images {
		data, err := image.Data()
		m.ok(err)
		module := must(m, d.Load)(data)
		later(func() error { return d.Unload(module) })
		for _, kernel := range image.Kernels {
			function, err := d.Function(module, kernel.Name, kernel.ArgSize)
			m.ok(err)
			m.function[kernel.Name] = function
		}
	}
	m.stream, err = d.NewStream()
	m.ok(err)
	later(func() error { return d.DestroyStream(m.stream) })
	return m
}

// must calls something of one argument that may not fail.
func must[A, R any](m *machine, call func(A) (R, error)) func(A) R {
	return func(a A) R {
		m.Helper()
		r, err := call(a)
		m.ok(err)
		return r
	}
}

func (m *machine) ok(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) newStream() driver.Stream {
	m.Helper()
	stream, err := m.NewStream()
	m.ok(err)
	m.Cleanup(func() { m.ok(m.DestroyStream(stream)) })
	return stream
}

func (m *machine) newEvent() driver.Event {
	m.Helper()
	event, err := m.NewEvent()
	m.ok(err)
	m.Cleanup(func() { m.ok(m.DestroyEvent(event)) })
	return event
}

func (m *machine) alloc(bytes int) driver.Ptr {
	m.Helper()
	p := must(m, m.Alloc)(int64(bytes))
	m.Cleanup(func() { m.ok(m.Free(p)) })
	return p
}

func (m *machine) host(bytes int) driver.Host {
	m.Helper()
	h := must(m, m.AllocHost)(bytes)
	m.Cleanup(func() { m.ok(m.FreeHost(h)) })
	return h
}

func (m *machine) sync() {
	m.Helper()
	m.ok(m.Synchronise(m.stream))
}

// launch starts a kernel in the machine's stream.
func launch[Args any](m *machine, name string, grid, block uint32, args Args) {
	m.Helper()
	m.ok(m.Launch(&driver.Launch{
		Function: m.function[name], Grid: driver.Dim{grid, 1, 1}, Block: driver.Dim{block, 1, 1},
		Stream: m.stream, Args: kernels.Bytes(&args), Overlap: true,
	}))
}

// upload brings bytes to the device, download fetches them.
func (m *machine) upload(data []byte) driver.Ptr {
	m.Helper()
	p, h := m.alloc(len(data)), m.host(len(data))
	copy(h.Bytes(), data)
	m.ok(m.CopyIn(p, h, m.stream))
	m.sync()
	return p
}

func (m *machine) download(p driver.Ptr, bytes int) []byte {
	m.Helper()
	h := m.host(bytes)
	m.ok(m.CopyOut(h, p, m.stream))
	m.sync()
	return append([]byte(nil), h.Bytes()...)
}

func encode(values any) []byte {
	data, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		panic(err)
	}
	return data
}

func decode[T any](data []byte, n int) []T {
	values := make([]T, n)
	if _, err := binary.Decode(data, binary.LittleEndian, values); err != nil {
		panic(err)
	}
	return values
}
