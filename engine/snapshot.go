package engine

import (
	"context"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Snapshot is what a sequence carried at one moment, in host memory. It can be
// restored any number of times, into sequences of the model that made it.
type Snapshot struct {
	stack  *stack
	length int
	data   []byte
}

// Length returns how many tokens the sequence had read.
func (s *Snapshot) Length() int { return s.length }

// Snapshot copies all that the sequence carries.
func (s *Sequence) Snapshot() (*Snapshot, error) {
	if err := s.m.hold(context.Background()); err != nil {
		return nil, err
	}
	defer s.m.release()
	data, err := s.m.save(s.stack, s.place, s.length)
	if err != nil {
		return nil, err
	}
	return &Snapshot{stack: s.stack, length: s.length, data: data}, nil
}

// Restore puts the sequence where the snapshot was taken: what is read next has
// the bits that it would have had there.
func (s *Sequence) Restore(from *Snapshot) error {
	if from.stack != s.stack {
		return fmt.Errorf("a snapshot of another model, or of its draft layer, does not fit this sequence")
	}
	if from.length > s.limit {
		return fmt.Errorf("a snapshot of %d tokens does not fit in a sequence with room for %d", from.length, s.limit)
	}
	if err := s.m.hold(context.Background()); err != nil {
		return err
	}
	defer s.m.release()
	if err := s.m.load(s.stack, s.place, from.length, from.data); err != nil {
		return err
	}
	s.length = from.length
	return nil
}

// carried lists the buffers that hold what a sequence of so many tokens carries.
func (s *stack) carried(place *cache.Sequence, tokens int) []ops.Buf {
	all := s.cache.Slot(place.Slot)
	for _, page := range place.Pages[:cache.PagesFor(tokens)] {
		all = append(all, s.cache.Page(page)...)
	}
	return all
}

// save copies what a sequence carries to host memory. The caller holds the device.
func (m *Model) save(s *stack, place *cache.Sequence, tokens int) ([]byte, error) {
	var size int64
	all := s.carried(place, tokens)
	for _, b := range all {
		size += b.Bytes()
	}
	data := make([]byte, size)
	left := data
	for _, b := range all {
		if err := m.backend.Read(left[:b.Bytes()], b); err != nil {
			return nil, err
		}
		left = left[b.Bytes():]
	}
	return data, nil
}

// load is the way back, into any place.
func (m *Model) load(s *stack, place *cache.Sequence, tokens int, data []byte) error {
	for _, b := range s.carried(place, tokens) {
		if err := m.backend.Write(b, data[:b.Bytes()]); err != nil {
			return err
		}
		data = data[b.Bytes():]
	}
	return nil
}
