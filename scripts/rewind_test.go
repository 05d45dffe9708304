package scripts

import (
	"errors"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// A script goes back to a snapshot, or to a position, and finds its state there as it
// left it.
func TestScriptsRewind(t *testing.T) {
	for name, back := range map[string]string{"to a snapshot": "rewind(mark)", "to a position": "rewind(4)", "in the same attempt": "rewind(4, { attempt: 'same' })"} {
		text := `import { script } from "roundhouse";
export default script({ api: 1, lag: 1, hold: 4, hooks({ state, snapshot, rewind, log }) {
	const seen = state(() => ({ tokens: [], deep: { n: 0 } }));
	let mark, times = 0;
	return {
		logits(l, at) { log(at.position, at.attempt, seen.tokens.join("")); seen.deep.n += 100; },
		token(t) {
			if (t.position == 3) mark = snapshot();
			seen.tokens.push(t.text); seen.deep.n++;
			if (t.position == 5 && ++times < 2) ` + back + `;
		},
		finish() { log(seen.tokens.join(""), seen.deep.n, mark && mark.position); },
	};
} });`
		p := started(t, text, hook.Options{OnError: hook.Fail})
		position := 3
		for range 6 {
			v, err := p.step(position)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if position++; v.Rewind {
				position = v.To
			}
		}
		p.Finish(hook.Finish{})
		attempt := "1"
		if name == "in the same attempt" {
			attempt = "0"
		}
		want := []string{"3 0 ", "4 0 d", "5 0 de", "4 " + attempt + " d", "5 " + attempt + " de", "def 303 4"}
		if got := p.logs(); !slices.Equal(got, want) {
			t.Errorf("%s: logged %q, want %q", name, got, want)
		}
	}
}

// What may be taken back is bounded, and only where it has a meaning.
func TestRewindsThatAreRefused(t *testing.T) {
	for call, kind := range map[string]hook.FaultKind{
		`rewind(2)`: hook.BadValue, `rewind(99)`: hook.BadValue, `rewind("x")`: hook.BadValue, `rewind(3, { attempt: "new" })`: hook.BadValue,
		`rewind(NaN)`: hook.BadValue,
	} {
		p := started(t, `import { script } from "roundhouse";
export default script({ api: 1, lag: 1, hooks({ rewind }) { return { token() { `+call+` } }; } });`, hook.Options{OnError: hook.Fail})
		_, err := p.step(3)
		if err == nil {
			_, err = p.step(4)
		}
		var f *hook.Fault
		if !errors.As(err, &f) || f.Kind != kind {
			t.Errorf("%s: %v, want %v", call, err, kind)
		}
	}
}
