package openai

import (
	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// HookUse is what hooks did to a choice, or to all choices of a request.
type HookUse struct {
	// Degraded counts tokens that took the default because a hook failed. An answer
	// with any is not exact.
	Degraded    int          `json:"degraded_tokens"`
	StopHook    string       `json:"stop_hook,omitempty"` // what a hook ended the choice for
	Synchronous bool         `json:"synchronous,omitempty"`
	Undrafted   bool         `json:"undrafted,omitempty"`
	Uncaptured  bool         `json:"uncaptured,omitempty"` // hooks looked into the forward pass, which ran phase by phase
	Scripts     []ScriptUse  `json:"scripts,omitempty"`
	Hooks       []hook.Usage `json:"hooks,omitempty"` // where asked for
}

// ChoiceUse is HookUse of one of several choices.
type ChoiceUse struct {
	Index int `json:"index"`
	HookUse
}

// ChoiceExtension is what we add to a choice.
type ChoiceExtension struct {
	*Leftover
	Tokens []TokenData `json:"tokens,omitempty"`
	// LeftOut counts the tokens that have no data because there are too many.
	LeftOut int            `json:"tokens_left_out,omitempty"`
	Prompt  []*RoutingData `json:"prompt_routing,omitempty"`
}

// TokenData is what was asked for about one token.
type TokenData struct {
	ID         int32         `json:"id"`
	Forced     bool          `json:"forced,omitempty"`  // a hook put it there: it was not drawn
	Changes    []hook.Change `json:"changes,omitempty"` // what hooks did to it
	Routing    *RoutingData  `json:"routing,omitempty"`
	Candidates []ranked      `json:"candidates,omitempty"`
}

// ranked is a token with its log-probability: [id, logprob].
type ranked [2]float64

// RoutingData is what a row was routed to: the experts of each layer, best first, and
// their weights as they were applied.
type RoutingData struct {
	Position int         `json:"position"` // of the row: the one before the token that was drawn from it
	IDs      [][]uint16  `json:"ids"`
	Weights  [][]float32 `json:"weights"`
}

// routingData is the form of a record in replies.
func routingData(r *hook.Record) *RoutingData {
	out := &RoutingData{Position: r.Position, IDs: make([][]uint16, r.Layers), Weights: make([][]float32, r.Layers)}
	for layer := range r.Layers {
		n := 0
		for n < r.K && r.IDs[layer*r.K+n] != hook.NoExpert {
			n++
		}
		out.IDs[layer], out.Weights[layer] = r.IDs[layer*r.K:][:n:n], r.Weights[layer*r.K:][:n:n]
	}
	return out
}

// data is what was asked for about tokens; nil for nothing.
func (h *hooked) data(tokens []engine.Token) []TokenData {
	if !h.back.tokens() || len(tokens) == 0 {
		return nil
	}
	out := make([]TokenData, len(tokens))
	for i, t := range tokens {
		out[i] = TokenData{ID: t.ID, Forced: t.Forced, Changes: t.Changes}
		if h.back.routing && t.Routing != nil {
			out[i].Routing = routingData(t.Routing)
		}
		for _, c := range t.Candidates[:min(len(t.Candidates), h.back.candidates)] {
			out[i].Candidates = append(out[i].Candidates, ranked{float64(c.ID), float64(logprob(c.Logprob))})
		}
	}
	return out
}

// extension is what a part of a choice has beside OpenAI's fields; nil for nothing.
func (h *hooked) extension(u update) *ChoiceExtension {
	e := &ChoiceExtension{Leftover: u.left, Tokens: h.data(u.tokens)}
	if u.result != nil {
		for i := range u.result.PromptRouting {
			e.Prompt = append(e.Prompt, routingData(&u.result.PromptRouting[i]))
		}
	}
	if e.Leftover == nil && e.Tokens == nil && e.Prompt == nil {
		return nil
	}
	return e
}

// gather adds a part to what a choice has. Of more tokens than maxReturned in all
// choices together, there is no data.
func (h *hooked) gather(e *ChoiceExtension, u update) *ChoiceExtension {
	part := h.extension(u)
	if part == nil {
		return e
	}
	for i := range u.tokens {
		u.tokens[i].Routing = nil // it is in part, if at all
	}
	if e == nil {
		e = &ChoiceExtension{}
	}
	if part.Leftover != nil {
		e.Leftover = part.Leftover
	}
	n := min(len(part.Tokens), maxReturned-h.kept)
	h.kept += n
	e.Tokens, e.LeftOut = append(e.Tokens, part.Tokens[:n]...), e.LeftOut+len(part.Tokens)-n
	e.Prompt = append(e.Prompt, part.Prompt...)
	return e
}

// reports says whether the report goes with the end of a choice: of the last one, by
// when all have ended.
func (h *hooked) reports(index int) bool { return h.set != nil && index == h.total-1 }

// report adds what the hooks did, where there are some.
func (h *hooked) report(e Extension) *Extension {
	if h.set != nil {
		e.HookUse, e.Choices = h.use(h.back.hooks)
	}
	return &e
}

// use is what the hooks did to all choices; and to each, where there are several. usage
// says whether what each hook cost is wanted.
func (h *hooked) use(usage bool) (all *HookUse, each []ChoiceUse) {
	for k, r := range h.results {
		u := HookUse{Degraded: r.Hooks.Degraded, StopHook: r.StopHook, Synchronous: r.Hooks.Synchronous, Undrafted: r.Hooks.Undrafted, Uncaptured: r.Hooks.Uncaptured, Scripts: h.set.Scripts(k)}
		if usage {
			u.Hooks = r.Hooks.Hooks
		}
		each = append(each, ChoiceUse{k, u})
	}
	if len(each) == 1 {
		return &each[0].HookUse, nil
	}
	all = &HookUse{}
	for _, u := range each {
		all.Degraded += u.Degraded
		all.Synchronous, all.Undrafted, all.Uncaptured = all.Synchronous || u.Synchronous, all.Undrafted || u.Undrafted, all.Uncaptured || u.Uncaptured
	}
	return all, each
}
