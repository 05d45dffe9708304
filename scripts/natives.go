package scripts

import (
	"math"
	"slices"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Bounds of what one built-in may do: it cannot be interrupted.
const (
	maxText  = 1 << 20 // characters that it makes
	maxArray = 1 << 20 // elements that it goes through
	maxBytes = 4 << 20 // of a buffer
	maxArgs  = 1 << 14 // arguments of apply
	maxDepth = 100     // of JSON and nested arrays
)

// natives are built-ins as they were before the script could change them.
type natives struct {
	Error, Int32Array, Float32Array, Uint16Array, Uint32Array goja.Value
	parse, stringify                                          goja.Callable
}

const preludeName = "prelude.js"

// prelude takes away what compiles text or has no bounds, and returns what Go wraps.
const prelude = `(function() {
	"use strict";
	const refuse = function() { throw new TypeError("text is not compiled into code here"); };
	for (const f of [function() {}, function*() {}, async function() {}, async () => {}]) {
		Object.defineProperty(Object.getPrototypeOf(f), "constructor", { value: refuse, writable: false, configurable: false });
	}
	globalThis.Function = refuse;
	for (const name of ["eval", "BigInt", "BigInt64Array", "BigUint64Array", "SharedArrayBuffer", "Atomics"]) delete globalThis[name];
	for (const name of ["getBigInt64", "getBigUint64", "setBigInt64", "setBigUint64"]) delete DataView.prototype[name];
	delete Array.prototype.toLocaleString;
	delete Object.getPrototypeOf(Int8Array).prototype.toLocaleString;
})()`

var compiledPrelude = goja.MustCompile(preludeName, prelude, true)

// fence wraps built-ins whose cost one call can make as large as it likes.
func (v *vm) fence() error {
	rt, global := v.rt, v.rt.GlobalObject()
	if _, err := rt.RunProgram(compiledPrelude); err != nil {
		return err
	}
	get := func(path ...string) *goja.Object {
		o := global
		for _, name := range path {
			o = o.Get(name).ToObject(rt)
		}
		return o
	}
	v.fenceStrings(get("String", "prototype"))
	v.fenceArrays(get("Array"), get("Array", "prototype"))
	v.fenceBuffers(global)
	v.fenceJSON(get("JSON"))
	args := func(at int) func(goja.FunctionCall) {
		return func(c goja.FunctionCall) { v.atMost("arguments", v.length(c.Argument(at)), maxArgs) }
	}
	v.wrap(get("Object").Get("getPrototypeOf").ToObject(rt).Prototype(), "apply", args(1))
	v.wrap(get("Reflect"), "apply", args(2))
	v.wrap(get("Reflect"), "construct", args(1))
	v.natives.Error = global.Get("Error")
	for name, to := range map[string]*goja.Value{
		"Int32Array": &v.natives.Int32Array, "Float32Array": &v.natives.Float32Array,
		"Uint16Array": &v.natives.Uint16Array, "Uint32Array": &v.natives.Uint32Array,
	} {
		*to = global.Get(name)
	}
	return nil
}

// wrap puts a check in front of a built-in.
func (v *vm) wrap(o *goja.Object, name string, check func(goja.FunctionCall)) {
	original, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		return
	}
	v.replace(o, name, func(c goja.FunctionCall) goja.Value {
		check(c)
		return call(original, c.This, c.Arguments...)
	})
}

