package engine

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// guide is a hook that leads away from a second prompt: (1+w) times the logits, less w
// times those that the second prompt gives.
func guide(other []int32, weight float32, look func(own, beside []float32)) func() hook.Hook {
	return func() hook.Hook {
		sequence := -1
		return &goHook{
			start: func(c *hook.Call) (err error) { sequence, err = c.Sequence(other); return err },
			logits: func(_ *hook.Call, l *hook.Logits) error {
				if look != nil {
					own, err := l.Full()
					beside, err2 := l.Beside(sequence)
					if err := errors.Join(err, err2); err != nil {
						return err
					}
					row, err := beside.Full()
					if err != nil {
						return err
					}
					look(own, row)
				}
				return errors.Join(l.Scale(1+weight), l.Add(sequence, -weight))
			},
		}
	}
}

// A sequence beside the choice gives the logits that the formulas give for its prompt
// and what was chosen, and edits add them: alone, beside others, read again after a
// rewind.
func TestSequencesFollowTheFormulas(t *testing.T)         { onEach(t, sequencesFollowTheFormulas) }
func TestSequencesFollowTheFormulasOnDevice(t *testing.T) { onEach(t, sequencesFollowTheFormulas) }

func sequencesFollowTheFormulas(t *testing.T, o Options) {
	m, f := small(t, o, 6)
	prompt, other := []int32{5, 9, 2, 40, 17, 3, 3, 8}, []int32{8, 8, 1, 30, 2}
	for len(other) < 90 { // more than a chunk of the delta rule
		other = append(other, other[len(other)-5]*7%53)
	}
	const weight = 1.5
	var worst float64
	drawn := []int32{}
	references := []*formulas{newFormulas(f.c, f.w), newFormulas(f.c, f.w)}
	read := []int{0, 0}
	base := Request{Prompt: prompt, MaxTokens: 20, IgnoreEOS: true}
	req := base
	req.Hooks = hooksOf(guide(other, weight, func(own, beside []float32) {
		for i, side := range [][]int32{prompt, other} {
			got := [][]float32{own, beside}[i]
			var want []float64
			for ids := append(slices.Clone(side), drawn...); read[i] < len(ids); read[i]++ {
				want = references[i].token(ids[read[i]], read[i])
			}
			for id, x := range want {
				worst = max(worst, math.Abs(x-float64(got[id])))
			}
		}
		best := 0
		mixed := func(id int) float32 { return (1+weight)*own[id] - weight*beside[id] }
		for id := range own {
			if mixed(id) > mixed(best) {
				best = id
			}
		}
		drawn = append(drawn, int32(best))
	}))
	tokens, _ := generated(t, m, req)
	if got := idsOf(tokens); !slices.Equal(got, drawn) {
		t.Errorf("drew %v, the sums lead to %v", got, drawn)
	}
	if worst > 1e-3 {
		t.Errorf("logits differ by %g from the formulas", worst)
	}
	t.Logf("worst difference %.2g", worst)
	if plain, _ := generated(t, m, base); slices.Equal(idsOf(plain), drawn) {
		t.Error("the guidance changes nothing")
	}
	var wait sync.WaitGroup
	for range 2 { // each takes two of the six places
		wait.Go(func() {
			req := base
			req.Hooks = hooksOf(guide(other, weight, nil))
			if again, _ := generated(t, m, req); !slices.Equal(idsOf(again), drawn) {
				t.Errorf("beside others it drew %v, alone %v", idsOf(again), drawn)
			}
		})
	}
	wait.Wait()
	req.Hooks = hooksOf(guide(other, weight, nil), func() hook.Hook {
		back := false
		return &goHook{spec: hook.Spec{Name: "back", Lag: 1, Hold: 5}, token: func(c *hook.Call, k *hook.Token) error {
			if k.Position == len(prompt)+9 && !back {
				back = true
				return c.Rewind(len(prompt)+6, true)
			}
			return nil
		}}
	})
	if again, _ := generated(t, m, req); !slices.Equal(idsOf(again), drawn) {
		t.Errorf("after a rewind it drew %v, without %v", idsOf(again), drawn)
	}
}

func idsOf(tokens []Token) (ids []int32) {
	for _, k := range tokens {
		ids = append(ids, k.ID)
	}
	return ids
}

// Several choices have sequences of their own; a weight of nothing changes no token; and
// what cannot be is refused with what to do.
func TestSequencesAreBounded(t *testing.T) {
	m, _ := small(t, Options{Numerics: "exact"}, 3)
	base := Request{Prompt: []int32{1, 2, 3}, MaxTokens: 8, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 5}}
	req := base
	req.Hooks = hooksOf(guide([]int32{4, 5}, 0, nil))
	for i, out := range m.GenerateChoices(t.Context(), req, 3, func(int, Token) error { return nil }) {
		if out.Err != nil || out.Result.Completion != 8 {
			t.Errorf("choice %d: %+v", i, out)
		}
	}
	plain, _ := generated(t, m, base)
	if with, _ := generated(t, m, req); !slices.Equal(idsOf(plain), idsOf(with)) {
		t.Errorf("%v with a weight of nothing, %v without", idsOf(with), idsOf(plain))
	}
	fails := func(what string, h func() hook.Hook, change func(*Request)) {
		t.Helper()
		req := base
		req.Hooks = hooksOf(h)
		if change != nil {
			change(&req)
		}
		if _, err := m.Generate(t.Context(), req, func(Token) error { return nil }); err == nil {
			t.Errorf("%s is served", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
	}
	start := func(f func(*hook.Call) error) func() hook.Hook {
		return func() hook.Hook { return &goHook{spec: hook.Spec{Name: "s"}, start: f} }
	}
	fails("an empty sequence", start(func(c *hook.Call) error { _, err := c.Sequence(nil); return err }), nil)
	fails("an id that is not there", start(func(c *hook.Call) error { _, err := c.Sequence([]int32{53}); return err }), nil)
	fails("a third sequence", start(func(c *hook.Call) (err error) {
		for range hook.MaxSequences + 1 {
			if _, err = c.Sequence([]int32{1}); err != nil {
				break
			}
		}
		return err
	}), nil)
	fails("one that is longer than the context", start(func(c *hook.Call) error { _, err := c.Sequence([]int32{1, 2, 3, 4}); return err }),
		func(r *Request) { r.Prompt, r.MaxTokens = r.Prompt[:2], 509 })
	fails("one in logits", func() hook.Hook {
		return &goHook{spec: hook.Spec{Name: "s"}, logits: func(c *hook.Call, _ *hook.Logits) error { _, err := c.Sequence([]int32{1}); return err }}
	}, nil)
	fails("an add of nothing", func() hook.Hook {
		return &goHook{spec: hook.Spec{Name: "s"}, logits: func(_ *hook.Call, l *hook.Logits) error { return l.Add(0, 1) }}
	}, nil)
	two, _ := small(t, Options{Numerics: "exact"}, 1)
	req = base
	req.Hooks = hooksOf(guide([]int32{4, 5}, 1, nil))
	if _, err := two.Generate(t.Context(), req, func(Token) error { return nil }); err == nil {
		t.Error("two sequences have one place")
	} else {
		t.Log(err)
	}
}
