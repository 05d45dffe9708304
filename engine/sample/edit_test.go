package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// edited is the reference: the edit of a hook on the row as it enters, in float64,
// and the parameters that it sets. others are the rows beside.
func (c *plain) edited(p *Params, e *hook.Folded, others [][]float32) Params {
	q := *p
	for id := range c.x {
		if c.x[id] *= float64(e.Scale); !e.Allows(int32(id)) {
			c.in[id] = false
		}
	}
	for _, w := range e.Add {
		for id := range c.x {
			c.x[id] += float64(w.Value) * float64(others[w.Other][id])
		}
	}
	for _, b := range e.Bias {
		c.x[b.ID] += float64(b.Value)
	}
	set := func(s hook.Setting, to *float32) {
		if v, ok := e.Values.Get(s); ok {
			*to = float32(v)
		}
	}
	set(hook.Temperature, &q.Temperature)
	set(hook.TopP, &q.TopP)
	set(hook.MinP, &q.MinP)
	set(hook.Typical, &q.Typical)
	if v, ok := e.Values.Get(hook.TopK); ok {
		q.TopK = int(v)
	}
	return q
}

// someEdit makes an edit of a few kinds; ids are likely to be among the best.
func someEdit(t testing.TB, r *rand.Rand, logits []float32) *hook.Folded {
	t.Helper()
	e := hook.NewEdits(len(logits))
	ids := func(n int) (list []int32) {
		for range n {
			id := r.Int32N(int32(len(logits)))
			for range r.IntN(200) { // a better one
				if other := r.Int32N(int32(len(logits))); logits[other] > logits[id] {
					id = other
				}
			}
			list = append(list, id)
		}
		return list
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r.IntN(2) == 0 {
		must(e.Bias(ids(1+r.IntN(5)), float32(r.NormFloat64()*3)))
	}
	if r.IntN(3) == 0 {
		must(e.Scale(float32(.3 + r.Float64()*2)))
		must(e.Bias(ids(1+r.IntN(3)), float32(r.NormFloat64()*3)))
	}
	if r.IntN(3) == 0 {
		must(e.Ban(ids(1 + r.IntN(20))))
	}
	if r.IntN(8) == 0 {
		must(e.Only(ids(30 + r.IntN(300))))
	}
	for _, s := range []hook.Setting{hook.Temperature, hook.TopP, hook.MinP, hook.Typical, hook.TopK} {
		if r.IntN(6) == 0 {
			v := .05 + .9*r.Float64()
			if s == hook.TopK {
				v = float64(1 + r.IntN(60))
			}
			must(e.Set(s, v))
		}
	}
	f, err := e.Fold()
	if err != nil {
		return &hook.Folded{Scale: 1} // it would ban all
	}
	for other := range 2 {
		if r.IntN(4) == 0 {
			f.Add = append(f.Add, hook.Weight{Other: other, Value: float32(r.NormFloat64())})
		}
	}
	return f
}

// someParams makes parameters of a request.
func someParams(r *rand.Rand, tokens int) Params {
	p := Params{Temperature: float32(.3 + r.Float64()), Seed: r.Uint64()}
	for _, set := range []func(){
		func() { p.Temperature = 0 }, func() { p.TopK = 1 + r.IntN(80) }, func() { p.TopP = float32(.3 + .6*r.Float64()) },
		func() { p.MinP = .05 }, func() { p.Repetition = 1.3 }, func() { p.Frequency = .4 },
		func() { p.Bias = []ops.Bias{{ID: 3, Value: 2}, {ID: 17, Value: float32(math.Inf(-1))}} },
		func() { p.Typical = .6 }, func() { p.DRY.Multiplier = .8 }, func() { p.TopNSigma = 2 },
		func() { p.Order = []Stage{StageTopP, StageTemperature, StageDRY}; p.DRY.Multiplier = .5 },
		func() {
			p.Mask = make([]uint32, (tokens+31)/32)
			for i := range p.Mask {
				p.Mask[i] = r.Uint32()
			}
		},
	} {
		if r.IntN(7) == 0 {
			set()
		}
	}
	return p
}

// Whichever way an edit goes, with the device's draw, by a window, or behind the reads
// of a hook, the token is the one that the reference draws.
func TestEditsFollowTheReference(t *testing.T) {
	const tokens, vocab = 1990, 2000
	r := rand.New(rand.NewPCG(51, 52))
	w := NewWork(simd.Best())
	cases := 1500
	if testing.Short() {
		cases = 300
	}
	for n := range cases {
		logits := row(r, vocab, 2+3*r.Float64())
		p, text := someParams(r, tokens), plainText{prompt: []int32{5, 6, 5, 6, 9, 5}, output: []int32{6, 5}}
		e, others := someEdit(t, r, logits[:tokens]), [][]float32{row(r, vocab, 2), row(r, vocab, 2)}
		fetch := func() ([]float32, error) { return logits, nil }
		begun := func() *Sampler {
			s, err := New(p, 1, tokens, vocab)
			if err != nil {
				t.Fatal(err)
			}
			s.Prompt(text.prompt)
			for _, id := range text.output {
				s.Accept(id)
			}
			s.Beside(func(other int) ([]float32, error) { return others[other], nil })
			return s
		}
		c := newPlain(&p, logits[:tokens], text)
		q := c.edited(&p, e, others)
		want := int32(-1)
		if len(c.order()) > 0 {
			want = c.run(&q, text, &ops.Sampling{Seed: p.Seed, Choice: 1, Position: uint32(n)}, 0).race(&ops.Sampling{Seed: p.Seed, Choice: 1, Position: uint32(n)})
		}
		for path, take := range map[string]func(s *Sampler, out *ops.Sample) error{
			"drawn": func(s *Sampler, out *ops.Sample) error {
				drawn := s.Edited(n, 5, e, false)
				Device(w, out, &drawn, logits, tokens)
				return s.Choose(out, fetch)
			},
			"window": func(s *Sampler, out *ops.Sample) error {
				drawn := s.Edited(n, 5, e, true)
				Device(w, out, &drawn, logits, tokens)
				return s.Choose(out, fetch)
			},
			"read": func(s *Sampler, out *ops.Sample) error {
				drawn := s.Entry(n, 5)
				Device(w, out, &drawn, logits, tokens)
				return s.ChooseEdited(out, e, fetch)
			},
		} {
			if path != "read" && len(e.Add) > 0 {
				continue // rows beside are on the host only
			}
			var out ops.Sample
			s := begun()
			err := take(s, &out)
			if want < 0 && errors.Is(err, ErrBanned) {
				continue
			}
			if err != nil || out.Token.ID != want {
				t.Fatalf("case %d, %s: %v, drew %d, the reference %d\nparams %+v\nedit %+v", n, path, err, out.Token.ID, want, p, e)
			}
			if d := out.Token.Logit - logits[want]; math.Abs(float64(d)) > 1e-4 || !s.Allowed(want, e) {
				t.Fatalf("case %d, %s: logit %v of %v", n, path, out.Token.Logit, logits[want])
			}
		}
	}
}

// Edits of the best tokens need no row: the window has all that they touch.
func TestEditsOfTheBestFetchNoRow(t *testing.T) {
	r := rand.New(rand.NewPCG(62, 63))
	w := NewWork(simd.Best())
	for n := range 100 {
		logits := row(r, 20000, 4)
		s, err := New(Params{Temperature: .8, TopK: 50, TopP: .95, MinP: .02, Seed: 64}, 0, len(logits), len(logits))
		if err != nil {
			t.Fatal(err)
		}
		var out ops.Sample
		drawn := s.Entry(n, 0)
		Device(w, &out, &drawn, logits, len(logits))
		e := hook.NewEdits(len(logits))
		_ = e.Ban([]int32{out.Window[0].ID, out.Window[30].ID})
		_ = e.Bias([]int32{out.Window[1].ID, out.Window[90].ID}, -1.5)
		_ = e.Bias([]int32{out.Window[2].ID}, 2)
		f, err := e.Fold()
		if err != nil {
			t.Fatal(err)
		}
		noRow := func() ([]float32, error) { return nil, errors.New("the row was fetched") }
		if err := s.ChooseEdited(&out, f, noRow); err != nil {
			t.Fatal(err)
		}
		Device(w, &out, &drawn, logits, len(logits))
		e = hook.NewEdits(len(logits))
		_ = e.Only([]int32{out.Window[3].ID, out.Window[200].ID})
		if f, err = e.Fold(); err != nil {
			t.Fatal(err)
		}
		if err := s.ChooseEdited(&out, f, noRow); err != nil {
			t.Fatal(err)
		}
	}
}

// No edit, and one that changes nothing, are the same bits as a plain draw.
func TestNeutralEditsChangeNoBit(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 54))
	w := NewWork(simd.Best())
	for n := range 200 {
		logits := row(r, 1000, 3)
		p := someParams(r, len(logits))
		var outs [4]ops.Sample
		for i := range outs {
			s, err := New(p, 0, len(logits), len(logits))
			if err != nil {
				t.Fatal(err)
			}
			s.Prompt([]int32{1, 2, 1, 2})
			fetch := func() ([]float32, error) { return logits, nil }
			drawn := [...]func() ops.Sampling{
				func() ops.Sampling { return s.Draw(n, 3) },
				func() ops.Sampling { return s.Edited(n, 3, nil, false) },
				func() ops.Sampling { return s.Edited(n, 3, &hook.Folded{Scale: 1}, false) },
				func() ops.Sampling { return s.Entry(n, 3) },
			}[i]()
			Device(w, &outs[i], &drawn, logits, len(logits))
			if i < 3 {
				err = s.Choose(&outs[i], fetch)
			} else {
				err = s.ChooseEdited(&outs[i], nil, fetch)
			}
			if err != nil && !errors.Is(err, ErrBanned) {
				t.Fatal(err)
			}
			if a, b := outs[0].Token, outs[i].Token; a.ID != b.ID || i < 3 && a != b {
				t.Fatalf("case %d, way %d: %+v, plainly %+v; %+v", n, i, b, a, p)
			}
		}
	}
}

