// Package plugins is how plugins are written in Go. A plugin is a program of its own that
// sees and changes what a model draws, as scripts do; the host starts it, and talks to it
// over gRPC.
//
//	func main() {
//		plugins.Serve(&plugins.Plugin{
//			Name: "calm", Version: "1.0",
//			New: func(s *plugins.Sequence) (any, error) { return &calm{}, nil },
//		})
//	}
//
//	type calm struct{}
//
//	func (*calm) Logits(_ *plugins.Call, l *plugins.Logits) error {
//		h, err := l.Entropy()
//		if err != nil || h < 3 {
//			return err
//		}
//		return l.Set(plugins.Temperature, 0.6)
//	}
//
// What New returns serves one choice of one request, and has those of the handlers below
// that it wants: LogitsHook, TokenHook and so on. One goroutine calls it at a time; those
// of different choices run in parallel. An error of a handler leaves its token to the
// default, and is told to whoever watches the request.
package plugins

import (
	"context"
	"encoding/json"
	"io"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// The types of handlers are those of package hook, which documents them.
type (
	Call       = hook.Call
	Prompt     = hook.Prompt
	Logits     = hook.Logits
	Candidates = hook.Candidates
	Candidate  = hook.Candidate
	Token      = hook.Token
	Routing    = hook.Routing
	Hidden     = hook.Hidden
	Router     = hook.Router
	Finish     = hook.Finish
	Model      = hook.Model
	Request    = hook.Request
	Params     = hook.Params
	Param      = hook.Param
	Fault      = hook.Fault
	Spec       = hook.Spec
	Riding     = wire.Riding
)

// Settings of the sampler for one token: Logits.Set.
const (
	Temperature = hook.Temperature
	TopK        = hook.TopK
	TopP        = hook.TopP
	MinP        = hook.MinP
	Typical     = hook.Typical
)

// Handlers of a choice. A plugin's own type has those that it wants.
type (
	// Starter is called first: what it steers is in force from the prompt's first token on.
	Starter interface{ Start(*Call) error }
	// PromptHook may replace the ids before they are read.
	PromptHook interface{ Prompt(*Call, *Prompt) error }
	// LogitsHook may edit the logits of a token to be drawn.
	LogitsHook interface{ Logits(*Call, *Logits) error }
	// SampleHook may choose the token: chosen says whether it did.
	SampleHook interface {
		Sample(*Call, *Candidates) (id int32, chosen bool, err error)
	}
	// TokenHook is told which token was chosen.
	TokenHook interface{ Token(*Call, *Token) error }
	// RoutingHook is told which experts a row chose.
	RoutingHook interface{ Routing(*Call, *Routing) error }
	// HiddenHook is told the residual behind the layers Spec.Hidden.
	HiddenHook interface{ Hidden(*Call, *Hidden) error }
	// RouteHook may change the router logits of the layers Spec.Route.
	RouteHook interface{ Route(*Call, *Router) error }
	// FinishHook is told how the choice ended.
	FinishHook interface{ Finish(*Call, *Finish) error }
	// RewoundHook is told that tokens from a position on were taken back.
	RewoundHook interface{ Rewound(to int) }
	// A handler that is an io.Closer is closed when the choice is over.
)

// Plugin is what a program serves.
type Plugin struct {
	Name        string // of a-z, 0-9, _ and -; 64 at most
	Version     string
	Description string
	Params      Params // that requests may give
	// Spec is what it wants of every choice, but for Name and Events: events are those that
	// what New returns has handlers of. New may change it by Sequence.Spec.
	Spec Spec
	// Riding are the reads that come along with every logits event: they save a round trip
	// each.
	Riding Riding
	// Observer says that it changes nothing. Its events are not waited for, and some may be
	// lost under load.
	Observer bool
	// Request may change the body of a request before it is read; nil for not.
	Request func(ctx context.Context, body json.RawMessage, params map[string]any) (json.RawMessage, error)
	// New begins a choice.
	New func(*Sequence) (any, error)
}

// Sequence is one choice of one request.
type Sequence struct {
	// Context ends with the choice.
	Context context.Context
	Params  map[string]any // as the request gives them, with defaults
	Model   Model
	Request Request
	Spec    Spec // Plugin.Spec: New may change it
	Riding  Riding

	far *far
}

// Encode returns the ids of a text. It works within New and handlers, as those below.
func (s *Sequence) Encode(text string) ([]int32, error) { return s.far.encode(text) }

// Decode returns the text of ids.
func (s *Sequence) Decode(ids []int32) (string, error) { return s.far.decode(ids) }

// Vocabulary returns the texts of all tokens, by id, as bytes: a token may be part of a
// character. It is fetched once for a program and model.
func (s *Sequence) Vocabulary() ([][]byte, error) { return s.far.vocabulary(s.Model) }

// Vector returns a steering vector of the host's folder.
func (s *Sequence) Vector(name string) ([]float32, error) { return s.far.vector(name) }

// handlers makes a hook of what New returned.
type handlers struct {
	hook.None
	own     any
	spec    hook.Spec
	rewound bool
}

// events are those that a value has handlers of.
func events(own any) (e hook.Events) {
	has := func(bit hook.Events, ok bool) {
		if ok {
			e |= bit
		}
	}
	_, ok := own.(PromptHook)
	has(hook.OnPrompt, ok)
	_, ok = own.(LogitsHook)
	has(hook.OnLogits, ok)
	_, ok = own.(SampleHook)
	has(hook.OnSample, ok)
	_, ok = own.(TokenHook)
	has(hook.OnToken, ok)
	_, ok = own.(RoutingHook)
	has(hook.OnRouting, ok)
	_, ok = own.(HiddenHook)
	has(hook.OnHidden, ok)
	_, ok = own.(RouteHook)
	has(hook.OnRoute, ok)
	_, ok = own.(FinishHook)
	has(hook.OnFinish, ok)
	return e
}

// Spec implements hook.Hook.
func (h *handlers) Spec() hook.Spec { return h.spec }

// Start implements hook.Hook.
func (h *handlers) Start(c *Call) error {
	if s, ok := h.own.(Starter); ok {
		return s.Start(c)
	}
	return nil
}

// Hook makes a hook of a plugin for one choice, in this process: for tests that play it in
// a hook.Chain, without a host.
func (p *Plugin) Hook(s *Sequence) (hook.Hook, error) {
	if s.far == nil {
		s.far = &far{}
	}
	s.Spec, s.Riding = p.Spec, p.Riding
	var err error
	if s.Params, err = p.Params.Fill(s.Params); err != nil {
		return nil, err
	}
	own, err := p.New(s)
	if err != nil {
		return nil, err
	}
	return p.handlers(s, own), nil
}

func (p *Plugin) handlers(s *Sequence, own any) *handlers {
	h := &handlers{own: own, spec: s.Spec}
	h.spec.Name, h.spec.Events = p.Name, events(own)
	return h
}

// State implements hook.Rewinder: a plugin keeps its own, and is told.
func (h *handlers) State() ([]byte, error) { return []byte{}, nil }

// Restore implements hook.Rewinder.
func (h *handlers) Restore([]byte) error {
	h.rewound = true
	return nil
}

// tell tells the plugin of a rewind, before its next handler.
func (h *handlers) tell(c *Call) {
	if r, ok := h.own.(RewoundHook); ok && h.rewound {
		r.Rewound(c.Next())
	}
	h.rewound = false
}

// Prompt implements hook.Hook, as those below.
func (h *handlers) Prompt(c *Call, p *Prompt) error { return h.own.(PromptHook).Prompt(c, p) }

// Logits implements hook.Hook.
func (h *handlers) Logits(c *Call, l *Logits) error {
	h.tell(c)
	return h.own.(LogitsHook).Logits(c, l)
}

// Sample implements hook.Hook.
func (h *handlers) Sample(c *Call, s *Candidates) (int32, bool, error) {
	h.tell(c)
	return h.own.(SampleHook).Sample(c, s)
}

// Token implements hook.Hook.
func (h *handlers) Token(c *Call, t *Token) error {
	h.tell(c)
	return h.own.(TokenHook).Token(c, t)
}

// Routing implements hook.Hook.
func (h *handlers) Routing(c *Call, r *Routing) error {
	h.tell(c)
	return h.own.(RoutingHook).Routing(c, r)
}

// Hidden implements hook.Hook.
func (h *handlers) Hidden(c *Call, r *Hidden) error {
	h.tell(c)
	return h.own.(HiddenHook).Hidden(c, r)
}

// Route implements hook.Hook.
func (h *handlers) Route(c *Call, r *Router) error {
	h.tell(c)
	return h.own.(RouteHook).Route(c, r)
}

// Finish implements hook.Hook.
func (h *handlers) Finish(c *Call, f *Finish) error {
	h.tell(c)
	return h.own.(FinishHook).Finish(c, f)
}

// Close implements hook.Hook.
func (h *handlers) Close() {
	if c, ok := h.own.(io.Closer); ok {
		_ = c.Close() // there is nobody to tell any more
	}
}
