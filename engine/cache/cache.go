// Package cache keeps what sequences carry from step to step: KV pages for the
// attention layers, and recurrent-state slots for the delta net layers. Both
// come from pools of a size fixed at load; a sequence is admitted only when
// everything it may need is free, so none can starve another half-way.
package cache

import (
	"context"
	"fmt"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Shape is what one layer stack keeps.
type Shape struct {
	Attention []bool // per layer: attention, else delta net
	Attn      ops.AttentionShape
	Delta     ops.DeltaNetShape
}

// KVBytesPerToken returns what one position takes, keys and values of all
// attention layers, fp32.
func (s Shape) KVBytesPerToken() int64 {
	return s.count(true) * 2 * int64(s.Attn.KVHeads*s.Attn.HeadDim) * ops.F32.Size()
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
	buffers := int64(2 * len(s.Attention)) // each may lose 64 bytes to alignment
	return int64(pages)*ops.PageTokens*s.KVBytesPerToken() + int64(slots)*s.StateBytes() + 64*buffers
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

	mu      sync.Mutex
	pages   []int32 // free
	slots   []int   // free
	limit   int     // pages in all
	waiting []*waiter
}

// waiter is an admission that does not fit yet. Admissions are served in order.
type waiter struct {
	pages int
	ready chan *Sequence
}

// New takes the memory of so many pages and slots from arena.
func New(arena ops.Arena, shape Shape, pages, slots int) (*Cache, error) {
	c := &Cache{Shape: shape, Layers: make([]Layer, len(shape.Attention)), limit: pages}
	for i, attention := range shape.Attention {
		var err error
		alloc := func(what string, n int64) (b ops.Buf) {
			if err == nil {
				b, err = arena.Alloc(fmt.Sprintf("%s of layer %d", what, i), ops.F32, n)
			}
			return b
		}
		if l := &c.Layers[i]; attention {
			l.Keys = alloc("keys", int64(pages)*shape.page())
			l.Values = alloc("values", int64(pages)*shape.page())
		} else {
			l.State = alloc("state", int64(slots)*shape.state())
			l.Window = alloc("conv window", int64(slots)*shape.window())
		}
		if err != nil {
			return nil, err
		}
	}
	for page := pages - 1; page >= 0; page-- {
		c.pages = append(c.pages, int32(page))
	}
	for slot := slots - 1; slot >= 0; slot-- {
		c.slots = append(c.slots, slot)
	}
	return c, nil
}

// Sequence is one sequence's place in the cache.
type Sequence struct {
	Slot  int
	Pages []int32
	cache *Cache
}

// Acquire waits, in order of arrival, for a slot and the pages of so many
// tokens.
func (c *Cache) Acquire(ctx context.Context, tokens int) (*Sequence, error) {
	need := PagesFor(tokens)
	if need > c.limit {
		return nil, fmt.Errorf("cache: %d tokens need %d pages, the pool has %d: lower the length or raise the context", tokens, need, c.limit)
	}
	w := &waiter{pages: need, ready: make(chan *Sequence, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, w)
	c.admit()
	c.mu.Unlock()
	select {
	case s := <-w.ready:
		return s, nil
	case <-ctx.Done():
		c.leave(w)
		return nil, context.Cause(ctx)
	}
}

// admit serves waiters from the front while they fit.
func (c *Cache) admit() {
	for len(c.waiting) > 0 && len(c.slots) > 0 && c.waiting[0].pages <= len(c.pages) {
		w := c.waiting[0]
		c.waiting = c.waiting[1:]
		rest := len(c.pages) - w.pages
		s := &Sequence{Slot: c.slots[len(c.slots)-1], Pages: append([]int32(nil), c.pages[rest:]...), cache: c}
		c.pages, c.slots = c.pages[:rest], c.slots[:len(c.slots)-1]
		w.ready <- s
	}
}

// leave takes back an admission whose caller has gone.
func (c *Cache) leave(w *waiter) {
	c.mu.Lock()
	for i, other := range c.waiting {
		if other == w {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			break
		}
	}
	c.admit() // those behind w may fit now
	c.mu.Unlock()
	select {
	case s := <-w.ready: // it was served at the same moment
		s.Release()
	default:
	}
}

// Release gives slot and pages back. A second call does nothing.
func (s *Sequence) Release() {
	c := s.cache
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages = append(c.pages, s.Pages...)
	c.slots = append(c.slots, s.Slot)
	s.cache, s.Pages = nil, nil
	c.admit()
}

// Free returns the free pages and slots, and how many admissions wait.
func (c *Cache) Free() (pages, slots, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pages), len(c.slots), len(c.waiting)
}
