package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// maxPrompts of one completions request.
const maxPrompts = 1024

// textRequest is a request for completions.
type textRequest struct {
	params
	prompts   []textPrompt
	echo      bool
	scoreOnly bool // max_tokens 0: no token is wanted
}

// textPrompt is one prompt: its ids, and its text where it was sent as text.
type textPrompt struct {
	ids  []int32
	text string
}

// Completion is a response of /v1/completions, and a chunk of a streamed one.
type Completion struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	Model       string       `json:"model"`
	Fingerprint string       `json:"system_fingerprint"`
	Choices     []TextChoice `json:"choices"`
	Usage       *Usage       `json:"usage,omitempty"`
	Extension   *Extension   `json:"roundhouse,omitempty"`
}

// TextChoice is one completion, or a part of it.
type TextChoice struct {
	Index          int              `json:"index"`
	Text           string           `json:"text"`
	Logprobs       *textLogprobs    `json:"logprobs"`
	FinishReason   *string          `json:"finish_reason"`
	StopReason     any              `json:"stop_reason"`
	PromptTokenIDs []int32          `json:"prompt_token_ids,omitempty"`
	TokenIDs       []int32          `json:"token_ids,omitempty"`
	Extension      *ChoiceExtension `json:"roundhouse,omitempty"`
}

// completions is POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) error {
	m, err := s.current()
	if err != nil {
		return err
	}
	f, hooks, err := s.request(w, r)
	if err != nil {
		return err
	}
	req, err := readTextRequest(f, m)
	if err != nil {
		return hooks.blame(err)
	}
	req.hooks = hooks
	longest := 0
	for _, p := range req.prompts {
		longest = max(longest, len(p.ids))
	}
	choices := req.n * len(req.prompts)
	if err := hooks.room(longest, choices); err != nil {
		return err
	}
	t := &textRun{
		model: m, req: req, log: entryOf(r.Context()),
		head: Completion{
			ID: "cmpl-" + randomID(), Object: "text_completion", Created: time.Now().Unix(),
			Model: m.Info().Name, Fingerprint: m.Info().Fingerprint,
			Extension: &Extension{Seed: req.request.Sampling.Seed, Warnings: *f.warnings},
		},
	}
	return s.respond(w, r, started{"text", t.head.Model, choices, req.stream}, hooks,
		func(ctx context.Context) (any, error) { return t.whole(ctx) }, t.stream)
}

func readTextRequest(f *fields, m Model) (*textRequest, error) {
	info := m.Info()
	if err := f.model(info); err != nil {
		return nil, err
	}
	req := &textRequest{params: f.params(info, m.Tokenizer())}
	f.take("echo", &req.echo)
	var top int
	if f.take("logprobs", &top) {
		between(f, "logprobs", &top, 0, maxTop)
		req.logprobs, req.top = true, top
		req.request.Candidates = top
	}
	req.request.MaxTokens = 16 // OpenAI's default
	if f.take("max_tokens", &req.request.MaxTokens) {
		between(f, "max_tokens", &req.request.MaxTokens, 0, 1<<30)
	}
	if req.scoreOnly = req.request.MaxTokens == 0; req.scoreOnly {
		req.request.MaxTokens = 1 // costs one draw: the engine stops after the prefill
	}
	if req.echo && req.logprobs {
		req.request.PromptCandidates = &req.top
	}
	raw := f.raw["prompt"]
	delete(f.raw, "prompt")
	if err := f.rest(); err != nil {
		return nil, err
	}
	if len(req.request.Stop) > 0 && m.Tokenizer() == nil {
		return nil, invalid("stop", "this model has no tokenizer: use stop_token_ids")
	}
	prompts, err := readPrompts(raw, m.Tokenizer(), info)
	if err != nil {
		return nil, err
	}
	for _, p := range prompts {
		if err := room(p.ids, req.request, info); err != nil {
			return nil, err
		}
	}
	req.prompts = prompts
	return req, nil
}

