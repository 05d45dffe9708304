package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
	"github.com/roundhouse-ai/roundhouse/workbench/docs"
	feeds "github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
)

// TestMain is also what the process of an inline script runs: the program is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == worker.Verb {
		if err := worker.Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var testShape = hook.Shape{Layers: 2, Experts: 8, K: 2, Hidden: 3}

// played is a fake whose tokens go through the chain of the request's hooks: without
// them, it writes its answer, by logits that prefer it.
type played struct{ *fake }

func (p played) GenerateChoices(ctx context.Context, req engine.Request, n int, emit func(int, engine.Token) error) []engine.Outcome {
	out := make([]engine.Outcome, n)
	for k := range out {
		req := req
		req.Choice = uint32(k)
		out[k].Result, out[k].Err = p.play(req, func(t engine.Token) error { return emit(k, t) })
	}
	return out
}

func (p played) play(req engine.Request, emit func(engine.Token) error) (r engine.Result, err error) {
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	r = engine.Result{Reason: engine.Stopped, StopID: -1, Prompt: len(req.Prompt)}
	if req.PromptCandidates != nil {
		r.PromptTokens = make([]engine.Token, len(req.Prompt)-1)
	}
	chain, err := p.chain(req)
	if err != nil {
		return r, err
	}
	defer chain.Close()
	answer := append(p.tokenizer.Encode(p.answer, tokenizer.Default), imEnd)
	text := p.tokenizer.NewStream(true)
	for i := 0; ; i++ {
		if r.Completion == req.MaxTokens && req.MaxTokens > 0 {
			r.Reason = engine.OutOfRoom
			break
		}
		row := make(hook.Plain, p.info.Tokens)
		row[answer[min(i, len(answer)-1)]] = 5
		position := len(req.Prompt) + i
		v, err := chain.Logits(hook.At{Position: position}, row, row)
		if err != nil {
			return r, err
		}
		if r.StopHook = v.Stop; v.Stop != "" {
			break
		}
		if v.Edits != nil {
			v.Edits.Apply(row, nil)
		}
		t := engine.Token{ID: v.ID, Forced: v.Forced, Logprob: -0.5}
		if !v.Decided {
			t.ID = int32(slices.Index(row, slices.Max(row)))
		}
		record := testRecord(position - 1)
		if req.Routing {
			t.Routing = &record
		}
		for c := range req.Candidates {
			t.Candidates = append(t.Candidates, ops.Candidate{ID: int32(c), Logprob: -float32(c)})
		}
		t.Text = text.Push(t.ID)
		r.Completion++
		if err := emit(t); err != nil {
			return r, err
		}
		chain.Token(hook.Token{Position: position, ID: t.ID, Text: t.Text, Forced: t.Forced})
		chain.Routing(record)
		if t.ID == imEnd {
			r.StopID = imEnd
			break
		}
	}
	if req.PromptRouting {
		for i := range req.Prompt {
			r.PromptRouting = append(r.PromptRouting, testRecord(i))
		}
	}
	r.Hooks = chain.Finish(hook.Finish{Reason: string(r.Reason), Prompt: r.Prompt, Completion: r.Completion})
	return r, nil
}

func (p played) chain(req engine.Request) (*hook.Chain, error) {
	if req.Hooks == nil {
		return nil, nil //nolint:nilnil // a nil chain has no hooks
	}
	var list []hook.Hook
	if req.Hooks.Start != nil {
		var err error
		if list, err = req.Hooks.Start(req.Choice); err != nil {
			return nil, err
		}
	}
	chain, err := hook.NewChain(hook.Options{Shape: testShape, Tokens: p.info.Tokens, Choice: int(req.Choice), OnError: req.Hooks.OnError, Steer: req.Hooks.Steer,
		Notify: func(n hook.Notice) { req.Hooks.Notify(req.Choice, n) }}, list...)
	if err == nil {
		_, err = chain.Prompt(req.Prompt)
	}
	return chain, err
}

func testRecord(position int) hook.Record {
	return hook.Record{Position: position, Layers: 2, K: 2, IDs: []uint16{3, 1, 7, hook.NoExpert}, Weights: []float32{.75, .25, 1, 0}}
}

// owned is how package workbench gives a server its hooks.
type owned struct{ *hooks.Owner }

