package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hooked"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/engine/sched"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Generate completes a prompt and calls emit for every token, on the caller's
// goroutine. It waits for room behind earlier callers (see Options.Queue). An
// error of emit, the end of ctx or of the deadline stops the work at the next
// border of steps, or of phases where the step is for nobody else; by the time Generate returns, its memory is given back. A
// slow emit slows its own stream only.
func (m *Model) Generate(ctx context.Context, req Request, emit func(Token) error) (Result, error) {
	c := m.choices(ctx, &req, 1)
	defer c.close()
	out := c.run(0, emit)
	return out.Result, out.Err
}

// GenerateChoices makes n completions of one prompt, which is read once where
// all fit in the cache together. Choice c draws as a request alone with Choice
// c higher. Each choice calls emit on a goroutine of its own; an error of emit
// ends that choice only.
func (m *Model) GenerateChoices(ctx context.Context, req Request, n int, emit func(choice int, t Token) error) []Outcome {
	if n < 1 || n > maxChoices {
		return []Outcome{{Err: fmt.Errorf("%d choices: 1 to %d are possible", n, maxChoices)}}
	}
	c := m.choices(ctx, &req, n)
	defer c.close()
	outcomes := make([]Outcome, n)
	var wait sync.WaitGroup
	for i := range outcomes {
		wait.Go(func() { outcomes[i] = c.run(i, func(t Token) error { return emit(i, t) }) })
	}
	wait.Wait()
	return outcomes
}

// maxChoices bounds what one request may ask for.
const maxChoices = 128

// How many tokens a stream may be ahead of its consumer. With stop texts, which
// the consumer looks for, it makes one more token than needed at most.
const (
	ahead     = 16
	aheadStop = 2
)

// choices are the streams of one request.
type choices struct {
	m       *Model
	req     *Request
	entered bool
	err     error // why there are none
	streams []*sched.Stream
	hooks   []*hooked.Sampler // of each choice; nil where nobody looks in
	reqs    []Request         // likewise: hooks may change a choice's prompt
	ctx     []context.Context
	cancel  []context.CancelCauseFunc
	stop    context.CancelFunc // of the deadline
}

// choices checks a request and queues it.
func (m *Model) choices(ctx context.Context, req *Request, n int) *choices {
	c := &choices{m: m, req: req, stop: func() {}}
	if c.err = m.check(req); c.err != nil {
		return c
	}
	if c.err = m.enter(); c.err != nil {
		return c
	}
	c.entered = true
	if !req.Deadline.IsZero() {
		ctx, c.stop = context.WithDeadline(ctx, req.Deadline)
	}
	list := make([]sched.Choice, n)
	for i := range list {
		one, cancel := context.WithCancelCause(ctx)
		c.ctx, c.cancel = append(c.ctx, one), append(c.cancel, cancel)
		if list[i], c.err = c.choice(one, i); c.err != nil {
			return c
		}
	}
	c.err = c.submit(list)
	return c
}

// choice makes what the scheduler needs of a choice.
func (c *choices) choice(ctx context.Context, i int) (sched.Choice, error) {
	m, req := c.m, *c.req
	req.Choice += uint32(i)
	sampler, err := sample.New(req.Sampling, req.Choice, m.info.Tokens, m.info.Vocab)
	if err != nil {
		return sched.Choice{}, err
	}
	choice := sched.Choice{Context: ctx, Sampler: sampler}
	var hooks *hooked.Sampler
	if req.Hooks != nil || req.Routing || req.PromptRouting {
		if hooks, err = m.hooked(&req, sampler); err != nil {
			return sched.Choice{}, err
		}
		choice.Sampler, choice.Beside = hooks, hooks.Beside()
	}
	c.hooks, c.reqs = append(c.hooks, hooks), append(c.reqs, req)
	sampler.Prompt(req.Prompt)
	return choice, nil
}

