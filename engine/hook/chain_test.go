package hook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake is a hook made of functions.
type fake struct {
	None
	spec    Spec
	start   func(*Call) error
	prompt  func(*Call, *Prompt) error
	logits  func(*Call, *Logits) error
	sample  func(*Call, *Candidates) (int32, bool, error)
	token   func(*Call, *Token) error
	routing func(*Call, *Routing) error
	finish  func(*Call, *Finish) error
	closed  int
}

func (f *fake) Start(c *Call) error {
	if f.start == nil {
		return nil
	}
	return f.start(c)
}

func (f *fake) Spec() Spec {
	for i, on := range []bool{f.prompt != nil, f.logits != nil, f.sample != nil, f.token != nil, f.routing != nil, f.finish != nil} {
		if on {
			f.spec.Events |= 1 << i
		}
	}
	return f.spec
}

func (f *fake) Prompt(c *Call, p *Prompt) error                    { return f.prompt(c, p) }
func (f *fake) Logits(c *Call, l *Logits) error                    { return f.logits(c, l) }
func (f *fake) Sample(c *Call, s *Candidates) (int32, bool, error) { return f.sample(c, s) }
func (f *fake) Token(c *Call, t *Token) error                      { return f.token(c, t) }
func (f *fake) Routing(c *Call, r *Routing) error                  { return f.routing(c, r) }
func (f *fake) Finish(c *Call, e *Finish) error                    { return f.finish(c, e) }
func (f *fake) Close()                                             { f.closed++ }

// run is a sequence played to a chain: a prompt of 3 tokens, then draws.
type run struct {
	*Chain
	t       *testing.T
	notices []Notice
	row     Plain
}

