package hook

import (
	"sync/atomic"
	"time"
)

// Clock counts how long somebody is at work: pauses do not count. One goroutine at a time
// pauses it; others may ask.
type Clock struct {
	began  time.Time
	waited atomic.Int64 // in pauses, nanoseconds
	since  atomic.Int64 // when the pause of the moment began, after began; 0 for none
}

// NewClock returns one that runs.
func NewClock() *Clock { return &Clock{began: time.Now()} }

// Busy is the time at work so far.
func (c *Clock) Busy() time.Duration {
	now := time.Since(c.began)
	if since := c.since.Load(); since > 0 {
		now = time.Duration(since)
	}
	return now - c.Waited()
}

// Waited is the time in pauses that are over.
func (c *Clock) Waited() time.Duration { return time.Duration(c.waited.Load()) }

// Paused says that it stands.
func (c *Clock) Paused() bool { return c.since.Load() > 0 }

// Pause stops it until done is called.
func (c *Clock) Pause() (done func()) {
	since := int64(time.Since(c.began))
	c.since.Store(max(since, 1))
	return func() {
		c.waited.Add(int64(time.Since(c.began)) - since)
		c.since.Store(0)
	}
}