// submit queues the choices: as one, which reads the prompt once, where all read the
// same; else each alone.
func (c *choices) submit(list []sched.Choice) error {
	groups := [][]sched.Choice{list}
	if !c.alike() {
		groups = slices.Collect(slices.Chunk(list, 1))
	}
	for _, group := range groups {
		req := &c.reqs[len(c.streams)]
		r := sched.Request{Prompt: req.Prompt, MaxTokens: req.MaxTokens, Priority: req.Priority, Candidates: req.Candidates,
			PromptCandidates: req.PromptCandidates, Ahead: ahead, Ends: func(id int32) bool { return c.m.ends(req, id) }}
		if len(req.Stop) > 0 {
			r.Ahead = aheadStop
		}
		for i := range group {
			if h := c.hooks[len(c.streams)+i]; h != nil {
				r.Hold = max(r.Hold, h.Hold())
			}
		}
		streams, err := c.m.sched.Submit(r, group)
		if err != nil {
			for i, stream := range c.streams {
				c.cancel[i](err)
				stream.Wait()
			}
			return err
		}
		c.streams = append(c.streams, streams...)
	}
	return nil
}

// close lets go of the request. All choices have run.
func (c *choices) close() {
	for _, cancel := range c.cancel {
		cancel(nil)
	}
	for _, h := range c.hooks {
		if h != nil {
			h.Finish(hook.Finish{Reason: "error", Prompt: len(c.req.Prompt)}) // where no stream came of it
		}
	}
	c.stop()
	if c.entered {
		c.m.leave()
	}
}

// run consumes one choice until it has ended.
func (c *choices) run(choice int, emit func(Token) error) Outcome {
	if c.err != nil {
		return Outcome{Err: c.err}
	}
	stream, ctx, req := c.streams[choice], c.ctx[choice], &c.reqs[choice]
	g := &generation{m: c.m, req: req, stream: stream, hooks: c.hooks[choice], emit: emit, result: Result{StopID: -1, Prompt: len(req.Prompt)}}
	if c.m.tokenizer != nil {
		g.text = c.m.tokenizer.NewStream(true)
	}
	var done bool
	var err error
	for next := range stream.Tokens() {
		if ctx.Err() != nil {
			break
		}
		if done, err = g.take(next); done || err != nil {
			break
		}
	}
	if err != nil {
		c.cancel[choice](err)
	}
	end := stream.Wait()
	if err == nil && !done && end.Err == nil && g.cut(end.Reason) {
		done = true
	}
	if err == nil && !done {
		if err = end.Err; err == nil {
			err = context.Cause(ctx) // the stream had ended, its tokens were still to come
		}
	}
	for _, s := range end.Prompt {
		g.result.PromptTokens = append(g.result.PromptTokens, Token{ID: s.Watched.ID, Logprob: s.Watched.Logprob, Candidates: s.Candidates})
	}
	g.result.Queued, g.result.Prefill, g.result.Decode = end.Queued, end.Prefill, end.Decode
	g.unhook(err)
	c.hooks[choice] = nil
	return Outcome{Result: g.result, Err: err}
}

// check refuses requests that cannot be served and fills in MaxTokens.
func (m *Model) check(req *Request) error {
	room := m.info.Context - len(req.Prompt)
	if req.MaxTokens == 0 {
		req.MaxTokens = max(room, 1)
	}
	s := &req.Sampling
	switch {
	case len(req.Prompt) == 0:
		return errors.New("the prompt has no tokens")
	case req.MaxTokens < 0:
		return fmt.Errorf("max_tokens is %d: it must be positive", req.MaxTokens)
	case req.MaxTokens > room:
		return &ContextError{Prompt: len(req.Prompt), MaxTokens: req.MaxTokens, Limit: m.info.Context}
	case !(s.Temperature >= 0) || s.TopK < 0 || !(s.TopP >= 0 && s.TopP <= 1) || !(s.MinP >= 0 && s.MinP <= 1):
		return fmt.Errorf("sampling parameters out of range: temperature %v and top_k %d must not be negative, top_p %v and min_p %v lie in 0 to 1",
			s.Temperature, s.TopK, s.TopP, s.MinP)
	case req.Candidates < 0 || req.Candidates > 256 || req.PromptCandidates != nil && (*req.PromptCandidates < 0 || *req.PromptCandidates > 256):
		return fmt.Errorf("%d candidates a token: 0 to 256 are possible", req.Candidates)
	case req.PromptRouting && len(req.Prompt) > maxPromptRouting:
		return fmt.Errorf("the routing of %d prompt tokens: it is kept for %d at most", len(req.Prompt), maxPromptRouting)
	case len(req.Stop) > 0 && m.tokenizer == nil:
		return errors.New("stop texts need a tokenizer, which this model folder lacks")
	}
	for i, id := range req.Prompt {
		if id < 0 || int(id) >= m.info.Vocab {
			return fmt.Errorf("prompt token %d is id %d: ids lie in 0 to %d", i, id, m.info.Vocab-1)
		}
	}
	return nil
}