// construct puts a check in front of a class: an own class with the same prototype.
func (v *vm) construct(global *goja.Object, name string, check func(args []goja.Value)) {
	class := global.Get(name).ToObject(v.rt)
	made := v.rt.ToValue(func(c goja.ConstructorCall) *goja.Object {
		check(c.Arguments)
		out, err := v.rt.New(class, c.Arguments...)
		if err != nil {
			panic(err)
		}
		if proto := c.This.Prototype(); proto != nil && proto != out.Prototype() {
			_ = out.SetPrototype(proto)
		}
		return out
	}).ToObject(v.rt)
	proto := class.Get("prototype").ToObject(v.rt)
	_ = made.DefineDataProperty("prototype", proto, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	_ = made.DefineDataProperty("name", v.rt.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = made.SetPrototype(class)
	_ = proto.DefineDataProperty("constructor", made, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = global.DefineDataProperty(name, made, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// replace puts another function in the place of a built-in.
func (v *vm) replace(o *goja.Object, name string, f func(goja.FunctionCall) goja.Value) {
	fn := v.rt.ToValue(f).ToObject(v.rt)
	_ = fn.DefineDataProperty("name", v.rt.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = o.DefineDataProperty(name, fn, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// call calls a function of JavaScript and throws on what it throws.
func call(f goja.Callable, this goja.Value, args ...goja.Value) goja.Value {
	out, err := f(this, args...)
	if err != nil {
		panic(err)
	}
	return out
}

// length is the length property of an object, 0 for none.
func (v *vm) length(value goja.Value) float64 {
	o, ok := value.(*goja.Object)
	if !ok {
		return 0
	}
	n := o.Get("length")
	if n == nil {
		return 0
	}
	return n.ToFloat()
}

func (v *vm) atMost(what string, n float64, most int) {
	if n > float64(most) {
		v.throw(faultf(hook.BadValue, "%v %s at once: %d at most", n, what, most))
	}
}

func characters(s goja.Value) float64 {
	if text, ok := s.(goja.String); ok {
		return float64(text.Length())
	}
	return 0
}

func (v *vm) fenceStrings(proto *goja.Object) {
	v.wrap(proto, "repeat", func(c goja.FunctionCall) {
		v.atMost("characters", characters(c.This.ToString())*c.Argument(0).ToFloat(), maxText)
	})
	for _, name := range []string{"padStart", "padEnd"} {
		v.wrap(proto, name, func(c goja.FunctionCall) { v.atMost("characters", c.Argument(0).ToFloat(), maxText) })
	}
	for _, name := range []string{"replace", "replaceAll"} {
		v.wrap(proto, name, func(c goja.FunctionCall) {
			v.atMost("characters", replaced(characters(c.This.ToString()), c.Argument(1)), 16*maxText)
		})
	}
	v.wrap(proto, "split", func(c goja.FunctionCall) { v.atMost("characters to split", characters(c.This.ToString()), maxText) })
}

// replaced bounds the length of a text of n characters after replacing. What $& and $1 stand for is,
// over all matches, part of the text; $` and $' are most of it, every time.
func replaced(n float64, with goja.Value) float64 {
	s, ok := with.(goja.String)
	if !ok {
		return n // a function, which can be interrupted
	}
	bound, quadratic := n+(n+1)*characters(s), false
	for i := 0; i+1 < s.Length(); i++ {
		if s.CharAt(i) == '$' {
			next := s.CharAt(i + 1)
			bound += n
			quadratic = quadratic || next == '`' || next == '\''
		}
	}
	if quadratic {
		bound += n * n * characters(s)
	}
	return bound
}

// fenceArrays bounds what goes through arrays, which may be sparse and long.
func (v *vm) fenceArrays(class, proto *goja.Object) {
	free := []string{"constructor", "push", "pop", "at", "keys", "values", "entries", "join", "flat", "toString"}
	for _, name := range proto.GetOwnPropertyNames() {
		if !slices.Contains(free, name) {
			v.wrap(proto, name, func(c goja.FunctionCall) {
				n := v.length(c.This)
				for _, arg := range c.Arguments {
					if o, ok := arg.(*goja.Object); ok && o.ClassName() == "Array" {
						n += v.length(o)
					}
				}
				v.atMost("elements", n, maxArray)
			})
		}
	}
	v.wrap(class, "from", func(c goja.FunctionCall) { v.atMost("elements", v.length(c.Argument(0)), maxArray) })
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
}

// join makes texts of the elements first, and joins those if they are not too long.
func (v *vm) join(original goja.Callable, c goja.FunctionCall) goja.Value {
	if v.depth++; v.depth > maxDepth {
		v.depth = 0
		v.throw(faultf(hook.BadValue, "arrays are nested deeper than %d, or in themselves", maxDepth))
	}
	o, n := c.This.ToObject(v.rt), v.length(c.This)
	v.atMost("elements", n, maxArray)
	separator := goja.Value(v.rt.ToValue(","))
	if s := c.Argument(0); !goja.IsUndefined(s) {
		separator = s.ToString()
	}
	total := n * characters(separator)
	texts := make([]any, int(max(n, 0)))
	for i := range texts {
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
	v.atMost("characters", total, maxText)
	v.depth--
	return call(original, v.rt.NewArray(texts...), separator)
}

func (v *vm) flat(out *[]any, from goja.Value, depth float64) {
	o, n := from.ToObject(v.rt), v.length(from)
	v.atMost("elements", n+float64(len(*out)), maxArray)
	for i := range int(n) {
		e := o.Get(index(i))
		if e == nil {
			continue
		}
		if inner, ok := e.(*goja.Object); ok && depth >= 1 && inner.ClassName() == "Array" {
			v.flat(out, inner, depth-1)
			continue
		}
		*out = append(*out, e)
	}
}

// fenceBuffers bounds buffers where they are made.
func (v *vm) fenceBuffers(global *goja.Object) {
	sizes := map[string]int{"ArrayBuffer": 1, "Int8Array": 1, "Uint8Array": 1, "Uint8ClampedArray": 1, "Int16Array": 2, "Uint16Array": 2,
		"Int32Array": 4, "Uint32Array": 4, "Float32Array": 4, "Float64Array": 8}
	for name, size := range sizes {
		class := global.Get(name).ToObject(v.rt)
		v.construct(global, name, func(args []goja.Value) {
			if len(args) > 0 {
				n := args[0].ToFloat()
				if o, ok := args[0].(*goja.Object); ok {
					n = v.length(o)
				}
				v.atMost("bytes", n*float64(size), maxBytes)
			}
		})
		if name == "Int8Array" {
			v.wrap(class.Prototype(), "from", func(c goja.FunctionCall) { v.atMost("elements", v.length(c.Argument(0)), maxBytes/8) })
		}
	}
}

// fenceJSON bounds the depth of what is read and written.
func (v *vm) fenceJSON(json *goja.Object) {
	v.wrap(json, "parse", func(c goja.FunctionCall) {
		text := c.Argument(0).ToString().String()
		v.atMost("bytes of JSON", float64(len(text)), maxText)
		if depth := nesting(text); depth > maxDepth {
			v.throw(faultf(hook.BadValue, "JSON is nested %d deep: %d at most", depth, maxDepth))
		}
	})
	original, _ := goja.AssertFunction(json.Get("stringify"))
	v.replace(json, "stringify", func(c goja.FunctionCall) goja.Value {
		return call(original, c.This, c.Argument(0), v.rt.ToValue(v.replacer(c.Argument(1))), c.Argument(2))
	})
	v.natives.parse, _ = goja.AssertFunction(json.Get("parse"))
	v.natives.stringify, _ = goja.AssertFunction(json.Get("stringify"))
}

// nesting is how deep the brackets of a text are nested.
func nesting(text string) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

// replacer is the replacer of a stringify: it follows how deep the values lie, counts
// what they hold, and does what the script's own replacer does.
func (v *vm) replacer(own goja.Value) func(goja.FunctionCall) goja.Value {
	var path []goja.Value
	total := 0.0
	ownCall, isCall := goja.AssertFunction(own)
	var keys map[string]bool
	if list, ok := own.(*goja.Object); ok && !isCall && list.ClassName() == "Array" {
		keys = map[string]bool{}
		for i := range int(min(v.length(list), maxArgs)) {
			keys[list.Get(index(i)).String()] = true
		}
	}
	return func(c goja.FunctionCall) goja.Value {
		value := c.Argument(1)
		for len(path) > 0 && path[len(path)-1] != c.This {
			path = path[:len(path)-1]
		}
		if holder, ok := c.This.(*goja.Object); keys != nil && len(path) > 0 && ok && holder.ClassName() != "Array" && !keys[c.Argument(0).String()] {
			return goja.Undefined()
		}
		if isCall {
			value = call(ownCall, c.This, c.Arguments...)
		}
		if total += 1 + characters(value) + characters(c.Argument(0)); total > maxText {
			v.throw(faultf(hook.BadValue, "JSON of more than %d characters", maxText))
		}
		if _, ok := value.(*goja.Object); ok {
			if path = append(path, value); len(path) > maxDepth {
				v.throw(faultf(hook.BadValue, "values are nested deeper than %d: JSON goes no deeper", maxDepth))
			}
		}
		return value
	}
}

// whole says that a number is a whole one of 32 bits.
func whole(x float64) bool { return x == math.Trunc(x) && x >= math.MinInt32 && x <= math.MaxInt32 }
