package chat

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Span is the byte range [Start, End) of a text.
type Span struct{ Start, End int }

// String is a text that knows which of its bytes are input data.
type String struct {
	text   string
	plain  []Span // the data bytes: sorted, non-empty, apart from one another
	whole  bool   // every byte is data; plain is nil
	markup bool   // Python's Markup: `+` escapes what it is joined with
}

// NewString makes a text of input data.
func NewString(text string) String { return String{text: text, whole: true} }

// trusted makes a text of the template's own.
func trusted(text string) String { return String{text: text} }

// Text is the text alone.
func (s String) Text() string { return s.text }

// with gives another text the provenance of s, for texts that are all data or
// all the template's, and reports whether s is such a text.
func (s String) with(text string) (String, bool) {
	return String{text: text, whole: s.whole, markup: s.markup}, s.plain == nil
}

// cut is the text from byte i to byte j.
func (s String) cut(i, j int) String {
	c := String{text: s.text[i:j], whole: s.whole, markup: s.markup}
	if s.plain == nil {
		return c
	}
	from := sort.Search(len(s.plain), func(k int) bool { return s.plain[k].End > i })
	for _, p := range s.plain[from:] {
		if p.Start >= j {
			break
		}
		c.plain = append(c.plain, Span{max(p.Start, i) - i, min(p.End, j) - i})
	}
	return c.normal()
}

// normal says whole for a text that one span covers.
func (s String) normal() String {
	if len(s.plain) == 1 && s.plain[0] == (Span{0, len(s.text)}) {
		s.plain, s.whole = nil, true
	}
	return s
}

// runs calls f for each stretch of equal provenance.
func (s String) runs(f func(text string, plain bool)) {
	if s.plain == nil {
		f(s.text, s.whole)
		return
	}
	at := 0
	for _, p := range s.plain {
		if p.Start > at {
			f(s.text[at:p.Start], false)
		}
		f(s.text[p.Start:p.End], true)
		at = p.End
	}
	if at < len(s.text) {
		f(s.text[at:], false)
	}
}

// mapRuns applies f to each stretch of equal provenance.
func (s String) mapRuns(f func(string) string) String {
	if t, ok := s.with(""); ok {
		t.text = f(s.text)
		return t
	}
	var b builder
	s.runs(func(text string, plain bool) { b.write(f(text), plain) })
	t := b.string()
	t.markup = s.markup
	return t
}

// join is a followed by b.
func join(a, b String) String {
	s := String{text: a.text + b.text}
	switch {
	case a.text == "" || b.text == "" || a.plain == nil && b.plain == nil && a.whole == b.whole:
		if s.plain, s.whole = a.plain, a.whole; a.text == "" {
			s.plain, s.whole = b.plain, b.whole
		}
		return s
	case a.whole:
		s.plain = []Span{{0, len(a.text)}}
	default:
		s.plain = append(make([]Span, 0, len(a.plain)+len(b.plain)+1), a.plain...)
	}
	add := func(start, end int) {
		if n := len(s.plain); n > 0 && s.plain[n-1].End == start {
			s.plain[n-1].End = end
			return
		}
		s.plain = append(s.plain, Span{start, end})
	}
	if b.whole {
		add(len(a.text), len(s.text))
	}
	for _, p := range b.plain {
		add(len(a.text)+p.Start, len(a.text)+p.End)
	}
	return s.normal()
}

// length is the number of characters (code points).
func (s String) length() int { return utf8.RuneCountInString(s.text) }

// offsets are the byte positions of the characters and of the end; nil for
// ASCII, where they are the indices themselves.
func (s String) offsets() []int {
	for i := 0; i < len(s.text); i++ {
		if s.text[i] >= utf8.RuneSelf {
			all := make([]int, 0, len(s.text)+1)
			for at := range s.text {
				all = append(all, at)
			}
			return append(all, len(s.text))
		}
	}
	return nil
}

// characters are the code points, one text each.
func (s String) characters() []Value {
	list := make([]Value, 0, len(s.text))
	for i := 0; i < len(s.text); {
		_, n := utf8.DecodeRuneInString(s.text[i:])
		list = append(list, s.cut(i, i+n))
		i += n
	}
	return list
}

// trim takes characters in the set off the sides; a nil set is white space.
func (s String) trim(left, right bool, set *string) String {
	in := isSpace
	if set != nil {
		in = func(r rune) bool { return strings.ContainsRune(*set, r) }
	}
	i, j := 0, len(s.text)
	if left {
		i = len(s.text) - len(strings.TrimLeftFunc(s.text, in))
	}
	if right {
		j = max(i, len(strings.TrimRightFunc(s.text, in)))
	}
	return s.cut(i, j)
}

// isSpace is Python's str.isspace: Unicode white space and U+001C..1F.
func isSpace(r rune) bool {
	return r >= 0x1c && r <= 0x1f || unicode.IsSpace(r)
}

// builder joins texts and keeps their provenance. With a meter it counts the
// work and stops at the limits; see evaluator.builder.
type builder struct {
	buf    strings.Builder
	spans  []Span
	force  int // above 0, everything written is data
	charge func(bytes, total int) error
	err    error
}

func (b *builder) write(text string, plain bool) {
	if text == "" || b.err != nil {
		return
	}
	if b.charge != nil {
		if b.err = b.charge(len(text), b.buf.Len()+len(text)); b.err != nil {
			return
		}
	}
	start := b.buf.Len()
	b.buf.WriteString(text)
	if !plain && b.force == 0 {
		return
	}
	if n := len(b.spans); n > 0 && b.spans[n-1].End == start {
		b.spans[n-1].End = b.buf.Len()
		return
	}
	b.spans = append(b.spans, Span{start, b.buf.Len()})
}

func (b *builder) add(s String) {
	if s.plain == nil {
		b.write(s.text, s.whole)
		return
	}
	s.runs(b.write)
}

// string is what was written, without looking at limits.
func (b *builder) string() String {
	return String{text: b.buf.String(), plain: b.spans}.normal()
}

// finish is what was written, or why it could not be.
func (b *builder) finish() (Value, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.string(), nil
}
