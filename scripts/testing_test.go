package scripts

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
)

// tested runs a test file of a folder.
func tested(t *testing.T, folder fs.FS, entry string) *TestReport {
	t.Helper()
	h := NewHost(Options{})
	t.Cleanup(h.Close)
	return h.Test(t.Context(), folder, entry, TestOptions{})
}

// subject is the script that the tests below run.
const subject = `import { script } from "roundhouse";
export const helper = (x: number) => x + 1;
export default script({
  api: 1, lag: 1, hold: 8,
  params: { mode: { type: "string", default: "" } },
  hooks({ params, steer, tokens, request, model, state, random, log, emit, stop, inject, rewind }) {
    if (params.mode === "steer") steer.layer(1).ban([2, 3]).gate(0.5);
    const list = new Int32Array(8000);
    let backs = 0; // closures are not taken back
    return {
      prompt(p) {
        if (params.mode === "prompt") p.ids = [3, 2, 1];
      },
      logits(l, at) {
        switch (params.mode) {
          case "edits": l.bias([1, 2], 0.8).scale(2).ban(3).temperature(0.7).topK(5); break;
          case "only": l.only([0, 1, 2]).ban(1); break;
          case "throw": if (at.position === 2) throw new Error("of purpose");
          case "read": emit("reads", { h: l.entropy(), top: Array.from(l.top(2).ids), m: l.model.prob(1), rank: l.rank(0) }); break;
          case "spin": for (;;);
          case "random": emit("random", random()); break;
          case "know": log(request, model.name, model.tokens, Array.from(model.eos), model.hidden, Date.now()); break;
          case "many": for (let i = 0; i < 20; i++) l.ban(list); break;
        }
      },
      token(t) {
        if (params.mode === "stop" && t.position === 2) stop("enough");
        if (params.mode === "back" && t.position === 2 && backs++ === 0) rewind(1);
        if (params.mode === "inject" && !t.forced) inject(params.mode === "inject" ? "bb" : "");
        if (params.mode === "text") log(t.position, t.text, t.logprob.toFixed(2), tokens.decode([0, 1]));
      },
      routing(r) {
        if (params.mode === "routing") {
          emit("first", Array.from(r.ids(0)));
          emit("weights", Array.from(r.weights(2)));
          steer.layer(0).bias(r.ids(0)[0], -1.5);
        }
      },
      finish(f) {
        if (params.mode === "finish") throw new Error("at the end");
        log("finished", f.reason, f.prompt, f.completion);
      },
    };
  },
});`

