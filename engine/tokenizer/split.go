package tokenizer

import "unicode/utf8"

// class is what the pattern knows of a character.
type class uint8

const (
	other   class = iota // none of \s \p{L} \p{N}; marks too
	letter               // \p{L}
	number               // \p{N}
	space                // \s but not newline
	newline              // [\r\n]
	end                  // no character: the text ends
)

// classes has the class of each code point up to the last that has one, from
// the ranges in unicode_tables.go: 205 KB, of which a script uses a few lines.
var classes = func() (table [lastClassed + 1]class) {
	fill := func(ranges [][2]rune, c class) {
		for _, r := range ranges {
			for i := r[0]; i <= r[1]; i++ {
				table[i] = c
			}
		}
	}
	fill(letters, letter)
	fill(numbers, number)
	fill(spaces, space)
	table['\r'], table['\n'] = newline, newline
	return table
}()

// classAt returns the class and length of the character at i.
func classAt(s string, i int) (class, int) {
	if i >= len(s) {
		return end, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return classes[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if int(r) >= len(classes) {
		return other, n
	}
	return classes[r], n
}

// wordLen returns the length of the first word of s, which is not empty and
// valid UTF-8. It is the constant pattern by hand, since Go's regexp has
// neither its look-ahead nor its classes; the branches are tried in order:
//
//	`(?i:'s|'t|'re|'ve|'m|'ll|'d)`   1
//	`[^\r\n\p{L}\p{N}]?\p{L}+`       2
//	`\p{N}`                          3
//	` ?[^\s\p{L}\p{N}]+[\r\n]*`      4
//	`\s*[\r\n]+`                     5
//	`\s+(?!\S)`                      6
//	`\s+`                            7
func wordLen(s string) int {
	if s[0] == '\'' {
		if n := contraction(s[1:]); n > 0 {
			return 1 + n
		}
	}
	first, n := classAt(s, 0)
	second, _ := classAt(s, n)
	switch {
	case first == letter, first != number && first != newline && second == letter:
		return runEnd(s, n, letter)
	case first == number:
		return n
	case first == other, s[0] == ' ' && second == other:
		return runEnd(s, runEnd(s, n, other), newline)
	}
	return spaceLen(s)
}

// contraction returns the length of what stands behind the apostrophe in
// branch 1, 0 if nothing of it does. U+017F, the long s, folds to s.
func contraction(s string) int {
	if len(s) == 0 {
		return 0
	}
	switch s[0] | 0x20 { // lower case for ASCII letters
	case 's', 't', 'm', 'd':
		return 1
	}
	if len(s) >= 2 {
		switch string([]byte{s[0] | 0x20, s[1] | 0x20}) {
		case "re", "ve", "ll":
			return 2
		}
		if s[:2] == "ſ" {
			return 2
		}
	}
	return 0
}

// runEnd returns the end of the run of want that begins at i.
func runEnd(s string, i int, want class) int {
	for {
		for i < len(s) && s[i] < utf8.RuneSelf && classes[s[i]] == want {
			i++
		}
		if i >= len(s) || s[i] < utf8.RuneSelf {
			return i
		}
		c, n := classAt(s, i)
		if c != want {
			return i
		}
		i += n
	}
}

// spaceLen is wordLen for branches 5 to 7, where s begins with white space: the
// run up to its last line break; without one, the run at the end of the text or
// if it is one character; else the run without its last character, which goes
// to the next word.
func spaceLen(s string) int {
	i, last, breakEnd := 0, 0, 0
	for {
		c, n := classAt(s, i)
		if c != space && c != newline {
			break
		}
		i, last = i+n, n
		if c == newline {
			breakEnd = i
		}
	}
	switch {
	case breakEnd > 0:
		return breakEnd
	case i == len(s) || i == last:
		return i
	}
	return i - last
}
