package chat

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth of nested lists and maps, read, printed or compared. The deepest
// tool schemas seen have about 20 levels.
const maxDepth = 256

// DecodeJSON reads one JSON value and nothing after it. Keys keep their order
// (a repeated key its first place and last value) and integers all their
// digits; other numbers become float64, too large ones infinite, as in Python.
// Every string is marked as input data. Invalid UTF-8, a lone surrogate, more
// than 256 levels or an integer over 4300 digits are errors.
func DecodeJSON(data []byte) (Value, error) { return decodeJSON(string(data)) }

func decodeJSON(text string) (Value, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("JSON: not valid UTF-8")
	}
	r := jsonReader{text: text}
	v, err := r.value(0)
	if err == nil {
		r.space()
		if r.at < len(text) {
			err = r.wrong("%s after the value", r.here())
		}
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// errIncomplete says that the text ended inside a value: with more text it may
// become one.
var errIncomplete = errors.New("JSON: the text ends inside a value")

// jsonReader reads values from the start of a text.
type jsonReader struct {
	text string
	at   int
}

func (r *jsonReader) wrong(format string, args ...any) error {
	return fmt.Errorf("JSON: at byte %d: %s", r.at, fmt.Sprintf(format, args...))
}

// here names the next character.
func (r *jsonReader) here() string {
	c, _ := utf8.DecodeRuneInString(r.text[r.at:])
	return "unexpected " + strconv.QuoteRune(c)
}

func (r *jsonReader) space() {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
}

// next skips white space and gives the next byte.
func (r *jsonReader) next() (byte, error) {
	r.space()
	if r.at == len(r.text) {
		return 0, errIncomplete
	}
	return r.text[r.at], nil
}

func (r *jsonReader) value(depth int) (Value, error) {
	c, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, r.wrong("more than %d levels", maxDepth)
	}
	switch {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		text, err := r.quoted()
		if err != nil {
			return nil, err
		}
		return NewString(text), nil
	case c == '-' || '0' <= c && c <= '9':
		return r.number()
	case c == 't':
		return Bool(true), r.word("true")
	case c == 'f':
		return Bool(false), r.word("false")
	case c == 'n':
		return Null{}, r.word("null")
	}
	return nil, r.wrong("%s where a value should begin", r.here())
}

func (r *jsonReader) word(word string) error {
	rest := r.text[r.at:]
	switch {
	case strings.HasPrefix(rest, word):
		r.at += len(word)
		return nil
	case strings.HasPrefix(word, rest):
		return errIncomplete
	}
	return r.wrong("%s where a value should begin", r.here())
}

func (r *jsonReader) array(depth int) (Value, error) {
	list := &List{data: true}
	r.at++
	for c, err := r.next(); ; c, err = r.next() {
		if err != nil {
			return nil, err
		}
		if c == ']' && len(list.items) == 0 {
			break
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list.items = append(list.items, v)
		if c, err = r.next(); err != nil {
			return nil, err
		}
		if c == ']' {
			break
		}
		if c != ',' {
			return nil, r.wrong("%s in an array", r.here())
		}
		r.at++
	}
	r.at++
	return list, nil
}

func (r *jsonReader) object(depth int) (Value, error) {
	m := NewMap()
	r.at++
	for c, err := r.next(); ; c, err = r.next() {
		if err != nil {
			return nil, err
		}
		if c == '}' && len(m.entries) == 0 {
			break
		}
		if c != '"' {
			return nil, r.wrong("%s where a key should begin", r.here())
		}
		key, err := r.quoted()
		if err != nil {
			return nil, err
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
		m.Set(key, v)
		if c, err = r.next(); err != nil {
			return nil, err
		}
		if c == '}' {
			break
		}
		if c != ',' {
			return nil, r.wrong("%s in an object", r.here())
		}
		r.at++
	}
	r.at++
	return m, nil
}

// number reads a number. One that reaches the end of the text is taken as
// complete: a caller who expects more text must look.
func (r *jsonReader) number() (Value, error) {
	start := r.at
	if r.text[r.at] == '-' {
		r.at++
	}
	if r.at < len(r.text) && r.text[r.at] == '0' {
		r.at++
	} else if err := r.digits(); err != nil {
		return nil, err
	}
	whole := true
	if r.at < len(r.text) && r.text[r.at] == '.' {
		whole = false
		r.at++
		if err := r.digits(); err != nil {
			return nil, err
		}
	}
	if r.at < len(r.text) && r.text[r.at]|0x20 == 'e' {
		whole = false
		r.at++
		if r.at < len(r.text) && (r.text[r.at] == '+' || r.text[r.at] == '-') {
			r.at++
		}
		if err := r.digits(); err != nil {
			return nil, err
		}
	}
	literal := r.text[start:r.at]
	if whole {
		n, ok := parseInt(literal)
		if !ok {
			return nil, r.wrong("an integer of more than %d digits", maxDigits)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, r.wrong("%q is not a number", literal)
	}
	return Float(f), nil
}

func (r *jsonReader) digits() error {
	start := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	switch {
	case r.at > start:
		return nil
	case r.at == len(r.text):
		return errIncomplete
	}
	return r.wrong("%s in a number", r.here())
}

// quoted reads a string from its opening quote to its closing quote.
func (r *jsonReader) quoted() (string, error) {
	r.at++
	start := r.at
	for r.at < len(r.text) { // without an escape the text can be shared
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[start : r.at-1], nil
		case c == '\\':
			return r.escaped(r.text[start:r.at])
		case c < 0x20:
			return "", r.wrong("a control character in a string")
		}
		r.at++
	}
	return "", errIncomplete
}

// escaped reads on from the first backslash of a string.
func (r *jsonReader) escaped(head string) (string, error) {
	buf := append(make([]byte, 0, len(head)+32), head...)
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return string(buf), nil
		case c < 0x20:
			return "", r.wrong("a control character in a string")
		case c != '\\':
			buf = append(buf, c)
			r.at++
		default:
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, char)
		}
	}
	return "", errIncomplete
}

// escape reads one escape, a surrogate pair as one.
func (r *jsonReader) escape() (rune, error) {
	r.at++
	if r.at == len(r.text) {
		return 0, errIncomplete
	}
	c := r.text[r.at]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		r.at++
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, r.wrong("%s after a backslash", r.here())
	}
	r.at++
	char, err := r.hex()
	if err != nil || !utf16.IsSurrogate(char) {
		return char, err
	}
	if rest := r.text[r.at:]; !strings.HasPrefix(rest, `\u`) {
		if strings.HasPrefix(`\u`, rest) {
			return 0, errIncomplete
		}
		return 0, r.wrong("a lone surrogate")
	}
	r.at += 2
	low, err := r.hex()
	if err != nil {
		return 0, err
	}
	if char = utf16.DecodeRune(char, low); char == utf8.RuneError {
		return 0, r.wrong("a lone surrogate")
	}
	return char, nil
}

func (r *jsonReader) hex() (rune, error) {
	end := min(r.at+4, len(r.text))
	for i := r.at; i < end; i++ {
		if !isHex(r.text[i]) {
			return 0, r.wrong("four hexadecimal digits must follow \\u")
		}
	}
	if end < r.at+4 {
		return 0, errIncomplete
	}
	n, err := strconv.ParseUint(r.text[r.at:end], 16, 32)
	if err != nil {
		return 0, r.wrong("four hexadecimal digits must follow \\u")
	}
	r.at = end
	return rune(n), nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}
