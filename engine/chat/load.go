package chat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// maxConfig bounds tokenizer_config.json; Qwen3-Next's has 10 KB, the largest
// with thousands of added tokens about 1 MB.
const maxConfig = 16 << 20

// Load finds the chat template of a model folder: chat_template.jinja (with
// additional_chat_templates/tool_use.jinja beside it, for requests with
// tools), else chat_template in tokenizer_config.json, a text or a list of
// named templates of which "default" is used, and "tool_use" when tools are
// given. The error is fs.ErrNotExist if the folder has none.
func Load(fsys fs.FS) (*Template, error) {
	source, err := readBounded(fsys, "chat_template.jinja", maxSource)
	if err == nil {
		toolUse, err := readBounded(fsys, "additional_chat_templates/tool_use.jinja", maxSource)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return parsePair("chat_template.jinja", string(source), string(toolUse))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	config, err := readConfig(fsys)
	if err != nil {
		return nil, err
	}
	switch v, _ := config.Get("chat_template"); v := v.(type) {
	case nil, Null:
		return nil, fmt.Errorf("no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json: %w", fs.ErrNotExist)
	case String:
		return parsePair("tokenizer_config.json: chat_template", v.text, "")
	case *List:
		sources := map[string]string{}
		for _, item := range v.items {
			m, _ := item.(*Map)
			if m == nil {
				m = &Map{}
			}
			name, _ := m.Get("name")
			text, _ := m.Get("template")
			n, ok1 := name.(String)
			s, ok2 := text.(String)
			if !ok1 || !ok2 {
				return nil, errors.New("tokenizer_config.json: chat_template: each entry needs a name and a template")
			}
			sources[n.text] = s.text
		}
		if _, ok := sources["default"]; !ok {
			return nil, errors.New(`tokenizer_config.json: chat_template has no template named "default"`)
		}
		return parsePair("tokenizer_config.json: chat_template", sources["default"], sources["tool_use"])
	default:
		return nil, fmt.Errorf("tokenizer_config.json: chat_template is %s, not a string or a list", v.typeName())
	}
}

// parsePair parses a template and, if there is one, the one for tools.
func parsePair(where, source, toolUse string) (*Template, error) {
	t, err := Parse(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if toolUse == "" {
		return t, nil
	}
	if t.toolUse, err = Parse(toolUse); err != nil {
		return nil, fmt.Errorf("%s, tool_use: %w", where, err)
	}
	return t, nil
}

// tokenNames are the special tokens that transformers gives to templates.
var tokenNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// LoadSpecialTokens reads bos_token, eos_token and their like from
// tokenizer_config.json, where each is a text, an object with content, or null.
// A folder without that file has none.
func LoadSpecialTokens(fsys fs.FS) (*Map, error) {
	config, err := readConfig(fsys)
	if err != nil {
		return nil, err
	}
	tokens := NewMap()
	for _, name := range tokenNames {
		v, _ := config.Get(name)
		if m, ok := v.(*Map); ok {
			v, _ = m.Get("content")
		}
		switch v := v.(type) {
		case nil, Null:
		case String:
			tokens.Set(name, v)
		default:
			return nil, fmt.Errorf("tokenizer_config.json: %s is %s, not a string", name, v.typeName())
		}
	}
	return tokens, nil
}

// readConfig reads tokenizer_config.json; an absent one is empty.
func readConfig(fsys fs.FS) (*Map, error) {
	data, err := readBounded(fsys, "tokenizer_config.json", maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return NewMap(), nil
	}
	if err != nil {
		return nil, err
	}
	v, err := DecodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	m, ok := v.(*Map)
	if !ok {
		return nil, fmt.Errorf("tokenizer_config.json: %s, not an object", v.typeName())
	}
	return m, nil
}

func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return data, nil
}