func (o owned) Prepare(ctx context.Context, ask HookAsk) (HookSet, error) {
	set, err := o.Owner.Prepare(ctx, hooks.Ask(ask))
	if set == nil {
		return nil, err
	}
	return ownedSet{set}, nil
}

type ownedSet struct{ *hooks.Set }

func (s ownedSet) Scripts(index int) (list []ScriptUse) {
	for _, u := range s.Set.Scripts(index) {
		list = append(list, ScriptUse(u))
	}
	return list
}

// scripted serves a model whose requests may have these scripts.
func scripted(t *testing.T, o hooks.Options, files map[string]string) (m played, url string, hub *feeds.Hub) {
	t.Helper()
	o.Dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m = played{newFake(t, plainTemplate)}
	hub = feeds.New(testLog)
	o.Publish = hub.Publish
	owner := hooks.New(o)
	t.Cleanup(func() {
		if err := owner.Close(); err != nil {
			t.Error(err)
		}
	})
	owner.SetModel(hook.Model{Name: "org/fake", Shape: testShape, Tokens: m.info.Tokens, EOS: m.info.EOS}, nil)
	_, web := newTest(t, m, Config{Hooks: owned{owner}, Events: hub})
	return m, web.URL, hub
}

// scriptOf wraps handlers.
func scriptOf(fields, handlers string) string {
	return `import { script } from "roundhouse";
export default script({ api: 1, ` + fields + ` hooks({ params, request, steer, emit, stop, inject, log }) { return { ` + handlers + ` }; } });`
}

// both sends a request whole and streamed, and returns both answers.
func both(t *testing.T, url, fields string) (ChatCompletion, []ChatChunk) {
	t.Helper()
	status, body := post(t, url+"/v1/chat/completions", chatBody(fields))
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	whole := decode[ChatCompletion](t, body)
	status, body = post(t, url+"/v1/chat/completions", chatBody(fields+`,"stream":true`))
	data, done := eventsOf(t, status, body)
	if !done {
		t.Fatalf("no end: %s", body)
	}
	return whole, data
}

func eventsOf(t *testing.T, status int, body []byte) (chunks []ChatChunk, done bool) {
	t.Helper()
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	list, done := events(t, body)
	for _, data := range list {
		chunks = append(chunks, decode[ChatChunk](t, []byte(data)))
	}
	return chunks, done
}

func TestScriptsChangeTheAnswer(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{}, map[string]string{
		"swap.ts": scriptOf(`params: { to: { type: "integer", default: 40, minimum: 0, maximum: 300 } },`,
			`logits(l, at) { if (at.position === request.body.at) l.bias(params.to, 50); }`),
	})
	whole, chunks := both(t, url, `"at":15,"max_tokens":5,"return_token_ids":true,"roundhouse":{"script":"swap","params":{"to":41},"return":["hooks"]}`)
	ids := whole.Choices[0].TokenIDs
	n := 15 - whole.Usage.PromptTokens
	if n < 0 || n > 4 {
		t.Fatalf("the prompt has %d tokens", whole.Usage.PromptTokens)
	}
	e := whole.Extension
	if ids[n] != 41 || e.HookUse == nil || e.Degraded != 0 || len(e.Scripts) != 1 || e.Scripts[0].Name != "swap" || len(e.Scripts[0].Digest) != 64 ||
		len(e.Hooks) != 1 || e.Hooks[0].Edits != 1 || e.Hooks[0].Calls == 0 || e.Choices != nil {
		t.Errorf("%+v of token %d, %+v", whole, n, e)
	}
	var streamed []int32
	for i, c := range chunks {
		streamed = append(streamed, c.Choices[0].TokenIDs...)
		if want := i == 0 || i == len(chunks)-1; (c.Extension != nil) != want {
			t.Errorf("chunk %d of %d: extension %+v", i, len(chunks), c.Extension)
		}
	}
	if !slices.Equal(streamed, ids) || chunks[0].Extension.HookUse != nil {
		t.Errorf("streamed %v, whole %v", streamed, ids)
	}
	if diff := cmp.Diff(e.Scripts, chunks[len(chunks)-1].Extension.Scripts); diff != "" {
		t.Error(diff)
	}
	if plain, _ := both(t, url, `"roundhouse":{"return":["hooks"]}`); plain.Extension.HookUse != nil {
		t.Errorf("no hooks, and a report: %+v", plain.Extension.HookUse)
	}
}

