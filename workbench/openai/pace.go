package openai

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxPace is the fastest pace that can be asked for, tokens a second.
const maxPace = 10_000

// errPace refuses a pace.
var errPace = fmt.Errorf("a pace lies in 0 to %d tokens a second", maxPace)

// pace lets the tokens of a choice go at a speed that people can follow. The engine waits
// for who takes tokens, with this choice alone.
type pace struct {
	mu      sync.Mutex
	every   time.Duration // between two tokens; 0 for none, negative to stand still
	next    time.Time     // when the next token may go
	changed chan struct{} // closed when every changes
}

// newPace begins as fast as it goes.
func newPace() *pace { return &pace{changed: make(chan struct{})} }

// set changes the tokens a second from now on: 0 to stand still, nil for as fast as it goes.
func (p *pace) set(perSecond *float64) error {
	if perSecond != nil && !(*perSecond >= 0 && *perSecond <= maxPace) {
		return errPace
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case perSecond == nil:
		p.every = 0
	case *perSecond == 0:
		p.every = -1
	default:
		p.every = time.Duration(float64(time.Second) / *perSecond)
	}
	p.next = time.Now().Add(p.every)
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
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
