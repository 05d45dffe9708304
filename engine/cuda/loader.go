package cuda

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// loading is how weights come in: readers copy pieces of the files into a ring of
// pinned buffers; each goes to the device in one copy, and is repacked there on a
// second stream while the next ones are copied.
type loading struct {
	buffer  int // bytes of a buffer at least
	buffers int // on each side
	readers int
}

// standardLoading: one thread copies 5 to 10 GB/s out of the page cache, PCIe 5 takes
// 55 GB/s; a buffer of 32 MB is 0.6 ms of that.
var standardLoading = loading{buffer: 32 << 20, buffers: 16, readers: 12}

// maxPieces bounds the pieces of one buffer: of 8 KB each they fill it.
const maxPieces = 4096

const pieceBytes = int(unsafe.Sizeof(kernels.RepackPiece{}))

// portion is a piece of a source on its way through a buffer.
type portion struct {
	source *source
	low    int64 // of its bytes
	high   int64
	at     int // in the buffer
}

// batch is what goes through one buffer: the parts, and behind them the table of
// their pieces.
type batch struct {
	parts []portion
	table int   // where the table starts
	bytes int64 // of the checkpoint
}

func (b *batch) size() int { return b.table + len(b.parts)*pieceBytes }

// cutBatches cuts the sources into batches of so many bytes at most; a buffer holds
// one unit of any source at least.
func cutBatches(sources []source, size int) []batch {
	parts := make([]portion, 0, len(sources)+len(sources)/8)
	var batches []batch
	first, used, bytes := 0, 0, int64(0)
	flush := func() {
		if len(parts) > first {
			batches = append(batches, batch{parts[first:len(parts):len(parts)], used, bytes})
		}
		first, used, bytes = len(parts), 0, 0
	}
	for i := range sources {
		s := &sources[i]
		for low := int64(0); low < s.bytes; {
			left := (size - used - (len(parts)-first+1)*pieceBytes) &^ 15
			n := s.bytes - low
			if n > int64(left) {
				n = int64(left/s.unit) * int64(s.unit)
			}
			if whole := s.bytes <= int64((size-pieceBytes)&^15); n <= 0 || whole && n < s.bytes || len(parts)-first == maxPieces {
				flush()
				continue
			}
			parts = append(parts, portion{s, low, low + n, used})
			used += (int(n) + 15) &^ 15
			bytes += n
			low += n
		}
	}
	flush()
	return batches
}

// bufferFor is the size of buffers that these sources need.
func (o loading) bufferFor(sources []source) int {
	size, total := o.buffer, 0
	for i := range sources {
		s := &sources[i]
		size = max(size, int(min(int64(s.unit), s.bytes))+16+pieceBytes)
		total += int(s.bytes) + 16 + pieceBytes
	}
	return min(size, max(total, 1)+15) &^ 15
}

// load brings every source of the layout to its place. The context is current.
func (b *Backend) load(ctx context.Context, l *layout, o loading, report func(done, total int64)) (err error) {
	var total int64
	for i := range l.sources {
		if err := l.sources[i].check(); err != nil {
			return err
		}
		total += l.sources[i].bytes
	}
	l.inFileOrder()
	size := o.bufferFor(l.sources)
	batches := cutBatches(l.sources, size)
	o.buffers = min(o.buffers, len(batches))
	r := &ring{b: b, batches: batches, overflow: l.overflow, jobs: make(chan int, o.buffers)}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(o.buffers, size); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	wait := r.read(ctx, o.readers)
	defer wait()   // before anything is freed
	defer cancel() // first of all
	var done int64
	for i := range batches {
		if err := r.submit(ctx, i); err != nil {
			return err
		}
		done += batches[i].bytes
		if report != nil {
			report(done, total)
		}
	}
	return r.finish(l.sources)
}

// ring is the buffers of a load. Batch i goes through stage i % len(stages).
type ring struct {
	b        *Backend
	batches  []batch
	stages   []stage
	jobs     chan int // batches whose stage may be filled
	copying  driver.Stream
	repacks  driver.Stream
	overflow driver.Ptr
	verdict  driver.Host
	kernel   driver.Function
}

type stage struct {
	host             driver.Host
	device           driver.Ptr
	copied, repacked driver.Event
	filled           chan error // the batch lies on the host's side, or why not
}

