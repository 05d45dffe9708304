// Package driver is the one door to CUDA: the part of the driver API that the
// engine needs, behind one interface. Open gives the machine's own driver, opened
// at run time without cgo; package drivertest has a fake one in host memory.
//
// Host memory that an asynchronous call reads or writes is always a Host, which
// the driver allocated: memory of the Go heap never crosses such a call.
package driver

import (
	"fmt"
	"runtime"
	"time"
)

// Handles of the driver. Ptr is a device address, on which arithmetic is fine.
type (
	Ptr      uint64
	Context  uintptr
	Module   uintptr
	Function uintptr
	Stream   uintptr
	Event    uintptr
	Graph    uintptr // instantiated: ready to replay
)

// A Version is what the driver says: 13000 is 13.0.
type Version int

// Needed is the oldest driver that loads the images: they and their PTX are of
// CUDA 13.0, which came with driver 580.
const Needed Version = 13000

func (v Version) String() string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// Properties describe a device.
type Properties struct {
	Name       string
	Memory     int64 // bytes
	Arch       int   // compute capability times ten: 90 is 9.0
	SMs        int   // multiprocessors
	Shared     int   // bytes of shared memory that a block may ask for at most
	L2         int   // bytes
	Integrated bool  // shares the host's memory
}

// Host is page-locked memory, which copies and kernels reach while the process
// runs on. The zero Host is empty.
type Host struct {
	data []byte
	ptr  Ptr
}

// HostMemory is for implementations of Driver: data must not be moved or freed
// by the garbage collector before FreeHost, and ptr is its address on the device.
func HostMemory(data []byte, ptr Ptr) Host { return Host{data, ptr} }

// Bytes is the memory itself. What an asynchronous call still reads or writes
// must be left alone until an event or a stream says that it is done.
func (h Host) Bytes() []byte { return h.data }

// Ptr is the address under which kernels see the memory.
func (h Host) Ptr() Ptr { return h.ptr }

// Len is the number of bytes.
func (h Host) Len() int { return len(h.data) }

// Slice is the part from byte low to byte high; it panics where a slice would.
func (h Host) Slice(low, high int) Host { return Host{h.data[low:high:high], h.ptr + Ptr(low)} }

// A Dim is the extent of a grid or a block: x, y, z, each 1 or more.
type Dim [3]uint32

// A Launch is one kernel on its way. The driver copies Args before it returns.
type Launch struct {
	Function    Function
	Grid, Block Dim
	Shared      int // bytes of dynamic shared memory; above 48 KiB after SetShared only
	Stream      Stream
	Args        []byte // the argument struct: kernels.Bytes
	Overlap     bool   // may start before the kernel ahead of it in the stream ends (programmatic dependent launch)
}

// MaxArgs bounds an argument struct: the limit of every architecture in bytes.
const MaxArgs = 4096

// Driver is CUDA as the engine uses it. Calls may come from several goroutines;
// but for Version, Devices, Device and Retain they need a current context, which
// belongs to the OS thread: see On. Every error is an *Error.
type Driver interface {
	Version() Version
	Devices() (int, error)
	Device(ordinal int) (Properties, error)
	// Retain opens the device's primary context; Release lets go of it.
	Retain(ordinal int) (Context, error)
	Release(ordinal int) error
	SetCurrent(Context) error
	// Memory is what the current device has, in bytes.
	Memory() (free, total int64, err error)

	// Load takes a fat binary and picks the device's own code from it, or compiles
	// its PTX where there is none. Function finds a kernel and proves that it takes
	// one argument of argSize bytes.
	Load(image []byte) (Module, error)
	Unload(Module) error
	Function(m Module, name string, argSize int) (Function, error)
	// SetShared allows launches with so many bytes of dynamic shared memory.
	SetShared(f Function, bytes int) error

	Alloc(bytes int64) (Ptr, error)
	Free(Ptr) error
	AllocHost(bytes int) (Host, error)
	FreeHost(Host) error
	// Copies of whole buffers in the order of the stream: host to device, device
	// to host, within the device.
	CopyIn(dst Ptr, src Host, s Stream) error
	CopyOut(dst Host, src Ptr, s Stream) error
	Copy(dst, src Ptr, bytes int64, s Stream) error

	NewStream() (Stream, error)
	DestroyStream(Stream) error
	Synchronise(Stream) error
	// Wait holds back what is put into the stream from now on until the event, as
	// last recorded, has happened.
	Wait(Stream, Event) error

	NewEvent() (Event, error)
	DestroyEvent(Event) error
	Record(Event, Stream) error
	Done(Event) (bool, error)
	SynchroniseEvent(Event) error
	// Elapsed is the time between two events that have happened.
	Elapsed(start, end Event) (time.Duration, error)

	Launch(*Launch) error
	// BeginCapture records what is put into the stream instead of running it, until
	// EndCapture makes a graph of it. The same OS thread calls both, and nothing is
	// allocated, loaded or waited for in between.
	BeginCapture(Stream) error
	EndCapture(Stream) (Graph, error)
	Replay(Graph, Stream) error
	DestroyGraph(Graph) error
}

// On runs work on one OS thread with the context current, for the length of one
// step: a thread locked for life costs 45 us a message, this 0.1 us.
func On(d Driver, c Context, work func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := d.SetCurrent(c); err != nil {
		return err
	}
	return work()
}
