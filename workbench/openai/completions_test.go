package openai

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// textBody is a completions request.
func textBody(fields string) string { return `{"model":"org/fake",` + fields + `}` }

func complete1(tb testing.TB, url, fields string) Completion {
	tb.Helper()
	status, body := post(tb, url+"/v1/completions", textBody(fields))
	if status != 200 {
		tb.Fatalf("%s: %d %s", fields, status, body)
	}
	return decode[Completion](tb, body)
}

func TestPrompts(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	for _, c := range []struct {
		prompt string
		last   []int32
		n      int
	}{
		{`"hi"`, m.tokenizer.Encode("hi", 0), 1},
		{`"<|im_end|>"`, []int32{imEnd}, 1}, // as the model sees it
		{`["a","hi"]`, m.tokenizer.Encode("hi", 0), 2},
		{`[5,6]`, []int32{5, 6}, 1},
		{`[[5],[7,8],[383]]`, []int32{383}, 3},
	} {
		got := complete1(t, web.URL, `"max_tokens":3,"prompt":`+c.prompt)
		if !slices.Equal(m.last().Prompt, c.last) || len(got.Choices) != c.n {
			t.Errorf("%s: prompt %v, %d choices", c.prompt, m.last().Prompt, len(got.Choices))
		}
		if got.Choices[0].Text == "" || *got.Choices[0].FinishReason != "length" || got.Usage.CompletionTokens != 3*c.n {
			t.Errorf("%s: %+v, %+v", c.prompt, got.Choices[0], got.Usage)
		}
	}
	for _, bad := range []string{`""`, `[]`, `[[]]`, `["a",1]`, `[1,"a"]`, `[1.5]`, `[-1]`, `[384]`, `[[5],[384]]`, `5`, `{}`, `null`, `[null]`, `["a",""]`, `[99999999999]`} {
		status, body := post(t, web.URL+"/v1/completions", textBody(`"prompt":`+bad))
		e := wantError(t, status, body, 400, "invalid_value")
		if e.Param == nil || *e.Param != "prompt" {
			t.Errorf("%s: %s", bad, body)
		}
	}
	status, body := post(t, web.URL+"/v1/completions", textBody(`"prompt":"hi","suffix":"x"`))
	wantError(t, status, body, 400, "unsupported_parameter")
	status, body = post(t, web.URL+"/v1/completions", textBody(`"prompt":"hi","best_of":2`))
	wantError(t, status, body, 400, "unsupported_parameter")
	status, body = post(t, web.URL+"/v1/completions", textBody(`"prompt":["hi","`+strings.Repeat("x y", 400)+`"]`))
	wantError(t, status, body, 400, "context_length_exceeded")
}

// Choices are keyed within their prompt, so that a prompt in a list draws as
// it would alone.
func TestChoicesAreKeyed(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	got := complete1(t, web.URL, `"prompt":["a","b"],"n":2,"seed":3`)
	var indices []int
	for i, r := range m.requests {
		indices = append(indices, got.Choices[i].Index)
		if r.Sampling.Seed != 3 {
			t.Errorf("seed %d", r.Sampling.Seed)
		}
	}
	keys := append(m.keys(4)[:2:2], m.keys(2)...) // of both prompts: 0, 0; of the second: 0, 1
	if !slices.Equal(keys, []int{0, 0, 0, 1}) || !slices.Equal(indices, []int{0, 1, 2, 3}) {
		t.Errorf("keys %v, indices %v", keys, indices)
	}
	if want := len(m.tokenizer.Encode("a", 0)) + len(m.tokenizer.Encode("b", 0)); got.Usage.PromptTokens != want {
		t.Errorf("%d prompt tokens, want %d: a prompt counts once", got.Usage.PromptTokens, want)
	}
}

// Echo with log-probabilities is how evaluations score a text: one entry for
// each token, the first without a value.
func TestEchoLogprobs(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.answer = "é"
	_, web := newTest(t, m, Config{})
	for _, c := range []struct {
		fields    string
		completed int
		text      string
	}{
		{`"prompt":"hi ❄","max_tokens":0`, 0, "hi ❄"},
		{`"prompt":"hi ❄"`, len(m.tokenizer.Encode("é", 0)) + 1, "hi ❄é"},
	} {
		got := complete1(t, web.URL, c.fields+`,"echo":true,"logprobs":2`)
		choice := got.Choices[0]
		l := choice.Logprobs
		prompt := m.tokenizer.Encode("hi ❄", 0)
		n := len(prompt) + c.completed
		if choice.Text != c.text || got.Usage.CompletionTokens != c.completed {
			t.Errorf("%s: text %q, usage %+v", c.fields, choice.Text, got.Usage)
		}
		if len(l.Tokens) != n || len(l.Logprob) != n || len(l.Top) != n || len(l.Offset) != n {
			t.Fatalf("%s: lists of %d, %d, %d, %d, want %d", c.fields, len(l.Tokens), len(l.Logprob), len(l.Top), len(l.Offset), n)
		}
		if l.Logprob[0] != nil || l.Top[0] != nil || *l.Logprob[1] != -0.5 || l.Top[1][l.Tokens[1]] != -0.5 {
			t.Errorf("%s: %+v", c.fields, l)
		}
		if want := []int{0, 1, 2}; !slices.Equal(l.Offset[:3], want) {
			t.Errorf("offsets %v", l.Offset)
		}
		for i, name := range l.Tokens[:len(prompt)] {
			if raw := m.tokenizer.Bytes(prompt[i]); raw[0] >= 0x80 && !strings.HasPrefix(name, `bytes:\x`) {
				t.Errorf("token %d of %v is %q", i, raw, name)
			}
		}
	}
	if r := m.last(); r.PromptCandidates == nil || *r.PromptCandidates != 2 {
		t.Errorf("%+v", r)
	}
	got := complete1(t, web.URL, `"prompt":"hi","logprobs":0`)
	if l := got.Choices[0].Logprobs; len(l.Top) == 0 || len(l.Top[0]) != 1 {
		t.Errorf("logprobs 0 must report the chosen token: %+v", l)
	}
}

