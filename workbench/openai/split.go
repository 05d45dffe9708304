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

// joined is the content of pieces.
func joined(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.content)
	}
	return b.String()
}

func (c *chatRun) splitter() splitter { return plain{} }
