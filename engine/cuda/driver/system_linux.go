//go:build linux && (amd64 || arm64)

package driver

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// system is the machine's driver.
type system struct {
	symbols
	version  Version
	launches sync.Pool // of *launchBlock
	lists    sync.Pool // of *[4]uintptr
	argSizes sync.Map  // of int, by Function
}

// Open loads libcuda.so.1, which NVIDIA's driver installs, and initialises it.
// Without one, without a device or with a driver older than Needed the error
// matches ErrNoDevice or ErrOldDriver.
func Open() (Driver, error) { return open("libcuda.so.1") }

func open(path string) (Driver, error) {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, &Error{Call: "open " + path, Detail: strings.TrimPrefix(err.Error(), path+": "), Kind: ErrNoDevice}
	}
	s := &system{
		launches: sync.Pool{New: func() any { return newLaunchBlock() }},
		lists:    sync.Pool{New: func() any { return new([4]uintptr) }},
	}
	// The version is asked before anything else: an old driver lacks functions, and
	// its users want to hear that it is old, not which one.
	addr, err := purego.Dlsym(lib, "cuDriverGetVersion")
	if err != nil {
		return nil, &Error{Call: "open " + path, Detail: err.Error(), Kind: ErrNoDevice}
	}
	s.driverGetVersion = symbol{"cuDriverGetVersion", addr}
	var version int32
	if err := call(s.driverGetVersion, uintptr(unsafe.Pointer(&version))); err != nil {
		return nil, err
	}
	s.version = Version(version)
	if err := CheckVersion(s.version); err != nil {
		return nil, err
	}
	if err := s.find(lib); err != nil {
		return nil, &Error{Call: "open " + path, Detail: err.Error(), Kind: ErrOldDriver}
	}
	if err := call(s.init, 0); err != nil {
		return nil, err
	}
	return s, nil
}

// call makes one call of C. Pointers turned to uintptr in its argument list stay
// alive and in place until it returns. purego.RegisterFunc would look nicer and
// costs 0.96 us and 11 allocations a call, where this costs 0.1 us and one.
//
//go:uintptrescapes
func call(f symbol, args ...uintptr) error {
	if r, _, _ := purego.SyscallN(f.addr, args...); int32(r) != 0 {
		return &Error{Code: Code(int32(r)), Call: f.name}
	}
	return nil
}

// step makes a call that a running engine makes at every step. It allocates
// nothing: the list of arguments is lent. They are numbers, handles and addresses
// of memory that the caller keeps alive.
func (s *system) step(f symbol, args ...uintptr) error {
	list := s.lists.Get().(*[4]uintptr)
	n := copy(list[:], args)
	r, _, _ := purego.SyscallN(f.addr, list[:n]...)
	s.lists.Put(list)
	if int32(r) != 0 {
		return &Error{Code: Code(int32(r)), Call: f.name}
	}
	return nil
}

// detail adds what was asked for to an error of call.
func detail(err error, format string, args ...any) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // call returns nothing else
		e.Detail = fmt.Sprintf(format, args...)
	}
	return err
}

// forKernel adds the kernel's name to an error of call.
func forKernel(err error, name string) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // call returns nothing else
		e.Kernel = name
	}
	return err
}

func (s *system) Version() Version { return s.version }

func (s *system) Devices() (int, error) {
	var count int32
	err := call(s.deviceGetCount, uintptr(unsafe.Pointer(&count)))
	return int(count), err
}

// device turns an ordinal into the driver's name for the device.
func (s *system) device(ordinal int) (uintptr, error) {
	var device int32
	err := call(s.deviceGet, uintptr(unsafe.Pointer(&device)), uintptr(ordinal))
	return uintptr(device), detail(err, "device %d", ordinal)
}

func (s *system) Device(ordinal int) (Properties, error) {
	var p Properties
	device, err := s.device(ordinal)
	if err != nil {
		return p, err
	}
	name := make([]byte, 256)
	if err := call(s.deviceGetName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), device); err != nil {
		return p, err
	}
	if end := bytes.IndexByte(name, 0); end >= 0 {
		p.Name = string(name[:end])
	}
	var total uint64
	if err := call(s.deviceTotalMem, uintptr(unsafe.Pointer(&total)), device); err != nil {
		return p, err
	}
	p.Memory = int64(total)
	var major, minor, integrated int
	for _, a := range []struct {
		attribute uintptr
		value     *int
	}{{attrMajor, &major}, {attrMinor, &minor}, {attrSMs, &p.SMs}, {attrShared, &p.Shared}, {attrL2, &p.L2}, {attrIntegrated, &integrated}} {
		var value int32
		if err := call(s.deviceGetAttribute, uintptr(unsafe.Pointer(&value)), a.attribute, device); err != nil {
			return p, detail(err, "attribute %d", a.attribute)
		}
		*a.value = int(value)
	}
	p.Arch, p.Integrated = 10*major+minor, integrated != 0
	return p, nil
}

