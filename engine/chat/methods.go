package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// The methods of Python's str, dict, list and tuple that templates use. What
// would change a value is left out: the sandbox of transformers refuses it.
var textMethods, mapMethods, listMethods map[string]*builtin

func init() {
	textMethods = map[string]*builtin{
		"capitalize": onText(capitalize),
		"casefold":   onText(func(s String) String { return s.mapRuns(cases.Fold().String) }),
		"center":     justifyMethod("center"),
		"count":      takes("sub start? end?", countMethod),
		"endswith":   takes("suffix start? end?", affixMethod(strings.HasSuffix)),
		"find":       takes("sub start? end?", findMethod(strings.Index, false)),
		"format":     {raw: formatMethod},
		"index":      takes("sub start? end?", findMethod(strings.Index, true)),
		"isalnum":    allCharacters(isAlphaNumeric),
		"isalpha":    allCharacters(unicode.IsLetter),
		"isdecimal":  allCharacters(unicode.IsDigit),
		"isdigit":    allCharacters(unicode.IsDigit),
		"islower": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			return isCase(v, unicode.IsUpper)
		}),
		"isspace": allCharacters(isSpace),
		"isupper": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			return isCase(v, unicode.IsLower)
		}),
		"join":         takes("iterable", joinMethod),
		"ljust":        justifyMethod("ljust"),
		"lower":        onText(lower),
		"lstrip":       stripMethod(true, false),
		"partition":    takes("sep", partitionMethod(strings.Index, false)),
		"removeprefix": takes("prefix", removeMethod(true)),
		"removesuffix": takes("suffix", removeMethod(false)),
		"replace":      takes("old new count?", replaceMethod),
		"rfind":        takes("sub start? end?", findMethod(strings.LastIndex, false)),
		"rindex":       takes("sub start? end?", findMethod(strings.LastIndex, true)),
		"rjust":        justifyMethod("rjust"),
		"rpartition":   takes("sep", partitionMethod(strings.LastIndex, true)),
		"rsplit":       takes("sep? maxsplit?", splitMethod(true)),
		"rstrip":       stripMethod(false, true),
		"split":        takes("sep? maxsplit?", splitMethod(false)),
		"splitlines":   takes("keepends?", splitLinesMethod),
		"startswith":   takes("prefix start? end?", affixMethod(strings.HasPrefix)),
		"strip":        stripMethod(true, true),
		"swapcase":     onText(swapCase),
		"title":        onText(titleMethod),
		"upper":        onText(upper),
		"zfill":        takes("width", zfillMethod),
	}
	mapMethods = map[string]*builtin{
		"copy": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) { return v, nil }),
		"get": takes("key default?", func(_ *evaluator, v Value, args []Value) (Value, error) {
			if id, ok := keyOf(args[0]); ok {
				if found, ok := v.(*Map).lookup(id); ok {
					return found, nil
				}
			}
			if args[1] == nil {
				return Null{}, nil
			}
			return args[1], nil
		}),
		"items": takes("", itemsFilter),
		"keys": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			list, _ := items(v)
			return &List{items: list}, nil
		}),
		"values": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			l := &List{}
			for _, e := range v.(*Map).entries {
				l.items = append(l.items, e.value)
			}
			return l, nil
		}),
	}
	listMethods = map[string]*builtin{
		"copy":  mapMethods["copy"],
		"count": takes("value", listCount),
		"index": takes("value", listIndex),
	}
	for _, name := range []string{"clear", "pop", "popitem", "setdefault", "update"} {
		mapMethods[name] = refused(name, "map")
	}
	for _, name := range []string{"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"} {
		listMethods[name] = refused(name, "list")
	}
}

// refused is a method that would change its value.
func refused(name, what string) *builtin {
	return &builtin{raw: func(*evaluator, Value, arguments) (Value, error) {
		return nil, fail("'%s' would change a %s: values cannot be changed in a chat template, make a new one with set", name, what)
	}}
}

