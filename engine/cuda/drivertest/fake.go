// Package drivertest is a fake CUDA driver in host memory: what it answers is
// what a device answers, as far as the engine can see. Addresses, streams,
// events, capture, replay and argument structs are real; arithmetic is Go, found
// by a kernel's name. Work put into a stream waits there until somebody waits
// for it, so code that reads too early reads old bytes here too.
//
// It is stricter than a device in two points: nothing may be allocated, freed or
// loaded while any stream captures, and what waiting work needs must not be freed
// before it is done (a device waits there). And it is as free as a device: every
// other replay of a graph does first what was captured last, as far as the events
// between its streams allow.
package drivertest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
	"github.com/roundhouse-ai/roundhouse/kernels/host"
)

// Options describe the device to pretend. Zero fields take the value named.
type Options struct {
	Memory  int64          // bytes: 1 GiB
	Version driver.Version // driver.Needed
	Arch    int            // 90
	// Host runs the kernels' own sources, compiled for this machine's CPU, instead
	// of their arithmetic in Go; where that cannot be done New gives
	// host.ErrUnavailable. Close ends the process that runs them.
	Host bool
	// Sanitize compiles them with AddressSanitizer.
	Sanitize bool
}

// Fake implements driver.Driver. Its methods may be called from several
// goroutines.
type Fake struct {
	mu       sync.Mutex
	options  Options
	kernels  map[string]Kernel
	calls    int
	failAt   int
	failWith driver.Code
	lost     *driver.Error

	retained  int
	current   bool
	memory    memory
	handle    uintptr // the last one given out
	modules   map[driver.Module]map[string]kernels.Kernel
	functions map[driver.Function]*function
	streams   map[driver.Stream]*stream
	events    map[driver.Event]*event
	graphs    map[driver.Graph]*graph
	clock     time.Duration
	records   []Record
	misuse    []string
}

var _ driver.Driver = (*Fake)(nil)

type function struct {
	kernels.Kernel
	module driver.Module
	shared int
}

// New makes a fake driver that knows the arithmetic of every kernel of ours; the
// error is of a driver that is too old, as driver.Open would give it.
func New(o Options) (*Fake, error) {
	if o.Memory == 0 {
		o.Memory = 1 << 30
	}
	if o.Version == 0 {
		o.Version = driver.Needed
	}
	if o.Arch == 0 {
		o.Arch = 90
	}
	if err := driver.CheckVersion(o.Version); err != nil {
		return nil, err
	}
	var device *hostDevice
	if o.Host {
		var err error
		if device, err = startHost(host.Options{Sanitize: o.Sanitize}); err != nil {
			return nil, err
		}
	}
	return &Fake{
		options: o, kernels: arithmetic(), memory: memory{limit: o.Memory, device: device},
		modules: map[driver.Module]map[string]kernels.Kernel{}, functions: map[driver.Function]*function{},
		streams: map[driver.Stream]*stream{}, events: map[driver.Event]*event{}, graphs: map[driver.Graph]*graph{},
	}, nil
}

// Close ends the process of a host device; other drivers have none. Nothing may be
// called, and no memory of the driver's used, after it.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.memory.device == nil {
		return nil
	}
	return f.memory.device.close()
}

// Register gives a kernel its arithmetic, in place of what it had.
func (f *Fake) Register(name string, kernel Kernel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kernels[name] = kernel
}

// Calls is how many calls were made.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Fail lets the n-th call from now on (1 is the next) fail with a code. A call
// that releases something releases it all the same, as the driver's do; a code
// that means a lost device makes every later call fail too.
func (f *Fake) Fail(n int, code driver.Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.failWith = f.calls+n, code
}

// Records is what the device did so far, in the order in which it did it.
func (f *Fake) Records() []Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.records)
}

// Problems lists what is still held, and every use of something that was not
// there: memory after it was freed, handles of nothing. A test that ends with
// none has neither leaked nor misused.
func (f *Fake) Problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	problems := append(slices.Clone(f.misuse), f.memory.held()...)
	if f.retained > 0 {
		problems = append(problems, fmt.Sprintf("context retained %d times", f.retained))
	}
	for what, n := range map[string]int{"modules": len(f.modules), "streams": len(f.streams), "events": len(f.events), "graphs": len(f.graphs)} {
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s held", n, what))
		}
	}
	slices.Sort(problems)
	return problems
}

// What a call needs of the device's state.
type need int

const (
	nothing need = iota
	context      // a current context
	quiet        // a current context, and no capture under way: it is spoiled otherwise
)

// enter begins a call: it counts, fails where Fail said so, and checks the state.
func (f *Fake) enter(call string, n need) error {
	f.calls++
	if f.calls == f.failAt {
		err := &driver.Error{Code: f.failWith, Call: call, Detail: fmt.Sprintf("injected at call %d", f.calls)}
		if err.Unwrap() == driver.ErrDeviceLost { //nolint:errorlint // kinds are never wrapped
			f.lost = err
		}
		return err
	}
	if f.lost != nil {
		return &driver.Error{Code: f.lost.Code, Call: call, Kernel: f.lost.Kernel, Detail: f.lost.Detail}
	}
	if n >= context && !f.current {
		return &driver.Error{Code: driver.InvalidContext, Call: call, Detail: "no context is current"}
	}
	if n == quiet {
		for _, s := range f.streams {
			if s.capture != nil {
				s.capture.spoiled = true
				return &driver.Error{Code: driver.CaptureUnsupported, Call: call, Detail: "a capture is under way"}
			}
		}
	}
	return nil
}

