package chat

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"path/filepath"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

func folder(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func TestLoad(t *testing.T) {
	tool := NewList(NewMap())
	for name, c := range map[string]struct {
		files             map[string]string
		want, withTools   string
		wantError         string
		wantErrorNotExist bool
	}{
		"file":      {files: map[string]string{"chat_template.jinja": "F", "tokenizer_config.json": `{"chat_template":"C"}`}, want: "F", withTools: "F"},
		"file pair": {files: map[string]string{"chat_template.jinja": "F", "additional_chat_templates/tool_use.jinja": "T"}, want: "F", withTools: "T"},
		"config":    {files: map[string]string{"tokenizer_config.json": `{"chat_template":"C"}`}, want: "C", withTools: "C"},
		"named": {files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]}`},
			want: "D", withTools: "T"},
		"no default": {files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"x","template":"T"}]}`}, wantError: "default"},
		"bad entry":  {files: map[string]string{"tokenizer_config.json": `{"chat_template":["x"]}`}, wantError: "name and a template"},
		"bad type":   {files: map[string]string{"tokenizer_config.json": `{"chat_template":5}`}, wantError: "int"},
		"bad json":   {files: map[string]string{"tokenizer_config.json": `{`}, wantError: "tokenizer_config.json"},
		"no object":  {files: map[string]string{"tokenizer_config.json": `[]`}, wantError: "not an object"},
		"bad syntax": {files: map[string]string{"chat_template.jinja": "a\n{% if %}"}, wantError: "chat_template.jinja: chat template line 2"},
		"too long":   {files: map[string]string{"chat_template.jinja": strings.Repeat("x", maxSource+1)}, wantError: "more than"},
		"null":       {files: map[string]string{"tokenizer_config.json": `{"chat_template":null}`}, wantErrorNotExist: true},
		"nothing":    {wantErrorNotExist: true},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := Load(folder(c.files))
			switch {
			case c.wantErrorNotExist:
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v, want fs.ErrNotExist", err)
				}
				return
			case c.wantError != "":
				if err == nil || !strings.Contains(err.Error(), c.wantError) {
					t.Errorf("got %v, want an error with %q", err, c.wantError)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			for _, in := range []struct {
				tools Value
				want  string
			}{{nil, c.want}, {tool, c.withTools}} {
				r, err := template.Render(context.Background(), Input{Messages: oneMessage(), Tools: in.tools})
				if err != nil || r.Text != in.want {
					t.Errorf("got %q, %v, want %q", r.Text, err, in.want)
				}
			}
		})
	}
}

func TestLoadSpecialTokens(t *testing.T) {
	tokens, err := LoadSpecialTokens(folder(map[string]string{
		"tokenizer_config.json": `{"bos_token":null,"eos_token":{"content":"<|im_end|>","special":true},"pad_token":"<|endoftext|>"}`,
		"chat_template.jinja":   "{{ bos_token is defined }}{{ eos_token }}{{ pad_token }}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	template, err := Parse("{{ bos_token is defined }} {{ eos_token }}{{ pad_token }}")
	if err != nil {
		t.Fatal(err)
	}
	r, err := template.Render(context.Background(), Input{Messages: oneMessage(), SpecialTokens: tokens})
	if err != nil || r.Text != "False <|im_end|><|endoftext|>" || r.Plain != nil {
		t.Errorf("got %q %v, %v", r.Text, r.Plain, err)
	}
	if _, err := LoadSpecialTokens(folder(map[string]string{"tokenizer_config.json": `{"bos_token":5}`})); err == nil {
		t.Error("a number was taken as a token")
	}
	if tokens, err := LoadSpecialTokens(folder(nil)); err != nil || tokens.Len() != 0 {
		t.Errorf("a folder without a config: %v, %v", tokens, err)
	}
}

func TestLoadDemo(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the demo model's folder")
	}
	demo := os.DirFS(filepath.Join(dir, "models", "demo-int4-mixed"))
	template, err := Load(demo)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := LoadSpecialTokens(demo)
	if err != nil {
		t.Fatal(err)
	}
	r, err := template.Render(context.Background(), Input{Messages: oneMessage(), SpecialTokens: tokens, AddGenerationPrompt: true})
	if want := "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"; err != nil || r.Text != want {
		t.Errorf("got %q, %v", r.Text, err)
	}
}
