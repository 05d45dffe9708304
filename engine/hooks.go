package engine

import (
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
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

func (t hookTokenizer) Decode(ids []int32) string { return t.Tokenizer.Decode(ids, false) }
