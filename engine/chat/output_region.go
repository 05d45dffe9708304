package chat

import (
	"bytes"
	"strings"
)

// regionState is what a region has turned out to be.
type regionState uint8

const (
	undecided regionState = iota
	isCall
	isBroken // it looks like a call and is none
)

// region is text from a tag that opens a call. It is read as it arrives, every
// byte once.
type region struct {
	state regionState
	start int // of the opening tag, in Parser.buf
	end   int // once the state is decided
	call  ToolCall

	at     int  // understood up to here
	broken bool // it is no call; where it ends is not known yet
	seek   int  // searched for the end of a broken one up to here

	// White space before spaceTo, from spaceFrom on, has been skipped before.
	spaceFrom, spaceTo int

	json jsonScan
	xml  xmlCall
}

func (p *Parser) newRegion(start int) *region {
	r := &region{start: start, at: start}
	if bytes.HasPrefix(p.buf[start:], []byte(openCall)) {
		r.at += len(openCall)
	}
	r.seek = max(r.at, start+1)
	return r
}

// advance reads on. At the end of the text every region is decided.
func (p *Parser) advance(r *region) {
	p.read(r)
	if r.broken && r.state == undecided {
		p.endBroken(r)
	}
}

// read reads on until the region is a call or broken.
func (p *Parser) read(r *region) {
	if r.broken || r.state != undecided {
		return
	}
	if p.opts.Style == XMLCalls {
		p.advanceXML(r)
	} else {
		p.advanceJSON(r)
	}
}

// endBroken finds the end of a region that is no call: its closing tag, or
// before the next opening tag, or the end of the text.
func (p *Parser) endBroken(r *region) {
	tags := []string{closeCall, openCall}
	if !bytes.HasPrefix(p.buf[r.start:], []byte(openCall)) { // a function without the tag around it
		tags = append(tags, openFunction)
	}
	at, tag := first(p.buf[r.seek:], tags...)
	switch {
	case tag == closeCall:
		r.end = r.seek + at + len(tag)
	case tag != "":
		r.end = r.seek + at
	case p.final:
		r.end = len(p.buf)
	default:
		r.seek = max(r.seek, len(p.buf)-len(closeCall)+1)
		return
	}
	r.state = isBroken
}

// endOfText is what follow finds where the text ends.
const endOfText = "end of text"

// follow skips white space from byte at and says which of the tags comes next,
// endOfText, or "" for something else. It is not certain while more text could
// change the answer.
func (p *Parser) follow(r *region, at int, tags ...string) (next int, tag string, certain bool) {
	next = at
	if r.spaceFrom == at {
		next = max(at, r.spaceTo)
	}
	for next < len(p.buf) && strings.IndexByte(" \t\r\n", p.buf[next]) >= 0 {
		next++
	}
	r.spaceFrom, r.spaceTo = at, next
	rest := p.buf[next:]
	if len(rest) == 0 {
		return next, endOfText, p.final
	}
	for _, tag := range tags {
		if bytes.HasPrefix(rest, []byte(tag)) {
			return next, tag, true
		}
	}
	if !p.final && begins(rest, tags...) {
		return next, "", false
	}
	return next, "", true
}

// begins says whether the text is the beginning of one of the tags.
func begins(text []byte, tags ...string) bool {
	for _, tag := range tags {
		if len(text) < len(tag) && strings.HasPrefix(tag, string(text)) {
			return true
		}
	}
	return false
}

// jsonScan finds the end of an object without reading it: brackets and strings
// are enough, and what cannot stand in JSON ends it at once.
type jsonScan struct {
	start             int // of the object; 0 before it is found
	depth             int
	inString, escaped bool
	done              bool
}

// scan reads on from byte at; ok is false if this is no object.
func (j *jsonScan) scan(text []byte, at int) (end int, ok bool) {
	for ; at < len(text); at++ {
		c := text[at]
		switch {
		case j.escaped:
			j.escaped = false
		case j.inString && c == '\\':
			j.escaped = true
		case c == '"':
			j.inString = !j.inString
		case j.inString:
			if c < 0x20 {
				return at, false
			}
		case c == '{' || c == '[':
			j.depth++
		case c == '}' || c == ']':
			if j.depth--; j.depth == 0 {
				j.done = true
				return at + 1, true
			}
		case strings.IndexByte(" \t\r\n:,+-.0123456789eEtrufalsn", c) < 0:
			return at, false
		}
	}
	return at, true
}

// advanceJSON reads <tool_call>{...}</tool_call>.
func (p *Parser) advanceJSON(r *region) {
	j := &r.json
	if j.start == 0 {
		next, tag, certain := p.follow(r, r.at, "{")
		if tag != "{" {
			r.broken = certain
			return
		}
		j.start, r.at = next, next
	}
	if !j.done {
		end, ok := j.scan(p.buf, r.at)
		r.at = end
		if ok && j.done {
			r.call, ok = jsonCall(string(p.buf[j.start:end]))
		}
		if !ok || p.final && !j.done {
			r.broken = true
		}
		if !j.done || r.broken {
			return
		}
	}
	next, tag, certain := p.follow(r, r.at, closeCall, openCall)
	if !certain {
		return
	}
	switch tag {
	case closeCall:
		r.end = next + len(closeCall)
	case openCall, endOfText:
		r.end = next
	default:
		r.broken = true
		return
	}
	r.state = isCall
}

// jsonCall reads {"name": .., "arguments": {..}}. The arguments keep the text
// they were written with.
func jsonCall(text string) (ToolCall, bool) {
	v, err := decodeJSON(text)
	m, isMap := v.(*Map)
	if err != nil || !isMap {
		return ToolCall{}, false
	}
	name, _ := m.Get("name")
	s, isText := name.(String)
	if !isText || s.text == "" {
		return ToolCall{}, false
	}
	key := "arguments"
	if _, ok := m.Get(key); !ok {
		key = "parameters"
	}
	switch args, _ := m.Get(key); args := args.(type) {
	case nil, Null:
		return ToolCall{s.text, "{}"}, true
	case *Map:
		return ToolCall{s.text, member(text, key)}, true
	case String:
		inner, err := decodeJSON(args.text)
		if err == nil && is[*Map](inner) {
			return ToolCall{s.text, strings.TrimSpace(args.text)}, true
		}
	}
	return ToolCall{}, false
}

// member is the text of the value of a key of an object, which must be valid.
func member(object, key string) (text string) {
	r := jsonReader{text: object, at: 1}
	for {
		r.space()
		name, err := r.quoted()
		if err != nil {
			return text
		}
		r.space()
		r.at++ // the colon
		r.space()
		start := r.at
		if _, err := r.value(0); err != nil {
			return text
		}
		if name == key {
			text = object[start:r.at]
		}
		r.space()
		if r.at >= len(object) || object[r.at] != ',' {
			return text
		}
		r.at++
	}
}
