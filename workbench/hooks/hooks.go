// Package hooks makes hooks of what requests ask for: scripts of a folder, scripts that
// come along and run in processes of their own, plugins, and steering with vectors of a
// folder.
//
//	owner := hooks.New(hooks.Options{Dir: "scripts", Publish: hub.Publish})
//	set, err := owner.Prepare(ctx, hooks.Ask{Scripts: []string{"calm"}})
//	body, err = set.Rewrite(ctx, body)           // scripts may change the request
//	request.Hooks = set.Hooking(ctx, about, 0)   // and see and change its tokens
//
// Errors that are the client's to know say how (see Error).
package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
)

// Options of an Owner. The zero value has no scripts and no vectors.
type Options struct {
	Dir     string        // folder of scripts; "" for none. It need not be there before a script is asked for
	Vectors string        // folder of steering vectors; likewise
	Use     []string      // scripts that every request has, in front of its own
	Budget  time.Duration // of a call where a script declares none; 0 for as long as it wants
	OnError hook.OnError  // where a request does not say
	Memory  int           // most bytes of a script of the folder; 0 for the default of package scripts
	// Inline allows scripts that come with a request.
	Inline       bool
	InlineMemory int      // most bytes of such a script's process; 0 for the default of package worker
	Worker       []string // command of such a process; nil for the program itself
	// Record is the file that choices of scripts are recorded in, one a script and choice
	// (see hook.Recorder): the first free one of name, name-2, ...; "" for none.
	Record string
	// Plugins runs the plugins that requests may ask for; nil for none. The owner closes it.
	Plugins *host.Host
	// UsePlugins are those that every request has.
	UsePlugins []string
	// Publish is told what scripts log and emit, how they fail, and how they are
	// reloaded. It must return quickly. Nil for nobody.
	Publish func(kind, request string, data any)
}

// Owner owns what hooks are made of. It is safe for concurrent use.
type Owner struct {
	options    Options
	vectors    *vectors
	workers    *worker.Host
	recordings recordings

	mu        sync.Mutex
	store     *scripts.Store // nil before the first script is asked for
	closed    bool
	model     hook.Model
	tokenizer hook.Tokenizer
}

// New returns an owner. Nothing is opened before it is asked for.
func New(o Options) *Owner {
	if o.Publish == nil {
		o.Publish = func(string, string, any) {}
	}
	return &Owner{options: o, vectors: newVectors(o.Vectors), workers: worker.New(worker.Options{Command: o.Worker, Memory: o.InlineMemory}),
		recordings: recordings{file: o.Record}}
}

// SetModel says which model the hooks serve from now on.
func (o *Owner) SetModel(m hook.Model, t hook.Tokenizer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.model, o.tokenizer = m, t
}

func (o *Owner) serves() (hook.Model, hook.Tokenizer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.model, o.tokenizer
}

// Check says whether the scripts that every request has are there, work, and need no
// parameters, and whether recordings have a folder.
func (o *Owner) Check() error {
	if err := o.recordings.check(); err != nil {
		return err
	}
	for _, name := range o.options.Use {
		script, err := o.script(name)
		if err == nil {
			_, err = script.Info().Params.Fill(nil)
		}
		if err != nil {
			return fmt.Errorf("the script %s, which every request is to have (scripts.use): %w", name, err)
		}
	}
	return nil
}

// Vectors finds steering vectors of a hidden size by name.
func (o *Owner) Vectors(hidden int) func(name string) ([]float32, error) {
	return o.vectors.get(hidden)
}

// Abandoned is how many scripts that could not be stopped still run.
func (o *Owner) Abandoned() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.store == nil {
		return 0
	}
	return o.store.Host().Abandoned()
}

// Close lets go of everything, when all hooks are closed.
func (o *Owner) Close() error {
	o.mu.Lock()
	store := o.store
	o.closed = true
	o.mu.Unlock()
	o.workers.Close()
	err := o.options.Plugins.Close()
	if store == nil {
		return err
	}
	return errors.Join(err, store.Close())
}

