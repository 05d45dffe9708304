package openai

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Values of Config.SpecialTokens.
const (
	specialAsText = "text"
	specialAllow  = "allow"
)

// conversation is what a prompt is rendered from.
type conversation struct {
	input   chat.Input
	oneCall bool // one tool call a turn at most
}

// reserved are variables of templates that have fields of their own.
var reserved = []string{"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}

// conversation takes messages, tools and the switches of the template.
func (f *fields) conversation() conversation {
	var c conversation
	if messages := f.messages(); messages != nil {
		c.input.Messages = messages
	}
	if tools := f.tools(); tools != nil {
		c.input.Tools = tools
	}
	parallel := true
	f.take("parallel_tool_calls", &parallel)
	c.oneCall = !parallel
	f.take("continue_final_message", &c.input.ContinueFinalMessage)
	c.input.AddGenerationPrompt = !c.input.ContinueFinalMessage
	f.take("add_generation_prompt", &c.input.AddGenerationPrompt)
	if c.input.AddGenerationPrompt && c.input.ContinueFinalMessage {
		f.fail("cannot be combined with add_generation_prompt", "continue_final_message")
	}
	var raw json.RawMessage
	if f.take("chat_template_kwargs", &raw) {
		if kwargs, ok := f.objectValue("chat_template_kwargs", raw).(*chat.Map); ok {
			c.input.Kwargs = kwargs
			for name := range maps.Keys(maps.Collect(kwargs.All())) {
				if slices.Contains(reserved, name) {
					f.fail("must not have "+name+": it is a field of the request", "chat_template_kwargs")
				}
			}
		}
	}
	return c
}

// encode renders a conversation and turns it into token ids. thinking says
// that the prompt ends inside an opened thought.
func (s *Server) encode(ctx context.Context, m Model, c conversation) (ids []int32, thinking bool, err error) {
	if m.Template() == nil || m.Tokenizer() == nil {
		return nil, false, refuse(http.StatusBadRequest, "no_chat_template", "messages",
			"this model has no chat template or no tokenizer: use /v1/completions")
	}
	c.input.SpecialTokens = m.SpecialTokens()
	rendering, err := m.Template().Render(ctx, c.input)
	if err != nil {
		return nil, false, err
	}
	thinking = chat.StartsInReasoning(rendering.Text)
	if s.cfg.SpecialTokens == specialAllow {
		return m.Tokenizer().Encode(rendering.Text, tokenizer.Default), thinking, nil
	}
	plain := make([]tokenizer.Span, len(rendering.Plain))
	for i, span := range rendering.Plain {
		plain[i] = tokenizer.Span(span)
	}
	return m.Tokenizer().EncodeSpans(rendering.Text, plain), thinking, nil
}
