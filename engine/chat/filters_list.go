package chat

import (
	"sort"
	"strings"
)

func addListFilters() {
	for name, f := range map[string]*builtin{
		"batch":      takes("linecount fill_with?", batchFilter),
		"dictsort":   takes("case_sensitive? by? reverse?", dictsortFilter),
		"first":      takes("", firstFilter),
		"groupby":    takes("attribute default? case_sensitive?", groupbyFilter),
		"items":      takes("", itemsFilter),
		"join":       takes("d? attribute?", joinFilter),
		"last":       takes("", lastFilter),
		"length":     takes("", lengthFilter),
		"list":       takes("", listFilter),
		"map":        {raw: mapFilter},
		"max":        takes("case_sensitive? attribute?", extremeFilter(1)),
		"min":        takes("case_sensitive? attribute?", extremeFilter(-1)),
		"reject":     {raw: selection(false, false)},
		"rejectattr": {raw: selection(false, true)},
		"reverse":    takes("", reverseFilter),
		"select":     {raw: selection(true, false)},
		"selectattr": {raw: selection(true, true)},
		"sort":       takes("reverse? case_sensitive? attribute?", sortFilter),
		"sum":        takes("attribute? start?", sumFilter),
		"unique":     takes("case_sensitive? attribute?", uniqueFilter),
	} {
		filters[name] = f
	}
}

func lengthFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	switch v := v.(type) {
	case String:
		return NewInt(int64(v.length())), ev.spendText(len(v.text))
	case *List:
		return NewInt(int64(len(v.items))), nil
	case *Map:
		return NewInt(int64(len(v.entries))), nil
	case nil, *undefined:
		return NewInt(0), nil
	case *loopState:
		return NewInt(int64(len(v.list))), nil
	}
	return nil, fail("object of type '%s' has no len()", v.typeName())
}

func listFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	list, err := ev.iterate(v)
	return &List{items: list}, err
}

func firstFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return &undefined{"no first item, sequence was empty"}, nil
	}
	return list[0], nil
}

func lastFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return &undefined{"no last item, sequence was empty"}, nil
	}
	return list[len(list)-1], nil
}

func reverseFilter(ev *evaluator, v Value, _ []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	if _, ok := v.(String); ok {
		b := ev.builder()
		for i := len(list) - 1; i >= 0; i-- {
			if err := writeText(b, list[i]); err != nil {
				return nil, err
			}
		}
		return b.finish()
	}
	back := &List{items: make([]Value, len(list))}
	for i, item := range list {
		back.items[len(list)-1-i] = item
	}
	return back, nil
}

func itemsFilter(_ *evaluator, v Value, _ []Value) (Value, error) {
	switch v := v.(type) {
	case nil, *undefined:
		return &List{}, nil
	case *Map:
		return pairs(v.entries), nil
	}
	return nil, fail("Can only get item pairs from a mapping.")
}

// pairs lists entries as (key, value) tuples.
func pairs(entries []mapEntry) *List {
	l := &List{items: make([]Value, len(entries))}
	for i, e := range entries {
		l.items[i] = newTuple(e.key, e.value)
	}
	return l
}

func joinFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	if list, err = ev.attributes(list, args[1]); err != nil {
		return nil, err
	}
	between, err := ev.toText(args[0])
	if err != nil {
		return nil, err
	}
	b := ev.builder()
	for i, item := range list {
		if i > 0 {
			b.add(between)
		}
		if err := writeText(b, item); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

// path gets item.a.0.b for the attribute "a.0.b".
func (ev *evaluator) path(item, attribute Value) (Value, error) {
	if s, ok := attribute.(String); ok {
		for _, part := range strings.Split(s.text, ".") {
			var key Value = trusted(part)
			if n, ok := parseInt(part); ok && part[0] != '-' && part[0] != '+' {
				key = n
			}
			var err error
			if item, err = ev.item(item, key); err != nil {
				return nil, err
			}
		}
		return item, nil
	}
	return ev.item(item, attribute)
}

// attributes gets an attribute of every item, or the items for a nil one.
func (ev *evaluator) attributes(list []Value, attribute Value) ([]Value, error) {
	if attribute == nil || is[Null](attribute) {
		return list, nil
	}
	found := make([]Value, len(list))
	for i, item := range list {
		var err error
		if found[i], err = ev.path(item, attribute); err != nil {
			return nil, err
		}
	}
	return found, ev.spend(len(list))
}

func mapFilter(ev *evaluator, v Value, args arguments) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	out := &List{items: make([]Value, len(list))}
	if attribute, ok := args.take("attribute"); ok {
		otherwise, _ := args.take("default")
		if out.items, err = ev.attributes(list, attribute); err != nil {
			return nil, err
		}
		if otherwise != nil {
			for i, item := range out.items {
				if isUndefined(item) {
					out.items[i] = otherwise
				}
			}
		}
		return out, nil
	}
	if len(args.positional) == 0 {
		return nil, fail("map needs a filter or an attribute")
	}
	f, err := lookup(filters, args.positional[0], "filter")
	if err != nil {
		return nil, err
	}
	for i, item := range list {
		out.items[i], err = f.call(ev, "filter in map", item, args.rest(1))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rest are the arguments after the first n, to be taken anew.
func (a arguments) rest(n int) arguments {
	return arguments{a.positional[n:], append([]namedValue(nil), a.named...)}
}

func lookup(table map[string]*builtin, name Value, what string) (*builtin, error) {
	s, err := textArg(name, "the name of a "+what)
	if err != nil {
		return nil, err
	}
	f, ok := table[s.text]
	if !ok {
		return nil, fail("the %s '%s' is not supported", what, s.text)
	}
	return f, nil
}

// selection makes select, reject, selectattr and rejectattr.
func selection(keep, byAttribute bool) func(ev *evaluator, v Value, args arguments) (Value, error) {
	return func(ev *evaluator, v Value, args arguments) (Value, error) {
		list, err := ev.iterate(v)
		if err != nil {
			return nil, err
		}
		subjects := list
		if byAttribute {
			if len(args.positional) == 0 {
				return nil, fail("selectattr and rejectattr need an attribute")
			}
			if subjects, err = ev.attributes(list, args.positional[0]); err != nil {
				return nil, err
			}
			args = args.rest(1)
		}
		var test *builtin
		if len(args.positional) > 0 {
			if test, err = lookup(tests, args.positional[0], "test"); err != nil {
				return nil, err
			}
		}
		out := &List{}
		for i, subject := range subjects {
			result := subject
			if test != nil {
				if result, err = test.call(ev, "test in a selection", subject, args.rest(1)); err != nil {
					return nil, err
				}
			}
			if truth(result) == keep {
				out.items = append(out.items, list[i])
			}
		}
		return out, nil
	}
}

// folded are the keys to sort by: strings without case unless asked for.
func folded(list []Value, caseSensitive Value) []Value {
	if flag(caseSensitive, false) {
		return list
	}
	keys := make([]Value, len(list))
	for i, v := range list {
		if s, ok := v.(String); ok {
			v = lower(s)
		}
		keys[i] = v
	}
	return keys
}

// sorter sorts items by keys, and stops comparing at the first error.
type sorter struct {
	ev          *evaluator
	keys, items []Value
	reverse     bool
	err         error
}

func (s *sorter) Len() int { return len(s.items) }
func (s *sorter) Swap(i, j int) {
	s.keys[i], s.keys[j] = s.keys[j], s.keys[i]
	s.items[i], s.items[j] = s.items[j], s.items[i]
}
func (s *sorter) Less(i, j int) bool {
	if s.err != nil {
		return false
	}
	c, ordered, err := s.ev.order(s.keys[i], s.keys[j], 0)
	s.err = err
	return ordered && (c < 0 && !s.reverse || c > 0 && s.reverse)
}

// sorted orders a copy of list by its keys.
func (ev *evaluator) sorted(list, keys []Value, reverse bool) (*List, error) {
	s := &sorter{
		ev: ev, reverse: reverse,
		keys: append([]Value(nil), keys...), items: append([]Value(nil), list...),
	}
	sort.Stable(s)
	return &List{items: s.items}, s.err
}

func sortFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	var keys []Value
	if s, ok := args[2].(String); ok && strings.Contains(s.text, ",") {
		keys, err = ev.compoundKeys(list, strings.Split(s.text, ","), args[1])
	} else if keys, err = ev.attributes(list, args[2]); err == nil {
		keys = folded(keys, args[1])
	}
	if err != nil {
		return nil, err
	}
	return ev.sorted(list, keys, flag(args[0], false))
}

// compoundKeys are the keys of a sort by several attributes.
func (ev *evaluator) compoundKeys(list []Value, attributes []string, caseSensitive Value) ([]Value, error) {
	keys := make([]Value, len(list))
	for i, item := range list {
		parts := make([]Value, len(attributes))
		for k, a := range attributes {
			var err error
			if parts[k], err = ev.path(item, trusted(a)); err != nil {
				return nil, err
			}
		}
		keys[i] = &List{items: folded(parts, caseSensitive)}
	}
	return keys, ev.spend(len(list) * len(attributes))
}

func dictsortFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	m, ok := v.(*Map)
	if !ok {
		return nil, fail("dictsort needs a mapping, not %s", typeOf(v))
	}
	by := "key"
	if s, ok := args[1].(String); ok {
		by = s.text
	}
	if by != "key" && by != "value" {
		return nil, fail(`You can only sort by either "key" or "value"`)
	}
	keys := make([]Value, len(m.entries))
	for i, e := range m.entries {
		keys[i] = e.key
		if by == "value" {
			keys[i] = e.value
		}
	}
	return ev.sorted(pairs(m.entries).items, folded(keys, args[0]), flag(args[2], false))
}

