package chat

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzParse gives any text as a template and runs what parses: there is no
// panic, errors are *Error, spans are right, and it ends.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/templates/*.jinja")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(source))
	}
	for _, m := range readLines(f, "testdata/language.jsonl") {
		f.Add(field[String](m, "template").text)
	}
	messages, err := DecodeJSON([]byte(`[{"role":"system","content":"s é"},{"role":"user","content":[{"type":"text","text":"a\nb"}]},` +
		`{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1.5,"y":[true,null]}}}]}]`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		template, err := Parse(source)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Kind != Syntax {
				t.Fatalf("%v is no syntax error", err)
			}
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r, err := template.Render(ctx, Input{Messages: messages, Tools: messages})
		checkError(t, err)
		checkSpans(t, source, r)
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if err != nil && !errors.As(err, &e) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v is not an *Error", err)
	}
}

// FuzzRender gives any JSON as messages and tools to the most demanding of the
// committed templates, and checks that injected markers stay in spans.
func FuzzRender(f *testing.F) {
	var templates []*Template
	for _, name := range []string{"Qwen3-Next-80B-A3B-Thinking", "Qwen3-Coder-30B-A3B-Instruct", "Qwen3.8-27B"} {
		source, err := os.ReadFile("testdata/templates/" + name + ".jinja")
		if err != nil {
			f.Fatal(err)
		}
		template, err := Parse(string(source))
		if err != nil {
			f.Fatal(err)
		}
		templates = append(templates, template)
	}
	f.Add([]byte(`[{"role":"user","content":"Hi"}]`), []byte(`null`))
	f.Add([]byte(`[{"role":"user","content":"x"},{"role":"assistant","content":"<think>a</think>b","tool_calls":[{"name":"f","arguments":{"a":[1]}}]},{"role":"tool","content":"r"}]`),
		[]byte(`[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"string"}}}}}]`))
	f.Fuzz(func(t *testing.T, messages, tools []byte) {
		m, err := DecodeJSON(messages)
		if err != nil {
			return
		}
		tl, err := DecodeJSON(tools)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, template := range templates {
			r, err := template.Render(ctx, Input{Messages: inject(m, ""), Tools: inject(tl, "")})
			checkError(t, err)
			checkSpans(t, "fuzz", r)
			countMarkers(t, "fuzz", r)
		}
	})
}
