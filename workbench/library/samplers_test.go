//go:build !nodemo

package library

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// hot is a request that draws from a flat distribution.
func hot(temperature float32) engine.Request {
	return engine.Request{MaxTokens: 200, IgnoreEOS: true, Candidates: 256, Sampling: engine.Sampling{Temperature: temperature, Seed: 11}}
}

// logit is that of a token among the candidates; they are the model's own.
func logit(k engine.Token) float64 {
	at := slices.IndexFunc(k.Candidates, func(c ops.Candidate) bool { return c.ID == k.ID })
	if at < 0 {
		return math.Inf(-1)
	}
	return float64(k.Candidates[at].Logit)
}

// entropy is that of a token's candidates.
func entropy(k engine.Token) (h float64) {
	for _, c := range k.Candidates {
		h -= math.Exp(float64(c.Logprob)) * float64(c.Logprob)
	}
	return h
}

// No token is drawn below the floor, which rises with entropy; without it many are.
func TestEntropyMinP(t *testing.T) {
	const temperature, low, rise = 2., .05, .05
	with := run{script: "entropy-min-p", params: map[string]any{"floor": low, "rise": rise}, prompt: story, request: hot(temperature)}.do(t)
	without := run{prompt: story, request: hot(temperature)}.do(t)
	// part is the probability of the drawn token, in parts of the best one's.
	part := func(k engine.Token) float64 {
		return math.Exp((logit(k) - float64(k.Candidates[0].Logit)) / temperature)
	}
	floors := with.numbers("min_p")
	least, most, margin, below := 1.0, 0.0, math.Inf(1), 0
	for i, k := range with.tokens {
		floor := floors[with.result.Prompt+i]
		least, most = min(least, floor), max(most, floor)
		margin = min(margin, part(k)/floor)
	}
	for _, k := range without.tokens {
		if part(k) < low+rise*entropy(k) {
			below++
		}
	}
	t.Logf("floors from %.3f to %.3f over %d tokens; the least likely draw has %.2f times its floor (bound 1); without, %d of %d tokens are below",
		least, most, len(floors), margin, below, len(without.tokens))
	evidence(t, "entropy-min-p", "least likely draw", margin, "floors", ">=", .999)
	if len(floors) != len(with.tokens) || margin < .999 || most-least < .1 || below < 40 {
		t.Error("the floor does not hold, does not move, or is not needed")
	}
}

// phrases is the part of the phrases of four words that came before.
func phrases(text string) float64 {
	words := strings.Fields(text)
	seen, again := map[string]bool{}, 0
	for i := 4; i <= len(words); i++ {
		phrase := strings.Join(words[i-4:i], " ")
		if seen[phrase] {
			again++
		}
		seen[phrase] = true
	}
	return float64(again) / float64(len(words)-3)
}

// The most likely text goes in circles; with the script it does not, and keeps its
// punctuation.
func TestNoRepeat(t *testing.T) {
	request := engine.Request{MaxTokens: 450, IgnoreEOS: true}
	without := run{prompt: story, request: request}.do(t)
	with := run{script: "no-repeat", prompt: story, request: request}.do(t)
	stops := func(text string) float64 {
		return float64(strings.Count(text, ".")+strings.Count(text, ",")) / float64(len(strings.Fields(text)))
	}
	t.Logf("phrases of 4 words that came before: %.1f %% without, %.1f %% with (bound 6 %%); stops a word: %.3f and %.3f",
		100*phrases(without.text), 100*phrases(with.text), stops(without.text), stops(with.text))
	evidence(t, "no-repeat", "phrases again", 100*phrases(with.text), "%", "<=", 6)
	evidence(t, "no-repeat", "phrases again without it", 100*phrases(without.text), "%", ">=", 20)
	if phrases(without.text) < .2 || phrases(with.text) > .06 || stops(with.text) < .5*stops(without.text) {
		t.Errorf("with: %q", with.text)
	}
}