// What a hook may choose from is what the chain leaves; its choice counts, within what
// is allowed.
func TestChooseFrom(t *testing.T) {
	r := rand.New(rand.NewPCG(55, 56))
	logits := row(r, 3000, 4)
	w := NewWork(simd.Best())
	p := Params{Temperature: .8, TopK: 40, TopP: .95, Seed: 57, Bias: []ops.Bias{{ID: 7, Value: float32(math.Inf(-1))}}}
	s, err := New(p, 0, 2990, 3000)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() ([]float32, error) { return logits, nil }
	c := newPlain(&p, logits[:2990], plainText{}).run(&p, plainText{}, &ops.Sampling{}, 0)
	ids, prob := c.order(), c.probabilities()
	for _, pickID := range []int32{-1, int32(ids[1]), 2500} {
		var out ops.Sample
		drawn := s.Entry(3, 5)
		Device(w, &out, &drawn, logits, 2990)
		first := int32(-1)
		err := s.ChooseFrom(&out, nil, fetch, func(l *Left) (int32, bool, error) {
			list := l.Candidates(500)
			if len(list) != len(ids) {
				t.Errorf("%d left, the reference says %d", len(list), len(ids))
			}
			for i, c := range list {
				if c.ID != int32(ids[i]) || math.Abs(math.Exp(float64(c.Logprob))-prob[ids[i]]) > 1e-6 {
					t.Errorf("place %d: %+v, the reference %d at %v", i, c, ids[i], prob[ids[i]])
				}
			}
			first = l.Draw()
			if l.Draw() != first || len(l.Candidates(3)) != 3 {
				t.Error("a second look differs")
			}
			return pickID, pickID >= 0, nil
		})
		want := pickID
		if want < 0 {
			want = first
		}
		if err != nil || out.Token.ID != want || math.Abs(float64(out.Token.Logit-logits[want])) > 1e-4 {
			t.Errorf("%v, %+v, want %d", err, out.Token, want)
		}
		if in := prob[want] > 0 && c.in[want]; math.IsInf(float64(out.Chosen), -1) == in {
			t.Errorf("token %d: chosen at %v", want, out.Chosen)
		}
	}
	for id, allowed := range map[int32]bool{-1: false, 0: true, 7: false, 2989: true, 2990: false} {
		if s.Allowed(id, nil) != allowed {
			t.Errorf("token %d: allowed %v", id, !allowed)
		}
	}
	errPick := errors.New("no")
	var out ops.Sample
	drawn := s.Entry(3, 5)
	Device(w, &out, &drawn, logits, 2990)
	if err := s.ChooseFrom(&out, nil, fetch, func(*Left) (int32, bool, error) { return 0, false, errPick }); !errors.Is(err, errPick) {
		t.Error(err)
	}
}