// Every body is a test that passes.
func TestWhatTestsSee(t *testing.T) {
	for name, body := range map[string]string{
		"edits": `
			const { steps: [s] } = run(subject, { params: { mode: "edits" }, steps: [{ logits: [1, 2, 3, 9] }] });
			expect(s.bias).toEqual({ 1: 1.6, 2: 1.6 });
			expect(s.scale).toBe(2);
			expect(s.banned).toEqual([3]);
			expect(s.only).toBe(undefined);
			expect([s.temperature, s.topK, s.topP, s.minP, s.typical]).toEqual([0.7, 5, undefined, undefined, undefined]);
			expect([s.position, s.attempt, s.id, s.chosen, s.forced]).toEqual([1, 0, 2, false, false]);`,
		"what is left": `
			const { steps: [s] } = run(subject, { params: { mode: "only" }, steps: [{ logits: [1, 2, 1, 9] }] });
			expect(s.only).toEqual([0, 2]);
			expect(s.banned).toEqual([1]);
			expect(s.id).toBe(0);`,
		"nothing is done": `
			const r = run(subject);
			expect(r.steps.length).toBe(1);
			expect(r.steps[0]).toEqual({ position: 1, attempt: 0, id: 0, chosen: false, forced: false, bias: {}, scale: 1, banned: [], events: {}, log: [] });
			expect(r.log).toEqual(["finished length 1 1"]);
			expect([r.reason, r.text, r.prompt, r.events]).toEqual(["length", "", [0], []]);
			expect(r.steering).toBe(undefined);`,
		"reads": `
			const row = { logits: new Float32Array([0, 1]), model: { 1: 5 } };
			const { events: [e] } = run(subject, { params: { mode: "read" }, steps: [row] });
			expect(e.name).toBe("reads");
			expect(e.value.h).toBeCloseTo(0.58, 2);
			expect(e.value).toEqual({ h: e.value.h, top: [1, 0], m: 1, rank: 1 });`,
		"logits by id": `
			const { events: [e], ids } = run(subject, { params: { mode: "read" }, steps: [{ logits: { 150000: 2, 7: 1, 0: -Infinity } }] });
			expect(e.value.top).toEqual([150000, 7]);
			expect(e.value.rank).toBe(2);
			expect(ids).toEqual([150000]);`,
		"the token that is drawn": `
			expect(run(subject, { steps: [{ token: 3 }, { token: 1 }] }).ids).toEqual([3, 1]);
			expect(run(subject, { params: { mode: "edits" }, steps: [{ token: 3, logits: [0, 0, 5] }] }).ids).toEqual([2]);`,
		"the end of texts": `
			const r = run(subject, { model: { eos: 2 }, steps: [{ token: 1 }, { token: 2 }, { token: 1 }] });
			expect([r.ids, r.reason]).toEqual([[1, 2], "stop"]);`,
		"a stop": `
			const r = run(subject, { params: { mode: "stop" }, steps: Array(4).fill({}) });
			expect(r.reason).toBe("enough");
			expect(r.steps.map((s) => s.stop)).toEqual([undefined, "enough"]);
			expect(r.log).toEqual(["finished enough 1 2"]);`,
		"tokens that are taken back": `
			const r = run(subject, { params: { mode: "back" }, steps: [{ token: 1 }, { token: 2 }, { token: 3 }], prompt: 0 });
			expect(r.ids).toEqual([1, 2, 3]);
			expect(r.steps.map((s) => [s.position, s.attempt, s.id, s.rewind])).toEqual([[1, 0, 1, undefined], [2, 0, 2, 1], [1, 1, 1, undefined], [2, 1, 2, undefined], [3, 1, 3, undefined]]);
			expect(() => run(subject, { params: { mode: "back" }, prompt: [0, 0], steps: [{}] })).toThrow("tokens from 2 to 3");`,
		"injected tokens": `
			const r = run(subject, { params: { mode: "inject" }, vocabulary: ["a", "b"], steps: Array(4).fill({}) });
			expect(r.text).toBe("abba");
			expect(r.steps.map((s) => s.forced)).toEqual([false, true, true, false]);`,
		"texts": `
			const r = run(subject, { params: { mode: "text" }, vocabulary: ["one ", "two"], prompt: "one two", steps: [{ token: 1, logits: [0, 0] }] });
			expect(r.prompt).toEqual([0, 1]);
			expect(r.steps[0].log).toEqual(["2 two -0.69 one two"]);
			expect(() => run(subject, { params: { mode: "text" } })).toThrow("a test gives its run a vocabulary");`,
		"routing and steering": `
			const routing = { 0: [5, 1], 2: { ids: [3], weights: [0.75] } };
			const { steps, steering } = run(subject, { params: { mode: "routing" }, steps: [{ routing }, {}] });
			expect(steps[0].events).toEqual({ first: [5, 1], weights: [0.75] });
			expect(steps[0].steering).toBe(undefined);
			expect(steps[1].steering).toEqual({ layers: { 0: { bias: { 5: -1.5 } } } });
			expect(steering).toBe(undefined);
			const set = run(subject, { params: { mode: "steer" } });
			expect(set.steering).toEqual({ layers: { 1: { ban: [2, 3], gate: 0.5 } } });
			expect(set.steps[0].steering === set.steering).toBe(true);`,
		"the prompt": `
			const r = run(subject, { params: { mode: "prompt" }, steps: [{ token: 3 }] });
			expect(r.prompt).toEqual([3, 2, 1]);
			expect(r.steps[0].position).toBe(3);`,
		"what the script may know": `
			const r = run(subject, { params: { mode: "know" }, seed: 3, model: { tokens: 9, name: "m", eos: [1, 2], hidden: 7 }, request: { body: { a: [1] }, maxTokens: 50, choices: 2, choice: 1 } });
			expect(r.steps[0].log[0]).toBe('{"id":"test","maxTokens":50,"choice":1,"choices":2,"body":{"a":[1]}} m 9 [1,2] 7 0');`,
		"random numbers are keyed": `
			const draw = (seed: number) => run(subject, { params: { mode: "random" }, seed }).steps[0].events.random;
			expect(draw(1)).toBe(draw(1));
			expect(draw(1)).not.toBe(draw(2));`,
		"what goes wrong": `
			expect(() => run(subject, { params: { mode: "throw" }, steps: [{}, {}] })).toThrow("hook subject, logits of position 2 (subject.ts:18:53): exception: Error: of purpose");
			expect(() => run(subject, { params: { mode: "finish" } })).toThrow("subject.ts:");
			expect(() => run(subject, { params: { mode: 5 } } as any)).toThrow("mode");
			expect(() => run(subject, { params: { mood: "" } } as any)).toThrow("mood");`,
		"helpers of a script": `expect(helper(1)).toBe(2);`,
		"matchers": `
			expect(NaN).toBe(NaN);
			expect([1, { a: [2] }]).toEqual([1, { a: new Int32Array([2]), b: undefined }]);
			expect({}).not.toEqual([]);
			expect({ a: 1 }).not.toEqual({ a: 1, b: 2 });
			expect(0.1 + 0.2).not.toBe(0.3);
			expect(0.1 + 0.2).toBeCloseTo(0.3, 9);
			expect(2).toBeGreaterThan(1);
			expect(2).not.toBeGreaterThan(2);
			expect(1).toBeLessThan(2);
			expect("abc").toContain("bc");
			expect([1, 2]).toContain(2);
			expect(new Uint16Array([1, 2])).not.toContain(3);
			expect(() => { throw new TypeError("wrong"); }).toThrow("TypeError: wrong");
			expect(() => 1).not.toThrow();
			expect(() => { throw new Error("this"); }).not.toThrow("that");`,
	} {
		test := `import { test, expect, run } from "roundhouse/test";
import subject, { helper } from "./subject";
test("it", () => {` + body + `
});`
		r := tested(t, files("subject.ts", subject, "subject.test.ts", test), "subject.test.ts")
		if r.Failed() > 0 || len(r.Tests) != 1 {
			t.Errorf("%s: %v %+v", name, r.Problems, r.Tests)
		}
	}
}

