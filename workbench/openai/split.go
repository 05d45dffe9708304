package openai

import "strings"

// piece is a part of an answer: a stretch of content, of reasoning, or a whole
// tool call.
type piece struct {
	content   string
	reasoning string
	call      *ToolCall
}

// splitter divides the text of a model into pieces while it arrives.
type splitter interface {
	push(text string) ([]piece, error)
	// close ends the text. called says whether a tool was called.
	close() (rest []piece, called bool)
}

// plain leaves the text as it is.
type plain struct{}

func (plain) push(text string) ([]piece, error) {
	if text == "" {
		return nil, nil
	}
	return []piece{{content: text}}, nil
}

func (plain) close() ([]piece, bool) { return nil, false }

const (
	openTag  = "<think>"
	closeTag = "</think>"
)

// thoughts takes the reasoning out of a text that begins inside a thought
// (because the prompt opened it) or with <think>. Newlines around the thought
// and before the content go away: the templates put them there.
type thoughts struct {
	stage stage
	held  string // may begin a tag, or is white space that may end a stage
}

type stage uint8

const (
	beforeThought stage = iota // nothing yet: <think> may come
	thoughtStarts              // inside, nothing but newlines yet
	inThought
	thoughtEnded // only newlines since
	inContent
)

func newThoughts(inside bool) *thoughts {
	if inside {
		return &thoughts{stage: thoughtStarts}
	}
	return &thoughts{}
}

func (t *thoughts) push(text string) (pieces []piece, err error) {
	t.held += text
	for {
		at := t.stage
		if p := t.next(); p != (piece{}) {
			pieces = append(pieces, p)
		}
		if t.stage == at {
			return pieces, nil
		}
	}
}

// next takes what is certain off the held text, within one stage.
func (t *thoughts) next() (p piece) {
	switch t.stage {
	case beforeThought:
		if rest, ok := strings.CutPrefix(t.held, openTag); ok {
			t.stage, t.held = thoughtStarts, rest
		} else if !strings.HasPrefix(openTag, t.held) {
			t.stage = inContent
		}
	case thoughtStarts, thoughtEnded:
		if t.held = strings.TrimLeft(t.held, "\n"); t.held != "" {
			t.stage++
		}
	case inThought:
		if thought, rest, ok := strings.Cut(t.held, closeTag); ok {
			t.stage, t.held = thoughtEnded, rest
			return piece{reasoning: strings.TrimRight(thought, "\n")}
		}
		certain := t.held[:len(t.held)-overlap(t.held, closeTag)]
		certain = strings.TrimRight(certain, "\n")
		p.reasoning, t.held = certain, t.held[len(certain):]
	case inContent:
		p.content, t.held = t.held, ""
	}
	return p
}

func (t *thoughts) close() ([]piece, bool) {
	switch held := t.held; t.stage {
	case beforeThought:
		return contents(held), false
	case inThought:
		if held = strings.TrimRight(held, "\n"); held != "" {
			return []piece{{reasoning: held}}, false
		}
	}
	return nil, false
}

func contents(text string) []piece {
	pieces, _ := plain{}.push(text)
	return pieces
}

// overlap is the length of the longest end of text that begins tag.
func overlap(text, tag string) int {
	for n := min(len(text), len(tag)-1); n > 0; n-- {
		if strings.HasSuffix(text, tag[:n]) {
			return n
		}
	}
	return 0
}

// joined is the content of pieces.
func joined(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.content)
	}
	return b.String()
}
