package chat

import (
	"context"
	"errors"
	"time"
)

// Limits of one rendering. A chat of 1000 messages (2 MB) with 96 tools takes 7
// percent of the steps.
const (
	maxSteps    = 10_000_000 // one or two seconds
	maxText     = 64 << 20   // bytes of any one text, the output too
	maxRange    = 100_000    // items of range(), as in Jinja's sandbox
	maxCallDeep = 1000       // nested evaluations; Python's frames have the same limit
	stepBytes   = 32         // bytes of text made or searched that count as one step
)

// evaluator is one run of a template.
type evaluator struct {
	ctx      context.Context
	now      func() time.Time
	steps    int
	depth    int
	scope    *scope
	captured Value // the text of the block whose filters run
}

// scope holds the names set in one block; lookups go on in the block around.
type scope struct {
	names  []string
	values []Value
	parent *scope
	root   map[string]Value // the template's input and globals; only outermost
}

func (s *scope) get(name string) (Value, bool) {
	for ; s != nil; s = s.parent {
		for i := len(s.names) - 1; i >= 0; i-- {
			if s.names[i] == name {
				return s.values[i], true
			}
		}
		if s.root != nil {
			v, ok := s.root[name]
			return v, ok
		}
	}
	return nil, false
}

func (s *scope) set(name string, v Value) {
	if s.root != nil {
		s.root[name] = v
		return
	}
	for i := range s.names {
		if s.names[i] == name {
			s.values[i] = v
			return
		}
	}
	s.names = append(s.names, name)
	s.values = append(s.values, v)
}

// errBreak and errContinue end a loop's body from within.
var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

// spend counts steps and looks at the context about every thousand.
func (ev *evaluator) spend(n int) error {
	before := ev.steps >> 10
	ev.steps -= n
	if ev.steps < 0 {
		return fail("the template takes more than %d steps", maxSteps)
	}
	if ev.steps>>10 != before {
		return ev.ctx.Err()
	}
	return nil
}

// spendText counts the work of making or searching a text.
func (ev *evaluator) spendText(bytes int) error { return ev.spend(bytes/stepBytes + 1) }

// builder makes a text under the limits.
func (ev *evaluator) builder() *builder {
	return &builder{charge: func(bytes, total int) error {
		if total > maxText {
			return fail("a text of more than %d bytes", maxText)
		}
		return ev.spendText(bytes)
	}}
}

// eval evaluates x, counting the step and the depth.
func (ev *evaluator) eval(x expr) (Value, error) {
	if err := ev.enter(); err != nil {
		return nil, atLine(err, x.position())
	}
	v, err := x.eval(ev)
	ev.depth--
	if err != nil {
		return nil, atLine(err, x.position())
	}
	return v, nil
}

func (ev *evaluator) enter() error {
	if ev.depth >= maxCallDeep {
		return fail("more than %d nested calls and expressions", maxCallDeep)
	}
	ev.depth++
	return ev.spend(1)
}

// run executes statements in the present scope.
func (ev *evaluator) run(body []stmt, out *builder) error {
	for _, s := range body {
		if err := ev.enter(); err != nil {
			return atLine(err, s.position())
		}
		err := s.exec(ev, out)
		ev.depth--
		if err == nil {
			err = out.err
		}
		if err != nil {
			return atLine(err, s.position())
		}
	}
	return nil
}

// within runs a body in a scope of its own.
func (ev *evaluator) within(inner *scope, body []stmt, out *builder) error {
	outer := ev.scope
	ev.scope = inner
	err := ev.run(body, out)
	ev.scope = outer
	return err
}

// capture runs a body and gives its text.
func (ev *evaluator) capture(inner *scope, body []stmt) (Value, error) {
	b := ev.builder()
	if err := ev.within(inner, body, b); err != nil {
		return nil, err
	}
	return b.finish()
}

func (s *textStmt) exec(_ *evaluator, out *builder) error {
	out.write(s.text, false)
	return nil
}

func (s *outputStmt) exec(ev *evaluator, out *builder) error {
	v, err := ev.eval(s.x)
	if err != nil {
		return err
	}
	return writeText(out, v)
}

func (s *ifStmt) exec(ev *evaluator, out *builder) error {
	for _, b := range s.branches {
		v, err := ev.eval(b.test)
		if err != nil {
			return err
		}
		if truth(v) {
			return ev.run(b.body, out)
		}
	}
	return ev.run(s.otherwise, out)
}

