package scripts

import (
	_ "embed"
	"math"
	"slices"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Bounds of what one built-in may do: it cannot be interrupted.
const (
	maxText    = 1 << 20  // characters that it makes
	maxSubject = 1 << 18  // characters that a regular expression goes through
	maxPattern = 1 << 12  // characters of one
	maxArray   = 1 << 18  // elements that it goes through
	maxBytes   = 4 << 20  // of a buffer
	maxBuffers = 64 << 20 // of all buffers that a call makes
	maxArgs    = 1 << 14  // arguments of apply
	maxDepth   = 100      // of JSON, nested arrays and groups
	maxSearch  = 1 << 28  // comparisons of one text with another
)

// natives are built-ins as they were before the script could change them.
type natives struct {
	Error, Int32Array, Float32Array, Uint16Array, Uint32Array, freeze goja.Value
	parse, stringify, nothing                                         goja.Callable
}

const preludeName = "prelude.js"

//go:embed prelude.js
var prelude string

var compiledPrelude = goja.MustCompile(preludeName, prelude, true)

// fence puts bounds to built-ins whose cost one call can make as large as it likes.
// What a check looks at is made plain first and handed on: objects that say one thing
// to the check and another to the built-in have no say.
func (v *vm) fence() error {
	rt, global := v.rt, v.rt.GlobalObject()
	out, err := rt.RunProgram(compiledPrelude)
	if err != nil {
		return err
	}
	run, _ := goja.AssertFunction(out)
	most := rt.ToValue(func(c goja.FunctionCall) goja.Value {
		v.atMost(c.Argument(0).String(), c.Argument(1).ToFloat(), maxArray)
		return c.Argument(1)
	})
	steps, err := run(goja.Undefined(), most)
	if err != nil {
		return err
	}
	v.fenceIterator(steps.ToObject(rt))
	get := func(path ...string) *goja.Object {
		o := global
		for _, name := range path {
			o = o.Get(name).ToObject(rt)
		}
		return o
	}
	v.natives.Error, v.natives.freeze = global.Get("Error"), get("Object").Get("freeze")
	for name, to := range map[string]*goja.Value{
		"Int32Array": &v.natives.Int32Array, "Float32Array": &v.natives.Float32Array,
		"Uint16Array": &v.natives.Uint16Array, "Uint32Array": &v.natives.Uint32Array,
	} {
		*to = global.Get(name)
	}
	v.fenceStrings(get("String", "prototype"))
	v.fenceRegExps(global, get("RegExp", "prototype"))
	v.fenceArrays(get("Array", "prototype"))
	v.fenceBuffers(global)
	v.fenceJSON(get("JSON"))
	v.fenceObjects(get("Object"), get("Reflect"))
	for _, name := range []string{"encodeURI", "encodeURIComponent", "decodeURI", "decodeURIComponent", "escape", "unescape"} {
		v.guard(global, name, func(c *goja.FunctionCall) { v.textArg(c, 0, maxText) })
	}
	return nil
}

// guard puts a check in front of a built-in, which may change what it is called with.
func (v *vm) guard(o *goja.Object, name string, check func(*goja.FunctionCall)) {
	if f := v.guarding(o.Get(name), check); f != nil {
		v.replace(o, name, f)
	}
}

// guardSymbol is guard, for a built-in that a symbol names.
func (v *vm) guardSymbol(o *goja.Object, name *goja.Symbol, check func(*goja.FunctionCall)) {
	if f := v.guarding(o.GetSymbol(name), check); f != nil {
		_ = o.DefineDataPropertySymbol(name, v.rt.ToValue(f), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	}
}

func (v *vm) guarding(builtin goja.Value, check func(*goja.FunctionCall)) func(goja.FunctionCall) goja.Value {
	original, ok := goja.AssertFunction(builtin)
	if !ok {
		return nil
	}
	return func(c goja.FunctionCall) goja.Value {
		c.Arguments = slices.Clone(c.Arguments)
		check(&c)
		return call(original, c.This, c.Arguments...)
	}
}

// replace puts another function in the place of a built-in.
func (v *vm) replace(o *goja.Object, name string, f func(goja.FunctionCall) goja.Value) {
	fn := v.rt.ToValue(f).ToObject(v.rt)
	_ = fn.DefineDataProperty("name", v.rt.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = o.DefineDataProperty(name, fn, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// construct puts a check in front of a class: another class with the same prototype.
func (v *vm) construct(global *goja.Object, name string, check func(args []goja.Value)) {
	class := global.Get(name).ToObject(v.rt)
	made := v.rt.ToValue(func(c goja.ConstructorCall) *goja.Object {
		args := slices.Clone(c.Arguments)
		check(args)
		out, err := v.rt.New(class, args...)
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
	if x := math.Trunc(n.ToFloat()); x > 0 {
		return x
	}
	return 0
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

// plainText makes a text of a value, once, and refuses a long one.
func (v *vm) plainText(value goja.Value, most int) goja.Value {
	text := value.ToString()
	v.atMost("characters", characters(text), most)
	return text
}

// textArg makes a text of an argument, where there is one.
func (v *vm) textArg(c *goja.FunctionCall, n, most int) {
	if n < len(c.Arguments) {
		c.Arguments[n] = v.plainText(c.Arguments[n], most)
	}
}

// listArg makes an array of an argument that is a list of arguments.
func (v *vm) listArg(c *goja.FunctionCall, n int) {
	if n < len(c.Arguments) {
		if o, ok := c.Arguments[n].(*goja.Object); ok {
			c.Arguments[n] = v.list("arguments", o, maxArgs)
		}
	}
}

// list is an object as an array whose length is known: itself, where it is one, or a
// copy.
func (v *vm) list(what string, o *goja.Object, most int) *goja.Object {
	n := v.length(o)
	v.atMost(what, n, most)
	if o.ClassName() == "Array" || numbers(o) {
		return o
	}
	out := make([]any, int(n))
	for i := range out {
		v.step()
		out[i] = goja.Undefined()
		if e := o.Get(index(i)); e != nil {
			out[i] = e
		}
	}
	return v.rt.NewArray(out...)
}

// fenceIterator lets what goes through an array natively, a spread or a Set, be
// interrupted there: the array may be longer than what it holds.
func (v *vm) fenceIterator(steps *goja.Object) {
	v.natives.nothing, _ = goja.AssertFunction(steps.Get("nothing"))
	v.guard(steps.Get("prototype").ToObject(v.rt), "next", func(*goja.FunctionCall) { v.step() })
}

// step is called in loops of built-ins: it ends them when the machine is stopped.
func (v *vm) step() {
	if v.stopping.Load() {
		call(v.natives.nothing, goja.Undefined()) // which is interrupted
	}
}

// fenceObjects bounds lists of arguments and of names.
func (v *vm) fenceObjects(object, reflect *goja.Object) {
	v.guard(object.Get("getPrototypeOf").ToObject(v.rt).Prototype(), "apply", func(c *goja.FunctionCall) { v.listArg(c, 1) })
	v.guard(reflect, "apply", func(c *goja.FunctionCall) { v.listArg(c, 2) })
	v.guard(reflect, "construct", func(c *goja.FunctionCall) { v.listArg(c, 1) })
	named := func(c *goja.FunctionCall) {
		for _, arg := range c.Arguments {
			n := characters(arg)
			if o, ok := arg.(*goja.Object); ok && (o.ClassName() == "String" || numbers(o)) {
				n = v.length(o)
			}
			v.atMost("names", n, maxArray/16)
		}
	}
	for _, name := range []string{"keys", "values", "entries", "getOwnPropertyNames", "getOwnPropertyDescriptors", "assign", "freeze", "seal",
		"isFrozen", "isSealed", "preventExtensions", "defineProperties", "create"} {
		v.guard(object, name, named)
	}
	v.guard(reflect, "ownKeys", named)
}

// fenceBuffers bounds buffers where they are made.
func (v *vm) fenceBuffers(global *goja.Object) {
	sizes := map[string]int{"ArrayBuffer": 1, "Int8Array": 1, "Uint8Array": 1, "Uint8ClampedArray": 1, "Int16Array": 2, "Uint16Array": 2,
		"Int32Array": 4, "Uint32Array": 4, "Float32Array": 4, "Float64Array": 8}
	typed := global.Get("Int8Array").ToObject(v.rt).Prototype()
	from, _ := goja.AssertFunction(global.Get("Array").ToObject(v.rt).Get("from"))
	for name, size := range sizes {
		v.construct(global, name, func(args []goja.Value) {
			if len(args) == 0 {
				return
			}
			var n float64
			switch o, ok := args[0].(*goja.Object); {
			case !ok:
				n = args[0].ToFloat()
			case o.ExportType() == bufferType:
				return // a view, which takes no memory
			case numbers(o) || o.ClassName() == "Array":
				n = v.length(o)
			default:
				args[0] = call(from, goja.Undefined(), o)
				n = v.length(args[0])
			}
			v.atMost("bytes", n*float64(size), maxBytes)
			if v.buffers += int(max(n, 0)) * size; v.buffers > maxBuffers {
				v.throw(faultf(hook.OutOfMemory, "the call makes buffers of more than %d MiB", maxBuffers>>20))
			}
		})
	}
	v.guard(typed, "from", func(c *goja.FunctionCall) {
		if len(c.Arguments) > 0 {
			if o, ok := c.Arguments[0].(*goja.Object); ok && !numbers(o) {
				c.Arguments[0] = call(from, goja.Undefined(), o)
			}
		}
	})
	v.guard(typed.Get("prototype").ToObject(v.rt), "join", func(c *goja.FunctionCall) {
		v.textArg(c, 0, maxText)
		v.atMost("characters", v.length(c.This)*(24+characters(c.Argument(0))), 16*maxText)
	})
}

// whole says that a number is a whole one of 32 bits.
func whole(x float64) bool { return x == math.Trunc(x) && x >= math.MinInt32 && x <= math.MaxInt32 }