// What fails says where, and what it was.
func TestWhatFails(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"a value":        {`expect(1 + 1).toBe(3)`, `subject.test.ts:3:37: expected 2 to be 3`},
		"an element":     {`expect([1, { a: "x" }]).toEqual([1, { a: "y" }])`, `expected [1, {a: "x"}] to equal [1, {a: "y"}]: at [1].a it is "x", not "y"`},
		"a length":       {`expect([1]).toEqual([1, 2])`, `at length it is 1, not 2`},
		"a missing one":  {`expect({ a: 1 }).toEqual({ a: 1, b: null })`, `at b it is undefined, not null`},
		"not":            {`expect(1).not.toBe(1)`, `expected 1 not to be 1`},
		"a text":         {`expect("a\nb").toContain("c")`, `expected "a\nb" to contain "c"`},
		"no throw":       {`expect(() => 1).toThrow("x")`, `to throw "x": it did not`},
		"another throw":  {`expect(() => { throw new Error("y"); }).toThrow("x")`, `it threw "Error: y"`},
		"no function":    {`expect(1).toThrow()`, "toThrow takes a function"},
		"no number":      {`expect("1").toBeGreaterThan(0)`, "the value is 1: it is a number"},
		"a throw":        {`throw new Error("mine")`, "subject.test.ts:3:24: Error: mine"},
		"of the script":  {`run(subject, { params: { mode: "throw" }, steps: [{}, {}] })`, "subject.test.ts:3:22: hook subject, logits of position 2 (subject.ts:18:53)"},
		"spins":          {`run(subject, { params: { mode: "spin" } })`, "it was stopped after 400ms"},
		"a promise":      {`return Promise.resolve()`, "tests are not async"},
		"nested":         {`test("x", () => {})`, "tests are not nested"},
		"no script":      {`run({ api: 1 } as any)`, "the default export of its file"},
		"none at all":    {`(run as any)()`, "what is to run is undefined"},
		"its own":        {`run(script({ api: 1, hooks: () => ({}) }))`, "a script of the test itself"},
		"a field":        {`run(subject, { step: [] } as any)`, `RunOptions has no field "step": it has [params steps`},
		"a row's field":  {`run(subject, { steps: [{ logit: [] }] } as any)`, `Row has no field "logit"`},
		"logits":         {`run(subject, { steps: [{ logits: [NaN] }] })`, "a logit is NaN"},
		"no token":       {`run(subject, { steps: [{ logits: { 1: -Infinity } }] })`, "leaves no token to draw"},
		"an id":          {`run(subject, { steps: [{ logits: { x: 1 } as any }] })`, `logits of "x"`},
		"a small model":  {`run(subject, { model: { tokens: 2 }, steps: [{ token: 2 }] })`, "model.tokens is 2, and the rest of the run has 3"},
		"experts":        {`run(subject, { steps: [{ routing: { 0: { ids: [1], weights: [] } } }] })`, "layer 0 has 1 experts and 0 weights"},
		"no vocabulary":  {`run(subject, { prompt: "a" })`, "no token that \"a\" begins with"},
		"too many steps": {`run(subject, { steps: Array(5000).fill({}) })`, "5000 the steps at once: 4096 at most"},
		"too much":       {`run(subject, { steps: Array.from({ length: 4000 }, () => ({ logits: [1], token: 200000 })) })`, "logits in all rows"},
		"too many edits": {`run(subject, { params: { mode: "many" }, steps: Array(100).fill({ token: 9000 }) })`, "too many to be shown"},
		"no recording":   {`replay(subject, "none.jsonl")`, "there is no such file beside the test"},
		"outside":        {`replay(subject, "../none.jsonl")`, "outside the folder"},
		"no file":        {`replay(subject, "dir")`, "no regular file"},
		"garbage":        {`replay(subject, "garbage.jsonl")`, "line 1: it is no header"},
		"loops":          {`for (;;);`, "it was stopped after 400ms"},
		"catches loops":  {`expect(() => { for (;;); }).toThrow()`, "it was stopped after 400ms"},
		"deep":           {`const f = () => f(); f()`, "nested deeper than"},
		"circles":        {`const a: any[] = []; a[0] = a; const b: any[] = [[a]]; b[0][0] = b; expect(a).toEqual(b)`, "nested deeper than 100"},
		"long texts":     {`expect("x".repeat(1000000)).toBe(1)`, "…"},
		"long lists":     {`expect(Array(20000).fill(1)).toBe(1)`, "… 19960 more"},
		"a Map":          {`expect(new Map()).toEqual(new Map())`, "does not look into functions, a Map"},
		"code of text":   {`eval("1")`, "eval"},
		"its inside":     {`(expect(1) as any).toBe.call({}, 1)`, "taken off its object"},
	} {
		test := `import { test, expect, run, replay } from "roundhouse/test"; import { script } from "roundhouse";
import subject from "./subject";
test("it", () => {` + c.body + `
});
test("another", () => { expect(run(subject).ids).toEqual([0]); });`
		folder := files("subject.ts", subject, "subject.test.ts", test, "garbage.jsonl", "x", "dir/x.ts", "")
		o := Options{}
		if strings.Contains(c.want, "400ms") {
			o.Ceiling = 400 * time.Millisecond
		}
		h := NewHost(o)
		began := time.Now()
		r := h.Test(t.Context(), folder, "subject.test.ts", TestOptions{})
		h.Close()
		if len(r.Tests) != 2 || !strings.Contains(r.Tests[0].Problem, c.want) || r.Tests[1].Problem != "" && o.Ceiling == 0 {
			t.Errorf("%s: %v %+v, want %q", name, r.Problems, r.Tests, c.want)
			continue
		}
		if n := len(r.Tests[0].Problem); n > 2000 || time.Since(began) > 20*time.Second {
			t.Errorf("%s: %d bytes after %v", name, n, time.Since(began))
		}
	}
}