func TestTextStreamEqualsWhole(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	for _, fields := range []string{
		`"prompt":"hi"`, `"prompt":["a","b"],"n":2`, `"prompt":"hi","echo":true`, `"prompt":"hi","logprobs":2,"return_token_ids":true`,
		`"prompt":"hi","echo":true,"logprobs":1,"return_token_ids":true`, `"prompt":"hi","echo":true,"max_tokens":0`,
	} {
		fields += `,"seed":1`
		whole := complete1(t, web.URL, fields)
		status, body := post(t, web.URL+"/v1/completions", textBody(fields+`,"stream":true,"stream_options":{"include_usage":true}`))
		data, done := events(t, body)
		if status != 200 || !done {
			t.Fatalf("%d %s", status, body)
		}
		merged := make([]TextChoice, len(whole.Choices))
		var usage *Usage
		for _, d := range data {
			chunk := decode[Completion](t, []byte(d))
			usage = chunk.Usage
			for _, c := range chunk.Choices {
				to := &merged[c.Index]
				to.Index, to.Text = c.Index, to.Text+c.Text
				to.TokenIDs = append(to.TokenIDs, c.TokenIDs...)
				to.PromptTokenIDs = append(to.PromptTokenIDs, c.PromptTokenIDs...)
				if c.FinishReason != nil {
					to.FinishReason = c.FinishReason
				}
				if l := c.Logprobs; l != nil && to.Logprobs == nil {
					to.Logprobs = l
				} else if l != nil {
					to.Logprobs.Tokens = append(to.Logprobs.Tokens, l.Tokens...)
					to.Logprobs.Logprob = append(to.Logprobs.Logprob, l.Logprob...)
					to.Logprobs.Top = append(to.Logprobs.Top, l.Top...)
					to.Logprobs.Offset = append(to.Logprobs.Offset, l.Offset...)
				}
			}
		}
		want, _ := json.Marshal(whole.Choices)
		got, _ := json.Marshal(merged)
		if string(got) != string(want) || usage == nil || *usage != *whole.Usage {
			t.Errorf("%s:\nstream %s\nwhole  %s\nusage %+v, %+v", fields, got, want, usage, whole.Usage)
		}
	}
}

func TestTokenize(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	type answer struct {
		Count   int     `json:"count"`
		Context int     `json:"max_model_len"`
		Tokens  []int32 `json:"tokens"`
		Prompt  string  `json:"prompt"`
	}
	_, body := post(t, web.URL+"/tokenize", `{"prompt":"hi <|im_end|>"}`)
	a := decode[answer](t, body)
	if !slices.Equal(a.Tokens, m.tokenizer.Encode("hi <|im_end|>", 0)) || a.Count != len(a.Tokens) || a.Context != 512 {
		t.Errorf("%s", body)
	}
	ids, _ := json.Marshal(a.Tokens)
	_, body = post(t, web.URL+"/detokenize", `{"tokens":`+string(ids)+`}`)
	if got := decode[answer](t, body).Prompt; got != "hi <|im_end|>" {
		t.Errorf("%q", got)
	}
	_, body = post(t, web.URL+"/tokenize", hello)
	if got := m.tokenizer.Decode(decode[answer](t, body).Tokens, false); got != "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n" {
		t.Errorf("%q", got)
	}
	for path, bad := range map[string]string{"/tokenize": `{}`, "/detokenize": `{"tokens":"a"}`} {
		status, body := post(t, web.URL+path, bad)
		wantError(t, status, body, 400, "invalid_value")
	}
}

func FuzzTextRequest(f *testing.F) {
	m := newFake(f, plainTemplate)
	for _, seed := range []string{
		`"prompt":"hi","logit_bias":{"05":1,"5":2}`, `"prompt":"hi","samplers":["dry","dry"],"dry_multiplier":1,"mirostat":1`,
		`"prompt":"hi"`, `"prompt":[[1],[2,3]],"echo":true,"logprobs":2`, `"prompt":["a"],"max_tokens":0`} {
		f.Add([]byte(textBody(seed)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, bad := parse(body)
		if bad != nil {
			return
		}
		req, err := readTextRequest(fields, m)
		if err != nil {
			if e := toError(t.Context(), err); e.Status != 400 && e.Status != 404 {
				t.Fatalf("%d: %v", e.Status, err)
			}
			return
		}
		checkSampling(t, m, req.request.Sampling)
		for _, p := range req.prompts {
			if len(p.ids) == 0 || len(p.ids)+req.request.MaxTokens > m.info.Context {
				t.Fatalf("out of range: %+v", req)
			}
		}
	})
}
