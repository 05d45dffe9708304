package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
)

// Set is the hooks of one request.
type Set struct {
	owner     *Owner
	id        string
	parts     []*part
	steer     *hook.Steering
	policy    hook.OnError
	warnings  []string
	model     hook.Model
	tokenizer hook.Tokenizer

	mu     sync.Mutex
	served map[int][]*server // by index of the choice
}

// part is a script of a set.
type part struct {
	name   string
	script script
	named  bool // by the request
	params map[string]any
}

// script is a script, wherever it runs.
type script interface {
	Info() scripts.Info
	Request(ctx context.Context, body []byte, params map[string]any, log func(string)) ([]byte, error)
	Start(ctx context.Context, env scripts.Env) (hook.Hook, error)
}

// inProcess is a script of the folder.
type inProcess struct{ *scripts.Script }

func (s inProcess) Request(_ context.Context, body []byte, params map[string]any, log func(string)) ([]byte, error) {
	return s.Script.Request(body, params, log)
}

func (s inProcess) Start(_ context.Context, env scripts.Env) (hook.Hook, error) {
	i, err := s.Script.Start(env)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// apart is a script in processes of its own.
type apart struct{ *worker.Script }

func (s apart) Start(ctx context.Context, env scripts.Env) (hook.Hook, error) {
	i, err := s.Script.Start(ctx, env)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Use is a script or plugin that served a choice.
type Use struct {
	Name    string
	Kind    string         // "plugin", or "" for a script
	Version string         // of a plugin, in its own form
	Digest  string         // of the version that began
	Changes map[int]string // later versions, by the position of the first token that each decided
}

// server is a script at work for a choice.
type server struct {
	Use
	hook hook.Hook
}

// use is what is to be told of it.
func (s *server) use() Use {
	u := s.Use
	if i, ok := s.hook.(*scripts.Instance); ok {
		for n, c := range i.Changes() {
			switch {
			case n == 0:
				u.Digest = c.Digest
			case u.Changes == nil:
				u.Changes = map[int]string{c.From: c.Digest}
			default:
				u.Changes[c.From] = c.Digest
			}
		}
	}
	return u
}

// Warnings is what the client should know of the scripts.
func (s *Set) Warnings() []string { return s.warnings }

// Scripts says which scripts serve the choice of an index, or served it. It must not be
// called while the choice is in the making.
func (s *Set) Scripts(index int) (list []Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.served[index] {
		list = append(list, v.use())
	}
	return list
}

// Unasked are the scripts that would change the request's body, for whoever has none.
func (s *Set) Unasked() (names []string) {
	for _, p := range s.parts {
		if p.script.Info().Request {
			names = append(names, p.name)
		}
	}
	return names
}

// maxLogs is how many lines a request handler may log.
const maxLogs = 32

// Rewrite lets the scripts change the request's body, one after the other. Errors are
// *Error.
func (s *Set) Rewrite(ctx context.Context, body []byte) ([]byte, error) {
	for _, p := range s.parts {
		if !p.script.Info().Request {
			continue
		}
		logged := 0
		log := func(text string) {
			if logged++; logged > maxLogs {
				return
			}
			s.publish("hook_log", Noted{Hook: p.name, Event: "request", Value: text})
		}
		changed, err := p.script.Request(ctx, body, p.params, log)
		if err != nil {
			field := "script"
			if _, ok := p.script.(plugged); ok {
				field = p.field()
			}
			return nil, failed(err, field)
		}
		body = changed
	}
	return body, nil
}

// Hooking attaches the hooks to choices of the request, which have indices from first
// on. r says what scripts may know of the request; its Body may be JSON.
func (s *Set) Hooking(ctx context.Context, r hook.Request, first int) *engine.Hooking {
	h := &engine.Hooking{Steer: s.steer, Budget: s.owner.options.Budget, OnError: s.policy}
	h.Notify = func(choice uint32, n hook.Notice) { s.notify(first+int(choice), n) }
	if len(s.parts) == 0 {
		return h
	}
	if text, ok := r.Body.(json.RawMessage); ok {
		r.Body = nil
		_ = json.Unmarshal(text, &r.Body) // it was read before
	}
	env := scripts.Env{Model: s.model, Request: r, Tokenizer: s.tokenizer, Vectors: s.owner.vectors.get(s.model.Shape.Hidden), Now: time.Now()}
	h.Start = func(choice uint32) ([]hook.Hook, error) { return s.start(ctx, env, int(choice), first) }
	return h
}

// start starts the scripts of a choice.
func (s *Set) start(ctx context.Context, env scripts.Env, choice, first int) (list []hook.Hook, err error) {
	var served []*server
	env.Request.Choice = choice
	for _, p := range s.parts {
		env.Params = p.params
		h, outer, err := s.record(env, Recorded{Hook: p.name, Choice: first + choice}, func(env scripts.Env) (hook.Hook, error) { return p.script.Start(ctx, env) })
		if err != nil {
			for _, other := range list {
				other.Close()
			}
			return nil, refuse(fmt.Errorf("start the script %s: %w", p.name, err), "params")
		}
		list, served = append(list, outer), append(served, &server{p.use(), h})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served[first+choice] = served
	return list, nil
}

// Noted is the data of what a hook tells: "hook_log", "hook_emit", "hook_fault",
// "hook_off" and "hook_reload".
type Noted struct {
	Hook     string `json:"hook"`
	Choice   int    `json:"choice"`
	Position int    `json:"position"`
	Event    string `json:"event,omitempty"` // the handler, of a fault
	Name     string `json:"name,omitempty"`  // of hook_emit
	Value    any    `json:"value,omitempty"` // of hook_emit and hook_log
	Kind     string `json:"kind,omitempty"`  // of a fault
	Line     string `json:"line,omitempty"`  // in the script, of a fault
	Error    string `json:"error,omitempty"`
}

func (s *Set) publish(kind string, n Noted) { s.owner.options.Publish(kind, s.id, n) }

// notify passes on what a hook tells.
func (s *Set) notify(index int, n hook.Notice) {
	noted, kind := Noted{Hook: n.Hook, Choice: index, Position: n.Position}, "hook_emit"
	switch n.Name {
	case "log", "off":
		kind, noted.Value = "hook_"+n.Name, n.Value
	case "fault", "reload":
		kind = "hook_" + n.Name
	default:
		noted.Name, noted.Value = n.Name, n.Value
	}
	if f := n.Fault; f != nil {
		noted.Event, noted.Kind, noted.Line, noted.Error = f.Event, f.Kind.String(), f.Line, f.Err.Error()
		if n.Name == "reload" {
			kind = "hook_reload_fault"
		}
	}
	s.publish(kind, noted)
}
