package scripts

import (
	"errors"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

const guided = `import { script } from "roundhouse";
export default script({ api: 1, hooks({ sequence, log }) {
	const other = sequence("ab");
	return { logits(l) {
		log(other.logits.top(1).ids[0], other.logits.prob(2) > 0.5, l.top(1).ids[0]);
		l.scale(2).add(other.logits, -1);
	} };
} });`

// A script reads and adds the logits of its sequence, which are those that the chain is
// given.
func TestSequences(t *testing.T) {
	p := started(t, guided, hook.Options{OnError: hook.Fail})
	if got := p.Sequences(); len(got) != 1 || len(got[0]) != 2 {
		t.Fatalf("the sequences are %v", got)
	}
	row := func(best int) hook.Plain {
		out := make(hook.Plain, model.Tokens)
		out[best] = 9
		return out
	}
	v, err := p.Chain.Logits(hook.At{Position: 3}, row(5), row(5), row(2))
	if err != nil {
		t.Fatal(err)
	}
	if logs := p.logs(); len(logs) != 1 || logs[0] != "2 true 5" {
		t.Errorf("it saw %q", logs)
	}
	if e := v.Edits; e == nil || e.Scale != 2 || len(e.Add) != 1 || e.Add[0] != (hook.Weight{Other: 0, Value: -1}) {
		t.Errorf("the edits are %+v", e)
	}
}

// What cannot be a sequence, or not there, is a fault that says so.
func TestSequencesThatAreRefused(t *testing.T) {
	for handlers, kind := range map[string]hook.FaultKind{
		`const s = sequence("a"); return { token() { s.logits } };`:                               hook.Misuse,
		`return { logits() { sequence("a") } };`:                                                  hook.Misuse,
		`const s = sequence("a"); return { logits(l) { l.add(s, 1) } };`:                          hook.BadValue,
		`const s = sequence("a"); return { logits(l) { l.add(l, 1) } };`:                          hook.BadValue,
		`const s = sequence("a"); return { logits(l) { l.add(s.logits, NaN) } };`:                 hook.NotANumber,
		`const s = sequence("a"); let k; return { logits(l) { if (k) k.top(1); k = s.logits } };`: hook.Misuse,
	} {
		p := started(t, `import { script } from "roundhouse";
export default script({ api: 1, lag: 1, hooks({ sequence }) { `+handlers+` } });`, hook.Options{OnError: hook.Fail})
		row := make(hook.Plain, model.Tokens)
		var err error
		for position := 3; position < 5 && err == nil; position++ {
			_, err = p.Chain.Logits(hook.At{Position: position}, row, row, row)
			p.Token(hook.Token{Position: position, ID: 1})
		}
		var f *hook.Fault
		if !errors.As(err, &f) || f.Kind != kind {
			t.Errorf("%s: %v, want %v", handlers, err, kind)
		}
	}
}
