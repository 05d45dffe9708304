package rehearse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

var model = hook.Model{Name: "small", Shape: hook.Shape{Layers: 2, Experts: 4, K: 1, Hidden: 3}, Tokens: 8, EOS: []int32{7}}

// actor is a hook made of functions; those that are nil do nothing.
type actor struct {
	hook.None
	spec   hook.Spec
	start  func(*hook.Call) error
	prompt func(*hook.Prompt)
	logits func(*hook.Call, *hook.Logits) error
	sample func(*hook.Call, *hook.Candidates) (int32, bool, error)
	token  func(*hook.Call, *hook.Token) error
	finish func(*hook.Call, *hook.Finish) error
}

func (a *actor) Start(c *hook.Call) error {
	if a.start == nil {
		return nil
	}
	return a.start(c)
}

func (a *actor) Spec() hook.Spec {
	if a.spec.Name == "" {
		a.spec.Name = "actor"
	}
	for i, on := range []bool{a.prompt != nil, a.logits != nil, a.sample != nil, a.token != nil, false, a.finish != nil} {
		if on {
			a.spec.Events |= 1 << i
		}
	}
	return a.spec
}

func (a *actor) Prompt(_ *hook.Call, p *hook.Prompt) error                    { a.prompt(p); return nil }
func (a *actor) Logits(c *hook.Call, l *hook.Logits) error                    { return a.logits(c, l) }
func (a *actor) Token(c *hook.Call, t *hook.Token) error                      { return a.token(c, t) }
func (a *actor) Finish(c *hook.Call, f *hook.Finish) error                    { return a.finish(c, f) }
func (a *actor) Sample(c *hook.Call, s *hook.Candidates) (int32, bool, error) { return a.sample(c, s) }

// row is a row whose most likely token is given, then the ids from the last one on.
func row(best int32) Row {
	logits := hook.Plain{0, 1, 2, 3, 4, 5, 6, -50}
	logits[best] = 9
	return Row{Entry: logits, Model: logits}
}

func rows(best ...int32) (list []Row) {
	for _, id := range best {
		list = append(list, row(id))
	}
	return list
}

// said is a course in words.
func said(c *Course) string {
	var words []string
	for _, s := range c.Steps {
		word := fmt.Sprintf("%d:%d", s.Position, s.ID)
		if s.Forced {
			word += "F"
		}
		if s.Chosen {
			word += "C"
		}
		if s.Rewind >= 0 {
			word += fmt.Sprintf("<%d", s.Rewind)
		}
		if s.Stop != "" {
			word += "!" + s.Stop
		}
		words = append(words, word)
	}
	return strings.Join(append(words, c.Reason), " ")
}

