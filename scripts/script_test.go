package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

var model = hook.Model{Name: "small", Shape: hook.Shape{Layers: 4, Experts: 8, K: 2, Hidden: 3}, Tokens: 8, EOS: []int32{7}}

// letters is a tokenizer of the letters a to h.
type letters struct{}

func (letters) Encode(text string) (ids []int32, err error) {
	for _, c := range text {
		if c < 'a' || c > 'h' {
			return nil, fmt.Errorf("no token for %q", c)
		}
		ids = append(ids, int32(c-'a'))
	}
	return ids, nil
}

func (letters) Decode(ids []int32) (text string) {
	for _, id := range ids {
		text += string(rune('a' + id))
	}
	return text
}

// play is a choice played to the hooks of a script: a prompt of 3 tokens, then draws
// from one row.
type play struct {
	*hook.Chain
	t       *testing.T
	notices []hook.Notice
	row     hook.Plain
}

// wrapped is a script around the body of hooks.
func wrapped(body string) string {
	return `import { script } from "roundhouse";
export default script({ api: 1, hooks({ params, request, model, steer, tokens, state, random, log, emit, stop, inject, snapshot, rewind }) { ` + body + ` } });`
}

func load(t *testing.T, h *Host, text string) *Script {
	t.Helper()
	s, err := h.Load(context.Background(), files("test.ts", text), "test.ts")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func begin(t *testing.T, text string, o hook.Options, env Env) (*play, error) {
	t.Helper()
	h := NewHost(Options{})
	env.Model, env.Tokenizer = model, letters{}
	i, err := load(t, h, text).Start(env)
	if err != nil {
		t.Fatal(err)
	}
	p := &play{t: t, row: hook.Plain{0, 1, 2, 3, 4, 5, 6, 7}}
	o.Shape, o.Tokens, o.Notify = model.Shape, model.Tokens, func(n hook.Notice) { p.notices = append(p.notices, n) }
	if p.Chain, err = hook.NewChain(o, i); err != nil {
		return nil, err
	}
	t.Cleanup(p.Close)
	_, err = p.Prompt([]int32{1, 2, 3})
	return p, err
}

func started(t *testing.T, text string, o hook.Options) *play {
	t.Helper()
	p, err := begin(t, text, o, Env{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// step decides a token and tells of it and of the row before.
func (p *play) step(position int) (hook.Verdict, error) {
	v, err := p.Logits(hook.At{Position: position}, p.row, p.row)
	if v.Rewind {
		return v, err
	}
	p.Token(hook.Token{Position: position, ID: int32(position % 8), Text: letters{}.Decode([]int32{int32(position % 8)}), Logprob: -.5})
	r := hook.Record{Position: position - 1, Layers: 4, K: 2}
	for layer := range 4 {
		r.IDs = append(r.IDs, uint16((position+layer)%8), uint16((position+layer+1)%8))
		r.Weights = append(r.Weights, .75, .25)
	}
	p.Routing(r)
	return v, err
}

// logs are the lines that the script logged.
func (p *play) logs() (lines []string) {
	for _, n := range p.notices {
		if n.Name == "log" {
			lines = append(lines, n.Value.(string))
		}
	}
	return lines
}

// said runs a logits handler and returns what it logged.
func said(t *testing.T, handler string) string {
	t.Helper()
	p := started(t, wrapped(`return { logits(l, at) { `+handler+` } }`), hook.Options{OnError: hook.Fail})
	if _, err := p.step(3); err != nil {
		t.Fatalf("%s: %v", handler, err)
	}
	return strings.Join(p.logs(), "|")
}

// fault runs a logits handler and returns how it failed.
func fault(t *testing.T, handler string) *hook.Fault {
	t.Helper()
	p := started(t, wrapped(`return { logits(l, at) { `+handler+` } }`), hook.Options{OnError: hook.Fail, Budget: time.Second})
	_, err := p.step(3)
	var f *hook.Fault
	if !errors.As(err, &f) {
		t.Fatalf("%s: %v is no *hook.Fault", handler, err)
	}
	return f
}

func TestEdits(t *testing.T) {
	p := started(t, wrapped(`return { logits(l, at) {
		l.bias(1, 2).bias([2, 3], -1).ban(new Int32Array([4])).temperature(0.5).topK(3).topP(0.9).minP(0.1).typical(0.8).scale(2);
	} }`), hook.Options{OnError: hook.Fail})
	v, err := p.step(3)
	if err != nil {
		t.Fatal(err)
	}
	row := slices.Clone(p.row)
	v.Edits.Apply(row, nil)
	if want := "[0 6 2 4 -Inf 10 12 14]"; fmt.Sprint([]float32(row)) != want {
		t.Errorf("%v, want %v", row, want)
	}
	for setting, want := range map[hook.Setting]float64{hook.Temperature: .5, hook.TopK: 3, hook.TopP: .9, hook.MinP: .1, hook.Typical: .8} {
		if got, set := v.Edits.Values.Get(setting); !set || got != want {
			t.Errorf("%s: %v", setting, got)
		}
	}
	p = started(t, wrapped(`return { logits(l) { l.only([1, 2]) } }`), hook.Options{})
	if v, _ := p.step(3); v.Edits == nil || !v.Edits.Allows(1) || v.Edits.Allows(0) {
		t.Errorf("only: %+v", v.Edits)
	}
}

func TestReads(t *testing.T) {
	for handler, want := range map[string]string{
		`log(l.top(2).ids)`:                                                                                         `{"0":7,"1":6}`,
		`log(l.top(3).n, l.top(3).logits[1])`:                                                                       `3 6`,
		`log(l.prob(7).toFixed(3))`:                                                                                 `0.632`,
		`log(l.model.prob(7).toFixed(3))`:                                                                           `0.632`,
		`log(l.rank(7), l.rank(0))`:                                                                                 `0 7`,
		`log(l.entropy().toFixed(3))`:                                                                               `1.038`,
		`log(l.full().length, l.full()[3])`:                                                                         `8 3`,
		`log(l.logprob(7) === l.top(1).logprobs[0])`:                                                                `true`,
		`log(at.position, at.phase, at.choice)`:                                                                     `3 decode 0`,
		`log(Symbol("x"), null, undefined, NaN, () => 1, new Error("e"))`:                                           `x null undefined NaN null Error: e`,
		`const d = l.top(3), id = d.draw(); log(id === 7 || id === 6 || id === 5)`:                                  `true`,
		`log(model.layers, model.experts, model.topK, model.tokens, model.eos[0], model.name)`:                      `4 8 2 8 7 small`,
		`log(tokens.encode("abc"), tokens.one("c"), tokens.decode([0, 1]))`:                                         `{"0":0,"1":1,"2":2} 2 ab`,
		`log(Math.random() === random(), random() < 1)`:                                                             `false true`,
		`log(Date.now())`:                                                                                           `-62135596800000`,
		`const f = l.full(); f[0] = 100; log(l.full()[0])`:                                                          `0`,
		`try { l.ban(9) } catch (e) { log(e.name, e.kind, e instanceof Error) }`:                                    `HookError bad_id true`,
		`log(typeof eval, typeof BigInt, typeof require, typeof process, typeof fetch)`:                             `undefined undefined undefined undefined undefined`,
		`log([1, [2, [3]]].flat(9).length, [1, [2]].join("-"), [1, [2, 3]] + "")`:                                   `3 1-2 1,2,3`,
		`log(JSON.stringify({ a: [1, { b: "x" }], c: undefined }, null, 0), JSON.stringify({ a: 1, b: 2 }, ["b"]))`: `{"a":[1,{"b":"x"}]} {"b":2}`,
		`log(new Float32Array(3).length, new Float32Array([1, 2]).map(x => x * 2)[1], Float32Array.from([1]).length, new Uint8Array(new ArrayBuffer(8)).length)`: `3 4 1 8`,
		`log(new Float32Array(2) instanceof Float32Array, new Float32Array(2).constructor === Float32Array)`:                                                     `true true`,
		`log("ab".repeat(2), "a".padStart(3, "-"), "aXbX".replaceAll("X", "$&$&"), "a-b".split("-").length)`:                                                     `abab --a aXXbXX 2`,
	} {
		if got := said(t, handler); got != want {
			t.Errorf("%s: %s, want %s", handler, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	for handler, want := range map[string]string{
		`l.ban(8)`:                         "bad_id",
		`l.ban(1.5)`:                       "bad_id",
		`l.ban("1")`:                       "bad_value",
		`l.ban({ length: 2 })`:             "bad_value",
		`l.ban([0, 1, 2, 3, 4, 5, 6, 7])`:  "nothing_left",
		`l.only([])`:                       "nothing_left",
		`l.bias(1)`:                        "bad_value",
		`l.bias(1, NaN)`:                   "not_a_number",
		`l.bias(1, 1e60)`:                  "bad_value",
		`l.temperature(-1)`:                "bad_value",
		`l.topK(0.5)`:                      "bad_value",
		`l.top(9)`:                         "bad_value",
		`l.prob(NaN)`:                      "bad_id",
		`throw new Error("no")`:            "exception",
		`throw { toString() { throw 1 } }`: "exception",
		`null.x`:                           "exception",
		`const f = () => f(); f()`:         "exception",
		`return Promise.resolve()`:         "misuse",
		`const { ban } = l; ban(1)`:        "misuse",
		`l.ban.call({}, 1)`:                "misuse",
		`stop("now")`:                      "misuse",
		`inject("abc")`:                    "misuse",
		`state(() => 1)`:                   "misuse",
		`snapshot()`:                       "misuse",
		`tokens.one("ab")`:                 "bad_value",
		`tokens.decode([9])`:               "bad_id",
		`steer.layer(4).ban(1)`:            "bad_id",
		`steer.layer(1).ban(1).force(1)`:   "bad_value",
		`steer.all.topK(17)`:               "bad_value",
		`steer.all.ban([0,1,2,3,4,5,6])`:   "nothing_left",
		`steer.vector("calm", { layer: 1, scale: 1 })`: "bad_value",
		`emit("x", NaN)`:                       "not_a_number",
		`new Function("return 1")()`:           "exception",
		`(() => {}).constructor("return 1")()`: "exception",
		`l.add(l, 2)`:                          "bad_value",
		`/^\p{L}$/u.test("a")`:                 "bad_value",
		`new RegExp("[\\P{Lu}]", "gu")`:        "bad_value",
	} {
		if f := fault(t, handler); f.Kind.String() != want || f.Hook != "test" || f.Event != "logits" || f.Position != 3 {
			t.Errorf("%s: %v, want %s", handler, f, want)
		}
	}
}

func TestLinesAreOfTheSource(t *testing.T) {
	text := "import { script } from \"roundhouse\";\nimport { ban } from \"./lib\";\ninterface X { y: number }\n\nexport default script({ api: 1, hooks() { return {\n  logits(l) {\n    const x: X = { y: 99 };\n    ban(l, x.y);\n  },\n} } });"
	lib := "// a library\nexport function ban(l: any, id: number): void {\n\n\n  l.ban(id);\n}\n"
	h := NewHost(Options{})
	s, err := h.Load(context.Background(), files("main.ts", text, "lib.ts", lib), "main.ts")
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Start(Env{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	c, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: 8, OnError: hook.Fail}, i)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Logits(hook.At{Position: 3}, nil, nil)
	var f *hook.Fault
	if !errors.As(err, &f) || !strings.HasPrefix(f.Line, "lib.ts:5:") {
		t.Errorf("%v", err)
	}
	_, err = h.Load(context.Background(), files("main.ts", "const a: number = 1;\n\nthrow new Error('at once');"), "main.ts")
	if err == nil || !strings.Contains(err.Error(), "main.ts:3:") {
		t.Errorf("%v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`export const x = 1`:                                       "exports no script",
		`export default { api: 2, hooks() {} }`:                    "for api 2",
		`export default { api: 1 }`:                                "hooks",
		`export default { api: 1, hooks() {}, lag: 3 }`:            "lag is 3",
		`export default { api: 1, hooks() {}, hold: 300 }`:         "0 to 128",
		`export default { api: 1, hooks() {}, capture: "some" }`:   "capture",
		`export default { api: 1, hooks() {}, params: { a: {} } }`: "parameter a",
		`export default { api: "1", hooks() {} }`:                  "cannot unmarshal",
		`while (true);`: "stopped after",
	} {
		_, err := NewHost(Options{}).Load(context.Background(), files("x.js", text), "x.js")
		var typed *LoadError
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`return null`:                       "hooks() returned",
		`return { logit() {} }`:             "no such event",
		`return { logits: 1 }`:              "is no function",
		`return { route: { layers: [1] } }`: "route is no function",
		`throw new Error("not today")`:      "not today",
		`steer.layer(9).ban(1); return {}`:  "layer 9",
	} {
		_, err := begin(t, wrapped(body), hook.Options{}, Env{})
		var f *hook.Fault
		if !errors.As(err, &f) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func TestEvents(t *testing.T) {
	p := started(t, wrapped(`
		const st = state(() => ({ seen: 0 }));
		steer.all.gate(0.5);
		return {
			prompt(p) { p.ids = [...p.ids, 5]; },
			token(t) { st.seen++; emit("surprise", -t.logprob); log(t.position, t.id, t.text, t.forced); },
			routing(r) {
				log(r.position, r.ids(1), r.weights(0)[0], r.share(1, 5, 2), r.counts(0)[4], r.back(1) ? r.overlap(r.back(1)) : "first");
				steer.layer(0).bias(1, r.position);
			},
			finish(f) { log(f.reason, f.completion, st.seen); },
		}`), hook.Options{OnError: hook.Fail})
	for position := 4; position < 7; position++ {
		if _, err := p.step(position); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := p.Steer(6); s.Layer(0).Gate != .5 || s.Layer(0).Bias[0].Value != 4 {
		t.Errorf("%+v", s.Layer(0))
	}
	r := p.Finish(hook.Finish{Reason: "stop", Completion: 3})
	if r.Degraded > 0 {
		t.Errorf("%+v", r)
	}
	want := []string{
		`3 {"0":5,"1":6} 0.75 1 1 first`,
		`4 4 e false`, `4 {"0":6,"1":7} 0.75 0.5 1 0.5`,
		`5 5 f false`, `5 {"0":7,"1":0} 0.75 0 1 0.5`,
		`6 6 g false`,
		`stop 3 3`,
	}
	if got := p.logs(); !slices.Equal(got, want) {
		t.Errorf("%q,\nwant %q", got, want)
	}
}

func TestHandlesDoNotOutliveTheirCall(t *testing.T) {
	p := started(t, wrapped(`let kept; return { logits(l) {
		if (!kept) { kept = { l, m: l.model }; return; }
		for (const f of [() => kept.l.ban(1), () => kept.l.entropy(), () => kept.m.full()]) {
			try { f(); log("no error"); } catch (e) { log(e.kind); }
		}
	} }`), hook.Options{OnError: hook.Fail})
	for position := 3; position < 5; position++ {
		if _, err := p.step(position); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.logs(); !slices.Equal(got, []string{"misuse", "misuse", "misuse"}) {
		t.Errorf("%v", got)
	}
}

type drawn int32

func (d drawn) Candidates(int) ([]hook.Candidate, error) {
	return []hook.Candidate{{ID: 3}, {ID: 4}}, nil
}
func (d drawn) Draw() (int32, error) { return int32(d), nil }

func TestSampleChooses(t *testing.T) {
	p := started(t, wrapped(`return { sample(c, at) { log(c.n, c.ids[1], c.draw()); return at.position === 3 ? 5 : undefined; } }`), hook.Options{OnError: hook.Fail})
	for position, want := range map[int]bool{3: true, 4: false} {
		v, err := p.Sample(hook.At{Position: position}, drawn(6), nil)
		if err != nil || v.Decided != want || want && v.ID != 5 {
			t.Errorf("position %d: %+v, %v", position, v, err)
		}
	}
	if got := p.logs(); got[0] != "2 4 6" {
		t.Errorf("%v", got)
	}
}

func TestStopAndInject(t *testing.T) {
	text := strings.Replace(wrapped(`return { token(t) { if (t.position === 3) inject("gh"); if (t.position === 5) stop("enough"); } }`), "api: 1", "api: 1, lag: 1", 1)
	p := started(t, text, hook.Options{OnError: hook.Fail})
	var got []string
	for position := 3; position < 7; position++ {
		v, err := p.step(position)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(v.ID, " ", v.Forced, " ", v.Stop))
	}
	if want := []string{"0 false ", "6 true ", "7 true ", "0 false enough"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParamsAndRequest(t *testing.T) {
	h := NewHost(Options{})
	s := load(t, h, `import { script } from "roundhouse";
		export default script({ api: 1, name: "warm", priority: 3, budget: 5, params: { heat: { type: "number", default: 0.5, maximum: 2 } },
			request(r, { params, log }) { r.temperature = params.heat; delete r.top_p; log("hot", r.temperature); },
			hooks({ params }) { return { logits(l) { l.temperature(params.heat); } }; } });`)
	if i := s.Info(); i.Name != "warm" || i.Spec.Priority != 3 || i.Spec.Budget != 5*time.Millisecond || i.Params["heat"].Default != .5 || !i.Request {
		t.Errorf("%+v", i)
	}
	logged := ""
	body, err := s.Request([]byte(`{"model": "m", "top_p": 0.5}`), map[string]any{"heat": 1.5}, func(text string) { logged += text })
	var got map[string]any
	if err := errors.Join(err, json.Unmarshal(body, &got)); err != nil || got["temperature"] != 1.5 || got["top_p"] != nil || got["model"] != "m" || logged != "hot 1.5" {
		t.Errorf("%s, %q, %v", body, logged, err)
	}
	if _, err := s.Start(Env{Params: map[string]any{"heat": 3.0}}); err == nil {
		t.Error("a parameter out of range was taken")
	}
}

// State goes to a newer version of the script.
func TestStateIsCarriedOver(t *testing.T) {
	h := NewHost(Options{})
	old := load(t, h, wrapped(`const st = state(() => ({ n: 41 })); return { logits() { st.n++; } }`))
	next := load(t, h, `export default { api: 1, migrate: (old) => ({ count: old.n }), hooks({ state, log }) { const st = state(() => ({ count: 0 })); return { logits() { log(st.count); } }; } }`)
	a, err := old.Start(Env{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	var lines []any
	o := hook.Options{Shape: model.Shape, Tokens: 8, OnError: hook.Fail, Notify: func(n hook.Notice) { lines = append(lines, n.Value) }}
	run := func(i *Instance) {
		c, err := hook.NewChain(o, i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Logits(hook.At{Position: 3}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	run(a)
	kept, err := a.State()
	if err != nil || !strings.Contains(string(kept), `"states":[{"n":42}]`) {
		t.Fatalf("%s, %v", kept, err)
	}
	b, err := next.Start(Env{Model: model, State: kept})
	if err != nil {
		t.Fatal(err)
	}
	run(b)
	same, err := old.Start(Env{Model: model, State: kept})
	if err != nil {
		t.Fatal(err)
	}
	run(same)
	if again, err := same.State(); err != nil || !strings.Contains(string(again), `[{"n":43}]`) {
		t.Errorf("the same version goes on with %s, %v", again, err)
	}
	anew := load(t, h, wrapped(`const st = state(() => ({ n: 7 })); return { logits() { log("anew", st.n); } }`))
	c, err := anew.Start(Env{Model: model, State: kept})
	if err != nil {
		t.Fatal(err)
	}
	run(c)
	if want := []any{"42", "anew 7"}; !slices.Equal(lines, want) {
		t.Errorf("%v, want %v", lines, want)
	}
	for _, i := range []*Instance{a, b, c, same} {
		i.Close()
	}
	h.Close()
}

// The types that scripts are written against are those that the machine has.
func TestDeclarations(t *testing.T) {
	written, err := os.ReadFile("roundhouse.d.ts")
	if err != nil || string(written) != Declarations() {
		t.Errorf("roundhouse.d.ts is not what the table says (%v): run go generate ./scripts", err)
	}
	page, err := os.ReadFile("../workbench/docs/script-api.md")
	if err != nil || string(page) != Reference() {
		t.Errorf("workbench/docs/script-api.md is not what the table says (%v): run go generate ./scripts", err)
	}
	for _, k := range kinds() {
		for _, m := range k.members {
			made := 0
			for _, is := range []bool{m.do != nil, m.of != nil, m.get != nil, m.theirs} {
				if is {
					made++
				}
			}
			if made != 1 {
				t.Errorf("%s.%s is made in %d ways, not one", k.name, m.name(), made)
			}
		}
	}
	for name := range events {
		if !slices.ContainsFunc(hooksKind.members, func(m member) bool { return m.name() == name }) {
			t.Errorf("the handler %s is not in the table", name)
		}
	}
}

// Every member of the table is there in a running script.
func TestTableIsBound(t *testing.T) {
	v, err := NewHost(Options{}).machine()
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	v.serves = &Instance{env: Env{Model: model}}
	err = v.do(nil, time.Second, func() error {
		if _, err := v.open(goja.MustCompile("x.js", "(function(m) { m.exports.default = {} })", true), time.Time{}); err != nil {
			return err
		}
		reads := hook.NewReads(8, hook.Plain{0, 1, 2, 3, 4, 5, 6, 7}, hook.Plain{0, 1, 2, 3, 4, 5, 6, 7})
		for k, what := range map[*kind]any{
			contextKind: v.serves, atKind: hook.At{}, readsKind: modelReads{reads}, logitsKind: logits{&hook.Logits{Edits: hook.NewEdits(8), Reads: reads}},
			candidatesKind: &candidates{}, promptKind: &hook.Prompt{}, tokenKind: &hook.Token{}, finishKind: &hook.Finish{},
			sequenceLogitsKind: besideReads{reads, 0}, snapshotKind: 3, hiddenKind: &hook.Hidden{}, routerKind: &hook.Router{}, routingKind: &hook.Routing{Record: &hook.Record{}}, steeringKind: v.serves, layerKind: &layerRef{}, tokensKind: v.serves,
			modelKind: &model, requestKind: &hook.Request{},
		} {
			o := v.object(k, what)
			for of := k; of != nil; of = of.extends {
				for _, m := range of.members {
					if value := o.Get(m.name()); value == nil {
						t.Errorf("%s.%s is not there", k.name, m.name())
					} else if _, is := goja.AssertFunction(value); is != (m.do != nil) {
						t.Errorf("%s.%s is a method: %v", k.name, m.name(), is)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