// The temperature follows entropy: what is sure is not left to chance, and where the
// model is not sure the draw is as free as without.
func TestEntropyTemperature(t *testing.T) {
	const base = 2.
	with := run{script: "entropy-temperature", params: map[string]any{"base": base}, prompt: story, request: hot(base)}.do(t)
	without := run{prompt: story, request: hot(base)}.do(t)
	told := with.numbers("temperature")
	// best is the part of tokens with entropy in a range that are the best one.
	best := func(o outcome, from, to float64) float64 {
		n, best := 0., 0.
		for _, k := range o.tokens {
			if h := entropy(k); h >= from && h < to {
				if n++; k.ID == k.Candidates[0].ID {
					best++
				}
			}
		}
		return best / n
	}
	worst, least, most := 0., math.Inf(1), 0.
	for i, k := range with.tokens {
		got, want := told[with.result.Prompt+i], base*math.Pow(.8, 1/entropy(k))
		worst = max(worst, math.Abs(got-want)) // candidates leave out what the tail adds to entropy
		least, most = min(least, got), max(most, got)
	}
	t.Logf("temperatures from %.3f to %.3f, off the formula by %.2g (bound 0.05)", least, most, worst)
	t.Logf("the best token is drawn, entropy below 1: %.1f %% of the time without, %.1f %% with; above 2: %.1f %% and %.1f %%",
		100*best(without, 0, 1), 100*best(with, 0, 1), 100*best(without, 2, 9), 100*best(with, 2, 9))
	evidence(t, "entropy-temperature", "off its formula", worst, "T", "<=", .05)
	if worst > .05 || least > .1*base || most < .9*base || best(with, 0, 1) < best(without, 0, 1)+.05 || best(with, 2, 9) > best(without, 2, 9)+.1 {
		t.Error("the temperature does not follow entropy")
	}
}

// Each drawn token loses by heat less than the weight allows, and is drawn as often as
// the difference says.
func TestContrast(t *testing.T) {
	const low, high, weight, k = .8, 2., .5, 40
	with := run{script: "contrast", params: map[string]any{"low": low, "high": high, "weight": weight, "k": float64(k)}, prompt: story, request: hot(1)}.do(t)
	without := run{prompt: story, request: hot(2)}.do(t)
	// rest is what is left of a token's probability, and of all.
	rest := func(token engine.Token) (own, all float64) {
		at := func(temperature float64) (p [k]float64) {
			sum := 0.
			for i, c := range token.Candidates[:k] {
				p[i] = math.Exp(float64(c.Logit-token.Candidates[0].Logit) / temperature)
				sum += p[i]
			}
			for i := range p {
				p[i] /= sum
			}
			return p
		}
		cold, hot := at(low), at(high)
		for i, c := range token.Candidates[:k] {
			left := max(0, cold[i]-weight*hot[i])
			if all += left; c.ID == token.ID {
				own = left
			}
		}
		return own, all
	}
	cut := func(o outcome) (n int) {
		for _, token := range o.tokens {
			if own, _ := rest(token); own == 0 {
				n++
			}
		}
		return n
	}
	// The draws' own probabilities: their mean is what the distributions expect, within
	// chance.
	mean, expected, spread := 0., 0., 0.
	for _, token := range with.tokens {
		own, all := rest(token)
		mean += own / all
		first, second := 0., 0.
		for _, c := range token.Candidates[:k] {
			other := token
			other.ID = c.ID
			p, _ := rest(other)
			p /= all
			first, second = first+p*p, second+p*p*p
		}
		expected, spread = expected+first, spread+second-first*first
	}
	z := (mean - expected) / math.Sqrt(spread)
	t.Logf("tokens drawn that the contrast cuts: %d of %d with (bound 0), %d at temperature 2 without; mean probability of the drawn is %.2f sigma off what is expected (bound 3)",
		cut(with), len(with.tokens), cut(without), z)
	evidence(t, "contrast", "draws that it cuts", float64(cut(with)), "draws", "<=", 0)
	evidence(t, "contrast", "draws off what is expected", math.Abs(z), "sigma", "<=", 3)
	if cut(with) > 0 || cut(without) < 10 || math.Abs(z) > 3 {
		t.Error("the draws are not those of the contrast")
	}
}
