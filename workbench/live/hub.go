// Package live shows what runs to whoever watches, token by token, and takes commands that
// change it: the dashboard's side of the server. live.md of the handbook has the protocol.
//
//	hub := live.New(live.Options{Feed: events})
//	watch := hub.Attach(id, first, n, &request, live.Pace{})   // before the engine gets the request
//	watch.Token(choice, token)                                 // for each token
//	watch.End(choice, "stop", result)
//	http.Handle("/roundhouse/v1/live", hub)       // a WebSocket
//
// Nobody who makes tokens waits for one who watches: each watcher has a ring of frames, and
// what it is too slow for is dropped, counted and told.
package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Feed has the server's events.
type Feed interface {
	Subscribe(ctx context.Context, request string) iter.Seq[[]byte]
}

// Options of a Hub.
type Options struct {
	Feed Feed // nil for none
	// Vectors finds steering vectors by name, of a hidden size; nil for none.
	Vectors func(hidden int) func(name string) ([]float32, error)
}

// Bounds of what watchers cost.
const (
	maxSessions   = 64
	maxFrames     = 4096    // of a ring
	maxRingBytes  = 8 << 20 // likewise
	maxCandidates = 20
	resumeFor     = 30 * time.Second // a session outlives its connection
	maxStreams    = 1024             // that have ended, and are still told of
)

// Hub is where watchers and streams meet. It is safe for concurrent use.
type Hub struct {
	options Options
	count   atomic.Int64 // of sessions: nobody watches where it is 0

	began time.Time
	stop  chan struct{} // the end of its own goroutine

	mu       sync.RWMutex
	model    *hook.Model
	source   Source
	costs    map[string]*HookCost // of choices that have ended, by hook
	sessions map[string]*session
	streams  map[uint32]*stream
	next     uint32
	closed   bool
	running  sync.WaitGroup
}

// New returns a hub.
func New(o Options) *Hub {
	h := &Hub{options: o, began: time.Now(), stop: make(chan struct{}), costs: map[string]*HookCost{}, sessions: map[string]*session{}, streams: map[uint32]*stream{}}
	h.running.Go(h.measure)
	return h
}

// Source has the counters of a model and says what memory it has taken; *engine.Model is one.
type Source interface {
	Stats() engine.Stats
	Memory() []engine.MemoryShare
}

// SetModel says which model runs from now on, and who has its counters.
func (h *Hub) SetModel(m hook.Model, source Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.model, h.source = &m, source
}

// statsEvery is how often the engine's counters are sent.
const statsEvery = 500 * time.Millisecond

// measure sends the engine's counters to who wants them.
func (h *Hub) measure() {
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-tick.C:
		}
		h.mu.RLock()
		source, wanted := h.source, []*session{}
		for _, s := range h.sessions {
			if s.want.Load().stats {
				wanted = append(wanted, s)
			}
		}
		watchers, costs := len(h.sessions), h.hookCosts()
		h.mu.RUnlock()
		if source == nil || len(wanted) == 0 {
			continue
		}
		m := toStats(source.Stats())
		m.Seconds, m.Watchers, m.Hooks, m.Memory = time.Since(h.began).Seconds(), watchers, costs, []Memory{}
		for _, share := range source.Memory() {
			m.Memory = append(m.Memory, Memory(share))
		}
		for _, s := range wanted {
			s.send(m)
		}
	}
}

// toStats makes a message of counters.
func toStats(s engine.Stats) Stats {
	m := Stats{Op: "stats", Queued: s.Queued, Running: s.Running, Swapped: s.Swapped, PagesUsed: s.PagesUsed, PagesTotal: s.PagesTotal, SlotsUsed: s.SlotsUsed,
		SlotsTotal: s.SlotsTotal, Prompt: s.PromptTokens, Made: s.GeneratedTokens, Decode: s.Steps.Decode, Prefill: s.Steps.Prefill, Mixed: s.Steps.Mixed,
		StepSeconds: s.Steps.Seconds, Rows: s.Steps.BatchRows}
	for phase, took := range s.PhaseTimes {
		m.Phases = append(m.Phases, Phase{ops.Phase(phase).String(), took.Seconds()})
	}
	return m
}

// maxCosts bounds the names of hooks that costs are kept of: scripts that come along may have
// any name.
const maxCosts = 64

// spent adds what the hooks of a choice have cost; the lock is held.
func (h *Hub) spent(r engine.Result) {
	for _, u := range r.Hooks.Hooks {
		c := h.costs[u.Name]
		if c == nil {
			if len(h.costs) == maxCosts || u.Name == Name { // what watching costs is no cost of hooks
				continue
			}
			c = &HookCost{Name: u.Name}
			h.costs[u.Name] = c
		}
		c.Choices, c.Calls, c.Edits, c.Changed, c.Tokens = c.Choices+1, c.Calls+u.Calls, c.Edits+u.Edits, c.Changed+u.Changed, c.Tokens+r.Completion
		c.Seconds, c.Waited = c.Seconds+u.Time.Seconds(), c.Waited+u.Waited.Seconds()
		for _, n := range u.Faults {
			c.Faults += n
		}
	}
}

