// Package check holds a plugin, in whatever language, to the contract: it starts it, and
// does to it what a host does on good days and on bad ones.
//
//	report, err := check.Run(ctx, check.Options{Dir: "plugins", Name: "calm"})
//	for _, line := range report.Lines { ... }
package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// Options say what is checked: the plugin Name of the folder Dir, or the program or folder
// at Path.
type Options struct {
	Dir, Name string
	Path      string
	Params    map[string]any // of its choices
	Timeout   time.Duration  // of all; two minutes where it is 0
	Told      func(Line)     // is told each line once it is there; nil for nobody
}

// Line is one check and what came of it.
type Line struct {
	Name   string
	OK     bool
	Detail string // what was seen, or what is wrong and what to do about it
	Time   time.Duration
}

// Report is what a plugin does of the contract.
type Report struct {
	Name, Version string
	Lines         []Line
}

// Failed says whether a line did.
func (r *Report) Failed() bool {
	for _, l := range r.Lines {
		if !l.OK {
			return true
		}
	}
	return false
}

// checker checks one plugin.
type checker struct {
	Options
	report *Report
	host   *host.Host
	plugin *host.Plugin
	about  host.About
	spec   wire.Spec // of a choice
	only   string    // line, beside those that all others need; "" for all
}

// Bounds of a check.
const (
	defaultTimeout = 2 * time.Minute
	patience       = 5 * time.Second        // of an answer to a message
	noticed        = 300 * time.Millisecond // an end of the plugin, by the host
	never          = 24 * time.Hour
)

// Run checks a plugin. The error says why there is nothing to check; all else is in the
// report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	remove, err := o.place()
	if err != nil {
		return nil, err
	}
	defer remove()
	c := &checker{Options: o}
	return c.check(ctx)
}

func (c *checker) check(ctx context.Context) (*Report, error) {
	c.report = &Report{Name: c.Name}
	var err error
	if c.host, err = c.open(0); err != nil {
		return nil, err
	}
	if c.plugin, err = c.host.Get(c.Name); err != nil {
		return nil, errors.Join(err, c.host.Close())
	}
	c.run(ctx)
	if err := context.Cause(ctx); err != nil {
		return c.report, fmt.Errorf("the check of the plugin %s: %w", c.Name, err)
	}
	return c.report, nil
}

