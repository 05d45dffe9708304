package chat

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// EncodeJSON writes a value as Python's json.dumps(v, ensure_ascii=False)
// does, which is what tojson gives to a model.
func EncodeJSON(v Value) (string, error) {
	var b builder
	if err := (jsonStyle{item: ", ", key: ": "}).write(&b, v, 0); err != nil {
		return "", err
	}
	return b.buf.String(), nil
}

// writeText is Python's str(): what {{ v }} prints.
func writeText(b *builder, v Value) error {
	switch v := v.(type) {
	case nil, *undefined:
		return nil
	case String:
		b.add(v)
		return nil
	}
	return writeRepr(b, v, 0)
}

// writeRepr is Python's repr().
func writeRepr(b *builder, v Value, depth int) error {
	if depth > maxDepth {
		return fail("a value of more than %d levels cannot be printed", maxDepth)
	}
	switch v := v.(type) {
	case nil, *undefined:
		b.write("Undefined", false)
	case Null:
		b.write("None", false)
	case Bool:
		b.write(map[Bool]string{true: "True", false: "False"}[v], false)
	case Int:
		b.write(v.String(), false)
	case Float:
		b.write(formatFloat(float64(v)), false)
	case String:
		writeQuoted(b, v)
	case *List:
		return writeList(b, v, depth)
	case *Map:
		return writeMap(b, v, depth)
	case *namespace:
		b.write("<Namespace ", false)
		if err := writeMap(b, v.vars, depth); err != nil {
			return err
		}
		b.write(">", false)
	default:
		return fail("a %s cannot be printed", v.typeName())
	}
	return b.err
}

// enter marks all that follows as data if the container is; the returned
// function ends it.
func (b *builder) enter(data bool) (leave func()) {
	if !data {
		return func() {}
	}
	b.force++
	return func() { b.force-- }
}

func writeList(b *builder, l *List, depth int) error {
	defer b.enter(l.data)()
	left, right := "[", "]"
	if l.tuple {
		left, right = "(", ")"
		if len(l.items) == 1 {
			right = ",)"
		}
	}
	b.write(left, false)
	for i, item := range l.items {
		if i > 0 {
			b.write(", ", false)
		}
		if err := writeRepr(b, item, depth+1); err != nil {
			return err
		}
	}
	b.write(right, false)
	return b.err
}

func writeMap(b *builder, m *Map, depth int) error {
	defer b.enter(m.data)()
	b.write("{", false)
	for i, e := range m.entries {
		if i > 0 {
			b.write(", ", false)
		}
		if err := writeRepr(b, e.key, depth+1); err != nil {
			return err
		}
		b.write(": ", false)
		if err := writeRepr(b, e.value, depth+1); err != nil {
			return err
		}
	}
	b.write("}", false)
	return b.err
}

// writeQuoted is Python's repr of a str: single quotes unless only those occur
// in it, and escapes for what is not printable.
func writeQuoted(b *builder, s String) {
	quote := byte('\'')
	if strings.Contains(s.text, "'") && !strings.Contains(s.text, `"`) {
		quote = '"'
	}
	if s.markup {
		b.write("Markup(", false)
		defer b.write(")", false)
	}
	b.write(string(quote), s.whole)
	s.runs(func(text string, plain bool) {
		from := 0
		for i, c := range text {
			if c != '\\' && c != rune(quote) && c != utf8.RuneError && (c == ' ' || unicode.IsPrint(c)) {
				continue
			}
			n := utf8.RuneLen(c)
			if c == utf8.RuneError {
				if _, n = utf8.DecodeRuneInString(text[i:]); n == 3 {
					continue // U+FFFD itself is printable
				}
			}
			b.write(text[from:i], plain)
			b.write(pythonEscape(c), plain)
			from = i + n
		}
		b.write(text[from:], plain)
	})
	b.write(string(quote), s.whole)
}

