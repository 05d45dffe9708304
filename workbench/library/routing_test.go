//go:build !nodemo

package library

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
)

// routed is a request whose tokens come with their routing.
func routed(tokens int) engine.Request {
	return engine.Request{MaxTokens: tokens, IgnoreEOS: true, Routing: true, PromptRouting: true, Sampling: engine.Sampling{Temperature: 1, Seed: 5}}
}

// uses counts the rows from a position on in which a layer chose an expert, and all rows.
func (o outcome) uses(layer, expert, from int) (uses, rows int) {
	for _, r := range o.rows() {
		if r.Position < from {
			continue
		}
		if rows++; slices.Contains(r.IDs[layer*r.K:][:r.K], uint16(expert)) {
			uses++
		}
	}
	return uses, rows
}

// rows are those of the prompt and of the tokens, one of which has the last of the prompt.
func (o outcome) rows() (all []hook.Record) {
	all = append(all, o.result.PromptRouting...)
	for _, k := range o.tokens {
		if !slices.ContainsFunc(o.result.PromptRouting, func(r hook.Record) bool { return r.Position == k.Routing.Position }) {
			all = append(all, *k.Routing)
		}
	}
	return all
}

// Listed experts are never chosen, from the first row on; the most used ones no more
// after the row where they are banned, at which they were what the records say.
func TestAblate(t *testing.T) {
	plain := run{prompt: story, request: routed(120)}.do(t)
	var list []string
	before := 0
	for layer := range 8 {
		best, most := 0, 0
		for expert := range 32 {
			if n, _ := plain.uses(layer, expert, 0); n > most {
				best, most = expert, n
			}
		}
		before += most
		list = append(list, fmt.Sprintf("%d: %d", layer, best))
	}
	o := run{script: "ablate", params: map[string]any{"experts": strings.Join(list, "; ")}, prompt: story, request: routed(120)}.do(t)
	after := 0
	for _, one := range list {
		var layer, expert int
		if _, err := fmt.Sscanf(one, "%d: %d", &layer, &expert); err != nil {
			t.Fatal(err)
		}
		n, _ := o.uses(layer, expert, 0)
		after += n
	}
	t.Logf("the favourite of each of 8 layers was chosen %d times in %d rows, banned %d times (bound 0)", before, len(plain.rows()), after)
	evidence(t, "ablate", "listed experts chosen", float64(after), "times", "<=", 0)
	if before < 200 || after != 0 || len(o.rows()) != len(plain.rows()) {
		t.Errorf("%d before, %d after", before, after)
	}

	const top, rows = 6, 40
	o = run{script: "ablate", params: map[string]any{"top": float64(top), "after": float64(rows)}, prompt: story, request: routed(120)}.do(t)
	var gone [][]int
	o.data(t, "banned", &gone)
	at := slices.IndexFunc(o.notices, func(n hook.Notice) bool { return n.Name == "banned" })
	from := o.notices[at].Position + hook.DefaultLag
	before, after, seen := 0, 0, 0
	for layer, experts := range gone {
		if len(experts) != top {
			t.Fatalf("layer %d: %v", layer, experts)
		}
		for _, expert := range experts {
			all, _ := o.uses(layer, expert, 0)
			later, rows := o.uses(layer, expert, from)
			before, after, seen = before+all-later, after+later, rows
		}
	}
	t.Logf("the %d most used of each layer: chosen %d times up to position %d, %d times in the %d rows from there on (bound 0)", top, before, from, after, seen)
	evidence(t, "ablate", "most used, later chosen", float64(after), "times", "<=", 0)
	if before < 400 || after != 0 || seen < 70 {
		t.Error("the experts are still chosen, or were not")
	}
}

// Forced experts are in every row while their domain is on, and back to normal after it.
func TestDomains(t *testing.T) {
	const hold = 24
	request := routed(150)
	plain := run{prompt: "Once upon a time there was a dragon", request: request}.do(t)
	o := run{script: "domains", params: map[string]any{"domains": "dragon beast = 2: 30, 5: 3 17; func = 4: 1", "hold": float64(hold)},
		prompt: "Once upon a time there was a dragon", request: request}.do(t)
	type change struct {
		position int
		on       bool
	}
	var changes []change
	for _, n := range o.notices {
		if n.Name == "domains" {
			changes = append(changes, change{n.Position, strings.Contains(fmt.Sprintf("%s", n.Value), "dragon")})
		}
	}
	on := map[bool]int{} // rows
	chosen := map[bool]int{}
	for _, r := range o.rows() {
		force := false
		for _, c := range changes {
			if from := c.position + hook.DefaultLag; c.on && c.position == 0 || r.Position >= from {
				force = c.on
			}
		}
		on[force]++
		if slices.Contains(r.IDs[2*r.K:][:r.K], 30) && slices.Contains(r.IDs[5*r.K:][:r.K], 3) && slices.Contains(r.IDs[5*r.K:][:r.K], 17) {
			chosen[force]++
		}
	}
	never := 0
	for _, r := range plain.rows() {
		if slices.Contains(r.IDs[2*r.K:][:r.K], 30) && slices.Contains(r.IDs[5*r.K:][:r.K], 3) && slices.Contains(r.IDs[5*r.K:][:r.K], 17) {
			never++
		}
	}
	t.Logf("all three experts are chosen in %d of %d rows while the domain is on (bound: all), in %d of %d while it is off, in %d of %d without the script; changes %v",
		chosen[true], on[true], chosen[false], on[false], never, len(plain.rows()), changes)
	evidence(t, "domains", "rows without its experts", float64(on[true]-chosen[true]), "rows", "<=", 0)
	if chosen[true] != on[true] || on[true] < hold || on[false] < 50 || chosen[false] > on[false]/4 {
		t.Error("the experts are not forced when they should")
	}
}