// What was recorded is replayed, with the parameters of then or with others.
func TestReplay(t *testing.T) {
	h := NewHost(Options{})
	defer h.Close()
	script, err := h.Load(t.Context(), files("subject.ts", subject), "subject.ts")
	if err != nil {
		t.Fatal(err)
	}
	params := map[string]any{"mode": "text"}
	vocabulary := rehearse.Vocabulary{"a", "b", "c", "d", "e", "f", "g", "h"}
	spelling := hook.NewSpelling(vocabulary)
	request := hook.Request{ID: "r7", MaxTokens: 3, Choices: 1}
	instance, err := script.Start(Env{Params: params, Model: model, Request: request, Tokenizer: spelling})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	row := hook.Plain{0, 1, 2, 3, 4, 5, 6, -9}
	rows := make([]rehearse.Row, 3)
	for i := range rows {
		token := int32(i + 2)
		rows[i] = rehearse.Row{Entry: row, Model: row, Drawn: &token}
	}
	scene := &rehearse.Scene{Model: model, Prompt: []int32{1}, Rows: rehearse.Made(rows), Text: func(id int32) string { return vocabulary[id] }}
	head := hook.Recording{Model: model, Params: params, Request: request, Now: time.Unix(7, 0)}
	if _, err := scene.Play(t.Context(), hook.NewRecorder(&file, head, spelling, instance)); err != nil {
		t.Fatal(err)
	}
	test := `import { test, expect, replay } from "roundhouse/test";
import subject from "../subject";
test("as it was", () => {
  const r = replay(subject, "calm.jsonl");
  expect(r.ids).toEqual([2, 3, 4]);
  expect([r.recorded, r.text, r.reason, r.prompt]).toEqual([r.ids, "cde", "length", [1]]);
  expect(r.log[0]).toBe("1 c " + Math.log(Math.exp(2) / (1 + Math.E + Math.E ** 2 + Math.E ** 3 + Math.E ** 4 + Math.E ** 5 + Math.E ** 6)).toFixed(2) + " ab");
});
test("with others", () => {
  const r = replay(subject, "./calm.jsonl", { mode: "edits" });
  expect(r.ids).toEqual([2, 6, 4]); // 3 is banned, 6 is the best of the rest
  expect(r.recorded).toEqual([2, 3, 4]);
  expect(replay(subject, "calm.jsonl", { mode: "know" }).log[0]).toContain('"id":"r7"');
  expect(replay(subject, "calm.jsonl", { mode: "know" }).log[0]).toContain("small 8 [7] 3 7000");
  expect(replay(subject, "calm.jsonl", { mode: "stop" }).ids).toEqual([2, 3]);
});
test("what it cannot follow", () => {
  expect(() => replay(subject, "calm.jsonl", { mode: "back" })).toThrow("cannot be followed further");
  expect(() => replay(subject, "calm.jsonl", { mode: "inject" })).toThrow('does not hold the ids of "bb"');
  expect(() => replay(subject, "calm.jsonl", { mode: "prompt" })).toThrow("3 tokens now and had 1");
});`
	r := h.Test(t.Context(), files("subject.ts", subject, "in/a.test.ts", test, "in/calm.jsonl", file.String()), "in/a.test.ts", TestOptions{})
	if r.Failed() > 0 || len(r.Tests) != 3 || !slices.Contains(r.Looked, "in/calm.jsonl") {
		t.Errorf("%+v", r)
	}
}

