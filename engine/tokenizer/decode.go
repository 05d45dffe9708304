package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Decode returns the text of ids: the bytes of all tokens one after the
// other, with each maximal broken part replaced by U+FFFD. With skipSpecial
// special tokens give no text; ids without a token never do.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	text := make([]byte, 0, 5*len(ids))
	for _, id := range ids {
		text = append(text, t.spoken(id, skipSpecial)...)
	}
	return validUTF8(string(text))
}

// spoken returns the bytes that an id adds to a decoded text.
func (t *Tokenizer) spoken(id int32, skipSpecial bool) string {
	text := t.bytes(id)
	if skipSpecial && text != "" && t.tokens[id].kind == special {
		return ""
	}
	return text
}

// Stream decodes ids that come one by one. It holds back at most 3 bytes, and
// only while they can still become a character. It is for one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	held        string // the begin of a character
}

// NewStream starts a stream. Its pieces and the tail, joined, are what Decode
// returns for the same ids.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	return &Stream{t: t, skipSpecial: skipSpecial}
}

// Push takes the next id and returns the text that is certain now: whole
// characters, and U+FFFD for bytes that nothing later can mend.
func (s *Stream) Push(id int32) string {
	text := s.held + s.t.spoken(id, s.skipSpecial)
	certain := len(text)
	// A character has at most four bytes, so the begin of one at most three.
	for i := len(text) - 1; i >= max(0, len(text)-3); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				certain = i
			}
			break
		}
	}
	s.held = strings.Clone(text[certain:])
	return validUTF8(text[:certain])
}

// Flush ends the stream and returns the text held back: nothing, or one U+FFFD.
func (s *Stream) Flush() string {
	tail := validUTF8(s.held)
	s.held = ""
	return tail
}

// validUTF8 replaces each maximal broken part by U+FFFD: the longest begin of
// a character that is there, else one byte. strings.ToValidUTF8 replaces runs
// of them, a conversion to []rune each byte.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	out.Grow(len(s) + len(s)/4)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = brokenLen(s)
			out.WriteRune(utf8.RuneError)
		} else {
			out.WriteString(s[:n])
		}
		s = s[n:]
	}
	return out.String()
}

// brokenLen is the length of the maximal broken part that s begins with.
func brokenLen(s string) int {
	n := 1
	for n < 3 && n < len(s) && !utf8.FullRuneInString(s[:n+1]) {
		n++
	}
	return n
}
