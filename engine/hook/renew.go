package hook

import "time"

// Renewer is a hook that can change into a newer version of itself between tokens.
type Renewer interface {
	Hook
	// Stale says that a newer version is there. It is asked before every token.
	Stale() bool
	// Renew changes into it, with neutral steering and the time that Start has. After
	// an error the hook goes on as it was.
	Renew(*Call) error
}

// renew lets hooks change into newer versions of themselves: what is due is told to
// the new ones. Their places in the chain stay as they are.
func (c *Chain) renew() {
	for _, l := range c.links {
		r, ok := l.Hook.(Renewer)
		if !ok || l.off || !r.Stale() {
			continue
		}
		before := *l.steer
		l.steer.Reset()
		call := c.open(l, 0, At{Position: c.turn, Choice: c.options.Choice, Phase: InDecode})
		err := c.close(call, guarded(func() error { return r.Renew(call) }))
		spec := l.Spec()
		if err == nil && (spec.Lag < 0 || spec.Lag > DefaultLag) {
			err = faultf(BadValue, "a lag of %d: it is %d or %d", spec.Lag, MinLag, DefaultLag)
		}
		if err == nil {
			err = c.checkInside(&spec)
		}
		if err != nil {
			*l.steer = before
			f := asFault(err)
			f.Hook, f.Event, f.Position = l.spec.Name, "reload", c.turn
			c.notify(Notice{Hook: f.Hook, Position: c.turn, Name: "reload", Fault: f})
			continue
		}
		l.adopt(spec, c.options.Budget)
		c.wants |= spec.Events
		l.mark(c.turn)
		c.notify(Notice{Hook: l.spec.Name, Position: c.turn, Name: "reload"})
	}
}

// adopt takes over what a hook declares.
func (l *link) adopt(spec Spec, budget time.Duration) {
	l.spec, l.lag, l.budget = spec, DefaultLag, budget
	if spec.Lag > 0 {
		l.lag = spec.Lag
	}
	if spec.Budget > 0 && budget > 0 {
		l.budget = spec.Budget
	}
}
