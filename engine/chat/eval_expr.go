package chat

import (
	"math"
	"math/big"
	"strings"
)

func (x *literal) eval(*evaluator) (Value, error) { return x.value, nil }

func (x *captured) eval(ev *evaluator) (Value, error) { return ev.captured, nil }

func (x *name) eval(ev *evaluator) (Value, error) {
	if v, ok := ev.scope.get(x.name); ok {
		return v, nil
	}
	switch x.name {
	case "cycler", "joiner", "lipsum", "self", "super":
		return nil, fail("'%s' is not supported in chat templates", x.name)
	}
	return &undefined{"'" + x.name + "' is undefined"}, nil
}

func (x *attribute) eval(ev *evaluator) (Value, error) {
	object, err := ev.eval(x.object)
	if err != nil {
		return nil, err
	}
	return ev.attribute(object, x.name)
}

// attribute is object.name: a method first, then a key.
func (ev *evaluator) attribute(object Value, name string) (Value, error) {
	switch o := object.(type) {
	case nil, *undefined:
		return nil, missing(object)
	case *Map:
		if m := method(object, name); m != nil {
			return m, nil
		}
		if v, ok := o.Get(name); ok {
			return v, nil
		}
	case *namespace:
		if v, ok := o.vars.Get(name); ok {
			return v, nil
		}
	case *loopState:
		if v := o.attribute(name); v != nil {
			return v, nil
		}
	default:
		if m := method(object, name); m != nil {
			return m, nil
		}
	}
	return &undefined{"'" + objectName(object) + "' has no attribute '" + name + "'"}, nil
}

// missing is the error of using an undefined value.
func missing(v Value) error {
	if u, ok := v.(*undefined); ok {
		return fail("%s", u.why)
	}
	return fail("an undefined value is used")
}

func (x *subscript) eval(ev *evaluator) (Value, error) {
	object, err := ev.eval(x.object)
	if err != nil {
		return nil, err
	}
	index, err := ev.eval(x.index)
	if err != nil {
		return nil, err
	}
	return ev.item(object, index)
}

// item is object[index]: an item or key first, then a method or attribute.
func (ev *evaluator) item(object, index Value) (Value, error) {
	if isUndefined(object) {
		return nil, missing(object)
	}
	i, _, isInt, _ := number(index)
	switch o := object.(type) {
	case *Map:
		if id, ok := keyOf(index); ok {
			if v, ok := o.lookup(id); ok {
				return v, nil
			}
		}
	case *List:
		if isInt {
			if at, ok := position(i, len(o.items)); ok {
				return o.items[at], nil
			}
		}
	case String:
		if isInt {
			if err := ev.spendText(len(o.text)); err != nil {
				return nil, err
			}
			if c, ok := o.character(i); ok {
				return c, nil
			}
		}
	}
	if s, ok := index.(String); ok {
		return ev.attribute(object, s.text)
	}
	b := builder{}
	if err := writeText(&b, index); err != nil || b.buf.Len() > 100 {
		b = builder{}
		b.write(index.typeName(), false)
	}
	return &undefined{objectName(object) + " has no element " + b.buf.String()}, nil
}

// position is a Python index in a sequence of n: negative from the end.
func position(i Int, n int) (at int, ok bool) {
	at = i.index()
	if at < 0 {
		at += n
	}
	return at, at >= 0 && at < n
}

func (s String) character(i Int) (Value, bool) {
	at := s.offsets()
	if at == nil {
		k, ok := position(i, len(s.text))
		if !ok {
			return nil, false
		}
		return s.cut(k, k+1), true
	}
	k, ok := position(i, len(at)-1)
	if !ok {
		return nil, false
	}
	return s.cut(at[k], at[k+1]), true
}

func (x *slice) eval(ev *evaluator) (Value, error) {
	object, err := ev.eval(x.object)
	if err != nil {
		return nil, err
	}
	var bounds [3]*int
	for i, part := range []expr{x.start, x.stop, x.step} {
		if part == nil {
			continue
		}
		v, err := ev.eval(part)
		if err != nil {
			return nil, err
		}
		if _, ok := v.(Null); ok {
			continue
		}
		n, _, isInt, _ := number(v)
		if !isInt {
			return nil, fail("slice indices must be integers or None, not %s", typeOf(v))
		}
		k := n.index()
		bounds[i] = &k
	}
	switch o := object.(type) {
	case nil, *undefined:
		return nil, missing(object)
	case *List:
		start, stop, step, err := sliceBounds(bounds, len(o.items))
		if err != nil {
			return nil, err
		}
		l := &List{tuple: o.tuple, data: o.data}
		if step == 1 {
			l.items = o.items[start:max(start, stop)]
			return l, ev.spend(1)
		}
		for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
			l.items = append(l.items, o.items[i])
		}
		return l, ev.spend(len(l.items))
	case String:
		return ev.sliceText(o, bounds)
	}
	return nil, fail("a %s cannot be sliced", object.typeName())
}