// Two scripts in their order, parameters by name, and a script of every request.
func TestParametersByScript(t *testing.T) {
	file := scriptOf(`params: { x: { type: "number", default: 1 } },`, `logits(l) { log(params.x); }`)
	_, url, hub := scripted(t, hooks.Options{Use: []string{"all"}}, map[string]string{"a.ts": file, "b.js": file, "all.ts": file})
	for fields, want := range map[string][]string{
		`"roundhouse":{"script":["b","a"],"params":{"a":{"x":2},"all":{"x":3}}}`: {"all 3", "b 1", "a 2"},
		`"roundhouse":{"script":"b","params":{"x":5}}`:                           {"all 1", "b 5"},
		`"roundhouse":{"params":{"x":6}}`:                                        {"all 6"},
		`"roundhouse":{"script":["all"],"params":{}}`:                            {"all 1"},
		`"user":"u"`: {"all 1"},
	} {
		var said []string
		watch(t, hub, func() { post(t, url+"/v1/chat/completions", chatBody(fields+`,"max_tokens":1`)) }, func(e feeds.Event) {
			if e.Kind == "hook_log" {
				data := e.Data.(map[string]any)
				said = append(said, fmt.Sprint(data["hook"], " ", data["value"]))
			}
		})
		if !slices.Equal(said, want) {
			t.Errorf("%s: %q, want %q", fields, said, want)
		}
	}
}

func TestHookRefusals(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{}, map[string]string{
		"one.ts":   scriptOf(`params: { x: { type: "number", minimum: 0, default: 1 } },`, ``),
		"need.ts":  scriptOf(`params: { y: { type: "string" } },`, ``),
		"bad.ts":   "export default 5 +;",
		"throw.ts": scriptOf(`request(r) { null.x; },`, ``),
		"other.ts": scriptOf(`request(r) { r.roundhouse.script = "one"; },`, ``),
		"wrong.ts": scriptOf(`request(r) { r.temperature = 99; },`, ``),
		"burst.ts": scriptOf(``, `logits(l) { l.ban(-1); }`),
	})
	for _, c := range []struct {
		field  string
		status int
		code   string
		param  string
		says   string
	}{
		{`5`, 400, "invalid_value", "roundhouse", "object"},
		{`{"scripts":"one"}`, 400, "invalid_value", "roundhouse.scripts", "no such field"},
		{`{"script":5}`, 400, "invalid_value", "roundhouse.script", "string"},
		{`{"script":["one","one"]}`, 400, "invalid_value", "roundhouse.script", "twice"},
		{`{"script":["a","b","c","d","e","f","g","h","i"]}`, 400, "invalid_value", "roundhouse.script", "9 names"},
		{`{"script":"none"}`, 404, "script_not_found", "roundhouse.script", "there are bad, burst, need, one"},
		{`{"script":"../one"}`, 404, "script_not_found", "roundhouse.script", "names are made of"},
		{`{"script":"bad"}`, 500, "script_broken", "roundhouse.script", "bad.ts:1:"},
		{`{"script":"throw"}`, 422, "hook_failed", "roundhouse.script", "throw.ts:2:"},
		{`{"script":"other"}`, 422, "hook_failed", "roundhouse", "which scripts run"},
		{`{"script":"wrong"}`, 400, "invalid_value", "temperature", "a script changed"},
		{`{"script":"one","params":{"x":-1}}`, 400, "invalid_value", "roundhouse.params.x", "at least 0"},
		{`{"script":"one","params":{"one":{"x":-1}}}`, 400, "invalid_value", "roundhouse.params.one.x", "at least 0"},
		{`{"script":"one","params":{"two":{"x":1}}}`, 400, "invalid_value", "roundhouse.params.two", "no such script"},
		{`{"script":["one","bad"],"params":{"x":1}}`, 500, "script_broken", "roundhouse.script", ""},
		{`{"params":{"x":1}}`, 400, "invalid_value", "roundhouse.params", "or none"},
		{`{"script":"need"}`, 400, "invalid_value", "roundhouse.params.y", "must be given"},
		{`{"script":"one","params":[1]}`, 400, "invalid_value", "roundhouse.params", "an object"},
		{`{"source":{"text":"x"}}`, 403, "inline_scripts_off", "roundhouse.source", "scripts.inline"},
		{`{"source":{"file":"../x.ts","text":"x"}}`, 400, "invalid_value", "roundhouse.source.file", "must be a name"},
		{`{"source":{"file":"x.py","text":"x"}}`, 400, "invalid_value", "roundhouse.source.file", "must be a name"},
		{`{"source":{"file":"x.ts"}}`, 400, "invalid_value", "roundhouse.source.text", "0 bytes"},
		{`{"source":{"text":"x","name":"y"}}`, 400, "invalid_value", "roundhouse.source.name", "no such field"},
		{`{"steer":{"layers":{"7":{"ban":[1]}}}}`, 400, "invalid_value", "roundhouse.steer.layers.7.ban", "layer 7"},
		{`{"steer":{"layer":{}}}`, 400, "invalid_value", "roundhouse.steer", "unknown field"},
		{`{"steer":{"vectors":[{"name":"calm","layer":0}]}}`, 400, "invalid_value", "roundhouse.steer.vectors.0", "no vector"},
		{`{"on_error":"stop"}`, 400, "invalid_value", "roundhouse.on_error", "disable or fail"},
		{`{"return":["tokens"]}`, 400, "invalid_value", "roundhouse.return", "routing, hooks and candidates"},
		{`{"candidates":5}`, 400, "invalid_value", "roundhouse.candidates", "return"},
		{`{"return":["candidates"],"candidates":257}`, 400, "invalid_value", "roundhouse.candidates", "256"},
		{`{"return":["candidates"],"capture":"all"}`, 400, "invalid_value", "roundhouse.capture", "return"},
		{`{"return":["routing"],"capture":"some"}`, 400, "invalid_value", "roundhouse.capture", "decode or all"},
		{`{"script":"burst","on_error":"fail"}`, 422, "hook_failed", "", "burst.ts:2:"},
	} {
		for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
			status, body := post(t, url+path, `{"model":"org/fake","prompt":"hi","messages":[{"role":"user","content":"hi"}],"roundhouse":`+c.field+`}`)
			if status != c.status {
				t.Errorf("%s: %d %s", c.field, status, body)
				continue
			}
			e := decode[errorBody](t, body).Error
			param := ""
			if e.Param != nil {
				param = *e.Param
			}
			if e.code() != c.code || c.param != "" && param != c.param || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s: %s", c.field, body)
			}
		}
	}
	_, web := newTest(t, newFake(t, plainTemplate), Config{})
	status, body := post(t, web.URL+"/v1/chat/completions", chatBody(`"roundhouse":{}`))
	if e := wantError(t, status, body, 400, "unsupported_parameter"); *e.Param != "roundhouse" {
		t.Errorf("%s", body)
	}
	if status, body := post(t, web.URL+"/v1/chat/completions", chatBody(`"roundhouse":null`)); status != 200 {
		t.Errorf("null: %d %s", status, body)
	}
}