func TestPlay(t *testing.T) {
	three := int32(3)
	drawn := row(5)
	drawn.Drawn = &three
	back := false
	for name, c := range map[string]struct {
		hook *actor
		rows []Row
		want string
	}{
		"nothing is done":            {&actor{}, rows(1, 2), "2:1 3:2 length"},
		"a token that is given":      {&actor{}, []Row{drawn}, "2:3 length"},
		"it is banned":               {&actor{logits: func(_ *hook.Call, l *hook.Logits) error { return l.Ban([]int32{3}) }}, []Row{drawn}, "2:5 length"},
		"a bias decides":             {&actor{logits: func(_ *hook.Call, l *hook.Logits) error { return l.Bias([]int32{0}, 20) }}, rows(1), "2:0 length"},
		"the end of texts":           {&actor{}, rows(1, 7, 1), "2:1 3:7 stop"},
		"sample chooses":             {&actor{sample: func(*hook.Call, *hook.Candidates) (int32, bool, error) { return 4, true, nil }}, rows(1), "2:4C length"},
		"sample leaves it":           {&actor{sample: func(*hook.Call, *hook.Candidates) (int32, bool, error) { return 0, false, nil }}, rows(1), "2:1 length"},
		"sample injects":             {&actor{sample: func(c *hook.Call, _ *hook.Candidates) (int32, bool, error) { return 0, false, c.Inject([]int32{2, 3}) }}, rows(1, 1, 1), "2:2F 3:3F 4:2F length"},
		"a stop behind the last row": {&actor{spec: hook.Spec{Lag: 1}, token: func(c *hook.Call, _ *hook.Token) error { return c.Stop("enough") }}, rows(1), "2:1!enough enough"},
		"tokens are taken back": {&actor{spec: hook.Spec{Lag: 1, Hold: 4}, token: func(c *hook.Call, t *hook.Token) error {
			if t.Position != 3 || back {
				return nil
			}
			back = true
			return c.Rewind(2, false)
		}}, rows(1, 2, 3), "2:1 3:2<2 2:1 3:2 4:3 length"},
	} {
		s := &Scene{Model: model, Prompt: []int32{1, 2}, Rows: Made(c.rows)}
		course, err := s.Play(t.Context(), c.hook)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := said(course); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Whatever the hook does wrong ends the run, and endless runs end too.
func TestPlayFails(t *testing.T) {
	wrong := errors.New("wrong")
	long := strings.Repeat("x", 16<<10)
	for name, c := range map[string]struct {
		hook *actor
		want string
	}{
		"start":  {&actor{start: func(*hook.Call) error { return wrong }}, "hook actor, start of"},
		"finish": {&actor{finish: func(*hook.Call, *hook.Finish) error { return wrong }}, "finish of position 3"},
		"tells too much": {&actor{logits: func(c *hook.Call, _ *hook.Logits) error {
			for range 32 {
				if err := c.Emit("x", long); err != nil {
					return err
				}
			}
			return nil
		}}, "tells more than 8 MiB"},
	} {
		s := &Scene{Model: model, Prompt: []int32{1, 2}, Rows: Made(slices.Repeat(rows(1), 100))}
		if name == "finish" {
			s.Rows = Made(rows(1))
		}
		_, err := s.Play(t.Context(), c.hook)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	nothing := hook.Plain(slices.Repeat([]float32{float32(-1e30)}, 8))
	for i := range nothing {
		nothing[i] *= 1e30
	}
	nothing[1] = 1
	s := &Scene{Model: model, Prompt: []int32{1}, Rows: Made([]Row{{Entry: nothing, Model: nothing}})}
	var f *hook.Fault
	if _, err := s.Play(t.Context(), &actor{logits: func(_ *hook.Call, l *hook.Logits) error { return l.Ban([]int32{1}) }}); !errors.As(err, &f) || f.Kind != hook.NothingLeft {
		t.Errorf("a ban of the only token: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(wrong)
	if _, err := s.Play(ctx, &actor{}); !errors.Is(err, wrong) {
		t.Errorf("cancelled: %v", err)
	}
}

// whole is a hook that does everything once.
func whole(stop string) *actor {
	back := false
	a := &actor{spec: hook.Spec{Name: "whole", Lag: 1, Hold: 4}, prompt: func(p *hook.Prompt) { p.IDs = append(p.IDs, 5) }}
	a.start = func(c *hook.Call) error { return c.Steer.Ban([]int{0}, []int32{1}) }
	a.logits = func(c *hook.Call, l *hook.Logits) error {
		h, err := l.Entropy()
		return errors.Join(err, c.Emit("entropy", float64(h)), l.Bias([]int32{int32(c.Position % 7)}, float32(10*c.Random())), l.Ban([]int32{2}))
	}
	a.sample = func(c *hook.Call, s *hook.Candidates) (int32, bool, error) {
		if c.Position == 6 {
			return 0, false, c.Inject([]int32{1, 2, 3})
		}
		list, err := s.Top()
		return list[int(c.Random()*float64(len(list)))].ID, true, err
	}
	a.token = func(c *hook.Call, t *hook.Token) error {
		if stop != "" && t.Position == 10 {
			return c.Stop(stop)
		}
		if t.Position == 5 && !back {
			back = true
			return c.Rewind(4, false)
		}
		return c.Steer.Bias([]int{1}, []int32{int32(t.ID % 4)}, 2)
	}
	return a
}

// What was recorded leads a hook to the same, without the rows.
func TestRecorded(t *testing.T) {
	for _, stop := range []string{"", "enough"} {
		var file bytes.Buffer
		list := rows(1, 2, 3, 4, 5, 6, 1, 2, 3)
		for i := range list {
			list[i].Routing = &hook.Record{Position: 3 + i, Layers: 2, K: 1, IDs: []uint16{1, 2}, Weights: []float32{1, 1}}
		}
		s := &Scene{Model: model, Seed: 4, Prompt: []int32{1, 2}, Rows: Made(list), Text: func(id int32) string { return fmt.Sprint(id) }}
		recorder := hook.NewRecorder(&file, hook.Recording{Model: model}, nil, whole(stop))
		first, err := s.Play(t.Context(), recorder)
		if err != nil || recorder.Err() != nil {
			t.Fatal(err, recorder.Err())
		}
		text := file.Bytes()
		read := func() *hook.Recording {
			r, err := hook.ReadRecording(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		again, err := Recorded(read()).Play(t.Context(), whole(stop))
		if err != nil {
			t.Fatal(err)
		}
		a, b := told(t, first), told(t, again)
		if a != b || !strings.Contains(a, "<4") || !strings.Contains(a, "6:1F") {
			t.Errorf("recorded\n%s\nagain\n%s", a, b)
		}

		// A hook that does other things is told what was recorded, as far as it goes.
		if course, err := Recorded(read()).Play(t.Context(), &actor{prompt: whole("").prompt}); err == nil || !strings.Contains(err.Error(), "cannot be followed") {
			t.Errorf("no rewind where one was recorded: %+v, %v", course, err)
		}
		if _, err := Recorded(read()).Play(t.Context(), &actor{}); err == nil || !strings.Contains(err.Error(), "2 tokens now and had 3") {
			t.Errorf("another prompt: %v", err)
		}
	}
}

// told is what is to be the same.
func told(t *testing.T, c *Course) string {
	t.Helper()
	text := said(c)
	for _, s := range c.Steps {
		steering, err := json.Marshal(s.Steering)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("\n%d/%d %+v %+v %s", s.Position, s.Attempt, s.List, s.Edits, steering)
	}
	for _, n := range c.Notices {
		text += fmt.Sprintf("\n%d %d %s %v", n.Step, n.Position, n.Name, n.Value)
	}
	return text
}

func TestVocabulary(t *testing.T) {
	v := Vocabulary{"a", "ab", " ", "abc", ""}
	ids, err := v.Encode("abcab a")
	if err != nil || !slices.Equal(ids, []int32{3, 1, 2, 0}) || v.Decode(append(ids, 99)) != "abcab a" {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := v.Encode("abx"); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("%v", err)
	}
}
