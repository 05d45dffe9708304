package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Setting describes one leaf of Config.
type Setting struct {
	Path   string // as in a file, with dots: "server.max_body"
	Help   string
	Secret bool // never shown
	index  []int
}

// Env is the setting's name in the environment.
func (s Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Path, ".", "_"))
}

const envPrefix = "ROUNDHOUSE_"

// settings lists every leaf of Config in the order of its fields.
var settings = leaves(reflect.TypeFor[Config](), "", nil)

func leaves(t reflect.Type, prefix string, index []int) (all []Setting) {
	for i := range t.NumField() {
		f := t.Field(i)
		path, at := prefix+f.Tag.Get("toml"), append(append([]int(nil), index...), i)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, leaves(f.Type, path+".", at)...)
			continue
		}
		all = append(all, Setting{Path: path, Help: f.Tag.Get("help"), Secret: f.Tag.Get("secret") != "", index: at})
	}
	return all
}

// Known says whether a path names a setting.
func Known(path string) bool {
	_, ok := settingAt(path)
	return ok
}

func settingAt(path string) (Setting, bool) {
	for _, s := range settings {
		if s.Path == path {
			return s, true
		}
	}
	return Setting{}, false
}

// isTable says whether a path is a section such as "engine".
func isTable(path string) bool {
	for _, s := range settings {
		if strings.HasPrefix(s.Path, path+".") {
			return true
		}
	}
	return false
}

func (s Setting) in(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(s.index) }

// parse sets the leaf from text, as environment and flags give it. Lists are
// separated by commas.
func (s Setting) parse(c *Config, text string) error {
	field := s.in(c)
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch field.Interface().(type) {
	case string:
		field.SetString(text)
	case int:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(int64(n))
	case bool:
		on, err := strconv.ParseBool(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(on)
	case []string:
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		field.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("settings of type %s cannot be given as text", field.Type())
	}
	return nil
}

// nearest returns the setting or section whose name is closest to key, "" when
// nothing is close. A key that stands in the wrong section is close to its
// namesake.
func nearest(key string) string {
	best, score := "", max(2, len(key)/3)+1
	for _, s := range settings {
		names := []string{s.Path}
		if dot := strings.LastIndexByte(s.Path, '.'); dot >= 0 {
			names = append(names, s.Path[:dot])
		}
		for _, name := range names {
			d := distance(key, name)
			if leaf(key) == leaf(name) {
				d = min(d, 1)
			}
			if d < score {
				best, score = name, d
			}
		}
	}
	return best
}

func leaf(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// distance is the Levenshtein distance in bytes, of names cut at 64.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
