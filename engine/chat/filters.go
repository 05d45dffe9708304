package chat

import (
	"math"
	"strconv"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// filters are what may follow `|`. Filled by init: map looks filters up while
// it runs.
var filters map[string]*builtin

func init() {
	filters = map[string]*builtin{
		"abs":         takes("", absFilter),
		"attr":        takes("name", attrFilter),
		"capitalize":  onText(func(s String) String { return capitalize(s) }),
		"center":      takes("width?", centerFilter),
		"default":     takes("default_value? boolean?", defaultFilter),
		"escape":      takes("", escapeFilter),
		"forceescape": takes("", escapeFilter),
		"float":       takes("default?", floatFilter),
		"format":      {raw: formatFilter},
		"indent":      takes("width? first? blank?", indentFilter),
		"int":         takes("default? base?", intFilter),
		"lower":       onText(lower),
		"replace":     takes("old new count?", replaceFilter),
		"round":       takes("precision? method?", roundFilter),
		"safe":        takes("", safeFilter),
		"string":      takes("", stringFilter),
		"title":       onText(titleFilter),
		"tojson":      takes("ensure_ascii? indent? separators? sort_keys?", tojsonFilter),
		"trim":        takes("chars?", trimFilter),
		"upper":       onText(upper),
		"wordcount":   takes("", wordcountFilter),
	}
	addListFilters()
	for alias, name := range map[string]string{"d": "default", "e": "escape", "count": "length"} {
		filters[alias] = filters[name]
	}
}

// toText is what str() gives: the text of a string, the printed form of others.
func (ev *evaluator) toText(v Value) (String, error) {
	if s, ok := v.(String); ok {
		return s, nil
	}
	b := ev.builder()
	if err := writeText(b, v); err != nil {
		return String{}, err
	}
	return b.string(), b.err
}

// onText makes a filter without arguments out of a function on texts.
func onText(f func(String) String) *builtin {
	return takes("", func(ev *evaluator, v Value, _ []Value) (Value, error) {
		s, err := ev.toText(v)
		if err != nil {
			return nil, err
		}
		return f(s), nil
	})
}

func lower(s String) String { return s.mapRuns(cases.Lower(language.Und).String) }
func upper(s String) String { return s.mapRuns(cases.Upper(language.Und).String) }

// capitalize is the first character upper case (title case), the rest lower.
func capitalize(s String) String {
	first := s.offsets()
	end := min(1, len(s.text))
	if first != nil {
		end = first[1]
	}
	var b builder
	b.add(s.cut(0, end).mapRuns(cases.Title(language.Und).String))
	b.add(lower(s.cut(end, len(s.text))))
	return b.string()
}

// titleFilter is Jinja's: a word begins at the start and after white space and
// one of -({[<.
func titleFilter(s String) String {
	var b builder
	from := 0
	split := func(r rune) bool { return isSpace(r) || strings.ContainsRune("-({[<", r) }
	for from < len(s.text) {
		start := strings.IndexFunc(s.text[from:], func(r rune) bool { return !split(r) })
		if start < 0 {
			break
		}
		start += from
		end := strings.IndexFunc(s.text[start:], split)
		if end < 0 {
			end = len(s.text) - start
		}
		end += start
		b.add(s.cut(from, start))
		word := s.cut(start, end)
		n := len(word.text)
		if at := word.offsets(); at != nil {
			n = at[1]
		} else {
			n = min(1, n)
		}
		b.add(upper(word.cut(0, n)))
		b.add(lower(word.cut(n, len(word.text))))
		from = end
	}
	b.add(s.cut(from, len(s.text)))
	return b.string()
}

func trimFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	return trimText(s, true, true, args[0])
}

// trimText strips white space or the characters of a string.
func trimText(s String, left, right bool, chars Value) (Value, error) {
	switch chars := chars.(type) {
	case nil, Null:
		return s.trim(left, right, nil), nil
	case String:
		return s.trim(left, right, &chars.text), nil
	}
	return nil, fail("the characters to strip must be a string, not %s", typeOf(chars))
}

func stringFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	s, err := ev.toText(v)
	return s, err
}

func safeFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	s, err := ev.toText(v)
	s.markup = true
	return s, err
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

func escape(s String) String {
	s = s.mapRuns(escaper.Replace)
	s.markup = true
	return s
}

func escapeFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil || s.markup {
		return s, err
	}
	return escape(s), ev.spendText(5 * len(s.text))
}

func defaultFilter(_ *evaluator, v Value, args []Value) (Value, error) {
	if isUndefined(v) || flag(args[1], false) && !truth(v) {
		if args[0] == nil {
			return trusted(""), nil
		}
		return args[0], nil
	}
	return v, nil
}

