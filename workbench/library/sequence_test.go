//go:build !nodemo

package library

import (
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// behind is the mean log-probability that a text has behind a prompt.
func behind(t *testing.T, prompt string, ids []int32) float64 {
	t.Helper()
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	before, err := m.HookTokenizer().Encode(prompt)
	if err != nil {
		t.Fatal(err)
	}
	none := 0
	result, err := m.Generate(t.Context(), engine.Request{Prompt: append(before, ids...), MaxTokens: 1, PromptCandidates: &none}, func(engine.Token) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.
	for _, k := range result.PromptTokens[len(result.PromptTokens)-len(ids):] {
		sum += float64(k.Logprob)
	}
	return sum / float64(len(ids))
}

// The stronger the guidance, the more likely is the reply behind its own prompt than
// behind the second; a strength of 0 changes no token, one below 0 leads to the second.
func TestGuidance(t *testing.T) {
	const own, away = "Once upon a time, there was", "Once upon a time, there was a fox named"
	const seeds = 4
	guided := func(strength float64, seed uint64) outcome {
		r := run{prompt: own, request: engine.Request{MaxTokens: 40, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1, Seed: seed}}}
		plain := r.do(t)
		r.script, r.params = "guidance", map[string]any{"away": away, "strength": strength}
		got := r.do(t)
		if strength == 0 && !slices.Equal(got.ids, plain.ids) {
			t.Errorf("a strength of 0 gives %q, without it is %q", got.text, plain.text)
		}
		return got
	}
	var gains []float64
	for _, strength := range []float64{-.8, 0, 1} {
		gain := 0.
		for seed := range uint64(seeds) {
			got := guided(strength, seed)
			gain += (behind(t, own, got.ids) - behind(t, away, got.ids)) / seeds
		}
		gains = append(gains, gain)
	}
	t.Logf("behind its own prompt a reply is %.2f nats a token more likely than behind the other at strength -0.8, %.2f without guidance, %.2f at 1 (bound: 0.1 more)", gains[0], gains[1], gains[2])
	if gains[0] > 0 || gains[2] < gains[1]+.1 {
		t.Errorf("the gains are %v", gains)
	}
}

// Phrases that the reply would have said are not in it, and what they begin with is.
func TestBacktrack(t *testing.T) {
	phrases := []string{" said", "wanted to", "was not", "of the", "in the", "there was"}
	request := engine.Request{MaxTokens: 300, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1, Seed: 11}}
	count := func(o outcome) (n int) {
		for _, p := range phrases {
			n += strings.Count(strings.ToLower(o.text), p)
		}
		return n
	}
	without := run{prompt: story, request: request}.do(t)
	with := run{script: "backtrack", params: map[string]any{"phrases": strings.Join(phrases, "\n")}, prompt: story, request: request}.do(t)
	back := 0
	for _, n := range with.notices {
		if n.Name == "back" {
			back++
		}
	}
	t.Logf("%d phrases without, %d with (bound 0); it went back %d times in %d tokens", count(without), count(with), back, len(with.ids))
	if count(without) < 5 || count(with) > 0 || back < 5 || len(with.ids) != 300 {
		t.Errorf("with: %q", with.text)
	}
}
