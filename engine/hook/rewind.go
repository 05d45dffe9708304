package hook

import "slices"

// A rewind takes the last tokens of a choice back: what is drawn next stands in the
// place of the first of them. Tokens that were sent cannot be taken back, so a hook
// that means to rewind has some held (Spec.Hold). Steering, routing and the state of
// hooks go back with the tokens; random numbers are of another attempt.

// MaxHold is the most tokens that a hook can have held back: a rewind leaves half of
// the routing that Routing.Back reaches.
const MaxHold = MaxWindow / 2

// MaxRedraws is how often a position can be drawn again.
const MaxRedraws = 64

// Rewinder is a hook with state that goes back with a rewind.
type Rewinder interface {
	Hook
	// State returns the state, and Restore puts it back. They are called between
	// events.
	State() ([]byte, error)
	Restore(state []byte) error
}

// rewind is what a hook asked for.
type rewind struct {
	to   int
	same bool // the same attempt
}

// states are the states of the hooks before the logits event of a position.
type states struct {
	position int
	of       [][]byte // by link; nil for none
}

// Mark returns the position that Rewind would come back to here.
func (c *Call) Mark() (int, error) {
	if err := c.acts("snapshot"); err != nil {
		return 0, err
	}
	return c.chain.turn, c.reaches("snapshot", func(r *Reach) bool { return r.Rewind })
}

// Rewind draws again from a position on, which is that of the token to come (then it
// is drawn anew) or one of the tokens held back. With same, random numbers are those
// of before.
func (c *Call) Rewind(to int, same bool) error {
	if err := c.acts("rewind"); err != nil {
		return err
	}
	if err := c.reaches("rewind", func(r *Reach) bool { return r.Rewind }); err != nil {
		return err
	}
	chain := c.chain
	if chain.solo != nil {
		c.back = &rewind{to, same} // the chain says whether it can be
		return nil
	}
	oldest := max(chain.prompt, chain.turn-chain.hold())
	if to < oldest || to > chain.turn {
		return faultf(BadValue, "rewind to position %d: tokens from %d to %d can be taken back; script({ hold }) says how many are held", to, oldest, chain.turn)
	}
	if chain.redraws++; chain.redraws > MaxRedraws*max(1, chain.hold()) {
		return faultf(BadValue, "rewind: %d in a row without a new token", chain.redraws)
	}
	c.back = &rewind{to, same}
	return nil
}

// reaches refuses what the way to a far hook does not carry.
func (c *Call) reaches(verb string, carried func(*Reach) bool) error {
	if c.chain.solo != nil && !carried(c.chain.solo) {
		return faultf(Unsupported, "%s works in scripts of the folder only", verb)
	}
	return nil
}

// hold is how many tokens are held back.
func (c *Chain) hold() (n int) {
	for _, l := range c.links {
		n = max(n, l.spec.Hold)
	}
	return n
}

// keep keeps the states of hooks at the position whose turn it is.
func (c *Chain) keep() error {
	hold := c.hold()
	if hold == 0 {
		return nil
	}
	if c.turn > c.farthest {
		c.farthest, c.redraws = c.turn, 0
	}
	now := states{position: c.turn, of: make([][]byte, len(c.links))}
	for i, l := range c.links {
		r, ok := l.Hook.(Rewinder)
		if !ok || l.off {
			continue
		}
		state, err := r.State()
		if err != nil {
			if err := c.fail(l, OnLogits, At{Position: c.turn}, err); err != nil {
				return err
			}
			continue
		}
		now.of[i] = state
	}
	c.kept = append(slices.DeleteFunc(c.kept, func(s states) bool { return s.position >= c.turn || s.position < c.turn-hold }), now)
	return nil
}

// back takes everything back that came of a position and later ones.
func (c *Chain) back(to rewind) error {
	if !to.same {
		c.attempt++
	}
	c.turn = to.to
	c.queue = slices.DeleteFunc(c.queue, func(e event) bool { return e.position >= to.to })
	var kept states
	for _, s := range c.kept {
		if s.position == to.to {
			kept = s
		}
	}
	for i, l := range c.links {
		l.history.back(to.to, c.options.Shape.Experts)
		l.version = slices.DeleteFunc(l.version, func(v version) bool { return v.from > to.to })
		if then := l.at(to.to); then != nil {
			l.steer.replace(then)
		} else {
			l.steer.Reset()
		}
		l.seen = l.steer.changes
		r, ok := l.Hook.(Rewinder)
		if !ok || l.off || kept.of == nil || kept.of[i] == nil {
			continue
		}
		if err := r.Restore(kept.of[i]); err != nil {
			if err := c.fail(l, OnLogits, At{Position: to.to}, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// back drops the records of a position and later ones.
func (h *history) back(position, experts int) {
	for h.kept > 0 {
		newest := h.ring[(h.told-1)%MaxWindow]
		if newest.Position < position {
			return
		}
		for layer := range newest.Layers {
			for _, id := range newest.of(layer) {
				if int(id) < experts {
					h.counts[layer*experts+int(id)]--
				}
			}
		}
		h.told, h.kept = h.told-1, h.kept-1
	}
}
