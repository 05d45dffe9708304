package drivertest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

func fake(t *testing.T, o Options) *Fake {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A small engine, as it should be: load, capture a step, replay it twice, and
// give everything back whatever happens.
func work(d driver.Driver) (result []byte, err error) {
	release := func(call func() error) { err = errors.Join(err, call()) }
	context, err := d.Retain(0)
	if err != nil {
		return nil, err
	}
	defer release(func() error { return d.Release(0) })
	err = driver.On(d, context, func() (err error) {
		release := func(call func() error) { err = errors.Join(err, call()) }
		manifest, err := kernels.Images()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(manifest.Images, func(i kernels.Image) bool { return i.Name == "smoke" })
		image, err := manifest.Images[at].Data()
		if err != nil {
			return err
		}
		module, err := d.Load(image)
		if err != nil {
			return err
		}
		defer release(func() error { return d.Unload(module) })
		function, err := d.Function(module, "rh_smoke_fill", 24)
		if err != nil {
			return err
		}
		memory, err := d.Alloc(64)
		if err != nil {
			return err
		}
		defer release(func() error { return d.Free(memory) })
		host, err := d.AllocHost(64)
		if err != nil {
			return err
		}
		defer release(func() error { return d.FreeHost(host) })
		stream, err := d.NewStream()
		if err != nil {
			return err
		}
		defer release(func() error { return d.DestroyStream(stream) })
		event, err := d.NewEvent()
		if err != nil {
			return err
		}
		defer release(func() error { return d.DestroyEvent(event) })
		graph, err := capture(d, stream, function, memory, host)
		if err != nil {
			return err
		}
		defer release(func() error { return d.DestroyGraph(graph) })
		if err := errors.Join(d.Replay(graph, stream), d.Replay(graph, stream), d.Record(event, stream), d.SynchroniseEvent(event)); err != nil {
			return err
		}
		result = slices.Clone(host.Bytes())
		return d.Synchronise(stream)
	})
	return result, err
}

func capture(d driver.Driver, stream driver.Stream, function driver.Function, memory driver.Ptr, host driver.Host) (driver.Graph, error) {
	if err := d.BeginCapture(stream); err != nil {
		return 0, err
	}
	args := kernels.FillArgs{Dst: uint64(memory), N: 16, Value: 0x2a2a2a2a}
	err := d.Launch(&driver.Launch{Function: function, Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: stream, Args: kernels.Bytes(&args)})
	err = errors.Join(err, d.CopyOut(host, memory, stream))
	graph, endErr := d.EndCapture(stream) // whatever failed: the stream captures on otherwise
	if err = errors.Join(err, endErr); err != nil && graph != 0 {
		return 0, errors.Join(err, d.DestroyGraph(graph))
	}
	return graph, err
}

// Every call of the small engine fails once, with each kind of failure: the
// failure comes back, and nothing is left behind or used after it was freed.
func TestEveryCallMayFail(t *testing.T) {
	f := fake(t, Options{})
	result, err := work(f)
	if err != nil || string(result) != strings.Repeat("*", 64) {
		t.Fatalf("%q, %v", result, err)
	}
	if problems := f.Problems(); len(problems) > 0 {
		t.Fatal(problems)
	}
	calls := f.Calls()
	if calls < 20 {
		t.Fatalf("only %d calls", calls)
	}
	for n := 1; n <= calls; n++ {
		for _, code := range []driver.Code{driver.OutOfMemory, driver.InvalidValue, driver.IllegalAddress} {
			f := fake(t, Options{})
			f.Fail(n, code)
			_, err := work(f)
			var failed *driver.Error
			if !errors.As(err, &failed) || failed.Code != code || !strings.Contains(err.Error(), "injected") {
				t.Errorf("call %d with %v: %v", n, code, err)
			}
			if problems := f.Problems(); len(problems) > 0 {
				t.Errorf("call %d (%s) with %v: %v", n, failed.Call, code, problems)
			}
		}
	}
}

// bench is a fake with a context, a stream, 64 bytes of each memory and the smoke
// kernels.
type bench struct {
	*Fake
	*testing.T
	module driver.Module
	stream driver.Stream
	memory driver.Ptr
	host   driver.Host
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{Fake: fake(t, o), T: t}
	context, err := b.Retain(0)
	b.ok(err)
	b.ok(b.SetCurrent(context))
	manifest, err := kernels.Images()
	b.ok(err)
	at := slices.IndexFunc(manifest.Images, func(i kernels.Image) bool { return i.Name == "smoke" })
	image, err := manifest.Images[at].Data()
	b.ok(err)
	b.module, err = b.Load(image)
	b.ok(err)
	b.stream, err = b.NewStream()
	b.ok(err)
	b.memory, err = b.Alloc(64)
	b.ok(err)
	b.host, err = b.AllocHost(64)
	b.ok(err)
	return b
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) fill(to driver.Ptr, n uint64, value uint32) error {
	b.Helper()
	function, err := b.Function(b.module, "rh_smoke_fill", 24)
	b.ok(err)
	args := kernels.FillArgs{Dst: uint64(to), N: n, Value: value}
	return b.Launch(&driver.Launch{Function: function, Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: b.stream, Args: kernels.Bytes(&args)})
}

func (b *bench) problem(want string) {
	b.Helper()
	if problems := b.Problems(); !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
		b.Errorf("%q is not among %q", want, problems)
	}
}