// Files that cannot be run say why.
func TestFilesThatCannotBeRun(t *testing.T) {
	many := `import { test } from "roundhouse/test"; for (let i = 0; i < 1001; i++) test("t" + i, () => {});`
	for name, c := range map[string]struct{ text, want string }{
		"no tests":  {`export {}`, "there are no tests in it"},
		"syntax":    {"\nlet = ;", "a.test.ts:2:7"},
		"import":    {`import "./none"`, "a.test.ts:1:8"},
		"a throw":   {`throw new Error("early")`, "a.test.ts:1:6: Error: early"},
		"twice":     {`import { test } from "roundhouse/test"; test("a", () => {}); test("a", () => {});`, `a second test "a"`},
		"many":      {many, "more than 1000 tests"},
		"no name":   {`import { test } from "roundhouse/test"; test("", () => {});`, "one line of 1 to 200 bytes"},
		"no body":   {`import { test } from "roundhouse/test"; (test as any)("a");`, `test("a") takes a function`},
		"a loop":    {`for (;;);`, "it was stopped"},
		"no export": {`import { none } from "roundhouse/test"; none();`, `No matching export`},
	} {
		h := NewHost(Options{Ceiling: 300 * time.Millisecond})
		r := h.Test(t.Context(), files("a.test.ts", c.text), "a.test.ts", TestOptions{})
		h.Close()
		if len(r.Problems) == 0 || !strings.Contains(strings.Join(r.Problems, "|"), c.want) || r.Failed() != 1 {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
	r := tested(t, files("a.ts", `import { test } from "roundhouse/test";`, "a.test.ts", `import { test } from "roundhouse/test"; import "./a"; test("a", () => {});`), "a.test.ts")
	if r.Failed() > 0 {
		t.Errorf("a helper of a test: %+v", r)
	}
	h := NewHost(Options{})
	defer h.Close()
	if _, err := h.LoadSource(t.Context(), "a.ts", `import { test } from "roundhouse/test"; test("a", () => {});`); err == nil || !strings.Contains(err.Error(), "in tests only") {
		t.Errorf("a script that imports it: %v", err)
	}
}

// A script that does not load is the test's problem, with its line.
func TestBrokenScriptUnderTest(t *testing.T) {
	test := `import { test, run } from "roundhouse/test"; import a from "./a";
test("it", () => { run(a); });`
	r := tested(t, files("a.ts", `import { script } from "roundhouse";
export default script({ api: 2, hooks: () => ({}) } as any);`, "a.test.ts", test), "a.test.ts")
	if len(r.Tests) != 1 || !strings.Contains(r.Tests[0].Problem, "a.test.ts:2:23: script a.ts: ") || !strings.Contains(r.Tests[0].Problem, "api 2") {
		t.Errorf("%+v", r)
	}
}

// What a script under test holds too much of, or a test, ends that test alone.
func TestGreedyTests(t *testing.T) {
	test := `import { test, expect, run } from "roundhouse/test"; import subject from "./subject";
const kept: any[] = [];
test("keeps", () => { for (let i = 0; i < 3000; i++) kept.push(new Float64Array(8192)); });
test("goes on", () => { kept.length = 0; });`
	r := tested(t, files("subject.ts", subject, "subject.test.ts", test), "subject.test.ts")
	if len(r.Tests) != 2 || r.Tests[0].Problem == "" {
		t.Errorf("%+v", r)
	}
}

// The starter's test passes, and quickly.
func TestStarterTests(t *testing.T) {
	r := tested(t, os.DirFS("starter/files"), "steady.test.ts")
	if r.Failed() > 0 || len(r.Tests) != 2 || fmt.Sprint(r.Looked) != "[steady.test.ts steady.ts]" {
		t.Errorf("%+v", r)
	}
	t.Logf("%d tests in %v", len(r.Tests), r.Time)
}
