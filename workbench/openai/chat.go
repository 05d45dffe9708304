package openai

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
)

// chatRequest is a request for chat completions.
type chatRequest struct {
	params
	conversation
}

// ChatCompletion is a response of /v1/chat/completions.
type ChatCompletion struct {
	chatHead
	Choices []ChatChoice `json:"choices"`
	Usage   *Usage       `json:"usage"`
}

// ChatChunk is one event of a streamed response.
type ChatChunk struct {
	chatHead
	Choices []ChunkChoice `json:"choices"`
	Usage   *Usage        `json:"usage"` // null but in the last chunk
}

// chatHead is what every chunk of a response repeats.
type chatHead struct {
	ID             string     `json:"id"`
	Object         string     `json:"object"`
	Created        int64      `json:"created"`
	Model          string     `json:"model"`
	Fingerprint    string     `json:"system_fingerprint"`
	PromptTokenIDs []int32    `json:"prompt_token_ids,omitempty"`
	Extension      *Extension `json:"roundhouse,omitempty"` // in the first chunk, and in the last where hooks ran
}

// ChatChoice is one answer.
type ChatChoice struct {
	Index        int              `json:"index"`
	Message      Message          `json:"message"`
	Logprobs     *chatLogprobs    `json:"logprobs"`
	FinishReason string           `json:"finish_reason"`
	StopReason   any              `json:"stop_reason"`
	TokenIDs     []int32          `json:"token_ids,omitempty"`
	Extension    *ChoiceExtension `json:"roundhouse,omitempty"`
}

// Message is what the model answered.
type Message struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"`
	Refusal   *string    `json:"refusal"`
	Reasoning *string    `json:"reasoning_content,omitempty"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
}

// ToolCall is a call the model asks for.
type ToolCall struct {
	Index    *int         `json:"index,omitempty"` // in chunks only
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function CallFunction `json:"function"`
}

// CallFunction names the function; Arguments is a JSON object as text.
type CallFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// ChunkChoice is a part of an answer.
type ChunkChoice struct {
	Index        int              `json:"index"`
	Delta        Delta            `json:"delta"`
	Logprobs     *chatLogprobs    `json:"logprobs"`
	FinishReason *string          `json:"finish_reason"`
	StopReason   any              `json:"stop_reason,omitempty"`
	TokenIDs     []int32          `json:"token_ids,omitempty"`
	Extension    *ChoiceExtension `json:"roundhouse,omitempty"` // with the finish reason, and with tokens where asked for
}

// Delta is what a chunk adds to the message.
type Delta struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	Reasoning *string    `json:"reasoning_content,omitempty"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
}

// chatCompletions is POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) error {
	m, err := s.current()
	if err != nil {
		return err
	}
	f, hooks, err := s.request(w, r)
	if err != nil {
		return err
	}
	req, err := readChatRequest(f, m)
	if err != nil {
		return hooks.blame(err)
	}
	req.hooks = hooks
	ids, thinking, err := s.encode(r.Context(), m, req.conversation)
	if err != nil {
		return err
	}
	info := m.Info()
	if err := errors.Join(room(ids, req.request, info), hooks.room(len(ids), req.n)); err != nil {
		return err
	}
	req.request.Prompt = ids
	c := &chatRun{
		model: m, req: req, thinking: thinking, log: entryOf(r.Context()),
		head: chatHead{
			ID: "chatcmpl-" + randomID(), Object: "chat.completion", Created: time.Now().Unix(),
			Model: info.Name, Fingerprint: info.Fingerprint,
			Extension: &Extension{Seed: req.request.Sampling.Seed, Warnings: *f.warnings},
		},
	}
	if req.tokenIDs {
		c.head.PromptTokenIDs = ids
	}
	if req.stream {
		c.head.Object = "chat.completion.chunk"
	}
	return s.respond(w, r, started{"chat", c.head.Model, req.n, req.stream}, hooks,
		func(ctx context.Context) (any, error) { return c.whole(ctx) }, c.stream)
}

func readChatRequest(f *fields, m Model) (*chatRequest, error) {
	info := m.Info()
	if err := f.model(info); err != nil {
		return nil, err
	}
	req := &chatRequest{params: f.params(info, m.Tokenizer()), conversation: f.conversation()}
	var limit, newer *int
	f.take("max_tokens", &limit)
	between(f, "max_tokens", limit, 1, 1<<30)
	f.take("max_completion_tokens", &newer)
	between(f, "max_completion_tokens", newer, 1, 1<<30)
	if limit != nil && newer != nil && *limit != *newer {
		f.fail("and max_tokens differ: send one of them", "max_completion_tokens")
	}
	for _, n := range []*int{limit, newer} {
		if n != nil {
			req.request.MaxTokens = *n
		}
	}
	f.take("logprobs", &req.logprobs)
	if f.take("top_logprobs", &req.top) {
		between(f, "top_logprobs", &req.top, 0, maxTop)
		if !req.logprobs {
			f.fail("is only allowed with logprobs: true", "top_logprobs")
		}
		req.request.Candidates = req.top
	}
	if err := f.rest(); err != nil {
		return nil, err
	}
	return req, nil
}

// chatRun runs the choices of a request.
type chatRun struct {
	model    Model
	req      *chatRequest
	head     chatHead
	thinking bool
	log      *logEntry
	usage    Usage
}