func (s *forStmt) exec(ev *evaluator, out *builder) error {
	v, err := ev.eval(s.list)
	if err != nil {
		return err
	}
	list, err := ev.iterate(v)
	if err != nil {
		return err
	}
	if s.filter != nil {
		if list, err = s.filterList(ev, list); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return ev.within(&scope{parent: ev.scope}, s.otherwise, out)
	}
	loop := &loopState{list: list}
	for i, item := range list {
		loop.at = i
		inner := &scope{parent: ev.scope}
		inner.set("loop", loop)
		if err := ev.assign(inner, s.target, item); err != nil {
			return err
		}
		err := ev.within(inner, s.body, out)
		if errors.Is(err, errBreak) {
			return nil
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	return nil
}

func (s *forStmt) filterList(ev *evaluator, list []Value) ([]Value, error) {
	var kept []Value
	outer := ev.scope
	defer func() { ev.scope = outer }()
	for _, item := range list {
		ev.scope = &scope{parent: outer}
		if err := ev.assign(ev.scope, s.target, item); err != nil {
			return nil, err
		}
		v, err := ev.eval(s.filter)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// iterate lists the items of v or says that it has none.
func (ev *evaluator) iterate(v Value) ([]Value, error) {
	if s, ok := v.(String); ok {
		if err := ev.spend(len(s.text)); err != nil {
			return nil, err
		}
	}
	list, ok := items(v)
	if !ok {
		return nil, fail("'%s' object is not iterable", v.typeName())
	}
	return list, ev.spend(len(list) / 4)
}

// assign gives a value to a target in a scope.
func (ev *evaluator) assign(s *scope, t target, v Value) error {
	if t.several != nil {
		list, err := ev.iterate(v)
		if err != nil {
			return fail("cannot unpack a %s", v.typeName())
		}
		if len(list) != len(t.several) {
			return fail("%d values for %d names", len(list), len(t.several))
		}
		for i, one := range t.several {
			if err := ev.assign(s, one, list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if t.attribute == "" {
		s.set(t.name, v)
		return nil
	}
	if t.attribute[0] == '_' {
		return fail("a namespace cannot hold '%s': names must not begin with '_'", t.attribute)
	}
	holder, _ := s.get(t.name)
	ns, ok := holder.(*namespace)
	if !ok {
		return fail("cannot assign '%s.%s': '%s' is no namespace", t.name, t.attribute, t.name)
	}
	ns.vars.put(mapKey{text: t.attribute}, trusted(t.attribute), v)
	return nil
}

func (s *setStmt) exec(ev *evaluator, _ *builder) error {
	v, err := ev.eval(s.value)
	if err != nil {
		return err
	}
	return ev.assign(ev.scope, s.target, v)
}

// filterText runs the filters of a block over its text.
func (ev *evaluator) filterText(text Value, filters expr) (Value, error) {
	outer := ev.captured
	ev.captured = text
	v, err := ev.eval(filters)
	ev.captured = outer
	return v, err
}

func (s *setBlockStmt) exec(ev *evaluator, _ *builder) error {
	v, err := ev.capture(&scope{parent: ev.scope}, s.body)
	if err == nil && s.filters != nil {
		v, err = ev.filterText(v, s.filters)
	}
	if err != nil {
		return err
	}
	return ev.assign(ev.scope, s.target, v)
}

func (s *filterStmt) exec(ev *evaluator, out *builder) error {
	v, err := ev.capture(&scope{parent: ev.scope}, s.body)
	if err == nil {
		v, err = ev.filterText(v, s.filters)
	}
	if err != nil {
		return err
	}
	return writeText(out, v)
}

func (s *macroStmt) exec(ev *evaluator, _ *builder) error {
	ev.scope.set(s.name, ev.bindMacro(s.macro, ev.scope))
	return nil
}

// bindMacro makes the function that a macro is, seen from where it stands.
func (ev *evaluator) bindMacro(m *macro, home *scope) *function {
	return &function{name: m.name, call: func(ev *evaluator, args arguments) (Value, error) {
		inner := &scope{parent: home}
		if err := ev.bindParams(m, inner, args); err != nil {
			return nil, err
		}
		return ev.capture(inner, m.body)
	}}
}

// bindParams gives a macro's parameters their values. Defaults may use the
// parameters before them.
func (ev *evaluator) bindParams(m *macro, inner *scope, args arguments) error {
	used := 0
	outer := ev.scope
	ev.scope = inner
	defer func() { ev.scope = outer }()
	for i, param := range m.params {
		v, named := args.take(param)
		switch {
		case i < len(args.positional):
			if named {
				return fail("macro '%s' was given '%s' twice", m.name, param)
			}
			v = args.positional[i]
			used++
		case named:
		case m.defaults[i] != nil:
			var err error
			if v, err = ev.eval(m.defaults[i]); err != nil {
				return err
			}
		default:
			v = &undefined{"parameter '" + param + "' was not provided"}
		}
		inner.set(param, v)
	}
	if caller, ok := args.take("caller"); ok || m.caller {
		if !m.caller {
			return fail("macro '%s' does not use a caller", m.name)
		}
		if !ok {
			caller = &undefined{"no caller: the macro was not called by a call tag"}
		}
		inner.set("caller", caller)
	}
	if m.varargs {
		inner.set("varargs", newTuple(args.positional[used:]...))
	} else if extra := len(args.positional) - used; extra > 0 {
		return fail("macro '%s' takes %d arguments, not %d", m.name, len(m.params), len(args.positional))
	}
	rest := &Map{}
	for _, n := range args.named {
		if !n.taken {
			rest.put(mapKey{text: n.name}, trusted(n.name), n.value)
		}
	}
	if m.kwargs {
		inner.set("kwargs", rest)
	} else if rest.Len() > 0 {
		return fail("macro '%s' has no parameter '%s'", m.name, rest.entries[0].id.text)
	}
	return nil
}

func (s *callStmt) exec(ev *evaluator, out *builder) error {
	callee, err := ev.eval(s.call.callee)
	if err != nil {
		return err
	}
	args, err := ev.arguments(s.call.args)
	if err != nil {
		return err
	}
	args.named = append(args.named, namedValue{name: "caller", value: ev.bindMacro(s.caller, ev.scope)})
	v, err := ev.callValue(callee, args)
	if err != nil {
		return err
	}
	return writeText(out, v)
}

func (s *withStmt) exec(ev *evaluator, out *builder) error {
	inner := &scope{parent: ev.scope}
	for i, t := range s.targets {
		v, err := ev.eval(s.values[i]) // in the scope around, as in Jinja
		if err != nil {
			return err
		}
		inner.set(t.name, v)
	}
	return ev.within(inner, s.body, out)
}

func (s *scopeStmt) exec(ev *evaluator, out *builder) error {
	return ev.within(&scope{parent: ev.scope}, s.body, out)
}

func (s *jumpStmt) exec(*evaluator, *builder) error { return s.jump }