// A script may change the request before it is read.
func TestScriptsChangeTheRequest(t *testing.T) {
	m, url, _ := scripted(t, hooks.Options{Use: []string{"rules"}}, map[string]string{
		"rules.ts": scriptOf(`request(r, { log }) { log("seen"); r.messages.unshift({ role: "system", content: "Be brief." }); r.temperature = 0.25; r.roundhouse = { steer: { layers: { 1: { ban: [3] } } } }; },`, ``),
	})
	status, body := post(t, url+"/v1/chat/completions", chatBody(""))
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	r := m.last()
	if prompt := m.tokenizer.Decode(r.Prompt, false); !strings.HasPrefix(prompt, "<|im_start|>system\nBe brief.") || r.Sampling.Temperature != 0.25 {
		t.Errorf("%q at %v", prompt, r.Sampling.Temperature)
	}
	if r.Hooks == nil || !slices.Equal(r.Hooks.Steer.Layer(1).Ban, []int32{3}) {
		t.Errorf("steering %+v", r.Hooks)
	}
}

func TestHooksStopAndInject(t *testing.T) {
	m, url, _ := scripted(t, hooks.Options{}, map[string]string{
		"stop.ts":   scriptOf(`lag: 1,`, `token(t) { if (t.id === 101) stop("enough"); else if (!t.forced) inject([100, 101]); }`),
		"faulty.ts": scriptOf(``, `logits(l) { l.ban(-1); }`),
	})
	whole, chunks := both(t, url, `"roundhouse":{"script":"stop","return":["candidates","routing"],"candidates":2,"capture":"all"}`)
	c := whole.Choices[0]
	if c.FinishReason != "stop" || c.StopReason != "enough" || whole.Extension.StopHook != "enough" || !whole.Extension.Synchronous || !whole.Extension.Undrafted {
		t.Errorf("%+v, %+v", c, whole.Extension.HookUse)
	}
	tokens := c.Extension.Tokens
	if len(tokens) != 3 || tokens[0].Forced || !tokens[1].Forced || !tokens[2].Forced || tokens[2].ID != 101 {
		t.Fatalf("%+v", tokens)
	}
	want := RoutingData{Position: whole.Usage.PromptTokens - 1, IDs: [][]uint16{{3, 1}, {7}}, Weights: [][]float32{{.75, .25}, {1}}}
	if diff := cmp.Diff(want, *tokens[0].Routing); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]ranked{{0, 0}, {1, -1}}, tokens[0].Candidates); diff != "" {
		t.Error(diff)
	}
	if len(c.Extension.Prompt) != whole.Usage.PromptTokens {
		t.Errorf("routing of %d prompt rows", len(c.Extension.Prompt))
	}
	var streamed []TokenData
	for _, chunk := range chunks {
		if e := chunk.Choices[0].Extension; e != nil {
			streamed = append(streamed, e.Tokens...)
		}
	}
	if diff := cmp.Diff(tokens, streamed); diff != "" {
		t.Errorf("whole (-), streamed (+):\n%s", diff)
	}
	if last := chunks[len(chunks)-1]; last.Extension.StopHook != "enough" || last.Choices[0].StopReason != "enough" || len(last.Choices[0].Extension.Prompt) != whole.Usage.PromptTokens {
		t.Errorf("%+v", last)
	}
	whole, _ = both(t, url, `"n":2,"roundhouse":{"script":["faulty"],"return":["hooks"]}`)
	e := whole.Extension
	if e.Degraded != 6 || len(e.Choices) != 2 || e.Choices[1].Index != 1 || e.Choices[1].Degraded != 3 || !e.Choices[1].Hooks[0].Off || e.Hooks != nil || e.Scripts != nil {
		t.Errorf("%+v %+v", e.HookUse, e.Choices)
	}
	if *whole.Choices[0].Message.Content != m.answer {
		t.Errorf("%q", *whole.Choices[0].Message.Content)
	}
}

