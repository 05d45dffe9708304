package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// A Record is one thing that the device did.
type Record struct {
	Call   string // the C function that asked for it
	Stream driver.Stream
	Replay bool // it came from a graph
	// Of a launch:
	Kernel      string
	Grid, Block driver.Dim
	Shared      int
	Overlap     bool
	Args        []byte
}

// An operation waits in a stream or lies in a graph.
type operation struct {
	Record
	run func() error
}

// A stream counts what was put in and what was done, so that an event can name a
// place in it.
type stream struct {
	waiting      []operation
	issued, done int
	capture      *streamCapture // nil: what is put in waits for the device
}

type event struct {
	stream   *stream // nil: never recorded, which counts as happened
	place    int
	at       time.Duration
	happened bool
}

// put hands an operation to a stream, or to the graph that it captures.
func (f *Fake) put(s *stream, o operation) {
	if s.capture != nil {
		s.capture.put(s, o)
		return
	}
	s.waiting = append(s.waiting, o)
	s.issued++
}

// drain does what waits in a stream up to a place. The first failure loses the
// device: a real one reports it at whatever call comes next.
func (f *Fake) drain(s *stream, place int) {
	for s.done < place && f.lost == nil {
		o := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.done++
		f.clock += time.Microsecond
		if o.Call != "" {
			f.records = append(f.records, o.Record)
		}
		if err := o.run(); err != nil {
			f.lost = &driver.Error{Code: driver.IllegalAddress, Call: o.Call, Kernel: o.Kernel, Detail: err.Error()}
			f.misuse = append(f.misuse, f.lost.Error())
		}
	}
}

// reported is the state of the device after something was waited for.
func (f *Fake) reported(call string) error {
	if f.lost == nil {
		return nil
	}
	return &driver.Error{Code: f.lost.Code, Call: call, Kernel: f.lost.Kernel, Detail: f.lost.Detail}
}

// stream begins a call that puts something into a stream.
func (f *Fake) stream(call string, s driver.Stream) (*stream, error) {
	if err := f.enter(call, context); err != nil {
		return nil, err
	}
	found, ok := f.streams[s]
	if !ok {
		return nil, f.wrong(call, driver.InvalidHandle, "stream %#x is unknown", s)
	}
	return found, nil
}

// NewStream implements driver.Driver.
func (f *Fake) NewStream() (driver.Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuStreamCreate", context); err != nil {
		return 0, err
	}
	handle := driver.Stream(f.next())
	f.streams[handle] = &stream{}
	return handle, nil
}

// DestroyStream implements driver.Driver. What waits in the stream is done first.
func (f *Fake) DestroyStream(to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter("cuStreamDestroy_v2", context)
	s, ok := f.streams[to]
	if !ok {
		return f.wrong("cuStreamDestroy_v2", driver.InvalidHandle, "stream %#x is unknown", to)
	}
	s.capture.leave(s)
	f.drain(s, s.issued)
	delete(f.streams, to)
	return err
}

// Synchronise implements driver.Driver.
func (f *Fake) Synchronise(to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream("cuStreamSynchronize", to)
	if err != nil {
		return err
	}
	if s.capture != nil {
		s.capture.spoiled = true
		return &driver.Error{Code: driver.CaptureUnsupported, Call: "cuStreamSynchronize", Detail: "the stream captures"}
	}
	f.drain(s, s.issued)
	return f.reported("cuStreamSynchronize")
}

// Wait implements driver.Driver.
func (f *Fake) Wait(to driver.Stream, e driver.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream("cuStreamWaitEvent", to)
	if err != nil {
		return err
	}
	event, ok := f.events[e]
	if !ok {
		return f.wrong("cuStreamWaitEvent", driver.InvalidHandle, "event %#x is unknown", e)
	}
	if from := f.capturing(event); from != nil || s.capture != nil {
		return f.join(s, event, from)
	}
	other, place := event.stream, event.place
	f.put(s, operation{run: func() error {
		if other != nil {
			f.drain(other, place)
		}
		return nil
	}})
	return nil
}