// wrong notes the use of something that is not there and says so.
func (f *Fake) wrong(call string, code driver.Code, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	f.misuse = append(f.misuse, call+": "+detail)
	return &driver.Error{Code: code, Call: call, Detail: detail}
}

// next gives out a handle; each kind of thing has its own numbers.
func (f *Fake) next() uintptr {
	f.handle += 16
	return f.handle
}

// Version implements driver.Driver.
func (f *Fake) Version() driver.Version { return f.options.Version }

// Devices implements driver.Driver.
func (f *Fake) Devices() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuDeviceGetCount", nothing); err != nil {
		return 0, err
	}
	return 1, nil
}

func (f *Fake) ordinal(call string, ordinal int) error {
	if err := f.enter(call, nothing); err != nil {
		return err
	}
	if ordinal != 0 {
		return &driver.Error{Code: driver.InvalidDevice, Call: call, Detail: fmt.Sprintf("device %d", ordinal)}
	}
	return nil
}

// Device implements driver.Driver.
func (f *Fake) Device(ordinal int) (driver.Properties, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ordinal("cuDeviceGet", ordinal); err != nil {
		return driver.Properties{}, err
	}
	return driver.Properties{Name: "fake device", Memory: f.options.Memory, Arch: f.options.Arch, SMs: 8, Shared: 99 << 10, L2: 4 << 20}, nil
}

// Retain implements driver.Driver.
func (f *Fake) Retain(ordinal int) (driver.Context, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ordinal("cuDevicePrimaryCtxRetain", ordinal); err != nil {
		return 0, err
	}
	f.retained++
	return 1, nil
}

// Release implements driver.Driver.
func (f *Fake) Release(ordinal int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.ordinal("cuDevicePrimaryCtxRelease_v2", ordinal)
	if f.retained == 0 {
		return f.wrong("cuDevicePrimaryCtxRelease_v2", driver.InvalidContext, "the context is not retained")
	}
	f.retained--
	f.current = f.current && f.retained > 0
	return err
}

// SetCurrent implements driver.Driver.
func (f *Fake) SetCurrent(c driver.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuCtxSetCurrent", nothing); err != nil {
		return err
	}
	if c != 0 && (c != 1 || f.retained == 0) {
		return f.wrong("cuCtxSetCurrent", driver.InvalidContext, "context %d is not retained", c)
	}
	f.current = c != 0
	return nil
}

// Memory implements driver.Driver.
func (f *Fake) Memory() (free, total int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.enter("cuMemGetInfo_v2", context)
	return f.memory.limit - f.memory.used, f.memory.limit, err
}

// Load implements driver.Driver. It knows the images that are compiled in, by
// their hashes.
func (f *Fake) Load(image []byte) (driver.Module, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuModuleLoadData", quiet); err != nil {
		return 0, err
	}
	manifest, err := kernels.Images()
	if err != nil {
		return 0, &driver.Error{Code: driver.InvalidImage, Call: "cuModuleLoadData", Detail: err.Error()}
	}
	sum := sha256.Sum256(image)
	at := slices.IndexFunc(manifest.Images, func(i kernels.Image) bool { return i.SHA256 == hex.EncodeToString(sum[:]) })
	if at < 0 {
		return 0, &driver.Error{Code: driver.InvalidImage, Call: "cuModuleLoadData", Detail: fmt.Sprintf("an image of %d bytes that the manifest does not list", len(image))}
	}
	entries := map[string]kernels.Kernel{}
	for _, kernel := range manifest.Images[at].Kernels {
		entries[kernel.Name] = kernel
	}
	module := driver.Module(f.next())
	f.modules[module] = entries
	return module, nil
}

// Unload implements driver.Driver.
func (f *Fake) Unload(m driver.Module) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter("cuModuleUnload", quiet)
	if _, ok := f.modules[m]; !ok {
		return f.wrong("cuModuleUnload", driver.InvalidHandle, "module %#x is not loaded", m)
	}
	delete(f.modules, m)
	return err
}

// Function implements driver.Driver.
func (f *Fake) Function(m driver.Module, name string, argSize int) (driver.Function, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuModuleGetFunction", context); err != nil {
		return 0, err
	}
	entries, ok := f.modules[m]
	if !ok {
		return 0, f.wrong("cuModuleGetFunction", driver.InvalidHandle, "module %#x is not loaded", m)
	}
	kernel, ok := entries[name]
	if !ok {
		return 0, &driver.Error{Code: driver.NotFound, Call: "cuModuleGetFunction", Kernel: name}
	}
	if kernel.ArgSize != argSize {
		return 0, driver.WrongSize(name, kernel.ArgSize, argSize)
	}
	handle := driver.Function(f.next())
	f.functions[handle] = &function{Kernel: kernel, module: m, shared: 48 << 10}
	return handle, nil
}

// SetShared implements driver.Driver.
func (f *Fake) SetShared(fn driver.Function, bytes int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuFuncSetAttribute", context); err != nil {
		return err
	}
	function, ok := f.functions[fn]
	if !ok {
		return f.wrong("cuFuncSetAttribute", driver.InvalidHandle, "function %#x is unknown", fn)
	}
	if bytes < 0 || bytes > 99<<10 {
		return &driver.Error{Code: driver.InvalidValue, Call: "cuFuncSetAttribute", Kernel: function.Name, Detail: fmt.Sprintf("%d bytes of shared memory", bytes)}
	}
	function.shared = max(48<<10, bytes)
	return nil
}