// Completions have the same, over all prompts.
func TestHooksOfCompletions(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{}, map[string]string{"a.ts": scriptOf(``, `logits(l) { l.bias(5, 90); }`)})
	const fields = `{"model":"org/fake","prompt":["hi","ho"],"max_tokens":2,"n":2,"logprobs":1,"roundhouse":{"script":"a","return":["candidates"],"candidates":3}`
	status, body := post(t, url+"/v1/completions", fields+"}")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	got := decode[Completion](t, body)
	for i, c := range got.Choices {
		if len(c.Extension.Tokens) != 2 || c.Extension.Tokens[0].ID != 5 || len(c.Extension.Tokens[0].Candidates) != 3 || len(c.Logprobs.Top[0]) > 2 {
			t.Errorf("choice %d: %+v, %+v", i, c.Extension, c.Logprobs)
		}
	}
	if e := got.Extension; len(e.Choices) != 4 || e.Choices[3].Index != 3 || len(e.Choices[3].Scripts) != 1 {
		t.Errorf("%s", body)
	}
	for _, more := range []string{`,"stream":true}`, `,"stream":true,"echo":true}`} {
		status, body = post(t, url+"/v1/completions", fields+more)
		data, done := events(t, body)
		if status != 200 || !done {
			t.Fatalf("%d %s", status, body)
		}
		last, tokens, reports := decode[Completion](t, []byte(data[len(data)-1])), 0, 0
		for _, d := range data {
			c := decode[Completion](t, []byte(d))
			if e := c.Choices[0].Extension; e != nil {
				tokens += len(e.Tokens)
			}
			if c.Extension != nil && c.Extension.HookUse != nil {
				reports++
			}
		}
		if tokens != 8 || reports != 1 || len(last.Extension.Choices) != 4 {
			t.Errorf("%d tokens, %d reports, %s", tokens, reports, data[len(data)-1])
		}
	}
}

