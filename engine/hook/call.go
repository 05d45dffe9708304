package hook

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// Call is one call of one handler: where it is, and what it may do beside its
// answer. It is good until the handler returns.
type Call struct {
	At
	Event Events
	// Steer is the hook's own steering. It stays from call to call; what a call
	// changes comes into force Lag positions behind its event.
	Steer *Steering

	chain   *Chain
	link    *link
	draws   uint32
	notices int
	limit   time.Duration // in the place of what the event has; 0 for that
	clock   Clock         // reads are pauses
	over    atomic.Bool

	stop   string
	inject []int32
	back   *rewind
}

// Usable is an error once the handler has returned.
func (c *Call) Usable() error {
	if c != nil && c.over.Load() {
		return faultf(Misuse, "a handle of the %s event of position %d was used after the handler returned", c.Event, c.Position)
	}
	return nil
}

// rareBudget is how many budgets a call may take that comes once for a sequence.
const rareBudget = 25

// coldBudget is how many the first call of a handler in another process may take. Beside
// a busy engine it was seen to take 2 to 5 ms of a budget of 2, and 0.2 from the next
// call on.
const coldBudget = 4

// Budget is how long the call may take, reads not counted; 0 for as long as it wants.
func (c *Call) Budget() time.Duration {
	if c.limit > 0 {
		return c.limit
	}
	if c.Event == 0 || c.Event == OnPrompt || c.Event == OnFinish {
		return rareBudget * c.link.budget
	}
	if c.link.spec.Far && !c.link.warm.Has(c.Event) {
		return coldBudget * c.link.budget
	}
	return c.link.budget
}

// Next is the position of the token to come.
func (c *Call) Next() int { return c.chain.turn }

// Busy is how long the call has taken so far, reads not counted.
func (c *Call) Busy() time.Duration { return c.clock.Busy() }

// wait counts a read, and what it takes does not count against the budget.
func (c *Call) wait(class ReadClass) func() {
	if c == nil {
		return func() {}
	}
	c.link.reads[class]++
	return c.clock.Pause()
}

// Aside is called where the host of a hook does work of its own, a reload say: until
// done is called, time does not count against the budget.
func (c *Call) Aside() (done func()) {
	if c == nil {
		return func() {}
	}
	return c.clock.Pause()
}

// Random returns the next random number of the call, in [0, 1).
func (c *Call) Random() float64 {
	draw := uint32(c.Event)<<24 | c.draws
	c.draws = (c.draws + 1) & (1<<24 - 1)
	return Random(Key{Seed: c.chain.options.Seed, Choice: uint32(c.Choice), Position: uint32(c.Position), Attempt: uint32(c.Attempt), Draw: draw})
}

// Bounds of notices.
const (
	maxNotices     = 32      // of a call
	maxNoticeBytes = 1 << 14 // of a text, or of JSON
)

// Emit tells whoever watches a named number, text or plain data.
func (c *Call) Emit(name string, value any) error {
	if err := c.Usable(); err != nil {
		return err
	}
	switch v := value.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return faultf(NotANumber, "emit of %q: the value is %v", name, v)
		}
	case string:
		if len(v) > maxNoticeBytes {
			value = strings.ToValidUTF8(v[:maxNoticeBytes], "") + "…"
		}
	case json.RawMessage:
		if len(v) > maxNoticeBytes {
			return faultf(BadValue, "emit of %q: %d bytes of JSON; %d at most", name, len(v), maxNoticeBytes)
		}
	}
	if len(name) == 0 || len(name) > 64 {
		return faultf(BadValue, "emit: a name of %d bytes; 1 to 64 are possible", len(name))
	}
	if c.notices++; c.notices > maxNotices {
		c.link.usage.Dropped++
		return nil
	}
	c.link.usage.Notices++
	c.chain.notify(Notice{Hook: c.link.spec.Name, Position: c.Position, Name: name, Value: value})
	return nil
}

// acts refuses verbs that change the course of the sequence where its next token
// may be decided already.
func (c *Call) acts(verb string) error {
	if err := c.Usable(); err != nil {
		return err
	}
	if c.Event == OnSample || c.Event == OnToken && c.link.lag == MinLag {
		return nil
	}
	return faultf(Misuse, "%s in %s: it works in sample, and in token with lag 1", verb, c.Event)
}

// Stop ends the choice: no further token is drawn.
func (c *Call) Stop(reason string) error {
	if err := c.acts("stop"); err != nil {
		return err
	}
	if reason == "" || len(reason) > 64 {
		return faultf(BadValue, "stop with a reason of %d bytes; 1 to 64 are possible", len(reason))
	}
	c.stop = reason
	return nil
}

// Inject makes ids the next tokens: in sample, from the token to be chosen on.
func (c *Call) Inject(ids []int32) error {
	if err := c.acts("inject"); err != nil {
		return err
	}
	if err := c.chain.checkIDs("inject", ids); err != nil {
		return err
	}
	if len(c.inject)+len(ids) > maxInjected {
		return faultf(BadValue, "inject of %d tokens: %d at a time", len(c.inject)+len(ids), maxInjected)
	}
	c.inject = append(c.inject, ids...)
	return nil
}

// maxInjected bounds the tokens that one call can force.
const maxInjected = 4096

func (c *Chain) checkIDs(what string, ids []int32) error {
	for _, id := range ids {
		if id < 0 || int(id) >= c.options.Tokens {
			return faultf(BadID, "%s of token %d: ids lie in 0 to %d", what, id, c.options.Tokens-1)
		}
	}
	return nil
}

// guarded guards against handlers that panic: hooks in Go are ours, but what they wrap
// is not.
func guarded(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Fault{Kind: Exception, Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	return do()
}
