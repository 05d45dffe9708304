package openai

import (
	"context"
	"errors"
	"slices"

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

func (u *Usage) add(prompt, completion int) {
	u.PromptTokens += prompt
	u.CompletionTokens += completion
	u.TotalTokens += prompt + completion
}

// Extension is what we add to OpenAI's responses.
type Extension struct {
	Seed     uint64    `json:"seed"` // the one given, or the one drawn
	Warnings []Warning `json:"warnings,omitempty"`
}

// update is a step of one choice: pieces of its text and the tokens since the
// last update. The last one has a finish reason.
type update struct {
	pieces []piece
	tokens []engine.Token
	finish string
	stop   any // the stop text (string) or stop id (int32) that ended it
	left   *Leftover
}

// complete runs one choice. keep says whether updates have tokens.
func complete(ctx context.Context, m Model, req engine.Request, split splitter, keep bool, send func(update) error) (engine.Result, error) {
	var tokens []engine.Token
	flush := func(u update) error {
		u.tokens, tokens = tokens, nil
		return send(u)
	}
	result, err := m.Generate(ctx, req, func(t engine.Token) error {
		if keep {
			t.Candidates = slices.Clone(t.Candidates) // the engine may use its own again
			tokens = append(tokens, t)
		}
		pieces := split.push(t.Text)
		if len(pieces) > 0 {
			if err := flush(update{pieces: pieces}); err != nil {
				return err
			}
		}
		if split.enough() {
			return errEnough
		}
		return nil
	})
	var rest []piece
	switch {
	case errors.Is(err, errEnough):
		result.Reason = engine.Stopped
	case err != nil:
		return result, err
	default:
		rest = append(split.push(result.Tail), split.close()...)
	}
	u := update{pieces: rest, finish: string(result.Reason), stop: stopReason(req, result), left: split.left()}
	if result.Reason == engine.Stopped {
		u.finish = split.finish()
	}
	return result, flush(u)
}

// stopReason is vLLM's stop_reason: nil for an end token of the model.
func stopReason(req engine.Request, r engine.Result) any {
	switch {
	case r.StopText != "":
		return r.StopText
	case slices.Contains(req.StopIDs, r.StopID):
		return r.StopID
	}
	return nil
}
