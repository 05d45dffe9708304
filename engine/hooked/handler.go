package hooked

import (
	"errors"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// patience is how long Draw waits for hooks that do not read: what a script has for a
// token by default. Later the device goes on without them.
const patience = 2 * time.Millisecond

// handler is a call of logits hooks before there are logits, on a goroutine of its own.
type handler struct {
	s    *Sampler
	once sync.Once
	asks chan struct{} // closed when a hook wants to read
	rows chan struct{} // closed when entry and model are there
	done chan struct{} // closed when verdict and err are

	entry, model hook.Source
	verdict      hook.Verdict
	err          error
}

// call calls the hooks of the token at hand. It returns nil where they are done at once: nobody
// reads, and nobody waits.
func (s *Sampler) call() *handler {
	if s.needs.Slow&(hook.OnLogits|hook.OnToken|hook.OnRouting|hook.OnHidden) == 0 {
		s.verdict, s.err = s.chain.Logits(s.at, unread{}, unread{})
		return nil
	}
	h := &handler{s: s, asks: make(chan struct{}), rows: make(chan struct{}), done: make(chan struct{})}
	s.calling = h
	go func() {
		defer close(h.done)
		h.verdict, h.err = s.chain.Logits(s.at, &later{h, false}, &later{h, true})
	}()
	return h
}

// await waits for the hooks, and says whether they are done: else one waits for the
// row, or they take long.
func (h *handler) await() bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-h.done:
		return true
	case <-h.asks:
	case <-limit.C:
	}
	return false
}

// finish gives the hooks the row and waits for them.
func (h *handler) finish(out *ops.Sample, row func() ([]float32, error)) (hook.Verdict, error) {
	h.entry, h.model = h.s.base.Sources(out, row)
	close(h.rows)
	<-h.done
	return h.verdict, h.err
}

// errEnded ends the reads of hooks whose stream has ended meanwhile.
var errEnded = errors.New("the stream has ended")

// unread is the row of hooks that read none.
type unread struct{}

var errUnread = &hook.Fault{Kind: hook.Misuse, Err: errors.New("a hook that says that it is swift reads no row")}

func (unread) Top(int) ([]hook.Candidate, error) { return nil, errUnread }
func (unread) Logprob(int32) (float32, error)    { return 0, errUnread }
func (unread) Entropy() (float32, error)         { return 0, errUnread }
func (unread) Row() ([]float32, error)           { return nil, errUnread }

// later is a source that waits for its row.
type later struct {
	h     *handler
	model bool
}

func (l *later) source() (hook.Source, error) {
	l.h.once.Do(func() { close(l.h.asks) })
	select {
	case <-l.h.rows:
	case <-l.h.s.quit:
		return nil, errEnded
	}
	if l.model {
		return l.h.model, nil
	}
	return l.h.entry, nil
}

func (l *later) Top(k int) ([]hook.Candidate, error) {
	s, err := l.source()
	if err != nil {
		return nil, err
	}
	return s.Top(k)
}

func (l *later) Logprob(id int32) (float32, error) {
	s, err := l.source()
	if err != nil {
		return 0, err
	}
	return s.Logprob(id)
}

func (l *later) Entropy() (float32, error) {
	s, err := l.source()
	if err != nil {
		return 0, err
	}
	return s.Entropy()
}

func (l *later) Row() ([]float32, error) {
	s, err := l.source()
	if err != nil {
		return nil, err
	}
	return s.Row()
}
