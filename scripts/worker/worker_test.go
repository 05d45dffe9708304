package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// TestMain is also what a worker runs: the program is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		if err := Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

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

// chooser leaves two tokens and draws the second.
type chooser struct{}

func (chooser) Candidates(int) ([]hook.Candidate, error) {
	return []hook.Candidate{{ID: 3, Logit: 1}, {ID: 4}}, nil
}
func (chooser) Draw() (int32, error) { return 4, nil }

func environment() scripts.Env {
	return scripts.Env{Model: model, Tokenizer: letters{}, Params: map[string]any{"p": 2.0}, Request: hook.Request{ID: "r", Seed: 5, Body: map[string]any{"a": 1.0}},
		Vectors: func(string) ([]float32, error) { return []float32{1, 2, 3}, nil }}
}

const everything = `import { script } from "roundhouse";
export default script({ api: 1, name: "all", lag: 1, params: { p: { type: "number" } }, hooks({ params, request, model, steer, tokens, state, random, log, emit, stop, inject }) {
	const st = state(() => ({ n: 0 }));
	steer.layer(1).ban(2).topK(1);
	steer.vector("calm", { layer: 1, scale: 2 });
	log(params.p, request.id, request.body.a, model.layers, tokens.encode("abc")[1], tokens.decode([0, 7]));
	return {
		prompt(p) { p.ids = [...p.ids, 1]; },
		logits(l, at) {
			log(at.position, random(), l.top(2).ids[1], l.entropy(), l.logprob(3), l.model.prob(1), l.rank(0), l.full()[4], l.top(3).draw());
			l.bias([1, 2], 0.25).bias(0, -Infinity).ban(5).scale(2).temperature(0.5).minP(0.1);
			if (at.position === 8) l.only([1, 2, 3]);
			if (at.position === 4) { steer.all.gate(9); l.ban(99); }
		},
		sample(c) { log(c.n, c.logits[0], c.draw()); if (st.n === 2) return 3; },
		token(t) { st.n++; emit("data", { id: t.id, text: t.text, p: t.logprob }); emit("n", st.n); if (t.position === 5) inject("ab"); if (t.position === 8) stop("enough"); },
		routing(r) { log(r.ids(0), r.weights(1)[0], r.share(1, 3, 4), r.counts(2)[4], r.back(1) ? r.overlap(r.back(1)) : -1); steer.all.gate(1 + r.position); },
		finish(f) { log(f.reason, f.completion); },
	};
} });`

// run plays a choice to a hook and returns all that came of it.
func run(t *testing.T, h hook.Hook) (lines []string) {
	t.Helper()
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	c, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, Seed: 5, Notify: func(n hook.Notice) {
		say("notice %d %s %s %v", n.Position, n.Name, n.Value, n.Fault)
	}}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ids, err := c.Prompt([]int32{1, 2})
	say("prompt %v %v", ids, err)
	row := hook.Plain{0, 1, 2, 3, 4, 5, 6, 7}
	for position := 3; position < 10; position++ {
		at := hook.At{Position: position}
		v, err := c.Logits(at, row, row)
		say("logits %+v %v", v.Edits, err)
		if v.Edits != nil {
			say("%v", v.Edits.Values.All())
		}
		if !v.Decided && v.Stop == "" {
			v, err = c.Sample(at, chooser{}, nil)
			instead := int32(-1)
			if v.Instead != nil {
				instead, v.Instead = *v.Instead, nil
			}
			say("sample %v instead of %d, %v", v, instead, err)
		}
		s, err := c.Steer(position)
		say("steer %s %v", s.Digest(), err)
		c.Token(hook.Token{Position: position, ID: 1, Text: "b", Logprob: -.5})
		r := hook.Record{Position: position, Layers: 4, K: 2}
		for layer := range 4 {
			r.IDs = append(r.IDs, uint16((position+layer)%8), uint16((position+layer+1)%8))
			r.Weights = append(r.Weights, .75, .25)
		}
		c.Routing(r)
	}
	say("%v", c.Finish(hook.Finish{Reason: "stop", Completion: 3}).Degraded)
	return lines
}

// A script does the same in a worker as in process.
func TestWorkerIsLikeInProcess(t *testing.T) {
	near := scripts.NewHost(scripts.Options{})
	s, err := near.LoadSource(t.Context(), "inline.ts", everything)
	if err != nil {
		t.Fatal(err)
	}
	inProcess, err := s.Start(environment())
	if err != nil {
		t.Fatal(err)
	}
	far := New(Options{Memory: 1 << 30})
	w, err := far.Load(t.Context(), "inline.ts", everything)
	if err != nil {
		t.Fatal(err)
	}
	if w.Info().Name != "all" || w.Info().Digest != s.Info().Digest {
		t.Errorf("%+v", w.Info())
	}
	inWorker, err := w.Start(t.Context(), environment())
	if err != nil {
		t.Fatal(err)
	}
	want, got := run(t, inProcess), run(t, inWorker)
	for n := range max(len(got), len(want)) {
		if n >= len(got) || n >= len(want) || got[n] != want[n] {
			t.Fatalf("in a worker:\n%s\n\nin process:\n%s", strings.Join(got[min(n, len(got)):], "\n"), strings.Join(want[min(n, len(want)):], "\n"))
		}
	}
	if len(want) < 40 || !strings.Contains(strings.Join(want, "\n"), "inline.ts:13:") {
		t.Errorf("it does not do much:\n%s", strings.Join(want, "\n"))
	}
	near.Close()
	far.Close()
	if far.Running() != 0 || far.Peak() <= 0 {
		t.Errorf("%d workers run, peak %d", far.Running(), far.Peak())
	}
}

