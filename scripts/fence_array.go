package scripts

import (
	"slices"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// changing are the methods of arrays that change what they are called on: a copy would
// not do.
var changing = []string{"copyWithin", "fill", "reverse", "shift", "sort", "splice", "unshift"}

// fenceArrays bounds what goes through arrays, which may be sparse and long.
func (v *vm) fenceArrays(proto *goja.Object) {
	free := []string{"constructor", "length", "push", "pop", "at", "keys", "values", "entries", "toString"}
	for _, name := range proto.GetOwnPropertyNames() {
		if slices.Contains(free, name) {
			continue
		}
		v.guard(proto, name, func(c *goja.FunctionCall) {
			o, ok := c.This.(*goja.Object)
			if !ok {
				return
			}
			known := v.list("elements", o, maxArray)
			if known != o && slices.Contains(changing, name) {
				v.throw(faultf(hook.BadValue, "%s works on arrays only", name))
			}
			c.This = known
		})
	}
	join, _ := goja.AssertFunction(proto.Get("join"))
	v.replace(proto, "join", func(c goja.FunctionCall) goja.Value { return v.join(join, c) })
	v.replace(proto, "flat", func(c goja.FunctionCall) goja.Value {
		depth := 1.0
		if d := c.Argument(0); !goja.IsUndefined(d) {
			depth = min(d.ToFloat(), maxDepth)
		}
		var out []any
		v.flat(&out, c.This, depth)
		return v.rt.NewArray(out...)
	})
	mapped, _ := goja.AssertFunction(proto.Get("map"))
	v.replace(proto, "flatMap", func(c goja.FunctionCall) goja.Value {
		var out []any
		v.flat(&out, call(mapped, c.This, c.Arguments...), 1)
		return v.rt.NewArray(out...)
	})
	v.replace(proto, "concat", func(c goja.FunctionCall) goja.Value {
		var out []any
		for _, part := range append([]goja.Value{c.This}, c.Arguments...) {
			if o, ok := part.(*goja.Object); ok && o.ClassName() == "Array" {
				v.flat(&out, o, 0)
			} else {
				out = append(out, part)
			}
		}
		return v.rt.NewArray(out...)
	})
}

// join makes texts of the elements first, and joins those if they are not too long.
func (v *vm) join(original goja.Callable, c goja.FunctionCall) goja.Value {
	v.depth++
	defer func() { v.depth-- }()
	if v.depth > maxDepth {
		v.throw(faultf(hook.BadValue, "arrays are nested deeper than %d, or in themselves", maxDepth))
	}
	o := v.list("elements", c.This.ToObject(v.rt), maxArray)
	separator := goja.Value(v.rt.ToValue(","))
	if s := c.Argument(0); !goja.IsUndefined(s) {
		separator = v.plainText(s, maxText)
	}
	n := v.length(o)
	total := n * characters(separator)
	v.atMost("characters", total, maxText)
	texts := make([]any, int(n))
	for i := range texts {
		v.step()
		e := o.Get(index(i))
		if e == nil || goja.IsUndefined(e) || goja.IsNull(e) {
			texts[i] = ""
			continue
		}
		text := e.ToString()
		texts[i] = text
		total += characters(text)
		v.atMost("characters", total, maxText)
	}
	return call(original, v.rt.NewArray(texts...), separator)
}

// flat appends the elements of an array, those of arrays in it in their place.
func (v *vm) flat(out *[]any, from goja.Value, depth float64) {
	o := v.list("elements", from.ToObject(v.rt), maxArray)
	n := v.length(o)
	v.atMost("elements", n+float64(len(*out)), maxArray)
	for i := range int(n) {
		v.step()
		e := o.Get(index(i))
		if e == nil {
			continue
		}
		if inner, ok := e.(*goja.Object); ok && depth >= 1 && inner.ClassName() == "Array" {
			v.flat(out, inner, depth-1)
			continue
		}
		*out = append(*out, e)
		v.atMost("elements", float64(len(*out)), maxArray)
	}
}
