package hook

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// Param is one parameter of a hook, in a subset of JSON Schema.
type Param struct {
	Type        string   `json:"type"` // number, integer, boolean or string
	Default     any      `json:"default,omitempty"`
	Description string   `json:"description,omitempty"`
	Minimum     *float64 `json:"minimum,omitempty"`
	Maximum     *float64 `json:"maximum,omitempty"`
	MaxLength   int      `json:"maxLength,omitempty"` // of a string, in characters; 0 for 4096
	Enum        []any    `json:"enum,omitempty"`
}

// Params are the parameters that a hook takes, by name.
type Params map[string]Param

// ParamError says which parameter cannot be served, and why.
type ParamError struct {
	Name string
	Err  error
}

func (e *ParamError) Error() string { return fmt.Sprintf("parameter %s: %v", e.Name, e.Err) }

func (e *ParamError) Unwrap() error { return e.Err }

// Bounds of parameters.
const (
	maxParams = 64
	maxString = 4096
)

// Check refuses a schema that says nothing useful. Errors are *ParamError.
func (p Params) Check() error {
	if len(p) > maxParams {
		return &ParamError{"list", fmt.Errorf("%d parameters: %d at most", len(p), maxParams)}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		param := p[name]
		if !slices.Contains([]string{"number", "integer", "boolean", "string"}, param.Type) {
			return &ParamError{name, fmt.Errorf("type %q: it is number, integer, boolean or string", param.Type)}
		}
		if param.Minimum != nil && param.Maximum != nil && *param.Minimum > *param.Maximum {
			return &ParamError{name, fmt.Errorf("the minimum %v is above the maximum %v", *param.Minimum, *param.Maximum)}
		}
		for _, v := range append(slices.Clone(param.Enum), param.Default) {
			if v == nil {
				continue
			}
			if _, err := param.value(v); err != nil {
				return &ParamError{name, err}
			}
		}
	}
	return nil
}

// Fill checks the values that a request gives and adds the defaults. A parameter
// without a default must be given. Numbers become float64. Errors are *ParamError.
func (p Params) Fill(given map[string]any) (map[string]any, error) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := p[name]; !ok {
			return nil, &ParamError{name, fmt.Errorf("there is none of this name: there are %v", slices.Sorted(maps.Keys(p)))}
		}
	}
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		v, ok := given[name]
		if !ok {
			if v = p[name].Default; v == nil {
				return nil, &ParamError{name, fmt.Errorf("it has no default and must be given")}
			}
		}
		v, err := p[name].value(v)
		if err != nil {
			return nil, &ParamError{name, err}
		}
		out[name] = v
	}
	return out, nil
}

// value checks one value.
func (p Param) value(v any) (any, error) {
	switch n := v.(type) {
	case int:
		v = float64(n)
	case int64:
		v = float64(n)
	case float32:
		v = float64(n)
	}
	switch x := v.(type) {
	case float64:
		if p.Type != "number" && p.Type != "integer" || p.Type == "integer" && x != math.Trunc(x) || x-x != 0 {
			return nil, fmt.Errorf("%v is no %s", x, p.Type)
		}
		if p.Minimum != nil && x < *p.Minimum || p.Maximum != nil && x > *p.Maximum {
			return nil, fmt.Errorf("%v is out of range: %s", x, p.span())
		}
	case string:
		longest := p.MaxLength
		if longest == 0 {
			longest = maxString
		}
		if p.Type != "string" {
			return nil, fmt.Errorf("%q is no %s", x, p.Type)
		}
		if utf8.RuneCountInString(x) > longest {
			return nil, fmt.Errorf("a text of %d characters: %d at most", utf8.RuneCountInString(x), longest)
		}
	case bool:
		if p.Type != "boolean" {
			return nil, fmt.Errorf("%v is no %s", x, p.Type)
		}
	default:
		return nil, fmt.Errorf("a value of type %T is no %s", v, p.Type)
	}
	if len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(e any) bool { return equal(e, v) }) {
		return nil, fmt.Errorf("%v is none of %v", v, p.Enum)
	}
	return v, nil
}

// equal compares an enum's member, whose number may be an integer, with a value.
func equal(member, v any) bool {
	switch n := member.(type) {
	case int:
		return float64(n) == v
	case int64:
		return float64(n) == v
	}
	return member == v
}

func (p Param) span() string {
	switch {
	case p.Minimum == nil:
		return fmt.Sprintf("at most %v", *p.Maximum)
	case p.Maximum == nil:
		return fmt.Sprintf("at least %v", *p.Minimum)
	}
	return fmt.Sprintf("it lies in %v to %v", *p.Minimum, *p.Maximum)
}