func TestWorkerRefuses(t *testing.T) {
	h := New(Options{Memory: 1 << 30, Workers: 1})
	defer h.Close()
	for source, want := range map[string]string{
		`let = ;`:                               "inline.ts:1:7",
		`import "./other"`:                      "is not there",
		`import "fs"`:                           "is not there",
		`throw new Error("at once")`:            "inline.ts:1:6: Error: at once",
		`while (true);`:                         "stopped after",
		`export default { api: 2, hooks() {} }`: "for api 2",
	} {
		_, err := h.Load(t.Context(), "inline.ts", source)
		var unusable *scripts.LoadError
		if !errors.As(err, &unusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	s, err := h.Load(t.Context(), "inline.ts", `export default { api: 1, hooks() { return { logits() {} } } }`)
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Start(t.Context(), scripts.Env{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	var busy *scripts.BusyError
	if _, err := s.Start(t.Context(), scripts.Env{Model: model}); !errors.As(err, &busy) {
		t.Errorf("a second worker where one may be: %v", err)
	}
	i.Close()
	i.Close() // twice is once
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Start(ctx, scripts.Env{Model: model}); err == nil {
		t.Error("a worker started for who is gone")
	}
}

// The request hook works on the far side too.
func TestWorkerRequest(t *testing.T) {
	h := New(Options{Memory: 1 << 30})
	defer h.Close()
	s, err := h.Load(t.Context(), "inline.js", `export default { api: 1, params: { t: { type: "number" } }, request(r, { params, log }) { r.temperature = params.t; log("set"); }, hooks() { return {} } }`)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	body, err := s.Request(t.Context(), []byte(`{"model":"m"}`), map[string]any{"t": .5}, func(line string) { said += line })
	if err != nil || string(body) != `{"model":"m","temperature":0.5}` || said != "set" {
		t.Errorf("%s, %q, %v", body, said, err)
	}
}

// A worker that is lost is the fault of one hook; the choice goes on without it.
func TestWorkerIsLost(t *testing.T) {
	h := New(Options{Memory: 1 << 30})
	defer h.Close()
	s, err := h.Load(t.Context(), "inline.js", `export default { api: 1, hooks({ log }) { return { logits() { log("here") } } } }`)
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Start(t.Context(), scripts.Env{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	var faults []hook.FaultKind
	c, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: 8, Budget: time.Second, Notify: func(n hook.Notice) {
		if n.Fault != nil {
			faults = append(faults, n.Fault.Kind)
		}
	}}, i)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for position := range 4 {
		if position == 2 {
			if err := i.process.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Logits(hook.At{Position: position}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []hook.FaultKind{hook.Lost, hook.Lost}; !slices.Equal(faults, want) { // the fault, and that it is off
		t.Errorf("%v", faults)
	}
}

// BenchmarkCall is what a token costs with a handler in a worker.
func BenchmarkCall(b *testing.B) {
	h := New(Options{})
	s, err := h.Load(b.Context(), "inline.js", `export default { api: 1, hooks() { return { logits(l) { l.bias(l.top(50).ids[0], 0.5) } } } }`)
	if err != nil {
		b.Fatal(err)
	}
	m := model
	m.Tokens = 4096
	i, err := s.Start(b.Context(), scripts.Env{Model: m})
	if err != nil {
		b.Fatal(err)
	}
	c, err := hook.NewChain(hook.Options{Shape: m.Shape, Tokens: m.Tokens, OnError: hook.Fail}, i)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	row := make(hook.Plain, m.Tokens)
	for n := 0; b.Loop(); n++ {
		if _, err := c.Logits(hook.At{Position: n}, row, row); err != nil {
			b.Fatal(err)
		}
	}
}

// What the chain drops of an answer is dropped in the worker too.
func TestDroppedSteering(t *testing.T) {
	const source = `export default { api: 1, hooks({ steer }) { return {
		sample(c, at) { if (at.position === 3) { steer.all.gate(2); return 5; } steer.layer(0).ban(1); },
	} } }`
	near, far := scripts.NewHost(scripts.Options{}), New(Options{Memory: 1 << 30})
	s, err := near.LoadSource(t.Context(), "inline.js", source)
	if err != nil {
		t.Fatal(err)
	}
	w, err := far.Load(t.Context(), "inline.js", source)
	if err != nil {
		t.Fatal(err)
	}
	play := func(h hook.Hook, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		c, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens}, h)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for position := 3; position < 5; position++ {
			at := hook.At{Position: position}
			if _, err := c.Logits(at, nil, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Sample(at, chooser{}, func(id int32) bool { return id != 5 }); err != nil {
				t.Fatal(err)
			}
		}
		steering, err := c.Steer(5)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%v %+v", steering.Layer(1), steering.Layer(0))
	}
	a, errA := s.Start(bare())
	b, errB := w.Start(t.Context(), bare())
	if want, got := play(a, errA), play(b, errB); got != want || !strings.Contains(want, "Gate:1") {
		t.Errorf("in a worker %s, in process %s", got, want)
	}
	near.Close()
	far.Close()
}

func bare() scripts.Env { return scripts.Env{Model: model} }
