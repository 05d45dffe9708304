package cache

import (
	"context"
	"fmt"
	"slices"
)

// place is one admission's place in the line. Admissions are served in the order
// in which they came, whether they wait (Acquire) or ask again (Turn).
type place struct {
	need  Need
	ready chan *Sequence // nil for the place of a Turn
}

// Acquire waits, in order of arrival, for a slot and the pages of so many
// tokens.
func (c *Cache) Acquire(ctx context.Context, tokens int) (*Sequence, error) {
	need := Need{Tokens: tokens, Count: 1}
	if !c.Fits(need) {
		return nil, fmt.Errorf("cache: %d tokens need %d pages and a slot, the pools have %d and %d: lower the length or raise the context",
			tokens, need.Pages(), len(c.uses), c.all)
	}
	p := &place{need: need, ready: make(chan *Sequence, 1)}
	c.mu.Lock()
	c.line = append(c.line, p)
	c.serve()
	c.mu.Unlock()
	select {
	case s := <-p.ready:
		return s, nil
	case <-ctx.Done():
		c.leave(p)
		select {
		case s := <-p.ready: // it was served at the same moment
			s.Release()
		default:
		}
		return nil, context.Cause(ctx)
	}
}

// serve admits from the front of the line while it fits, and tells the turns to
// ask again. The caller holds the lock.
func (c *Cache) serve() {
	for len(c.line) > 0 && c.line[0].ready != nil {
		made, ok := c.take(c.line[0].need)
		if !ok {
			break
		}
		c.line[0].ready <- made[0]
		c.line = slices.Delete(c.line, 0, 1)
	}
	for _, t := range c.turns {
		select {
		case t.Ready <- struct{}{}:
		default: // it was told already
		}
	}
}

func (c *Cache) leave(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.line, p); i >= 0 {
		c.line = slices.Delete(c.line, i, i+1)
		c.serve() // those behind p may fit now
	}
}

// Turn is a standing place in the line for a caller that does not block and
// whose next admission may change while it waits. One goroutine uses it.
type Turn struct {
	// Ready holds a value after something was given back or the line moved.
	Ready chan struct{}

	cache *Cache
	place *place // in line since a try failed, else nil
}

// NewTurn returns a turn that is not in line yet.
func (c *Cache) NewTurn() *Turn {
	t := &Turn{Ready: make(chan struct{}, 1), cache: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns = append(c.turns, t)
	return t
}

// TryAcquire admits, if nobody came earlier and it fits. If not, the turn keeps
// (or takes) its place in line: nobody behind it is served before the next try
// that succeeds, or Leave.
func (t *Turn) TryAcquire(n Need) ([]*Sequence, bool) {
	c := t.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) == 0 || c.line[0] == t.place {
		if made, ok := c.take(n); ok {
			if t.place != nil {
				c.line, t.place = slices.Delete(c.line, 0, 1), nil
				c.serve()
			}
			return made, true
		}
	}
	if t.place == nil {
		t.place = &place{}
		c.line = append(c.line, t.place)
	}
	return nil, false
}

// Leave gives up the place in line: there is nothing to admit any more.
func (t *Turn) Leave() {
	if t.place != nil {
		t.cache.leave(t.place)
		t.place = nil
	}
}