func (ev *evaluator) sliceText(s String, bounds [3]*int) (Value, error) {
	if err := ev.spendText(len(s.text)); err != nil {
		return nil, err
	}
	at := s.offsets()
	n := len(s.text)
	if at != nil {
		n = len(at) - 1
	}
	byteAt := func(i int) int {
		if at != nil {
			return at[i]
		}
		return i
	}
	start, stop, step, err := sliceBounds(bounds, n)
	if err != nil {
		return nil, err
	}
	if step == 1 {
		return s.cut(byteAt(start), byteAt(max(start, stop))), nil
	}
	b := ev.builder()
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		b.add(s.cut(byteAt(i), byteAt(i+1)))
	}
	return b.finish()
}

// sliceBounds are Python's: where the slice of a sequence of n starts, what it
// stops before, and its step.
func sliceBounds(bounds [3]*int, n int) (start, stop, step int, err error) {
	step = 1
	if bounds[2] != nil {
		step = max(-n-1, min(n+1, *bounds[2])) // a longer step takes the same one item
	}
	if step == 0 {
		return 0, 0, 0, fail("slice step cannot be zero")
	}
	low, high := 0, n
	start, stop = 0, n
	if step < 0 {
		low, high = -1, n-1
		start, stop = n-1, -1
	}
	clip := func(p *int, i *int) {
		if p == nil {
			return
		}
		k := *p
		if k < 0 {
			k = max(k, -n-1) + n
		}
		*i = max(low, min(high, k))
	}
	clip(bounds[0], &start)
	clip(bounds[1], &stop)
	return start, stop, step, nil
}

// typeOf is Python's type name of any value.
func typeOf(v Value) string {
	if v == nil {
		return "Undefined"
	}
	return v.typeName()
}

func (x *unary) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.x)
	if err != nil {
		return nil, err
	}
	if isUndefined(v) {
		return nil, missing(v)
	}
	i, f, isInt, ok := number(v)
	switch {
	case !ok:
		return nil, fail("bad operand type for unary %s: '%s'", x.op, v.typeName())
	case x.op == "+" && isInt:
		return i, nil
	case x.op == "+":
		return Float(f), nil
	case isInt && i.big == nil && i.small != math.MinInt64:
		return NewInt(-i.small), nil
	case isInt:
		return intFromBig(new(big.Int).Neg(i.bigInt())), nil
	}
	return Float(-f), nil
}

func (x *binary) eval(ev *evaluator) (Value, error) {
	a, err := ev.eval(x.a)
	if err != nil {
		return nil, err
	}
	b, err := ev.eval(x.b)
	if err != nil {
		return nil, err
	}
	return ev.binary(x.op, a, b)
}

func (ev *evaluator) binary(op string, a, b Value) (Value, error) {
	for _, v := range []Value{a, b} {
		if isUndefined(v) {
			return nil, missing(v)
		}
	}
	if v, ok, err := arithmetic(op, a, b); ok {
		return v, err
	}
	switch op {
	case "+":
		if v, ok, err := ev.add(a, b); ok {
			return v, err
		}
		if _, ok := a.(String); ok {
			return nil, fail(`can only concatenate str (not "%s") to str`, b.typeName())
		}
	case "*":
		if n, _, isInt, _ := number(b); isInt {
			if v, ok, err := ev.repeat(a, n); ok {
				return v, err
			}
		}
		if n, _, isInt, _ := number(a); isInt {
			if v, ok, err := ev.repeat(b, n); ok {
				return v, err
			}
		}
	case "%":
		if s, ok := a.(String); ok {
			return ev.percent(s, b)
		}
	}
	return nil, fail("unsupported operand type(s) for %s: '%s' and '%s'", op, a.typeName(), b.typeName())
}

