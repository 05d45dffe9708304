// Package cache keeps what sequences carry from step to step: KV pages for the
// attention layers, and recurrent-state slots for the delta net layers. Both
// come from pools of a size fixed at load. A sequence is admitted when everything
// it may need is free, so none can starve another half-way; or (overcommit) when
// what it needs now is, and grows.
//
// Pages are counted: sequences that continue one prompt share its full pages.
package cache

import (
	"fmt"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Shape is what one layer stack keeps.
type Shape struct {
	Attention []bool // per layer: attention, else delta net
	Attn      ops.AttentionShape
	Delta     ops.DeltaNetShape
	KV        ops.Type // of keys and values: F32, F16 or BF16
}

// KVBytesPerToken returns what one position takes, keys and values of all
// attention layers.
func (s Shape) KVBytesPerToken() int64 {
	return s.count(true) * 2 * int64(s.Attn.KVHeads*s.Attn.HeadDim) * s.KV.Size()
}

// StateBytes returns what the recurrent state of one sequence takes, fp32.
func (s Shape) StateBytes() int64 {
	return s.count(false) * (s.state() + s.window()) * ops.F32.Size()
}

func (s Shape) state() int64 {
	return int64(s.Delta.ValueHeads * s.Delta.KeyDim * s.Delta.ValueDim)
}
func (s Shape) window() int64 { return int64(s.Delta.Channels() * (s.Delta.Kernel - 1)) }
func (s Shape) page() int64 {
	return int64(s.Attn.KVHeads * ops.PageTokens * s.Attn.HeadDim)
}

func (s Shape) count(attention bool) (n int64) {
	for _, a := range s.Attention {
		if a == attention {
			n++
		}
	}
	return n
}

// PagesFor returns the pages that so many positions take.
func PagesFor(tokens int) int { return (tokens + ops.PageTokens - 1) / ops.PageTokens }

// Bytes returns what a cache of so many pages and slots takes.
func (s Shape) Bytes(pages, slots int) int64 {
	buffers := int64(2 * len(s.Attention)) // each may lose 256 bytes to alignment
	return int64(pages)*ops.PageTokens*s.KVBytesPerToken() + int64(slots)*s.StateBytes() + 256*buffers
}

// Layer is the memory of one layer, of either kind.
type Layer struct {
	Keys, Values  ops.Buf // [pages, KVHeads, PageTokens, HeadDim]
	State, Window ops.Buf // [slots, ValueHeads, KeyDim, ValueDim], [slots, Channels, Kernel-1]
}

// Cache owns the pools. It is safe for concurrent use.
type Cache struct {
	Shape  Shape
	Layers []Layer

	mu    sync.Mutex
	pages []int32 // free
	uses  []int32 // of each page: how many sequences hold it
	slots []int   // free
	all   int     // slots in all
	line  []*place
	turns []*Turn
}

// New takes the memory of so many pages and slots from arena.
func New(arena ops.Arena, shape Shape, pages, slots int) (*Cache, error) {
	c := &Cache{Shape: shape, Layers: make([]Layer, len(shape.Attention)), all: slots}
	for i, attention := range shape.Attention {
		var err error
		alloc := func(what string, t ops.Type, n int64) (b ops.Buf) {
			if err == nil {
				b, err = arena.Alloc(fmt.Sprintf("%s of layer %d", what, i), t, n)
			}
			return b
		}
		if l := &c.Layers[i]; attention {
			l.Keys = alloc("keys", shape.KV, int64(pages)*shape.page())
			l.Values = alloc("values", shape.KV, int64(pages)*shape.page())
		} else {
			l.State = alloc("state", ops.F32, int64(slots)*shape.state())
			l.Window = alloc("conv window", ops.F32, int64(slots)*shape.window())
		}
		if err != nil {
			return nil, err
		}
	}
	c.uses = make([]int32, pages)
	for page := pages - 1; page >= 0; page-- {
		c.pages = append(c.pages, int32(page))
	}
	for slot := slots - 1; slot >= 0; slot-- {
		c.slots = append(c.slots, slot)
	}
	return c, nil
}

// Slot lists the buffers of a slot: recurrent state and window of each delta net
// layer.
func (c *Cache) Slot(slot int) (bufs []ops.Buf) {
	for i := range c.Layers {
		if !c.Shape.Attention[i] {
			state, window := c.Shape.state(), c.Shape.window()
			bufs = append(bufs, c.Layers[i].State.Slice(int64(slot)*state, state), c.Layers[i].Window.Slice(int64(slot)*window, window))
		}
	}
	return bufs
}

// Page lists the buffers of a page: keys and values of each attention layer.
func (c *Cache) Page(page int32) (bufs []ops.Buf) {
	for i := range c.Layers {
		if c.Shape.Attention[i] {
			n := c.Shape.page()
			bufs = append(bufs, c.Layers[i].Keys.Slice(int64(page)*n, n), c.Layers[i].Values.Slice(int64(page)*n, n))
		}
	}
	return bufs
}

// Sequence is one sequence's place in the cache.
type Sequence struct {
	Slot  int
	Pages []int32
	cache *Cache
}

// Need is what an admission asks for: Count sequences with room for Tokens
// positions each, which begin with the same Shared tokens. The full pages of
// those exist once. Spare pages must be free beside, and stay free.
type Need struct {
	Tokens, Count, Shared, Spare int
}

// Pages returns the pages that the admission takes.
func (n Need) Pages() int {
	full := n.Shared / ops.PageTokens
	if n.Count == 1 {
		full = 0
	}
	return full + n.Count*(PagesFor(n.Tokens)-full)
}

// Fits says whether the admission fits in an empty cache.
func (c *Cache) Fits(n Need) bool { return n.Count <= c.all && n.Pages() <= len(c.uses) }

// take admits what fits. The caller holds the lock.
func (c *Cache) take(n Need) ([]*Sequence, bool) {
	if n.Count > len(c.slots) || n.Pages()+n.Spare > len(c.pages) {
		return nil, false
	}
	var shared []int32
	if n.Count > 1 {
		shared = c.grab(n.Shared / ops.PageTokens)
	}
	made := make([]*Sequence, n.Count)
	for i := range made {
		s := &Sequence{cache: c}
		s.Slot, c.slots = c.slots[len(c.slots)-1], c.slots[:len(c.slots)-1]
		s.Pages = append(append(make([]int32, 0, PagesFor(n.Tokens)), shared...), c.grab(PagesFor(n.Tokens)-len(shared))...)
		for _, page := range s.Pages {
			c.uses[page]++
		}
		made[i] = s
	}
	return made, true
}

// grab takes n pages, which are there, off the pool. The result is valid until
// pages come back.
func (c *Cache) grab(n int) []int32 {
	rest := len(c.pages) - n
	taken := c.pages[rest:]
	c.pages = c.pages[:rest]
	return taken
}

// Grow takes pages until the sequence has room for so many tokens, and says
// whether there were enough. It does not stand in line: whoever grows was
// admitted before all who wait.
func (s *Sequence) Grow(tokens int) bool {
	more := PagesFor(tokens) - len(s.Pages)
	if more <= 0 {
		return true
	}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if more > len(c.pages) {
		return false
	}
	for _, page := range c.grab(more) {
		c.uses[page]++
		s.Pages = append(s.Pages, page)
	}
	return true
}

// Release gives slot and pages back; shared pages are free when the last
// sequence lets go. A second call does nothing.
func (s *Sequence) Release() {
	c := s.cache
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, page := range s.Pages {
		if c.uses[page]--; c.uses[page] == 0 {
			c.pages = append(c.pages, page)
		}
	}
	c.slots = append(c.slots, s.Slot)
	s.cache, s.Pages = nil, nil
	c.serve()
}

// Free returns the free pages and slots, and how many admissions wait.
func (c *Cache) Free() (pages, slots, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pages), len(c.slots), len(c.line)
}

// Size returns the pages and slots there are.
func (c *Cache) Size() (pages, slots int) { return len(c.uses), c.all }
