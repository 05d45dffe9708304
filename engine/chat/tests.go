package chat

import (
	"strings"
	"unicode"
)

// tests are what may follow `is`. Filled by init: select and reject look
// tests up while they run.
var tests map[string]*builtin

func init() {
	kind := func(is func(v Value) bool) *builtin {
		return takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) { return Bool(is(v)), nil })
	}
	ordered := func(op string) *builtin {
		return takes("other", func(ev *evaluator, v Value, args []Value) (Value, error) {
			holds, err := ev.compare(op, v, args[0])
			return Bool(holds), err
		})
	}
	tests = map[string]*builtin{
		"defined":   kind(func(v Value) bool { return !isUndefined(v) }),
		"undefined": kind(isUndefined),
		"none":      kind(is[Null]),
		"boolean":   kind(is[Bool]),
		"true":      kind(func(v Value) bool { return v == Bool(true) }),
		"false":     kind(func(v Value) bool { return v == Bool(false) }),
		"integer":   kind(is[Int]),
		"float":     kind(is[Float]),
		"number":    kind(func(v Value) bool { return is[Int](v) || is[Float](v) || is[Bool](v) }),
		"string":    kind(is[String]),
		"mapping":   kind(is[*Map]),
		"sequence":  kind(func(v Value) bool { _, ok := items(v); return ok }),
		"iterable":  kind(func(v Value) bool { _, ok := items(v); return ok || is[*loopState](v) }),
		"callable":  kind(is[*function]),
		"escaped":   kind(func(v Value) bool { s, ok := v.(String); return ok && s.markup }),
		"lower":     takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) { return isCase(v, unicode.IsUpper) }),
		"upper":     takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) { return isCase(v, unicode.IsLower) }),
		"odd":       takes("", func(ev *evaluator, v Value, _ []Value) (Value, error) { return isRemainder(ev, v, NewInt(2), 1) }),
		"even":      takes("", func(ev *evaluator, v Value, _ []Value) (Value, error) { return isRemainder(ev, v, NewInt(2), 0) }),
		"divisibleby": takes("num", func(ev *evaluator, v Value, args []Value) (Value, error) {
			return isRemainder(ev, v, args[0], 0)
		}),
		"in": takes("seq", func(ev *evaluator, v Value, args []Value) (Value, error) {
			in, err := ev.contains(args[0], v)
			return Bool(in), err
		}),
		"sameas": takes("other", sameAs),
		"filter": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			s, _ := v.(String)
			_, ok := filters[s.text]
			return Bool(ok), nil
		}),
		"test": takes("", func(_ *evaluator, v Value, _ []Value) (Value, error) {
			s, _ := v.(String)
			_, ok := tests[s.text]
			return Bool(ok), nil
		}),
	}
	for op, names := range map[string][]string{
		"==": {"eq", "equalto"}, "!=": {"ne"}, "<": {"lt", "lessthan"}, "<=": {"le"},
		">": {"gt", "greaterthan"}, ">=": {"ge"},
	} {
		for _, name := range names {
			tests[name] = ordered(op)
		}
	}
}

// is says whether v is a T.
func is[T Value](v Value) bool {
	_, ok := v.(T)
	return ok
}

// isCase is Python's islower or isupper: some cased letter, none of the other
// case.
func isCase(v Value, other func(rune) bool) (Value, error) {
	var b builder
	if err := writeText(&b, v); err != nil {
		return nil, err
	}
	text := b.buf.String()
	cased := strings.IndexFunc(text, func(r rune) bool { return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) })
	return Bool(cased >= 0 && strings.IndexFunc(text, func(r rune) bool { return other(r) || unicode.IsTitle(r) }) < 0), nil
}

func isRemainder(ev *evaluator, v, by Value, want int64) (Value, error) {
	r, err := ev.binary("%", v, by)
	if err != nil {
		return nil, err
	}
	same, err := ev.equal(r, NewInt(want), 0)
	return Bool(same), err
}

// sameAs is Python's `is`, which for plain values means the same type and value.
func sameAs(_ *evaluator, v Value, args []Value) (Value, error) {
	switch a := v.(type) {
	case String:
		b, ok := args[0].(String)
		return Bool(ok && a.text == b.text), nil
	case Int:
		b, ok := args[0].(Int)
		return Bool(ok && a.cmp(b) == 0), nil
	case *undefined, nil:
		return Bool(false), nil
	}
	return Bool(v == args[0]), nil // comparing interfaces: the other kinds are comparable
}