// add joins two strings or two lists.
func (ev *evaluator) add(a, b Value) (Value, bool, error) {
	switch a := a.(type) {
	case String:
		b, ok := b.(String)
		if !ok {
			return nil, false, nil
		}
		if a.markup != b.markup { // Markup escapes what it is joined with
			if a.markup {
				b = escape(b)
			} else {
				a = escape(a)
			}
		}
		if len(a.text)+len(b.text) > maxText {
			return nil, true, fail("a text of more than %d bytes", maxText)
		}
		s := join(a, b)
		s.markup = a.markup || b.markup
		return s, true, ev.spendText(len(s.text) + stepBytes*len(s.plain))
	case *List:
		b, ok := b.(*List)
		if !ok || a.tuple != b.tuple {
			return nil, false, nil
		}
		n := len(a.items) + len(b.items)
		l := &List{items: make([]Value, 0, n), tuple: a.tuple, data: a.data && b.data}
		l.items = append(append(l.items, a.items...), b.items...)
		return l, true, ev.spend(n)
	}
	return nil, false, nil
}

// repeat is sequence * n.
func (ev *evaluator) repeat(v Value, times Int) (Value, bool, error) {
	n := max(0, times.index())
	switch v := v.(type) {
	case String:
		if len(v.text) > 0 && n > maxText/len(v.text) {
			return nil, true, fail("a text of more than %d bytes", maxText)
		}
		if s, ok := v.with(strings.Repeat(v.text, n)); ok {
			return s, true, ev.spendText(len(s.text))
		}
		b := ev.builder()
		for range n {
			b.add(v)
		}
		s, err := b.finish()
		return s, true, err
	case *List:
		if len(v.items) > 0 && n > maxSteps/len(v.items) {
			return nil, true, fail("a list of more than %d items", maxSteps)
		}
		if err := ev.spend(n * len(v.items)); err != nil {
			return nil, true, err
		}
		l := &List{tuple: v.tuple, data: v.data, items: make([]Value, 0, n*len(v.items))}
		for range n {
			l.items = append(l.items, v.items...)
		}
		return l, true, nil
	}
	return nil, false, nil
}

func (x *concat) eval(ev *evaluator) (Value, error) {
	b := ev.builder()
	for _, part := range x.parts {
		v, err := ev.eval(part)
		if err != nil {
			return nil, err
		}
		if err := writeText(b, v); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

func (x *comparison) eval(ev *evaluator) (Value, error) {
	a, err := ev.eval(x.first)
	if err != nil {
		return nil, err
	}
	for _, o := range x.rest {
		b, err := ev.eval(o.x)
		if err != nil {
			return nil, err
		}
		holds, err := ev.compare(o.op, a, b)
		if err != nil || !holds {
			return Bool(false), err
		}
		a = b
	}
	return Bool(true), nil
}

func (ev *evaluator) compare(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return ev.equal(a, b, 0)
	case "!=":
		same, err := ev.equal(a, b, 0)
		return !same, err
	case "in":
		return ev.contains(b, a)
	case "not in":
		in, err := ev.contains(b, a)
		return !in, err
	}
	for _, v := range []Value{a, b} {
		if isUndefined(v) {
			return false, missing(v)
		}
	}
	c, ordered, err := ev.order(a, b, 0)
	if err != nil || !ordered {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// equal is Python's ==.
func (ev *evaluator) equal(a, b Value, depth int) (bool, error) {
	if depth > maxDepth {
		return false, fail("values of more than %d levels cannot be compared", maxDepth)
	}
	if err := ev.spend(1); err != nil {
		return false, err
	}
	if c, ordered, ok := compareNumbers(a, b); ok {
		return ordered && c == 0, nil
	}
	switch a := a.(type) {
	case nil, *undefined:
		return isUndefined(b), nil
	case String:
		b, ok := b.(String)
		return ok && a.text == b.text, ev.spendText(len(a.text))
	case *List:
		b, ok := b.(*List)
		if !ok || a.tuple != b.tuple || len(a.items) != len(b.items) {
			return false, nil
		}
		for i := range a.items {
			if same, err := ev.equal(a.items[i], b.items[i], depth+1); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case *Map:
		b, ok := b.(*Map)
		if !ok || len(a.entries) != len(b.entries) {
			return false, nil
		}
		for _, e := range a.entries {
			other, ok := b.lookup(e.id)
			if !ok {
				return false, nil
			}
			if same, err := ev.equal(e.value, other, depth+1); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case Null:
		_, ok := b.(Null)
		return ok, nil
	case Bool, Int, Float:
		return false, nil
	}
	return a == b, nil // the same function, namespace or loop
}

// order is Python's < and >: ordered is false where neither holds (NaN).
func (ev *evaluator) order(a, b Value, depth int) (c int, ordered bool, err error) {
	if depth > maxDepth {
		return 0, false, fail("values of more than %d levels cannot be compared", maxDepth)
	}
	if err := ev.spend(1); err != nil {
		return 0, false, err
	}
	if c, ordered, ok := compareNumbers(a, b); ok {
		return c, ordered, nil
	}
	switch x := a.(type) {
	case String:
		if y, ok := b.(String); ok {
			return strings.Compare(x.text, y.text), true, ev.spendText(len(x.text))
		}
	case *List:
		if y, ok := b.(*List); ok && x.tuple == y.tuple {
			for i := range min(len(x.items), len(y.items)) {
				same, err := ev.equal(x.items[i], y.items[i], depth+1)
				if err != nil {
					return 0, false, err
				}
				if !same {
					return ev.order(x.items[i], y.items[i], depth+1)
				}
			}
			return len(x.items) - len(y.items), true, nil
		}
	}
	return 0, false, fail("'%s' and '%s' have no order", typeOf(a), typeOf(b))
}

// contains is `item in container`.
func (ev *evaluator) contains(container, item Value) (bool, error) {
	switch c := container.(type) {
	case nil, *undefined:
		return false, nil
	case String:
		s, ok := item.(String)
		if !ok {
			return false, fail("'in <string>' requires string as left operand, not %s", typeOf(item))
		}
		return strings.Contains(c.text, s.text), ev.spendText(len(c.text))
	case *Map:
		id, ok := keyOf(item)
		if !ok {
			return false, nil
		}
		_, ok = c.lookup(id)
		return ok, nil
	case *List:
		for _, v := range c.items {
			if same, err := ev.equal(v, item, 0); err != nil || same {
				return same, err
			}
		}
		return false, nil
	}
	return false, fail("argument of type '%s' is not iterable", container.typeName())
}

func (x *not) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.x)
	return Bool(!truth(v)), err
}

func (x *logic) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.a)
	if err != nil || truth(v) != x.and {
		return v, err
	}
	return ev.eval(x.b)
}

func (x *conditional) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.test)
	switch {
	case err != nil:
		return nil, err
	case truth(v):
		return ev.eval(x.then)
	case x.otherwise != nil:
		return ev.eval(x.otherwise)
	}
	return &undefined{"the inline if-expression evaluated to false and has no else"}, nil
}

