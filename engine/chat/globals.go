package chat

import (
	"fmt"
	"strings"
	"time"
)

// loopState is the variable `loop` inside a for block.
type loopState struct {
	list    []Value
	at      int
	changed Value
}

func (*loopState) typeName() string { return "LoopContext" }

// attribute is loop.name, or nil if there is none.
func (l *loopState) attribute(name string) Value {
	n := len(l.list)
	switch name {
	case "index":
		return NewInt(int64(l.at + 1))
	case "index0":
		return NewInt(int64(l.at))
	case "revindex":
		return NewInt(int64(n - l.at))
	case "revindex0":
		return NewInt(int64(n - l.at - 1))
	case "first":
		return Bool(l.at == 0)
	case "last":
		return Bool(l.at == n-1)
	case "length":
		return NewInt(int64(n))
	case "depth": // counts only recursive loops
		return NewInt(1)
	case "depth0":
		return NewInt(0)
	case "previtem":
		if l.at == 0 {
			return &undefined{"there is no previous item"}
		}
		return l.list[l.at-1]
	case "nextitem":
		if l.at == n-1 {
			return &undefined{"there is no next item"}
		}
		return l.list[l.at+1]
	case "cycle":
		return &function{"cycle", func(_ *evaluator, args arguments) (Value, error) {
			if len(args.positional) == 0 {
				return nil, fail("no items for cycling given")
			}
			return args.positional[l.at%len(args.positional)], nil
		}}
	case "changed":
		return &function{"changed", func(ev *evaluator, args arguments) (Value, error) {
			now := newTuple(args.positional...)
			same, err := ev.equal(now, l.changed, 0)
			if err == nil && !same {
				l.changed = now
			}
			return Bool(!same), err
		}}
	}
	return nil
}

// globals are the functions every template can call.
func globals() map[string]Value {
	return map[string]Value{
		"range":           &function{"range", rangeFunction},
		"namespace":       &function{"namespace", namespaceFunction},
		"dict":            &function{"dict", dictFunction},
		"raise_exception": &function{"raise_exception", raiseException},
		"strftime_now":    &function{"strftime_now", strftimeNow},
	}
}

func raiseException(_ *evaluator, args arguments) (Value, error) {
	var b builder
	if len(args.positional) > 0 {
		if err := writeText(&b, args.positional[0]); err != nil {
			return nil, err
		}
	}
	return nil, &Error{Kind: Raised, Message: b.buf.String()}
}

func rangeFunction(ev *evaluator, args arguments) (Value, error) {
	var bound [3]int
	for i, v := range args.positional {
		n, err := intArg(v, 0, "an argument of range")
		if err != nil {
			return nil, err
		}
		if i > 2 || n > 1<<40 || n < -1<<40 {
			return nil, fail("range takes at most 3 arguments below 2**40")
		}
		bound[i] = n
	}
	start, stop, step := bound[0], bound[1], bound[2]
	switch len(args.positional) {
	case 0:
		return nil, fail("range needs an argument")
	case 1:
		start, stop, step = 0, bound[0], 1
	case 2:
		step = 1
	}
	if step == 0 {
		return nil, fail("range() arg 3 must not be zero")
	}
	n := max(0, (stop-start+step-step/max(step, -step))/step)
	if n > maxRange {
		return nil, fail("range of more than %d items", maxRange)
	}
	l := &List{items: make([]Value, n)}
	for i := range l.items {
		l.items[i] = NewInt(int64(start + i*step))
	}
	return l, ev.spend(n)
}

// dictOf is Python's dict(mapping or pairs, **named).
func dictOf(ev *evaluator, args arguments) (*Map, error) {
	m := &Map{}
	if len(args.positional) > 1 {
		return nil, fail("dict takes at most one positional argument")
	}
	for _, v := range args.positional {
		if from, ok := v.(*Map); ok {
			m = from.clone()
			m.data = false
			continue
		}
		list, err := ev.iterate(v)
		if err != nil {
			return nil, err
		}
		for _, v := range list {
			pair, ok := v.(*List)
			if !ok || len(pair.items) != 2 {
				return nil, fail("dict needs pairs")
			}
			id, ok := keyOf(pair.items[0])
			if !ok {
				return nil, fail("a %s cannot be a key", typeOf(pair.items[0]))
			}
			m.put(id, pair.items[0], pair.items[1])
		}
	}
	for _, n := range args.named {
		m.put(mapKey{text: n.name}, trusted(n.name), n.value)
	}
	return m, ev.spend(len(m.entries))
}

func dictFunction(ev *evaluator, args arguments) (Value, error) {
	m, err := dictOf(ev, args)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func namespaceFunction(ev *evaluator, args arguments) (Value, error) {
	m, err := dictOf(ev, args)
	if err != nil {
		return nil, err
	}
	for _, e := range m.entries {
		if strings.HasPrefix(e.id.text, "_") {
			return nil, fail("a namespace cannot hold '%s': names must not begin with '_'", e.id.text)
		}
	}
	return &namespace{m}, nil
}

func strftimeNow(ev *evaluator, args arguments) (Value, error) {
	if len(args.positional) != 1 {
		return nil, fail("strftime_now needs a format")
	}
	format, err := textArg(args.positional[0], "the format of strftime_now")
	if err != nil {
		return nil, err
	}
	text, err := strftime(ev.now(), format.text)
	if err != nil {
		return nil, err
	}
	s, _ := format.with(text)
	return s, ev.spendText(len(text))
}

// strftimeLayouts are Go's layouts for C's directives, in the C locale.
var strftimeLayouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006",
	'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'h': "Jan", 'H': "15", 'I': "03",
	'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'R': "15:04", 'S': "05", 'T': "15:04:05",
	'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006",
}

func strftime(t time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		unpadded := format[i] == '-' && i+1 < len(format) // glibc's %-d
		if unpadded {
			i++
		}
		text := ""
		switch c := format[i]; c {
		case '%':
			text = "%"
		case 'n':
			text = "\n"
		case 't':
			text = "\t"
		case 'f':
			text = fmt.Sprintf("%06d", t.Nanosecond()/1000)
		case 's':
			text = fmt.Sprint(t.Unix())
		case 'u':
			text = fmt.Sprint((int(t.Weekday())+6)%7 + 1)
		case 'w':
			text = fmt.Sprint(int(t.Weekday()))
		case 'z', 'Z': // Python's datetime.now() knows no zone
		default:
			layout, ok := strftimeLayouts[c]
			if !ok {
				return "", fail("the directive %%%c of strftime_now is not supported", c)
			}
			text = t.Format(layout)
		}
		if unpadded {
			if text = strings.TrimLeft(text, "0 "); text == "" {
				text = "0"
			}
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
