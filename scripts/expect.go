package scripts

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// expectation is a value of which something is expected.
type expectation struct {
	value goja.Value
	not   bool
}

func doExpect(v *vm, c goja.FunctionCall) goja.Value {
	return v.object(expectKind, &expectation{value: c.Argument(0)})
}

// expects makes a method of something that may be expected.
func expects(check func(e *expectation, v *vm, c goja.FunctionCall)) func(*vm, goja.FunctionCall) goja.Value {
	return func(v *vm, c goja.FunctionCall) goja.Value {
		check(receiver[*expectation](v, c), v, c)
		return goja.Undefined()
	}
}

// judge throws where it is not as expected. why is added, where it says something.
func (e *expectation) judge(v *vm, is bool, what, why string) {
	if is != e.not {
		return
	}
	not := ""
	if e.not {
		not, why = "not ", ""
	}
	if why != "" {
		why = ": " + why
	}
	v.throw(fmt.Errorf("expected %s %s%s%s", v.inspect(e.value), not, what, why))
}

func (e *expectation) toBe(v *vm, c goja.FunctionCall) {
	e.judge(v, e.value.SameAs(c.Argument(0)), "to be "+v.inspect(c.Argument(0)), "")
}

func (e *expectation) toEqual(v *vm, c goja.FunctionCall) {
	d := &difference{v: v}
	same := d.same(e.value, c.Argument(0), "")
	e.judge(v, same, "to equal "+v.inspect(c.Argument(0)), d.why)
}

func (e *expectation) toBeCloseTo(v *vm, c goja.FunctionCall) {
	got, want, digits := v.number("the value", e.value), v.number("what it is expected to be", c.Argument(0)), 2.0
	if d := c.Argument(1); !goja.IsUndefined(d) {
		digits = v.number("the digits", d)
	}
	close := got == want || math.Abs(got-want) < math.Pow(10, -digits)/2
	e.judge(v, close, "to be close to "+v.inspect(c.Argument(0)), "")
}

func (e *expectation) toBeGreaterThan(v *vm, c goja.FunctionCall) {
	is := v.number("the value", e.value) > v.number("what it is compared with", c.Argument(0))
	e.judge(v, is, "to be greater than "+v.inspect(c.Argument(0)), "")
}

func (e *expectation) toBeLessThan(v *vm, c goja.FunctionCall) {
	is := v.number("the value", e.value) < v.number("what it is compared with", c.Argument(0))
	e.judge(v, is, "to be less than "+v.inspect(c.Argument(0)), "")
}

func (e *expectation) toContain(v *vm, c goja.FunctionCall) {
	wanted, contains := c.Argument(0), false
	switch o, isObject := e.value.(*goja.Object); {
	case !isObject:
		text := v.text("the value", e.value)
		contains = strings.Contains(text, v.text("the part", wanted))
	case isList(o):
		n := v.length(o)
		v.atMost("elements", n, maxArray)
		for i := range int(n) {
			v.step()
			if x := o.Get(index(i)); x != nil && x.SameAs(wanted) {
				contains = true
			}
		}
	default:
		v.throw(faultf(hook.BadValue, "toContain looks into texts, arrays and typed arrays, not into an object %s", kindOf(o)))
	}
	e.judge(v, contains, "to contain "+v.inspect(wanted), "")
}

func (e *expectation) toThrow(v *vm, c goja.FunctionCall) {
	f, ok := goja.AssertFunction(e.value)
	if !ok {
		v.throw(faultf(hook.BadValue, "toThrow takes a function that throws: expect(() => ...).toThrow()"))
	}
	wanted := ""
	if text := c.Argument(0); !goja.IsUndefined(text) {
		wanted = v.text("the text", text)
	}
	what := "to throw"
	if wanted != "" {
		what += " " + strconv.Quote(wanted)
	}
	_, err := f(goja.Undefined())
	var thrown *goja.Exception
	switch {
	case err == nil:
		e.judge(v, false, what, "it did not")
	case errors.As(err, &thrown):
		said := v.message(thrown.Value())
		e.judge(v, strings.Contains(said, wanted), what, "it threw "+strconv.Quote(said))
	default:
		panic(err) // it was stopped, which is nothing to expect
	}
}

// isList says whether an object is a list: an array or a typed array.
func isList(o *goja.Object) bool {
	if o.ClassName() == "Array" {
		return true
	}
	t := o.ExportType()
	return t != nil && t.Kind() == reflect.Slice && t.Elem().Kind() >= reflect.Int && t.Elem().Kind() <= reflect.Float64
}

// isOpaque says whether what an object holds are not its properties: a Map, a Set, a
// function.
func isOpaque(o *goja.Object) bool {
	t := o.ExportType()
	return o.ClassName() == "Function" || t != nil && t.Kind() == reflect.Slice && !isList(o)
}

