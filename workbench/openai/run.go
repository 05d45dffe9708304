package openai

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Usage counts tokens. A prompt counts once, however many choices it has.
type Usage struct {
	PromptTokens     int           `json:"prompt_tokens"`
	CompletionTokens int           `json:"completion_tokens"`
	TotalTokens      int           `json:"total_tokens"`
	PromptDetails    promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"` // tokens really skipped
}

// add counts a prompt and what was made of it.
func (u *Usage) add(prompt int, results []engine.Result) {
	u.PromptTokens += prompt
	for _, r := range results {
		u.CompletionTokens += r.Completion
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
}

// Extension is what we add to OpenAI's responses.
type Extension struct {
	Seed     uint64    `json:"seed"` // the one given, or the one drawn
	Warnings []Warning `json:"warnings,omitempty"`
	// Of the hooks of all choices, where some ran; and of each, where there are several.
	*HookUse
	Choices []ChoiceUse `json:"choices,omitempty"`
}

// update is a step of one choice: pieces of its text and the tokens since the
// last update. The last one has a finish reason.
type update struct {
	pieces []piece
	tokens []engine.Token
	finish string
	stop   any // the stop text (string) or stop id (int32) that ended it
	left   *Leftover
	result *engine.Result // of the last update
}

// errBroken ends a choice whose output could not be dealt with: a bug.
var errBroken = errors.New("a panic while an answer was taken apart")

// choice is one completion in the making.
type choice struct {
	split  splitter
	tokens []engine.Token // since the last update
}

// complete runs the choices of a prompt, which have indices from first on, with the
// request's hooks.
func (p *params) complete(ctx context.Context, m Model, req engine.Request, first int, split func() splitter, send func(k int, u update) error) ([]engine.Result, error) {
	p.hooks.attach(ctx, &req, p.n, first)
	o := observers{keep: p.logprobs || p.tokenIDs || p.hooks.back.tokens(), paces: make([]*pace, p.n)}
	for k := range o.paces {
		o.paces[k] = newPace()
		if err := o.paces[k].set(p.hooks.back.pace); err != nil {
			return nil, err
		}
	}
	if p.hooks.live != nil {
		o.watch = p.hooks.live.Watch(entryOf(ctx).id, first, p.n, &req, p.hooks.back.pace, func(k int, perSecond *float64) error { return o.paces[k].set(perSecond) })
	}
	results, err := complete(ctx, m, req, p.n, split, o, func(k int, u update) error {
		if u.result != nil {
			p.hooks.results = append(p.hooks.results, *u.result)
		}
		return send(k, u)
	})
	p.hooks.results = append(p.hooks.results[:first], results...)
	return results, err
}

// observers are who looks at the tokens of a request, beside its client.
type observers struct {
	keep  bool    // updates have tokens
	paces []*pace // of each choice; nil for none
	watch Watch   // nil for nobody
}

// complete runs n choices of a request side by side: the prompt is read once. The texts of a choice come as they are
// made, its last update when all choices have ended. When one fails, so does
// the request.
func complete(ctx context.Context, m Model, req engine.Request, n int, split func() splitter, o observers, send func(k int, u update) error) ([]engine.Result, error) {
	choices := make([]choice, n)
	for k := range choices {
		choices[k].split = split()
	}
	flush := func(k int, u update) error {
		u.tokens, choices[k].tokens = choices[k].tokens, nil
		return send(k, u)
	}
	var (
		mu     sync.Mutex // choices emit on goroutines of their own
		broken any
	)
	outcomes := m.GenerateChoices(ctx, req, n, func(k int, t engine.Token) (err error) {
		if o.paces != nil {
			if err := o.paces[k].wait(ctx); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		defer func() { // a panic belongs to the request's goroutine, where guard answers it
			if v := recover(); v != nil {
				broken, err = fmt.Sprintf("%v\n%s", v, debug.Stack()), errBroken
			}
		}()
		c := &choices[k]
		if o.watch != nil {
			o.watch.Token(k, t)
		}
		if o.keep {
			t.Candidates = slices.Clone(t.Candidates) // the engine may use its own again
			c.tokens = append(c.tokens, t)
		}
		if pieces := c.split.push(t.Text); len(pieces) > 0 {
			if err := flush(k, update{pieces: pieces}); err != nil {
				return err
			}
		}
		if c.split.enough() {
			return errEnough
		}
		return nil
	})
	if o.watch != nil {
		for k, out := range outcomes {
			o.watch.End(k, reasonOf(out), out.Result)
		}
	}
	if broken != nil {
		panic(broken)
	}
	results := make([]engine.Result, n)
	for k, o := range outcomes {
		if results[k] = o.Result; o.Err != nil && !errors.Is(o.Err, errEnough) {
			return results, o.Err
		}
	}
	for k, o := range outcomes {
		if err := flush(k, choices[k].last(req, &results[k], o.Err != nil)); err != nil {
			return results, err
		}
	}
	return results, nil
}

// reasonOf is why a choice ended, for who watches.
func reasonOf(o engine.Outcome) string {
	switch {
	case o.Err == nil:
		return string(o.Result.Reason)
	case errors.Is(o.Err, errEnough):
		return string(engine.Stopped)
	case errors.Is(o.Err, context.Canceled):
		return "cancelled"
	}
	return "error"
}

// last is the update that ends a choice; enough says that its splitter did.
func (c *choice) last(req engine.Request, r *engine.Result, enough bool) update {
	var rest []piece
	if enough {
		r.Reason = engine.Stopped
	} else {
		rest = append(c.split.push(r.Tail), c.split.close()...)
	}
	u := update{pieces: rest, finish: string(r.Reason), stop: stopReason(req, *r), left: c.split.left(), result: r}
	if r.Reason == engine.Stopped && r.StopHook == "" {
		u.finish = c.split.finish()
	}
	return u
}

// stopReason is vLLM's stop_reason: nil for an end token of the model.
func stopReason(req engine.Request, r engine.Result) any {
	switch {
	case r.StopHook != "":
		return r.StopHook
	case r.StopText != "":
		return r.StopText
	case slices.Contains(req.StopIDs, r.StopID):
		return r.StopID
	}
	return nil
}