func start(t *testing.T, o Options, hooks ...Hook) *run {
	t.Helper()
	r := &run{t: t, row: Plain{0, 1, 2, 3, 4, 5, 6, 7}}
	o.Shape, o.Tokens = small, len(r.row)
	o.Notify = func(n Notice) { r.notices = append(r.notices, n) }
	c, err := NewChain(o, hooks...)
	if err != nil {
		t.Fatal(err)
	}
	r.Chain = c
	if _, err := c.Prompt([]int32{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	return r
}

// step decides the token at a position and tells what came of it.
func (r *run) step(position int) Verdict {
	r.t.Helper()
	v, err := r.Logits(At{Position: position}, r.row, r.row)
	if err != nil {
		r.t.Fatal(err)
	}
	r.told(position)
	return v
}

// told tells of the token at a position and of the row before it.
func (r *run) told(position int) {
	r.Token(Token{Position: position, ID: int32(position % 8)})
	r.Routing(record(position - 1))
}

func record(position int) Record {
	rec := Record{Position: position, Layers: small.Layers, K: small.K}
	for layer := range small.Layers {
		rec.IDs = append(rec.IDs, uint16((position+layer)%8), NoExpert)
		rec.Weights = append(rec.Weights, 1, 0)
	}
	return rec
}

func TestEmptyChain(t *testing.T) {
	var none *Chain
	ids := []int32{1}
	if got, err := none.Prompt(ids); err != nil || &got[0] != &ids[0] {
		t.Error("a nil chain touches the prompt")
	}
	allocated := testing.AllocsPerRun(100, func() {
		none.Logits(At{}, nil, nil)
		none.Sample(At{}, nil, nil)
		none.Steer(3)
		none.Token(Token{})
		none.Routing(Record{})
		none.Needs()
		none.Finish(Finish{})
		none.Close()
	})
	if allocated > 0 || !none.Empty() {
		t.Errorf("a nil chain allocates %v times", allocated)
	}
	r := start(t, Options{})
	if v := r.step(3); v != (Verdict{}) || !r.Empty() || len(r.queue) > 0 {
		t.Errorf("%+v", v)
	}
}

// Every event is delivered lag positions behind, in order, whatever comes when.
func TestLags(t *testing.T) {
	for _, lag := range []int{1, 2} {
		var log []string
		note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
		h := &fake{
			spec:    Spec{Lag: lag},
			logits:  func(c *Call, _ *Logits) error { note("logits %d", c.Position); return nil },
			token:   func(c *Call, tok *Token) error { note("token %d", tok.Position); return nil },
			routing: func(c *Call, rec *Routing) error { note("routing %d", rec.Position); return nil },
		}
		r := start(t, Options{}, h)
		for position := 3; position < 7; position++ {
			r.step(position)
		}
		got := strings.Join(log, ", ")
		want := map[int]string{
			1: "logits 3, routing 2, token 3, logits 4, routing 3, token 4, logits 5, routing 4, token 5, logits 6",
			2: "logits 3, routing 2, logits 4, token 3, routing 3, logits 5, token 4, routing 4, logits 6",
		}[lag]
		if lag == 1 {
			// The row before the first draw is told with it.
			want = "logits 3, routing 2, token 3, logits 4, routing 3, token 4, logits 5, routing 4, token 5, logits 6"
		}
		if got != want {
			t.Errorf("lag %d:\n%s, want\n%s", lag, got, want)
		}
		log = nil
		r.Finish(Finish{})
		if len(log) == 0 {
			t.Error("what was left was not told at the end")
		}
	}
}

func TestLagOfThreeIsRefused(t *testing.T) {
	h := &fake{spec: Spec{Name: "slow", Lag: 3}}
	if _, err := NewChain(Options{Shape: small, Tokens: 8}, h); kindOf(t, err) != "bad_value" || h.closed != 1 {
		t.Errorf("%v, closed %d times", err, h.closed)
	}
}

func TestPriority(t *testing.T) {
	var order []string
	one := func(name string, priority int, temperature float64) Hook {
		return &fake{spec: Spec{Name: name, Priority: priority}, logits: func(_ *Call, l *Logits) error {
			order = append(order, name)
			l.Bias([]int32{1}, 1)
			return l.Set(Temperature, temperature)
		}}
	}
	r := start(t, Options{}, one("low", 0, 1), one("high", 5, .5), one("also low", 0, 2))
	v := r.step(3)
	if want := []string{"high", "low", "also low"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
	if temperature, _ := v.Edits.Values.Get(Temperature); temperature != .5 || !slices.Equal(v.Edits.Bias, []Value{{1, 3}}) {
		t.Errorf("temperature %v, bias %v", temperature, v.Edits.Bias)
	}
}

// What a hook that failed had recorded is gone; three tokens in a row switch it off.
func TestStrikes(t *testing.T) {
	calls, fail := 0, map[int]bool{4: true, 5: true, 7: true, 8: true, 9: true}
	bad := &fake{spec: Spec{Name: "bad"}, logits: func(c *Call, l *Logits) error {
		calls++
		l.Ban([]int32{1})
		c.Steer.Ban(nil, []int32{1})
		if fail[c.Position] {
			c.Steer.Ban(nil, []int32{2})
			return errors.New("no")
		}
		return nil
	}}
	good := &fake{spec: Spec{Name: "good"}, logits: func(_ *Call, l *Logits) error { return l.Bias([]int32{0}, 1) }}
	r := start(t, Options{}, bad, good)
	for position := 3; position < 12; position++ {
		v := r.step(position)
		if got := len(v.Edits.Bias); got != map[bool]int{true: 1, false: 2}[fail[position] || position > 9] {
			t.Errorf("position %d: %d edits", position, got)
		}
	}
	report := r.Report()
	if calls != 7 || report.Degraded != 5 || !report.Hooks[0].Off || report.Hooks[1].Off || report.Hooks[0].Faults["exception"] != 5 {
		t.Errorf("%d calls, %+v", calls, report)
	}
	if steering, _ := r.Steer(20); !slices.Equal(steering.Layer(0).Ban, []int32{1}) {
		t.Errorf("steering %+v: what a failed call steered is undone", steering.Layer(0))
	}
	last := r.notices[len(r.notices)-1]
	if last.Name != "off" || last.Hook != "bad" || last.Position != 9 {
		t.Errorf("%+v", last)
	}
}

func TestFailEndsTheChoice(t *testing.T) {
	h := &fake{spec: Spec{Name: "bad"}, logits: func(*Call, *Logits) error { panic("oh") }}
	r := start(t, Options{OnError: Fail}, h)
	_, err := r.Logits(At{Position: 3}, r.row, r.row)
	var f *Fault
	if !errors.As(err, &f) || f.Hook != "bad" || f.Event != "logits" || f.Position != 3 || f.Kind != Exception {
		t.Errorf("%v", err)
	}
}

func TestLostIsOffAtOnce(t *testing.T) {
	h := &fake{token: func(*Call, *Token) error { return &Fault{Kind: Lost, Err: errors.New("gone")} }}
	r := start(t, Options{}, h)
	for position := 3; position < 7; position++ {
		r.step(position)
	}
	if u := r.Report().Hooks[0]; u.Calls != 1 || !u.Off {
		t.Errorf("%+v", u)
	}
}

func TestBudget(t *testing.T) {
	slow := func(_ *Call, l *Logits) error { time.Sleep(5 * time.Millisecond); return l.Ban([]int32{3}) }
	waits := Waiting{Plain{1, 2, 3, 4, 5, 6, 7, 8}, 5 * time.Millisecond}
	for name, c := range map[string]struct {
		budget time.Duration
		logits func(*Call, *Logits) error
		faults int
	}{
		"slow":      {time.Millisecond, slow, 1},
		"no budget": {0, slow, 0},
		"reading": {time.Millisecond, func(_ *Call, l *Logits) error {
			_, err := l.Entropy()
			return err
		}, 0},
	} {
		r := start(t, Options{Budget: c.budget}, &fake{logits: c.logits})
		v, err := r.Logits(At{Position: 3}, waits, waits)
		if err != nil {
			t.Fatal(err)
		}
		if u := r.Report().Hooks[0]; u.Faults["over_budget"] != c.faults || v.Edits != nil && c.faults > 0 {
			t.Errorf("%s: %+v, %+v: an answer that comes late is ignored", name, u, v.Edits)
		}
	}
}

// Waiting is a source that takes its time.
type Waiting struct {
	Plain
	time time.Duration
}

func (w Waiting) Entropy() (float32, error) {
	time.Sleep(w.time)
	return w.Plain.Entropy()
}

func TestSteeringComesIntoForce(t *testing.T) {
	for _, lag := range []int{1, 2} {
		h := &fake{spec: Spec{Lag: lag},
			start: func(c *Call) error { return c.Steer.Gate(nil, .5) },
			token: func(c *Call, tok *Token) error { return c.Steer.Bias([]int{0}, []int32{1}, float32(tok.Position)) },
		}
		r := start(t, Options{}, h)
		bias := func(position int) (v float32) {
			s, err := r.Steer(position)
			if err != nil {
				t.Fatal(err)
			}
			if s.Layer(0).Gate != .5 {
				t.Error("what start steered does not act from token 0")
			}
			for _, b := range s.Layer(0).Bias {
				v = b.Value
			}
			return v
		}
		for position := 3; position < 9; position++ {
			r.step(position)
			if got, want := bias(position), float32(position-lag); got != want && want >= 3 {
				t.Errorf("lag %d: row %d has the steering of token %v", lag, position, got)
			}
		}
		// Rows that are read again find what they had.
		if a, b := bias(7), bias(5); a != float32(7-lag) || b != max(0, float32(5-lag)) && lag == 2 {
			t.Errorf("lag %d: rows read again have the steering of tokens %v and %v", lag, a, b)
		}
		if first, _ := r.Steer(8); first != must(r.Steer(8)) {
			t.Error("the same steering, and another pointer")
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSteeringOfSeveral(t *testing.T) {
	base := NewSteering(small)
	base.Force([]int{1}, []int32{2})
	bans := func(name string, expert int32) *fake {
		return &fake{spec: Spec{Name: name}, start: func(c *Call) error { return c.Steer.Ban([]int{1}, []int32{expert}) }}
	}
	r := start(t, Options{Steer: base}, bans("fine", 3), bans("contradicts", 2))
	s := must(r.Steer(0))
	if l := s.Layer(1); !slices.Equal(l.Force, []int32{2}) || !slices.Equal(l.Ban, []int32{3}) {
		t.Errorf("%+v", l)
	}
	if u := r.Report().Hooks[1]; u.Faults["bad_value"] != 1 {
		t.Errorf("%+v", u)
	}
}

func TestDecodeOnly(t *testing.T) {
	h := &fake{start: func(c *Call) error { c.Steer.OnlyDecode(); return c.Steer.Gate(nil, 0) }}
	r := start(t, Options{}, h)
	if must(r.Steer(2)) != nil || must(r.Steer(3)) == nil {
		t.Error("decodeOnly steers the prompt, or nothing")
	}
	if digest := must(r.Digest()); digest != "" {
		t.Error("a prompt that is left alone has a digest")
	}
}

func TestPromptIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		with []int32
		want string
	}{"other": {[]int32{7}, ""}, "empty": {nil, "nothing_left"}, "bad": {[]int32{8}, "bad_id"}} {
		h := &fake{prompt: func(_ *Call, p *Prompt) error { p.IDs = c.with; return nil }}
		chain := must(NewChain(Options{Shape: small, Tokens: 8, OnError: Fail}, h))
		ids, err := chain.Prompt([]int32{1, 2})
		if kindOf(t, err) != c.want || err == nil && !slices.Equal(ids, c.with) {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
	}
}

// chooser has a token that the chain would draw.
type chooser int32

func (c chooser) Candidates(n int) ([]Candidate, error) {
	return []Candidate{{ID: 6, Logprob: -.1}, {ID: 5, Logprob: -2.4}}[:min(n, 2)], nil
}
func (c chooser) Draw() (int32, error) { return int32(c), nil }

func TestSample(t *testing.T) {
	choose := func(id int32, chosen bool) *fake {
		return &fake{sample: func(_ *Call, c *Candidates) (int32, bool, error) { c.Draw(); return id, chosen, nil }}
	}
	sample := func(r *run) Verdict {
		r.step(3)
		return must(r.Sample(At{Position: 3}, chooser(6), func(id int32) bool { return id != 4 }))
	}
	if v := sample(start(t, Options{}, choose(0, false), choose(5, true))); !v.Decided || v.ID != 5 {
		t.Errorf("%+v", v)
	}
	r := start(t, Options{}, choose(8, true), choose(4, true), choose(5, true))
	if v := sample(r); v.ID != 5 {
		t.Errorf("%+v", v)
	}
	if u := r.Report().Hooks; u[0].Faults["bad_id"] != 1 || u[1].Faults["bad_id"] != 1 || u[2].Chosen != 1 || u[2].Changed != 1 {
		t.Errorf("%+v", u)
	}
	if !r.Needs().Synchronous {
		t.Error("sample does not wait for its stream")
	}
}

func TestStopAndInject(t *testing.T) {
	late := &fake{spec: Spec{Name: "late"}, token: func(c *Call, _ *Token) error { return c.Stop("enough") }}
	r := start(t, Options{}, late)
	for position := 3; position < 6; position++ {
		r.step(position)
	}
	if u := r.Report().Hooks[0]; u.Faults["misuse"] != 1 {
		t.Errorf("stop at lag 2: %+v", u)
	}
	r = start(t, Options{}, &fake{spec: Spec{Lag: 1}, token: func(c *Call, tok *Token) error {
		switch tok.Position {
		case 3:
			return c.Inject([]int32{6, 7})
		case 6:
			return c.Stop("enough")
		}
		return nil
	}})
	var got []string
	for position := 3; position < 8; position++ {
		v := r.step(position)
		got = append(got, fmt.Sprintf("%d:%v/%v/%d/%s", position, v.Decided, v.Forced, v.ID, v.Stop))
	}
	want := []string{"3:false/false/0/", "4:true/true/6/", "5:true/true/7/", "6:false/false/0/", "7:false/false/0/enough"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r = start(t, Options{}, &fake{sample: func(c *Call, _ *Candidates) (int32, bool, error) { return 1, true, c.Inject([]int32{4, 2}) }})
	r.step(3)
	if v := must(r.Sample(At{Position: 3}, chooser(6), nil)); v.ID != 4 || !v.Forced {
		t.Errorf("inject in sample: %+v", v)
	}
	if v := r.step(4); v.ID != 2 || !v.Forced {
		t.Errorf("inject in sample, next: %+v", v)
	}
}

func TestSpoil(t *testing.T) {
	edits := &fake{spec: Spec{Name: "edits"}, logits: func(_ *Call, l *Logits) error { return l.Only([]int32{1}) }}
	looks := &fake{spec: Spec{Name: "looks"}, logits: func(_ *Call, l *Logits) error { return nil }}
	r := start(t, Options{}, edits, looks)
	r.step(3)
	if err := r.Spoil(At{Position: 3}, &Fault{Kind: NothingLeft, Err: errors.New("the grammar does not allow token 1")}); err != nil {
		t.Fatal(err)
	}
	r.Credit(1, 2)
	if u := r.Report().Hooks; u[0].Faults["nothing_left"] != 1 || len(u[1].Faults) > 0 || u[0].Changed != 1 || u[1].Changed != 0 {
		t.Errorf("%+v", u)
	}
}

func TestHandlesEndWithTheCall(t *testing.T) {
	var l *Logits
	var c *Call
	var rt *Routing
	h := &fake{
		logits:  func(call *Call, logits *Logits) error { c, l = call, logits; return nil },
		routing: func(_ *Call, r *Routing) error { rt = r; return nil },
	}
	r := start(t, Options{}, h)
	for position := 3; position < 7; position++ {
		r.step(position)
	}
	_, entropy := l.Entropy()
	_, full := l.Model().Full()
	_, counts := rt.Counts(0)
	for name, err := range map[string]error{
		"edit": l.Ban([]int32{1}), "setting": l.Set(TopK, 1), "read": entropy, "model": full, "routing": counts,
		"emit": c.Emit("x", 1.0), "stop": c.Stop("x"),
	} {
		if kindOf(t, err) != "misuse" {
			t.Errorf("%s after return: %v", name, err)
		}
	}
}

func TestRandomIsKeyed(t *testing.T) {
	seen := map[float64]bool{}
	var drawn []float64
	h := func() *fake {
		return &fake{logits: func(c *Call, _ *Logits) error {
			for range 3 {
				drawn = append(drawn, c.Random())
			}
			return nil
		}}
	}
	for _, o := range []Options{{Seed: 1}, {Seed: 2}, {Seed: 1, Choice: 1}} {
		for _, attempt := range []int{0, 1} {
			r := start(t, o, h())
			for position := range 2 {
				if _, err := r.Logits(At{Position: position + 3, Attempt: attempt}, r.row, r.row); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, v := range drawn {
		if seen[v] || v < 0 || v >= 1 {
			t.Errorf("%v came twice, or is out of range", v)
		}
		seen[v] = true
	}
	first := slices.Clone(drawn[:3])
	drawn = nil
	start(t, Options{Seed: 1}, h()).step(3)
	if !slices.Equal(drawn, first) {
		t.Errorf("%v, then %v", first, drawn)
	}
	if got := Random(Key{Seed: 7, Choice: 1, Position: 2, Attempt: 3, Draw: 4}); got != pinned {
		t.Errorf("%v: scripts and plugins of today have %v", got, pinned)
	}
}
