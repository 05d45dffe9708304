package openai

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// spec is OpenAI's own description, cut to our endpoints.
type spec struct{ compiler *jsonschema.Compiler }

func newSpec(tb testing.TB) *spec {
	tb.Helper()
	data := gunzip(tb, "testdata/openai-cut.json.gz")
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openai.json", doc); err != nil {
		tb.Fatal(err)
	}
	return &spec{c}
}

func (s *spec) check(tb testing.TB, name string, data []byte) {
	tb.Helper()
	schema, err := s.compiler.Compile("openai.json#/components/schemas/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		tb.Fatalf("%v in %s", err, data)
	}
	if err := schema.Validate(v); err != nil {
		tb.Errorf("%s: %v\n%s", name, err, data)
	}
}

// The committed copy must be the shared description.
func TestSpecIsCurrent(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the committed description is used as it is")
	}
	data, err := os.ReadFile(filepath.Join(dir, "openapi", "openai-cut.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got bytes.Buffer
	if err := json.Compact(&want, data); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&got, gunzip(t, "testdata/openai-cut.json.gz")); err != nil {
		t.Fatal(err)
	}
	if want.String() != got.String() {
		t.Error("testdata/openai-cut.json.gz differs from the shared description: compress it again")
	}
}

func TestResponsesFollowTheSpec(t *testing.T) {
	s := newSpec(t)
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	for _, c := range []struct{ name, path, body, whole, chunk string }{
		{"chat", "/v1/chat/completions", `"messages":[{"role":"user","content":"hi"}]`, "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"},
		{"chat logprobs", "/v1/chat/completions", `"messages":[{"role":"user","content":"hi"}],"n":2,"logprobs":true,"top_logprobs":3,"return_token_ids":true,"user":"u"`, "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"},
		{"text", "/v1/completions", `"prompt":"hi"`, "CreateCompletionResponse", ""},
		{"text logprobs", "/v1/completions", `"prompt":["hi","ho"],"n":2,"logprobs":2,"echo":true,"return_token_ids":true`, "CreateCompletionResponse", ""},
		{"text score", "/v1/completions", `"prompt":[[5,6,7],[8]],"logprobs":0,"echo":true,"max_tokens":0`, "CreateCompletionResponse", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := post(t, web.URL+c.path, `{"model":"org/fake",`+c.body+`}`)
			if status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			s.check(t, c.whole, body)
			status, body = post(t, web.URL+c.path, `{"model":"org/fake","stream":true,"stream_options":{"include_usage":true},`+c.body+`}`)
			data, done := events(t, body)
			if status != 200 || !done || len(data) < 2 {
				t.Fatalf("%d %s", status, body)
			}
			if c.chunk != "" { // OpenAI describes no chunk of completions
				for _, d := range data {
					s.check(t, c.chunk, []byte(d))
				}
			}
		})
	}
	m.answer = `Well. <tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>`
	_, body := post(t, web.URL+"/v1/chat/completions", chatBody(oneTool))
	s.check(t, "CreateChatCompletionResponse", body)
	_, body = post(t, web.URL+"/v1/chat/completions", chatBody(oneTool+`,"stream":true`))
	data, _ := events(t, body)
	for _, d := range data {
		s.check(t, "CreateChatCompletionStreamResponse", []byte(d))
	}
	for path, name := range map[string]string{"/v1/models": "ListModelsResponse", "/v1/models/org/fake": "Model"} {
		status, body := get(t, web.URL+path, nil)
		if status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
		s.check(t, name, body)
	}
	for _, path := range []string{"/v1/models/none", "/nowhere"} {
		_, body := get(t, web.URL+path, nil)
		s.check(t, "ErrorResponse", body)
	}
}