// What is told is what the records say.
func TestRouting(t *testing.T) {
	o := run{script: "routing", params: map[string]any{"top": 3., "pairs": 2., "prompt": true}, prompt: story, request: routed(100)}.do(t)
	var told struct {
		Rows   int
		Layers []struct {
			Entropy float64
			Unused  int
			Top     [][2]int
		}
	}
	o.data(t, "routing", &told)
	var pairs struct {
		Layer int
		Top   [][3]int
	}
	o.data(t, "pairs", &pairs)
	rows := o.rows()
	worst, wrong := 0.0, 0
	for layer, l := range told.Layers {
		entropy, unused, sum := 0.0, 0, 0
		for expert := range 32 {
			n, _ := o.uses(layer, expert, 0)
			if sum += n; n == 0 {
				unused++
				continue
			}
			p := float64(n) / float64(4*len(rows))
			entropy -= p * math.Log2(p)
		}
		worst = max(worst, math.Abs(entropy-l.Entropy))
		for _, top := range l.Top {
			if n, _ := o.uses(layer, top[0], 0); n != top[1] {
				wrong++
			}
		}
		if unused != l.Unused || len(l.Top) != 3 {
			wrong++
		}
	}
	for _, pair := range pairs.Top {
		n := 0
		for _, r := range rows {
			ids := r.IDs[2*r.K:][:r.K]
			if slices.Contains(ids, uint16(pair[0])) && slices.Contains(ids, uint16(pair[1])) {
				n++
			}
		}
		if n != pair[2] {
			wrong++
		}
	}
	t.Logf("%d rows of %d, %d layers: entropy off by %.1g (bound 1e-3), %d counts wrong (bound 0); layer 2 has %.2f bits of 5 and uses experts %v together most",
		told.Rows, len(rows), len(told.Layers), worst, wrong, told.Layers[2].Entropy, pairs.Top[0])
	evidence(t, "routing", "counts off the record", float64(wrong), "counts", "<=", 0)
	evidence(t, "routing", "entropy off the record", worst, "bits", "<=", 1e-3)
	if told.Rows != len(rows) || len(told.Layers) != 8 || worst > 1e-3 || wrong > 0 || pairs.Layer != 2 || len(pairs.Top) != 8 {
		t.Errorf("%+v, %+v", told, pairs)
	}
}

// vectors reads those of the library.
func vectors(name string) ([]float32, error) {
	c, err := safetensors.OpenFile(library.FS, "vectors/"+name+".safetensors")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tensor, ok := c.Lookup("vector")
	if !ok || tensor.DType != safetensors.F32 {
		return nil, fmt.Errorf("%s has no vector", name)
	}
	var values []float32
	for data := tensor.Data(); len(data) > 0; data = data[4:] {
		values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return values, nil
}

// probe reads the logits of words.
type probe struct {
	hook.None
	ids  []int32
	sums []float64
}

func (p *probe) Spec() hook.Spec {
	return hook.Spec{Name: "probe", Events: hook.OnLogits, Priority: -1}
}

func (p *probe) Logits(_ *hook.Call, l *hook.Logits) error {
	row, err := l.Reads.Model().Full()
	for i, id := range p.ids {
		if err == nil {
			p.sums[i] += float64(row[id])
		}
	}
	return err
}

// The vector raises the logit of a cheerful word and lowers that of a sad one, in the
// mean over sentences that could go on with either; the other way round below 0.
func TestVector(t *testing.T) {
	prompts := []string{"The boy was very", "The old king felt", "When she came home she was", "Everyone in the village was", "The little girl", "Then the fox", "And the princess", "He looked at his brother and"}
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	var words []int32
	for _, word := range []string{" happy", " sad"} {
		ids, err := m.HookTokenizer().Encode(word)
		if err != nil || len(ids) != 1 {
			t.Fatalf("%q: %v, %v", word, ids, err)
		}
		words = append(words, ids[0])
	}
	mean := func(scale float64) (happy, sad float64) {
		p := &probe{ids: words, sums: make([]float64, 2)}
		for _, prompt := range prompts {
			run{script: "vector", params: map[string]any{"scale": scale}, vectors: vectors, prompt: prompt, request: engine.Request{MaxTokens: 1}, beside: p}.do(t)
		}
		n := float64(len(prompts))
		return p.sums[0] / n, p.sums[1] / n
	}
	happy, sad := mean(0)
	happier, lessSad := mean(2)
	lessHappy, sadder := mean(-2)
	t.Logf(`mean logit of " happy": %.2f, with the vector %+.2f (bound +1), against it %+.2f (bound -1); of " sad": %.2f, %+.2f (bound -1), %+.2f (bound +1)`,
		happy, happier-happy, lessHappy-happy, sad, lessSad-sad, sadder-sad)
	evidence(t, "vector", "least shift of a word", min(happier-happy, happy-lessHappy, sad-lessSad, sadder-sad), "logit", ">=", 1)
	if happier < happy+1 || lessHappy > happy-1 || lessSad > sad-1 || sadder < sad+1 {
		t.Error("the vector does not do what its name says")
	}
}
