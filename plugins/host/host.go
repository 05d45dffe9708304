// Package host runs plugins: programs of their own that see and change what a model draws,
// by the contract of engine/hook, over gRPC.
//
//	h, err := host.Open(host.Options{Dir: "plugins", Allow: []string{"calm"}})
//	p, err := h.Get(ctx, "calm")
//	instance, err := p.Start(ctx, env)  // a hook.Hook, for one choice
//
// Each plugin that is allowed has one process, which a supervisor starts, watches and starts
// again. A plugin that fails takes nobody with it: choices that use it go on by their
// policy, and all others never notice.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options of a Host. Zeros stand for the defaults.
type Options struct {
	Dir     string   // folder of plugins
	Allow   []string // names of those that may be started
	Pins    []Pin    // files that must be as they were
	Env     []string // names of variables that plugins see, beside PATH, HOME and their like
	Version string   // of the host, for plugins to know
	// Parent is the process that plugins are told to end with; 0 for this one.
	Parent int
	// Budget of a call where a plugin declares none; DefaultBudget.
	Budget time.Duration
	// StartTimeout is how long a plugin may take to its first answer; 20 s.
	StartTimeout time.Duration
	// Grace is how long a plugin may take to end; 2 s.
	Grace time.Duration
	// HealthEvery is how often a plugin is asked whether it is well, and how long its answer
	// may take; 2 s. Two answers missed in a row are as good as an end.
	HealthEvery time.Duration
	// Back is the first wait before a plugin that ended is started again: each further one
	// is twice as long, up to MaxBack; 100 ms and 30 s. A plugin that ran for longer than
	// MaxBack begins anew.
	Back, MaxBack time.Duration
	// Break is how many ends in a row open the breaker: then requests are refused at once
	// until BreakFor has passed, and one launch is tried; 5 and 60 s.
	Break    int
	BreakFor time.Duration
	// Publish is told what happens to plugins and what they tell. It must return quickly.
	// Nil for nobody.
	Publish func(kind string, data any)
}

func (o *Options) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Budget, DefaultBudget)
	set(&o.StartTimeout, 20*time.Second)
	set(&o.Grace, 2*time.Second)
	set(&o.HealthEvery, 2*time.Second)
	set(&o.Back, 100*time.Millisecond)
	set(&o.MaxBack, 30*time.Second)
	set(&o.BreakFor, time.Minute)
	if o.Parent == 0 {
		o.Parent = os.Getpid()
	}
	if o.Break <= 0 {
		o.Break = 5
	}
	if o.Publish == nil {
		o.Publish = func(string, any) {}
	}
}

// Host runs plugins. It is safe for concurrent use.
type Host struct {
	options  Options
	launcher *launcher
	sockets  string // folder of all sockets, of this user's alone
	plugins  map[string]*Plugin
	cancel   context.CancelFunc
	running  sync.WaitGroup
	closed   func() error // once
}

// Open starts the plugins that are allowed, and returns before they have started. A name
// that the folder does not have is an error.
func Open(o Options) (*Host, error) {
	o.defaults()
	dir, err := filepath.Abs(o.Dir)
	if err == nil && o.Dir != "" {
		o.Dir = dir
	}
	h := &Host{options: o, plugins: map[string]*Plugin{}}
	var found []*installed
	for _, name := range o.Allow {
		p, err := find(o.Dir, name)
		if err != nil {
			return nil, fmt.Errorf("plugins.allow: %w", err)
		}
		found = append(found, p)
	}
	sweep(short(os.TempDir()))
	// Paths of unix sockets have 107 bytes at most: the folder of temporary files may be deep.
	if h.sockets, err = os.MkdirTemp(short(os.TempDir()), fmt.Sprintf("rh%d-", os.Getpid())); err != nil {
		return nil, fmt.Errorf("a folder for the sockets of plugins: %w", err)
	}
	h.launcher = newLauncher()
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.closed = cancel, sync.OnceValue(h.close)
	for _, p := range found {
		one := newPlugin(h, p)
		h.plugins[p.name] = one
		h.running.Go(func() { one.supervise(ctx) })
	}
	return h, nil
}

// sweep removes what hosts left that were killed: folders of sockets, of this user, whose
// process is gone.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "rh*-*")) // the pattern is well-formed
	for _, path := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(path), "rh%d-", &pid); err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() {
			continue
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) == os.Getuid() && !answers(path) {
			_ = os.RemoveAll(path) // whatever stays is as it was
		}
	}
}

// answers says whether somebody listens in a folder of sockets: processes of another
// container, which shares the folder, are not seen by their numbers.
func answers(dir string) bool {
	sockets, _ := filepath.Glob(filepath.Join(dir, "*", "*")) // the pattern is well-formed
	for _, path := range sockets {
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

// short returns a folder whose path leaves room for a socket's.
func short(dir string) string {
	if len(dir) > 40 {
		return "/tmp"
	}
	return dir
}

// Close ends the plugins, and returns when nothing of them is left.
func (h *Host) Close() error {
	if h == nil {
		return nil
	}
	return h.closed()
}

func (h *Host) close() error {
	h.cancel()
	h.running.Wait()
	for _, p := range h.plugins {
		p.lingering.Wait()
	}
	h.launcher.close()
	return os.RemoveAll(h.sockets)
}

// NotAllowedError says that a plugin must not be started.
type NotAllowedError struct {
	Name      string
	Allowed   []string
	Installed bool
}

func (e *NotAllowedError) Error() string {
	allowed := "no plugin is"
	if len(e.Allowed) > 0 {
		allowed = "allowed are " + strings.Join(e.Allowed, ", ")
	}
	if !e.Installed {
		return fmt.Sprintf("the plugin %.80q is not there: %s", e.Name, allowed)
	}
	return fmt.Sprintf("the plugin %.80q is installed, and not allowed: its name belongs in plugins.allow of the configuration; %s", e.Name, allowed)
}

// Is says that it is an error of what is not there.
func (e *NotAllowedError) Is(target error) bool { return target == fs.ErrNotExist }

// Get returns a plugin that is allowed, whatever state it is in. The error is a
// *NotAllowedError.
func (h *Host) Get(name string) (*Plugin, error) {
	if h != nil {
		if p := h.plugins[name]; p != nil {
			return p, nil
		}
	}
	e := &NotAllowedError{Name: name}
	if h != nil {
		e.Allowed = slices.Sorted(maps.Keys(h.plugins))
		_, err := find(h.options.Dir, name)
		e.Installed = err == nil
	}
	return nil, e
}

// Plugins returns those that are allowed, by name.
func (h *Host) Plugins() (list []*Plugin) {
	if h == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(h.plugins)) {
		list = append(list, h.plugins[name])
	}
	return list
}

// Installed lists what a folder has that could be a plugin.
func Installed(dir string) ([]string, error) { return names(dir) }

var errClosed = errors.New("the server is shutting down: no plugin starts any more")
