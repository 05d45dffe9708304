package chat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSource bounds a template; the longest seen in a model folder has 20 KB.
const maxSource = 1 << 20

type tokenKind uint8

const (
	tokEOF      tokenKind = iota
	tokText               // text outside of tags, white space control applied
	tokVarBegin           // {{
	tokVarEnd             // }}
	tokTagBegin           // {%
	tokTagEnd             // %}
	tokName
	tokString // text is the decoded value
	tokInt
	tokFloat
	tokOp
)

type token struct {
	kind tokenKind
	text string
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "the end of the template"
	case tokText:
		return "text"
	case tokVarBegin:
		return "'{{'"
	case tokVarEnd:
		return "'}}'"
	case tokTagBegin:
		return "'{%'"
	case tokTagEnd:
		return "'%}'"
	case tokString:
		return "a string"
	}
	return "'" + t.text + "'"
}

// lexer cuts a template into tokens the way Jinja2 does with trim_blocks and
// lstrip_blocks.
type lexer struct {
	src    string
	at     int
	line   int // of src[counted]
	count  int // bytes whose lines are counted
	tokens []token
	open   []byte // brackets that are open in the present tag
}

func syntax(line int, format string, args ...any) error {
	return &Error{Kind: Syntax, Message: fmt.Sprintf(format, args...), Line: line}
}

func lex(source string) ([]token, error) {
	if len(source) > maxSource {
		return nil, syntax(0, "the template has %d bytes: at most %d are read", len(source), maxSource)
	}
	if !utf8.ValidString(source) {
		return nil, syntax(0, "the template is not valid UTF-8")
	}
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(source, "\n"), line: 1}
	if err := l.root(); err != nil {
		return nil, err
	}
	l.emit(tokEOF, "")
	return l.tokens, nil
}

// lineAt is the line of byte i; i never goes back.
func (l *lexer) lineAt(i int) int {
	l.line += strings.Count(l.src[l.count:i], "\n")
	l.count = i
	return l.line
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.lineAt(l.at)})
}

// root reads text up to the next tag, then the tag, to the end.
func (l *lexer) root() error {
	lineStart := true // the text begins at the start of a line
	for {
		begin := l.nextTag()
		if begin < 0 {
			if l.at < len(l.src) {
				l.emit(tokText, l.src[l.at:])
				l.at = len(l.src)
			}
			return nil
		}
		kind := l.src[begin+1]
		after := begin + 2
		sign := byte(0)
		if after < len(l.src) && (l.src[after] == '-' || l.src[after] == '+') {
			sign = l.src[after]
		}
		if text := stripBefore(l.src[l.at:begin], sign, kind != '{', lineStart); text != "" {
			l.emit(tokText, text)
		}
		if sign != 0 {
			after++
		}
		l.at = begin
		var err error
		switch kind {
		case '#':
			err = l.comment(after)
		case '%':
			if end := l.rawBegin(after); end >= 0 {
				err = l.raw(end)
				break
			}
			l.emit(tokTagBegin, "")
			l.at = after
			err = l.code(true)
		default:
			l.emit(tokVarBegin, "")
			l.at = after
			err = l.code(false)
		}
		if err != nil {
			return err
		}
		lineStart = l.src[l.at-1] == '\n'
	}
}

// nextTag finds the next {{, {% or {#.
func (l *lexer) nextTag() int {
	for i := l.at; ; i++ {
		n := strings.IndexByte(l.src[i:], '{')
		if n < 0 || i+n+1 >= len(l.src) {
			return -1
		}
		i += n
		if strings.IndexByte("{%#", l.src[i+1]) >= 0 {
			return i
		}
	}
}

// stripBefore takes off the white space that a tag's sign, or lstrip_blocks,
// takes off the text before it.
func stripBefore(text string, sign byte, block, lineStart bool) string {
	switch {
	case sign == '-':
		return strings.TrimRightFunc(text, isSpace)
	case sign == '+' || !block:
		return text
	}
	last := strings.LastIndexByte(text, '\n') + 1
	if (last > 0 || lineStart) && strings.TrimLeftFunc(text[last:], isSpace) == "" {
		return text[:last]
	}
	return text
}