// A forced token is the only one that a device can draw; mirostat learns nothing of it.
func TestForcedTokens(t *testing.T) {
	logits := row(rand.New(rand.NewPCG(58, 59)), 500, 3)
	w := NewWork(simd.Best())
	s, err := New(Params{Temperature: 1, Mirostat: Mirostat{Tau: 3}, Bias: []ops.Bias{{ID: 400, Value: -100}}}, 0, 490, 500)
	if err != nil {
		t.Fatal(err)
	}
	mu := s.mu
	fetch := func() ([]float32, error) { return logits, nil }
	for _, id := range []int32{0, 31, 32, 400, 489} {
		var out ops.Sample
		drawn := s.Forced(9, 2, id)
		Device(w, &out, &drawn, logits, 490)
		if err := s.Choose(&out, fetch); err != nil || out.Token.ID != id || out.Token.Logit != logits[id] || out.Chosen != 0 {
			t.Errorf("%v, %+v, want token %d", err, out.Token, id)
		}
		s.Accept(id)
		drawn = s.Entry(9, 2)
		Device(w, &out, &drawn, logits, 490)
		if err := s.Force(&out, id, fetch); err != nil || out.Token.ID != id || math.Abs(float64(out.Token.Logit-logits[id])) > 1e-4 {
			t.Errorf("%v, %+v, want token %d", err, out.Token, id)
		}
		s.Accept(id)
	}
	if s.mu != mu {
		t.Errorf("mu went from %v to %v", mu, s.mu)
	}
}

