package host

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// State is what a plugin is doing.
type State string

// States.
const (
	Starting State = "starting"
	Ready    State = "ready"
	Waiting  State = "waiting" // it ended, and is started again in a while
	Broken   State = "broken"  // it ended too often: the breaker is open
	Stopped  State = "stopped"
)

// Plugin is one plugin, over all its launches. It is safe for concurrent use.
type Plugin struct {
	host      *Host
	installed *installed
	logs      logs
	restart   chan struct{} // of one place
	lingering sync.WaitGroup

	lines  rate // of its log that are published
	events rate // likewise

	calls, late, lost, faults atomic.Int64
	choices                   atomic.Int64 // open

	mu       sync.Mutex
	state    State
	changed  chan struct{} // closed at the next change of state
	now      *launched     // of Ready
	about    *About        // of the newest launch that came so far
	err      error         // why it is not ready
	until    time.Time     // of Waiting and Broken
	launches int
	since    time.Time // of Ready
	metrics  map[string]float64
}

func newPlugin(h *Host, i *installed) *Plugin {
	p := &Plugin{host: h, installed: i, restart: make(chan struct{}, 1), state: Starting, changed: make(chan struct{}), metrics: map[string]float64{}}
	p.logs.told = func(line Line) {
		if ok, missed := p.lines.take(); ok {
			h.options.Publish("plugin_log", Logged{Plugin: i.name, Level: line.Level, Text: line.Text, Missed: missed})
		}
	}
	return p
}

// Name is what the plugin is asked for by.
func (p *Plugin) Name() string { return p.installed.name }

// Logged is the data of "plugin_log".
type Logged struct {
	Plugin string `json:"plugin"`
	Level  string `json:"level"`
	Text   string `json:"text"`
	Missed int    `json:"missed,omitempty"` // lines before it, which came too fast to be published
}

// Changed is the data of "plugin_state".
type Changed struct {
	Plugin   string  `json:"plugin"`
	State    State   `json:"state"`
	Version  string  `json:"version,omitempty"`
	Launches int     `json:"launches"`
	Error    string  `json:"error,omitempty"`
	Again    float64 `json:"again_s,omitempty"` // until it is started again
}

// set changes the state and tells who waits.
func (p *Plugin) set(state State, now *launched, err error, wait time.Duration) {
	p.mu.Lock()
	p.state, p.now, p.err, p.until = state, now, err, time.Now().Add(wait)
	if now != nil {
		about := now.about
		p.about, p.since = &about, time.Now()
	}
	close(p.changed)
	p.changed = make(chan struct{})
	c := Changed{Plugin: p.Name(), State: state, Launches: p.launches, Again: wait.Seconds()}
	p.mu.Unlock()
	if now != nil {
		c.Version = now.about.Version
	}
	if err != nil {
		c.Error = err.Error()
		p.logs.add("error", c.Error)
	}
	p.host.options.Publish("plugin_state", c)
}

// UnavailableError says that a plugin does not run now.
type UnavailableError struct {
	Name  string
	After time.Duration // when to try again
	Err   error         // why
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the plugin %s does not run; it is started again in %v: %v", e.Name, e.After.Round(100*time.Millisecond), e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// await returns the plugin at work, and waits while it starts. Errors are
// *UnavailableError, or the context's.
func (p *Plugin) await(ctx context.Context) (*launched, error) {
	for {
		p.mu.Lock()
		state, now, err, until, changed := p.state, p.now, p.err, p.until, p.changed
		p.mu.Unlock()
		switch {
		case state == Ready && now.lives():
			return now, nil
		case state == Stopped:
			return nil, &UnavailableError{Name: p.Name(), After: time.Minute, Err: errClosed}
		case state == Broken || state == Waiting && time.Until(until) > time.Second:
			return nil, &UnavailableError{Name: p.Name(), After: max(time.Until(until), 0), Err: err}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// About returns what the plugin says of itself, and waits while it starts. Errors are as
// Start's.
func (p *Plugin) About(ctx context.Context) (About, error) {
	l, err := p.await(ctx)
	if err != nil {
		return About{}, err
	}
	return l.about, nil
}

// Service is the connection itself, for who checks what a plugin makes of messages that no
// choice sends. Errors are as Start's.
func (p *Plugin) Service(ctx context.Context) (pb.PluginServiceClient, error) {
	l, err := p.await(ctx)
	if err != nil {
		return nil, err
	}
	return l.service, nil
}

// linger does what is left to do for a choice that is closed: the host's Close waits for
// it. Behind that, nothing takes long, for the plugin is gone.
func (p *Plugin) linger(do func()) {
	p.mu.Lock()
	stopped := p.state == Stopped
	if !stopped {
		p.lingering.Go(do)
	}
	p.mu.Unlock()
	if stopped {
		do()
	}
}

// Restart ends the plugin's process and starts a new one; an open breaker is closed.
// Choices that use it lose it.
func (p *Plugin) Restart() {
	select {
	case p.restart <- struct{}{}:
	default: // one is on its way
	}
}

// Logs returns the newest n lines of its log; 0 for all that are kept.
func (p *Plugin) Logs(n int) []Line { return p.logs.list(n) }

// Stat is how a plugin fares.
type Stat struct {
	Name        string             `json:"name"`
	Version     string             `json:"version,omitempty"`
	Description string             `json:"description,omitempty"`
	State       State              `json:"state"`
	Error       string             `json:"error,omitempty"`
	Again       float64            `json:"again_s,omitempty"` // seconds until it is started again
	Up          float64            `json:"up_s,omitempty"`    // seconds since it is ready
	PID         int                `json:"pid,omitempty"`
	Launches    int                `json:"launches"`
	Choices     int64              `json:"choices"` // that use it now
	Calls       int64              `json:"calls"`
	Late        int64              `json:"late"`   // replies that came too late
	Lost        int64              `json:"lost"`   // events that an observer was too slow for
	Faults      int64              `json:"faults"` // calls without an answer that counts
	Metrics     map[string]float64 `json:"metrics,omitempty"`
}

// Stat returns how the plugin fares.
func (p *Plugin) Stat() Stat {
	s := Stat{Name: p.Name(), Calls: p.calls.Load(), Late: p.late.Load(), Lost: p.lost.Load(), Faults: p.faults.Load(), Choices: p.choices.Load(), Metrics: map[string]float64{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.State, s.Launches = p.state, p.launches
	if p.about != nil {
		s.Version, s.Description = p.about.Version, p.about.Description
	}
	switch {
	case p.state == Ready:
		s.Up = time.Since(p.since).Seconds()
		s.PID = p.now.process.started()
	case p.err != nil:
		s.Error, s.Again = p.err.Error(), max(0, time.Until(p.until).Seconds())
	}
	for name, v := range p.metrics {
		s.Metrics[name] = v
	}
	return s
}

// Bounds of what plugins tell beside choices.
const (
	maxMetrics    = 64
	maxEventBytes = 16 << 10
)

// Told is the data of "plugin_event".
type Told struct {
	Plugin string `json:"plugin"`
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Missed int    `json:"missed,omitempty"` // events before it, which came too fast to be published
}

// watch takes what the plugin tells beside choices, until the stream ends.
func (p *Plugin) watch(ctx context.Context, l *launched) {
	stream, err := l.service.Watch(ctx, &pb.WatchRequest{})
	if err != nil {
		return // its end is noticed elsewhere
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		p.report(m)
	}
}