// tagEnd matches the end of a tag at l.at: sign, mark ("%}", "}}", "#}") and
// what the sign or trim_blocks takes off the text after it.
func (l *lexer) tagEnd(mark string) (end int, ok bool) {
	rest := l.src[l.at:]
	block := mark != "}}"
	switch {
	case strings.HasPrefix(rest, "-"+mark):
		tail := rest[1+len(mark):]
		return l.at + len(rest) - len(strings.TrimLeftFunc(tail, isSpace)), true
	case block && strings.HasPrefix(rest, "+"+mark):
		return l.at + 1 + len(mark), true
	case strings.HasPrefix(rest, mark):
		end = l.at + len(mark)
		if block && end < len(l.src) && l.src[end] == '\n' {
			end++
		}
		return end, true
	}
	return 0, false
}

func (l *lexer) comment(from int) error {
	n := strings.Index(l.src[from:], "#}")
	if n < 0 {
		return syntax(l.lineAt(l.at), "the comment is not closed by '#}'")
	}
	l.at = from + n
	if n > 0 && (l.src[l.at-1] == '-' || l.src[l.at-1] == '+') {
		l.at--
	}
	l.at, _ = l.tagEnd("#}")
	return nil
}

// rawBegin says where the text of {% raw %} begins, if this tag is one.
func (l *lexer) rawBegin(from int) int {
	rest := strings.TrimLeftFunc(l.src[from:], isSpace)
	rest, ok := strings.CutPrefix(rest, "raw")
	if !ok {
		return -1
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if tail, ok := strings.CutPrefix(rest, "-%}"); ok {
		return len(l.src) - len(strings.TrimLeftFunc(tail, isSpace))
	}
	if tail, ok := strings.CutPrefix(rest, "%}"); ok {
		return len(l.src) - len(tail)
	}
	return -1
}

// raw reads the text from byte from to {% endraw %}.
func (l *lexer) raw(from int) error {
	line := l.lineAt(l.at)
	lineStart := l.src[from-1] == '\n'
	for i := from; ; i++ {
		n := strings.Index(l.src[i:], "{%")
		if n < 0 {
			return syntax(line, "raw is not closed by endraw")
		}
		i += n
		after, sign := i+2, byte(0)
		if after < len(l.src) && (l.src[after] == '-' || l.src[after] == '+') {
			sign = l.src[after]
			after++
		}
		rest, ok := strings.CutPrefix(strings.TrimLeftFunc(l.src[after:], isSpace), "endraw")
		if !ok {
			continue
		}
		l.at = len(l.src) - len(strings.TrimLeftFunc(rest, isSpace))
		end, ok := l.tagEnd("%}")
		if !ok {
			continue
		}
		if text := stripBefore(l.src[from:i], sign, true, lineStart); text != "" {
			l.tokens = append(l.tokens, token{tokText, text, line})
		}
		l.at = end
		return nil
	}
}

// code reads the tokens of a tag up to its end.
func (l *lexer) code(tag bool) error {
	mark, endKind := "}}", tokVarEnd
	if tag {
		mark, endKind = "%}", tokTagEnd
	}
	begin := l.lineAt(l.at)
	l.open = l.open[:0]
	for {
		l.at = len(l.src) - len(strings.TrimLeftFunc(l.src[l.at:], isSpace))
		if l.at == len(l.src) {
			return syntax(begin, "the tag is not closed by '%s'", mark)
		}
		if len(l.open) == 0 {
			if end, ok := l.tagEnd(mark); ok {
				l.emit(endKind, "")
				l.at = end
				return nil
			}
		}
		if err := l.token(); err != nil {
			return err
		}
	}
}

func (l *lexer) token() error {
	rest := l.src[l.at:]
	c, _ := utf8.DecodeRuneInString(rest)
	switch {
	case c == '\'' || c == '"':
		return l.quoted(byte(c))
	case '0' <= c && c <= '9':
		return l.number()
	case c == '_' || unicode.IsLetter(c):
		n := strings.IndexFunc(rest, func(r rune) bool {
			return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		})
		if n < 0 {
			n = len(rest)
		}
		l.emit(tokName, rest[:n])
		l.at += n
		return nil
	}
	for _, op := range []string{"//", "**", "==", "!=", ">=", "<="} {
		if strings.HasPrefix(rest, op) {
			l.emit(tokOp, op)
			l.at += 2
			return nil
		}
	}
	if !strings.ContainsRune("+-*/%~[](){}<>=.:|,;", c) {
		return syntax(l.lineAt(l.at), "unexpected character %q", c)
	}
	if err := l.bracket(byte(c)); err != nil {
		return err
	}
	l.emit(tokOp, string(c))
	l.at++
	return nil
}

// bracket keeps count of open brackets: inside them a tag does not end.
func (l *lexer) bracket(c byte) error {
	if i := strings.IndexByte("([{", c); i >= 0 {
		l.open = append(l.open, ")]}"[i])
	} else if strings.IndexByte(")]}", c) >= 0 {
		if len(l.open) == 0 {
			return syntax(l.lineAt(l.at), "unexpected '%c'", c)
		}
		want := l.open[len(l.open)-1]
		if want != c {
			return syntax(l.lineAt(l.at), "unexpected '%c', expected '%c'", c, want)
		}
		l.open = l.open[:len(l.open)-1]
	}
	return nil
}

// number reads an integer (also 0x, 0o, 0b) or a float; after a dot only an
// integer, so that a.0.1 is two indices.
func (l *lexer) number() error {
	rest := l.src[l.at:]
	afterDot := l.at > 0 && l.src[l.at-1] == '.'
	digits := func(from int, set string) int {
		i := from
		for i < len(rest) && (strings.IndexByte(set, rest[i]) >= 0 ||
			rest[i] == '_' && i > from && i+1 < len(rest) && strings.IndexByte(set, rest[i+1]) >= 0) {
			i++
		}
		return i
	}
	const decimal = "0123456789"
	if len(rest) > 2 && rest[0] == '0' {
		if i := strings.IndexByte("xob", rest[1]|0x20); i >= 0 {
			set := []string{decimal + "abcdefABCDEF", "01234567", "01"}[i]
			if end := digits(2, set); end > 2 {
				return l.integer(rest[:end])
			}
		}
	}
	end := digits(0, decimal)
	float := false
	if !afterDot {
		if end+1 < len(rest) && rest[end] == '.' {
			if e := digits(end+1, decimal); e > end+1 {
				end, float = e, true
			}
		}
		if end < len(rest) && rest[end]|0x20 == 'e' {
			from := end + 1
			if from < len(rest) && (rest[from] == '+' || rest[from] == '-') {
				from++
			}
			if e := digits(from, decimal); e > from {
				end, float = e, true
			}
		}
	}
	if !float {
		return l.integer(rest[:end])
	}
	l.emit(tokFloat, strings.ReplaceAll(rest[:end], "_", ""))
	l.at += end
	return nil
}

// integer emits an integer in decimal digits.
func (l *lexer) integer(literal string) error {
	text := strings.ReplaceAll(literal, "_", "")
	if len(text) > 2 && text[0] == '0' && text[1] > '9' {
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return syntax(l.lineAt(l.at), "the number %s is too large", literal)
		}
		text = strconv.FormatInt(n, 10)
	} else if len(text) > 1 && text[0] == '0' && strings.Trim(text, "0") != "" {
		return syntax(l.lineAt(l.at), "the number %s begins with 0", literal)
	}
	l.emit(tokInt, text)
	l.at += len(literal)
	return nil
}

