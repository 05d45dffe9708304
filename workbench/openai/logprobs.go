package openai

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// lowestLogprob stands for anything lower, minus infinity above all, which
// JSON cannot say. OpenAI sends the same number.
const lowestLogprob = -9999

func logprob(v float32) float32 {
	if v >= lowestLogprob {
		return v
	}
	return lowestLogprob // also for NaN
}

// tokenText is the text and the bytes of a token; without a tokenizer its id
// stands in, in vLLM's form, and there are no bytes.
func tokenText(t *tokenizer.Tokenizer, id int32) (text string, bytes []byte) {
	if t == nil {
		return fmt.Sprintf("token_id:%d", id), nil
	}
	text, _, _, _ = t.Token(id)
	return text, t.Bytes(id)
}

// tokenLogprob is one token in the format of chat completions.
type tokenLogprob struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // null without a tokenizer
}

type tokenLogprobs struct {
	tokenLogprob
	Top []tokenLogprob `json:"top_logprobs"`
}

type chatLogprobs struct {
	Content []tokenLogprobs `json:"content"`
	Refusal []tokenLogprobs `json:"refusal"`
}

func newTokenLogprob(t *tokenizer.Tokenizer, id int32, lp float32) tokenLogprob {
	text, raw := tokenText(t, id)
	out := tokenLogprob{Token: text, Logprob: logprob(lp)}
	for _, b := range raw {
		out.Bytes = append(out.Bytes, int(b))
	}
	return out
}

// newChatLogprobs has one entry for each token, end tokens included, so that
// entries, token_ids and usage agree. top is how many alternatives each has; the engine
// may have reported more.
func newChatLogprobs(t *tokenizer.Tokenizer, tokens []engine.Token, top int) *chatLogprobs {
	out := &chatLogprobs{Content: make([]tokenLogprobs, 0, len(tokens))}
	for _, token := range tokens {
		entry := tokenLogprobs{tokenLogprob: newTokenLogprob(t, token.ID, token.Logprob), Top: make([]tokenLogprob, 0, top)}
		for _, c := range token.Candidates[:min(top, len(token.Candidates))] {
			entry.Top = append(entry.Top, newTokenLogprob(t, c.ID, c.Logprob))
		}
		out.Content = append(out.Content, entry)
	}
	return out
}

// textLogprobs is the format of completions: lists of the same length. The
// first token of an echoed prompt has nulls.
type textLogprobs struct {
	Tokens  []string             `json:"tokens"`
	Logprob []*float32           `json:"token_logprobs"`
	Top     []map[string]float32 `json:"top_logprobs"`
	Offset  []int                `json:"text_offset"`
}

// textLogprobsOf makes textLogprobs piece by piece. Offsets are in characters
// of the choice's text.
type textLogprobsOf struct {
	tokenizer *tokenizer.Tokenizer
	top       int // alternatives to each token
	decoder   *tokenizer.Stream
	offset    int
}

func newTextLogprobs(t *tokenizer.Tokenizer, top int) *textLogprobsOf {
	l := &textLogprobsOf{tokenizer: t, top: top}
	if t != nil {
		l.decoder = t.NewStream(false)
	}
	return l
}

// take formats tokens; unscored is true for the first token of a prompt.
func (l *textLogprobsOf) take(tokens []engine.Token, unscored bool) *textLogprobs {
	n := len(tokens)
	out := &textLogprobs{
		Tokens: make([]string, 0, n), Logprob: make([]*float32, 0, n),
		Top: make([]map[string]float32, 0, n), Offset: make([]int, 0, n),
	}
	for i, token := range tokens {
		name := legacyName(l.tokenizer, token.ID)
		out.Tokens = append(out.Tokens, name)
		out.Offset = append(out.Offset, l.offset)
		if l.decoder != nil {
			l.offset += utf8.RuneCountInString(l.decoder.Push(token.ID))
		}
		if i == 0 && unscored {
			out.Logprob, out.Top = append(out.Logprob, nil), append(out.Top, nil)
			continue
		}
		lp := logprob(token.Logprob)
		top := map[string]float32{}
		for _, c := range token.Candidates[:min(l.top, len(token.Candidates))] {
			top[legacyName(l.tokenizer, c.ID)] = logprob(c.Logprob)
		}
		top[name] = lp // OpenAI: up to logprobs + 1 entries
		out.Logprob, out.Top = append(out.Logprob, &lp), append(out.Top, top)
	}
	return out
}

// legacyName is a token as the old format writes it: tokens that are not whole
// characters as "bytes:\xe2\x80", so that two of them never share a key.
func legacyName(t *tokenizer.Tokenizer, id int32) string {
	text, raw := tokenText(t, id)
	if raw == nil || utf8.Valid(raw) {
		return text
	}
	var b strings.Builder
	b.WriteString("bytes:")
	for _, c := range raw {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}

// idsOf lists the ids of tokens.
func idsOf(tokens []engine.Token) []int32 {
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	return ids
}
