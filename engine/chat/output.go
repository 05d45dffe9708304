package chat

import (
	"bytes"
	"strings"
)

// CallStyle is the form in which a model writes tool calls.
type CallStyle uint8

// Forms of calls.
const (
	// JSONCalls is <tool_call>{"name": .., "arguments": ..}</tool_call>, of
	// Qwen2.5, Qwen3 and Qwen3-Next.
	JSONCalls CallStyle = iota
	// XMLCalls is <tool_call><function=..><parameter=..>, of Qwen3-Coder and
	// Qwen3.5 and later.
	XMLCalls
)

// CallStyle is the form that the template shows to the model.
func (t *Template) CallStyle() CallStyle {
	if strings.Contains(t.source, "<function=") || t.toolUse != nil && t.toolUse.CallStyle() == XMLCalls {
		return XMLCalls
	}
	return JSONCalls
}

// StartsInReasoning says whether a model that continues the prompt begins
// inside a thinking block.
func StartsInReasoning(prompt string) bool {
	return strings.HasSuffix(strings.TrimRightFunc(prompt, isSpace), openThink)
}

// OutputOptions of a Parser.
type OutputOptions struct {
	Style CallStyle
	// Tools of the request, in the form of the API. Without any (or with
	// tool_choice none: give nil) no calls are parsed.
	Tools Value
	// InReasoning says that the prompt ended in <think>; see StartsInReasoning.
	InReasoning bool
}

// ToolCall is one call. Arguments is the text of a JSON object.
type ToolCall struct{ Name, Arguments string }

// Delta is what a Push makes known: one of its fields is set.
type Delta struct {
	Reasoning, Content string
	Call               *ToolCall
}

// Output is all that was parsed. An empty text stands for none.
type Output struct {
	Reasoning string
	Content   string
	Calls     []ToolCall
	// Unparsed are regions that look like calls and are none, if there are
	// calls beside them. They are never repaired.
	Unparsed []string
	// Between is text between and after the calls, which Content leaves out.
	Between []string
}

// ParseOutput parses a whole text.
func ParseOutput(text string, opts OutputOptions) Output {
	p := NewParser(opts)
	p.Push(text)
	p.Finish()
	return p.Output()
}

const (
	openThink  = "<think>"
	closeThink = "</think>"
	openCall   = "<tool_call>"
	closeCall  = "</tool_call>"
)

// stage is what the parser expects next.
type stage uint8

const (
	atStart stage = iota
	inReasoning
	inAnswer
)

// Parser splits what a model writes into reasoning, content and calls, while it
// arrives. However the text is cut into pushes, the deltas add up to the same
// Output: what a later piece can still change is held back.
type Parser struct {
	opts   OutputOptions
	tools  map[string]*Map // nil when no calls are parsed
	stage  stage
	buf    []byte // not yet understood
	seek   int    // of buf, has been searched for what the stage waits for
	region *region
	final  bool
	// nothingCloses says that no tag to the end of the text closes a value.
	nothingCloses bool

	reasoning, content writer
	between            strings.Builder // text since the last call
	held               []piece         // from the first region that is no call, while there is no call
	calls              []ToolCall
	unparsed, gaps     []string
	deltas             []Delta
}

// piece is held back: content unless a call follows and it is broken.
type piece struct {
	text   string
	broken bool
}

// NewParser makes a parser for one answer.
func NewParser(opts OutputOptions) *Parser {
	return &Parser{opts: opts, tools: schemas(opts.Tools), reasoning: writer{skip: true}}
}

// Push adds text and gives what is certain now.
func (p *Parser) Push(text string) []Delta {
	p.buf = append(p.buf, text...)
	return p.run()
}

// Finish ends the text and gives the rest. Push must not be called after it.
func (p *Parser) Finish() []Delta {
	p.final = true
	return p.run()
}

// Output is what was parsed so far; after Finish it is complete.
func (p *Parser) Output() Output {
	return Output{
		Reasoning: p.reasoning.text.String(), Content: p.content.text.String(),
		Calls: p.calls, Unparsed: p.unparsed, Between: p.gaps,
	}
}