func (l *lexer) quoted(quote byte) error {
	for i := l.at + 1; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			i++
		case quote:
			text, err := unescape(l.src[l.at+1 : i])
			if err != nil {
				return syntax(l.lineAt(l.at), "in a string: %v", err)
			}
			l.emit(tokString, text)
			l.at = i + 1
			return nil
		}
	}
	return syntax(l.lineAt(l.at), "the string is not closed by %c", quote)
}

// unescape decodes the escapes of a Python string literal. An unknown escape
// stays as it is written.
func unescape(text string) (string, error) {
	if strings.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		c := text[i]
		if k := strings.IndexByte("\n\\'\"abfnrtv", c); k >= 0 {
			if k > 0 { // a backslash at the end of a line joins the lines
				b.WriteByte("\n\\'\"\a\b\f\n\r\t\v"[k])
			}
			continue
		}
		size := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		switch {
		case size > 0:
			if i+size >= len(text) {
				return "", fmt.Errorf(`\%c needs %d hexadecimal digits`, c, size)
			}
			n, err := strconv.ParseUint(text[i+1:i+1+size], 16, 32)
			if err != nil || !utf8.ValidRune(rune(n)) || n > unicode.MaxRune {
				return "", fmt.Errorf(`\%s is no character`, text[i:i+1+size])
			}
			b.WriteRune(rune(n))
			i += size
		case '0' <= c && c <= '7':
			end := i
			for end < len(text) && end < i+3 && '0' <= text[end] && text[end] <= '7' {
				end++
			}
			n, err := strconv.ParseUint(text[i:end], 8, 16)
			if err != nil {
				return "", err
			}
			b.WriteRune(rune(n))
			i = end - 1
		case c == 'N':
			return "", errors.New(`\N{NAME} is not supported: write the character, or \u and its number`)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