// NewEvent implements driver.Driver.
func (f *Fake) NewEvent() (driver.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuEventCreate", context); err != nil {
		return 0, err
	}
	handle := driver.Event(f.next())
	f.events[handle] = &event{}
	return handle, nil
}

// DestroyEvent implements driver.Driver.
func (f *Fake) DestroyEvent(e driver.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter("cuEventDestroy_v2", context)
	if _, ok := f.events[e]; !ok {
		return f.wrong("cuEventDestroy_v2", driver.InvalidHandle, "event %#x is unknown", e)
	}
	delete(f.events, e)
	return err
}

// Record implements driver.Driver.
func (f *Fake) Record(e driver.Event, to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream("cuEventRecord", to)
	if err != nil {
		return err
	}
	event, ok := f.events[e]
	if !ok {
		return f.wrong("cuEventRecord", driver.InvalidHandle, "event %#x is unknown", e)
	}
	if s.capture != nil {
		s.capture.record(event, s)
		return nil
	}
	event.stream, event.place, event.happened = s, s.issued+1, false
	place := event.place
	f.put(s, operation{run: func() error {
		if event.stream == s && event.place == place { // not recorded anew meanwhile
			event.at, event.happened = f.clock, true
		}
		return nil
	}})
	return nil
}

// event begins a call that asks an event.
func (f *Fake) event(call string, e driver.Event) (*event, error) {
	if err := f.enter(call, context); err != nil {
		return nil, err
	}
	event, ok := f.events[e]
	if !ok {
		return nil, f.wrong(call, driver.InvalidHandle, "event %#x is unknown", e)
	}
	if f.capturing(event) != nil {
		return nil, &driver.Error{Code: driver.CaptureUnsupported, Call: call, Detail: "the event was recorded in a capture"}
	}
	return event, nil
}

// Done implements driver.Driver. Asking makes the device go on by one operation,
// so that whoever asks in a loop gets there.
func (f *Fake) Done(e driver.Event) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	event, err := f.event("cuEventQuery", e)
	if err != nil {
		return false, err
	}
	if event.stream == nil || event.happened {
		return true, nil
	}
	f.drain(event.stream, min(event.stream.done+1, event.place))
	return false, f.reported("cuEventQuery")
}

// SynchroniseEvent implements driver.Driver.
func (f *Fake) SynchroniseEvent(e driver.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	event, err := f.event("cuEventSynchronize", e)
	if err != nil {
		return err
	}
	if event.stream != nil {
		f.drain(event.stream, event.place)
	}
	return f.reported("cuEventSynchronize")
}

// Elapsed implements driver.Driver: a microsecond for each operation between.
func (f *Fake) Elapsed(start, end driver.Event) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, err := f.event("cuEventElapsedTime_v2", start)
	if err != nil {
		return 0, err
	}
	last, ok := f.events[end]
	if !ok {
		return 0, f.wrong("cuEventElapsedTime_v2", driver.InvalidHandle, "event %#x is unknown", end)
	}
	for _, e := range []*event{first, last} {
		if e.stream == nil {
			return 0, &driver.Error{Code: driver.InvalidHandle, Call: "cuEventElapsedTime_v2", Detail: "an event was never recorded"}
		}
		if !e.happened {
			return 0, &driver.Error{Code: driver.NotReady, Call: "cuEventElapsedTime_v2", Detail: "an event has not happened yet"}
		}
	}
	return last.at - first.at, nil
}

// transfer puts a copy into a stream. Both ends are looked up when it runs, as a
// device does: what was freed meanwhile is found out.
func (f *Fake) transfer(call string, dst, src driver.Ptr, bytes int64, to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream(call, to)
	if err != nil {
		return err
	}
	for _, end := range []driver.Ptr{dst, src} {
		if _, err := f.memory.bytes(end, bytes); err != nil {
			return f.wrong(call, driver.InvalidValue, "%v", err)
		}
	}
	f.put(s, operation{Record: Record{Call: call, Stream: to}, run: func() error {
		from, err := f.memory.bytes(src, bytes)
		if err != nil {
			return err
		}
		into, err := f.memory.bytes(dst, bytes)
		copy(into, from)
		return err
	}})
	return nil
}

