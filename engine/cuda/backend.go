// Package cuda runs the phases on one NVIDIA GPU. A step is cut into passes of two
// classes (see pass); the launches of a decode pass are captured once as a graph
// for each bucket of rows and replayed, what changes from step to step lies in
// the step block. Nothing is allocated after load.
//
// Numerics: residual, norms, router logits, softmax, gates, delta state and all
// sums are fp32. In Exact the inputs of matrices are fp32 too, and every kernel is
// generic. In Fast they are fp16 (see kHalfScale in abi.cuh), multiplied on tensor
// cores with the codes as they are; what the predicate of a fast kernel refuses
// runs generic.
package cuda

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Numerics is how activations that meet weights are kept.
type Numerics string

// Numerics; "" is Fast.
const (
	Exact Numerics = "exact"
	Fast  Numerics = "fast"
)

// Options of New.
type Options struct {
	Device   int      // ordinal
	Numerics Numerics // "" for Fast
	Kernels  string   // "" for the fastest that fit, "generic": then Numerics is Exact
	Streams  int      // state slots, each of which may have a steering table; 0 for 1
	// Lost, where it is set, is told once when the device is gone for good, by the
	// goroutine that holds it.
	Lost func(error)
}

// Backend runs programs on one device. Its methods are called by one goroutine at
// a time, which holds the device while it does.
type Backend struct {
	driver     driver.Driver
	context    driver.Context
	options    Options
	properties driver.Properties
	images     *images
	fast       bool
	gone       bool // the device is lost
	stream     driver.Stream
	bounce     driver.Host // carries Read and Write
	drawn      driver.Ptr  // int32 [maxDrawn]: what the last Sample drew, by its rows

	weights  []*arena // of what Place placed, one a call
	scratch  *pool    // of programs
	vectors  map[*ops.Vector]driver.Ptr
	matrices map[*ops.Matrix]*matrix
	mixtures map[*ops.Matrix]*mixture // by the gate of their first expert
}

var _ ops.Backend = (*Backend)(nil)

const (
	minArch     = 80       // compute capability 8.0: fp16 tensor cores with fp32 sums, cp.async
	maxDrawn    = 256      // rows of one Sample
	bounceBytes = 16 << 20 // of pinned memory
)

// ErrOldDevice refuses a device that the kernels do not run on.
var ErrOldDevice = errors.New("the device is too old")