func pythonEscape(c rune) string {
	switch {
	case c == '\\' || c == '\'' || c == '"':
		return `\` + string(c)
	case c == '\n':
		return `\n`
	case c == '\r':
		return `\r`
	case c == '\t':
		return `\t`
	case c < 0x100:
		return fmt.Sprintf(`\x%02x`, c)
	case c < 0x10000:
		return fmt.Sprintf(`\u%04x`, c)
	}
	return fmt.Sprintf(`\U%08x`, c)
}

// jsonStyle is how tojson was asked to write.
type jsonStyle struct {
	item, key string // between items, between key and value
	pretty    bool
	indent    string
	ascii     bool
	sorted    bool
}

func (j jsonStyle) write(b *builder, v Value, depth int) error {
	if depth > maxDepth {
		return fail("a value of more than %d levels cannot be written as JSON", maxDepth)
	}
	switch v := v.(type) {
	case Null:
		b.write("null", false)
	case Bool:
		b.write(map[Bool]string{true: "true", false: "false"}[v], false)
	case Int:
		b.write(v.String(), false)
	case Float:
		b.write(jsonFloat(float64(v)), false)
	case String:
		j.quote(b, v)
	case *List:
		return j.list(b, v, depth)
	case *Map:
		return j.object(b, v, depth)
	case nil, *undefined:
		return fail("Object of type Undefined is not JSON serializable%s", reason(v))
	default:
		return fail("Object of type %s is not JSON serializable", v.typeName())
	}
	return b.err
}

// reason adds why a value is undefined.
func reason(v Value) string {
	if u, ok := v.(*undefined); ok {
		return ": " + u.why
	}
	return ""
}

// line begins a new line at a depth, when indenting.
func (j jsonStyle) line(b *builder, depth int) {
	if j.pretty {
		b.write("\n"+strings.Repeat(j.indent, depth), false)
	}
}

func (j jsonStyle) list(b *builder, l *List, depth int) error {
	defer b.enter(l.data)()
	if len(l.items) == 0 {
		b.write("[]", false)
		return b.err
	}
	b.write("[", false)
	for i, item := range l.items {
		if i > 0 {
			b.write(j.item, false)
		}
		j.line(b, depth+1)
		if err := j.write(b, item, depth+1); err != nil {
			return err
		}
	}
	j.line(b, depth)
	b.write("]", false)
	return b.err
}

func (j jsonStyle) object(b *builder, m *Map, depth int) error {
	defer b.enter(m.data)()
	if len(m.entries) == 0 {
		b.write("{}", false)
		return b.err
	}
	entries := m.entries
	if j.sorted {
		entries = sortedByKey(entries)
	}
	b.write("{", false)
	for i, e := range entries {
		if i > 0 {
			b.write(j.item, false)
		}
		j.line(b, depth+1)
		key, ok := e.key.(String)
		if ok {
			j.quote(b, key)
		} else { // numbers, booleans and null become strings
			b.write(`"`, false)
			if err := j.write(b, e.key, depth+1); err != nil {
				return err
			}
			b.write(`"`, false)
		}
		b.write(j.key, false)
		if err := j.write(b, e.value, depth+1); err != nil {
			return err
		}
	}
	j.line(b, depth)
	b.write("}", false)
	return b.err
}

// quote escapes `"`, `\` and what is below 0x20; nothing else, unless ASCII
// was asked for.
func (j jsonStyle) quote(b *builder, s String) {
	b.write(`"`, s.whole)
	s.runs(func(text string, plain bool) {
		from := 0
		for i := 0; i < len(text); {
			c, n := rune(text[i]), 1
			if j.ascii && c >= utf8.RuneSelf {
				c, n = utf8.DecodeRuneInString(text[i:])
			}
			if c >= 0x20 && c != '"' && c != '\\' && (!j.ascii || c < 0x7f) {
				i++
				continue
			}
			b.write(text[from:i], plain)
			b.write(jsonEscape(c), plain)
			i += n
			from = i
		}
		b.write(text[from:], plain)
	})
	b.write(`"`, s.whole)
}

func jsonEscape(c rune) string {
	if i := strings.IndexRune("\"\\\n\r\t\b\f", c); i >= 0 {
		return `\` + string(`"\nrtbf`[i])
	}
	if c < 0x10000 {
		return fmt.Sprintf(`\u%04x`, c)
	}
	high, low := utf16.EncodeRune(c)
	return fmt.Sprintf(`\u%04x\u%04x`, high, low)
}