// maxPromptRouting bounds what Request.PromptRouting keeps: 47 MB at the real shape.
const maxPromptRouting = 16384

// generation is one completion in the making.
type generation struct {
	m      *Model
	req    *Request
	stream *sched.Stream
	hooks  *hooked.Sampler // nil where nobody looks in
	emit   func(Token) error
	text   *tokenizer.Stream // nil without a tokenizer
	held   string            // text that may begin a stop
	result Result
}

// take adds a drawn token to the completion and says whether it was the last.
func (g *generation) take(s ops.Sample) (done bool, err error) {
	g.result.Completion++
	token := Token{ID: s.Token.ID, Logprob: s.Token.Logprob, Candidates: s.Candidates, Drawn: s.Drawn}
	if g.req.Logprobs == OfChain {
		token.Logprob = s.Chosen
	}
	if g.hooks != nil {
		extra := g.hooks.Next()
		token.Routing, token.Forced, token.Changes = extra.Routing, extra.Forced, extra.Changes
	}
	if g.m.ends(g.req, token.ID) {
		g.result.Reason, g.result.StopID = Stopped, token.ID
		g.finish()
		return true, g.emit(token)
	}
	if g.text != nil {
		var stopped bool
		token.Text, stopped = g.release(g.text.Push(token.ID))
		if stopped {
			g.stream.Stop()
			g.result.Reason = Stopped
			return true, g.emit(token)
		}
	}
	g.stream.Taken()
	if err := g.emit(token); err != nil {
		return true, err
	}
	if g.result.Completion == g.req.MaxTokens {
		g.result.Reason = OutOfRoom
		g.finish()
		return true, nil
	}
	return false, nil
}

// ends says whether an id ends the completion.
func (m *Model) ends(req *Request, id int32) bool {
	return slices.Contains(req.StopIDs, id) || !req.IgnoreEOS && slices.Contains(m.info.EOS, id)
}

// release adds text to what is held back and returns what may be shown: all
// before a stop text, or all but an end that may begin one.
func (g *generation) release(text string) (show string, stopped bool) {
	g.held += text
	first := -1
	for _, stop := range g.req.Stop {
		if at := strings.Index(g.held, stop); stop != "" && at >= 0 && (first < 0 || at < first) {
			first, g.result.StopText = at, stop
		}
	}
	if first >= 0 {
		show, g.held = g.held[:first], ""
		return show, true
	}
	keep := 0
	for _, stop := range g.req.Stop {
		keep = max(keep, overlap(g.held, stop))
	}
	show, g.held = g.held[:len(g.held)-keep], g.held[len(g.held)-keep:]
	return show, false
}

// overlap returns the length of the longest end of text that begins stop.
func overlap(text, stop string) int {
	for n := min(len(text), len(stop)-1); n > 0; n-- {
		if strings.HasSuffix(text, stop[:n]) {
			return n
		}
	}
	return 0
}

// finish lets go of held text. A stop text can still complete in the flushed
// bytes of a broken character.
func (g *generation) finish() {
	if g.text == nil {
		return
	}
	show, stopped := g.release(g.text.Flush())
	g.result.Tail = show
	if !stopped {
		g.result.Tail, g.held = show+g.held, ""
	}
}