// sortedByKey orders entries as json.dumps(sort_keys=True) does for strings.
func sortedByKey(entries []mapEntry) []mapEntry {
	entries = append([]mapEntry(nil), entries...)
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].id.text < entries[j].id.text })
	return entries
}

func uniqueFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	keys, err := ev.attributes(list, args[1])
	if err != nil {
		return nil, err
	}
	out := &List{}
	seen := map[mapKey]bool{}
	for i, key := range folded(keys, args[0]) {
		id, ok := keyOf(key)
		if !ok {
			return nil, fail("unhashable type: '%s'", typeOf(key))
		}
		if !seen[id] {
			seen[id] = true
			out.items = append(out.items, list[i])
		}
	}
	return out, nil
}

// extremeFilter makes max (sign 1) and min (sign -1).
func extremeFilter(sign int) func(ev *evaluator, v Value, args []Value) (Value, error) {
	return func(ev *evaluator, v Value, args []Value) (Value, error) {
		list, err := ev.iterate(v)
		if err != nil {
			return nil, err
		}
		keys, err := ev.attributes(list, args[1])
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return &undefined{"no aggregated item, sequence was empty"}, nil
		}
		keys = folded(keys, args[0])
		best := 0
		for i := range keys {
			c, ordered, err := ev.order(keys[i], keys[best], 0)
			if err != nil {
				return nil, err
			}
			if ordered && c*sign > 0 {
				best = i
			}
		}
		return list[best], nil
	}
}

func sumFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	if list, err = ev.attributes(list, args[0]); err != nil {
		return nil, err
	}
	total := args[1]
	if total == nil {
		total = NewInt(0)
	}
	for _, item := range list {
		if total, err = ev.binary("+", total, item); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func batchFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	n, err := intArg(args[0], 0, "the line count")
	if err != nil {
		return nil, err
	}
	if n < 1 || n > maxRange {
		return nil, fail("the line count of batch must be 1 to %d", maxRange)
	}
	out := &List{}
	for len(list) > 0 {
		k := min(n, len(list))
		row := &List{items: append([]Value(nil), list[:k]...)}
		for k < n && args[1] != nil && !is[Null](args[1]) && len(row.items) < n {
			row.items = append(row.items, args[1])
		}
		out.items = append(out.items, row)
		list = list[k:]
	}
	return out, ev.spend(n)
}

func groupbyFilter(ev *evaluator, v Value, args []Value) (Value, error) {
	list, err := ev.iterate(v)
	if err != nil {
		return nil, err
	}
	keys, err := ev.attributes(list, args[0])
	if err != nil {
		return nil, err
	}
	if args[1] != nil {
		for i, key := range keys {
			if isUndefined(key) {
				keys[i] = args[1]
			}
		}
	}
	rows := make([]Value, len(list)) // (key, item), ordered by key
	for i := range list {
		rows[i] = newTuple(keys[i], list[i])
	}
	ordered, err := ev.sorted(rows, folded(keys, args[2]), false)
	if err != nil {
		return nil, err
	}
	out := &List{}
	var last Value
	for _, row := range ordered.items {
		row := row.(*List)
		group := folded(row.items[:1], args[2])[0]
		same := false
		if n := len(out.items); n > 0 {
			if same, err = ev.equal(group, last, 0); err != nil {
				return nil, err
			}
		}
		if !same {
			out.items = append(out.items, newTuple(row.items[0], &List{}))
			last = group
		}
		members := out.items[len(out.items)-1].(*List).items[1].(*List)
		members.items = append(members.items, row.items[1])
	}
	return out, nil
}
