package scripts

import (
	"slices"
	"strings"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// fenceStrings bounds what is made of texts, and long texts themselves.
func (v *vm) fenceStrings(proto *goja.Object) {
	free := []string{"constructor", "length", "at", "charAt", "charCodeAt", "codePointAt", "slice", "substring", "substr", "toString", "valueOf"}
	checks := map[string]func(c *goja.FunctionCall, n float64){
		"repeat": func(c *goja.FunctionCall, n float64) {
			times := v.numberArg(c, 0)
			v.atMost("characters", n*times, maxText)
		},
		"concat": func(c *goja.FunctionCall, n float64) {
			for i := range c.Arguments {
				v.textArg(c, i, maxText)
				n += characters(c.Arguments[i])
			}
			v.atMost("characters", n, maxText)
		},
		"search":   func(c *goja.FunctionCall, _ float64) { v.patternArg(c) },
		"match":    func(c *goja.FunctionCall, _ float64) { v.patternArg(c) },
		"matchAll": func(c *goja.FunctionCall, _ float64) { v.patternArg(c) },
	}
	pad := func(c *goja.FunctionCall, _ float64) {
		v.atMost("characters", v.numberArg(c, 0), maxText)
		if len(c.Arguments) > 1 && !goja.IsUndefined(c.Arguments[1]) {
			v.textArg(c, 1, maxText)
		}
	}
	replace := func(c *goja.FunctionCall, n float64) {
		v.needle(c, n)
		v.replacement(c, n)
	}
	checks["padStart"], checks["padEnd"], checks["replace"], checks["replaceAll"] = pad, pad, replace, replace
	for _, name := range []string{"split", "includes", "indexOf", "lastIndexOf"} {
		checks[name] = v.needle
	}
	for _, name := range proto.GetOwnPropertyNames() {
		if slices.Contains(free, name) {
			continue
		}
		check := checks[name]
		v.guard(proto, name, func(c *goja.FunctionCall) {
			if goja.IsUndefined(c.This) || goja.IsNull(c.This) {
				return // the built-in says so
			}
			c.This = v.plainText(c.This, maxText)
			if check != nil {
				check(c, characters(c.This))
			}
		})
	}
	v.guardSymbol(proto, goja.SymIterator, func(c *goja.FunctionCall) { c.This = v.plainText(c.This, maxText) })
}

// numberArg makes a number of an argument, once.
func (v *vm) numberArg(c *goja.FunctionCall, n int) float64 {
	if n >= len(c.Arguments) {
		return 0
	}
	x := c.Arguments[n].ToFloat()
	c.Arguments[n] = v.rt.ToValue(x)
	return x
}

// needle bounds the search of one text in another of n characters.
func (v *vm) needle(c *goja.FunctionCall, n float64) {
	if len(c.Arguments) == 0 || isRegExp(c.Arguments[0]) || goja.IsUndefined(c.Arguments[0]) {
		return
	}
	v.textArg(c, 0, maxText)
	v.atMost("comparisons", n*characters(c.Arguments[0]), maxSearch)
}

// replacement bounds the text of n characters that comes of replacing.
func (v *vm) replacement(c *goja.FunctionCall, n float64) {
	if len(c.Arguments) < 2 {
		return
	}
	if _, is := goja.AssertFunction(c.Arguments[1]); is {
		return // it can be interrupted
	}
	v.textArg(c, 1, maxText)
	v.atMost("characters", replaced(n, c.Arguments[1]), 16*maxText)
}

// replaced bounds the length of a text of n characters after replacing. What $& and $1
// stand for is, over all matches, part of the text; $` and $' are most of it, every time.
func replaced(n float64, with goja.Value) float64 {
	s, ok := with.(goja.String)
	if !ok {
		return n
	}
	bound, quadratic := n+(n+1)*characters(s), false
	for i := 0; i+1 < s.Length(); i++ {
		if s.CharAt(i) == '$' {
			next := s.CharAt(i + 1)
			bound += n
			quadratic = quadratic || next == '`' || next == '\''
		}
	}
	if quadratic {
		bound += n * n * characters(s)
	}
	return bound
}

func isRegExp(value goja.Value) bool {
	o, ok := value.(*goja.Object)
	return ok && o.ClassName() == "RegExp"
}

// patternArg bounds a pattern that a text is looked at with.
func (v *vm) patternArg(c *goja.FunctionCall) {
	if len(c.Arguments) > 0 {
		c.Arguments[0] = v.pattern(c.Arguments[0])
	}
}

// pattern makes a text of what is to become a regular expression, and bounds it.
func (v *vm) pattern(value goja.Value) goja.Value {
	if isRegExp(value) || goja.IsUndefined(value) {
		return value
	}
	text := v.plainText(value, maxPattern)
	if depth := nesting(text.String()); depth > maxDepth {
		v.throw(faultf(hook.BadValue, "groups are nested %d deep: %d at most", depth, maxDepth))
	}
	return text
}

// fenceRegExps bounds patterns and what they are tried on.
func (v *vm) fenceRegExps(global, proto *goja.Object) {
	subject := func(c *goja.FunctionCall) {
		if len(c.Arguments) == 0 {
			c.Arguments = []goja.Value{v.rt.ToValue("undefined")}
		}
		v.textArg(c, 0, maxSubject)
	}
	v.guard(proto, "exec", subject)
	v.guard(proto, "test", subject)
	for _, name := range []*goja.Symbol{goja.SymMatch, goja.SymMatchAll, goja.SymSearch, goja.SymSplit} {
		v.guardSymbol(proto, name, subject)
	}
	v.guardSymbol(proto, goja.SymReplace, func(c *goja.FunctionCall) {
		subject(c)
		v.replacement(c, characters(c.Arguments[0]))
	})
	v.construct(global, "RegExp", func(args []goja.Value) {
		if len(args) > 0 {
			args[0] = v.pattern(args[0])
		}
		if len(args) > 1 && !goja.IsUndefined(args[1]) {
			args[1] = v.plainText(args[1], maxPattern)
			v.properties(args[0].String(), args[1].String())
		}
	})
}

// properties refuses classes such as \p{L}, which goja takes and then never matches.
func (v *vm) properties(pattern, flags string) {
	if !strings.ContainsRune(flags, 'u') {
		return // two letters like others
	}
	for i := 0; i+1 < len(pattern); i++ {
		if pattern[i] != '\\' {
			continue
		}
		if i++; pattern[i] == 'p' || pattern[i] == 'P' {
			v.throw(faultf(hook.BadValue, `regular expressions here do not know \%c{..}: write the characters, such as [A-Za-z\u00C0-\u024F]`, pattern[i]))
		}
	}
}

// nesting is how deep the brackets of a text are nested, those in texts not counted.
func nesting(text string) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{' || c == '(':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}' || c == ')':
			depth--
		}
	}
	return deepest
}