// hookCosts are the costs of all hooks, the dearest first; the lock is held.
func (h *Hub) hookCosts() []HookCost {
	list := make([]HookCost, 0, len(h.costs))
	for _, c := range h.costs {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b HookCost) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), strings.Compare(a.Name, b.Name))
	})
	return list
}

// Close ends all sessions.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.closed {
		close(h.stop)
	}
	h.closed = true
	sessions := slices.Collect(maps.Values(h.sessions))
	h.mu.Unlock()
	for _, s := range sessions {
		h.end(s)
	}
	h.running.Wait()
}

// stream is one choice that runs.
type stream struct {
	about Stream // guarded by Hub.mu
	shape hook.Shape
	steer *steerer                       // nil where it cannot be steered
	place int                            // position of its next token
	own   *float64                       // pace of the request
	pace  func(perSecond *float64) error // changes it; nil where that is not possible
	slow  *session                       // that has changed its pace; nil for nobody
}

// Pace is how fast the choices of a request go, in tokens a second; nil for as fast as they go.
type Pace struct {
	PerSecond *float64 // that the request asks for
	// Set changes that of the k-th, 0 to stand still. The error refuses a value. Nil where it
	// cannot be changed.
	Set func(k int, perSecond *float64) error
}

// Watch is what tells the hub of the choices of a request. Nil tells nobody.
type Watch struct {
	hub     *Hub
	first   int
	streams []*stream
}

// Attach tells the hub of the choices of a request, which have indices from first on, and
// asks the engine for what watchers want. Where nobody watches, the request stays as it is.
func (h *Hub) Attach(id string, first, n int, r *engine.Request, pace Pace) *Watch {
	if h == nil {
		return nil
	}
	watched := h.count.Load() > 0
	w := &Watch{hub: h, first: first}
	h.mu.Lock()
	defer h.mu.Unlock()
	watched = watched && h.model != nil
	if watched {
		r.Routing = true
		for _, one := range h.sessions { // ranking 20 of the demo's tokens costs 5 % of its step
			r.Candidates = max(r.Candidates, one.want.Load().candidates)
		}
	}
	for k := range n {
		h.next++
		s := &stream{about: Stream{Op: "stream", Handle: h.next, Request: id, Choice: first + k, State: "running", Prompt: len(r.Prompt), Routed: watched, Pace: pace.PerSecond}, place: len(r.Prompt), own: pace.PerSecond}
		if pace.Set != nil {
			s.pace = func(perSecond *float64) error { return pace.Set(k, perSecond) }
		}
		if watched {
			s.shape = h.model.Shape
			s.steer = &steerer{hub: h, stream: s}
		}
		h.streams[h.next] = s
		w.streams = append(w.streams, s)
		h.tell(s.about)
	}
	if watched {
		r.Hooks = h.steering(r.Hooks, w)
	}
	h.forget()
	return w
}

// forget lets go of the oldest streams that have ended; the lock is held.
func (h *Hub) forget() {
	if len(h.streams) <= maxStreams {
		return
	}
	for _, handle := range slices.Sorted(maps.Keys(h.streams)) {
		if h.streams[handle].about.State == "ended" {
			delete(h.streams, handle)
		}
		if len(h.streams) <= maxStreams/2 {
			return
		}
	}
}

// tell sends a message to all sessions; the lock is held.
func (h *Hub) tell(message any) {
	if len(h.sessions) == 0 {
		return
	}
	text, err := json.Marshal(message)
	if err != nil {
		return // our own types are JSON
	}
	for _, s := range h.sessions {
		s.push(frame{text: true, data: text})
	}
}

// Token tells of a token of the k-th choice.
func (w *Watch) Token(k int, t engine.Token) {
	if w == nil {
		return
	}
	h, s := w.hub, w.streams[k]
	h.mu.RLock()
	defer h.mu.RUnlock()
	position := s.place
	if t.Routing != nil { // hooks may have changed the prompt
		position = t.Routing.Position + 1
	}
	s.place = position + 1 // its own goroutine is the only one here
	if len(h.sessions) == 0 {
		return
	}
	h.spread(s, position, t)
}