func TestReturnedDataIsBounded(t *testing.T) {
	m, url, _ := scripted(t, hooks.Options{}, nil)
	m.answer = strings.Repeat("word ", 60)
	status, body := post(t, url+"/v1/chat/completions", strings.Replace(chatBody(`"n":128,"roundhouse":{"return":["routing"],"capture":"all"}`), "hi", strings.Repeat("hi ", 30), 1))
	if e := wantError(t, status, body, 400, "invalid_value"); *e.Param != "roundhouse.capture" {
		t.Errorf("%s", body)
	}
	status, body = post(t, url+"/v1/chat/completions", chatBody(`"n":128,"roundhouse":{"return":["routing"]}`))
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	got, kept, left := decode[ChatCompletion](t, body), 0, 0
	for _, c := range got.Choices {
		kept, left = kept+len(c.Extension.Tokens), left+c.Extension.LeftOut
	}
	if kept != maxReturned || kept+left != got.Usage.CompletionTokens {
		t.Errorf("%d tokens have data, %d are left out, of %d", kept, left, got.Usage.CompletionTokens)
	}
}

func TestInlineScripts(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{Inline: true, InlineMemory: 1 << 30}, map[string]string{"a.ts": scriptOf(``, ``)})
	ask := func(source string, more string) (int, []byte) {
		text, err := json.Marshal(source)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, url+"/v1/chat/completions", chatBody(`"max_tokens":2,"return_token_ids":true,"roundhouse":{"source":{"file":"mine.ts","text":`+string(text)+`}`+more+`}`))
	}
	status, body := ask(scriptOf(`params: { to: { type: "integer" } }, request(r) { r.max_tokens = 1; },`, `logits(l) { l.bias(params.to, 90); }`), `,"script":"a","params":{"mine":{"to":33}}`)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	got := decode[ChatCompletion](t, body)
	if !slices.Equal(got.Choices[0].TokenIDs, []int32{33}) || len(got.Extension.Scripts) != 2 || got.Extension.Scripts[1].Name != "mine" {
		t.Errorf("%s", body)
	}
	status, body = ask("export default 5 +;", "")
	if e := wantError(t, status, body, 400, "script_broken"); *e.Param != "roundhouse.source" || !strings.Contains(e.Message, "mine.ts:1:") {
		t.Errorf("%s", body)
	}
	status, body = ask(scriptOf(``, ``), `,"params":{"x":1}`)
	if e := wantError(t, status, body, 400, "invalid_value"); *e.Param != "roundhouse.params.x" {
		t.Errorf("%s", body)
	}
	status, body = ask(scriptOf(``, `logits(l) { for (;;); }`), `,"on_error":"fail"`)
	wantError(t, status, body, 422, "hook_failed")
}

// The table of the page has every field, and no other.
func TestPageNamesEveryHookField(t *testing.T) {
	source, err := os.ReadFile("hooks.go")
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]bool{}
	for _, m := range regexp.MustCompile(`takeNames\(o, "(\w+)"`).FindAllSubmatch(source, -1) {
		taken[string(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`\b([os])\.(?:take|whole)\("(\w+)"`).FindAllSubmatch(source, -1) {
		name := string(m[2])
		if string(m[1]) == "s" {
			name = "source." + name
		}
		taken[name] = true
	}
	page, err := docs.Files.ReadFile("api.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	_, section, _ := strings.Cut(string(page), "\n## Hooks")
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w.]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed[m[1]] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(taken)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("fields of the code (-) and of api.md (+):\n%s", diff)
	}
}

// With the field in use, answers still follow OpenAI's description.
func TestHookedResponsesFollowTheSpec(t *testing.T) {
	s := newSpec(t)
	_, url, _ := scripted(t, hooks.Options{}, map[string]string{"a.ts": scriptOf(``, `logits(l) {}`)})
	const field = `"n":2,"roundhouse":{"script":"a","return":["routing","hooks","candidates"],"capture":"all"}`
	_, body := post(t, url+"/v1/chat/completions", chatBody(field))
	s.check(t, "CreateChatCompletionResponse", body)
	_, body = post(t, url+"/v1/chat/completions", chatBody(field+`,"stream":true`))
	data, _ := events(t, body)
	for _, d := range data {
		s.check(t, "CreateChatCompletionStreamResponse", []byte(d))
	}
	_, body = post(t, url+"/v1/completions", `{"model":"org/fake","prompt":"hi",`+field+`}`)
	s.check(t, "CreateCompletionResponse", body)
}
