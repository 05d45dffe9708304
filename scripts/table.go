package scripts

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/dop251/goja"
)

// kind is a type that scripts see. The table of kinds is what the machine's objects
// are made of and what roundhouse.d.ts is printed from, so that the two agree.
type kind struct {
	name    string
	doc     string
	extends *kind
	members []member

	// The properties, for handles.
	props []member
	slots map[string]int // of props, by name
}

func init() {
	for _, k := range kinds() {
		k.slots = map[string]int{}
		for _, m := range k.members {
			if m.of != nil {
				k.slots[m.name()] = len(k.props)
				k.props = append(k.props, m)
			}
		}
	}
}

// member is a method, a property or a handler of a kind.
type member struct {
	sig string // in TypeScript: "bias(ids: Ids, value: number): this"
	doc string
	// do is what a method does.
	do func(v *vm, c goja.FunctionCall) goja.Value
	// of is the value of a property, of what the object stands for.
	of func(v *vm, what any) any
	// get is of, for properties that are seldom read: it is made when it is.
	get func(v *vm, c goja.FunctionCall) goja.Value
	// theirs says that scripts have this member, and we read it.
	theirs bool
}

// name is the member's name: what its signature begins with.
func (m member) name() string {
	name := strings.TrimPrefix(m.sig, "readonly ")
	return name[:strings.IndexAny(name, "(?:<")]
}

// handle is what an object of a kind stands for, and its properties: each is made when
// it is read first. Scripts cannot forge one.
type handle struct {
	kind   *kind
	vm     *vm
	what   any
	values []goja.Value // of kind.props; nil for those that nobody has read
}

var handleType = reflect.TypeFor[*handle]()

// Get implements goja.DynamicObject.
func (h *handle) Get(name string) goja.Value {
	slot, ok := h.kind.slots[name]
	if !ok {
		return nil
	}
	if h.values == nil {
		h.values = make([]goja.Value, len(h.kind.props))
	}
	if h.values[slot] == nil {
		h.values[slot] = h.vm.value(h.kind.props[slot].of(h.vm, h.what))
	}
	return h.values[slot]
}

// Set implements goja.DynamicObject.
func (h *handle) Set(name string, value goja.Value) bool {
	slot, ok := h.kind.slots[name]
	if !ok || strings.HasPrefix(h.kind.props[slot].sig, "readonly ") {
		h.vm.throw(faultf(misuse, "%s of %s is not for scripts to set", name, h.kind.name))
	}
	h.Get(name)
	h.values[slot] = value
	return true
}

// Has implements goja.DynamicObject.
func (h *handle) Has(name string) bool { _, ok := h.kind.slots[name]; return ok }

// Delete implements goja.DynamicObject.
func (h *handle) Delete(name string) bool { return !h.Has(name) }

// Keys implements goja.DynamicObject.
func (h *handle) Keys() []string {
	names := make([]string, len(h.kind.props))
	for name, slot := range h.kind.slots {
		names[slot] = name
	}
	return names
}

// kinds is the whole table, in the order of roundhouse.d.ts.
func kinds() []*kind {
	return []*kind{
		scriptKind, paramKind, contextKind, hooksKind, snapshotKind, sequenceKind, sequenceLogitsKind, atKind, readsKind, logitsKind, candidatesKind, promptKind, tokenKind,
		routingKind, hiddenKind, routerKind, finishKind, steeringKind, layerKind, tokensKind, modelKind, requestKind,
	}
}