func attrFilter(_ *evaluator, v Value, args []Value) (Value, error) {
	name, err := textArg(args[0], "the name")
	if err != nil {
		return nil, err
	}
	if l, ok := v.(*loopState); ok {
		if a := l.attribute(name.text); a != nil {
			return a, nil
		}
	} else if ns, ok := v.(*namespace); ok {
		if a, ok := ns.vars.Get(name.text); ok {
			return a, nil
		}
	} else if m := method(v, name.text); m != nil {
		return m, nil
	}
	return &undefined{"'" + objectName(v) + "' has no attribute '" + name.text + "'"}, nil
}

func replaceFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	old, err := ev.toText(args[0])
	if err != nil {
		return nil, err
	}
	with, err := ev.toText(args[1])
	if err != nil {
		return nil, err
	}
	if _, ok := args[2].(Null); ok {
		args[2] = nil
	}
	count, err := intArg(args[2], -1, "the count")
	if err != nil {
		return nil, err
	}
	return ev.replace(s, old.text, with, count)
}

// replace puts `with` in the place of old, count times or always (below 0). An
// empty old stands before every character and at the end.
func (ev *evaluator) replace(s String, old string, with String, count int) (Value, error) {
	b := ev.builder()
	from, search := 0, 0
	for count != 0 && search <= len(s.text) && b.err == nil {
		n := strings.Index(s.text[search:], old)
		if n < 0 {
			break
		}
		at := search + n
		b.add(s.cut(from, at))
		b.add(with)
		from = at + len(old)
		search = from
		if old == "" {
			search++
			for search < len(s.text) && s.text[search]&0xc0 == 0x80 {
				search++
			}
		}
		count--
		if err := ev.spend(1); err != nil {
			return nil, err
		}
	}
	if from < len(s.text) {
		b.add(s.cut(from, len(s.text)))
	}
	return b.finish()
}

func centerFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	width, err := intArg(args[0], 80, "the width")
	if err != nil {
		return nil, err
	}
	return ev.justify(s, width, trusted(" "), "center")
}

// justify pads to a width with one character, as str.ljust, rjust and center.
func (ev *evaluator) justify(s String, width int, fill String, how string) (Value, error) {
	pad := width - s.length()
	if pad <= 0 {
		return s, nil
	}
	if pad > maxText {
		return nil, fail("a text of more than %d bytes", maxText)
	}
	left := 0
	switch how {
	case "rjust":
		left = pad
	case "center":
		left = pad/2 + pad&width&1
	}
	b := ev.builder()
	for range left {
		b.add(fill)
	}
	b.add(s)
	for range pad - left {
		b.add(fill)
	}
	return b.finish()
}

func indentFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	prefix, ok := args[0].(String)
	if !ok {
		width, err := intArg(args[0], 4, "the width")
		if err != nil {
			return nil, err
		}
		if width > maxText {
			return nil, fail("a text of more than %d bytes", maxText)
		}
		prefix = trusted(strings.Repeat(" ", max(0, width)))
	}
	first, blank := flag(args[1], false), flag(args[2], false)
	b := ev.builder()
	if first {
		b.add(prefix)
	}
	var whole builder // Jinja adds a line break before it splits
	whole.add(s)
	whole.write("\n", s.whole)
	for i, line := range splitLines(whole.string(), false) {
		if i > 0 {
			b.write("\n", s.whole)
			if blank || line.text != "" {
				b.add(prefix)
			}
		}
		b.add(line)
	}
	return b.finish()
}

func tojsonFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	j := jsonStyle{item: ", ", key: ": ", ascii: flag(args[0], false), sorted: flag(args[3], false)}
	b := ev.builder()
	style := func(s String) string { // a style that holds data makes all of the text data
		if s.whole || s.plain != nil {
			b.force = 1
		}
		return s.text
	}
	switch indent := args[1].(type) {
	case nil, Null:
	case String:
		j.pretty, j.indent, j.item = true, style(indent), ","
	default:
		n, err := intArg(indent, 0, "the indent")
		if err != nil {
			return nil, err
		}
		if n > 1000 {
			return nil, fail("an indent of more than 1000")
		}
		j.pretty, j.indent, j.item = true, strings.Repeat(" ", max(0, n)), ","
	}
	if pair, ok := args[2].(*List); ok && len(pair.items) == 2 {
		item, ok1 := pair.items[0].(String)
		key, ok2 := pair.items[1].(String)
		if !ok1 || !ok2 {
			return nil, fail("the separators of tojson must be strings")
		}
		j.item, j.key = style(item), style(key)
	} else if args[2] != nil && !is[Null](args[2]) {
		return nil, fail("the separators of tojson must be a pair of strings")
	}
	if err := j.write(b, v, 0); err != nil {
		return nil, err
	}
	return b.finish()
}

func wordcountFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s.text, func(r rune) bool { return !isAlphaNumeric(r) && r != '_' })
	return NewInt(int64(len(words))), nil
}

func absFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	i, f, isInt, ok := number(v)
	switch {
	case isUndefined(v):
		return nil, missing(v)
	case !ok:
		return nil, fail("bad operand type for abs(): '%s'", v.typeName())
	case !isInt:
		return Float(math.Abs(f)), nil
	case i.sign() < 0:
		return ev.binary("-", NewInt(0), i)
	}
	return i, nil
}

// intFilter gives the default for what is no number.
func intFilter(_ *evaluator, v Value, args []Value) (Value, error) {
	otherwise := args[0]
	if otherwise == nil {
		otherwise = NewInt(0)
	}
	base, err := intArg(args[1], 10, "the base")
	if err != nil {
		return nil, err
	}
	f := 0.0
	switch v := v.(type) {
	case nil, *undefined:
		return nil, missing(v)
	case String:
		if n, ok := pythonInt(v.text, base); ok {
			return n, nil
		}
		var ok bool
		if f, ok = pythonFloat(v.text); !ok {
			return otherwise, nil
		}
	default:
		i, x, isInt, ok := number(v)
		if isInt {
			return i, nil
		}
		if !ok {
			return otherwise, nil
		}
		f = x
	}
	if n, ok := intFromFloat(math.Trunc(f)); ok {
		return n, nil
	}
	return otherwise, nil
}

// pythonInt is int(text, base).
func pythonInt(text string, base int) (Int, bool) {
	text = strings.ToLower(strings.TrimFunc(text, isSpace))
	if base == 10 {
		digits := strings.TrimLeft(text, "+-")
		if len(text)-len(digits) > 1 || !separated(digits) {
			return Int{}, false
		}
		return parseInt(strings.ReplaceAll(text, "_", ""))
	}
	if base < 0 || base == 1 || base > 36 {
		return Int{}, false
	}
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" {
		text = strings.Replace(text, prefix, "", 1)
	}
	n, err := strconv.ParseInt(text, base, 64)
	return NewInt(n), err == nil
}

// separated says whether every underscore stands between two other characters.
func separated(digits string) bool {
	return !strings.HasPrefix(digits, "_") && !strings.HasSuffix(digits, "_") && !strings.Contains(digits, "__")
}

// pythonFloat is float(text).
func pythonFloat(text string) (float64, bool) {
	text = strings.TrimFunc(text, isSpace)
	if !separated(text) || strings.ContainsAny(text, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	return f, err == nil || math.IsInf(f, 0)
}

func floatFilter(_ *evaluator, v Value, args []Value) (Value, error) {
	otherwise := args[0]
	if otherwise == nil {
		otherwise = Float(0)
	}
	if isUndefined(v) {
		return nil, missing(v)
	}
	if s, ok := v.(String); ok {
		if f, ok := pythonFloat(s.text); ok {
			return Float(f), nil
		}
		return otherwise, nil
	}
	i, f, isInt, ok := number(v)
	if isInt {
		f = i.float()
	}
	if !ok || isInt && math.IsInf(f, 0) {
		return otherwise, nil
	}
	return Float(f), nil
}

func roundFilter(_ *evaluator, v Value, args []Value) (Value, error) {
	precision, err := intArg(args[0], 0, "the precision")
	if err != nil {
		return nil, err
	}
	method := "common"
	if s, ok := args[1].(String); ok {
		method = s.text
	}
	if precision < -300 || precision > 300 {
		return nil, fail("a precision beyond 300 digits")
	}
	i, f, isInt, ok := number(v)
	if !ok {
		return nil, fail("type %s cannot be rounded", typeOf(v))
	}
	if isInt {
		if method == "common" && precision >= 0 {
			return i, nil
		}
		f = i.float()
	}
	scale := math.Pow(10, float64(precision))
	switch method {
	case "common":
		if precision < 0 {
			f = math.RoundToEven(f*scale) / scale
		} else if f, err = strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64); err != nil {
			return nil, fail("the number cannot be rounded")
		}
		if n, ok := intFromFloat(f); ok && isInt {
			return n, nil
		}
	case "ceil":
		f = math.Ceil(f*scale) / scale
	case "floor":
		f = math.Floor(f*scale) / scale
	default:
		return nil, fail("the method of round must be common, ceil or floor")
	}
	return Float(f), nil
}
