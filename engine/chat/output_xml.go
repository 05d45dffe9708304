package chat

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

const (
	openFunction   = "<function="
	closeFunction  = "</function>"
	openParameter  = "<parameter="
	closeParameter = "</parameter>"
)

// maxTagName bounds the name of a function or parameter; the API's limit for
// functions is 64.
const maxTagName = 256

// xmlPhase is what comes next in a call.
type xmlPhase uint8

const (
	xmlOpen  xmlPhase = iota // <function=
	xmlName                  // name>
	xmlBody                  // <parameter=, or an end
	xmlKey                   // key>
	xmlValue                 // the text of a value
	xmlEnd                   // </tool_call>
)

// xmlCall is a call that is being read.
type xmlCall struct {
	phase      xmlPhase
	name       string
	properties *Map // of the tool, nil when it declares none
	args       *Map // values are texts of JSON
	key        string
	value      int // where the present value begins
	scan       int // searched for its end up to here
}

// advanceXML reads <tool_call><function=name><parameter=key>value... Every
// closing tag may be missing, and <tool_call> too. A second function in the
// same tag is a region of its own.
func (p *Parser) advanceXML(r *region) {
	x := &r.xml
	for !r.broken && r.state == undecided {
		var certain bool
		switch x.phase {
		case xmlOpen:
			certain = p.xmlOpen(r)
		case xmlName:
			if x.name, certain = p.tagName(r, false); certain && !r.broken {
				x.properties, x.args, x.phase = p.tools[x.name], &Map{}, xmlBody
			}
		case xmlBody:
			certain = p.xmlBody(r)
		case xmlKey:
			if x.key, certain = p.tagName(r, true); certain && !r.broken {
				x.value, x.scan, x.phase = r.at, r.at, xmlValue
			}
		case xmlValue:
			certain = p.xmlValue(r)
		case xmlEnd:
			certain = p.xmlEnd(r)
		}
		if !certain {
			r.broken = r.broken || p.final
			return
		}
	}
}

func (p *Parser) xmlOpen(r *region) (certain bool) {
	next, tag, certain := p.follow(r, r.at, openFunction)
	if tag == openFunction {
		r.at, r.xml.phase = next+len(tag), xmlName
		return true
	}
	r.broken = certain
	return certain
}

// tagName reads up to >. Quotes, braces and brackets are not in names, and
// white space only in those of parameters.
func (p *Parser) tagName(r *region, spaces bool) (name string, certain bool) {
	name, end, ok := p.nameAt(r.at, spaces)
	if !ok {
		r.broken = true
		return "", true
	}
	if end < 0 {
		return "", false
	}
	r.at = end
	return name, true
}

// nameAt reads a name and its > from byte at; end is -1 while it is not whole.
func (p *Parser) nameAt(at int, spaces bool) (name string, end int, ok bool) {
	for i := at; i < len(p.buf); i++ {
		switch c := p.buf[i]; {
		case c == '>':
			name = strings.TrimSpace(string(p.buf[at:i]))
			return name, i + 1, name != "" && utf8.ValidString(name)
		case strings.IndexByte(`<"'{}=`, c) >= 0, c < 0x20, c == ' ' && !spaces, i-at >= maxTagName:
			return "", -1, false
		}
	}
	return "", -1, true
}

func (p *Parser) xmlBody(r *region) (certain bool) {
	next, tag, certain := p.follow(r, r.at, openParameter, closeFunction, closeCall, openCall, openFunction)
	if !certain {
		return false
	}
	switch tag {
	case openParameter:
		r.at, r.xml.phase = next+len(tag), xmlKey
	case closeFunction:
		r.at, r.xml.phase = next+len(tag), xmlEnd
	case "":
		r.broken = true
	default: // the function's closing tag is missing
		r.at, r.xml.phase = next, xmlEnd
	}
	return true
}

