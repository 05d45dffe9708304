package chat

import (
	"fmt"
	"strconv"
	"strings"
)

// percent is Python's text % values with %s, %r, %d, %i, %f, %x, %c and %%.
func (ev *evaluator) percent(format String, values Value) (Value, error) {
	list := []Value{values}
	if l, ok := values.(*List); ok && l.tuple {
		list = l.items
	}
	b := ev.builder()
	used := 0
	at := 0
	for {
		n := strings.IndexByte(format.text[at:], '%')
		if n < 0 {
			break
		}
		b.add(format.cut(at, at+n))
		at += n
		end := at + 1
		for end < len(format.text) && strings.IndexByte("-+ #0123456789.", format.text[end]) >= 0 {
			end++
		}
		if end == len(format.text) {
			return nil, fail("incomplete format")
		}
		verb, flags := format.text[end], format.text[at+1:end]
		at = end + 1
		if verb == '%' && flags == "" {
			b.write("%", false)
			continue
		}
		if used == len(list) {
			return nil, fail("not enough arguments for format string")
		}
		if err := ev.formatOne(b, verb, flags, list[used]); err != nil {
			return nil, err
		}
		used++
	}
	if _, isMap := values.(*Map); used < len(list) && !isMap {
		return nil, fail("not all arguments converted during string formatting")
	}
	b.add(format.cut(at, len(format.text)))
	return b.finish()
}

func (ev *evaluator) formatOne(b *builder, verb byte, flags string, v Value) error {
	if strings.Trim(flags, "-+ #0123456789.") != "" || len(flags) > 8 || digitsOver(flags, 1000) {
		return fail("the format %%%s%c is not supported", flags, verb)
	}
	switch verb {
	case 's', 'r':
		if flags != "" {
			return fail("the format %%%s%c is not supported", flags, verb)
		}
		if verb == 'r' {
			return writeRepr(b, v, 0)
		}
		return writeText(b, v)
	case 'd', 'i', 'x':
		i, f, isInt, ok := number(v)
		if ok && !isInt && verb != 'x' {
			i, isInt = intFromFloat(float64(int64(f)))
		}
		if !isInt {
			return fail("%%%c format: a number is required, not %s", verb, typeOf(v))
		}
		if verb == 'i' {
			verb = 'd'
		}
		b.write(fmt.Sprintf("%"+flags+string(verb), i.bigInt()), false)
		return b.err
	case 'f', 'e', 'g':
		i, f, isInt, ok := number(v)
		if !ok {
			return fail("must be real number, not %s", typeOf(v))
		}
		if isInt {
			f = i.float()
		}
		b.write(fmt.Sprintf("%"+flags+string(verb), f), false)
		return b.err
	}
	return fail("the format %%%s%c is not supported", flags, verb)
}

// digitsOver says whether a number in flags is over a limit.
func digitsOver(flags string, limit int) bool {
	for _, part := range strings.FieldsFunc(flags, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(part); err != nil || n > limit {
			return true
		}
	}
	return false
}

// formatFilter is "..."|format(a, b).
func formatFilter(ev *evaluator, v Value, args arguments) (Value, error) {
	s, err := ev.toText(v)
	if err != nil {
		return nil, err
	}
	if len(args.named) > 0 {
		return nil, fail("format with named arguments is not supported")
	}
	return ev.percent(s, newTuple(args.positional...))
}

// formatMethod is "{} {0} {name}".format(...), without format specifications.
func formatMethod(ev *evaluator, v Value, args arguments) (Value, error) {
	s := v.(String)
	b := ev.builder()
	at, next := 0, 0
	for at < len(s.text) {
		n := strings.IndexAny(s.text[at:], "{}")
		if n < 0 {
			break
		}
		b.add(s.cut(at, at+n))
		at += n
		if at+1 < len(s.text) && s.text[at+1] == s.text[at] { // {{ and }}
			b.add(s.cut(at, at+1))
			at += 2
			continue
		}
		n = strings.IndexByte(s.text[at:], '}')
		if n < 1 {
			return nil, fail("a single brace in a format string")
		}
		field := s.text[at+1 : at+n]
		at += n + 1
		value, err := formatField(field, &next, args)
		if err != nil {
			return nil, err
		}
		if err := writeText(b, value); err != nil {
			return nil, err
		}
	}
	b.add(s.cut(at, len(s.text)))
	return b.finish()
}

// formatField finds the value of {}, {0} or {name}.
func formatField(field string, next *int, args arguments) (Value, error) {
	if strings.ContainsAny(field, "!:.[{") {
		return nil, fail("the format field {%s} is not supported", field)
	}
	index := *next
	if field == "" {
		*next++
	} else if n, err := strconv.Atoi(field); err == nil {
		index = n
	} else {
		if v, ok := args.take(field); ok {
			return v, nil
		}
		return nil, fail("no value for the format field {%s}", field)
	}
	if index < 0 || index >= len(args.positional) {
		return nil, fail("no value for the format field {%s}", field)
	}
	return args.positional[index], nil
}
