package chat

import (
	"iter"
	"strconv"
)

// Value is what a template computes with: nil (absent), [Null], [Bool], [Int],
// [Float], [String], *[List], *[Map], or a value only templates can make
// (undefined, functions, namespaces, loops). Values are not changed once they
// were handed to Render, so they may be shared.
type Value interface {
	// typeName is Python's name of the type, as error messages use it.
	typeName() string
}

// Null is JSON's null and Python's None.
type Null struct{}

// Bool is true or false; in arithmetic it counts as 1 or 0, as in Python.
type Bool bool

func (Null) typeName() string   { return "NoneType" }
func (Bool) typeName() string   { return "bool" }
func (Int) typeName() string    { return "int" }
func (Float) typeName() string  { return "float" }
func (String) typeName() string { return "str" }

// List is an ordered sequence: a JSON array, or a list or tuple of a template.
type List struct {
	items []Value
	tuple bool
	data  bool // it came from input: its whole printed form is data
}

// NewList makes a list of input data.
func NewList(items ...Value) *List { return &List{items: items, data: true} }

func newTuple(items ...Value) *List { return &List{items: items, tuple: true} }

func (l *List) typeName() string {
	if l.tuple {
		return "tuple"
	}
	return "list"
}

// Len is the number of items.
func (l *List) Len() int { return len(l.items) }

// At is the item at index i, from 0 to Len()-1.
func (l *List) At(i int) Value { return l.items[i] }

// All ranges over index and item.
func (l *List) All() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		for i, v := range l.items {
			if !yield(i, v) {
				return
			}
		}
	}
}

// Map is a JSON object or Python dict: keys keep the order in which they were
// first set.
type Map struct {
	entries []mapEntry
	index   map[mapKey]int // only above indexedFrom entries
	data    bool           // it came from input: its whole printed form is data
}

type mapEntry struct {
	id    mapKey
	key   Value
	value Value
}

// mapKey is a key as Python hashes it: 1, 1.0 and True are the same key, "1"
// is another.
type mapKey struct {
	number bool
	text   string
}

// indexedFrom is the size from which a hash pays; messages have 2 to 4 keys.
const indexedFrom = 12

// NewMap makes an empty map of input data.
func NewMap() *Map { return &Map{data: true} }

func (m *Map) typeName() string { return "dict" }

// Len is the number of keys.
func (m *Map) Len() int { return len(m.entries) }

// Get is the value of a string key.
func (m *Map) Get(key string) (Value, bool) { return m.lookup(mapKey{text: key}) }

// Set gives key a value: a new key goes last, an old one keeps its place. Do
// not change a map that has been handed to Render.
func (m *Map) Set(key string, v Value) { m.put(mapKey{text: key}, NewString(key), v) }

// All ranges over the string keys and their values, in order.
func (m *Map) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, e := range m.entries {
			if !e.id.number && !yield(e.id.text, e.value) {
				return
			}
		}
	}
}

func (m *Map) find(id mapKey) int {
	if m.index != nil {
		if i, ok := m.index[id]; ok {
			return i
		}
		return -1
	}
	for i := range m.entries {
		if m.entries[i].id == id {
			return i
		}
	}
	return -1
}

func (m *Map) lookup(id mapKey) (Value, bool) {
	if i := m.find(id); i >= 0 {
		return m.entries[i].value, true
	}
	return nil, false
}

func (m *Map) put(id mapKey, key, v Value) {
	if i := m.find(id); i >= 0 {
		m.entries[i].value = v
		return
	}
	m.entries = append(m.entries, mapEntry{id, key, v})
	switch {
	case m.index != nil:
		m.index[id] = len(m.entries) - 1
	case len(m.entries) == indexedFrom:
		m.index = make(map[mapKey]int, 2*indexedFrom)
		for i, e := range m.entries {
			m.index[e.id] = i
		}
	}
}

// clone copies the map, not its values.
func (m *Map) clone() *Map {
	c := &Map{data: m.data}
	for _, e := range m.entries {
		c.put(e.id, e.key, e.value)
	}
	return c
}

// keyOf is the key that v stands for; ok is false for what Python cannot hash.
func keyOf(v Value) (id mapKey, ok bool) {
	switch v := v.(type) {
	case String:
		return mapKey{text: v.text}, true
	case Null:
		return mapKey{number: true, text: "None"}, true
	case Bool:
		return mapKey{number: true, text: toInt(v).String()}, true
	case Int:
		return mapKey{number: true, text: v.String()}, true
	case Float:
		if i, ok := intFromFloat(float64(v)); ok {
			return mapKey{number: true, text: i.String()}, true
		}
		return mapKey{number: true, text: strconv.FormatFloat(float64(v), 'g', -1, 64)}, true
	}
	return mapKey{}, false
}

// undefined is the value of a name, key or index that is not there. why is the
// message of the error if the template needs the value.
type undefined struct{ why string }

func (*undefined) typeName() string { return "Undefined" }

func isUndefined(v Value) bool {
	if v == nil {
		return true
	}
	_, ok := v.(*undefined)
	return ok
}

// namespace is what namespace() makes: the one thing a template can change.
type namespace struct{ vars *Map }

func (*namespace) typeName() string { return "Namespace" }

// function is a macro, a bound method or a global function.
type function struct {
	name string
	call func(ev *evaluator, args arguments) (Value, error)
}

func (*function) typeName() string { return "function" }

// truth is Python's bool().
func truth(v Value) bool {
	switch v := v.(type) {
	case nil, Null, *undefined:
		return false
	case Bool:
		return bool(v)
	case Int:
		return v.sign() != 0
	case Float:
		return v != 0
	case String:
		return v.text != ""
	case *List:
		return len(v.items) > 0
	case *Map:
		return len(v.entries) > 0
	}
	return true
}

// items lists what iterating over v gives; ok is false if it cannot be.
func items(v Value) (list []Value, ok bool) {
	switch v := v.(type) {
	case nil, *undefined:
		return nil, true
	case *List:
		return v.items, true
	case *Map:
		list = make([]Value, len(v.entries))
		for i, e := range v.entries {
			list[i] = e.key
		}
		return list, true
	case String:
		return v.characters(), true
	}
	return nil, false
}

// objectName is how Jinja calls an object in "X has no attribute".
func objectName(v Value) string {
	switch v.(type) {
	case Null:
		return "None"
	case *namespace:
		return "Namespace object"
	}
	return v.typeName() + " object"
}
