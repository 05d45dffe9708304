package cuda

import (
	"errors"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Rehearse says what load would allocate on the device: the weights, and what build
// takes from a backend like b, arenas and programs, behind which there is nothing.
// build need not close them. No memory of the device is touched.
func (b *Backend) Rehearse(w ops.Weights, build func(ops.Backend) error) ([]Share, error) {
	d := &void{}
	l := lay(w, b.fast, 1<<40)
	shadow := &Backend{driver: d, options: b.options, properties: b.properties, fast: b.fast, stream: 1,
		images:  &images{d: d, arch: b.images.arch, owner: b.images.owner, taken: map[string]driver.Function{}},
		bounce:  driver.HostMemory(make([]byte, 64<<10), 0),
		vectors: l.vectors, matrices: l.matrices, mixtures: l.mixtures}
	shadow.scratch = &pool{b: shadow}
	r := &rehearsal{Backend: shadow, shares: l.shares(w, b.fast)}
	if err := build(r); err != nil {
		return nil, err
	}
	return append(r.shares, shadow.scratch.shares...), nil
}

// shares are the weights by kind.
func (l *layout) shares(w ops.Weights, fast bool) []Share {
	experts := lay(ops.Weights{Mixtures: w.Mixtures}, fast, 0).size()
	tables := ops.Weights{Embed: w.Embed, Head: w.Head}
	for _, m := range w.Matrices {
		if m == w.Embed || m == w.Head {
			tables.Matrices = append(tables.Matrices, m)
		}
	}
	ends := lay(tables, fast, 0).size()
	return []Share{{"experts", experts}, {"embedding and head", ends}, {"other weights", l.size() - experts - ends}}
}

// add puts a share to those of its name.
func addShare(shares []Share, name string, bytes int64) []Share {
	i := slices.IndexFunc(shares, func(s Share) bool { return s.Name == name })
	if i < 0 {
		return append(shares, Share{name, bytes})
	}
	shares[i].Bytes += bytes
	return shares
}

// rehearsal is a backend that notes its arenas.
type rehearsal struct {
	*Backend
	shares []Share
}

// NewArena implements ops.Backend.
func (r *rehearsal) NewArena(name string, capacity int64) (ops.Arena, error) {
	a, err := r.newArena(name, capacity)
	if err != nil {
		return nil, err
	}
	r.shares = addShare(r.shares, name, a.capacity)
	return a, nil
}

// void is a driver that says yes and does nothing. Recording asks no more of one;
// any other call is a mistake of ours and ends the process.
type void struct {
	driver.Driver
	next driver.Ptr
}

var errNegative = errors.New("cuda: memory of no size asked in a rehearsal")

func (v *void) Alloc(bytes int64) (driver.Ptr, error) {
	if bytes <= 0 {
		return 0, errNegative
	}
	v.next += driver.Ptr(bytes+alignment-1) &^ (alignment - 1)
	return 1<<44 + v.next, nil
}

func (v *void) AllocHost(bytes int) (driver.Host, error) {
	if bytes <= 0 {
		return driver.Host{}, errNegative
	}
	return driver.HostMemory(make([]byte, bytes), 1<<48), nil
}

func (*void) SetCurrent(driver.Context) error                              { return nil }
func (*void) Function(driver.Module, string, int) (driver.Function, error) { return 1, nil }
func (*void) SetShared(driver.Function, int) error                         { return nil }
func (*void) Free(driver.Ptr) error                                        { return nil }
func (*void) FreeHost(driver.Host) error                                   { return nil }
func (*void) CopyIn(driver.Ptr, driver.Host, driver.Stream) error          { return nil }
func (*void) CopyOut(driver.Host, driver.Ptr, driver.Stream) error         { return nil }
func (*void) Copy(driver.Ptr, driver.Ptr, int64, driver.Stream) error      { return nil }
func (*void) NewStream() (driver.Stream, error)                            { return 1, nil }
func (*void) DestroyStream(driver.Stream) error                            { return nil }
func (*void) Synchronise(driver.Stream) error                              { return nil }
func (*void) Wait(driver.Stream, driver.Event) error                       { return nil }
func (*void) NewEvent() (driver.Event, error)                              { return 1, nil }
func (*void) DestroyEvent(driver.Event) error                              { return nil }
func (*void) Record(driver.Event, driver.Stream) error                     { return nil }
func (*void) Launch(*driver.Launch) error                                  { return nil }
func (*void) BeginCapture(driver.Stream) error                             { return nil }
func (*void) EndCapture(driver.Stream) (driver.Graph, error)               { return 1, nil }
func (*void) Replay(driver.Graph, driver.Stream) error                     { return nil }
func (*void) DestroyGraph(driver.Graph) error                              { return nil }