// splitter reads one answer.
func (c *chatRun) splitter() splitter {
	return &answer{oneCall: c.req.oneCall, parser: chat.NewParser(chat.OutputOptions{
		Style: c.model.Template().CallStyle(), Tools: c.req.input.Tools, InReasoning: c.thinking,
	})}
}

// run runs all choices and counts them.
func (c *chatRun) run(ctx context.Context, send func(k int, u update) error) error {
	results, err := c.req.complete(ctx, c.model, c.req.request, 0, c.splitter, send)
	c.usage.add(len(c.req.request.Prompt), results)
	c.log.prompt, c.log.completion = c.usage.PromptTokens, c.usage.CompletionTokens
	return err
}

// gathered is an answer while it is put together.
type gathered struct {
	ChatChoice
	content, reasoning strings.Builder
	tokens             []engine.Token
}

func (g *gathered) add(u update, h *hooked) {
	g.Extension = h.gather(g.Extension, u)
	for _, p := range u.pieces {
		g.content.WriteString(p.content)
		g.reasoning.WriteString(p.reasoning)
		if p.call != nil {
			g.Message.ToolCalls = append(g.Message.ToolCalls, *p.call)
		}
	}
	g.tokens = append(g.tokens, u.tokens...)
	g.FinishReason, g.StopReason = u.finish, u.stop
}

// whole collects all choices.
func (c *chatRun) whole(ctx context.Context) (*ChatCompletion, error) {
	out := &ChatCompletion{chatHead: c.head, Usage: &c.usage}
	answers := make([]gathered, c.req.n)
	err := c.run(ctx, func(k int, u update) error {
		answers[k].add(u, c.req.hooks)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Extension = c.req.hooks.report(*out.Extension)
	for k := range answers {
		g := &answers[k]
		g.Index, g.Message.Role = k, "assistant"
		if g.content.Len() > 0 || len(g.Message.ToolCalls) == 0 {
			g.Message.Content = text(g.content.String())
		}
		if g.reasoning.Len() > 0 {
			g.Message.Reasoning = text(g.reasoning.String())
		}
		g.Logprobs, g.TokenIDs = c.report(g.tokens)
		out.Choices = append(out.Choices, g.ChatChoice)
	}
	return out, nil
}

// report has what was asked for about tokens.
func (c *chatRun) report(tokens []engine.Token) (logprobs *chatLogprobs, ids []int32) {
	if c.req.logprobs {
		logprobs = newChatLogprobs(c.model.Tokenizer(), tokens, c.req.top)
	}
	if c.req.tokenIDs {
		ids = idsOf(tokens)
	}
	return logprobs, ids
}

// stream sends all choices as they come.
func (c *chatRun) stream(ctx context.Context, out *stream) error {
	for k := range c.req.n {
		// Early, so that the client sees life during the prefill.
		if err := c.send(out.hold, ChunkChoice{Index: k, Delta: Delta{Role: "assistant", Content: text("")}}); err != nil {
			return err
		}
	}
	calls := make([]int, c.req.n)
	if err := c.run(ctx, func(k int, u update) error { return c.update(out, k, &calls[k], u) }); err != nil {
		return err
	}
	if c.req.includeUsage {
		if err := out.send(ChatChunk{chatHead: c.head, Choices: []ChunkChoice{}, Usage: &c.usage}); err != nil {
			return err
		}
	}
	return out.end()
}

// update sends one chunk for each piece; the tokens go with the first. The
// finish reason has a chunk of its own, as OpenAI sends it.
func (c *chatRun) update(out *stream, k int, calls *int, u update) error {
	chunk := ChunkChoice{Index: k}
	if len(u.tokens) > 0 {
		chunk.Logprobs, chunk.TokenIDs = c.report(u.tokens)
		chunk.Extension = c.req.hooks.extension(update{tokens: u.tokens})
	}
	for _, p := range u.pieces {
		switch {
		case p.call != nil:
			call, index := *p.call, *calls
			call.Index = &index
			*calls++
			chunk.Delta = Delta{ToolCalls: []ToolCall{call}}
		case p.reasoning != "":
			chunk.Delta = Delta{Reasoning: &p.reasoning}
		default:
			chunk.Delta = Delta{Content: &p.content}
		}
		if err := c.send(out.send, chunk); err != nil {
			return err
		}
		chunk = ChunkChoice{Index: k}
	}
	if u.finish == "" {
		return nil
	}
	chunk.FinishReason, chunk.StopReason, chunk.Delta = &u.finish, u.stop, Delta{}
	if len(u.pieces) > 0 {
		u.tokens = nil // they went with the first piece
	}
	chunk.Extension = c.req.hooks.extension(u)
	if c.req.hooks.reports(k) {
		c.head.Extension = c.req.hooks.report(Extension{Seed: c.req.request.Sampling.Seed})
	}
	return c.send(out.send, chunk)
}

// send sends one chunk. Extension and prompt ids go with the first.
func (c *chatRun) send(send func(any) error, choice ChunkChoice) error {
	err := send(ChatChunk{chatHead: c.head, Choices: []ChunkChoice{choice}})
	c.head.Extension, c.head.PromptTokenIDs = nil, nil
	return err
}

func text(s string) *string { return &s }