// CopyIn implements driver.Driver.
func (f *Fake) CopyIn(dst driver.Ptr, src driver.Host, to driver.Stream) error {
	return f.transfer("cuMemcpyHtoDAsync_v2", dst, src.Ptr(), int64(src.Len()), to)
}

// CopyOut implements driver.Driver.
func (f *Fake) CopyOut(dst driver.Host, src driver.Ptr, to driver.Stream) error {
	return f.transfer("cuMemcpyDtoHAsync_v2", dst.Ptr(), src, int64(dst.Len()), to)
}

// Copy implements driver.Driver.
func (f *Fake) Copy(dst, src driver.Ptr, bytes int64, to driver.Stream) error {
	return f.transfer("cuMemcpyDtoDAsync_v2", dst, src, bytes, to)
}

// Launch implements driver.Driver.
func (f *Fake) Launch(l *driver.Launch) error {
	const call = "cuLaunchKernelEx"
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream(call, l.Stream)
	if err != nil {
		return err
	}
	function, ok := f.functions[l.Function]
	if !ok {
		return f.wrong(call, driver.InvalidHandle, "function %#x is unknown", l.Function)
	}
	if err := f.judge(function, l); err != nil {
		return err
	}
	kernel := f.kernels[function.Name]
	launch := *l
	launch.Args = slices.Clone(l.Args)
	record := Record{Call: call, Stream: l.Stream, Kernel: function.Name, Grid: l.Grid, Block: l.Block, Shared: l.Shared, Overlap: l.Overlap, Args: launch.Args}
	f.put(s, operation{Record: record, run: func() error {
		if _, loaded := f.modules[function.module]; !loaded {
			return fmt.Errorf("the module was unloaded before the kernel ran")
		}
		if f.memory.device != nil {
			return f.memory.device.launch(&f.memory, function.Name, launch)
		}
		return kernel(Memory{&f.memory}, launch)
	}})
	return nil
}

// judge refuses a launch that the driver would refuse, or that would do nothing.
func (f *Fake) judge(function *function, l *driver.Launch) error {
	fail := func(code driver.Code, format string, args ...any) error {
		return &driver.Error{Code: code, Call: "cuLaunchKernelEx", Kernel: function.Name, Detail: fmt.Sprintf(format, args...)}
	}
	threads := uint64(1)
	for i := range l.Grid {
		if l.Grid[i] == 0 || l.Block[i] == 0 || l.Block[i] > 1024 {
			return fail(driver.InvalidValue, "grid %v, block %v", l.Grid, l.Block)
		}
		threads *= uint64(l.Block[i])
	}
	_, loaded := f.modules[function.module]
	switch {
	case !loaded:
		return fail(driver.InvalidHandle, "its module was unloaded")
	case len(l.Args) != function.ArgSize:
		return fail(driver.InvalidValue, "%d bytes of arguments, %s has %d", len(l.Args), function.Args, function.ArgSize)
	case threads > uint64(function.MaxThreads):
		return fail(driver.InvalidValue, "%d threads a block, more than %d", threads, function.MaxThreads)
	case l.Shared < 0 || l.Shared > function.shared:
		return fail(driver.InvalidValue, "%d bytes of shared memory, %d are allowed", l.Shared, function.shared)
	case f.options.Arch < function.MinArch:
		return fail(driver.NotSupported, "it does nothing below architecture %d, this is %d", function.MinArch, f.options.Arch)
	case f.kernels[function.Name] == nil && !f.options.Host:
		return fail(driver.NotSupported, "no arithmetic in Go: Register it")
	}
	return nil
}
