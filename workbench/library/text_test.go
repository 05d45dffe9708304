//go:build !nodemo

package library

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
)

// Whatever the pattern and the seed, a reply that has ended matches, and one that has
// not can still.
func TestRegex(t *testing.T) {
	patterns := []string{
		`yes|no`,
		`\d{4}-\d{2}-\d{2}`,
		`\{"name": "[A-Z][a-z]{1,11}", "age": [1-9]\d?\}`,
		`(red|green|blue)(, (red|green|blue)){2}`,
		`[^\W\d_]+( [a-z]{2,9}){3,6}\.`,
		`#[0-9a-f]{6}\n`,
	}
	ended, wrong, without := 0, 0, 0
	for _, pattern := range patterns {
		whole := regexp.MustCompile(`^(?:` + pattern + `)$`)
		for seed := range uint64(2) {
			request := engine.Request{MaxTokens: 80, Sampling: engine.Sampling{Temperature: 1, Seed: seed}}
			o := run{script: "regex", params: map[string]any{"pattern": pattern}, prompt: story, request: request}.do(t)
			var told struct{ Matched bool }
			if o.data(t, "regex", &told); o.result.Reason != engine.Stopped || !told.Matched || !whole.MatchString(o.text) {
				wrong++
				t.Errorf("%s: %q does not match (ended by %s, told %v)", pattern, o.text, o.result.Reason, told.Matched)
			}
			ended++
			if seed == 0 {
				t.Logf("%s: %q", pattern, o.text)
				if whole.MatchString((run{prompt: story, request: request}).do(t).text) {
					without++
				}
			}
		}
	}
	t.Logf("%d of %d replies match, without the script %d of %d", ended-wrong, ended, without, len(patterns))
	evidence(t, "regex", "replies that do not match", float64(wrong), "replies", "<=", 0)
}

// A pattern that cannot be read is refused before the prompt is read.
func TestRegexRefuses(t *testing.T) {
	for pattern, want := range map[string]string{`(a`: "not closed", `a{3,2}`: "counts are", `*`: "not possible here", `a)`: "closes no group", `\q`: "not known", `[a`: "not closed", `(?=a)`: "(?: ) only", `((a{99}){99}){99}`: "states"} {
		if err := (run{script: "regex", params: map[string]any{"pattern": pattern}, prompt: story, request: engine.Request{MaxTokens: 1}}).err(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", pattern, err, want)
		}
	}
}

// found is what the detector tells.
type found struct {
	Tokens, Green int
	Z, P          float64
}

// open is a prompt that leaves the demo model unsure: its stories it knows by heart, and
// what is sure has no room for a watermark.
const open = "The history of the world"

// In 200 tokens the watermark is beyond doubt for who has the key, in the text alone.
// Without it, and with other keys, there is nothing to see.
func TestWatermark(t *testing.T) {
	// examine reads a text as a prompt.
	examine := func(text string, key float64) (f found) {
		o := run{script: "watermark-detect", params: map[string]any{"key": key}, prompt: text, request: engine.Request{MaxTokens: 1}}.do(t)
		o.data(t, "prompt", &f)
		return f
	}
	var plain outcome
	for key := range 2 {
		params := map[string]any{"key": float64(key)}
		request := engine.Request{MaxTokens: 200, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1.2, Seed: uint64(key)}}
		marked := run{script: "watermark", params: params, prompt: open, request: request}.do(t)
		plain = run{script: "watermark-detect", params: params, prompt: open, request: request}.do(t)
		var without found
		plain.data(t, "reply", &without)
		with, other := examine(marked.text, float64(key)), examine(marked.text, float64(key+100))
		t.Logf("key %d, 200 tokens with the watermark: %d of %d green, z %.1f, p %.2g (bound 1e-6); with another key: p %.2g; without: z %.1f, p %.2g (bound 0.01)",
			key, with.Green, with.Tokens, with.Z, with.P, other.P, without.Z, without.P)
		name := fmt.Sprintf("key %d, p of its ", key)
		evidence(t, "watermark", name+"text", with.P, "p", "<=", 1e-6)
		evidence(t, "watermark", name+"text, wrong key", other.P, "p", ">=", .01)
		evidence(t, "watermark-detect", name+"plain text", without.P, "p", ">=", .01)
		if with.P > 1e-6 || other.P < .01 || without.P < .01 || without.Tokens < 150 {
			t.Errorf("%+v, %+v, %+v", with, other, without)
		}
	}

	// Keys find something in a text that has nothing as often as p says.
	folder := fstest.MapFS{"keys.ts": {Data: []byte(`
		import { script } from "roundhouse";
		import { detect } from "./watermark";
		export default script({ api: 1, hooks({ emit }) { return { prompt(p) {
			let found = 0;
			for (let key = 0; key < 300; key++) if (detect(p.ids, key, 0.25).p < 0.01) found++;
			emit("found", found);
		} } } });`)}}
	text, err := library.FS.ReadFile("watermark.ts")
	if err != nil {
		t.Fatal(err)
	}
	folder["watermark.ts"] = &fstest.MapFile{Data: text}
	o := run{script: "keys", folder: folder, prompt: plain.text, request: engine.Request{MaxTokens: 1}}.do(t)
	found := o.numbers("found")[0]
	t.Logf("of 300 keys, p of a text without watermark is below 0.01 for %v (bound 9)", found)
	evidence(t, "watermark-detect", "keys at p < 0.01 of 300", found, "keys", "<=", 9)
	if found > 9 || len(o.numbers("found")) != 1 {
		t.Errorf("%v keys find a watermark that is not there", found)
	}
}

// Thinking is closed behind its last token, once, and the reply goes on; where there is
// none nothing is put in.
func TestThinkBudget(t *testing.T) {
	const budget = 40
	question := "<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n"
	request := engine.Request{MaxTokens: 120, IgnoreEOS: true}
	params := map[string]any{"tokens": float64(budget), "last": " Enough."}
	closed := func(o outcome) []int {
		var at []int
		for i, k := range o.tokens {
			if strings.Contains(k.Text, "</think>") {
				at = append(at, i)
			}
		}
		return at
	}
	with := run{script: "think-budget", params: params, prompt: question + "<think>\n", request: request}.do(t)
	without := run{prompt: question + "<think>\n", request: request}.do(t)
	calm := run{script: "think-budget", params: params, prompt: question, request: request}.do(t)
	drawn, forced := 0, 0
	for _, k := range with.tokens {
		if k.Forced {
			forced++
		} else if forced == 0 {
			drawn++
		}
	}
	t.Logf("closed at tokens %v of %d: %d drawn (bound %d), then %d put in (%q); without the script at %v, without thinking %v",
		closed(with), len(with.tokens), drawn, budget, forced, with.text[strings.Index(with.text, " Enough."):][:40], closed(without), closed(calm))
	evidence(t, "think-budget", "tokens of thinking", float64(drawn), "tokens", "<=", budget)
	evidence(t, "think-budget", "ends of thinking", float64(len(closed(with))), "ends", ">=", 1)
	if drawn != budget || len(closed(with)) != 1 || !strings.Contains(with.text, " Enough.</think>\n\n") || len(with.tokens) != 120 ||
		len(closed(without)) > 0 || len(closed(calm)) > 0 {
		t.Errorf("%q", with.text)
	}
}
