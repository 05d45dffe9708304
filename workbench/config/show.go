package config

import (
	"encoding"
	"fmt"
	"strings"
)

// Value is one setting as it is in force.
type Value struct {
	Setting string `json:"setting"`
	Value   any    `json:"value"`
	Origin  Origin `json:"origin"`
}

// Values lists every setting with its value and origin. Secrets read
// "(set)" or are empty; they are never given out.
func (e *Effective) Values() []Value {
	values := make([]Value, 0, len(settings))
	for _, s := range settings {
		v := Value{Setting: s.Path, Value: s.show(&e.Config), Origin: e.Origin(s.Path)}
		v.Origin.Where = v.Origin.String()
		values = append(values, v)
	}
	return values
}

// show returns a leaf in the form that a file would have it.
func (s Setting) show(c *Config) any {
	v := s.in(c).Interface()
	if s.Secret {
		if v != "" {
			return "(set)"
		}
		return ""
	}
	if m, ok := v.(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	if list, ok := v.([]string); ok && list == nil {
		return []string{}
	}
	return v
}

// Text returns the value as it stands in a TOML file.
func (v Value) Text() string {
	switch x := v.Value.(type) {
	case string:
		return quote(x)
	case []string:
		parts := make([]string, len(x))
		for i, s := range x {
			parts[i] = quote(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(x)
	}
}

// quote writes a TOML basic string. Values hold no control characters
// (validate sees to it), so that backslash and quote are all there is to escape.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Template is a file with every setting at its default, commented out.
func Template() string {
	var b strings.Builder
	b.WriteString("# Settings of roundhouse. Each is shown with its default; remove the # to change it.\n" +
		"# The environment ($ROUNDHOUSE_ENGINE_THREADS) and flags win over this file.\n")
	defaults := &Effective{Config: Default()}
	section := ""
	for i, v := range defaults.Values() {
		path, name := "", v.Setting
		if dot := strings.LastIndexByte(v.Setting, '.'); dot >= 0 {
			path, name = v.Setting[:dot], v.Setting[dot+1:]
		}
		if path != section {
			section = path
			fmt.Fprintf(&b, "\n[%s]\n", section)
		} else {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s\n# %s = %s\n", settings[i].Help, name, v.Text())
	}
	return b.String()
}