// prototype makes the methods of a kind, once for a machine.
func (v *vm) prototype(k *kind) *goja.Object {
	if p := v.protos[k.name]; p != nil {
		return p
	}
	p := v.rt.NewObject()
	for of := k; of != nil; of = of.extends {
		for _, m := range of.members {
			if m.get != nil {
				get := v.rt.ToValue(func(c goja.FunctionCall) goja.Value { return m.get(v, c) })
				_ = p.DefineAccessorProperty(m.name(), get, nil, goja.FLAG_FALSE, goja.FLAG_TRUE)
			}
			if m.do == nil {
				continue
			}
			fn := v.rt.ToValue(func(c goja.FunctionCall) goja.Value { return m.do(v, c) }).ToObject(v.rt)
			_ = fn.DefineDataProperty("name", v.rt.ToValue(m.name()), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
			_ = p.DefineDataProperty(m.name(), fn, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_TRUE)
		}
	}
	v.protos[k.name] = p
	return p
}

// object makes an object of a kind that stands for something.
func (v *vm) object(k *kind, what any) *goja.Object {
	o := v.rt.NewDynamicObject(&handle{kind: k, vm: v, what: what})
	_ = o.SetPrototype(v.prototype(k))
	return o
}

// value makes a value of JavaScript of what a property is.
func (v *vm) value(of any) goja.Value {
	switch x := of.(type) {
	case goja.Value:
		return x
	case []int32:
		return typed(v, x)
	case []float32:
		return typed(v, x)
	}
	return v.rt.ToValue(of)
}

// holds is the handle of an object; nil for none. Exporting others would ask the script.
func (v *vm) holds(value goja.Value) *handle {
	if o, ok := value.(*goja.Object); ok && o.ExportType() == handleType {
		h, _ := o.Export().(*handle)
		return h
	}
	return nil
}

// receiver is what the object that a method is called on stands for.
func receiver[T any](v *vm, c goja.FunctionCall) (what T) {
	if h := v.holds(c.This); h != nil {
		if what, ok := h.what.(T); ok {
			return what
		}
	}
	v.throw(faultf(misuse, "a method was taken off its object, or called on another"))
	return what
}

// Declarations is roundhouse.d.ts: the types of the module that scripts import.
func Declarations() string {
	var b strings.Builder
	b.WriteString("// Code generated by go generate ./scripts; DO NOT EDIT.\n\n")
	b.WriteString("// The types of the module \"roundhouse\", which scripts of Roundhouse import.\n\n")
	b.WriteString("declare module \"roundhouse\" {\n")
	b.WriteString("  /** Ids of tokens or experts: one, or a list. */\n  type Ids = number | ArrayLike<number>;\n\n")
	b.WriteString("  /** Declares a script: export it as default. */\n  export function script<P extends { [name: string]: Param }>(s: Script<P>): Script<P>;\n\n")
	b.WriteString("  type Values<P> = { [K in keyof P]: P[K] extends { type: \"boolean\" } ? boolean : P[K] extends { type: \"string\" } ? string : number };\n")
	declare(&b, kinds())
	b.WriteString("}\n\n// The types of the module \"roundhouse/test\", which their tests import beside it.\n\n")
	b.WriteString("declare module \"roundhouse/test\" {\n  import type { Ids, Param, Script, Values } from \"roundhouse\";\n\n")
	for _, f := range testFunctions() {
		fmt.Fprintf(&b, "%s  export function %s;\n\n", comment("  ", f.doc), f.sig)
	}
	b.WriteString("  /** Logits of tokens: of the first ones, or by id. Others cannot be drawn. */\n  type Scores = ArrayLike<number> | { [id: number]: number };\n\n")
	b.WriteString("  /** Experts by layer, best first, with their weights; alike where none are given. */\n")
	b.WriteString("  type Experts = { [layer: number]: Ids | { ids: Ids; weights: ArrayLike<number> } };\n")
	declare(&b, testKinds())
	b.WriteString("}\n")
	return b.String()
}

// declare prints kinds.
func declare(b *strings.Builder, kinds []*kind) {
	for _, k := range kinds {
		extends := ""
		if k.extends != nil {
			extends = " extends " + k.extends.name
		}
		name := k.name
		if k == scriptKind || k == contextKind || k == runKind {
			name += "<P = any>"
		}
		fmt.Fprintf(b, "\n%s  export interface %s%s {\n", comment("  ", k.doc), name, extends)
		for _, m := range k.members {
			fmt.Fprintf(b, "%s    %s;\n", comment("    ", m.doc), m.sig)
		}
		b.WriteString("  }\n")
	}
}

func comment(indent, text string) string {
	if text == "" {
		return ""
	}
	return indent + "/** " + text + " */\n"
}