func (p *Parser) run() []Delta {
	p.deltas = nil
	for p.step() {
	}
	return p.deltas
}

// step does one thing if it can; false waits for more text.
func (p *Parser) step() bool {
	switch p.stage {
	case atStart:
		return p.start()
	case inReasoning:
		return p.think()
	}
	return p.answer()
}

func (p *Parser) consume(n int) {
	p.buf = p.buf[n:]
	p.seek, p.region = 0, nil
}

// start looks for an opening <think>, also after a prompt that had it.
func (p *Parser) start() bool {
	if !p.final && len(p.buf) < len(openThink) && strings.HasPrefix(openThink, string(p.buf)) {
		return false
	}
	opened := bytes.HasPrefix(p.buf, []byte(openThink))
	if opened {
		p.consume(len(openThink))
	}
	p.stage = inAnswer
	if opened || p.opts.InReasoning {
		p.stage = inReasoning
	}
	return true
}

// think reads up to </think>. A call at the start of a line may end a block
// that is never closed, so from there on everything waits.
func (p *Parser) think() bool {
	if i := bytes.Index(p.buf[p.seek:], []byte(closeThink)); i >= 0 {
		end := p.seek + i
		p.reason(p.buf[:end])
		p.consume(end + len(closeThink))
		p.stage = inAnswer
		p.content.skip = true
		return true
	}
	if p.final {
		return p.thinkOpen()
	}
	limit := len(p.buf) - partial(p.buf, closeThink)
	if c := p.lineTag(0, true); c >= 0 && c < limit {
		p.reason(p.buf[:c])
		if c > 0 {
			p.buf = p.buf[c:]
		}
		p.seek = max(0, len(p.buf)-len(closeThink))
		return false
	}
	p.reason(p.buf[:limit])
	p.consume(limit)
	return false
}

// thinkOpen ends a block that was never closed.
func (p *Parser) thinkOpen() bool {
	for c := p.lineTag(0, false); c >= 0; c = p.lineTag(c+1, false) {
		r := p.newRegion(c)
		if p.read(r); r.state == isCall {
			p.reason(p.buf[:c])
			p.consume(c)
			p.stage = inAnswer
			return true
		}
	}
	p.reason(p.buf)
	p.consume(len(p.buf))
	return false
}

// lineTag finds the first tag from byte `from` that opens a call at the start of
// a line; with partials also the beginning of one at the end of the text.
func (p *Parser) lineTag(from int, partials bool) int {
	if p.tools == nil {
		return -1
	}
	for at := from; at < len(p.buf); at++ {
		lineStart := at == 0 && !p.reasoning.inLine
		if !lineStart {
			n := bytes.IndexByte(p.buf[max(0, at-1):], '\n')
			if n < 0 {
				return -1
			}
			at = max(0, at-1) + n + 1
		}
		for _, tag := range p.openTags() {
			rest := p.buf[at:]
			if bytes.HasPrefix(rest, []byte(tag)) || partials && len(rest) < len(tag) && strings.HasPrefix(tag, string(rest)) && len(rest) > 0 {
				return at
			}
		}
	}
	return -1
}

// openTags are the tags that a call begins with.
func (p *Parser) openTags() []string {
	if p.opts.Style == XMLCalls {
		return []string{openCall, openFunction}
	}
	return []string{openCall}
}

// answer reads content and calls.
func (p *Parser) answer() bool {
	if p.tools == nil {
		p.text(p.buf)
		p.consume(len(p.buf))
		p.endContent()
		return false
	}
	if p.region == nil {
		at, tag := first(p.buf, p.openTags()...)
		if tag == "" {
			limit := len(p.buf)
			if !p.final {
				limit -= partial(p.buf, p.openTags()...)
			}
			p.text(p.buf[:limit])
			p.consume(limit)
			p.endContent()
			return false
		}
		p.text(p.buf[:at])
		p.consume(at)
		p.region = p.newRegion(0)
	}
	r := p.region
	p.advance(r)
	switch r.state {
	case isCall:
		p.foundCall(r.call)
	case isBroken:
		p.foundBroken(string(p.buf[:r.end]))
	default:
		return false
	}
	p.consume(r.end)
	return true
}

