package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// goHook is a hook of functions.
type goHook struct {
	hook.None
	spec    hook.Spec
	start   func(*hook.Call) error
	prompt  func(*hook.Call, *hook.Prompt) error
	logits  func(*hook.Call, *hook.Logits) error
	sample  func(*hook.Call, *hook.Candidates) (int32, bool, error)
	token   func(*hook.Call, *hook.Token) error
	routing func(*hook.Call, *hook.Routing) error
	finish  func(*hook.Call, *hook.Finish) error
	hidden  func(*hook.Call, *hook.Hidden) error
	route   func(*hook.Call, *hook.Router) error
}

func (h *goHook) Start(c *hook.Call) error {
	if h.start != nil {
		return h.start(c)
	}
	return nil
}

func (h *goHook) Spec() hook.Spec {
	for event, wanted := range map[hook.Events]bool{hook.OnPrompt: h.prompt != nil, hook.OnLogits: h.logits != nil, hook.OnSample: h.sample != nil,
		hook.OnToken: h.token != nil, hook.OnRouting: h.routing != nil, hook.OnFinish: h.finish != nil, hook.OnHidden: h.hidden != nil, hook.OnRoute: h.route != nil} {
		if wanted {
			h.spec.Events |= event
		}
	}
	return h.spec
}

func (h *goHook) Prompt(c *hook.Call, p *hook.Prompt) error                    { return h.prompt(c, p) }
func (h *goHook) Logits(c *hook.Call, l *hook.Logits) error                    { return h.logits(c, l) }
func (h *goHook) Token(c *hook.Call, t *hook.Token) error                      { return h.token(c, t) }
func (h *goHook) Routing(c *hook.Call, r *hook.Routing) error                  { return h.routing(c, r) }
func (h *goHook) Hidden(c *hook.Call, x *hook.Hidden) error                    { return h.hidden(c, x) }
func (h *goHook) Route(c *hook.Call, r *hook.Router) error                     { return h.route(c, r) }
func (h *goHook) Finish(c *hook.Call, f *hook.Finish) error                    { return h.finish(c, f) }
func (h *goHook) Sample(c *hook.Call, s *hook.Candidates) (int32, bool, error) { return h.sample(c, s) }

// hooksOf attaches hooks, made anew for each choice; a fault ends the request.
func hooksOf(list ...func() hook.Hook) *Hooking {
	return &Hooking{OnError: hook.Fail, Start: func(uint32) (hooks []hook.Hook, _ error) {
		for _, h := range list {
			hooks = append(hooks, h())
		}
		return hooks, nil
	}}
}

