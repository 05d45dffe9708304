package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// jsonReader pulls values out of JSON text in one pass. A published
// tokenizer.json holds 150,000 vocabulary entries and as many merges; reading
// those two without reflection takes a tenth of encoding/json's time and
// leaves no garbage, which is what start-up waits for. All other parts of the
// file are small and go through encoding/json.
type jsonReader struct {
	data []byte
	pos  int
	text []byte // the last string that had escapes
}

// fail makes an error that names the offset in the part being read.
func (r *jsonReader) fail(format string, args ...any) error {
	return fmt.Errorf("offset %d: "+format, append([]any{r.pos}, args...)...)
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *jsonReader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// take consumes c, which must come next.
func (r *jsonReader) take(c byte) error {
	if got := r.peek(); got != c {
		return r.fail("want %q, found %s", c, describe(got))
	}
	r.pos++
	return nil
}

func describe(c byte) string {
	if c == 0 {
		return "the end of the data"
	}
	return strconv.QuoteRune(rune(c))
}

// end reports what stands behind the value, if anything.
func (r *jsonReader) end() error {
	if c := r.peek(); c != 0 || r.pos < len(r.data) {
		return r.fail("want the end, found %s", describe(c))
	}
	return nil
}

// object reads an object. field is called after each key and must consume the
// value; key is valid until the next string is read.
func (r *jsonReader) object(field func(key []byte) error) error {
	return r.list('{', '}', func() error {
		key, err := r.string()
		if err == nil {
			err = r.take(':')
		}
		if err == nil {
			err = field(key)
		}
		return err
	})
}

// array reads an array; element must consume each of its values.
func (r *jsonReader) array(element func() error) error {
	return r.list('[', ']', element)
}

func (r *jsonReader) list(first, last byte, item func() error) error {
	if err := r.take(first); err != nil {
		return err
	}
	if r.peek() == last {
		r.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch c := r.peek(); c {
		case ',':
			r.pos++
		case last:
			r.pos++
			return nil
		default:
			return r.fail("want ',' or %q, found %s", last, describe(c))
		}
	}
}

// string reads a string. The result is valid until the next one is read.
func (r *jsonReader) string() ([]byte, error) {
	if err := r.take('"'); err != nil {
		return nil, err
	}
	for i := r.pos; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			text := r.data[r.pos:i]
			r.pos = i + 1
			return text, nil
		case c == '\\':
			return r.escaped(i)
		case c < ' ':
			r.pos = i
			return nil, r.fail("control character %#02x in a string", c)
		}
	}
	r.pos = len(r.data)
	return nil, r.fail("a string has no end")
}

// escaped reads the rest of a string whose first escape is at i.
func (r *jsonReader) escaped(i int) ([]byte, error) {
	end := i
	for end < len(r.data) && r.data[end] != '"' {
		if r.data[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(r.data) {
		r.pos = len(r.data)
		return nil, r.fail("a string has no end")
	}
	var text string
	quoted := r.data[r.pos-1 : end+1]
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, r.fail("%w", err)
	}
	// encoding/json reads a lone surrogate as U+FFFD: a token that is not
	// the one the file means.
	if bytes.Contains(quoted, []byte(`\u`)) && bytes.ContainsRune([]byte(text), '\uFFFD') {
		return nil, r.fail("escape of a lone surrogate or U+FFFD in %s", quoted)
	}
	r.pos = end + 1
	r.text = append(r.text[:0], text...)
	return r.text, nil
}

// integer reads a whole number of at most nine digits, without sign.
func (r *jsonReader) integer() (int32, error) {
	r.peek()
	start, n := r.pos, int32(0)
	for r.pos < len(r.data) && '0' <= r.data[r.pos] && r.data[r.pos] <= '9' && r.pos-start < 9 {
		n = 10*n + int32(r.data[r.pos]-'0')
		r.pos++
	}
	digits := r.data[start:r.pos]
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return 0, r.fail("want a whole number without sign, found %s", describe(r.peek()))
	}
	return n, nil
}

// raw returns the bytes of the next value, whatever it is. Brackets are only
// counted here: whoever reads the bytes checks them.
func (r *jsonReader) raw() ([]byte, error) {
	r.peek()
	start, depth := r.pos, 0
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case '"':
			r.skipString()
			if depth == 0 {
				return r.data[start:r.pos], nil
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return r.data[start:r.pos], nil
			}
			if depth--; depth == 0 {
				r.pos++
				return r.data[start:r.pos], nil
			}
		case ',':
			if depth == 0 {
				return r.data[start:r.pos], nil
			}
		}
		r.pos++
	}
	if depth > 0 {
		return nil, r.fail("an object or array has no end")
	}
	return r.data[start:], nil
}

// skipString moves behind the string that begins here, or to the end.
func (r *jsonReader) skipString() {
	for r.pos++; r.pos < len(r.data); r.pos++ {
		switch r.data[r.pos] {
		case '\\':
			r.pos++
		case '"':
			r.pos++
			return
		}
	}
	r.pos = len(r.data)
}

// fieldsOf splits the object in data into its values, without reading them.
func fieldsOf(data []byte) (map[string][]byte, error) {
	r := jsonReader{data: data}
	fields := map[string][]byte{}
	err := r.object(func(key []byte) error {
		name := string(key)
		value, err := r.raw()
		if err != nil {
			return err
		}
		if _, twice := fields[name]; twice {
			return r.fail("key %q stands here twice", name)
		}
		fields[name] = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fields, r.end()
}

// unmarshal decodes one small part of the file; an absent part reads as null.
// Keys that target does not name are errors: they may change what the
// tokenizer does.
func unmarshal(raw []byte, target any) error {
	if raw == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(target); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(raw[d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("text behind the value: %.20q", rest)
	}
	return nil
}