// Scripts is the store of the scripts that may be asked for. The owner closes it.
func (o *Owner) Scripts() (*scripts.Store, error) { return o.opened() }

// opened returns the store of the folder.
func (o *Owner) opened() (*scripts.Store, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, errors.New("the server is shutting down: no script starts any more")
	case o.store != nil:
		return o.store, nil
	}
	store, err := scripts.Open(o.options.Dir, scripts.Options{Memory: o.options.Memory, Library: library.FS, Report: o.reloaded})
	if err != nil {
		return nil, err
	}
	o.store = store
	return store, nil
}

// Reloaded is the data of "script_reload" and "script_fault": the files of a script have
// changed.
type Reloaded struct {
	Script string `json:"script"`
	Digest string `json:"digest,omitempty"` // of the new version
	Error  string `json:"error,omitempty"`  // why there is none, and the old one stays
}

func (o *Owner) reloaded(r scripts.Reload) {
	if r.Err != nil {
		o.options.Publish("script_fault", "", Reloaded{Script: r.Script, Error: r.Err.Error()})
		return
	}
	o.options.Publish("script_reload", "", Reloaded{Script: r.Script, Digest: r.Digest})
}

// script finds a script of the folder.
func (o *Owner) script(name string) (*scripts.Script, error) {
	store, err := o.opened()
	if err != nil {
		return nil, err
	}
	script, err := store.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; %s", err, listed(store))
	}
	return script, err
}

// listedNames is how many scripts an error lists.
const listedNames = 20

// listed says which scripts there are.
func listed(store *scripts.Store) string {
	names, err := store.Names()
	shipped, libraryErr := store.Library()
	if err := errors.Join(err, libraryErr); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	own := "none of your own"
	switch {
	case len(names) > listedNames:
		own = fmt.Sprintf("%s and %d more", strings.Join(names[:listedNames], ", "), len(names)-listedNames)
	case len(names) > 0:
		own = strings.Join(names, ", ")
	}
	return fmt.Sprintf("there are %s, and of the library %s", own, strings.Join(shipped, ", "))
}

// Ask is what a request asks for. Nothing in it is vouched for, but that sizes are
// bounded.
type Ask struct {
	ID         string   // of the request
	Scripts    []string // of the folder, by name
	Plugins    []string // by name
	File, Text string   // a script that came along; Text is "" for none
	Params     map[string]any
	Steer      json.RawMessage // as hook.ParseSteering reads it; nil for none
	OnError    string          // "disable", "fail", or "" for Options.OnError
}

// Prepare finds what a request asks for, and checks its parameters. The set is nil where
// it has no hooks. Errors are *Error.
func (o *Owner) Prepare(ctx context.Context, ask Ask) (*Set, error) {
	s := &Set{owner: o, id: ask.ID, policy: o.options.OnError, served: map[int][]*server{}}
	s.model, s.tokenizer = o.serves()
	if ask.OnError != "" {
		s.policy = map[string]hook.OnError{hook.Fail.String(): hook.Fail}[ask.OnError]
	}
	if err := s.find(ctx, ask); err != nil {
		return nil, err
	}
	if err := s.give(ask); err != nil {
		return nil, err
	}
	if ask.Steer != nil {
		var err error
		if s.steer, err = hook.ParseSteering(ask.Steer, s.model.Shape, o.vectors.get(s.model.Shape.Hidden)); err != nil {
			return nil, refuse(err, "steer")
		}
	}
	if len(s.parts) == 0 && s.steer == nil {
		return nil, nil //nolint:nilnil // no hooks are no error
	}
	return s, nil
}