func (r *ring) open(stages, size int) (err error) {
	d := r.b.driver
	if r.kernel, err = r.b.images.function("rh_repack_pieces", int(unsafe.Sizeof(kernels.RepackArgs{})), 0); err != nil {
		return err
	}
	if r.copying, err = d.NewStream(); err != nil {
		return err
	}
	if r.repacks, err = d.NewStream(); err != nil {
		return err
	}
	if r.verdict, err = d.AllocHost(4); err != nil {
		return err
	}
	for range stages {
		r.stages = append(r.stages, stage{filled: make(chan error, 1)})
		if err := r.stages[len(r.stages)-1].open(d, size); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) open(d driver.Driver, size int) (err error) {
	if s.host, err = d.AllocHost(size); err != nil {
		return fmt.Errorf("%d bytes of pinned host memory for loading: %w", size, err)
	}
	if s.device, err = d.Alloc(int64(size)); err != nil {
		return fmt.Errorf("%d bytes of device memory for loading: %w", size, err)
	}
	if s.copied, err = d.NewEvent(); err != nil {
		return err
	}
	s.repacked, err = d.NewEvent()
	return err
}

// close waits for what was submitted and frees everything.
func (r *ring) close() error {
	d := r.b.driver
	var errs []error
	for _, s := range []driver.Stream{r.copying, r.repacks} {
		if s != 0 {
			errs = append(errs, d.Synchronise(s), d.DestroyStream(s))
		}
	}
	for _, s := range r.stages {
		for _, e := range []driver.Event{s.copied, s.repacked} {
			if e != 0 {
				errs = append(errs, d.DestroyEvent(e))
			}
		}
		if s.device != 0 {
			errs = append(errs, d.Free(s.device))
		}
		if s.host.Len() > 0 {
			errs = append(errs, d.FreeHost(s.host))
		}
	}
	if r.verdict.Len() > 0 {
		errs = append(errs, d.FreeHost(r.verdict))
	}
	return errors.Join(errs...)
}

// read starts the readers, which fill the batches as their stages become free; wait
// ends when they have ended, soon after ctx.
func (r *ring) read(ctx context.Context, readers int) (wait func()) {
	var group sync.WaitGroup
	for range min(readers, len(r.stages)) {
		group.Go(func() {
			for {
				select {
				case i := <-r.jobs:
					s := &r.stages[i%len(r.stages)]
					s.filled <- r.batches[i].fill(ctx, s.host.Bytes())
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for i := range r.stages {
		r.jobs <- i
	}
	return group.Wait
}

// fill copies the batch's parts into a buffer: by reading, where the file is at hand,
// so that 44 GB of it do not become memory of this process. A file that became
// shorter since it was opened is an error either way.
func (b *batch) fill(ctx context.Context, to []byte) (err error) {
	var reading *source
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, ok := fault.(interface{ Addr() uintptr }); !ok {
				panic(fault)
			}
			err = reading.unreadable(fault)
		}
	}()
	table := unsafe.Slice((*kernels.RepackPiece)(unsafe.Pointer(&to[b.table])), len(b.parts))
	for i, p := range b.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		reading = p.source
		into := to[p.at:][:p.high-p.low]
		if from := &p.source.from; from.Reader == nil {
			copy(into, from.Data[p.low:])
		} else if n, err := from.Reader.ReadAt(into, from.Offset+p.low); n < len(into) {
			return reading.unreadable(err)
		}
		table[i] = p.source.cut(p.low, p.high)
		table[i].Source = uint32(p.at)
	}
	return nil
}

func (s *source) unreadable(why any) error {
	return fmt.Errorf("%s cannot be read at offset %d of %s (%v): was the file cut short or its disk removed?", s.name, s.from.Offset, s.from.File, why)
}

// submit waits for batch i to be filled and puts its copy and its repacking into
// the streams. Half a ring later its buffer is free again.
func (r *ring) submit(ctx context.Context, i int) error {
	d, s, b := r.b.driver, &r.stages[i%len(r.stages)], &r.batches[i]
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case err := <-s.filled:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if i >= len(r.stages) {
		if err := d.Wait(r.copying, s.repacked); err != nil {
			return err
		}
	}
	if err := d.CopyIn(s.device, s.host.Slice(0, b.size()), r.copying); err != nil {
		return err
	}
	if err := d.Record(s.copied, r.copying); err != nil {
		return err
	}
	if err := d.Wait(r.repacks, s.copied); err != nil {
		return err
	}
	args := kernels.RepackArgs{Staging: uint64(s.device), Pieces: uint64(s.device) + uint64(b.table), Overflow: uint64(r.overflow), Count: uint32(len(b.parts))}
	err := d.Launch(&driver.Launch{Function: r.kernel, Grid: driver.Dim{args.Count, 32, 1}, Block: driver.Dim{256, 1, 1}, Stream: r.repacks, Args: kernels.Bytes(&args)})
	if err != nil {
		return err
	}
	if err := d.Record(s.repacked, r.repacks); err != nil {
		return err
	}
	lag := i - len(r.stages)/2
	if lag < 0 || lag+len(r.stages) >= len(r.batches) {
		return nil
	}
	if err := d.SynchroniseEvent(r.stages[lag%len(r.stages)].copied); err != nil {
		return err
	}
	r.jobs <- lag + len(r.stages)
	return nil
}

// finish waits for the last batch and asks what fp16 could not hold.
func (r *ring) finish(sources []source) error {
	d := r.b.driver
	if err := d.CopyOut(r.verdict, r.overflow, r.repacks); err != nil {
		return err
	}
	if err := d.Synchronise(r.repacks); err != nil {
		return err
	}
	if tensor := *(*uint32)(unsafe.Pointer(&r.verdict.Bytes()[0])); tensor > 0 {
		s := sources[tensor-1]
		return fmt.Errorf("cuda: %s in %s (%v) has values that fp16 cannot hold (beyond 65504, or no numbers): run it with --kernels generic",
			s.name, s.from.File, ops.Type(s.piece.Type))
	}
	return nil
}
