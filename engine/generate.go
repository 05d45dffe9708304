package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Generate completes a prompt and calls emit for every token. It waits for room
// behind earlier callers. An error of emit, or the end of ctx, stops the work
// at the next phase.
func (m *Model) Generate(ctx context.Context, req Request, emit func(Token) error) (Result, error) {
	if err := m.check(&req); err != nil {
		return Result{}, err
	}
	queued := time.Now()
	seq, err := m.NewSequence(ctx, len(req.Prompt)+req.MaxTokens)
	if err != nil {
		return Result{}, err
	}
	defer seq.Release()
	g := &generation{m: m, req: &req, seq: seq, emit: emit, result: Result{StopID: -1, Prompt: len(req.Prompt)}}
	if m.tokenizer != nil {
		g.text = m.tokenizer.NewStream(true)
	}
	start := time.Now()
	g.result.Queued = start.Sub(queued)
	next, err := g.prompt(ctx)
	if err != nil {
		return g.result, err
	}
	read := time.Now()
	g.result.Prefill = read.Sub(start)
	err = g.decode(ctx, next)
	g.result.Decode = time.Since(read)
	return g.result, err
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

// generation is one completion in the making.
type generation struct {
	m      *Model
	req    *Request
	seq    *Sequence
	emit   func(Token) error
	text   *tokenizer.Stream // nil without a tokenizer
	held   string            // text that may begin a stop
	result Result
}

// sampling returns the parameters of the draw at a position.
func (g *generation) sampling(position int) ops.Sampling {
	s := g.req.Sampling
	return ops.Sampling{
		Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, Seed: s.Seed,
		Choice: g.req.Choice, Position: uint32(position), Candidates: g.req.Candidates, Watch: -1,
	}
}

// prompt reads the prompt and draws the first token.
func (g *generation) prompt(ctx context.Context) (ops.Sample, error) {
	ids := g.req.Prompt
	opts := StepOptions{Logits: []int{len(ids) - 1}, Sampling: []ops.Sampling{g.sampling(len(ids))}}
	if want := g.req.PromptCandidates; want != nil {
		opts.Logits, opts.Sampling = nil, nil
		for i := range ids {
			s := ops.Sampling{Candidates: *want, Watch: -1}
			if i+1 < len(ids) {
				s.Watch = ids[i+1]
			} else {
				s = g.sampling(len(ids))
			}
			opts.Logits, opts.Sampling = append(opts.Logits, i), append(opts.Sampling, s)
		}
	}
	samples, err := g.seq.Read(ctx, ids, opts)
	if err != nil {
		return ops.Sample{}, err
	}
	last := len(samples) - 1
	for _, s := range samples[:last] {
		g.result.PromptTokens = append(g.result.PromptTokens,
			Token{ID: s.Watched.ID, Logprob: s.Watched.Logprob, Candidates: slices.Clone(s.Candidates)})
	}
	return samples[last], nil
}

// decode emits tokens, and draws the next, until something ends the completion.
func (g *generation) decode(ctx context.Context, next ops.Sample) error {
	for {
		done, err := g.take(next)
		if done || err != nil {
			return err
		}
		samples, err := g.seq.Read(ctx, []int32{next.Token.ID}, StepOptions{
			Logits: []int{0}, StepForm: true,
			Sampling: []ops.Sampling{g.sampling(g.seq.Length() + 1)},
		})
		if err != nil {
			return err
		}
		next = samples[0]
	}
}

// take adds a drawn token to the completion and says whether it was the last.
func (g *generation) take(s ops.Sample) (done bool, err error) {
	g.result.Completion++
	token := Token{ID: s.Token.ID, Logprob: s.Token.Logprob, Candidates: s.Candidates}
	if g.ends(token.ID) {
		g.result.Reason, g.result.StopID = Stopped, token.ID
		g.finish()
		return true, g.emit(token)
	}
	if g.text != nil {
		var stopped bool
		token.Text, stopped = g.release(g.text.Push(token.ID))
		if stopped {
			g.result.Reason = Stopped
			return true, g.emit(token)
		}
	}
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
func (g *generation) ends(id int32) bool {
	return slices.Contains(g.req.StopIDs, id) || !g.req.IgnoreEOS && slices.Contains(g.m.info.EOS, id)
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