func (s *system) Retain(ordinal int) (Context, error) {
	device, err := s.device(ordinal)
	if err != nil {
		return 0, err
	}
	var context uintptr
	err = call(s.primaryCtxRetain, uintptr(unsafe.Pointer(&context)), device)
	return Context(context), detail(err, "device %d", ordinal)
}

func (s *system) Release(ordinal int) error {
	device, err := s.device(ordinal)
	if err != nil {
		return err
	}
	return call(s.primaryCtxRelease, device)
}

func (s *system) SetCurrent(c Context) error { return s.step(s.ctxSetCurrent, uintptr(c)) }

func (s *system) Memory() (free, total int64, err error) {
	err = call(s.memGetInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return free, total, err
}

func (s *system) Load(image []byte) (Module, error) {
	if err := checkImage(image); err != nil {
		return 0, err
	}
	var module uintptr
	err := call(s.moduleLoadData, uintptr(unsafe.Pointer(&module)), uintptr(unsafe.Pointer(unsafe.SliceData(image))))
	return Module(module), detail(err, "an image of %d bytes", len(image))
}

func (s *system) Unload(m Module) error { return call(s.moduleUnload, uintptr(m)) }

func (s *system) Function(m Module, name string, argSize int) (Function, error) {
	if argSize <= 0 || argSize > MaxArgs {
		return 0, &Error{Code: InvalidValue, Call: s.moduleGetFunction.name, Kernel: name, Detail: fmt.Sprintf("%d bytes of arguments, not 1 to %d", argSize, MaxArgs)}
	}
	var function uintptr
	cname := append([]byte(name), 0)
	if err := call(s.moduleGetFunction, uintptr(unsafe.Pointer(&function)), uintptr(m), uintptr(unsafe.Pointer(&cname[0]))); err != nil {
		return 0, forKernel(err, name)
	}
	var offset, size uint64
	if err := call(s.funcGetParamInfo, function, 0, uintptr(unsafe.Pointer(&offset)), uintptr(unsafe.Pointer(&size))); err != nil {
		return 0, forKernel(err, name)
	}
	if offset != 0 || size != uint64(argSize) {
		return 0, WrongSize(name, int(size), argSize)
	}
	if err := call(s.funcGetParamInfo, function, 1, uintptr(unsafe.Pointer(&offset)), uintptr(unsafe.Pointer(&size))); err == nil {
		return 0, &Error{Code: InvalidValue, Call: s.funcGetParamInfo.name, Kernel: name, Detail: "it takes more than one argument"}
	}
	s.argSizes.Store(Function(function), argSize)
	return Function(function), nil
}

func (s *system) SetShared(f Function, bytes int) error {
	return detail(call(s.funcSetAttribute, uintptr(f), funcShared, uintptr(bytes)), "%d bytes of shared memory", bytes)
}

func (s *system) Alloc(bytes int64) (Ptr, error) {
	var p Ptr
	err := call(s.memAlloc, uintptr(unsafe.Pointer(&p)), uintptr(bytes))
	if err != nil {
		// How much there is tells more than that it was not enough.
		if free, total, infoErr := s.Memory(); infoErr == nil {
			return 0, detail(err, "%d bytes asked, %d of %d free", bytes, free, total)
		}
	}
	return p, detail(err, "%d bytes asked", bytes)
}

func (s *system) Free(p Ptr) error { return call(s.memFree, uintptr(p)) }

func (s *system) AllocHost(bytes int) (Host, error) {
	if bytes <= 0 {
		return Host{}, &Error{Code: InvalidValue, Call: s.memHostAlloc.name, Detail: fmt.Sprintf("%d bytes asked", bytes)}
	}
	var memory unsafe.Pointer
	if err := call(s.memHostAlloc, uintptr(unsafe.Pointer(&memory)), uintptr(bytes), hostPortable|hostMapped); err != nil {
		return Host{}, detail(err, "%d bytes of page-locked host memory asked", bytes)
	}
	var p Ptr
	if err := call(s.memHostGetDevicePointer, uintptr(unsafe.Pointer(&p)), uintptr(memory), 0); err != nil {
		_ = call(s.memFreeHost, uintptr(memory)) // the first error is the one to tell
		return Host{}, err
	}
	return HostMemory(unsafe.Slice((*byte)(memory), bytes), p), nil
}

func (s *system) FreeHost(h Host) error { return call(s.memFreeHost, address(h)) }

func address(h Host) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(h.data))) }

func (s *system) CopyIn(dst Ptr, src Host, to Stream) error {
	return s.step(s.memcpyHtoDAsync, uintptr(dst), address(src), uintptr(len(src.data)), uintptr(to))
}

func (s *system) CopyOut(dst Host, src Ptr, to Stream) error {
	return s.step(s.memcpyDtoHAsync, address(dst), uintptr(src), uintptr(len(dst.data)), uintptr(to))
}