func (x *listLiteral) eval(ev *evaluator) (Value, error) {
	l := &List{tuple: x.tuple, items: make([]Value, len(x.items))}
	for i, item := range x.items {
		v, err := ev.eval(item)
		if err != nil {
			return nil, err
		}
		l.items[i] = v
	}
	return l, nil
}

func (x *mapLiteral) eval(ev *evaluator) (Value, error) {
	m := &Map{}
	for i := range x.keys {
		key, err := ev.eval(x.keys[i])
		if err != nil {
			return nil, err
		}
		v, err := ev.eval(x.values[i])
		if err != nil {
			return nil, err
		}
		id, ok := keyOf(key)
		if !ok {
			return nil, fail("a %s cannot be a key", typeOf(key))
		}
		m.put(id, key, v)
	}
	return m, nil
}

func (x *filtered) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.target)
	if err != nil {
		return nil, err
	}
	args, err := ev.arguments(x.args)
	if err != nil {
		return nil, err
	}
	return x.filter.call(ev, "filter '"+x.name+"'", v, args)
}

func (x *tested) eval(ev *evaluator) (Value, error) {
	v, err := ev.eval(x.target)
	if err != nil {
		return nil, err
	}
	args, err := ev.arguments(x.args)
	if err != nil {
		return nil, err
	}
	return x.test.call(ev, "test '"+x.name+"'", v, args)
}

func (x *call) eval(ev *evaluator) (Value, error) {
	callee, err := ev.eval(x.callee)
	if err != nil {
		return nil, err
	}
	args, err := ev.arguments(x.args)
	if err != nil {
		return nil, err
	}
	return ev.callValue(callee, args)
}

func (ev *evaluator) callValue(callee Value, args arguments) (Value, error) {
	switch f := callee.(type) {
	case *function:
		return f.call(ev, args)
	case nil, *undefined:
		return nil, missing(callee)
	case *loopState:
		return nil, fail("recursive loops are not supported: use a macro that calls itself")
	}
	return nil, fail("'%s' object is not callable", callee.typeName())
}
