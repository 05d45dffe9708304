package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize returns the form NFC of valid UTF-8 as the models' tokenizer was
// made with. It differs from golang.org/x/text/unicode/norm twice: the data
// are those of Unicode 9, to which the marks in the table inert, all younger,
// are characters that neither move nor compose; and runs of marks have no
// limit, where x/text breaks those of more than 30 with U+034F.
//
// Text that x/text finds normal is normal under both: every part of an NFC
// text is NFC, and so are the parts between inert marks.
func normalize(text string) string {
	if norm.NFC.IsNormalString(text) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/8)
	var c composer
	for len(text) > 0 {
		n, plain := segment(text)
		if plain {
			out = norm.NFC.AppendString(out, text[:n])
		} else {
			out = c.appendNFC(out, text[:n])
		}
		text = text[n:]
	}
	return string(out)
}

const (
	// plainMarks is how many characters x/text normalises without a break
	// for certain: its limit is 30 marks and some characters decompose to 3.
	plainMarks = 8
	// plainBytes ends a segment that x/text may do, so that most of a text
	// goes to it in large parts.
	plainBytes = 1 << 12
)

// segment returns the length of a part at the beginning of text that
// normalises independently of what follows it, and whether x/text may do it.
// A segment that it may not do is as short as possible.
func segment(text string) (n int, plain bool) {
	safe, tied := 0, 0 // the last place to cut, and characters since
	for n < len(text) {
		if text[n] < utf8.RuneSelf {
			if safe = n; n > plainBytes {
				return n, true
			}
			tied = 0
			n++
			continue
		}
		p := norm.NFC.PropertiesString(text[n:])
		r, _ := utf8.DecodeRuneInString(text[n:])
		if p.BoundaryBefore() {
			if safe = n; n > plainBytes {
				return n, true
			}
			tied = 0
		} else if tied++; tied > plainMarks || isInert(r) {
			if safe > 0 {
				return safe, true // the next segment is the difficult one
			}
			n += p.Size()
			return n + tiedLen(text[n:]), false
		}
		n += p.Size()
	}
	return n, true
}

// tiedLen returns the length of the characters at the beginning of text that
// may depend on what stands before them.
func tiedLen(text string) int {
	n := 0
	for n < len(text) {
		p := norm.NFC.PropertiesString(text[n:])
		if p.BoundaryBefore() {
			break
		}
		n += p.Size()
	}
	return n
}

func isInert(r rune) bool {
	_, found := slices.BinarySearchFunc(inert, r, func(span [2]rune, r rune) int {
		switch {
		case span[1] < r:
			return -1
		case span[0] > r:
			return 1
		}
		return 0
	})
	return found
}

// composer is NFC as the Unicode standard describes it (section 3.11).
type composer struct {
	runes []classed
	pairs map[[2]rune]rune // what a pair composes to, 0 for nothing
}

// classed is a character of a decomposed text with its combining class.
type classed struct {
	r   rune
	ccc uint8
}

// appendNFC appends the form NFC of s, of any length, to dst.
func (c *composer) appendNFC(dst []byte, s string) []byte {
	c.runes = c.runes[:0]
	for _, r := range s {
		c.decompose(r)
	}
	c.order()
	for _, x := range c.compose() {
		dst = utf8.AppendRune(dst, x.r)
	}
	return dst
}

// decompose adds the full canonical decomposition of r to c.runes. Characters
// that decompose to an inert one are as young as it is and stay whole.
func (c *composer) decompose(r rune) {
	start := len(c.runes)
	var room [utf8.UTFMax]byte
	// One character decomposes to at most four, too few for U+034F.
	d := norm.NFD.Bytes(utf8.AppendRune(room[:0], r))
	for len(d) > 0 {
		part, n := utf8.DecodeRune(d)
		if isInert(part) {
			c.runes = append(c.runes[:start], classed{r, 0})
			return
		}
		c.runes = append(c.runes, classed{part, norm.NFD.Properties(d).CCC()})
		d = d[n:]
	}
}

// order sorts each run of marks by combining class, stable.
func (c *composer) order() {
	for i := 0; i < len(c.runes); i++ {
		start := i
		for i < len(c.runes) && c.runes[i].ccc != 0 {
			i++
		}
		slices.SortStableFunc(c.runes[start:i], func(a, b classed) int { return int(a.ccc) - int(b.ccc) })
	}
}

// compose joins each character with the last starter before it, if the pair
// has a composite and nothing between them blocks it.
func (c *composer) compose() []classed {
	out := c.runes[:0]
	starter := -1
	for _, x := range c.runes {
		if starter >= 0 {
			adjacent := starter == len(out)-1
			if adjacent || out[len(out)-1].ccc < x.ccc {
				if r := c.pair(out[starter].r, x.r); r != 0 {
					out[starter].r = r
					continue
				}
			}
		}
		if x.ccc == 0 {
			starter = len(out)
		}
		out = append(out, x)
	}
	return out
}

// pair returns the composite of two characters, 0 if there is none.
func (c *composer) pair(a, b rune) rune {
	key := [2]rune{a, b}
	if r, ok := c.pairs[key]; ok {
		return r
	}
	var composite rune
	if !isInert(a) && !isInert(b) {
		s := norm.NFC.String(string(key[:]))
		if r, n := utf8.DecodeRuneInString(s); n == len(s) {
			composite = r
		}
	}
	if c.pairs == nil {
		c.pairs = map[[2]rune]rune{}
	}
	c.pairs[key] = composite
	return composite
}