// readPrompts reads a text, a list of texts, a list of ids, or a list of lists
// of ids. Control tokens in a text are read as such: this endpoint takes the
// text as the model would see it.
func readPrompts(raw json.RawMessage, t *tokenizer.Tokenizer, info engine.Info) ([]textPrompt, *Error) {
	var (
		one   string
		texts []string
		ids   []int32
		lists [][]int32
	)
	switch {
	case kindOf(raw) == "nothing" || kindOf(raw) == "null":
		return nil, invalid("prompt", "is missing")
	case json.Unmarshal(raw, &one) == nil:
		texts = []string{one}
	case json.Unmarshal(raw, &texts) == nil && len(texts) > 0:
	case json.Unmarshal(raw, &ids) == nil && len(ids) > 0:
		texts, lists = nil, [][]int32{ids}
	case json.Unmarshal(raw, &lists) == nil && len(lists) > 0:
		texts = nil
	default:
		return nil, invalid("prompt", "must be a text, a list of texts, a list of token ids, or a list of lists of token ids, and not empty")
	}
	if n := max(len(texts), len(lists)); n > maxPrompts {
		return nil, invalid("prompt", "has %d prompts, at most %d are possible", n, maxPrompts)
	}
	if len(texts) > 0 && t == nil {
		return nil, invalid("prompt", "this model has no tokenizer: send token ids")
	}
	var prompts []textPrompt
	for _, text := range texts {
		prompts = append(prompts, textPrompt{ids: t.Encode(text, tokenizer.Default), text: text})
	}
	for _, list := range lists {
		p := textPrompt{ids: list}
		if t != nil {
			p.text = t.Decode(list, false)
		}
		prompts = append(prompts, p)
	}
	for i, p := range prompts {
		if len(p.ids) == 0 {
			return nil, invalid("prompt", "prompt %d has no tokens", i)
		}
		for _, id := range p.ids {
			if id < 0 || int(id) >= info.Vocab {
				return nil, invalid("prompt", "prompt %d has token id %d: ids lie in 0 to %d", i, id, info.Vocab-1)
			}
		}
	}
	return prompts, nil
}

// textRun runs the prompts of a request one after another, the choices of each
// side by side. Choices are keyed by their number within their prompt, so that
// a prompt in a list draws as it would alone.
type textRun struct {
	model Model
	req   *textRequest
	head  Completion
	log   *logEntry
	usage Usage
}

// whole collects all choices.
func (t *textRun) whole(ctx context.Context) (*Completion, error) {
	out := t.head
	for i, p := range t.req.prompts {
		choices, err := t.choices(ctx, i*t.req.n, p)
		if err != nil {
			return nil, err
		}
		out.Choices = append(out.Choices, choices...)
	}
	out.Usage, out.Extension = &t.usage, t.req.hooks.report(*out.Extension)
	return &out, nil
}

// stream sends all choices as they come.
func (t *textRun) stream(ctx context.Context, out *stream) error {
	for i, p := range t.req.prompts {
		send := t.pieces
		if t.req.echo && t.req.logprobs || t.req.scoreOnly {
			// The prompt's log-probabilities are known at the end, and stand
			// first: there is nothing to send before.
			send = t.atOnce
		}
		if err := send(ctx, out, i*t.req.n, p); err != nil {
			return err
		}
	}
	if t.req.includeUsage {
		last := t.head
		last.Choices, last.Usage = []TextChoice{}, &t.usage
		if err := out.send(last); err != nil {
			return err
		}
	}
	return out.end()
}

// atOnce sends the choices of a prompt, from index first on, when they are
// complete.
func (t *textRun) atOnce(ctx context.Context, out *stream, first int, p textPrompt) error {
	choices, err := t.choices(ctx, first, p)
	for _, c := range choices {
		err = errors.Join(err, t.send(out.send, c))
	}
	return err
}

// pieces sends the choices of a prompt as they are made.
func (t *textRun) pieces(ctx context.Context, out *stream, first int, p textPrompt) error {
	logprobs := make([]*textLogprobsOf, t.req.n)
	for k := range logprobs {
		logprobs[k] = newTextLogprobs(t.model.Tokenizer(), t.req.top)
		c := TextChoice{Index: first + k}
		if t.req.echo {
			c.Text = p.text
		}
		if t.req.tokenIDs {
			c.PromptTokenIDs = p.ids
		}
		if err := t.send(out.hold, c); err != nil { // early: the client sees life
			return err
		}
	}
	_, err := t.run(ctx, first, p, func(k int, u update) error { return t.send(out.send, t.part(first+k, u, logprobs[k])) })
	return err
}