// method is object.name bound to its object, or nil.
func method(object Value, name string) Value {
	var f *builtin
	switch o := object.(type) {
	case String:
		f = textMethods[name]
	case *Map:
		f = mapMethods[name]
	case *List:
		if f = listMethods[name]; f != nil && o.tuple && name != "count" && name != "index" {
			f = nil
		}
	}
	if f == nil {
		return nil
	}
	return &function{name, func(ev *evaluator, args arguments) (Value, error) {
		return f.call(ev, "method '"+name+"'", object, args)
	}}
}

func stripMethod(left, right bool) *builtin {
	return takes("chars?", func(_ *evaluator, v Value, args []Value) (Value, error) {
		return trimText(v.(String), left, right, args[0])
	})
}

// window is the part of a text that [start:end] arguments choose, and where it
// begins, in bytes; below 0 if it ends before it begins, where not even an
// empty text is found.
func (ev *evaluator) window(s String, start, end Value) (part String, from int, err error) {
	if (start == nil || is[Null](start)) && (end == nil || is[Null](end)) {
		return s, 0, nil
	}
	var bounds [3]*int
	for i, v := range []Value{start, end} {
		if v == nil || is[Null](v) {
			continue
		}
		n, err := intArg(v, 0, "a position")
		if err != nil {
			return String{}, 0, err
		}
		bounds[i] = &n
	}
	at := s.offsets()
	n := len(s.text)
	if at != nil {
		n = len(at) - 1
	}
	low, high, _, err := sliceBounds(bounds, n)
	if err != nil {
		return String{}, 0, err
	}
	if high < low {
		return trusted(""), -1, nil
	}
	if at != nil {
		low, high = at[low], at[high]
	}
	return s.cut(low, high), low, nil
}

func affixMethod(has func(s, affix string) bool) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(ev *evaluator, v Value, args []Value) (Value, error) {
		s, from, err := ev.window(v.(String), args[1], args[2])
		if err != nil || from < 0 {
			return Bool(false), err
		}
		candidates := []Value{args[0]}
		if l, ok := args[0].(*List); ok && l.tuple {
			candidates = l.items
		}
		for _, c := range candidates {
			affix, err := textArg(c, "what a text starts or ends with")
			if err != nil {
				return nil, err
			}
			if has(s.text, affix.text) {
				return Bool(true), nil
			}
		}
		return Bool(false), nil
	}
}

func findMethod(index func(s, sub string) int, must bool) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(ev *evaluator, v Value, args []Value) (Value, error) {
		sub, err := textArg(args[0], "what to find")
		if err != nil {
			return nil, err
		}
		s := v.(String)
		part, from, err := ev.window(s, args[1], args[2])
		if err != nil {
			return nil, err
		}
		n := index(part.text, sub.text)
		if n < 0 || from < 0 {
			if must {
				return nil, fail("substring not found")
			}
			return NewInt(-1), nil
		}
		return NewInt(int64(s.cut(0, from+n).length())), nil
	}
}

func countMethod(ev *evaluator, v Value, args []Value) (Value, error) {
	sub, err := textArg(args[0], "what to count")
	if err != nil {
		return nil, err
	}
	part, from, err := ev.window(v.(String), args[1], args[2])
	if err != nil || from < 0 {
		return NewInt(0), err
	}
	return NewInt(int64(strings.Count(part.text, sub.text))), nil
}

func replaceMethod(ev *evaluator, v Value, args []Value) (Value, error) {
	for _, a := range args[:2] {
		if _, err := textArg(a, "what to replace, and with what,"); err != nil {
			return nil, err
		}
	}
	return replaceFilter(ev, v, args)
}

func joinMethod(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(args[0])
	if err != nil {
		return nil, err
	}
	for i, item := range list {
		if !is[String](item) {
			return nil, fail("sequence item %d: expected str instance, %s found", i, typeOf(item))
		}
	}
	return joinFilter(ev, &List{items: list}, []Value{v, nil})
}

