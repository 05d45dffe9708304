package cuda

import (
	"fmt"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// steering is the steering tables of a program, one for each state slot, and what
// lies in them. A table is a block for each layer, in words of 32 bits:
//
//	0          factor of the shared expert's gate, less one (fp32)
//	1          experts to choose; 0 for the model's
//	2          steerExperts where bias and scale are there, steerVector where a vector is
//	3          strength of the vector (fp32)
//	4          bias [experts], scale [experts], vector [hidden], fp32; padded to 16 bytes
//
// The kernels read it through steer.cuh. Zeros change nothing; rows of a slot without
// steering have no table at all.
type steering struct {
	b                          *Backend
	layers, experts, k, hidden int
	tables                     driver.Ptr
	lies                       []*ops.Steering // in the table of each slot

	staging driver.Host // blocks on their way
	used    int
}

// Flags of a block.
const (
	steerExperts = 1
	steerVector  = 2
	steerHeader  = 4 // words
)

// words is the size of a block.
func (s *steering) words() int { return (steerHeader + 2*s.experts + s.hidden + 3) &^ 3 }

// stride is the words from one table to the next.
func (s *steering) stride() int { return s.layers * s.words() }

// layer is where the first table has a layer's block.
func (s *steering) layer(i int) driver.Ptr { return s.tables + driver.Ptr(4*i*s.words()) }

// grow makes room for a layer that was recorded.
func (s *steering) grow(layer, experts, k, hidden int) error {
	for _, d := range []struct {
		have *int
		want int
	}{{&s.experts, experts}, {&s.k, k}, {&s.hidden, hidden}} {
		if *d.have != 0 && d.want != 0 && *d.have != d.want {
			return fmt.Errorf("cuda: layer %d has %d experts, %d of them to choose, hidden size %d; another has %d, %d, %d",
				layer, experts, k, hidden, s.experts, s.k, s.hidden)
		}
		*d.have = max(*d.have, d.want)
	}
	s.layers = max(s.layers, layer+1)
	return nil
}

// open allocates the tables, once every layer was recorded.
func (s *steering) open() error {
	s.lies = make([]*ops.Steering, s.b.options.Streams)
	tables, err := s.b.scratch.Alloc("steering tables", ops.U8, int64(len(s.lies)*s.stride()*4))
	if err != nil {
		return err
	}
	s.tables = at(tables)
	s.staging, err = s.b.driver.AllocHost(2 * s.stride() * 4) // two tables: one may be on its way while the next is made
	return err
}

func (s *steering) close() error {
	if s.staging.Len() == 0 {
		return nil
	}
	return s.b.driver.FreeHost(s.staging)
}

// prepare checks the steering of a step, and puts the blocks that its slots' tables
// lack into the stream.
func (s *steering) prepare(step *ops.Step) error {
	seen := map[int]*ops.Steering{}
	for i := range step.Segments {
		segment := &step.Segments[i]
		if segment.Steer == nil {
			continue
		}
		if other, ok := seen[segment.Slot]; ok && other != segment.Steer {
			return fmt.Errorf("cuda: two segments of slot %d are steered differently: put them into steps of their own", segment.Slot)
		}
		seen[segment.Slot] = segment.Steer
		if s.lies[segment.Slot] == segment.Steer {
			continue
		}
		if err := segment.Steer.Check(s.layers, s.experts, s.k, s.hidden); err != nil {
			return err
		}
	}
	for i := range step.Segments {
		segment := &step.Segments[i]
		if err := s.load(segment.Slot, segment.Steer); err != nil {
			return fmt.Errorf("steering of slot %d: %w", segment.Slot, err)
		}
	}
	return nil
}

// load brings a slot's table up to date.
func (s *steering) load(slot int, steer *ops.Steering) error {
	old := s.lies[slot]
	if steer == nil || steer == old {
		return nil
	}
	s.lies[slot] = nil // until all of it is on its way
	table := s.tables + driver.Ptr(4*slot*s.stride())
	for layer := range s.layers {
		have, want := layerOf(old, layer), layerOf(steer, layer)
		if want.Neutral() && have.Neutral() && old != nil {
			continue
		}
		if err := s.send(table+driver.Ptr(4*layer*s.words()), want); err != nil {
			return err
		}
	}
	s.lies[slot] = steer
	return nil
}

// layerOf is the steering of a layer, zero where there is none.
func layerOf(s *ops.Steering, layer int) *ops.LayerSteering {
	if s == nil || layer >= len(s.Layers) {
		return &ops.LayerSteering{}
	}
	return &s.Layers[layer]
}

// send copies a layer's block to the device: its header alone where nothing lies
// behind it.
func (s *steering) send(to driver.Ptr, l *ops.LayerSteering) error {
	size := 4 * s.words()
	if s.used+size > s.staging.Len() {
		if err := s.b.driver.Synchronise(s.b.stream); err != nil {
			return err
		}
		s.used = 0
	}
	from := s.staging.Slice(s.used, s.used+size)
	n := s.write(part[float32](from.Bytes(), 0, s.words()), l)
	s.used += (4*n + 15) &^ 15
	return s.b.driver.CopyIn(to, from.Slice(0, 4*n), s.b.stream)
}

// write makes a layer's block and returns how many words of it count.
func (s *steering) write(block []float32, l *ops.LayerSteering) int {
	head := unsafe.Slice((*uint32)(unsafe.Pointer(&block[0])), steerHeader)
	block[0], head[1], head[2], block[3] = l.Gate, uint32(l.K), 0, l.Strength
	n := steerHeader
	if len(l.Bias)+len(l.Scale) > 0 {
		head[2] |= steerExperts
		bias, scale := block[n:][:s.experts], block[n+s.experts:][:s.experts]
		for i := range bias {
			bias[i], scale[i] = 0, 1
		}
		for _, v := range l.Bias {
			bias[v.Expert] = v.Value
		}
		for _, v := range l.Scale {
			scale[v.Expert] = v.Value
		}
		n += 2 * s.experts
	}
	if l.Adds() {
		head[2] |= steerVector
		n = steerHeader + 2*s.experts
		n += copy(block[n:], l.Vector)
	}
	return n
}

// table is the steering table of a segment, -1 for none.
func (s *steering) table(segment *ops.Segment) int32 {
	if segment.Steer == nil {
		return -1
	}
	return int32(segment.Slot)
}

// steered is the recording's tables, for a layer of that shape; 0 says that the
// phase at hand does not know.
func (r *recorder) steered(layer, experts, k, hidden int) *steering {
	if r.steer == nil {
		r.steer = &steering{b: r.b}
	}
	r.note(r.steer.grow(layer, experts, k, hidden))
	return r.steer
}
