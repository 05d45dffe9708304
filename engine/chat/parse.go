package chat

import (
	"strings"
)

// Template is a parsed chat template. It is not changed by rendering and may
// be used by many goroutines.
type Template struct {
	source string
	body   []stmt
	// toolUse replaces the template when tools are given; see Load.
	toolUse *Template
}

// Source is the template as it was given to Parse.
func (t *Template) Source() string { return t.source }

// maxNesting of statements and expressions in a template's source.
const maxNesting = 200

// Parse reads a template. Errors are *Error of kind Syntax and name the line
// and the construct that is wrong or not supported.
func Parse(source string) (*Template, error) {
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	if p.peek().kind != tokEOF {
		return nil, p.unexpected("")
	}
	return &Template{source: source, body: body}, nil
}

type parser struct {
	tokens []token
	at     int
	depth  int
	loops  int    // loops around this place, within the present macro
	macro  *macro // the macro around this place, or nil
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokEOF {
		p.at++
	}
	return t
}

// skip takes the next token if it is that operator or name.
func (p *parser) skip(kind tokenKind, text string) bool {
	if t := p.peek(); t.kind == kind && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *parser) isOp(text string) bool {
	t := p.peek()
	return t.kind == tokOp && t.text == text
}

func (p *parser) isName(text string) bool {
	t := p.peek()
	return t.kind == tokName && t.text == text
}

func (p *parser) expect(kind tokenKind, text, where string) (token, error) {
	t := p.peek()
	if t.kind != kind || text != "" && t.text != text {
		want := token{kind: kind, text: text}.String()
		if kind == tokName && text == "" {
			want = "a name"
		}
		return t, syntax(t.line, "%s where %s was expected%s", t, want, where)
	}
	return p.next(), nil
}

func (p *parser) unexpected(where string) error {
	t := p.peek()
	return syntax(t.line, "unexpected %s%s", t, where)
}

// enter counts one more level; leave it with p.depth--.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return syntax(p.peek().line, "more than %d levels of nesting", maxNesting)
	}
	return nil
}

// body reads statements up to a tag with one of the names, which it takes (but
// not the rest of that tag), or to the end of the template for no names.
func (p *parser) body(until ...string) ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	start := p.tokens[max(0, p.at-1)].line // of the tag that opened it
	var list []stmt
	for {
		t := p.peek()
		switch t.kind {
		case tokEOF:
			if len(until) > 0 {
				return nil, syntax(start, "the block is not closed by %s", strings.Join(until, " or "))
			}
			return list, nil
		case tokText:
			p.next()
			list = append(list, &textStmt{pos(t.line), t.text})
		case tokVarBegin:
			p.next()
			x, err := p.tuple(false)
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokVarEnd, "", ""); err != nil {
				return nil, err
			}
			list = append(list, &outputStmt{pos(t.line), x})
		case tokTagBegin:
			p.next()
			for _, name := range until {
				if p.isName(name) {
					return list, nil
				}
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		default:
			return nil, p.unexpected("")
		}
	}
}

// block reads the end of a tag, a body, and the closing tag named end.
func (p *parser) block(end string) ([]stmt, error) {
	if err := p.tagEnd(); err != nil {
		return nil, err
	}
	body, err := p.body(end)
	if err != nil {
		return nil, err
	}
	p.next()
	return body, p.tagEnd()
}

func (p *parser) tagEnd() error {
	_, err := p.expect(tokTagEnd, "", "")
	return err
}

func (p *parser) statement() (stmt, error) {
	t, err := p.expect(tokName, "", " at the start of a tag")
	if err != nil {
		return nil, err
	}
	line := pos(t.line)
	switch t.text {
	case "if":
		return p.ifStatement(line)
	case "for":
		return p.forStatement(line)
	case "set":
		return p.setStatement(line)
	case "macro":
		name, err := p.expect(tokName, "", " as the name of a macro")
		if err != nil {
			return nil, err
		}
		m, err := p.macroDefinition(name.text, "endmacro")
		return &macroStmt{line, m}, err
	case "call":
		return p.callStatement(line)
	case "filter":
		p.at-- // the chain reads its first filter after a '|' that is not there
		chain, err := p.filterChain(&captured{line})
		if err != nil {
			return nil, err
		}
		body, err := p.block("endfilter")
		return &filterStmt{line, chain, body}, err
	case "with":
		return p.withStatement(line)
	case "generation":
		var body []stmt
		err := p.inMacro(p.macro, func() (err error) { body, err = p.block("endgeneration"); return })
		return &scopeStmt{line, body}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, syntax(t.line, "%s outside of a loop", t.text)
		}
		jump := errBreak
		if t.text == "continue" {
			jump = errContinue
		}
		return &jumpStmt{line, jump}, p.tagEnd()
	case "extends", "include", "import", "from", "block", "autoescape", "do", "trans", "debug", "print":
		return nil, syntax(t.line, "the tag '%s' is not supported in chat templates", t.text)
	}
	return nil, syntax(t.line, "unknown tag '%s'", t.text)
}

func (p *parser) ifStatement(line pos) (stmt, error) {
	s := &ifStmt{pos: line}
	for {
		test, err := p.tuple(false)
		if err != nil {
			return nil, err
		}
		if err := p.tagEnd(); err != nil {
			return nil, err
		}
		body, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.branches = append(s.branches, branch{test, body})
		switch p.next().text {
		case "elif":
			continue
		case "else":
			s.otherwise, err = p.block("endif")
			return s, err
		}
		return s, p.tagEnd()
	}
}

