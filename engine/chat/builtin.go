package chat

import (
	"strings"
)

// arguments are the values a filter, test, method, function or macro is given.
type arguments struct {
	positional []Value
	named      []namedValue
}

type namedValue struct {
	name  string
	value Value
	taken bool
}

// take gives the named argument and marks it as used.
func (a *arguments) take(name string) (Value, bool) {
	for i := range a.named {
		if a.named[i].name == name && !a.named[i].taken {
			a.named[i].taken = true
			return a.named[i].value, true
		}
	}
	return nil, false
}

// arguments evaluates the arguments of a call.
func (ev *evaluator) arguments(x callArgs) (arguments, error) {
	var args arguments
	for _, p := range x.positional {
		v, err := ev.eval(p)
		if err != nil {
			return args, err
		}
		args.positional = append(args.positional, v)
	}
	for _, n := range x.named {
		v, err := ev.eval(n.x)
		if err != nil {
			return args, err
		}
		args.named = append(args.named, namedValue{name: n.name, value: v})
	}
	if x.list != nil {
		v, err := ev.eval(x.list)
		if err != nil {
			return args, err
		}
		list, err := ev.iterate(v)
		if err != nil {
			return args, err
		}
		args.positional = append(args.positional, list...)
	}
	if x.dict != nil {
		v, err := ev.eval(x.dict)
		if err != nil {
			return args, err
		}
		m, ok := v.(*Map)
		if !ok {
			return args, fail("argument after ** must be a mapping, not %s", typeOf(v))
		}
		for _, e := range m.entries {
			args.named = append(args.named, namedValue{name: e.id.text, value: e.value})
		}
	}
	return args, nil
}

// builtin is a filter, test or method. Its parameters are named in order;
// "name?" may be left out. run gets nil for those. raw, if set, gets the
// arguments as they came.
type builtin struct {
	params []string
	run    func(ev *evaluator, self Value, args []Value) (Value, error)
	raw    func(ev *evaluator, self Value, args arguments) (Value, error)
}

// takes makes a builtin with parameters written as "width first? blank?".
func takes(params string, run func(ev *evaluator, self Value, args []Value) (Value, error)) *builtin {
	return &builtin{params: strings.Fields(params), run: run}
}

// call checks the arguments and counts the work on texts and lists.
func (f *builtin) call(ev *evaluator, what string, self Value, args arguments) (Value, error) {
	if err := ev.spend(size(self)); err != nil {
		return nil, err
	}
	if f.raw != nil {
		return f.raw(ev, self, args)
	}
	if len(args.positional) > len(f.params) {
		return nil, fail("%s takes at most %d arguments, not %d", what, len(f.params), len(args.positional))
	}
	values := make([]Value, len(f.params))
	copy(values, args.positional)
	for i, param := range f.params {
		name, optional := strings.CutSuffix(param, "?")
		if v, ok := args.take(name); ok {
			if i < len(args.positional) {
				return nil, fail("%s was given '%s' twice", what, name)
			}
			values[i] = v
		} else if i >= len(args.positional) && !optional {
			return nil, fail("%s needs the argument '%s'", what, name)
		}
	}
	for _, n := range args.named {
		if !n.taken {
			return nil, fail("%s has no argument '%s'", what, n.name)
		}
	}
	return f.run(ev, self, values)
}

// size is the work of going over a value once, in steps.
func size(v Value) int {
	switch v := v.(type) {
	case String:
		return len(v.text) / stepBytes
	case *List:
		return len(v.items) / 4
	case *Map:
		return len(v.entries) / 4
	}
	return 0
}

// textArg is an argument that must be a string.
func textArg(v Value, what string) (String, error) {
	s, ok := v.(String)
	if !ok {
		return String{}, fail("%s must be a string, not %s", what, typeOf(v))
	}
	return s, nil
}

// intArg is an optional integer argument.
func intArg(v Value, otherwise int, what string) (int, error) {
	if v == nil {
		return otherwise, nil
	}
	i, _, isInt, _ := number(v)
	if !isInt {
		return 0, fail("%s must be an integer, not %s", what, typeOf(v))
	}
	return i.index(), nil
}

// flag is an optional boolean argument.
func flag(v Value, otherwise bool) bool {
	if v == nil {
		return otherwise
	}
	return truth(v)
}
