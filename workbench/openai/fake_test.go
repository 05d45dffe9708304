package openai

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

const (
	imStart = 351 // ids of testdata/tokenizer.json.gz
	imEnd   = 352
)

// plainTemplate is ChatML; thinkTemplate opens a thought, as Next-Thinking does.
const (
	plainTemplate = `{%- if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif -%}
{%- for m in messages %}
{%- if m.role == 'raise' or m.content == 'raise' %}{{ raise_exception('no such words here') }}{% endif %}
{{- '<|im_start|>' + m.role + '\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}{{- '<tool_call>' + c.function.name + ' ' + c.function.arguments | tojson + '</tool_call>' }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' + (prefix or '') }}{% endif %}`
	thinkTemplate = plainTemplate + "{%- if add_generation_prompt %}{{- '<think>\\n' }}{% endif %}"
)

func gunzip(tb testing.TB, name string) []byte {
	tb.Helper()
	file, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// fake is a model that writes a fixed answer.
type fake struct {
	info      engine.Info
	tokenizer *tokenizer.Tokenizer
	template  *chat.Template

	answer string   // encoded and emitted token by token, then an end token
	pieces []string // instead of answer: the texts of the tokens
	fail   error    // returned after the answer
	full   error    // returned at once
	lost   error    // what Err returns
	broken bool     // panics before the answer
	breaks bool     // panics after the answer
	hang   chan struct{}
	reason engine.Reason

	calls, running atomic.Int32
	mu             sync.Mutex
	requests       []engine.Request
}

func newFake(tb testing.TB, template string) *fake {
	tb.Helper()
	t, err := tokenizer.Parse(gunzip(tb, "testdata/tokenizer.json.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := chat.Parse(template)
	if err != nil {
		tb.Fatal(err)
	}
	return &fake{
		tokenizer: t, template: parsed, answer: "A fox met a hen.",
		info: engine.Info{
			Name: "org/fake", Fingerprint: "fp", Context: 512, Vocab: 384, Tokens: t.Size(), EOS: []int32{imEnd},
			Defaults: engine.Sampling{Temperature: 0.7, TopK: 20, TopP: 0.9},
		},
	}
}

func (f *fake) Info() engine.Info               { return f.info }
func (f *fake) Tokenizer() *tokenizer.Tokenizer { return f.tokenizer }
func (f *fake) Template() *chat.Template        { return f.template }
func (f *fake) SpecialTokens() *chat.Map        { return chat.NewMap() }
func (f *fake) Err() error                      { return f.lost }

func (f *fake) last() engine.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[len(f.requests)-1]
}

// keys are the choices of the last n requests, ascending.
func (f *fake) keys(n int) (keys []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests[len(f.requests)-n:] {
		keys = append(keys, int(r.Choice))
	}
	slices.Sort(keys)
	return keys
}

// GenerateChoices makes all choices side by side, as the engine does.
func (f *fake) GenerateChoices(ctx context.Context, req engine.Request, n int, emit func(int, engine.Token) error) []engine.Outcome {
	out := make([]engine.Outcome, n)
	if f.full != nil {
		for k := range out {
			out[k].Err = f.full
		}
		return out
	}
	var group sync.WaitGroup
	for k := range out {
		req := req
		req.Choice = uint32(k)
		run := func() {
			out[k].Result, out[k].Err = f.generate(ctx, req, func(t engine.Token) error { return emit(k, t) })
		}
		if n == 1 {
			run() // its panics are the handler's
		} else {
			group.Go(run)
		}
	}
	group.Wait()
	return out
}

func (f *fake) generate(ctx context.Context, req engine.Request, emit func(engine.Token) error) (engine.Result, error) {
	f.calls.Add(1)
	f.running.Add(1)
	defer f.running.Add(-1)
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	r := engine.Result{Reason: engine.Stopped, StopID: -1, Prompt: len(req.Prompt)}
	if req.PromptCandidates != nil {
		for _, id := range req.Prompt[1:] {
			r.PromptTokens = append(r.PromptTokens, f.token(id, *req.PromptCandidates))
		}
	}
	tokens := f.script(req)
	if f.broken {
		panic("a bug")
	}
	for i, t := range tokens {
		if i == req.MaxTokens && req.MaxTokens > 0 {
			r.Reason = engine.OutOfRoom
			return r, nil
		}
		r.Completion++
		if err := emit(t); err != nil {
			return r, err
		}
	}
	if f.hang != nil {
		if !req.Deadline.IsZero() {
			var done context.CancelFunc
			ctx, done = context.WithDeadline(ctx, req.Deadline)
			defer done()
		}
		select {
		case <-f.hang:
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
	if f.breaks {
		panic("a bug")
	}
	if f.fail != nil {
		return r, f.fail
	}
	if f.reason != "" {
		r.Reason = f.reason
	} else {
		r.StopID = imEnd
	}
	return r, nil
}

func (f *fake) script(req engine.Request) (tokens []engine.Token) {
	if f.pieces != nil {
		for i, p := range f.pieces {
			tokens = append(tokens, engine.Token{ID: int32(i), Text: p, Logprob: -0.5})
		}
		return tokens
	}
	text := f.tokenizer.NewStream(true)
	for _, id := range f.tokenizer.Encode(f.answer, tokenizer.Default) {
		t := f.token(id, req.Candidates)
		t.Text = text.Push(id)
		tokens = append(tokens, t)
	}
	return append(tokens, f.token(imEnd, req.Candidates))
}

func (f *fake) token(id int32, candidates int) engine.Token {
	t := engine.Token{ID: id, Logprob: -0.5}
	for i := range candidates {
		t.Candidates = append(t.Candidates, ops.Candidate{ID: (id + int32(i)) % 376, Logprob: -0.5 - float32(i)})
	}
	return t
}

// newTest serves a model on a loopback port.
func newTest(tb testing.TB, m Model, cfg Config) (*Server, *httptest.Server) {
	tb.Helper()
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if m != nil {
		s.SetModel(m)
	}
	web := httptest.NewServer(s.Handler())
	tb.Cleanup(web.Close)
	return s, web
}

// post sends a body and returns status and answer.
func post(tb testing.TB, url, body string) (int, []byte) {
	tb.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, data
}

func decode[T any](tb testing.TB, data []byte) (v T) {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("%v in %s", err, data)
	}
	return v
}

// events splits a stream into the data of its events and checks the framing.
func events(tb testing.TB, body []byte) (data []string, done bool) {
	tb.Helper()
	text := string(body)
	if !strings.HasSuffix(text, "\n\n") {
		tb.Fatalf("the stream does not end with an empty line: %q", text)
	}
	for _, event := range strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		switch {
		case strings.HasPrefix(event, ":"):
		case event == "data: [DONE]":
			done = true
		case done || !strings.HasPrefix(event, "data: {") || strings.Contains(event, "\n"):
			tb.Fatalf("bad event %q (after the end: %v)", event, done)
		default:
			data = append(data, strings.TrimPrefix(event, "data: "))
		}
	}
	return data, done
}

// eventually waits for a condition that other goroutines bring about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within 10 s: %s", what)
		}
	}
}