func (p *parser) forStatement(line pos) (stmt, error) {
	s := &forStmt{pos: line}
	var err error
	if s.target, err = p.target(false); err != nil {
		return nil, err
	}
	if _, err = p.expect(tokName, "in", " in a for tag"); err != nil {
		return nil, err
	}
	if s.list, err = p.tuple(true); err != nil {
		return nil, err
	}
	if p.skip(tokName, "if") {
		if s.filter, err = p.expression(true); err != nil {
			return nil, err
		}
	}
	if p.isName("recursive") {
		return nil, syntax(p.peek().line, "recursive loops are not supported: use a macro that calls itself")
	}
	if err = p.tagEnd(); err != nil {
		return nil, err
	}
	p.loops++
	s.body, err = p.body("else", "endfor")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		s.otherwise, err = p.block("endfor")
		return s, err
	}
	return s, p.tagEnd()
}

// target reads what is assigned to; dotted allows namespace.attribute.
func (p *parser) target(dotted bool) (target, error) {
	if err := p.enter(); err != nil {
		return target{}, err
	}
	defer func() { p.depth-- }()
	var list []target
	comma := false
	for {
		if p.skip(tokOp, "(") {
			t, err := p.target(dotted)
			if err != nil {
				return target{}, err
			}
			if _, err := p.expect(tokOp, ")", ""); err != nil {
				return target{}, err
			}
			list = append(list, t)
		} else if comma && p.peek().kind != tokName {
			break // a trailing comma
		} else {
			t, err := p.singleTarget(dotted)
			if err != nil {
				return target{}, err
			}
			list = append(list, t)
		}
		if !p.skip(tokOp, ",") {
			break
		}
		comma = true
	}
	if len(list) == 1 && !comma {
		return list[0], nil
	}
	return target{several: list}, nil
}

func (p *parser) singleTarget(dotted bool) (target, error) {
	t, err := p.expect(tokName, "", " to assign to")
	if err != nil {
		return target{}, err
	}
	if isReserved(t.text) || t.text == "loop" && !dotted {
		return target{}, syntax(t.line, "'%s' cannot be assigned to", t.text)
	}
	if !dotted || !p.skip(tokOp, ".") {
		return target{name: t.text}, nil
	}
	a, err := p.expect(tokName, "", " after a dot")
	return target{name: t.text, attribute: a.text}, err
}

func isReserved(name string) bool {
	switch name {
	case "true", "false", "none", "True", "False", "None":
		return true
	}
	return false
}

func (p *parser) setStatement(line pos) (stmt, error) {
	t, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if p.skip(tokOp, "=") {
		value, err := p.tuple(false)
		if err != nil {
			return nil, err
		}
		return &setStmt{line, t, value}, p.tagEnd()
	}
	s := &setBlockStmt{pos: line, target: t}
	if p.isOp("|") {
		if s.filters, err = p.filterChain(&captured{line}); err != nil {
			return nil, err
		}
	}
	s.body, err = p.block("endset")
	return s, err
}

// inMacro parses inside m: loops around it are out of reach.
func (p *parser) inMacro(m *macro, parse func() error) error {
	outer, loops := p.macro, p.loops
	p.macro, p.loops = m, 0
	err := parse()
	p.macro, p.loops = outer, loops
	return err
}

// macroDefinition reads (params) body of a macro or call block.
func (p *parser) macroDefinition(name, end string) (*macro, error) {
	m := &macro{name: name}
	err := p.inMacro(m, func() error {
		if err := p.params(m); err != nil {
			return err
		}
		body, err := p.block(end)
		m.body = body
		return err
	})
	return m, err
}

func (p *parser) params(m *macro) error {
	if _, err := p.expect(tokOp, "(", ""); err != nil {
		return err
	}
	for !p.skip(tokOp, ")") {
		if len(m.params) > 0 {
			if _, err := p.expect(tokOp, ",", " between parameters"); err != nil {
				return err
			}
			if p.skip(tokOp, ")") {
				return nil
			}
		}
		t, err := p.expect(tokName, "", " as a parameter")
		if err != nil {
			return err
		}
		var value expr
		if p.skip(tokOp, "=") {
			if value, err = p.expression(true); err != nil {
				return err
			}
		} else if n := len(m.defaults); n > 0 && m.defaults[n-1] != nil {
			return syntax(t.line, "parameter '%s' without a default follows one with a default", t.text)
		}
		m.params = append(m.params, t.text)
		m.defaults = append(m.defaults, value)
	}
	return nil
}

func (p *parser) callStatement(line pos) (stmt, error) {
	caller := &macro{name: "caller"}
	if p.isOp("(") {
		if err := p.params(caller); err != nil {
			return nil, err
		}
	}
	x, err := p.expression(true)
	if err != nil {
		return nil, err
	}
	c, ok := x.(*call)
	if !ok {
		return nil, syntax(int(line), "a call tag needs a call")
	}
	err = p.inMacro(caller, func() error { caller.body, err = p.block("endcall"); return err })
	return &callStmt{line, caller, c}, err
}

func (p *parser) withStatement(line pos) (stmt, error) {
	s := &withStmt{pos: line}
	for p.peek().kind != tokTagEnd {
		if len(s.targets) > 0 {
			if _, err := p.expect(tokOp, ",", ""); err != nil {
				return nil, err
			}
		}
		t, err := p.singleTarget(false)
		if err != nil {
			return nil, err
		}
		if _, err := p.expect(tokOp, "=", ""); err != nil {
			return nil, err
		}
		value, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, t)
		s.values = append(s.values, value)
	}
	body, err := p.block("endwith")
	s.body = body
	return s, err
}