// New opens a device. Its errors match driver.ErrNoDevice, ErrOldDriver,
// ErrOutOfMemory or ErrOldDevice, or say which option the device cannot meet.
func New(d driver.Driver, o Options) (*Backend, error) {
	fast, err := o.resolve()
	if err != nil {
		return nil, err
	}
	properties, err := Find(d, o.Device)
	if err != nil {
		return nil, err
	}
	o.Streams = max(o.Streams, 1)
	b := &Backend{driver: d, options: o, properties: properties, fast: fast,
		vectors: map[*ops.Vector]driver.Ptr{}, matrices: map[*ops.Matrix]*matrix{}, mixtures: map[*ops.Matrix]*mixture{}}
	b.scratch = &pool{b: b}
	if b.context, err = d.Retain(o.Device); err != nil {
		return nil, err
	}
	if err := b.on(b.open); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Find describes the device of an ordinal, if the kernels run on it, without opening
// it. Its errors are those of New.
func Find(d driver.Driver, ordinal int) (driver.Properties, error) {
	count, err := d.Devices()
	if err != nil {
		return driver.Properties{}, err
	}
	if count == 0 {
		return driver.Properties{}, &driver.Error{Code: driver.NoDevice, Call: "cuDeviceGetCount", Detail: "the driver lists no device"}
	}
	if ordinal < 0 || ordinal >= count {
		return driver.Properties{}, fmt.Errorf("cuda: device %d: the driver lists devices 0 to %d", ordinal, count-1)
	}
	p, err := d.Device(ordinal)
	if err == nil && p.Arch < minArch {
		err = fmt.Errorf("cuda: device %d, %s, has compute capability %d.%d: %w, the kernels need %d.%d (Ampere) or newer",
			ordinal, p.Name, p.Arch/10, p.Arch%10, ErrOldDevice, minArch/10, minArch%10)
	}
	return p, err
}

// open makes what every program needs. The context is current.
func (b *Backend) open() (err error) {
	if b.images, err = loadImages(b.driver, b.properties.Arch); err != nil {
		return err
	}
	if b.stream, err = b.driver.NewStream(); err != nil {
		return err
	}
	if b.bounce, err = b.driver.AllocHost(bounceBytes); err != nil {
		return err
	}
	drawn, err := b.scratch.Alloc("drawn tokens", ops.I32, maxDrawn)
	b.drawn = at(drawn)
	return err
}

// resolve checks the options: whether fast kernels may run.
func (o Options) resolve() (fast bool, err error) {
	if o.Kernels != "" && o.Kernels != "generic" {
		return false, fmt.Errorf("cuda: kernels %q: there are \"\" (the fastest that fit) and \"generic\"", o.Kernels)
	}
	switch o.Numerics {
	case "", Fast:
		if o.Kernels == "generic" && o.Numerics == Fast {
			return false, errors.New("cuda: generic kernels are exact: ask for numerics \"exact\" or leave the kernels open")
		}
		return o.Kernels == "", nil
	case Exact:
		return false, nil
	}
	return false, fmt.Errorf("cuda: numerics %q: there are %q and %q", o.Numerics, Exact, Fast)
}

// on runs work with the device's context current. Whatever asks something of the
// device goes through here, so that its loss is noticed wherever it shows first.
func (b *Backend) on(work func() error) error {
	err := driver.On(b.driver, b.context, work)
	if errors.Is(err, driver.ErrDeviceLost) && !b.gone {
		b.gone = true
		if b.options.Lost != nil {
			b.options.Lost(err)
		}
	}
	return err
}

// Caps implements ops.Backend.
func (b *Backend) Caps() ops.Caps {
	caps := ops.Caps{Name: fmt.Sprintf("cuda:%d", b.options.Device), Kernels: "generic", Numerics: string(Exact), Taps: true, Ahead: true}
	if b.fast {
		caps.Kernels, caps.Numerics = fmt.Sprintf("sm_%d", b.properties.Arch), string(Fast)
	}
	return caps
}

// Properties describe the device.
func (b *Backend) Properties() driver.Properties { return b.properties }

// Memory returns the free and the total bytes of the device.
func (b *Backend) Memory() (free, total int64, err error) {
	err = b.on(func() (err error) {
		free, total, err = b.driver.Memory()
		return err
	})
	return free, total, err
}

// Used returns the bytes of device memory that weights and programs take; arenas
// count their own.
func (b *Backend) Used() int64 {
	used := b.scratch.Used()
	for _, a := range b.weights {
		used += a.Used()
	}
	return used
}

// Copy implements ops.Backend: in the order of what was submitted.
func (b *Backend) Copy(dst, src ops.Buf) error {
	if dst.Bytes() != src.Bytes() {
		return fmt.Errorf("cuda: copy of %d bytes into %d", src.Bytes(), dst.Bytes())
	}
	return b.on(func() error { return b.driver.Copy(at(dst), at(src), src.Bytes(), b.stream) })
}

// Read implements ops.Backend. It waits for everything submitted before.
func (b *Backend) Read(dst []byte, src ops.Buf) error {
	if int64(len(dst)) != src.Bytes() {
		return fmt.Errorf("cuda: read of %d bytes into %d", src.Bytes(), len(dst))
	}
	return b.on(func() error { return b.read(dst, at(src)) })
}

// read is Read with the context current.
func (b *Backend) read(dst []byte, from driver.Ptr) error {
	for len(dst) > 0 {
		part := b.bounce.Slice(0, min(len(dst), b.bounce.Len()))
		if err := b.driver.CopyOut(part, from, b.stream); err != nil {
			return err
		}
		if err := b.driver.Synchronise(b.stream); err != nil {
			return err
		}
		n := copy(dst, part.Bytes())
		dst, from = dst[n:], from+driver.Ptr(n)
	}
	return nil
}

// Write implements ops.Backend. It waits for everything submitted before.
func (b *Backend) Write(dst ops.Buf, src []byte) error {
	if int64(len(src)) != dst.Bytes() {
		return fmt.Errorf("cuda: write of %d bytes into %d", len(src), dst.Bytes())
	}
	return b.on(func() error { return b.write(at(dst), src) })
}

// write is Write with the context current.
func (b *Backend) write(to driver.Ptr, src []byte) error {
	for len(src) > 0 {
		part := b.bounce.Slice(0, min(len(src), b.bounce.Len()))
		n := copy(part.Bytes(), src)
		if err := b.driver.CopyIn(to, part, b.stream); err != nil {
			return err
		}
		if err := b.driver.Synchronise(b.stream); err != nil {
			return err
		}
		src, to = src[n:], to+driver.Ptr(n)
	}
	return nil
}

// Close frees everything. Programs and arenas are closed before.
func (b *Backend) Close() error {
	return errors.Join(b.release(func() error {
		var errs []error
		if b.stream != 0 {
			errs = append(errs, b.driver.Synchronise(b.stream), b.driver.DestroyStream(b.stream))
		}
		errs = append(errs, b.scratch.Close())
		for _, a := range b.weights {
			errs = append(errs, a.Close())
		}
		if b.bounce.Len() > 0 {
			errs = append(errs, b.driver.FreeHost(b.bounce))
		}
		if b.images != nil {
			errs = append(errs, b.images.close())
		}
		return errors.Join(errs...)
	}), b.driver.Release(b.options.Device))
}