func TestLeaksAreListed(t *testing.T) {
	b := newBench(t, Options{})
	_, err := b.NewEvent()
	b.ok(err)
	for _, want := range []string{"64 bytes held at 0x7f0000000000, host memory false", "host memory true", "1 streams", "1 modules", "1 events", "retained 1 times"} {
		b.problem(want)
	}
}

func TestMisuseIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *bench) error
		code driver.Code
		want string
	}{
		"freed before it is written": {func(b *bench) error {
			return errors.Join(b.fill(b.memory, 16, 1), b.Free(b.memory), b.Synchronise(b.stream))
		}, driver.IllegalAddress, "was freed"},
		"freed before it is read": {func(b *bench) error {
			return errors.Join(b.CopyIn(b.memory, b.host, b.stream), b.FreeHost(b.host), b.Synchronise(b.stream))
		}, driver.IllegalAddress, "was freed"},
		"written past its end": {func(b *bench) error {
			return errors.Join(b.fill(b.memory, 17, 1), b.Synchronise(b.stream))
		}, driver.IllegalAddress, "68 bytes at 0x7f0000000000 reach past"},
		"written askew": {func(b *bench) error {
			return errors.Join(b.fill(b.memory+2, 1, 1), b.Synchronise(b.stream))
		}, driver.IllegalAddress, "not at a border"},
		"copied past its end": {func(b *bench) error {
			return b.Copy(b.memory+32, b.memory, 33, b.stream)
		}, driver.InvalidValue, "reach past"},
		"freed twice":    {func(b *bench) error { return errors.Join(b.Free(b.memory), b.Free(b.memory)) }, driver.InvalidValue, "freed before"},
		"freed in part":  {func(b *bench) error { return b.Free(b.memory + 8) }, driver.InvalidValue, "no allocation"},
		"freed as other": {func(b *bench) error { return b.Free(b.host.Ptr()) }, driver.InvalidValue, "no allocation"},
		"unloaded early": {func(b *bench) error {
			return errors.Join(b.fill(b.memory, 1, 1), b.Unload(b.module), b.Synchronise(b.stream))
		}, driver.IllegalAddress, "unloaded"},
		"stream of none":  {func(b *bench) error { return b.Synchronise(b.stream + 1) }, driver.InvalidHandle, "stream"},
		"event of none":   {func(b *bench) error { return b.Record(5, b.stream) }, driver.InvalidHandle, "event"},
		"graph of none":   {func(b *bench) error { return b.Replay(5, b.stream) }, driver.InvalidHandle, "graph"},
		"context of none": {func(b *bench) error { return b.SetCurrent(2) }, driver.InvalidContext, "context"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{})
			err := c.do(b)
			var failed *driver.Error
			if !errors.As(err, &failed) || failed.Code != c.code {
				t.Errorf("%v, want %v", err, c.code)
			}
			b.problem(c.want)
		})
	}
}

// Work waits in its stream until somebody waits for it.
func TestWorkIsAsynchronous(t *testing.T) {
	b := newBench(t, Options{})
	b.ok(b.fill(b.memory, 16, 0x07070707))
	b.ok(b.CopyOut(b.host, b.memory, b.stream))
	other, err := b.NewStream()
	b.ok(err)
	b.ok(b.Synchronise(other))
	if b.host.Bytes()[0] != 0 || len(b.Records()) != 0 {
		t.Error("work was done before its stream was waited for")
	}
	event, err := b.NewEvent()
	b.ok(err)
	b.ok(b.Record(event, b.stream))
	b.ok(b.Wait(other, event))
	b.ok(b.Synchronise(other))
	if b.host.Bytes()[63] != 7 {
		t.Error("a stream did not wait for the event")
	}
}