// place makes a folder and a name of a path.
func (o *Options) place() (remove func(), err error) {
	remove = func() {}
	if o.Path == "" {
		return remove, nil
	}
	path, err := filepath.Abs(o.Path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return remove, fmt.Errorf("the plugin to check: %w", err)
	}
	if o.Dir, o.Name = filepath.Dir(path), filepath.Base(path); wire.PlainName(o.Name) {
		return remove, nil
	}
	// A program of another name, such as main.py.
	dir, err := os.MkdirTemp("", "roundhouse-check-")
	if err != nil {
		return remove, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	o.Dir, o.Name = dir, "plugin"
	folder := filepath.Join(dir, o.Name)
	if err = os.Mkdir(folder, 0o700); err == nil {
		err = os.WriteFile(filepath.Join(folder, "plugin.toml"), []byte(fmt.Sprintf("command = [%q]\n", path)), 0o600)
	}
	return remove, err
}

// open opens a host of the plugin alone, which does not start it again by itself.
func (c *checker) open(parent int) (*host.Host, error) {
	return host.Open(host.Options{Dir: c.Dir, Allow: []string{c.Name}, Version: "check", Parent: parent, Break: 1, BreakFor: never})
}

// line does one check. An end of the plugin in it is a failure in any case; the plugin is
// started anew for the next.
func (c *checker) line(ctx context.Context, name string, do func() (detail string, err error)) bool {
	if ctx.Err() != nil || c.only != "" && c.only != name && name != handshake && name != begins {
		return false
	}
	launches, began := c.plugin.Stat().Launches, time.Now()
	detail, err := do()
	took := time.Since(began)
	for err != nil && c.plugin.Stat().State == host.Ready && time.Since(began) < took+noticed {
		time.Sleep(time.Millisecond)
	}
	if s := c.plugin.Stat(); launches > 0 && (s.State != host.Ready || s.Launches != launches) && name != handshake {
		err = errors.Join(err, errors.New(strings.TrimSuffix("its process ended, and is to outlive this: "+s.Error, ": ")), c.again(ctx, launches))
	}
	if err != nil {
		detail = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	c.tell(Line{Name: name, OK: err == nil, Detail: detail, Time: took})
	return err == nil
}

// again starts the plugin anew once it has ended.
func (c *checker) again(ctx context.Context, launches int) error {
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		switch s := c.plugin.Stat(); {
		case s.State == host.Broken && s.Launches == launches:
			c.plugin.Restart()
		case s.Launches > launches:
			_, err := c.plugin.About(ctx)
			return err
		}
	}
	return context.Cause(ctx)
}

func (c *checker) tell(l Line) {
	c.report.Lines = append(c.report.Lines, l)
	if c.Told != nil {
		c.Told(l)
	}
}

// Lines that others need.
const (
	handshake = "handshake"
	begins    = "small model, begin"
)

// run does all checks, in their order. Nothing follows a plugin that does not start.
func (c *checker) run(ctx context.Context) {
	if c.line(ctx, handshake, func() (string, error) { return c.handshake(ctx) }) {
		c.line(ctx, "parameters", func() (string, error) { return c.params(ctx) })
		for _, s := range scenes() {
			c.scene(ctx, s)
		}
		c.line(ctx, "a slow host", func() (string, error) { return c.paced(ctx) })
		c.line(ctx, fmt.Sprintf("%d choices at once", many), func() (string, error) { return c.many(ctx) })
		c.line(ctx, "a choice that is cancelled in the midst of a step", func() (string, error) { return c.cancelled(ctx) })
		c.line(ctx, "a choice that is closed in the midst of a step", func() (string, error) { return c.closed(ctx) })
		for _, m := range c.malformed() {
			c.line(ctx, m.name, func() (string, error) { return c.survives(ctx, m) })
		}
		if c.about.Spec.Request {
			c.line(ctx, "bodies of requests", func() (string, error) { return c.bodies(ctx) })
		}
		c.line(ctx, "memory", func() (string, error) { return c.memory(ctx) })
		c.line(ctx, "standard output", c.noise)
	}
	c.end(ctx)
}

// handshake waits for the plugin's first start.
func (c *checker) handshake(ctx context.Context) (string, error) {
	about, err := c.plugin.About(ctx)
	var u *host.UnavailableError
	if errors.As(err, &u) {
		err = u.Err
	}
	if err != nil {
		return "", fmt.Errorf("%w%s", err, c.wrote())
	}
	c.about, c.spec, c.report.Version = about, about.Spec, about.Version
	return fmt.Sprintf("version %q, the contract %d, %d parameters", about.Version, wire.API, len(about.Params)), nil
}

// wrote is what the plugin wrote to stderr at last.
func (c *checker) wrote() (text string) {
	lines := c.plugin.Logs(0)
	for n := len(lines) - 1; n >= 0 && len(text) < 500; n-- {
		if lines[n].Level == "stderr" {
			text = "\n" + lines[n].Text + text
		}
	}
	return text
}

// end closes the host, and starts the plugin once more without one.
func (c *checker) end(ctx context.Context) {
	began := time.Now()
	err := c.host.Close()
	l := Line{Name: "an end in order", Time: time.Since(began)}
	if len(c.report.Lines) == 1 && !c.report.Lines[0].OK || ctx.Err() != nil {
		return // it never came so far
	}
	if l.OK = err == nil && l.Time < grace; !l.OK {
		l.Detail = fmt.Sprintf("it did not end within %v of being told to (Shutdown of go-plugin's GRPCController), and was killed", grace)
		if err != nil {
			l.Detail = err.Error()
		}
	}
	c.tell(l)
	if c.only == "" {
		c.tell(c.orphan(ctx))
	}
}

// grace is how long the host waits for an end.
const grace = 1900 * time.Millisecond

// orphanTime is how long a plugin may outlive its host.
const orphanTime = 2 * time.Second

// nobody is the number of a process that there is not: it lies above what systems give.
const nobody = 1 << 30

// orphan starts the plugin for a host that is gone.
func (c *checker) orphan(ctx context.Context) (l Line) {
	l.Name = "a host that dies"
	h, err := c.open(nobody)
	if err != nil {
		l.Detail = err.Error()
		return l
	}
	p := h.Plugins()[0]
	_, err = p.About(ctx) // it may have ended before
	began := time.Now()
	for p.Stat().State == host.Ready && time.Since(began) < orphanTime {
		time.Sleep(5 * time.Millisecond)
	}
	l.Time = time.Since(began)
	if l.OK = err != nil || p.Stat().State != host.Ready; !l.OK {
		l.Detail = fmt.Sprintf("it still runs %v after: a plugin ends once the process whose number is in %s is gone", orphanTime, wire.ParentKey)
	}
	if err := h.Close(); err != nil {
		l.OK, l.Detail = false, err.Error()
	}
	return l
}
