package drivertest

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// A forked capture: two streams, of which the second copies what the first fills.
type forked struct {
	*bench
	other        driver.Stream
	filled, done driver.Event
}

func newForked(t *testing.T) forked {
	b := newBench(t, Options{})
	f := forked{bench: b}
	var err error
	f.other, err = b.NewStream()
	b.ok(err)
	f.filled, err = b.NewEvent()
	b.ok(err)
	f.done, err = b.NewEvent()
	b.ok(err)
	return f
}

// capture fills the memory with 1, then in the other stream copies it to the host,
// then fills it with 2 again: after the copy only where joined is true.
func (f forked) capture(joined bool) (driver.Graph, error) {
	f.Helper()
	f.ok(f.BeginCapture(f.stream))
	f.ok(f.fill(f.memory, 16, 1))
	f.ok(f.Record(f.filled, f.stream))
	f.ok(f.Wait(f.other, f.filled))
	f.ok(f.CopyOut(f.host, f.memory, f.other))
	f.ok(f.Record(f.done, f.other))
	if joined {
		f.ok(f.Wait(f.stream, f.done))
	}
	f.ok(f.fill(f.memory, 16, 2))
	if !joined {
		f.ok(f.Wait(f.stream, f.done))
	}
	return f.EndCapture(f.stream)
}

func (f forked) replay(graph driver.Graph) uint32 {
	f.Helper()
	f.ok(f.Replay(graph, f.stream))
	f.ok(f.Synchronise(f.stream))
	return binary.NativeEndian.Uint32(f.host.Bytes())
}

func TestCaptureSpansStreams(t *testing.T) {
	f := newForked(t)
	graph, err := f.capture(true)
	f.ok(err)
	for range 3 {
		if got := f.replay(graph); got != 1 {
			t.Errorf("the copy found %d: an order that the events do not allow", got)
		}
	}
	// Both streams are free again, and their events have no time.
	f.ok(f.CopyOut(f.host, f.memory, f.other))
	f.ok(f.Synchronise(f.other))
	if got := binary.NativeEndian.Uint32(f.host.Bytes()); got != 2 {
		t.Errorf("after the replay the memory holds %d", got)
	}
}

// A missing event lets every other replay go wrong, as a device may at any time.
func TestCaptureFindsMissingEvents(t *testing.T) {
	f := newForked(t)
	graph, err := f.capture(false)
	f.ok(err)
	if first, second := f.replay(graph), f.replay(graph); first != 1 || second != 2 {
		t.Errorf("the copy found %d, then %d", first, second)
	}
}

func TestCaptureIsJoined(t *testing.T) {
	for want, spoil := range map[driver.Code]func(f forked) (driver.Graph, error){
		driver.CaptureUnjoined: func(f forked) (driver.Graph, error) {
			f.ok(f.fill(f.memory, 1, 1))
			f.ok(f.Record(f.filled, f.stream))
			f.ok(f.Wait(f.other, f.filled))
			f.ok(f.CopyOut(f.host, f.memory, f.other))
			return f.EndCapture(f.stream)
		},
		driver.CaptureUnmatched: func(f forked) (driver.Graph, error) {
			f.ok(f.Record(f.filled, f.stream))
			f.ok(f.Wait(f.other, f.filled))
			return f.EndCapture(f.other)
		},
		driver.CaptureIsolation: func(f forked) (driver.Graph, error) {
			f.ok(f.BeginCapture(f.other))
			f.ok(f.Record(f.done, f.other))
			return 0, f.Wait(f.stream, f.done)
		},
	} {
		f := newForked(t)
		f.ok(f.BeginCapture(f.stream))
		_, err := spoil(f)
		var failed *driver.Error
		if !errors.As(err, &failed) || failed.Code != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func TestSweepReachesEveryCall(t *testing.T) {
	Sweep(t, Options{}, func(d driver.Driver) error {
		_, err := work(d)
		return err
	})
}

// A leak that only a failure lays open is found.
func TestSweepFindsLeaks(t *testing.T) {
	inner := &recorder{TB: t}
	Sweep(inner, Options{}, func(d driver.Driver) error {
		context, err := d.Retain(0)
		if err != nil {
			return err
		}
		if err := d.SetCurrent(context); err != nil {
			return err // the context stays retained
		}
		return d.Release(0)
	})
	if inner.errors == 0 {
		t.Error("nothing was found")
	}
}

// recorder counts errors in place of the test it stands in for.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Errorf(string, ...any) { r.errors++ }
func (r *recorder) Failed() bool          { return r.errors > 0 }

func TestDestroyedStreamEndsItsCapture(t *testing.T) {
	f := newForked(t)
	f.ok(f.BeginCapture(f.stream))
	f.ok(f.Record(f.filled, f.stream))
	f.ok(f.Wait(f.other, f.filled))
	f.ok(f.DestroyStream(f.stream))
	args := kernels.FillArgs{Dst: uint64(f.memory), N: 16, Value: 3}
	function, err := f.Function(f.module, "rh_smoke_fill", 24)
	f.ok(err)
	f.ok(f.Launch(&driver.Launch{Function: function, Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: f.other, Args: kernels.Bytes(&args)}))
	f.ok(f.Synchronise(f.other)) // it waits for the device, not for a graph
	f.ok(f.CopyOut(f.host, f.memory, f.other))
	f.ok(f.Synchronise(f.other))
	if got := binary.NativeEndian.Uint32(f.host.Bytes()); got != 3 {
		t.Errorf("%d", got)
	}
}