// spread sends a token to the sessions that want it, which share its bytes where they want the
// same of it; the lock is held.
func (h *Hub) spread(s *stream, position int, t engine.Token) {
	made := map[string][]byte{}
	for _, one := range h.sessions {
		want := one.want.Load()
		if want.streams != nil && !want.streams[s.about.Request] {
			continue
		}
		data := made[want.key]
		if data == nil {
			out := Token{Handle: s.about.Handle, Position: position, ID: t.ID, Logprob: t.Logprob, Forced: t.Forced, Text: t.Text}
			if t.Routing != nil {
				out.Routing, out.Layers = t.Routing, want.of(t.Routing.Layers)
			}
			for _, c := range t.Candidates[:min(len(t.Candidates), want.candidates)] {
				out.Candidates = append(out.Candidates, hook.Candidate{ID: c.ID, Logprob: c.Logprob})
			}
			data = out.Append(make([]byte, 0, 256))
			made[want.key] = data
		}
		one.push(frame{data: data})
	}
}

// End tells how the k-th choice ended.
func (w *Watch) End(k int, reason string, r engine.Result) {
	if w == nil {
		return
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	s := w.streams[k]
	s.about.State, s.about.Reason, s.about.Made = "ended", reason, r.Completion
	w.hub.spent(r)
	w.hub.tell(s.about)
}

// steerer is the hook by which commands reach a stream.
type steerer struct {
	hook.None
	hub    *Hub
	stream *stream

	mu      sync.Mutex
	pending *order // nil for none
}

// order is steering that somebody asked for.
type order struct {
	steer   *hook.Steering
	raw     json.RawMessage
	session *session
	id      int
}

// Name is what reports call the hook by which commands reach a stream.
const Name = "dashboard"

// Spec implements hook.Hook.
func (s *steerer) Spec() hook.Spec { return hook.Spec{Name: Name, Events: hook.OnToken, Swift: true} }

// Token implements hook.Hook: what was asked for since the last token is in force from two
// positions on.
func (s *steerer) Token(c *hook.Call, _ *hook.Token) error {
	s.mu.Lock()
	o := s.pending
	s.pending = nil
	s.mu.Unlock()
	if o == nil {
		return nil
	}
	if err := c.Adopt(hook.Outcome{Steer: o.steer}); err != nil {
		return err
	}
	o.session.send(Steered{"steered", o.id, s.stream.about.Handle, c.Position + hook.DefaultLag})
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.stream.about.Steer = o.raw
	s.hub.tell(s.stream.about)
	return nil
}

// steering adds the steerers to a request's hooks.
func (h *Hub) steering(to *engine.Hooking, w *Watch) *engine.Hooking {
	out := engine.Hooking{}
	if to != nil {
		out = *to
	}
	start := out.Start
	out.Start = func(choice uint32) (list []hook.Hook, err error) {
		if start != nil {
			if list, err = start(choice); err != nil {
				return nil, err
			}
		}
		if len(list) < hook.MaxHooks && int(choice) < len(w.streams) {
			list = append(list, w.streams[choice].steer)
		}
		return list, nil
	}
	return &out
}

// steer carries out a command.
func (h *Hub) steer(from *session, c *Command) error {
	h.mu.RLock()
	s := h.streams[c.Handle]
	var running bool
	if s != nil {
		running = s.about.State == "running"
	}
	h.mu.RUnlock()
	switch {
	case s == nil:
		return fmt.Errorf("there is no stream %d", c.Handle)
	case !running:
		return fmt.Errorf("the stream %d has ended", c.Handle)
	case s.steer == nil:
		return errors.New("the stream began while nobody watched, and cannot be steered: begin another while this page is open")
	}
	var vectors func(string) ([]float32, error)
	if h.options.Vectors != nil {
		vectors = h.options.Vectors(s.shape.Hidden)
	}
	steer := hook.NewSteering(s.shape)
	if len(c.Steer) > 0 && string(c.Steer) != "null" {
		var err error
		if steer, err = hook.ParseSteering(c.Steer, s.shape, vectors); err != nil {
			return err
		}
	}
	s.steer.mu.Lock()
	defer s.steer.mu.Unlock()
	s.steer.pending = &order{steer, c.Steer, from, c.ID}
	return nil
}

// pace carries out a command: the stream goes at another speed while its session lasts.
func (h *Hub) pace(from *session, c *Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[c.Handle]
	switch {
	case s == nil:
		return fmt.Errorf("there is no stream %d", c.Handle)
	case s.about.State != "running":
		return fmt.Errorf("the stream %d has ended", c.Handle)
	case s.pace == nil:
		return fmt.Errorf("the pace of stream %d cannot be changed", c.Handle)
	}
	return h.slow(s, from, c.PerSecond)
}

// slow changes the pace of a stream, for a session or for nobody; the lock is held.
func (h *Hub) slow(s *stream, from *session, perSecond *float64) error {
	if err := s.pace(perSecond); err != nil {
		return err
	}
	s.slow, s.about.Pace = from, perSecond
	h.tell(s.about)
	return nil
}

// release gives the streams that a session has slowed down their own pace; the lock is held.
func (h *Hub) release(from *session) {
	for _, s := range h.streams {
		if s.slow == from && s.about.State == "running" {
			_ = h.slow(s, nil, s.own) // which was good before
		}
	}
}
