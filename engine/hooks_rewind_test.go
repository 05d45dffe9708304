package engine

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// backtracker takes a token back that it does not want, and bans it there.
type backtracker struct {
	goHook
	banned map[int][]int32 // by position
	Seen   []int32         // its state: tokens so far
}

func (b *backtracker) State() ([]byte, error) { return json.Marshal(b.Seen) }
func (b *backtracker) Restore(state []byte) error {
	b.Seen = nil
	return json.Unmarshal(state, &b.Seen)
}

// A hook that takes tokens back when it sees them makes what one makes that bans them
// beforehand; its state, the penalties and the routing it knows go back as well.
func TestRewindIsAsIfItNeverWas(t *testing.T)         { onEach(t, rewindIsAsIfItNeverWas) }
func TestRewindIsAsIfItNeverWasOnDevice(t *testing.T) { onEach(t, rewindIsAsIfItNeverWas) }

func rewindIsAsIfItNeverWas(t *testing.T, o Options) {
	m, _ := small(t, o, 2)
	prompt := []int32{5, 9, 2, 40, 17, 3, 3, 8}
	base := Request{Prompt: prompt, MaxTokens: 24, Candidates: 5, IgnoreEOS: true, Routing: true, Sampling: Sampling{Repetition: 1.3, Frequency: .2}}
	plain, _ := generated(t, m, base)
	unwanted := []int32{plain[3].ID, plain[8].ID, plain[9].ID}
	req := base
	req.Hooks = hooksOf(func() hook.Hook {
		return &goHook{logits: func(_ *hook.Call, l *hook.Logits) error { return l.Ban(unwanted) }}
	})
	want, _ := generated(t, m, req)
	for _, behind := range []int{0, 3} { // noticed at once, or three tokens later
		b := &backtracker{banned: map[int][]int32{}}
		b.spec = hook.Spec{Name: "back", Lag: 1, Hold: 6}
		b.token = func(c *hook.Call, k *hook.Token) error {
			b.Seen = append(b.Seen, k.ID)
			if at := len(b.Seen) - 1 - behind; at >= 0 && slices.Contains(unwanted, b.Seen[at]) {
				position := k.Position - behind
				b.banned[position] = append(b.banned[position], b.Seen[at])
				return c.Rewind(position, false)
			}
			return nil
		}
		b.routing = func(_ *hook.Call, r *hook.Routing) error {
			if older := r.Back(1); older != nil && older.Position != r.Position-1 {
				t.Errorf("the record before that of %d is of %d", r.Position, older.Position)
			}
			return nil
		}
		b.logits = func(c *hook.Call, l *hook.Logits) error {
			if len(b.Seen) != c.Position-len(prompt) {
				t.Errorf("at %d the state has %d tokens", c.Position, len(b.Seen))
			}
			return l.Ban(b.banned[c.Position])
		}
		req.Hooks = hooksOf(func() hook.Hook { return b })
		got, result := generated(t, m, req)
		for i := range want[:24-1-behind] { // what is noticed behind the last is too late
			if i >= len(got) || got[i].ID != want[i].ID || got[i].Routing == nil || got[i].Routing.Position != 7+i ||
				!slices.Equal(got[i].Routing.IDs, want[i].Routing.IDs) {
				t.Fatalf("noticed %d later: token %d differs, of %d; %+v", behind, i, len(got), result.Hooks)
			}
			if d := got[i].Candidates[0].Logit - want[i].Candidates[0].Logit; d != 0 {
				t.Fatalf("noticed %d later: token %d: the best logit differs by %v", behind, i, d)
			}
		}
		if len(b.banned) == 0 || result.Completion != 24 || result.Hooks.Degraded != 0 {
			t.Errorf("noticed %d later: %d positions drawn again, %+v", behind, len(b.banned), result)
		}
	}
}

// Random numbers are of another attempt, unless the same is asked for; sent tokens
// cannot be taken back; a hook that never lets a token be comes to an end.
func TestRewindBounds(t *testing.T)         { onEach(t, rewindBounds) }
func TestRewindBoundsOnDevice(t *testing.T) { onEach(t, rewindBounds) }

func rewindBounds(t *testing.T, o Options) {
	m, _ := small(t, o, 2)
	base := Request{Prompt: []int32{5, 9, 2}, MaxTokens: 10, IgnoreEOS: true, Sampling: Sampling{Temperature: 2, Seed: 9}}
	plain, _ := generated(t, m, base)
	ids := func(tokens []Token) (list []int32) {
		for _, k := range tokens {
			list = append(list, k.ID)
		}
		return list
	}
	once := func(same bool, to int) ([]Token, Result) {
		req, done := base, false
		req.Hooks = hooksOf(func() hook.Hook {
			return &goHook{spec: hook.Spec{Hold: 4}, sample: func(c *hook.Call, _ *hook.Candidates) (int32, bool, error) {
				if c.Position == 8 && !done {
					done = true
					return 0, false, c.Rewind(to, same)
				}
				return 0, false, nil
			}}
		})
		req.Hooks.OnError = hook.Disable
		return generated(t, m, req)
	}
	if got, _ := once(true, 5); !slices.Equal(ids(got), ids(plain)) {
		t.Errorf("the same attempt drew %v, before %v", ids(got), ids(plain))
	}
	if got, _ := once(true, 8); !slices.Equal(ids(got), ids(plain)) {
		t.Errorf("the same attempt of one token drew %v, before %v", ids(got), ids(plain))
	}
	for _, to := range []int{5, 8} {
		if got, _ := once(false, to); slices.Equal(ids(got), ids(plain)) || !slices.Equal(ids(got)[:to-3], ids(plain)[:to-3]) {
			t.Errorf("another attempt from %d drew %v, before %v", to, ids(got), ids(plain))
		}
	}
	if got, result := once(false, 3); !slices.Equal(ids(got), ids(plain)) || result.Hooks.Degraded != 1 {
		t.Errorf("a rewind past what is held gave %v, %+v", ids(got), result.Hooks)
	}
	for _, hold := range []int{0, 2} {
		req := base
		req.Hooks = hooksOf(func() hook.Hook {
			return &goHook{spec: hook.Spec{Hold: hold}, sample: func(c *hook.Call, _ *hook.Candidates) (int32, bool, error) {
				if c.Position == 6 {
					return 0, false, c.Rewind(6-hold, false)
				}
				return 0, false, nil
			}}
		})
		req.Hooks.OnError = hook.Disable
		got, result := generated(t, m, req)
		if n := len(got); n != 10 && result.Reason != OutOfRoom || result.Hooks.Degraded == 0 && n == 10 {
			t.Errorf("hold %d: %d tokens, %+v", hold, n, result)
		}
	}
}