func (s *system) Copy(dst, src Ptr, bytes int64, to Stream) error {
	return s.step(s.memcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(bytes), uintptr(to))
}

func (s *system) NewStream() (Stream, error) {
	var stream uintptr
	err := call(s.streamCreate, uintptr(unsafe.Pointer(&stream)), streamUnblocking)
	return Stream(stream), err
}

func (s *system) DestroyStream(to Stream) error { return call(s.streamDestroy, uintptr(to)) }

func (s *system) Synchronise(to Stream) error { return s.step(s.streamSynchronize, uintptr(to)) }

func (s *system) Wait(to Stream, e Event) error {
	return s.step(s.streamWaitEvent, uintptr(to), uintptr(e), 0)
}

func (s *system) NewEvent() (Event, error) {
	var event uintptr
	err := call(s.eventCreate, uintptr(unsafe.Pointer(&event)), 0)
	return Event(event), err
}

func (s *system) DestroyEvent(e Event) error { return call(s.eventDestroy, uintptr(e)) }

func (s *system) Record(e Event, to Stream) error {
	return s.step(s.eventRecord, uintptr(e), uintptr(to))
}

func (s *system) Done(e Event) (bool, error) {
	err := s.step(s.eventQuery, uintptr(e))
	if e, ok := err.(*Error); ok && e.Code == NotReady { //nolint:errorlint // step returns nothing else
		return false, nil
	}
	return err == nil, err
}

func (s *system) SynchroniseEvent(e Event) error { return s.step(s.eventSynchronize, uintptr(e)) }

func (s *system) Elapsed(start, end Event) (time.Duration, error) {
	var milliseconds float32
	err := call(s.eventElapsedTime, uintptr(unsafe.Pointer(&milliseconds)), uintptr(start), uintptr(end))
	return time.Duration(float64(milliseconds) * float64(time.Millisecond)), err
}

// launchConfig is CUlaunchConfig, launchAttribute CUlaunchAttribute.
type launchConfig struct {
	grid, block Dim
	shared      uint32
	_           uint32
	stream      uintptr
	attributes  *launchAttribute
	count       uint32
	_           uint32
}

type launchAttribute struct {
	id    uint32
	_     uint32
	value [64]byte // a union; its int is 1
}

// launchBlock is what one cuLaunchKernelEx reads. It lies on the heap, which does
// not move, and points at itself only.
type launchBlock struct {
	config     launchConfig
	attribute  launchAttribute
	parameters [1]*[MaxArgs / 8]uint64
	args       [MaxArgs / 8]uint64
}

func newLaunchBlock() *launchBlock {
	b := new(launchBlock)
	b.config.attributes = &b.attribute
	b.attribute.id, b.attribute.value[0] = launchOverlap, 1 // little endian, as amd64 and arm64 are
	b.parameters[0] = &b.args
	return b
}

func (s *system) Launch(l *Launch) error {
	if size, ok := s.argSizes.Load(l.Function); !ok || size != len(l.Args) {
		return &Error{Code: InvalidValue, Call: s.launchKernelEx.name, Detail: fmt.Sprintf("%d bytes of arguments, where Function was told %v", len(l.Args), size)}
	}
	b := s.launches.Get().(*launchBlock)
	defer s.launches.Put(b)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&b.args)), MaxArgs), l.Args)
	b.config.grid, b.config.block = l.Grid, l.Block
	b.config.shared, b.config.stream, b.config.count = uint32(l.Shared), uintptr(l.Stream), 0
	if l.Overlap {
		b.config.count = 1
	}
	err := s.step(s.launchKernelEx, uintptr(unsafe.Pointer(&b.config)), uintptr(l.Function), uintptr(unsafe.Pointer(&b.parameters)), 0)
	runtime.KeepAlive(b)
	if err != nil {
		return detail(err, "grid %v, block %v, %d bytes of shared memory", l.Grid, l.Block, l.Shared)
	}
	return nil
}

func (s *system) BeginCapture(to Stream) error {
	return call(s.streamBeginCapture, uintptr(to), captureOfThread)
}

func (s *system) EndCapture(to Stream) (Graph, error) {
	var template, graph uintptr
	if err := call(s.streamEndCapture, uintptr(to), uintptr(unsafe.Pointer(&template))); err != nil {
		return 0, err
	}
	err := call(s.graphInstantiate, uintptr(unsafe.Pointer(&graph)), template, 0)
	if destroyErr := call(s.graphDestroy, template); err == nil && destroyErr != nil {
		_ = call(s.graphExecDestroy, graph) // the first error is the one to tell
		return 0, destroyErr
	}
	return Graph(graph), err
}

func (s *system) Replay(g Graph, to Stream) error {
	return s.step(s.graphLaunch, uintptr(g), uintptr(to))
}

func (s *system) DestroyGraph(g Graph) error { return call(s.graphExecDestroy, uintptr(g)) }
