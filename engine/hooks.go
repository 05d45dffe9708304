package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hooked"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/engine/sched"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Hooking attaches hooks to a request: see package hook for what they see and do.
type Hooking struct {
	// Start makes the hooks of a choice, counted as Token draws are (Request.Choice
	// first). The engine closes them, whatever becomes of the request. Nil for none.
	Start func(choice uint32) ([]hook.Hook, error)
	// Steer is in force with the highest priority, from prompt token 0 on; nil for
	// none. It must not be changed afterwards.
	Steer *hook.Steering
	// Budget of a call where the hook declares none; 0 for none at all.
	Budget  time.Duration
	OnError hook.OnError
	// Notify is told what hooks log and emit and how they fail, on goroutines of
	// the engine's; it must return quickly. Nil for nobody.
	Notify func(choice uint32, n hook.Notice)
}

// HookModel is what hooks may know of the model.
func (m *Model) HookModel() hook.Model {
	return hook.Model{Name: m.info.Name, Shape: m.hookShape(), Tokens: m.info.Tokens, EOS: m.info.EOS}
}

func (m *Model) hookShape() hook.Shape {
	return hook.Shape{Layers: m.info.Layers, Experts: m.info.Experts, K: m.info.TopK, Hidden: m.cfg.Hidden}
}

// HookTokenizer is the model's tokenizer as hooks see it: control tokens are read as
// such, and shown. Nil where the model has none.
func (m *Model) HookTokenizer() hook.Tokenizer {
	if m.tokenizer == nil {
		return nil
	}
	return hookTokenizer{m.tokenizer}
}

type hookTokenizer struct{ *tokenizer.Tokenizer }

// maxHookText bounds a text that a hook has encoded at once, in bytes.
const maxHookText = 1 << 20

func (t hookTokenizer) Encode(text string) ([]int32, error) {
	if len(text) > maxHookText {
		return nil, fmt.Errorf("a text of %d bytes: %d at most can be encoded at once", len(text), maxHookText)
	}
	return t.Tokenizer.Encode(text, tokenizer.Default), nil
}

// Bytes returns the bytes of a token, which may be part of a character.
func (t hookTokenizer) Bytes(id int32) []byte { return t.Tokenizer.Bytes(id) }

func (t hookTokenizer) Decode(ids []int32) string { return t.Tokenizer.Decode(ids, false) }

// hooked joins a choice's hooks with its sampler. They may replace the request's prompt.
func (m *Model) hooked(req *Request, sampler *sample.Sampler) (*hooked.Sampler, error) {
	h := req.Hooks
	if h == nil {
		h = &Hooking{}
	}
	var hooks []hook.Hook
	var err error
	if h.Start != nil {
		if hooks, err = h.Start(req.Choice); err != nil {
			return nil, err
		}
	}
	options := hook.Options{Shape: m.hookShape(), Tokens: m.info.Tokens, Seed: req.Sampling.Seed, Choice: int(req.Choice),
		Budget: h.Budget, OnError: h.OnError, Steer: h.Steer}
	if h.Notify != nil {
		options.Notify = func(n hook.Notice) { h.Notify(req.Choice, n) }
	}
	var joined *hooked.Sampler
	options.Lens = func(residual []float32) (hook.Source, error) {
		if joined == nil {
			return nil, errors.New("nothing was read yet")
		}
		return joined.Lens(residual)
	}
	chain, err := hook.NewChain(options, hooks...)
	if err != nil {
		return nil, err
	}
	asked := len(req.Prompt)
	usual := req.MaxTokens == m.info.Context-asked // as many as there is room for
	if req.Prompt, err = chain.Prompt(req.Prompt); err == nil && len(req.Prompt) != asked {
		if usual {
			req.MaxTokens = 0
		}
		err = m.check(req)
	}
	for _, ids := range chain.Sequences() {
		room := m.info.Context - len(ids)
		if usual && req.MaxTokens > room {
			req.MaxTokens = max(room, 1)
		}
		if err == nil && req.MaxTokens > room {
			err = &ContextError{Prompt: len(ids), MaxTokens: req.MaxTokens, Limit: m.info.Context}
		}
	}
	if err != nil {
		chain.Close()
		return nil, err
	}
	o := hooked.Options{Layers: m.info.Layers, Routing: req.Routing, PromptRouting: req.PromptRouting, Lens: m.lensRow}
	if m.tokenizer != nil {
		o.Bytes = m.tokenizer.Bytes
	}
	joined = hooked.New(sampler, chain, req.Prompt, o)
	return joined, nil
}

// lensRow has the scheduler run a residual through the head.
func (m *Model) lensRow(quit <-chan struct{}, residual []float32) (row []float32, err error) {
	if !m.sched.Visit(quit, func(on sched.Machine) { row, err = on.Lens(residual) }) {
		return nil, errors.New("the stream has ended")
	}
	return row, err
}

// alike says whether all choices read the same prompt in the same way, and nobody
// follows each's reading.
func (c *choices) alike() bool {
	for i, h := range c.hooks {
		if h == nil {
			continue
		}
		if !slices.Equal(c.reqs[i].Prompt, c.reqs[0].Prompt) || h.Digest() != c.hooks[0].Digest() || h.Alone() {
			return false
		}
	}
	return true
}

// cut says whether hooks have ended the completion: one stopped it, or they took back
// more than the scheduler draws.
func (g *generation) cut(reason string) bool {
	switch {
	case g.hooks == nil:
		return false
	case g.hooks.Stopped() != "":
		g.result.Reason, g.result.StopHook = Stopped, g.hooks.Stopped()
	case reason == string(OutOfRoom):
		g.result.Reason = OutOfRoom
	default:
		return false
	}
	g.finish()
	return true
}

// unhook tells hooks how the completion ended, and lets go of them.
func (g *generation) unhook(err error) {
	if g.hooks == nil {
		return
	}
	reason := string(g.result.Reason)
	switch {
	case g.result.StopHook != "":
		reason = g.result.StopHook
	case errors.Is(err, context.Canceled):
		reason = "cancelled"
	case err != nil:
		reason = "error"
	}
	g.result.PromptRouting = g.hooks.Prompt()
	g.result.Hooks = g.hooks.Finish(hook.Finish{Reason: reason, Prompt: g.result.Prompt, Completion: g.result.Completion})
}
