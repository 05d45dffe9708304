package cuda

import (
	"errors"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Rehearsal says what load would allocate on a device, without touching its memory.
type Rehearsal struct {
	b       *Backend
	weights *layout
}

// Rehearse lays the weights out for a rehearsal.
func (b *Backend) Rehearse(w ops.Weights) *Rehearsal {
	return &Rehearsal{b: b, weights: lay(w, b.fast, 1<<40)}
}

// Shares are the weights, and what build takes from a backend like the device's,
// arenas and programs, behind which there is nothing. build need not close them.
func (r *Rehearsal) Shares(build func(ops.Backend) error) ([]Share, error) {
	d, b, l := &void{}, r.b, r.weights
	shadow := &Backend{driver: d, options: b.options, properties: b.properties, fast: b.fast, stream: 1,
		images:  &images{d: d, arch: b.images.arch, owner: b.images.owner, taken: map[string]driver.Function{}},
		bounce:  driver.HostMemory(make([]byte, 64<<10), 0),
		vectors: l.vectors, matrices: l.matrices, mixtures: l.mixtures}
	shadow.scratch = &pool{b: shadow}
	noted := &notes{Backend: shadow, shares: []Share{
		{"experts", l.experts}, {"embedding and head", l.ends}, {"other weights", l.size() - l.experts - l.ends}}}
	if err := build(noted); err != nil {
		return nil, err
	}
	shares := append(noted.shares, shadow.scratch.shares...)
	rest := d.taken + whole(l.size()+arenaSlack)
	for _, s := range shares {
		rest -= s.Bytes
	}
	return append(shares, Share{"rounding", rest}, Share{"graphs", graphBytes}), nil
}

const (
	granule = 2 << 20 // bytes: what a driver gives memory in
	// graphBytes is what the captured graphs want for themselves.
	graphBytes = 128 << 20
)

// whole is what a driver takes for an allocation.
func whole(bytes int64) int64 { return (bytes + granule - 1) / granule * granule }

// addShare puts a share to those of its name.
func addShare(shares []Share, name string, bytes int64) []Share {
	i := slices.IndexFunc(shares, func(s Share) bool { return s.Name == name })
	if i < 0 {
		return append(shares, Share{name, bytes})
	}
	shares[i].Bytes += bytes
	return shares
}

// notes is a backend that notes its arenas.
type notes struct {
	*Backend
	shares []Share
}

// NewArena implements ops.Backend.
func (n *notes) NewArena(name string, capacity int64) (ops.Arena, error) {
	a, err := n.newArena(name, capacity)
	if err != nil {
		return nil, err
	}
	n.shares = addShare(n.shares, name, a.capacity)
	return a, nil
}

// void is a driver that says yes and does nothing. Recording asks no more of one;
// any other call is a mistake of ours and ends the process.
type void struct {
	driver.Driver
	next  driver.Ptr
	taken int64
}

var errNegative = errors.New("cuda: memory of no size asked in a rehearsal")

func (v *void) Alloc(bytes int64) (driver.Ptr, error) {
	if bytes <= 0 {
		return 0, errNegative
	}
	v.taken += whole(bytes)
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
