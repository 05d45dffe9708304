package safetensors

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// scanner reads the JSON of a header or an index in one pass, without building
// a tree: headers and index of the real model, 45 MB in all, take a quarter of
// a second on two cores (BenchmarkOpenReal).
type scanner struct {
	data []byte
	at   int

	lists []int64  // what is left of a block that shapes are read into
	pair  [2]int64 // the last data_offsets
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("at byte %d of the JSON: %s", s.at, fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.at < len(s.data) && (s.data[s.at] == ' ' || s.data[s.at] == '\n' || s.data[s.at] == '\t' || s.data[s.at] == '\r') {
		s.at++
	}
}

// next returns the next significant byte without taking it, 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.at == len(s.data) {
		return 0
	}
	return s.data[s.at]
}

func (s *scanner) take(c byte) error {
	if s.next() != c || s.at == len(s.data) {
		return s.errorf("expected %q", c)
	}
	s.at++
	return nil
}

// text reads a string. Plain ones are views of the data.
func (s *scanner) text() ([]byte, error) {
	quoted, escapes, err := s.quoted()
	if err != nil {
		return nil, err
	}
	if !escapes {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string // no writer of tensor names makes escapes
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, s.errorf("a string is broken: %v", err)
	}
	return []byte(text), nil
}

// quoted passes over a string and returns it with its quotes.
func (s *scanner) quoted() (text []byte, escapes bool, err error) {
	if err := s.take('"'); err != nil {
		return nil, false, err
	}
	for start := s.at - 1; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			text := s.data[start:s.at]
			if !utf8.Valid(text) { // which json would mend, and so make names alike
				return nil, escapes, s.errorf("a string is not UTF-8")
			}
			return text, escapes, nil
		case c == '\\':
			escapes = true
			s.at++
		case c < 0x20:
			return nil, escapes, s.errorf("a control character in a string")
		}
	}
	s.at = len(s.data)
	return nil, escapes, s.errorf("a string does not end")
}

// number reads a non-negative integer.
func (s *scanner) number() (int64, error) {
	if c := s.next(); c < '0' || c > '9' {
		return 0, s.errorf("expected a non-negative integer")
	}
	start := s.at
	var n int64
	for ; s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9'; s.at++ {
		if s.at-start == 18 {
			return 0, s.errorf("a number has more than 18 digits")
		}
		n = n*10 + int64(s.data[s.at]-'0')
	}
	if s.data[start] == '0' && s.at > start+1 {
		return 0, s.errorf("a number starts with 0")
	}
	return n, nil
}

// object calls field for every key; field must read the value.
func (s *scanner) object(field func(key []byte) error) error {
	if err := s.take('{'); err != nil {
		return err
	}
	if s.next() == '}' {
		s.at++
		return nil
	}
	for {
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
		if s.next() != ',' {
			return s.take('}')
		}
		s.at++
	}
}

// numbers reads an array of at most limit non-negative integers into dst.
func (s *scanner) numbers(dst []int64, limit int) ([]int64, error) {
	if err := s.take('['); err != nil {
		return nil, err
	}
	if s.next() == ']' {
		s.at++
		return dst, nil
	}
	for {
		n, err := s.number()
		if err != nil {
			return nil, err
		}
		if len(dst) == limit {
			return nil, s.errorf("more than %d numbers in a list", limit)
		}
		dst = append(dst, n)
		if s.next() != ',' {
			return dst, s.take(']')
		}
		s.at++
	}
}

// skip passes over one value of any kind, nested at most depth deep.
func (s *scanner) skip(depth int) error {
	if depth == 0 {
		return s.errorf("values are nested too deeply")
	}
	switch c := s.next(); {
	case c == '"':
		text, escapes, err := s.quoted()
		if err == nil && escapes && !json.Valid(text) {
			err = s.errorf("a string is broken")
		}
		return err
	case c == '{':
		return s.object(func([]byte) error { return s.skip(depth - 1) })
	case c == '[':
		s.at++
		if s.next() == ']' {
			s.at++
			return nil
		}
		for {
			if err := s.skip(depth - 1); err != nil {
				return err
			}
			if s.next() != ',' {
				return s.take(']')
			}
			s.at++
		}
	default: // a number, true, false or null
		start := s.at
		for s.at < len(s.data) && (s.data[s.at] >= '0' && s.data[s.at] <= '9' || s.data[s.at] >= 'a' && s.data[s.at] <= 'z' ||
			s.data[s.at] == '-' || s.data[s.at] == '+' || s.data[s.at] == '.' || s.data[s.at] == 'E') {
			s.at++
		}
		if !json.Valid(s.data[start:s.at]) {
			s.at = start
			return s.errorf("expected a value")
		}
		return nil
	}
}

// end makes sure that nothing but space follows.
func (s *scanner) end() error {
	if s.next(); s.at != len(s.data) {
		return s.errorf("unexpected text after the end")
	}
	return nil
}
