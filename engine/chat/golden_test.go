package chat

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// goldenCase is one line of the chat goldens.
type goldenCase struct {
	name     string
	in       Input
	expected string
	kind     string // of the error, "" for none
	message  string
}

// readLines reads a gzip file of JSON lines.
func readLines(t testing.TB, path string) []*Map {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	var list []*Map
	for line := range bytes.Lines(data) {
		v, err := DecodeJSON(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, v.(*Map))
	}
	return list
}

func field[T Value](m *Map, key string) T {
	v, _ := m.Get(key)
	x, _ := v.(T)
	return x
}

func readGoldens(t testing.TB, path string) []goldenCase {
	t.Helper()
	var list []goldenCase
	for _, m := range readLines(t, path) {
		c := goldenCase{name: field[String](m, "group").text + "/" + field[String](m, "case").text}
		c.in.Messages, _ = m.Get("messages")
		c.in.Tools, _ = m.Get("tools")
		c.in.Documents, _ = m.Get("documents")
		c.in.Kwargs = NewMap()
		for key, v := range field[*Map](m, "kwargs").All() {
			switch key {
			case "add_generation_prompt":
				c.in.AddGenerationPrompt = truth(v)
			case "continue_final_message":
				c.in.ContinueFinalMessage = truth(v)
				if s, ok := v.(String); ok {
					c.in.ContinueField = s.text
				}
			default:
				c.in.Kwargs.Set(key, v)
			}
		}
		c.expected = field[String](m, "expected").text
		if e := field[*Map](m, "error"); e != nil {
			c.kind, c.message = field[String](e, "kind").text, field[String](e, "message").text
		}
		list = append(list, c)
	}
	return list
}

// eachGolden runs f for every template and its cases in the folders.
func eachGolden(t *testing.T, templates, goldens string, f func(t *testing.T, template *Template, cases []goldenCase)) {
	files, err := filepath.Glob(filepath.Join(goldens, "*.jsonl.gz"))
	if err != nil || len(files) != 16 {
		t.Fatalf("%s: %d files, want 16 (%v)", goldens, len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl.gz")
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(templates, name+".jinja"))
			if err != nil {
				t.Fatal(err)
			}
			template, err := Parse(string(source))
			if err != nil {
				t.Fatal(err)
			}
			f(t, template, readGoldens(t, file))
		})
	}
}

func checkGoldens(t *testing.T, template *Template, cases []goldenCase) {
	for _, c := range cases {
		got, err := template.Render(context.Background(), c.in)
		if c.kind == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if got.Text != c.expected {
				t.Errorf("%s:\n got %q\nwant %q", c.name, got.Text, c.expected)
			}
			checkSpans(t, c.name, got)
			continue
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %q, %v; want a %s error: %s", c.name, got.Text, err, c.kind, c.message)
			continue
		}
		if e.Kind.String() != c.kind || c.kind == "raised" && e.Message != c.message {
			t.Errorf("%s: got %s error %q, want %s %q", c.name, e.Kind, e.Message, c.kind, c.message)
		}
		if c.kind == "argument" && !strings.HasPrefix(c.message, e.Message) && !strings.HasPrefix(e.Message, c.message[:min(100, len(c.message))]) {
			t.Errorf("%s: got %q, want %q", c.name, e.Message, c.message)
		}
	}
}

// checkSpans checks that the spans are sorted, apart, not empty and inside.
func checkSpans(t *testing.T, name string, r Rendering) {
	t.Helper()
	last := -1
	for _, p := range r.Plain {
		if p.Start <= last || p.End <= p.Start || p.End > len(r.Text) {
			t.Errorf("%s: span %v after %d in %d bytes", name, p, last, len(r.Text))
		}
		last = p.End
	}
}

func TestGoldens(t *testing.T) {
	eachGolden(t, "testdata/templates", "testdata/goldens", checkGoldens)
}

func TestGoldensShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the committed copy of these goldens was tested")
	}
	eachGolden(t, filepath.Join(dir, "templates"), filepath.Join(dir, "goldens", "chat"), checkGoldens)
}
