package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// supervise keeps the plugin running until the context ends.
func (p *Plugin) supervise(ctx context.Context) {
	o := &p.host.options
	ends := 0 // in a row
	for ctx.Err() == nil {
		p.mu.Lock()
		p.launches++
		p.mu.Unlock()
		p.set(Starting, nil, nil, 0)
		ran, err := p.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		var asked *restartError
		if errors.As(err, &asked) {
			ends = 0
			continue
		}
		if ran > o.MaxBack {
			ends = 0
		}
		ends++
		wait, state := min(o.MaxBack, o.Back<<min(ends-1, 20)), Waiting
		if ends >= o.Break {
			wait, state = o.BreakFor, Broken
		}
		p.set(state, nil, err, wait)
		if p.pause(ctx, wait) {
			ends = 0
		}
	}
	p.set(Stopped, nil, nil, 0)
}

// pause waits; true says that somebody asked for a start before.
func (p *Plugin) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.restart:
		return true
	}
	return false
}

// restartError says that somebody asked for a restart.
type restartError struct{}

func (*restartError) Error() string { return "a restart was asked for" }

// serve launches the plugin and returns how long it was ready, and why it is no longer
// there, once nothing of it is.
func (p *Plugin) serve(ctx context.Context) (ran time.Duration, err error) {
	l, err := p.host.launch(ctx, p.installed, &p.logs)
	if err != nil {
		return 0, err
	}
	inner, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { p.watch(inner, l) })
	p.set(Ready, l, nil, 0)
	began := time.Now()
	err = p.keep(ctx, l)
	ran = time.Since(began)
	p.mu.Lock()
	p.state, p.now = Starting, nil // nobody begins with it any more; who waits goes on waiting
	p.mu.Unlock()
	l.stop(p.host.options.Grace)
	cancel()
	beside.Wait()
	return ran, err
}

// keep watches a plugin until it ends, or has to.
func (p *Plugin) keep(ctx context.Context, l *launched) error {
	every := p.host.options.HealthEvery
	tick := time.NewTicker(every)
	defer tick.Stop()
	missed := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.restart:
			return &restartError{}
		case <-l.process.ended:
			return fmt.Errorf("the plugin %s ended: %v", p.Name(), l.process.cmd.ProcessState)
		case <-tick.C:
		}
		check, cancel := context.WithTimeout(ctx, every)
		err := l.healthy(check)
		cancel()
		if err == nil {
			missed = 0
			continue
		}
		if missed++; missed == 2 {
			l.process.killGroup() // it would not end by itself
			return fmt.Errorf("the plugin %s is not well: %w", p.Name(), err)
		}
	}
}

// report takes one thing that a plugin tells.
func (p *Plugin) report(m *pb.WatchResponse) {
	if text := m.GetLog(); text != nil {
		level := map[pb.Level]string{pb.Level_LEVEL_DEBUG: "debug", pb.Level_LEVEL_WARN: "warn", pb.Level_LEVEL_ERROR: "error"}[text.GetLevel()]
		if level == "" {
			level = "info"
		}
		message := text.GetMessage()
		p.logs.add(level, message[:min(len(message), maxLineBytes)])
	}
	if metric := m.GetMetric(); metric != nil {
		p.mu.Lock()
		_, known := p.metrics[metric.GetName()]
		ok := wire.PlainName(metric.GetName()) && (known || len(p.metrics) < maxMetrics) && !math.IsNaN(metric.GetValue())
		if ok {
			p.metrics[metric.GetName()] = metric.GetValue()
		}
		p.mu.Unlock()
		if !ok {
			p.logs.add("warn", fmt.Sprintf("the metric %.80q = %v is left out: names are made of a-z, 0-9 and _, %d at most, and values are numbers", metric.GetName(), metric.GetValue(), maxMetrics))
		}
	}
	if e := m.GetEvent(); e != nil {
		if !wire.PlainName(e.GetName()) || len(e.GetJson()) > maxEventBytes || !json.Valid([]byte(e.GetJson())) {
			p.logs.add("warn", fmt.Sprintf("the event %.80q is left out: names are made of a-z, 0-9, _ and -, and values are JSON of %d bytes at most", e.GetName(), maxEventBytes))
			return
		}
		if ok, missed := p.events.take(); ok {
			p.host.options.Publish("plugin_event", Told{Plugin: p.Name(), Name: e.GetName(), Value: json.RawMessage(e.GetJson()), Missed: missed})
		}
	}
}