func removeMethod(prefix bool) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(_ *evaluator, v Value, args []Value) (Value, error) {
		s := v.(String)
		affix, err := textArg(args[0], "what to remove")
		switch {
		case err != nil:
			return nil, err
		case prefix && strings.HasPrefix(s.text, affix.text):
			return s.cut(len(affix.text), len(s.text)), nil
		case !prefix && strings.HasSuffix(s.text, affix.text):
			return s.cut(0, len(s.text)-len(affix.text)), nil
		}
		return s, nil
	}
}

func partitionMethod(index func(s, sub string) int, last bool) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(_ *evaluator, v Value, args []Value) (Value, error) {
		s := v.(String)
		sep, err := textArg(args[0], "the separator")
		if err != nil {
			return nil, err
		}
		if sep.text == "" {
			return nil, fail("empty separator")
		}
		n := index(s.text, sep.text)
		switch {
		case n >= 0:
			end := n + len(sep.text)
			return newTuple(s.cut(0, n), s.cut(n, end), s.cut(end, len(s.text))), nil
		case last:
			return newTuple(trusted(""), trusted(""), s), nil
		}
		return newTuple(s, trusted(""), trusted("")), nil
	}
}

// splitMethod makes split and rsplit.
func splitMethod(fromRight bool) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(ev *evaluator, v Value, args []Value) (Value, error) {
		s := v.(String)
		limit, err := intArg(args[1], -1, "maxsplit")
		if err != nil {
			return nil, err
		}
		if limit < 0 {
			limit = len(s.text) + 1
		}
		var parts []Value
		if args[0] == nil || is[Null](args[0]) {
			parts = splitSpace(s, limit, fromRight)
		} else {
			sep, err := textArg(args[0], "the separator")
			if err != nil {
				return nil, err
			}
			if sep.text == "" {
				return nil, fail("empty separator")
			}
			parts = splitAt(s, sep.text, limit, fromRight)
		}
		return &List{items: parts}, ev.spend(len(parts))
	}
}

// splitAt splits at a separator, at most limit times.
func splitAt(s String, sep string, limit int, fromRight bool) []Value {
	var parts []Value
	from, to := 0, len(s.text)
	for ; limit > 0; limit-- {
		if fromRight {
			n := strings.LastIndex(s.text[:to], sep)
			if n < 0 {
				break
			}
			parts = append(parts, s.cut(n+len(sep), to))
			to = n
			continue
		}
		n := strings.Index(s.text[from:], sep)
		if n < 0 {
			break
		}
		parts = append(parts, s.cut(from, from+n))
		from += n + len(sep)
	}
	parts = append(parts, s.cut(from, to))
	if fromRight {
		reverse(parts)
	}
	return parts
}

// splitSpace splits at runs of white space, at most limit times; there are no
// empty parts.
func splitSpace(s String, limit int, fromRight bool) []Value {
	var parts []Value
	from, to := 0, len(s.text)
	for {
		rest := s.text[from:to]
		if fromRight {
			to = from + len(strings.TrimRightFunc(rest, isSpace))
		} else {
			from = to - len(strings.TrimLeftFunc(rest, isSpace))
		}
		if from == to {
			break
		}
		if limit == 0 {
			parts = append(parts, s.cut(from, to))
			break
		}
		limit--
		if fromRight {
			start := from
			if n := strings.LastIndexFunc(s.text[from:to], isSpace); n >= 0 {
				_, width := utf8.DecodeRuneInString(s.text[from+n:])
				start = from + n + width
			}
			parts = append(parts, s.cut(start, to))
			to = start
			continue
		}
		n := strings.IndexFunc(s.text[from:to], isSpace)
		if n < 0 {
			n = to - from
		}
		parts = append(parts, s.cut(from, from+n))
		from += n
	}
	if fromRight {
		reverse(parts)
	}
	return parts
}

