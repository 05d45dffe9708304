package hook

import "slices"

// version is a hook's steering from a position on.
type version struct {
	from     int
	steering *Steering
}

// merged is the steering of all hooks, as it was put together last.
type merged struct {
	parts    []*Steering
	steering *Steering
	done     bool
}

// mark notes changes of the hook's steering, in force from a row on: that of the
// position whose turn it is, which is lag positions behind a token or routing event.
// Earlier versions stay, for rows that are read again.
func (l *link) mark(from int) {
	if l.steer.changes == l.seen {
		return
	}
	l.seen = l.steer.changes
	now := *l.steer
	if last := len(l.version) - 1; last >= 0 && l.version[last].from == from {
		l.version[last].steering = &now
		return
	}
	l.version = append(l.version, version{from, &now})
	if len(l.usage.Steered) < maxSteered {
		l.usage.Steered = append(l.usage.Steered, from)
	}
}

// at is the hook's steering in force at a position; nil for none.
func (l *link) at(position int) *Steering {
	for _, v := range slices.Backward(l.version) {
		if v.from <= position {
			return v.steering
		}
	}
	return nil
}

// Steer returns the steering of the row at a position; nil where it is left alone.
// As long as nothing changes it is the same pointer, and it is never written to. Ask
// for a row after Logits of its position, for rows of the prompt after Prompt. Rows
// may be asked for again, in any order.
func (c *Chain) Steer(position int) (*Steering, error) {
	if c == nil {
		return nil, nil
	}
	parts := make([]*Steering, 0, 1+len(c.links))
	pick := func(s *Steering) {
		if s.Neutral() || s.decodeOnly && position < c.prompt {
			s = nil
		}
		parts = append(parts, s)
	}
	pick(c.options.Steer)
	for _, l := range c.links {
		pick(l.at(position))
	}
	if c.merged.done && slices.Equal(parts, c.merged.parts) {
		return c.merged.steering, nil
	}
	steering, err := c.merge(parts, position)
	if err != nil {
		return nil, err
	}
	c.merged = merged{parts: parts, steering: steering, done: true}
	return steering, nil
}

// merge puts steering together by priority. Who contradicts those before is left out.
func (c *Chain) merge(parts []*Steering, position int) (*Steering, error) {
	out := NewSteering(c.options.Shape)
	for i, s := range parts {
		if s == nil {
			continue
		}
		err := out.behind(s)
		if err == nil {
			continue
		}
		if i == 0 {
			return nil, err
		}
		if err := c.fail(c.links[i-1], OnRouting, At{Position: position}, err); err != nil {
			return nil, err
		}
	}
	if out.Neutral() {
		return nil, nil
	}
	return out, nil
}

// Digest names what steering does to the prompt, for the key of a prefix cache; ""
// where it does nothing.
func (c *Chain) Digest() (string, error) {
	s, err := c.Steer(0)
	return s.Digest(), err
}