func (p *Parser) xmlEnd(r *region) (certain bool) {
	next, tag, certain := p.follow(r, r.at, closeCall, openCall, openFunction)
	if !certain {
		return false
	}
	switch tag {
	case closeCall:
		r.end = next + len(tag)
	case "":
		r.end = r.at
	default:
		r.end = next
	}
	arguments, err := EncodeJSON(r.xml.args)
	if err != nil || !utf8.ValidString(arguments) {
		r.broken = true
		return true
	}
	r.call, r.state = ToolCall{r.xml.name, arguments}, isCall
	return true
}

// xmlValue searches the end of a value: a tag of the call that is followed by
// more of the call. Tags elsewhere are part of the value.
func (p *Parser) xmlValue(r *region) (certain bool) {
	x := &r.xml
	for !p.nothingCloses {
		n := bytes.IndexByte(p.buf[x.scan:], '<')
		if n < 0 {
			x.scan = len(p.buf)
			break
		}
		at := x.scan + n
		ends, next, certain := p.endsValue(r, at)
		if !certain {
			x.scan = at
			return false
		}
		if ends {
			p.setArgument(x, string(p.buf[x.value:at]), next == at)
			r.at, x.phase = next, xmlBody
			return true
		}
		x.scan = at + 1
	}
	if p.final { // cut off: never passed on
		p.nothingCloses, r.broken = true, true
	}
	return p.final
}

// endsValue says whether the tag at byte `at` ends the value, and where the
// call goes on.
func (p *Parser) endsValue(r *region, at int) (ends bool, next int, certain bool) {
	rest := p.buf[at:]
	switch {
	case bytes.HasPrefix(rest, []byte(closeParameter)):
		next = at + len(closeParameter)
		_, tag, certain := p.follow(r, next, openParameter, closeFunction, closeCall)
		return tag != "", next, certain
	case bytes.HasPrefix(rest, []byte(closeFunction)):
		_, tag, certain := p.follow(r, at+len(closeFunction), closeCall, openCall, openFunction)
		return tag != "" && (tag != endOfText || p.ownLine(at)), at, certain
	case bytes.HasPrefix(rest, []byte(closeCall)):
		_, tag, certain := p.follow(r, at+len(closeCall), openCall)
		return tag != "" && p.ownLine(at), at, certain
	case bytes.HasPrefix(rest, []byte(openParameter)):
		ends, certain = p.nextParameter(&r.xml, at)
		return ends, at, certain
	}
	return false, at, p.final || !begins(rest, closeParameter, closeFunction, closeCall, openParameter)
}

// nextParameter says whether a parameter begins before the value was closed:
// its tag alone on a line, with a key that the tool has and that is new.
func (p *Parser) nextParameter(x *xmlCall, at int) (is, certain bool) {
	if !p.ownLine(at) {
		return false, true
	}
	key, end, ok := p.nameAt(at+len(openParameter), true)
	if !ok {
		return false, true
	}
	if end < 0 || end == len(p.buf) {
		return false, p.final
	}
	if _, given := x.args.Get(key); given || key == x.key || p.buf[end] != '\n' {
		return false, true
	}
	if x.properties != nil {
		if _, declared := x.properties.Get(key); !declared {
			return false, true
		}
	}
	return true, true
}

// ownLine says whether only blanks stand before byte `at` on its line.
func (p *Parser) ownLine(at int) bool {
	before := bytes.TrimRight(p.buf[:at], " \t")
	return len(before) > 0 && before[len(before)-1] == '\n'
}

// setArgument sets the present parameter. One line break at each end belongs to
// the form; where the closing tag is missing, so do blanks before the next tag.
func (p *Parser) setArgument(x *xmlCall, text string, unclosed bool) {
	if unclosed {
		if line := strings.TrimRight(text, " \t"); strings.HasSuffix(line, "\n") {
			text = line
		}
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "\n"), "\n")
	var schema Value
	if x.properties != nil {
		schema, _ = x.properties.Get(x.key)
	}
	x.args.Set(x.key, typed(text, schema))
}