// Sources say what the plain reads of the whole row say.
func TestSourcesFollowThePlainReads(t *testing.T) {
	r := rand.New(rand.NewPCG(60, 61))
	w := NewWork(simd.Best())
	for n := range 40 {
		size := []int{100, 2000}[n%2]
		logits := row(r, size+7, 3)
		for i := size; i < len(logits); i++ {
			logits[i] = -40 // padding, which is in the model's sum
		}
		p := someParams(r, size)
		s, err := New(p, 0, size, size+7)
		if err != nil {
			t.Fatal(err)
		}
		s.Prompt([]int32{1, 2, 3, 1, 2})
		var out ops.Sample
		drawn := s.Entry(4, 9)
		Device(w, &out, &drawn, logits, size)
		entry, model := s.Sources(&out, func() ([]float32, error) { return logits, nil })
		plainEntry := append([]float32(nil), logits[:size]...)
		edit(plainEntry, &drawn)
		for name, c := range map[string]struct {
			got  hook.Source
			want hook.Plain
		}{"entry": {entry, plainEntry}, "model": {model, logits[:size]}} {
			const slack = 1e-4
			for _, k := range []int{0, 1, 50, 256, 300} {
				got, err := c.got.Top(k)
				want, _ := c.want.Top(k)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%s: top %d has %d, want %d; %v", name, k, len(got), len(want), err)
				}
				for i := range got {
					if got[i].ID != want[i].ID || got[i].Logit != want[i].Logit || math.Abs(float64(got[i].Logprob-want[i].Logprob)) > slack {
						t.Fatalf("%s: place %d is %+v, want %+v", name, i, got[i], want[i])
					}
				}
			}
			h, err := c.got.Entropy()
			want, _ := c.want.Entropy()
			if err != nil || math.Abs(float64(h-want)) > 1e-4 {
				t.Errorf("%s: entropy %v, want %v; %v", name, h, want, err)
			}
			for _, id := range []int32{0, 3, int32(size - 1)} {
				got, err := c.got.Logprob(id)
				want, _ := c.want.Logprob(id)
				if same := got == want || math.Abs(float64(got-want)) < slack; err != nil || !same {
					t.Errorf("%s: log-probability %v of token %d, want %v; %v", name, got, id, want, err)
				}
			}
			whole, err := c.got.Row()
			if err != nil || len(whole) != size {
				t.Errorf("%s: a row of %d; %v", name, len(whole), err)
			}
		}
	}
}
