package workbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// ScriptsTestOptions are what `scripts test` is called with.
type ScriptsTestOptions struct {
	Names []string // all that have tests where there are none
	Watch bool     // run again whenever files change
	JSON  bool
}

// watchEvery is how often the files of tests are looked at.
const watchEvery = 300 * time.Millisecond

// ScriptsTest runs the tests of scripts, without a model; ErrFindings says that some
// failed. With Watch it goes on until SIGINT or SIGTERM.
func (a *App) ScriptsTest(ctx context.Context, o ScriptsTestOptions) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	store, err := a.openScripts(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// Names of vectors lead to the folder of the server.
	options := scripts.TestOptions{Vectors: hooks.Vectors(a.vectorsDir())}
	if !o.Watch {
		_, err := a.testScripts(ctx, store, o, options)
		return err
	}
	return a.watchTests(ctx, store, o, options)
}

// watchTests runs the tests, and again whenever files that they looked at change.
func (a *App) watchTests(ctx context.Context, store *scripts.Store, o ScriptsTestOptions, options scripts.TestOptions) error {
	var looked []string
	for ctx.Err() == nil {
		before, err := o.state(store, looked)
		if err != nil {
			return err
		}
		now, err := a.testScripts(ctx, store, o, options)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // whoever watched has had enough
		case errors.Is(err, errNoTests):
			fmt.Fprintln(a.Err, err)
		case err != nil && !errors.Is(err, ErrFindings):
			return err
		}
		slices.Sort(now)
		known := looked
		looked = slices.Compact(now)
		after, err := o.state(store, looked)
		if meanwhile, stateErr := o.state(store, known); err != nil || stateErr != nil || meanwhile != before {
			continue // it changed while they ran
		}
		fmt.Fprintln(a.Err, a.style(a.Err).Dim("watching for changes; ctrl-C ends"))
		if err := o.wait(ctx, store, looked, after); err != nil {
			return err
		}
	}
	return nil
}

// state is another one once files were changed, or tests came or went.
func (o ScriptsTestOptions) state(store *scripts.Store, looked []string) (string, error) {
	names := o.Names
	if len(names) == 0 {
		var err error
		if names, err = store.Tests(); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%q %x", names, store.Stamp(looked)), nil
}

// wait waits for another state, or the end.
func (o ScriptsTestOptions) wait(ctx context.Context, store *scripts.Store, looked []string, before string) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var err error
	for now := before; err == nil && now == before; now, err = o.state(store, looked) {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
	return err
}

// errNoTests says that there is nothing to run.
var errNoTests = errors.New("there are no tests in the folder: the tests of a script, name.ts, are in name.test.ts beside it")

// testScripts runs tests once and says which files they looked at.
func (a *App) testScripts(ctx context.Context, store *scripts.Store, o ScriptsTestOptions, options scripts.TestOptions) (looked []string, err error) {
	names := o.Names
	if len(names) == 0 {
		if names, err = store.Tests(); err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, errNoTests
		}
	}
	began := time.Now()
	reports := make([]*scripts.TestReport, 0, len(names))
	for _, name := range names {
		r := store.Test(ctx, name, options)
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if reports = append(reports, r); !o.JSON {
			a.printTests(name, r)
		}
		looked = append(looked, r.Looked...)
	}
	if o.JSON {
		return looked, a.testsJSON(names, reports)
	}
	return looked, a.sumTests(reports, time.Since(began))
}

// printTests prints what came of the tests of a script.
func (a *App) printTests(name string, r *scripts.TestReport) {
	style := a.style(a.Out)
	for _, t := range r.Tests {
		state := style.Green("ok  ")
		if t.Problem != "" {
			state = style.Red("FAIL")
		}
		fmt.Fprintf(a.Out, "%s %s: %s %s\n", state, term.Printable(name), term.Printable(t.Name), style.Dim("("+shortTime(t.Time)+")"))
		if t.Problem != "" {
			fmt.Fprintln(a.Out, "  "+term.Printable(t.Problem))
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(a.Out, style.Red("FAIL"), term.Printable(name)+": its tests cannot be run")
		for _, line := range r.Problems {
			fmt.Fprintln(a.Out, "  "+term.Printable(line))
		}
	}
}

// shortTime is a time of few digits.
func shortTime(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// sumTests closes with a line for all.
func (a *App) sumTests(reports []*scripts.TestReport, took time.Duration) error {
	tests, passed, broken := 0, 0, 0
	for _, r := range reports {
		for _, t := range r.Tests {
			if tests++; t.Problem == "" {
				passed++
			}
		}
		if len(r.Problems) > 0 {
			broken++
		}
	}
	text := fmt.Sprintf("%d of %d tests passed in %s", passed, tests, shortTime(took))
	if broken > 0 {
		text += fmt.Sprintf("; the tests of %d scripts cannot be run", broken)
	}
	fmt.Fprintln(a.Out, text)
	if passed < tests || broken > 0 {
		return ErrFindings
	}
	return nil
}

// testJSON is what came of one test, and filesJSON of those of a script.
type testJSON struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Problem string  `json:"problem,omitempty"`
	Millis  float64 `json:"ms"`
}

type filesJSON struct {
	Name     string     `json:"name"`
	File     string     `json:"file"`
	OK       bool       `json:"ok"`
	Problems []string   `json:"problems,omitempty"` // why the file cannot be run
	Tests    []testJSON `json:"tests"`
	Millis   float64    `json:"ms"`
}

func (a *App) testsJSON(names []string, reports []*scripts.TestReport) error {
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out, failed := make([]filesJSON, len(reports)), 0
	for i, r := range reports {
		out[i] = filesJSON{Name: names[i], File: r.File, OK: r.Failed() == 0, Problems: r.Problems, Tests: []testJSON{}, Millis: millis(r.Time)}
		for _, t := range r.Tests {
			out[i].Tests = append(out[i].Tests, testJSON{t.Name, t.Problem == "", t.Problem, millis(t.Time)})
		}
		failed += r.Failed()
	}
	if err := a.printJSON(out); err != nil {
		return err
	}
	if failed > 0 {
		return ErrFindings
	}
	return nil
}

// vectorsDir is the folder of steering vectors in force; "" for none.
func (a *App) vectorsDir() string { return a.Config.VectorsDir(os.Environ()) }
