package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// decode reads a file over the defaults and notes where each value stands.
func (e *Effective) decode(path string, data []byte, implicit bool) error {
	keys, err := keysOf(data)
	if err != nil {
		return fmt.Errorf("%s:%w", path, err)
	}
	var errs []error
	for _, k := range keys {
		if err := k.check(implicit); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d:%d: %w", path, k.line, k.column, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&e.Config); err != nil {
		return fmt.Errorf("%s:%w", path, positioned(err))
	}
	for _, k := range keys {
		if _, ok := settingAt(k.path); ok {
			e.origins[k.path] = Origin{Source: "file", Name: path, Line: k.line, Column: k.column}
		}
	}
	return nil
}

// positioned puts line and column before an error of the decoder.
func positioned(err error) error {
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := decode.Position()
		return fmt.Errorf("%d:%d: %s", line, column, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf(" %w", err)
}

// key is a name in a file: a section or a setting.
type key struct {
	path         string
	table        bool
	line, column int
}

func (k key) check(implicit bool) error {
	top, _, _ := strings.Cut(k.path, ".")
	if implicit && (top == "scripts" || top == "plugins") {
		return fmt.Errorf("%q runs code, which a file that was only found must not: name the file with --config if you trust it", k.path)
	}
	if _, ok := settingAt(k.path); ok && !k.table || isTable(k.path) {
		return nil
	}
	what := "setting"
	if k.table {
		what = "section"
	}
	if near := nearest(k.path); near != "" {
		return fmt.Errorf("unknown %s %q, did you mean %q?", what, k.path, near)
	}
	return fmt.Errorf("unknown %s %q (`roundhouse config init` writes a file with all of them)", what, k.path)
}

// keysOf lists every section and key of a TOML document with its position.
func keysOf(data []byte) (keys []key, err error) {
	parser := unstable.Parser{}
	parser.Reset(data)
	section := ""
	for parser.NextExpression() {
		node := parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			k := keyAt(&parser, node.Key(), "")
			k.table = true
			section = k.path + "."
			keys = append(keys, k)
		case unstable.KeyValue:
			keys = appendKeyValue(keys, &parser, node, section)
		}
	}
	if parser.Error() == nil {
		return keys, nil
	}
	// The decoder reports the same error with its position.
	var sink map[string]any
	if err := toml.Unmarshal(data, &sink); err != nil {
		return nil, positioned(err)
	}
	return nil, fmt.Errorf(" %w", parser.Error())
}

func appendKeyValue(keys []key, parser *unstable.Parser, node *unstable.Node, section string) []key {
	k := keyAt(parser, node.Key(), section)
	if value := node.Value(); value.Kind == unstable.InlineTable {
		k.table = true
		keys = append(keys, k)
		for children := value.Children(); children.Next(); {
			keys = appendKeyValue(keys, parser, children.Node(), k.path+".")
		}
		return keys
	}
	return append(keys, k)
}

// keyAt joins a dotted key and finds its position.
func keyAt(parser *unstable.Parser, parts unstable.Iterator, section string) key {
	k := key{}
	var names []string
	for parts.Next() {
		node := parts.Node()
		if len(names) == 0 {
			start := parser.Shape(node.Raw).Start
			k.line, k.column = start.Line, start.Column
		}
		names = append(names, string(node.Data))
	}
	k.path = section + strings.Join(names, ".")
	return k
}