func reverse(list []Value) {
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
}

func splitLinesMethod(ev *evaluator, v Value, args []Value) (Value, error) {
	l := &List{}
	for _, line := range splitLines(v.(String), flag(args[0], false)) {
		l.items = append(l.items, line)
	}
	return l, ev.spend(len(l.items))
}

// splitLines splits at Python's line breaks, of which a last one begins no
// line.
func splitLines(s String, keep bool) []String {
	var lines []String
	from := 0
	for from < len(s.text) {
		end := strings.IndexFunc(s.text[from:], isLineBreak)
		if end < 0 {
			lines = append(lines, s.cut(from, len(s.text)))
			break
		}
		end += from
		next := end + len("\n")
		switch {
		case strings.HasPrefix(s.text[end:], "\r\n"):
			next = end + 2
		case s.text[end] == 0xc2: // U+0085
			next = end + 2
		case s.text[end] == 0xe2: // U+2028, U+2029
			next = end + 3
		}
		if keep {
			lines = append(lines, s.cut(from, next))
		} else {
			lines = append(lines, s.cut(from, end))
		}
		from = next
	}
	return lines
}

func isLineBreak(r rune) bool {
	return '\n' <= r && r <= '\r' || 0x1c <= r && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

func isAlphaNumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }

func allCharacters(in func(rune) bool) *builtin {
	return takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
		text := v.(String).text
		return Bool(text != "" && strings.IndexFunc(text, func(r rune) bool { return !in(r) }) < 0), nil
	})
}

func swapCase(s String) String {
	return s.mapRuns(func(text string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, text)
	})
}

// titleMethod is str.title: every run of letters begins upper case.
func titleMethod(s String) String {
	inWord := false
	return s.mapRuns(func(text string) string {
		return strings.Map(func(r rune) rune {
			first := !inWord
			inWord = unicode.IsLetter(r)
			if first {
				return unicode.ToTitle(r)
			}
			return unicode.ToLower(r)
		}, text)
	})
}

func justifyMethod(how string) *builtin {
	return takes("width fillchar?", func(ev *evaluator, v Value, args []Value) (Value, error) {
		width, err := intArg(args[0], 0, "the width")
		if err != nil {
			return nil, err
		}
		fill := trusted(" ")
		if args[1] != nil {
			if fill, err = textArg(args[1], "the fill character"); err != nil {
				return nil, err
			}
		}
		if fill.length() != 1 {
			return nil, fail("The fill character must be exactly one character long")
		}
		return ev.justify(v.(String), width, fill, how)
	})
}

func zfillMethod(ev *evaluator, v Value, args []Value) (Value, error) {
	s := v.(String)
	width, err := intArg(args[0], 0, "the width")
	if err != nil {
		return nil, err
	}
	sign := 0
	if strings.HasPrefix(s.text, "-") || strings.HasPrefix(s.text, "+") {
		sign = 1
	}
	digits, err := ev.justify(s.cut(sign, len(s.text)), max(0, width)-sign, trusted("0"), "rjust")
	if err != nil {
		return nil, err
	}
	b := ev.builder()
	b.add(s.cut(0, sign))
	b.add(digits.(String))
	return b.finish()
}

func listCount(ev *evaluator, v Value, args []Value) (Value, error) {
	n := int64(0)
	for _, item := range v.(*List).items {
		same, err := ev.equal(item, args[0], 0)
		if err != nil {
			return nil, err
		}
		if same {
			n++
		}
	}
	return NewInt(n), nil
}

func listIndex(ev *evaluator, v Value, args []Value) (Value, error) {
	for i, item := range v.(*List).items {
		same, err := ev.equal(item, args[0], 0)
		if err != nil {
			return nil, err
		}
		if same {
			return NewInt(int64(i)), nil
		}
	}
	return nil, fail("the value is not in the list")
}
