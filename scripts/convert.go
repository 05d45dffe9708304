package scripts

import (
	"encoding/binary"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

func index(i int) string { return strconv.Itoa(i) }

// number takes a number and nothing that could become one.
func (v *vm) number(what string, value goja.Value) float64 {
	if _, object := value.(*goja.Object); !object && value != nil {
		switch value.ExportType() { // of no object: it asks nobody
		case integerType, floatType:
			return value.ToFloat()
		}
	}
	v.throw(faultf(hook.BadValue, "%s is %s: it is a number", what, kindOf(value)))
	return 0
}

// The types of numbers.
var integerType, floatType = reflect.TypeFor[int64](), reflect.TypeFor[float64]()

// integer takes a whole number of 32 bits.
func (v *vm) integer(what string, value goja.Value) int {
	x := v.number(what, value)
	if !whole(x) {
		v.throw(faultf(hook.BadValue, "%s is %v: it is a whole number", what, x))
	}
	return int(x)
}

// text takes a string.
func (v *vm) text(what string, value goja.Value) string {
	s, ok := value.(goja.String)
	v.atMost("characters", characters(value), maxText)
	if !ok {
		v.throw(faultf(hook.BadValue, "%s is %s: it is a string", what, kindOf(value)))
	}
	return s.String()
}

// kindOf names a value that should have been another.
func kindOf(value goja.Value) string {
	if value == nil || goja.IsUndefined(value) {
		return "undefined"
	}
	if o, ok := value.(*goja.Object); ok {
		return "of class " + o.ClassName()
	}
	return short(value)
}

// numbers says whether an object is a typed array: only then is it taken as a whole,
// for exporting others asks the script.
func numbers(o *goja.Object) bool {
	t := o.ExportType()
	return t != nil && t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Interface
}

// bufferType is that of an ArrayBuffer.
var bufferType = reflect.TypeFor[goja.ArrayBuffer]()

// elements returns the elements of an array, one by one.
func (v *vm) elements(what string, o *goja.Object, most int) []goja.Value {
	if o.ClassName() != "Array" {
		v.throw(faultf(hook.BadValue, "%s is %s: it is a number, an array or a typed array", what, kindOf(o)))
	}
	n := v.length(o)
	v.atMost(what, n, most)
	out := make([]goja.Value, int(n))
	for i := range out {
		v.step()
		out[i] = o.Get(index(i))
	}
	return out
}

// ids takes a number or a list of them: token ids, experts.
func (v *vm) ids(what string, value goja.Value) []int32 {
	o, ok := value.(*goja.Object)
	if !ok {
		return []int32{v.id(what, v.number(what, value))}
	}
	if numbers(o) {
		switch list := o.Export().(type) {
		case []int32:
			return append([]int32(nil), list...)
		case []float32:
			return widen(v, what, list)
		case []float64:
			return widen(v, what, list)
		case []uint8:
			return widen(v, what, list)
		case []uint16:
			return widen(v, what, list)
		case []uint32:
			return widen(v, what, list)
		}
	}
	list := v.elements(what, o, hook.MaxIDs)
	out := make([]int32, len(list))
	for i, x := range list {
		out[i] = v.id(what, v.number(what, x))
	}
	return out
}

func widen[T float32 | float64 | uint8 | uint16 | uint32](v *vm, what string, list []T) []int32 {
	out := make([]int32, len(list))
	for i, x := range list {
		out[i] = v.id(what, float64(x))
	}
	return out
}

func (v *vm) id(what string, x float64) int32 {
	if !whole(x) {
		v.throw(faultf(hook.BadID, "%s: %v is no id", what, x))
	}
	return int32(x)
}

// layers takes a number or a list of them.
func (v *vm) layers(value goja.Value) []int {
	var out []int
	for _, id := range v.ids("layer", value) {
		out = append(out, int(id))
	}
	return out
}

// floats takes a list of numbers.
func (v *vm) floats(what string, value goja.Value) []float32 {
	o, ok := value.(*goja.Object)
	if !ok {
		v.throw(faultf(hook.BadValue, "%s is %s: it is a Float32Array or an array of numbers", what, kindOf(value)))
	}
	if numbers(o) {
		switch list := o.Export().(type) {
		case []float32:
			return append([]float32(nil), list...)
		case []float64:
			out := make([]float32, len(list))
			for i, x := range list {
				out[i] = float32(x)
			}
			return out
		}
	}
	list := v.elements(what, o, maxArray)
	out := make([]float32, len(list))
	for i, x := range list {
		out[i] = float32(v.number(what, x))
	}
	return out
}

// typed returns a copy of a list as a typed array.
func typed[T int32 | float32 | uint16 | uint32](v *vm, list []T) goja.Value {
	var data []byte
	var class goja.Value
	switch list := any(list).(type) {
	case []int32:
		class, data = v.natives.Int32Array, make([]byte, 0, 4*len(list))
		for _, x := range list {
			data = binary.NativeEndian.AppendUint32(data, uint32(x))
		}
	case []float32:
		class, data = v.natives.Float32Array, make([]byte, 0, 4*len(list))
		for _, x := range list {
			data = binary.NativeEndian.AppendUint32(data, math.Float32bits(x))
		}
	case []uint16:
		class, data = v.natives.Uint16Array, make([]byte, 0, 2*len(list))
		for _, x := range list {
			data = binary.NativeEndian.AppendUint16(data, x)
		}
	case []uint32:
		class, data = v.natives.Uint32Array, make([]byte, 0, 4*len(list))
		for _, x := range list {
			data = binary.NativeEndian.AppendUint32(data, x)
		}
	}
	out, err := v.rt.New(class, v.rt.ToValue(v.rt.NewArrayBuffer(data)))
	if err != nil {
		panic(err)
	}
	return out
}

// plain makes a value of JavaScript of plain data: maps, lists, texts, numbers.
func (v *vm) plain(data any) goja.Value {
	switch x := data.(type) {
	case map[string]any:
		o := v.rt.NewObject()
		for _, name := range slices.Sorted(maps.Keys(x)) { // the same order at every run
			_ = o.DefineDataProperty(name, v.plain(x[name]), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
		}
		return o
	case []any:
		list := make([]any, len(x))
		for i, value := range x {
			list[i] = v.plain(value)
		}
		return v.rt.NewArray(list...)
	case nil:
		return goja.Null()
	}
	return v.rt.ToValue(data)
}

// json is the JSON form of a value of JavaScript.
func (v *vm) json(value goja.Value) string {
	out := call(v.natives.stringify, goja.Undefined(), value)
	if goja.IsUndefined(out) {
		return "null"
	}
	return out.String()
}

// parsed is the value of JavaScript that a JSON text stands for.
func (v *vm) parsed(text string) goja.Value {
	return call(v.natives.parse, goja.Undefined(), v.rt.ToValue(text))
}
