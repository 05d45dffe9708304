package openai

import (
	"strings"
	"testing"
)

// However a text is cut, reasoning and content come out the same.
func TestThoughts(t *testing.T) {
	for _, c := range []struct {
		inside                   bool
		text, reasoning, content string
	}{
		{false, "plain", "", "plain"},
		{false, "", "", ""},
		{false, "<thin", "", "<thin"},
		{false, "\n<think>x", "", "\n<think>x"},
		{false, "<think>\na\n\nb\n</think>\n\nc\n", "a\n\nb", "c\n"},
		{true, "a\n</think>\n\nc</think>", "a", "c</think>"},
		{true, "\n\na</thin", "a</thin", ""},
		{true, "never closed\n", "never closed", ""},
		{true, "</think>c", "", "c"},
		{true, "a</</think>", "a</", ""},
		{true, "é\n\n</think>\n", "é", ""},
	} {
		for i := range len(c.text) + 1 {
			for j := i; j <= len(c.text); j++ {
				var reasoning, content strings.Builder
				take := func(pieces []piece) {
					for _, p := range pieces {
						if p == (piece{}) {
							t.Errorf("%q: an empty piece", c.text)
						}
						reasoning.WriteString(p.reasoning)
						content.WriteString(p.content)
					}
				}
				s := newThoughts(c.inside)
				for _, part := range []string{c.text[:i], c.text[i:j], c.text[j:]} {
					pieces, err := s.push(part)
					if err != nil {
						t.Fatal(err)
					}
					take(pieces)
				}
				rest, _ := s.close()
				take(rest)
				if reasoning.String() != c.reasoning || content.String() != c.content {
					t.Fatalf("%q cut at %d and %d: reasoning %q, content %q", c.text, i, j, reasoning.String(), content.String())
				}
			}
		}
	}
}

func TestReasoningContent(t *testing.T) {
	m := newFake(t, thinkTemplate)
	m.answer = "So.\n</think>\n\nYes."
	_, web := newTest(t, m, Config{})
	_, body := post(t, web.URL+"/v1/chat/completions", chatBody(""))
	c := decode[ChatCompletion](t, body).Choices[0].Message
	if c.Reasoning == nil || *c.Reasoning != "So." || *c.Content != "Yes." {
		t.Errorf("%s", body)
	}
	if prompt := m.tokenizer.Decode(m.last().Prompt, false); !strings.HasSuffix(prompt, "assistant\n<think>\n") {
		t.Errorf("prompt %q", prompt)
	}
	_, body = post(t, web.URL+"/v1/chat/completions", chatBody(`"stream":true`))
	data, _ := events(t, body)
	var reasoning, content string
	for _, d := range data {
		delta := decode[ChatChunk](t, []byte(d)).Choices[0].Delta
		if delta.Reasoning != nil {
			reasoning += *delta.Reasoning
		}
		if delta.Content != nil {
			content += *delta.Content
		}
	}
	if reasoning != "So." || content != "Yes." {
		t.Errorf("stream: reasoning %q, content %q", reasoning, content)
	}
}