// find finds the scripts: those that every request has, those that are named, and the
// one that came along.
func (s *Set) find(ctx context.Context, ask Ask) error {
	o := s.owner
	for n, name := range slices.Concat(o.options.Use, ask.Scripts) {
		used := n < len(o.options.Use)
		if !used && slices.Contains(o.options.Use, name) {
			continue // it is there already
		}
		script, err := o.script(name)
		if err != nil && used {
			return &Error{Status: http.StatusInternalServerError, Code: "script_broken", Err: fmt.Errorf("the script %s, which every request has here: %w", name, err)}
		}
		if err != nil {
			return refuse(err, "script")
		}
		if broken := script.Broken(); broken != nil {
			s.warnings = append(s.warnings, fmt.Sprintf("the newest files of %s do not work, the version before them runs: %v", name, broken))
		}
		s.parts = append(s.parts, &part{name: name, script: inProcess{script}, named: !used})
	}
	if ask.Text != "" {
		if !o.options.Inline {
			return &Error{Status: http.StatusForbidden, Code: "inline_scripts_off", Field: "source",
				Err: errors.New("this server takes no scripts with requests: its owner can allow them with scripts.inline, or put the script in the folder of scripts")}
		}
		script, err := o.workers.Load(ctx, ask.File, ask.Text)
		if err != nil {
			return refuse(err, "source")
		}
		name, _, _ := strings.Cut(ask.File, ".")
		s.parts = append(s.parts, &part{name: name, script: apart{script}, named: true})
	}
	if err := s.findPlugins(ctx, ask); err != nil {
		return err
	}
	if len(s.parts) > hook.MaxHooks {
		return &Error{Status: http.StatusBadRequest, Code: "invalid_value", Field: "script",
			Err: fmt.Errorf("the request would have %d scripts and plugins, with the %d that every request has here: at most %d are possible", len(s.parts), len(o.options.Use)+len(o.options.UsePlugins), hook.MaxHooks)}
	}
	return nil
}

// give gives parameters to the scripts, and checks them.
func (s *Set) give(ask Ask) error {
	byScript, err := s.byScript(ask.Params)
	if err != nil {
		return err
	}
	for n, p := range s.parts {
		field := "params"
		if given, ok := byScript[p.name]; ok {
			p.params = given
			if byScript[""] == nil {
				field += "." + p.name
			}
		}
		if p.twin(s.parts[:n]) {
			return &Error{Status: http.StatusBadRequest, Code: "invalid_value", Field: p.field(),
				Err: fmt.Errorf("the request has two hooks called %s: parameters and reports could not tell them apart", p.name)}
		}
		if _, err := p.script.Info().Params.Fill(p.params); err != nil {
			return refuse(err, field)
		}
	}
	return nil
}

// twin says whether another part has the same name.
func (p *part) twin(others []*part) bool {
	return slices.ContainsFunc(others, func(o *part) bool { return o.name == p.name })
}

// byScript takes parameters apart by script. Those of one script have no name in front,
// which an entry "" says.
func (s *Set) byScript(params map[string]any) (map[string]map[string]any, error) {
	bad := func(field, format string, args ...any) error {
		return &Error{Status: http.StatusBadRequest, Code: "invalid_value", Field: field, Err: fmt.Errorf(format, args...)}
	}
	out, plain := map[string]map[string]any{}, 0
	for _, name := range slices.Sorted(maps.Keys(params)) {
		given, ok := params[name].(map[string]any)
		if !ok {
			plain++ // parameters are never objects
			continue
		}
		if out[name] = given; !slices.ContainsFunc(s.parts, func(p *part) bool { return p.name == name }) {
			return nil, bad("params."+name, "the request has no such script: it has %v", s.names())
		}
	}
	if plain == 0 {
		return out, nil
	}
	one := s.only()
	if one == nil || plain < len(params) {
		return nil, bad("params", `the request has several scripts, or none: give parameters by script, {"name": {...}}; it has %v`, s.names())
	}
	return map[string]map[string]any{one.name: params, "": {}}, nil
}

// only is the one script that a request names, or has; nil where it is not one.
func (s *Set) only() (one *part) {
	named := slices.DeleteFunc(slices.Clone(s.parts), func(p *part) bool { return !p.named })
	switch {
	case len(named) == 1:
		return named[0]
	case len(named) == 0 && len(s.parts) == 1:
		return s.parts[0]
	}
	return nil
}

func (s *Set) names() (names []string) {
	for _, p := range s.parts {
		names = append(names, p.name)
	}
	return names
}