// fenceJSON bounds the depth of what is read and written.
func (v *vm) fenceJSON(json *goja.Object) {
	v.guard(json, "parse", func(c *goja.FunctionCall) {
		v.textArg(c, 0, maxText)
		if depth := nesting(c.Argument(0).String()); depth > maxDepth {
			v.throw(faultf(hook.BadValue, "JSON is nested %d deep: %d at most", depth, maxDepth))
		}
	})
	original, _ := goja.AssertFunction(json.Get("stringify"))
	v.replace(json, "stringify", func(c goja.FunctionCall) goja.Value {
		indent := c.Argument(2)
		w := &writing{v: v, margin: 1}
		if !goja.IsUndefined(indent) && !goja.IsNull(indent) {
			w.margin = 10 // the most that a level is indented by
		}
		w.choose(c.Argument(1))
		return call(original, c.This, c.Argument(0), v.rt.ToValue(w.value), indent)
	})
	v.natives.parse, _ = goja.AssertFunction(json.Get("parse"))
	v.natives.stringify, _ = goja.AssertFunction(json.Get("stringify"))
}

// writing is a JSON text that is being made: how deep it is, and how long.
type writing struct {
	v      *vm
	margin int
	path   []goja.Value
	total  float64
	own    goja.Callable   // the script's replacer; nil for none
	keys   map[string]bool // the names that it wants; nil for all
}

// choose takes the script's replacer over.
func (w *writing) choose(replacer goja.Value) {
	var is bool
	if w.own, is = goja.AssertFunction(replacer); is {
		return
	}
	if list, ok := replacer.(*goja.Object); ok && list.ClassName() == "Array" {
		w.keys = map[string]bool{}
		for _, key := range w.v.elements("names", list, maxArgs) {
			if key != nil {
				w.keys[key.String()] = true
			}
		}
	}
}

// value is the replacer: it follows how deep the values lie, counts what they hold, and
// does what the script's own replacer does.
func (w *writing) value(c goja.FunctionCall) goja.Value {
	w.v.step()
	value := c.Argument(1)
	for len(w.path) > 0 && w.path[len(w.path)-1] != c.This {
		w.path = w.path[:len(w.path)-1]
	}
	if holder, ok := c.This.(*goja.Object); w.keys != nil && len(w.path) > 0 && ok && holder.ClassName() != "Array" && !w.keys[c.Argument(0).String()] {
		return goja.Undefined()
	}
	if w.own != nil {
		value = call(w.own, c.This, c.Arguments...)
	}
	w.total += float64(1+w.margin*len(w.path)) + characters(value) + characters(c.Argument(0))
	if w.total > 4*maxText {
		w.v.throw(faultf(hook.BadValue, "JSON of more than %d characters", 4*maxText))
	}
	if _, ok := value.(*goja.Object); ok {
		if w.path = append(w.path, value); len(w.path) > maxDepth {
			w.v.throw(faultf(hook.BadValue, "values are nested deeper than %d: JSON goes no deeper", maxDepth))
		}
	}
	return value
}