// difference compares two values, and says where they are not the same.
type difference struct {
	v     *vm
	why   string
	depth int
	seen  int
}

// differ notes the first difference.
func (d *difference) differ(path string, got, want goja.Value) bool {
	if d.why == "" && path != "" {
		d.why = fmt.Sprintf("at %s it is %s, not %s", strings.TrimPrefix(path, "."), d.v.inspect(got), d.v.inspect(want))
	}
	return false
}

// same says whether two values are the same in all that they hold.
func (d *difference) same(a, b goja.Value, path string) bool {
	d.v.step()
	if d.seen++; d.seen > maxArray {
		d.v.throw(faultf(hook.BadValue, "toEqual of more than %d values", maxArray))
	}
	a, b = orUndefined(a), orUndefined(b)
	one, isOne := a.(*goja.Object)
	other, isOther := b.(*goja.Object)
	if !isOne || !isOther {
		if isOne == isOther && (a.StrictEquals(b) || a.SameAs(b)) {
			return true
		}
		return d.differ(path, a, b)
	}
	if one == other {
		return true
	}
	if d.depth++; d.depth > maxDepth {
		d.v.throw(faultf(hook.BadValue, "toEqual of values that are nested deeper than %d", maxDepth))
	}
	defer func() { d.depth-- }()
	if isList(one) != isList(other) || !isList(one) && one.ClassName() != other.ClassName() {
		return d.differ(path, a, b)
	}
	if isList(one) {
		return d.sameList(one, other, path)
	}
	if isOpaque(one) || isOpaque(other) {
		d.v.throw(faultf(hook.BadValue, "toEqual does not look into functions, a Map or a Set: compare Array.from of it, or what it returns"))
	}
	return d.sameFields(one, other, path)
}

func (d *difference) sameList(one, other *goja.Object, path string) bool {
	n := d.v.length(one)
	if m := d.v.length(other); n != m {
		return d.differ(path+".length", d.v.rt.ToValue(n), d.v.rt.ToValue(m))
	}
	d.v.atMost("elements", n, maxArray)
	for i := range int(n) {
		if !d.same(one.Get(index(i)), other.Get(index(i)), fmt.Sprintf("%s[%d]", path, i)) {
			return false
		}
	}
	return true
}

func (d *difference) sameFields(one, other *goja.Object, path string) bool {
	if one.ClassName() == "Date" && one.String() != other.String() {
		return d.differ(path, one, other)
	}
	for _, name := range one.Keys() {
		if !d.same(one.Get(name), other.Get(name), path+"."+name) {
			return false
		}
	}
	for _, name := range other.Keys() {
		if x := one.Get(name); x == nil && !d.same(x, other.Get(name), path+"."+name) {
			return false
		}
	}
	return true
}

func orUndefined(value goja.Value) goja.Value {
	if value == nil {
		return goja.Undefined()
	}
	return value
}

// Bounds of what a failure shows of a value.
const (
	inspectDepth = 5
	inspectItems = 40
	inspectBytes = 600
)

// inspect is a value as a failure shows it.
func (v *vm) inspect(value goja.Value) string {
	var out strings.Builder
	v.inspectTo(&out, orUndefined(value), 0)
	if out.Len() > inspectBytes {
		return strings.ToValidUTF8(out.String()[:inspectBytes], "") + "…"
	}
	return out.String()
}

func (v *vm) inspectTo(out *strings.Builder, value goja.Value, depth int) {
	v.step()
	o, ok := value.(*goja.Object)
	switch {
	case !ok:
		text := short(value)
		if _, is := value.(goja.String); is {
			text = strconv.Quote(text)
		}
		out.WriteString(text)
	case o.ClassName() == "Error" || o.ClassName() == "Date":
		out.WriteString(short(o))
	case o.ClassName() == "Function":
		out.WriteString("a function")
	case depth == inspectDepth || out.Len() > inspectBytes:
		out.WriteString("…")
	case isList(o):
		n := int(min(v.length(o), 1<<31))
		v.inspectAll(out, "[", "]", n, func(i int) { v.inspectTo(out, orUndefined(o.Get(index(i))), depth+1) })
	default:
		names := o.Keys()
		v.inspectAll(out, "{", "}", len(names), func(i int) {
			out.WriteString(names[i] + ": ")
			v.inspectTo(out, orUndefined(o.Get(names[i])), depth+1)
		})
	}
}

// inspectAll writes the parts of a value between brackets.
func (v *vm) inspectAll(out *strings.Builder, open, end string, n int, part func(int)) {
	out.WriteString(open)
	for i := range n {
		if i > 0 {
			out.WriteString(", ")
		}
		if i == inspectItems || out.Len() > inspectBytes {
			fmt.Fprintf(out, "… %d more", n-i)
			break
		}
		part(i)
	}
	out.WriteString(end)
}
