package openai

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const oneTool = `"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"at":{"type":"string"}}}}}]`

// ask sends a chat request whole and streamed and returns the message of each.
func ask(tb testing.TB, url, fields string) (whole, streamed ChatChoice) {
	tb.Helper()
	_, body := post(tb, url+"/v1/chat/completions", chatBody(fields))
	whole = decode[ChatCompletion](tb, body).Choices[0]
	if fields != "" {
		fields += ","
	}
	_, body = post(tb, url+"/v1/chat/completions", chatBody(fields+`"stream":true`))
	data, done := events(tb, body)
	if !done {
		tb.Fatalf("no [DONE]: %s", body)
	}
	var content, reasoning string
	for _, d := range data {
		c := decode[ChatChunk](tb, []byte(d)).Choices[0]
		if c.Delta.Content != nil {
			content += *c.Delta.Content
		}
		if c.Delta.Reasoning != nil {
			reasoning += *c.Delta.Reasoning
		}
		for _, call := range c.Delta.ToolCalls {
			if *call.Index != len(streamed.Message.ToolCalls) {
				tb.Errorf("call %d has index %d", len(streamed.Message.ToolCalls), *call.Index)
			}
			call.Index = nil
			streamed.Message.ToolCalls = append(streamed.Message.ToolCalls, call)
		}
		if c.FinishReason != nil {
			streamed.FinishReason, streamed.Extension = *c.FinishReason, c.Extension
		}
	}
	streamed.Message.Role = "assistant"
	if content != "" || len(streamed.Message.ToolCalls) == 0 {
		streamed.Message.Content = &content
	}
	if reasoning != "" {
		streamed.Message.Reasoning = &reasoning
	}
	return whole, streamed
}

// same compares choices; ids of calls are new each time.
func same(tb testing.TB, whole, streamed ChatChoice) {
	tb.Helper()
	for _, c := range []ChatChoice{whole, streamed} {
		for i := range c.Message.ToolCalls {
			if id := &c.Message.ToolCalls[i].ID; !strings.HasPrefix(*id, "call_") {
				tb.Errorf("id %q", *id)
			} else {
				*id = ""
			}
		}
	}
	a, _ := json.Marshal(whole)
	b, _ := json.Marshal(streamed)
	if string(a) != string(b) {
		tb.Fatalf("whole  %s\nstream %s", a, b)
	}
}

// Reasoning goes apart, wherever the tokens are cut.
func TestReasoning(t *testing.T) {
	m := newFake(t, thinkTemplate)
	_, web := newTest(t, m, Config{})
	const text = "So — 1.\n</think>\n\nYes."
	for i := range len([]rune(text)) {
		m.pieces = []string{string([]rune(text)[:i]), string([]rune(text)[i:])}
		whole, streamed := ask(t, web.URL, "")
		same(t, whole, streamed)
		if r := whole.Message.Reasoning; r == nil || *r != "So — 1." || *whole.Message.Content != "Yes." || whole.FinishReason != "stop" {
			t.Fatalf("cut at %d: %+v", i, whole.Message)
		}
	}
	if prompt := m.tokenizer.Decode(m.last().Prompt, false); !strings.HasSuffix(prompt, "assistant\n<think>\n") {
		t.Errorf("prompt %q", prompt)
	}
}

// No tag of a call is ever content, wherever the tokens are cut.
func TestToolCalls(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	const call = `<tool_call>{"name": "look", "arguments": {"at": "é"}}</tool_call>`
	text := []rune("Well.\n" + call + "\nthen\n" + strings.Replace(call, "é", "b", 1))
	for i := 0; i < len(text); i += 3 {
		m.pieces = []string{string(text[:i]), string(text[i:])}
		whole, streamed := ask(t, web.URL, oneTool)
		same(t, whole, streamed)
		calls := whole.Message.ToolCalls
		if *whole.Message.Content != "Well." || whole.FinishReason != "tool_calls" || len(calls) != 2 || calls[0].Function.Name != "look" ||
			!json.Valid([]byte(calls[0].Function.Arguments)) || !strings.Contains(calls[0].Function.Arguments, "é") {
			t.Fatalf("cut at %d: %+v", i, whole)
		}
		if whole.Extension == nil || len(whole.Extension.Between) != 1 || strings.TrimSpace(whole.Extension.Between[0]) != "then" {
			t.Errorf("left over: %+v", whole.Extension)
		}
	}
	prompt := m.tokenizer.Decode(m.last().Prompt, false)
	if !strings.Contains(prompt, `"name": "look"`) {
		t.Errorf("the model is not told of the tools: %q", prompt)
	}

	m.pieces = []string{string(text)}
	whole, streamed := ask(t, web.URL, oneTool+`,"parallel_tool_calls":false`)
	same(t, whole, streamed)
	if len(whole.Message.ToolCalls) != 1 || whole.FinishReason != "tool_calls" {
		t.Errorf("parallel_tool_calls false: %+v", whole)
	}

	// Without tools, and with tool_choice none, a call is text.
	for _, fields := range []string{"", oneTool + `,"tool_choice":"none"`} {
		if whole, _ := ask(t, web.URL, fields); *whole.Message.Content != string(text) || whole.Message.ToolCalls != nil || whole.FinishReason != "stop" {
			t.Errorf("%s: %+v", fields, whole)
		}
	}
}

// One call only means that the work stops after it.
func TestOneCallStopsTheWork(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.pieces = append([]string{`<tool_call>{"name": "look"}</tool_call>`}, slices.Repeat([]string{"x"}, 100)...)
	_, web := newTest(t, m, Config{})
	_, body := post(t, web.URL+"/v1/chat/completions", chatBody(oneTool+`,"parallel_tool_calls":false`))
	if u := decode[ChatCompletion](t, body).Usage; u.CompletionTokens != 1 {
		t.Errorf("%d tokens were made", u.CompletionTokens)
	}
}