// endContent ends the text: what was held back for a call goes out if none came.
func (p *Parser) endContent() {
	if !p.final {
		return
	}
	p.endGap()
	if len(p.calls) > 0 {
		return
	}
	for _, h := range p.held {
		p.write(h.text)
	}
	p.held = nil
	p.emit(&p.content, p.content.flush())
}

// text is not part of a call.
func (p *Parser) text(text []byte) {
	switch {
	case len(text) == 0:
	case len(p.calls) > 0:
		p.between.Write(text)
	case p.held != nil:
		p.held = append(p.held, piece{string(text), false})
	default:
		p.write(string(text))
	}
}

// endGap ends the text between two calls; white space alone is none.
func (p *Parser) endGap() {
	if text := p.between.String(); strings.TrimFunc(text, isSpace) != "" {
		p.gaps = append(p.gaps, text)
	}
	p.between.Reset()
}

func (p *Parser) foundCall(c ToolCall) {
	p.endGap()
	if len(p.calls) == 0 {
		for _, h := range p.held {
			if h.broken {
				p.unparsed = append(p.unparsed, h.text)
			} else {
				p.write(h.text)
			}
		}
		p.held = nil
	}
	p.calls = append(p.calls, c)
	p.deltas = append(p.deltas, Delta{Call: &c})
}

func (p *Parser) foundBroken(text string) {
	p.endGap()
	if len(p.calls) > 0 {
		p.unparsed = append(p.unparsed, text)
		return
	}
	p.held = append(p.held, piece{text, true})
}

func (p *Parser) reason(text []byte) { p.emit(&p.reasoning, p.reasoning.hold(string(text))) }

func (p *Parser) write(text string) {
	text = p.content.hold(text)
	// A text of white space alone is no content: it waits for a character.
	if p.content.text.Len() == 0 {
		p.content.blank.WriteString(text)
		if strings.TrimFunc(text, isSpace) == "" {
			return
		}
		text = p.content.blank.String()
	}
	p.emit(&p.content, text)
}

func (p *Parser) emit(w *writer, text string) {
	if text == "" || w == &p.content && w.text.Len() == 0 && strings.TrimFunc(text, isSpace) == "" {
		return
	}
	w.text.WriteString(text)
	if w == &p.content {
		p.deltas = append(p.deltas, Delta{Content: text})
	} else {
		p.deltas = append(p.deltas, Delta{Reasoning: text})
	}
}

// writer is the text of one kind. It keeps line breaks at the end back, which
// go away before a tag.
type writer struct {
	skip     bool            // line breaks at the start go away
	newlines int             // held back
	blank    strings.Builder // white space before the first character
	text     strings.Builder
	inLine   bool // the last byte given was no line break
}

// hold gives what of the text can go out.
func (w *writer) hold(text string) string {
	if text != "" {
		w.inLine = text[len(text)-1] != '\n'
	}
	if w.skip {
		if text = strings.TrimLeft(text, "\n"); text == "" {
			return ""
		}
		w.skip = false
	}
	kept := strings.TrimRight(text, "\n")
	before := w.newlines
	w.newlines = len(text) - len(kept)
	if kept == "" {
		w.newlines += before
		return ""
	}
	return strings.Repeat("\n", before) + kept
}

// flush gives the line breaks that were held back.
func (w *writer) flush() string {
	n := w.newlines
	w.newlines = 0
	return strings.Repeat("\n", n)
}

// partial is the length of the longest end of text that begins one of the tags.
func partial(text []byte, tags ...string) int {
	longest := 0
	for _, tag := range tags {
		for n := min(len(tag)-1, len(text)); n > longest; n-- {
			if strings.HasPrefix(tag, string(text[len(text)-n:])) {
				longest = n
			}
		}
	}
	return longest
}

// first finds the first of the tags; tag is "" if there is none.
func first(text []byte, tags ...string) (at int, tag string) {
	for {
		n := bytes.IndexByte(text[at:], '<')
		if n < 0 {
			return 0, ""
		}
		at += n
		for _, tag := range tags {
			if bytes.HasPrefix(text[at:], []byte(tag)) {
				return at, tag
			}
		}
		at++
	}
}
