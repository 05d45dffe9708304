package openai

import (
	"errors"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
)

// piece is a part of an answer: a stretch of content, of reasoning, or a whole
// tool call.
type piece struct {
	content   string
	reasoning string
	call      *ToolCall
}

// splitter divides the text of a model into pieces while it arrives.
type splitter interface {
	push(text string) []piece
	// close ends the text.
	close() []piece
	// enough says that nothing more is wanted.
	enough() bool
	// finish is the finish reason, where the engine's would be stop.
	finish() string
	// left is what was written and shown nowhere, nil for nothing.
	left() *Leftover
}

// errEnough ends a generation whose splitter has enough.
var errEnough = errors.New("the answer is complete")

// plain leaves the text as it is.
type plain struct{}

func (plain) push(text string) []piece {
	if text == "" {
		return nil
	}
	return []piece{{content: text}}
}

func (plain) close() []piece  { return nil }
func (plain) enough() bool    { return false }
func (plain) finish() string  { return string(engine.Stopped) }
func (plain) left() *Leftover { return nil }

// joined is the content of pieces.
func joined(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.content)
	}
	return b.String()
}

// Leftover is what an answer holds beside reasoning, content and calls.
type Leftover struct {
	Unparsed []string `json:"unparsed,omitempty"` // looks like a call and is none
	Between  []string `json:"between,omitempty"`  // stands between and after the calls
}

// answer takes reasoning and tool calls out of a text.
type answer struct {
	parser  *chat.Parser
	oneCall bool // parallel_tool_calls is false
	calls   int
}

func (a *answer) push(text string) []piece {
	if text == "" {
		return nil
	}
	return a.pieces(a.parser.Push(text))
}

func (a *answer) close() []piece { return a.pieces(a.parser.Finish()) }

func (a *answer) pieces(deltas []chat.Delta) (pieces []piece) {
	for _, d := range deltas {
		if a.enough() {
			break
		}
		p := piece{content: d.Content, reasoning: d.Reasoning}
		if d.Call != nil {
			a.calls++
			p.call = &ToolCall{ID: "call_" + randomID(), Type: "function", Function: CallFunction(*d.Call)}
		}
		pieces = append(pieces, p)
	}
	return pieces
}

func (a *answer) enough() bool { return a.oneCall && a.calls > 0 }

func (a *answer) finish() string {
	if a.calls > 0 {
		return "tool_calls"
	}
	return string(engine.Stopped)
}

func (a *answer) left() *Leftover {
	out := a.parser.Output()
	if a.enough() || len(out.Unparsed)+len(out.Between) == 0 {
		return nil
	}
	return &Leftover{Unparsed: out.Unparsed, Between: out.Between}
}
