package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// A fault is what a plugin does wrong, and what is to become of it. The plugin is this
// test's program: serve is its main.
type fault struct {
	name, what string
	serve      func()
	manifest   string // plugin.toml in the place of one that starts serve; %q is the program
	options    func(dir string, o *Options)
	model      *hook.Model // in the place of a small one
	beside     int         // choices at the same time

	kinds    []string // of the first fault that its choice gets, any of them; "nothing" for none
	refused  string   // part of the error, where it does not come to a choice
	dies     bool     // its process ends, and another is to take its place
	survives bool     // a process that it has started is out of reach
	check    func(t *testing.T, p *Plugin)
}

// faults are all that are tested.
var faults = slices.Concat(dyingFaults, slowFaults, loudFaults, wrongFaults, malformedFaults, launchFaults)

// byName finds the plugin of a fault.
func byName(name string) *fault {
	for i := range faults {
		if faults[i].name == name {
			return &faults[i]
		}
	}
	return nil
}

// outcome is what became of a fault.
type outcome struct {
	stopped   string        // the kind of the first fault, "start" or "launch"; "nothing" for none
	said      string        // by the error
	longest   time.Duration // of the calls
	recovered time.Duration // from the first fault until the plugin is ready again; 0 where it never was gone
	gap       time.Duration // longest between two tokens of the other stream
}

// Options of the faults: the host's own, but for how long it waits.
func faultOptions() Options {
	return Options{Env: []string{"GORACE"}, StartTimeout: 5 * time.Second, Grace: 500 * time.Millisecond, HealthEvery: 250 * time.Millisecond, Back: 50 * time.Millisecond}
}

// patience is how long a test waits for what is to happen.
const patience = 20 * time.Second

// TestFaults runs every fault, beside another stream.
func TestFaults(t *testing.T) {
	if len(faults) < 50 {
		t.Fatalf("%d faults", len(faults))
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0") // or each plugin takes a second to end under the race detector
	open(t, Options{}, "all").Close()       // what a first host starts for good is started
	report := Report{Budget: ms(budget), Health: ms(faultOptions().HealthEvery), Back: ms(faultOptions().Back), Alone: ms(alone(t))}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			before := count(t)
			limit := budget
			o := f.run(t, limit)
			if late := hook.OverBudget.String(); o.stopped == late && !f.dies && !slices.Contains(f.kinds, late) { // the machine was too slow
				limit *= 10
				o = f.run(t, limit)
			}
			slowly := f.dies && o.stopped == hook.OverBudget.String() // a process may take a while to end
			if f.refused == "" && !slowly && !slices.Contains(f.kinds, o.stopped) {
				t.Errorf("stopped by %s, want %v: %s", o.stopped, f.kinds, o.said)
			}
			if f.refused != "" && (o.stopped != "launch" || !strings.Contains(o.said, f.refused)) {
				t.Errorf("stopped by %s: %s; want an error with %q", o.stopped, o.said, f.refused)
			}
			if o.longest > 25*limit+time.Second {
				t.Errorf("a call took %v", o.longest)
			}
			before.compare(t)
			report.Faults = append(report.Faults, Row{f.name, f.what, o.stopped, o.said, ms(o.longest), ms(o.recovered), ms(o.gap), f.refused, f.dies, f.survives})
		})
	}
	report.write(t)
}

// budget of a call: the host's default.
const budget = 20 * time.Millisecond

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// run runs a fault, with a budget of a call.
func (f *fault) run(t *testing.T, budget time.Duration) (o outcome) {
	t.Helper()
	end := beside(t)
	defer func() { o.gap = end() }()
	options := faultOptions()
	options.Budget, options.Dir, options.Allow = budget, t.TempDir(), []string{f.name}
	f.install(t, options.Dir)
	if f.options != nil {
		f.options(options.Dir, &options)
	}
	h, err := Open(options)
	if err != nil {
		return outcome{stopped: "launch", said: err.Error()}
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if f.survives {
			reap(t, f.name)
		}
	}()
	p, err := h.Get(f.name)
	if err != nil {
		t.Fatal(err)
	}
	if f.refused != "" {
		within(t, "an error of its launch", func() bool { return p.Stat().Error != "" })
		return outcome{stopped: "launch", said: p.Stat().Error}
	}
	f.play(t, p, budget, &o)
	if f.check != nil {
		f.check(t, p)
	}
	return o
}

