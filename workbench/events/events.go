// Package events carries what happens while requests run to whoever watches: the API's
// stream of events, the dashboard, the log.
//
//	hub := events.New(log)
//	hub.Publish("hook_fault", id, fault)
//	for event := range hub.Subscribe(ctx, "") { ... } // JSON
//
// Nobody who publishes waits for one who watches: a watcher that is slow loses events,
// and is told how many.
package events

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Event is one event, as JSON has it.
type Event struct {
	// Seq counts the events of the hub from 1 on. Of a subscriber that is told of one
	// request, or lost some, they are not consecutive.
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Request string    `json:"request,omitempty"` // id of the request that it belongs to
	Data    any       `json:"data,omitempty"`
}

const (
	// buffered is how many events wait for a subscriber before it loses some.
	buffered = 1024
	// bufferedBytes is how large they may be together.
	bufferedBytes = 1 << 20
	// maxSubscribers at a time; one more is told that there are too many.
	maxSubscribers = 64
)

// Hub passes events on. It is safe for concurrent use.
type Hub struct {
	log *slog.Logger

	mu          sync.Mutex
	seq         uint64
	closed      bool
	subscribers map[*subscriber]bool
}

// subscriber is somebody who watches.
type subscriber struct {
	request string // "" for all
	wake    chan struct{}
	// Guarded by the hub's lock.
	queue   [][]byte
	bytes   int
	dropped int // events lost behind the queue
	closed  bool
}

// New returns a hub that writes its events to a log too.
func New(log *slog.Logger) *Hub {
	return &Hub{log: log, subscribers: map[*subscriber]bool{}}
}

// Publish tells everybody of something. It does not wait; data, which becomes JSON,
// must not be changed later.
func (h *Hub) Publish(kind, request string, data any) {
	level := slog.LevelDebug
	switch {
	case strings.HasSuffix(kind, "_fault"):
		level = slog.LevelWarn
	case strings.HasSuffix(kind, "_recorded"): // whoever asked for it looks for the file
		level = slog.LevelInfo
	}
	if h.log.Enabled(context.Background(), level) {
		text, err := json.Marshal(data)
		if err != nil {
			text = []byte(err.Error())
		}
		h.log.Log(context.Background(), level, kind, "request_id", request, "event", string(text))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	var event []byte
	for s := range h.subscribers {
		if s.request != "" && s.request != request {
			continue
		}
		if event == nil {
			event = encode(Event{Seq: h.seq, Time: time.Now(), Kind: kind, Request: request, Data: data})
		}
		s.put(event)
	}
}

// encode makes JSON of an event; data that cannot be is left out, with the reason.
func encode(e Event) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		e.Data = map[string]string{"error": err.Error()}
		text, _ = json.Marshal(e) // a text always can
	}
	return text
}

// put queues an event, or counts it as lost.
func (s *subscriber) put(event []byte) {
	if s.dropped > 0 || len(s.queue) >= buffered || s.bytes+len(event) > bufferedBytes {
		s.dropped++ // until the queue is empty, so that the gap is one
	} else {
		s.queue, s.bytes = append(s.queue, event), s.bytes+len(event)
	}
	s.rouse()
}

func (s *subscriber) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// take empties the queue. open is false at the end.
func (h *Hub) take(s *subscriber) (events [][]byte, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events = s.queue
	if s.dropped > 0 {
		events = append(events, encode(Event{Seq: h.seq, Time: time.Now(), Kind: "dropped", Data: map[string]int{"dropped": s.dropped}}))
	}
	s.queue, s.bytes, s.dropped = nil, 0, 0
	return events, !s.closed
}

// Subscribe has the events that are published from now on, of one request or of all for
// "", as JSON: until ctx or the hub ends. Where some were lost, an event of the kind
// "dropped" says how many.
func (h *Hub) Subscribe(ctx context.Context, request string) iter.Seq[[]byte] {
	s := &subscriber{request: request, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	switch {
	case h.closed:
		s.closed = true
	case len(h.subscribers) >= maxSubscribers:
		s.closed = true
		s.put(encode(Event{Seq: h.seq, Time: time.Now(), Kind: "refused", Data: map[string]any{"subscribers": maxSubscribers}}))
	default:
		h.subscribers[s] = true
		context.AfterFunc(ctx, func() { h.leave(s) }) // also of one that is never read
	}
	h.mu.Unlock()
	return func(yield func([]byte) bool) {
		defer h.leave(s)
		for {
			events, open := h.take(s)
			for _, e := range events {
				if !yield(e) {
					return
				}
			}
			if !open {
				return
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (h *Hub) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, s)
}

// Close ends all subscriptions, after what is queued for them. What is published later
// goes to the log alone.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subscribers {
		s.closed = true
		delete(h.subscribers, s)
		s.rouse()
	}
}
