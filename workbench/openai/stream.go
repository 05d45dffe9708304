package openai

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// writeTimeout is how long a client may leave a piece of a stream unread
// before its work is stopped.
const writeTimeout = 30 * time.Second

// patience is how long the head of a stream waits for a first event: what the
// engine refuses at once, such as a full queue, still gets a status of its own.
const patience = 100 * time.Millisecond

// stream writes server-sent events. It says something at least every
// keep-alive interval, so that proxies and clients do not give up during a
// long prefill.
type stream struct {
	cancel context.CancelCauseFunc // ends the work when the client is gone
	stop   chan struct{}
	done   chan struct{} // closed by the goroutine of keepAlive

	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	last    time.Time // of the last write
	held    []byte    // events to send with the head
	opened  bool
	err     error // of the first write that failed
}

// openStream makes a stream whose head goes out with the first event, or after
// patience. The returned context ends with ctx, and when the client cannot be
// written to. The caller must call close.
func openStream(ctx context.Context, w http.ResponseWriter, every time.Duration) (*stream, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{
		cancel: cancel, w: w, control: http.NewResponseController(w),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go s.keepAlive(every)
	return s, ctx
}

// close waits for the keep-alive goroutine.
func (s *stream) close() {
	close(s.stop)
	<-s.done
	s.cancel(nil)
}

func (s *stream) keepAlive(every time.Duration) {
	defer close(s.done)
	head := time.NewTimer(min(patience, every))
	defer head.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-head.C:
			s.mu.Lock()
			if !s.opened {
				s.write(nil)
			}
			s.mu.Unlock()
		case <-tick.C:
			s.mu.Lock()
			if time.Since(s.last) >= every {
				s.write([]byte(": keep-alive\n\n"))
			}
			s.mu.Unlock()
		}
	}
}

// send writes one event with v as JSON, which has no line breaks.
func (s *stream) send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(eventOf(v))
	return s.err
}

// sendJSON writes one event that is JSON already, without line breaks.
func (s *stream) sendJSON(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(frame(data))
	return s.err
}

// hold is send for what need not open the stream by itself.
func (s *stream) hold(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened {
		s.write(eventOf(v))
	} else {
		s.held = append(s.held, eventOf(v)...)
	}
	return s.err
}

func eventOf(v any) []byte {
	data, err := marshal(v)
	if err != nil {
		panic(err) // our own types always marshal
	}
	return frame(data)
}

func frame(data []byte) []byte { return append(append([]byte("data: "), data...), "\n\n"...) }

// fail tells the client what ended the stream: with a status where nothing was
// sent yet, else in a last event. No [DONE] follows.
func (s *stream) fail(e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		s.opened = true
		e.write(s.w)
		return
	}
	s.write(eventOf(map[string]*Error{"error": e})) // nobody is left to be told of a failure
}

// end tells the client that the stream is complete.
func (s *stream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(frame([]byte("[DONE]")))
	return s.err
}

// write must be called with mu held.
func (s *stream) write(event []byte) {
	if s.err != nil {
		return
	}
	if !s.opened {
		s.opened = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // nginx would collect the events
		s.w.WriteHeader(http.StatusOK)
		event, s.held = append(s.held, event...), nil
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not possible on test recorders
	if _, s.err = s.w.Write(event); s.err == nil {
		s.err = s.control.Flush()
	}
	if s.last = time.Now(); s.err != nil {
		s.cancel(errGone)
	}
}