// send sends one chunk. The extension goes with the first.
func (t *textRun) send(send func(any) error, c TextChoice) error {
	if c.FinishReason != nil && t.req.hooks.reports(c.Index) {
		t.head.Extension = t.req.hooks.report(Extension{Seed: t.req.request.Sampling.Seed})
	}
	chunk := t.head
	chunk.Choices = []TextChoice{c}
	t.head.Extension = nil
	return send(chunk)
}

// run runs the choices of a prompt, which have indices from first on, and counts them.
func (t *textRun) run(ctx context.Context, first int, p textPrompt, send func(int, update) error) ([]engine.Result, error) {
	req := t.req.request
	req.Prompt = p.ids
	results, err := t.req.complete(ctx, t.model, req, first, func() splitter { return plain{} }, send)
	if t.req.scoreOnly {
		for k := range results {
			results[k].Completion = 0
		}
	}
	t.usage.add(len(p.ids), results)
	t.log.prompt, t.log.completion = t.usage.PromptTokens, t.usage.CompletionTokens
	return results, err
}

// choices runs the choices of a prompt, which have indices from first on, to
// their end.
func (t *textRun) choices(ctx context.Context, first int, p textPrompt) ([]TextChoice, error) {
	texts, all := make([]strings.Builder, t.req.n), make([]update, t.req.n)
	extensions := make([]*ChoiceExtension, t.req.n)
	results, err := t.run(ctx, first, p, func(k int, u update) error {
		if t.req.scoreOnly {
			u.pieces, u.tokens = nil, nil
		}
		extensions[k] = t.req.hooks.gather(extensions[k], u)
		texts[k].WriteString(joined(u.pieces))
		all[k].tokens = append(all[k].tokens, u.tokens...)
		all[k].finish, all[k].stop = u.finish, u.stop
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]TextChoice, t.req.n)
	for k := range out {
		if out[k], err = t.choice(first+k, p, texts[k].String(), all[k], results[k]); err != nil {
			return nil, err
		}
		out[k].Extension = extensions[k]
	}
	return out, nil
}

// choice is a complete choice; all has its tokens and how it ended.
func (t *textRun) choice(index int, p textPrompt, text string, all update, result engine.Result) (TextChoice, error) {
	choice := TextChoice{Index: index, Text: text, FinishReason: &all.finish, StopReason: all.stop}
	if t.req.tokenIDs {
		choice.PromptTokenIDs, choice.TokenIDs = p.ids, idsOf(all.tokens)
	}
	if t.req.scoreOnly {
		length := string(engine.OutOfRoom)
		choice.FinishReason, choice.StopReason = &length, nil
	}
	if t.req.echo {
		choice.Text = p.text + choice.Text
	}
	if t.req.logprobs {
		scored := all.tokens
		if t.req.echo {
			if got, want := len(result.PromptTokens), len(p.ids)-1; got != want {
				return choice, fmt.Errorf("log-probabilities of %d prompt tokens came back, of %d asked for", got, want)
			}
			scored = append([]engine.Token{{ID: p.ids[0]}}, append(result.PromptTokens, scored...)...)
		}
		choice.Logprobs = newTextLogprobs(t.model.Tokenizer(), t.req.top).take(scored, t.req.echo)
	}
	return choice, nil
}

// part is one streamed piece of a choice.
func (t *textRun) part(index int, u update, logprobs *textLogprobsOf) TextChoice {
	c := TextChoice{Index: index, Text: joined(u.pieces), StopReason: u.stop}
	if u.finish != "" {
		c.FinishReason = &u.finish
	}
	if t.req.logprobs {
		c.Logprobs = logprobs.take(u.tokens, false)
	}
	if t.req.tokenIDs {
		c.TokenIDs = idsOf(u.tokens)
	}
	c.Extension = t.req.hooks.extension(u)
	return c
}