// hooked makes tokens and returns them with their candidates.
func generated(t *testing.T, m *Model, req Request) ([]Token, Result) {
	t.Helper()
	var tokens []Token
	result, err := m.Generate(context.Background(), req, func(k Token) error {
		k.Candidates = slices.Clone(k.Candidates)
		tokens = append(tokens, k)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens, result
}

// onEach runs a test on the CPU and, named OnDevice, on the device.
func onEach(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	if !strings.HasSuffix(t.Name(), "OnDevice") {
		test(t, Options{Numerics: "exact"})
		return
	}
	o := Options{Device: "cuda", Numerics: "exact"}
	if testing.Short() && !silicon() {
		t.Skip("the race detector sees the same goroutines on the CPU")
	}
	if !silicon() {
		o.Driver = newFake(t)
	}
	test(t, o)
}

// small is a random model of 7 experts, 3 of them chosen.
func small(t *testing.T, o Options, streams int) (*Model, *formulas) {
	t.Helper()
	config := map[string]any{
		"model_type": "qwen3_next", "hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 53, "max_position_embeddings": 512,
		"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 20, "partial_rotary_factor": 0.3,
		"layer_types":          []string{"full_attention", "linear_attention", "linear_attention"},
		"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 12, "linear_value_head_dim": 20, "linear_conv_kernel_dim": 3,
		"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40,
	}
	fsys, c, w := randomModel(t, config)
	o.Name, o.Streams = "small", streams
	m, err := Open(t.Context(), fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, newFormulas(c, w)
}

// Each intervention in the routing gives the logits that the formulas give with the
// same edit: set before the prompt, or from a token on, at both lags; and what is
// banned is never in the record, what is forced always.
func TestInterventionsFollowTheFormulas(t *testing.T) {
	arithmetic(t)
	onEach(t, interventionsFollowTheFormulas)
}
func TestInterventionsFollowTheFormulasOnDevice(t *testing.T) {
	onEach(t, interventionsFollowTheFormulas)
}

func interventionsFollowTheFormulas(t *testing.T, o Options) {
	m, reference := small(t, o, 2)
	vector := make([]float32, 48)
	wide := make([]float64, len(vector))
	for i := range vector {
		vector[i] = float32(math.Sin(float64(i)))
		wide[i] = .7 * float64(vector[i])
	}
	prompt := make([]int32, 70)
	for i := range prompt {
		prompt[i] = int32(i * 7 % 53)
	}
	worst := map[string]float64{}
	var banned, forced, steered int // chosen all the same, left out all the same, of so many rows of layers
	for name, c := range map[string]struct {
		steer func(s *hook.Steering) error
		edit  intervention
	}{
		"mask":  {func(s *hook.Steering) error { return s.Ban([]int{0, 2}, []int32{1, 4}) }, intervention{ban: []int{1, 4}}},
		"bias":  {func(s *hook.Steering) error { return s.Bias([]int{0, 2}, []int32{3}, 1.25) }, intervention{bias: map[int]float64{3: 1.25}}},
		"force": {func(s *hook.Steering) error { return s.Force([]int{0, 2}, []int32{6, 2}) }, intervention{force: []int{6, 2}}},
		"scale": {func(s *hook.Steering) error { return s.Scale([]int{0, 2}, []int32{0, 1, 2}, .5) }, intervention{scale: map[int]float64{0: .5, 1: .5, 2: .5}}},
		"gate":  {func(s *hook.Steering) error { return s.Gate([]int{0, 2}, 2.5) }, intervention{gate: 2.5}},
		"k":     {func(s *hook.Steering) error { return s.TopK([]int{0, 2}, 1) }, intervention{k: 1}},
		"vector": {func(s *hook.Steering) error {
			_ = s.AddVector(hook.Vector{Values: vector, Layer: 0, Scale: .7})
			return s.AddVector(hook.Vector{Values: vector, Layer: 2, Scale: .7})
		}, intervention{vector: wide}},
	} {
		for _, when := range []struct {
			name string
			lag  int
			from int // position of the first row steered
		}{{"from the start", 2, 0}, {"lag 2", 2, 75}, {"lag 1", 1, 75}} {
			t.Run(name+", "+when.name, func(t *testing.T) {
				h := func() hook.Hook {
					g := &goHook{spec: hook.Spec{Name: name, Lag: when.lag}}
					if when.from == 0 {
						g.start = func(call *hook.Call) error { return c.steer(call.Steer) }
						return g
					}
					g.token = func(call *hook.Call, token *hook.Token) error {
						if token.Position == when.from-when.lag {
							return c.steer(call.Steer)
						}
						return nil
					}
					return g
				}
				tokens, _ := generated(t, m, Request{Prompt: prompt, MaxTokens: 12, Candidates: 20, IgnoreEOS: true, Hooks: hooksOf(h), Routing: true})
				f := newFormulas(reference.c, reference.w)
				position := 0
				f.edit = func(layer int) *intervention {
					if position < when.from || layer == 1 {
						return nil
					}
					return &c.edit
				}
				var logits []float64
				for i, id := range prompt {
					position = i
					logits = f.token(id, i)
				}
				for n, token := range tokens {
					for _, candidate := range token.Candidates {
						d := math.Abs(float64(candidate.Logit) - logits[candidate.ID])
						if worst[name] = max(worst[name], d); !(d < 1e-3) {
							t.Errorf("token %d: logit %v of %d, the formulas say %v", n, candidate.Logit, candidate.ID, logits[candidate.ID])
						}
					}
					if token.Routing == nil || token.Routing.Position != 69+n {
						t.Fatalf("token %d: routing %+v", n, token.Routing)
					}
					for _, layer := range []int{0, 2} {
						ids := token.Routing.IDs[layer*token.Routing.K:][:token.Routing.K]
						if token.Routing.Position < when.from {
							continue
						}
						if len(c.edit.ban)+len(c.edit.force) > 0 {
							steered++
						}
						for _, e := range c.edit.ban {
							if slices.Contains(ids, uint16(e)) {
								banned++
								t.Errorf("token %d: layer %d chose %v, %d is banned", n, layer, ids, e)
							}
						}
						for _, e := range c.edit.force {
							if !slices.Contains(ids, uint16(e)) {
								forced++
								t.Errorf("token %d: layer %d chose %v, %d is forced", n, layer, ids, e)
							}
						}
					}
					position = 70 + n
					logits = f.token(token.ID, position)
				}
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(worst)) {
		t.Logf("evidence: intervention %s, difference of a logit: %.3g logit <= 0.001", name, worst[name])
	}
	t.Logf("evidence: intervention mask, banned are chosen: %d rows <= 0", banned)
	t.Logf("evidence: intervention force, forced are left out: %d rows <= 0", forced)
	t.Logf("evidence: interventions mask and force, rows seen: %d rows >= 90", steered)
}

// Hooks that change nothing change no bit: no hook, an empty one, neutral edits and
// steering, hooks that only read, at both lags, alone and beside other streams.
func TestNeutralHooksChangeNoBit(t *testing.T)         { onEach(t, neutralHooksChangeNoBit) }
func TestNeutralHooksChangeNoBitOnDevice(t *testing.T) { onEach(t, neutralHooksChangeNoBit) }

func neutralHooksChangeNoBit(t *testing.T, o Options) {
	m, _ := small(t, o, 4)
	prompt := []int32{5, 9, 2, 40, 17, 3, 3, 8}
	request := func(h *Hooking) Request {
		return Request{Prompt: prompt, MaxTokens: 40, Candidates: 20, IgnoreEOS: true, Hooks: h,
			Sampling: Sampling{Temperature: .9, TopP: .95, Seed: 7, Repetition: 1.1}}
	}
	want, _ := generated(t, m, request(nil))
	kinds := map[string]func(lag int) func() hook.Hook{
		"empty": func(lag int) func() hook.Hook { return func() hook.Hook { return &goHook{spec: hook.Spec{Lag: lag}} } },
		"neutral edits": func(lag int) func() hook.Hook {
			return func() hook.Hook {
				return &goHook{spec: hook.Spec{Lag: lag}, logits: func(_ *hook.Call, l *hook.Logits) error {
					_ = l.Bias([]int32{3}, 0)
					return l.Edits.Scale(1)
				}}
			}
		},
		"neutral steering": func(lag int) func() hook.Hook {
			return func() hook.Hook {
				return &goHook{spec: hook.Spec{Lag: lag}, token: func(c *hook.Call, _ *hook.Token) error {
					_ = c.Steer.Bias(nil, []int32{1}, 0)
					return c.Steer.Gate(nil, 1)
				}}
			}
		},
		"reads": func(lag int) func() hook.Hook {
			return func() hook.Hook {
				return &goHook{spec: hook.Spec{Lag: lag}, logits: func(_ *hook.Call, l *hook.Logits) error {
					_, err := l.Top(5)
					if err == nil {
						_, err = l.Entropy()
					}
					if err == nil {
						_, err = l.Reads.Model().Full()
					}
					return err
				}, routing: func(_ *hook.Call, r *hook.Routing) error { _, err := r.Share(1, 2, 16); return err }}
			}
		},
		"candidates": func(lag int) func() hook.Hook {
			return func() hook.Hook {
				return &goHook{spec: hook.Spec{Lag: lag}, sample: func(_ *hook.Call, c *hook.Candidates) (int32, bool, error) {
					id, err := c.Draw()
					return id, true, err
				}}
			}
		},
	}
	var compared, changed atomic.Int64
	same := func(name string, got []Token) {
		t.Helper()
		for i := range got {
			compared.Add(int64(1 + len(got[i].Candidates)))
			if got[i].ID != want[i].ID || !slices.EqualFunc(got[i].Candidates, want[i].Candidates, func(a, b ops.Candidate) bool { return a == b }) {
				changed.Add(1)
				t.Errorf("%s: token %d is %+v, without a hook %+v", name, i, got[i], want[i])
				return
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d tokens, want %d", name, len(got), len(want))
		}
	}
	var wait sync.WaitGroup
	for kind, h := range kinds {
		for _, lag := range []int{1, 2} {
			name := fmt.Sprintf("%s, lag %d", kind, lag)
			got, _ := generated(t, m, request(hooksOf(h(lag))))
			same(name, got)
			wait.Go(func() { // and all of them beside each other
				got, _ := generated(t, m, request(hooksOf(h(lag))))
				same(name+", batched", got)
			})
		}
	}
	wait.Wait()
	t.Logf("evidence: neutral hooks, runs with a changed bit: %d runs <= 0", changed.Load())
	t.Logf("evidence: neutral hooks, tokens and logits seen: %d values >= 10000", compared.Load())
}

// Events come at their lags, whole and in order, whatever else the stream does.
func TestEventsComeAtTheirLags(t *testing.T)         { onEach(t, eventsComeAtTheirLags) }
func TestEventsComeAtTheirLagsOnDevice(t *testing.T) { onEach(t, eventsComeAtTheirLags) }

func eventsComeAtTheirLags(t *testing.T, o Options) {
	m, _ := small(t, o, 2)
	for _, lag := range []int{1, 2} {
		for _, all := range []bool{false, true} {
			var log []string
			h := &goHook{spec: hook.Spec{Name: "log", Lag: lag, CaptureAll: all}}
			last := map[string]int{"token": 7, "routing": 6}
			if all {
				last["routing"] = -1
			}
			now := 0
			h.logits = func(c *hook.Call, _ *hook.Logits) error {
				now = c.Position
				return nil
			}
			see := func(what string, position int) {
				if position != last[what]+1 || position+lag > now+1 && now > 0 && now < 27 {
					log = append(log, fmt.Sprintf("%s of %d behind %d, before %d", what, position, last[what], now))
				}
				last[what] = position
			}
			h.token = func(c *hook.Call, k *hook.Token) error { see("token", k.Position); return nil }
			h.routing = func(c *hook.Call, r *hook.Routing) error {
				if !r.Prompt || all {
					see("routing", r.Position)
				}
				return nil
			}
			if !all {
				last["routing"] = 7 // the prompt's last row is the prompt's
			}
			var end hook.Finish
			h.finish = func(_ *hook.Call, f *hook.Finish) error { end = *f; return nil }
			tokens, result := generated(t, m, Request{Prompt: []int32{5, 9, 2, 40, 17, 3, 3, 8}, MaxTokens: 20, IgnoreEOS: true,
				Hooks: hooksOf(func() hook.Hook { return h })})
			now = 1 << 30
			if len(log) > 0 || last["token"] != 27 || last["routing"] != 26 || len(tokens) != 20 {
				t.Errorf("lag %d, all %v: %v; last %v", lag, all, log, last)
			}
			if end != (hook.Finish{Reason: "length", Prompt: 8, Completion: 20}) || len(result.Hooks.Hooks) != 1 || result.Hooks.Synchronous != (lag == 1) {
				t.Errorf("lag %d: ended %+v, report %+v", lag, end, result.Hooks)
			}
		}
	}
}

// What hooks do to a token: ban, force by only, set, choose, inject, stop, replace the
// prompt.
func TestHooksChangeTokens(t *testing.T)         { onEach(t, hooksChangeTokens) }
func TestHooksChangeTokensOnDevice(t *testing.T) { onEach(t, hooksChangeTokens) }

func hooksChangeTokens(t *testing.T, o Options) {
	m, _ := small(t, o, 2)
	prompt := []int32{5, 9, 2, 40, 17, 3, 3, 8}
	base := Request{Prompt: prompt, MaxTokens: 12, Candidates: 5, IgnoreEOS: true}
	plain, _ := generated(t, m, base)
	ids := func(tokens []Token) (list []int32) {
		for _, k := range tokens {
			list = append(list, k.ID)
		}
		return list
	}
	run := func(h *goHook) ([]Token, Result) {
		req := base
		req.Hooks = hooksOf(func() hook.Hook { return h })
		return generated(t, m, req)
	}
	for _, read := range []bool{false, true} { // on the device, and behind a read
		got, _ := run(&goHook{logits: func(_ *hook.Call, l *hook.Logits) error {
			if read {
				if _, err := l.Top(1); err != nil {
					return err
				}
			}
			return l.Ban([]int32{plain[0].ID})
		}})
		if slices.Contains(ids(got), plain[0].ID) || got[0].ID != plain[0].Candidates[1].ID {
			t.Errorf("read %v: drew %v, %d was banned", read, ids(got), plain[0].ID)
		}
		if c := got[0].Changes; len(c) != 1 || c[0].What != hook.Edited || read && (c[0].Instead == nil || *c[0].Instead != plain[0].ID) {
			t.Errorf("read %v: the first token says %+v of what changed it", read, c)
		}
		got, _ = run(&goHook{logits: func(c *hook.Call, l *hook.Logits) error {
			if read {
				if _, err := l.Entropy(); err != nil {
					return err
				}
			}
			return l.Only([]int32{int32(c.Position)})
		}})
		if want := []int32{8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}; !slices.Equal(ids(got), want) {
			t.Errorf("read %v: only gave %v, want %v", read, ids(got), want)
		}
	}
	got, result := run(&goHook{sample: func(c *hook.Call, k *hook.Candidates) (int32, bool, error) {
		list, err := k.Top()
		if err != nil || len(list) != 1 { // the chain is greedy
			return 0, false, fmt.Errorf("%d left, %w", len(list), err)
		}
		return 11, c.Position%2 == 0, nil
	}})
	if got[0].ID != 11 || got[2].ID != 11 || result.Hooks.Hooks[0].Chosen != 6 {
		t.Errorf("sample gave %v, report %+v", ids(got), result.Hooks)
	}
	got, _ = run(&goHook{spec: hook.Spec{Lag: 1}, token: func(c *hook.Call, k *hook.Token) error {
		if k.Position == 10 {
			return c.Inject([]int32{1, 2, 3})
		}
		return nil
	}})
	if !slices.Equal(ids(got)[:6], append(ids(plain)[:3], 1, 2, 3)) || got[2].Forced || !got[3].Forced || !got[5].Forced || got[6].Forced {
		t.Errorf("inject gave %v, without %v", ids(got), ids(plain))
	}
	got, result = run(&goHook{spec: hook.Spec{Lag: 1}, token: func(c *hook.Call, k *hook.Token) error {
		if k.Position == 10 {
			return c.Stop("enough")
		}
		return nil
	}})
	if !slices.Equal(ids(got), ids(plain)[:3]) || result.Reason != Stopped || result.StopHook != "enough" {
		t.Errorf("stop gave %v, %+v", ids(got), result)
	}
	other := []int32{7, 7, 7, 1, 2}
	req := base
	req.Prompt = other
	want, _ := generated(t, m, req)
	got, result = run(&goHook{prompt: func(_ *hook.Call, p *hook.Prompt) error { p.IDs = other; return nil }})
	if !slices.Equal(ids(got), ids(want)) || result.Prompt != len(other) {
		t.Errorf("another prompt gave %v, want %v; %d prompt tokens", ids(got), ids(want), result.Prompt)
	}
}

// A hook that fails costs its token the hook, and is switched off at the third in a
// row; where it may not fail it ends the request.
func TestHooksThatFail(t *testing.T)         { onEach(t, hooksThatFail) }
func TestHooksThatFailOnDevice(t *testing.T) { onEach(t, hooksThatFail) }

func hooksThatFail(t *testing.T, o Options) {
	m, _ := small(t, o, 2)
	req := Request{Prompt: []int32{5, 9, 2}, MaxTokens: 10, IgnoreEOS: true}
	plain, _ := generated(t, m, req)
	calls := 0
	broken := func() hook.Hook {
		return &goHook{spec: hook.Spec{Name: "broken"}, logits: func(c *hook.Call, l *hook.Logits) error {
			calls++
			_ = l.Only([]int32{1})
			panic("no")
		}}
	}
	req.Hooks = hooksOf(broken)
	req.Hooks.OnError = hook.Disable
	got, result := generated(t, m, req)
	for i := range got {
		if got[i].ID != plain[i].ID || got[i].Changes != nil {
			t.Errorf("token %d is %d, the default %d; changed by %+v", i, got[i].ID, plain[i].ID, got[i].Changes)
		}
	}
	if calls != 3 || result.Hooks.Degraded != 3 || !result.Hooks.Hooks[0].Off {
		t.Errorf("%d calls, %+v", calls, result.Hooks)
	}
	// One that says that it is swift edits where it stands, and has no row to read.
	reads := false
	req.Hooks = hooksOf(func() hook.Hook {
		return &goHook{spec: hook.Spec{Name: "swift", Swift: true}, logits: func(_ *hook.Call, l *hook.Logits) error {
			if reads {
				_, err := l.Top(1)
				return err
			}
			return l.Only([]int32{1})
		}}
	})
	req.Hooks.OnError = hook.Disable
	for _, reads = range []bool{false, true} {
		got, result := generated(t, m, req)
		if want := map[bool]int32{false: 1, true: plain[0].ID}[reads]; got[0].ID != want || (result.Hooks.Hooks[0].Faults["misuse"] > 0) != reads {
			t.Errorf("swift, reads %v: drew %d, want %d; %+v", reads, got[0].ID, want, result.Hooks)
		}
	}
	req.Hooks = hooksOf(broken)
	req.Hooks.OnError = hook.Fail
	_, err := m.Generate(t.Context(), req, func(Token) error { return nil })
	if fault := (*hook.Fault)(nil); err == nil || !errors.As(err, &fault) || fault.Hook != "broken" || fault.Position != 3 {
		t.Errorf("got %v", err)
	}
	// Edits that leave nothing, with what the request bans: the token takes the default.
	mask := []uint32{^uint32(0), ^uint32(0)}
	mask[0] &^= 1 << 4
	req.Sampling.Mask = mask
	for _, read := range []bool{false, true} {
		req.Hooks = hooksOf(func() hook.Hook {
			return &goHook{spec: hook.Spec{Name: "spoilt"}, logits: func(c *hook.Call, l *hook.Logits) error {
				if read {
					_, _ = l.Top(1)
				}
				return l.Only([]int32{4})
			}}
		})
		req.Hooks.OnError = hook.Disable
		got, result = generated(t, m, req)
		if len(got) != 10 || result.Hooks.Degraded != 3 || slices.ContainsFunc(got, func(k Token) bool { return k.ID == 4 }) {
			t.Errorf("read %v: %d tokens, %+v", read, len(got), result.Hooks)
		}
	}
}

// Each choice has hooks of its own, and one that steers its prompt does not touch the
// others.
func TestChoicesHaveTheirOwnHooks(t *testing.T)         { onEach(t, choicesHaveTheirOwnHooks) }
func TestChoicesHaveTheirOwnHooksOnDevice(t *testing.T) { onEach(t, choicesHaveTheirOwnHooks) }

func choicesHaveTheirOwnHooks(t *testing.T, o Options) {
	m, _ := small(t, o, 3)
	req := Request{Prompt: []int32{5, 9, 2, 40}, MaxTokens: 10, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 3}}
	steered := func(choice uint32) []hook.Hook {
		h := &goHook{}
		if choice == 1 {
			h.start = func(c *hook.Call) error { return c.Steer.Ban(nil, []int32{2, 3}) }
		}
		return []hook.Hook{h}
	}
	alone := map[int][]int32{}
	for choice := range 3 {
		one := req
		one.Choice = uint32(choice)
		one.Hooks = &Hooking{Start: func(c uint32) ([]hook.Hook, error) { return steered(c), nil }}
		tokens, _ := generated(t, m, one)
		for _, k := range tokens {
			alone[choice] = append(alone[choice], k.ID)
		}
	}
	req.Hooks = &Hooking{Start: func(c uint32) ([]hook.Hook, error) { return steered(c), nil }}
	var mu sync.Mutex
	got := map[int][]int32{}
	for choice, o := range m.GenerateChoices(t.Context(), req, 3, func(choice int, k Token) error {
		mu.Lock()
		defer mu.Unlock()
		got[choice] = append(got[choice], k.ID)
		return nil
	}) {
		if o.Err != nil {
			t.Errorf("choice %d: %v", choice, o.Err)
		}
	}
	if !maps.EqualFunc(got, alone, slices.Equal) {
		t.Errorf("together %v, alone %v", got, alone)
	}
}
