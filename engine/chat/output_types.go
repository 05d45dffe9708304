package chat

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// schemas are the properties of each tool by its name, with or without the
// "function" around it; nil when there are no tools.
func schemas(tools Value) map[string]*Map {
	list, _ := tools.(*List)
	if list == nil || list.Len() == 0 {
		return nil
	}
	byName := map[string]*Map{}
	for _, item := range list.items {
		tool, _ := item.(*Map)
		if tool == nil {
			continue
		}
		if f, _ := tool.Get("function"); is[*Map](f) {
			tool = f.(*Map)
		}
		name, _ := tool.Get("name")
		s, ok := name.(String)
		if !ok {
			continue
		}
		byName[s.text] = nil
		parameters, _ := tool.Get("parameters")
		if m, ok := parameters.(*Map); ok {
			properties, _ := m.Get("properties")
			byName[s.text], _ = properties.(*Map)
		}
	}
	return byName
}

// schemaTypes collects the types that a schema allows.
func schemaTypes(schema Value, types map[string]bool, depth int) {
	m, ok := schema.(*Map)
	if !ok || depth > 8 {
		return
	}
	switch t, _ := m.Get("type"); t := t.(type) {
	case String:
		types[t.text] = true
	case *List:
		for _, item := range t.items {
			if s, ok := item.(String); ok {
				types[s.text] = true
			}
		}
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		v, _ := m.Get(key)
		if l, ok := v.(*List); ok {
			for _, item := range l.items {
				schemaTypes(item, types, depth+1)
			}
		}
	}
}

var integerForm = regexp.MustCompile(`^[+-]?[0-9]+$`)

// typed reads a value as its schema says. What fits no type of it, and a value
// without a schema, is a string.
func typed(text string, schema Value) Value {
	types := map[string]bool{}
	schemaTypes(schema, types, 0)
	word := strings.TrimFunc(text, isSpace)
	if (word == "null" || word == "None") && len(types) > 0 && (types["null"] || !types["string"]) {
		return Null{}
	}
	if (types["integer"] || types["number"]) && integerForm.MatchString(word) {
		if n, ok := parseInt(word); ok {
			return n
		}
	}
	if types["number"] {
		if v, ok := typedNumber(word); ok {
			return v
		}
	}
	if types["boolean"] {
		switch strings.ToLower(word) {
		case "true":
			return Bool(true)
		case "false":
			return Bool(false)
		}
	}
	if types["object"] || types["array"] {
		for _, read := range []func(string) (Value, error){decodeJSON, readPython} {
			v, err := read(word)
			if err == nil && finite(v) && (types["object"] && is[*Map](v) || types["array"] && is[*List](v)) {
				return v
			}
		}
	}
	return NewString(text)
}

// typedNumber reads a decimal number; a whole one becomes an integer.
func typedNumber(word string) (Value, bool) {
	if strings.Trim(word, "+-.0123456789eE") != "" {
		return nil, false
	}
	f, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return nil, false
	}
	if n, ok := intFromFloat(f); ok && math.Abs(f) < 1e16 {
		return n, true
	}
	return Float(f), true
}

// finite says whether every number in v can be written as JSON.
func finite(v Value) bool {
	switch v := v.(type) {
	case Float:
		return !math.IsInf(float64(v), 0)
	case *List:
		for _, item := range v.items {
			if !finite(item) {
				return false
			}
		}
	case *Map:
		for _, e := range v.entries {
			if !finite(e.value) {
				return false
			}
		}
	}
	return true
}

// readPython reads a Python literal of lists, tuples, dicts, strings, numbers,
// True, False and None, as ast.literal_eval does.
func readPython(text string) (Value, error) {
	r := pythonReader{jsonReader{text: text}}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.space(); r.at < len(text) {
		return nil, r.wrong("%s after the value", r.here())
	}
	return v, nil
}

type pythonReader struct{ jsonReader }

func (r *pythonReader) value(depth int) (Value, error) {
	c, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, r.wrong("more than %d levels", maxDepth)
	}
	switch {
	case c == '{':
		return r.dict(depth)
	case c == '[':
		return r.list(depth, ']')
	case c == '(':
		return r.list(depth, ')')
	case c == '"' || c == '\'':
		return r.string(c)
	case c == '-' || '0' <= c && c <= '9':
		return r.number()
	case c == 'T':
		return Bool(true), r.word("True")
	case c == 'F':
		return Bool(false), r.word("False")
	case c == 'N':
		return Null{}, r.word("None")
	}
	return nil, r.wrong("%s where a value should begin", r.here())
}

func (r *pythonReader) string(quote byte) (Value, error) {
	start := r.at + 1
	for i := start; i < len(r.text); i++ {
		switch r.text[i] {
		case '\\':
			i++
		case '\n':
			return nil, r.wrong("a line break in a string")
		case quote:
			text, err := unescape(r.text[start:i])
			if err != nil || !utf8.ValidString(text) {
				return nil, r.wrong("a string that cannot be read")
			}
			r.at = i + 1
			return NewString(text), nil
		}
	}
	return nil, errIncomplete
}

// list reads a list or tuple. One value in parentheses is that value.
func (r *pythonReader) list(depth int, end byte) (Value, error) {
	l := NewList()
	r.at++
	for comma := true; ; {
		c, err := r.next()
		if err != nil {
			return nil, err
		}
		if c == end {
			r.at++
			if end == ')' && len(l.items) == 1 && !comma {
				return l.items[0], nil
			}
			return l, nil
		}
		if !comma {
			return nil, r.wrong("%s in a list", r.here())
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
		if comma, err = r.comma(); err != nil {
			return nil, err
		}
	}
}

// comma takes a comma, if one comes next.
func (r *pythonReader) comma() (bool, error) {
	c, err := r.next()
	if err != nil || c != ',' {
		return false, err
	}
	r.at++
	return true, nil
}

func (r *pythonReader) dict(depth int) (Value, error) {
	m := NewMap()
	r.at++
	for comma := true; ; {
		c, err := r.next()
		if err != nil {
			return nil, err
		}
		if c == '}' {
			r.at++
			return m, nil
		}
		if !comma {
			return nil, r.wrong("%s in a dict", r.here())
		}
		key, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		id, ok := keyOf(key)
		if !ok {
			return nil, r.wrong("a key that is no text or number")
		}
		if c, err = r.next(); err != nil {
			return nil, err
		}
		if c != ':' {
			return nil, r.wrong("%s after a key", r.here())
		}
		r.at++
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		m.put(id, key, v)
		if comma, err = r.comma(); err != nil {
			return nil, err
		}
	}
}
