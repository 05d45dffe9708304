package chat

import (
	"math"
	"strconv"
)

// expression reads one expression; conditional allows `a if b else c`.
func (p *parser) expression(conditionals bool) (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if !conditionals {
		return p.or()
	}
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.isName("if") {
		c := &conditional{pos: pos(p.next().line), then: x}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skip(tokName, "else") {
			if c.otherwise, err = p.expression(true); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, nil
}

// tuple reads an expression or, with commas, a tuple. The list of a for loop
// has no conditionals: its `if` is the loop's.
func (p *parser) tuple(ofLoop bool) (expr, error) {
	line := p.peek().line
	x, err := p.expression(!ofLoop)
	if err != nil || !p.isOp(",") {
		return x, err
	}
	list := []expr{x}
	for p.skip(tokOp, ",") {
		if t := p.peek(); t.kind == tokVarEnd || t.kind == tokTagEnd || p.isOp(")") || p.isOp("]") {
			break
		}
		if x, err = p.expression(!ofLoop); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return &listLiteral{pos(line), list, true}, nil
}

func (p *parser) or() (expr, error) {
	x, err := p.and()
	for err == nil && p.isName("or") {
		line := p.next().line
		var y expr
		y, err = p.and()
		x = &logic{pos(line), false, x, y}
	}
	return x, err
}

func (p *parser) and() (expr, error) {
	x, err := p.not()
	for err == nil && p.isName("and") {
		line := p.next().line
		var y expr
		y, err = p.not()
		x = &logic{pos(line), true, x, y}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if !p.isName("not") {
		return p.comparison()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	line := p.next().line
	x, err := p.not()
	return &not{pos(line), x}, err
}

func (p *parser) comparison() (expr, error) {
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := &comparison{pos: pos(p.peek().line), first: x}
	for {
		op := ""
		t := p.peek()
		switch {
		case t.kind == tokOp:
			switch t.text {
			case "==", "!=", "<", "<=", ">", ">=":
				op = t.text
			}
		case p.isName("in"):
			op = "in"
		case p.isName("not") && p.tokens[p.at+1].kind == tokName && p.tokens[p.at+1].text == "in":
			p.next()
			op = "not in"
		}
		if op == "" {
			break
		}
		p.next()
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.rest = append(c.rest, operand{op, y})
	}
	if len(c.rest) == 0 {
		return x, nil
	}
	return c, nil
}

// operators reads operand (op operand)*, from the left.
func (p *parser) operators(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
	for err == nil {
		t := p.peek()
		found := false
		for _, op := range ops {
			found = found || p.isOp(op)
		}
		if !found {
			break
		}
		p.next()
		var y expr
		y, err = operand()
		x = &binary{pos(t.line), t.text, x, y}
	}
	return x, err
}

func (p *parser) sum() (expr, error) { return p.operators(p.concat, "+", "-") }

func (p *parser) concat() (expr, error) {
	x, err := p.product()
	if err != nil || !p.isOp("~") {
		return x, err
	}
	c := &concat{pos(p.peek().line), []expr{x}}
	for p.skip(tokOp, "~") {
		if x, err = p.product(); err != nil {
			return nil, err
		}
		c.parts = append(c.parts, x)
	}
	return c, nil
}

func (p *parser) product() (expr, error) { return p.operators(p.power, "*", "/", "//", "%") }

func (p *parser) power() (expr, error) {
	return p.operators(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) (expr, error) {
	var x expr
	var err error
	if p.isOp("-") || p.isOp("+") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		t := p.next()
		x, err = p.unary(false)
		p.depth--
		x = &unary{pos(t.line), t.text, x}
	} else {
		x, err = p.primary()
	}
	if err != nil {
		return nil, err
	}
	if x, err = p.postfix(x); err != nil || !filters {
		return x, err
	}
	for {
		switch {
		case p.isOp("|"):
			x, err = p.filterChain(x)
		case p.isName("is"):
			x, err = p.test(x)
		case p.isOp("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	line := pos(t.line)
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return &literal{line, Bool(true)}, nil
		case "false", "False":
			return &literal{line, Bool(false)}, nil
		case "none", "None":
			return &literal{line, Null{}}, nil
		}
		p.noteName(t.text)
		return &name{line, t.text}, nil
	case tokString:
		text := t.text
		for p.peek().kind == tokString {
			text += p.next().text
		}
		return &literal{line, trusted(text)}, nil
	case tokInt:
		n, ok := parseInt(t.text)
		if !ok {
			return nil, syntax(t.line, "the number has more than %d digits", maxDigits)
		}
		return &literal{line, n}, nil
	case tokFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil && !math.IsInf(f, 0) {
			return nil, syntax(t.line, "the number %s cannot be read", t.text)
		}
		return &literal{line, Float(f)}, nil
	case tokOp:
		switch t.text {
		case "(":
			return p.parenthesis(line)
		case "[":
			items, err := p.expressions("]")
			return &listLiteral{line, items, false}, err
		case "{":
			return p.mapLiteral(line)
		}
	}
	p.at--
	if t.kind == tokEOF {
		p.at++
	}
	return nil, syntax(t.line, "%s where an expression was expected", t)
}

// noteName tells the macro around this place which special names it uses.
func (p *parser) noteName(name string) {
	if p.macro == nil {
		return
	}
	switch name {
	case "varargs":
		p.macro.varargs = true
	case "kwargs":
		p.macro.kwargs = true
	case "caller":
		p.macro.caller = true
	}
}

func (p *parser) parenthesis(line pos) (expr, error) {
	if p.skip(tokOp, ")") {
		return &listLiteral{line, nil, true}, nil
	}
	x, err := p.tuple(false)
	if err != nil {
		return nil, err
	}
	_, err = p.expect(tokOp, ")", "")
	return x, err
}

// expressions reads a list up to the closing bracket; a last comma is allowed.
func (p *parser) expressions(end string) ([]expr, error) {
	var list []expr
	for !p.skip(tokOp, end) {
		if len(list) > 0 {
			if _, err := p.expect(tokOp, ",", ""); err != nil {
				return nil, err
			}
			if p.skip(tokOp, end) {
				break
			}
		}
		x, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

func (p *parser) mapLiteral(line pos) (expr, error) {
	m := &mapLiteral{pos: line}
	for !p.skip(tokOp, "}") {
		if len(m.keys) > 0 {
			if _, err := p.expect(tokOp, ",", ""); err != nil {
				return nil, err
			}
			if p.skip(tokOp, "}") {
				break
			}
		}
		key, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		if _, err := p.expect(tokOp, ":", " after a key"); err != nil {
			return nil, err
		}
		value, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		m.keys = append(m.keys, key)
		m.values = append(m.values, value)
	}
	return m, nil
}

// postfix reads .name, [index] and (arguments) after x.
func (p *parser) postfix(x expr) (expr, error) {
	for {
		t := p.peek()
		var err error
		switch {
		case p.skip(tokOp, "."):
			member := p.next()
			switch member.kind {
			case tokName:
				x = &attribute{pos(t.line), x, member.text}
			case tokInt:
				n, _ := parseInt(member.text)
				x = &subscript{pos(t.line), x, &literal{pos(t.line), n}}
			default:
				return nil, syntax(member.line, "%s where a name was expected after a dot", member)
			}
		case p.skip(tokOp, "["):
			x, err = p.subscript(x, pos(t.line))
		case p.isOp("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(x expr, line pos) (expr, error) {
	var parts [3]expr // start, stop, step
	colons := 0
	for !p.isOp("]") {
		if p.skip(tokOp, ":") {
			if colons++; colons > 2 {
				return nil, syntax(int(line), "more than two colons in a slice")
			}
			continue
		}
		if parts[colons] != nil {
			return nil, p.unexpected(" in a subscript (only one index or slice is supported)")
		}
		var err error
		if parts[colons], err = p.expression(true); err != nil {
			return nil, err
		}
	}
	p.next()
	if colons > 0 {
		return &slice{line, x, parts[0], parts[1], parts[2]}, nil
	}
	if parts[0] == nil {
		return nil, syntax(int(line), "an empty subscript")
	}
	return &subscript{line, x, parts[0]}, nil
}

func (p *parser) call(callee expr) (expr, error) {
	c := &call{pos: pos(p.peek().line), callee: callee}
	var err error
	c.args, err = p.arguments()
	return c, err
}

// arguments reads (a, b, key=c, *list, **map).
func (p *parser) arguments() (callArgs, error) {
	var args callArgs
	if _, err := p.expect(tokOp, "(", ""); err != nil {
		return args, err
	}
	for first := true; !p.skip(tokOp, ")"); first = false {
		if !first {
			if _, err := p.expect(tokOp, ",", " between arguments"); err != nil {
				return args, err
			}
			if p.skip(tokOp, ")") {
				break
			}
		}
		t := p.peek()
		var err error
		switch {
		case args.dict != nil:
			return args, syntax(t.line, "an argument follows **arguments")
		case p.skip(tokOp, "**"):
			args.dict, err = p.expression(true)
		case args.list == nil && p.skip(tokOp, "*"):
			args.list, err = p.expression(true)
		case t.kind == tokName && p.tokens[p.at+1].kind == tokOp && p.tokens[p.at+1].text == "=":
			p.at += 2
			var x expr
			x, err = p.expression(true)
			args.named = append(args.named, namedExpr{t.text, x})
		case len(args.named) > 0 || args.list != nil:
			return args, syntax(t.line, "a positional argument follows a named one")
		default:
			var x expr
			x, err = p.expression(true)
			args.positional = append(args.positional, x)
		}
		if err != nil {
			return args, err
		}
	}
	return args, nil
}

// filterChain reads |a|b(c) after x. The first bar may have been something
// else (the word filter of a filter tag).
func (p *parser) filterChain(x expr) (expr, error) {
	for first := true; first || p.isOp("|"); first = false {
		p.next()
		t, err := p.expect(tokName, "", " as a filter")
		if err != nil {
			return nil, err
		}
		f, ok := filters[t.text]
		if !ok {
			return nil, syntax(t.line, "the filter '%s' is not supported", t.text)
		}
		node := &filtered{pos: pos(t.line), target: x, name: t.text, filter: f}
		if p.isOp("(") {
			if node.args, err = p.arguments(); err != nil {
				return nil, err
			}
		}
		x = node
	}
	return x, nil
}

// test reads `is [not] name [argument]` after x.
func (p *parser) test(x expr) (expr, error) {
	p.next()
	negated := p.skip(tokName, "not")
	t, err := p.expect(tokName, "", " as a test")
	if err != nil {
		return nil, err
	}
	test, ok := tests[t.text]
	if !ok {
		return nil, syntax(t.line, "the test '%s' is not supported", t.text)
	}
	node := &tested{pos: pos(t.line), target: x, name: t.text, test: test}
	if p.isOp("(") {
		node.args, err = p.arguments()
	} else if p.startsArgument() {
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		node.args.positional = []expr{arg}
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return &not{pos(t.line), node}, nil
	}
	return node, nil
}

// startsArgument says whether a test's argument without parentheses follows.
func (p *parser) startsArgument() bool {
	t := p.peek()
	switch t.kind {
	case tokString, tokInt, tokFloat:
		return true
	case tokOp:
		return t.text == "[" || t.text == "{"
	case tokName:
		switch t.text {
		case "else", "or", "and", "is", "if", "in", "not":
			return false
		}
		return true
	}
	return false
}
