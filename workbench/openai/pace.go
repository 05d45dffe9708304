package openai

import (
	"context"
	"sync"
	"time"
)

// maxPace is the fastest pace that can be asked for, tokens a second.
const maxPace = 10_000

// Full is the pace of a choice that nobody slows down.
const Full = -1

// pace lets the tokens of a choice go at a speed that people can follow. The engine waits
// for who takes tokens, with this choice alone.
type pace struct {
	mu      sync.Mutex
	every   time.Duration // between two tokens; 0 for none, negative to stand still
	next    time.Time     // when the next token may go
	changed chan struct{} // closed when every changes
}

// newPace begins with so many tokens a second.
func newPace(perSecond float64) *pace {
	p := &pace{changed: make(chan struct{})}
	p.set(perSecond)
	return p
}

// set changes the tokens a second from now on: Full, or 0 to stand still.
func (p *pace) set(perSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case perSecond < 0:
		p.every = 0
	case perSecond == 0:
		p.every = -1
	default:
		p.every = time.Duration(float64(time.Second) / perSecond)
	}
	p.next = time.Now().Add(p.every)
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait waits until the next token may go. The error is that of ctx.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		left, still, changed := time.Until(p.next), p.every < 0, p.changed
		if !still && left <= 0 {
			p.next = time.Now().Add(p.every)
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		if still {
			left = time.Hour
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}