// Records tell the order of a replay and the very bytes of its arguments.
func TestRecordsFollowTheCapture(t *testing.T) {
	b := newBench(t, Options{})
	b.ok(b.BeginCapture(b.stream))
	b.ok(b.fill(b.memory, 16, 5))
	b.ok(b.CopyOut(b.host, b.memory, b.stream))
	b.ok(b.fill(b.memory, 1, 6))
	graph, err := b.EndCapture(b.stream)
	b.ok(err)
	b.ok(b.fill(b.memory, 2, 7))
	b.ok(b.Replay(graph, b.stream))
	b.ok(b.Synchronise(b.stream))
	var got []string
	for _, r := range b.Records() {
		value := ""
		if r.Kernel != "" {
			args, err := Args[kernels.FillArgs](driver.Launch{Args: r.Args})
			b.ok(err)
			value = string(rune('0' + args.Value))
		}
		got = append(got, r.Call+value+map[bool]string{true: " replayed"}[r.Replay])
	}
	want := []string{"cuLaunchKernelEx7", "cuLaunchKernelEx5 replayed", "cuMemcpyDtoHAsync_v2 replayed", "cuLaunchKernelEx6 replayed"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a capture does not allow spoils it.
func TestCaptureIsGuarded(t *testing.T) {
	var graph driver.Graph
	for name, call := range map[string]func(b *bench) error{
		"alloc":      func(b *bench) error { _, err := b.Alloc(8); return err },
		"alloc host": func(b *bench) error { _, err := b.AllocHost(8); return err },
		"load":       func(b *bench) error { _, err := b.Load(nil); return err },
		"foreign event": func(b *bench) error {
			event, err := b.NewEvent()
			b.ok(err)
			return b.Wait(b.stream, event)
		},
		"graph in graph": func(b *bench) error { return b.Replay(graph, b.stream) },
	} {
		b := newBench(t, Options{})
		b.ok(b.BeginCapture(b.stream))
		var err error
		graph, err = b.EndCapture(b.stream)
		b.ok(err)
		b.ok(b.BeginCapture(b.stream))
		if err := call(b); err == nil {
			t.Errorf("%s was allowed", name)
		}
		var failed *driver.Error
		if _, err := b.EndCapture(b.stream); !errors.As(err, &failed) || failed.Code != driver.CaptureInvalidated {
			t.Errorf("after %s: %v", name, err)
		}
		b.ok(b.fill(b.memory, 1, 1))
		b.ok(b.Synchronise(b.stream))
	}
}

func TestLaunchesAreJudged(t *testing.T) {
	b := newBench(t, Options{})
	function, err := b.Function(b.module, "rh_smoke_echo", 40)
	b.ok(err)
	good := driver.Launch{Function: function, Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: b.stream, Args: make([]byte, 40)}
	for want, change := range map[string]func(*driver.Launch){
		"32 bytes of arguments":   func(l *driver.Launch) { l.Args = l.Args[:32] },
		"64 threads a block":      func(l *driver.Launch) { l.Block[0] = 64 },
		"49153 bytes of shared":   func(l *driver.Launch) { l.Shared = 48<<10 + 1 },
		"grid [1 1 0]":            func(l *driver.Launch) { l.Grid[2] = 0 },
		"function 0x1 is unknown": func(l *driver.Launch) { l.Function = 1 },
		"no arithmetic in Go":     func(*driver.Launch) { b.Register("rh_smoke_echo", nil) },
	} {
		launch := good
		change(&launch)
		if err := b.Launch(&launch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	old := newBench(t, Options{Arch: 75})
	if err := old.fill(old.memory, 1, 1); err == nil || !strings.Contains(err.Error(), "below architecture 80") {
		t.Errorf("an old architecture: %v", err)
	}
}

func TestMemoryIsCounted(t *testing.T) {
	b := newBench(t, Options{Memory: 1024})
	if _, err := b.Alloc(961); !errors.Is(err, driver.ErrOutOfMemory) || !strings.Contains(err.Error(), "961 bytes asked, 960 of 1024 free") {
		t.Error(err)
	}
	p, err := b.Alloc(960)
	b.ok(err)
	b.ok(b.Free(p))
	q, err := b.Alloc(960)
	b.ok(err)
	if p == q {
		t.Error("an address was given out twice")
	}
	free, total, err := b.Memory()
	if free != 0 || total != 1024 || err != nil {
		t.Errorf("%d of %d, %v", free, total, err)
	}
}

func TestOldDriver(t *testing.T) {
	_, err := New(Options{Version: 12080})
	if !errors.Is(err, driver.ErrOldDriver) || !strings.Contains(err.Error(), "12.8") || !strings.Contains(err.Error(), "13.0") {
		t.Error(err)
	}
}

// Every kernel that there is has its arithmetic here.
func TestArithmeticIsWhole(t *testing.T) {
	manifest, err := kernels.Images()
	if err != nil {
		t.Fatal(err)
	}
	known, n := arithmetic(), 0
	for _, image := range manifest.Images {
		for _, kernel := range image.Kernels {
			n++
			if known[kernel.Name] == nil {
				t.Errorf("%s has no arithmetic in Go", kernel.Name)
			}
		}
	}
	if n != len(known) {
		t.Errorf("arithmetic for %d kernels, of which %d exist", len(known), n)
	}
}