// install writes the plugin of a fault.
func (f *fault) install(t *testing.T, dir string) {
	t.Helper()
	if f.manifest == "" {
		install(t, dir, f.name)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(f.manifest, "PROGRAM", fmt.Sprintf("%q", program))
	folder := filepath.Join(dir, f.name)
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "plugin.toml"), []byte(text+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// within waits until something is so.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// play plays a choice to the plugin, and waits until it is ready again where it ended.
func (f *fault) play(t *testing.T, p *Plugin, budget time.Duration, o *outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	model := small
	if f.model != nil {
		model = *f.model
	}
	start := func() *Instance {
		i, err := p.Start(ctx, Env{Model: model})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	i := start()
	launches := p.Stat().Launches
	var struck time.Time
	o.stopped = "nothing"
	var running sync.WaitGroup
	others := make([]outcome, f.beside)
	for n := range others {
		other := start()
		running.Go(func() { others[n].stopped = "nothing"; others[n].choice(other, model, budget, func() {}) })
	}
	o.choice(i, model, budget, func() { struck = time.Now() })
	running.Wait()
	for _, other := range others {
		if o.longest = max(o.longest, other.longest); o.stopped == "nothing" {
			o.stopped, o.said = other.stopped, other.said
		}
	}
	if struck.IsZero() {
		struck = time.Now()
	}
	if !f.dies {
		if now := p.Stat(); now.Launches != launches || now.State != Ready {
			t.Errorf("it was started %d times, and is %s: %s", now.Launches, now.State, now.Error)
		}
		return
	}
	within(t, "a new launch", func() bool { return p.Stat().Launches > launches && p.Stat().State == Ready })
	o.recovered = time.Since(struck)
	again := outcome{stopped: "nothing"}
	again.choice(start(), model, budget, func() {})
	if again.stopped == "start" || strings.HasPrefix(again.said, "start") {
		t.Errorf("the next choice: %s", again.said)
	}
}

// choice plays one choice until it is over, or the hook is switched off.
func (o *outcome) choice(h hook.Hook, model hook.Model, budget time.Duration, struck func()) {
	off := false
	fail := func(err error) {
		var f *hook.Fault
		if o.stopped == "nothing" && errors.As(err, &f) {
			struck()
			o.stopped, o.said = f.Kind.String(), f.Error()
		}
	}
	notify := func(n hook.Notice) {
		if n.Fault != nil {
			off = off || n.Name == "off"
			fail(n.Fault)
		}
	}
	timed := func(do func() error) {
		began := time.Now()
		_ = do() // a fault is told
		o.longest = max(o.longest, time.Since(began))
	}
	var chain *hook.Chain
	timed(func() (err error) {
		chain, err = hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, Budget: budget, Notify: notify}, h)
		if fail(err); err != nil {
			o.said = "start: " + o.said
		}
		return err
	})
	if chain == nil {
		return
	}
	defer chain.Close()
	row := make(hook.Plain, model.Tokens)
	for n := range row {
		row[n] = float32(n % 7)
	}
	timed(func() error { _, err := chain.Prompt([]int32{1, 2, 3}); return err })
	for position := 3; position < 43 && !off; position++ {
		at := hook.At{Position: position}
		timed(func() error { _, err := chain.Logits(at, row, row); return err })
		timed(func() error { _, err := chain.Sample(at, chooser{}, nil); return err })
		timed(func() error { return chain.Within(hook.AtRouter, position, 1, make([]float32, model.Shape.Experts)) })
		chain.Token(hook.Token{Position: position, ID: 1, Text: "b"})
	}
	timed(func() error { chain.Finish(hook.Finish{Reason: "stop"}); return nil })
}

// chooser is a sampler of two tokens.
type chooser struct{}

func (chooser) Draw() (int32, error) { return 3, nil }

func (chooser) Candidates(int) ([]hook.Candidate, error) {
	return []hook.Candidate{{ID: 3}, {ID: 4}}, nil
}
