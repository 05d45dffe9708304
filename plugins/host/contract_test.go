package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
)

// inside looks into the forward pass, has a sequence beside, chooses, injects and takes
// tokens back.
type inside struct {
	beside int
	taken  int
	notes  []string
}

func insidePlugin() *plugins.Plugin {
	return &plugins.Plugin{
		Name: "inside", Spec: plugins.Spec{Lag: 1, Hold: 4, CaptureAll: true, Hidden: []int{1, 3}, Write: false, Route: []int{2}},
		Riding: plugins.Riding{Entropy: true, Full: true, ModelFull: true},
		New:    func(*plugins.Sequence) (any, error) { return &inside{}, nil },
	}
}

func (n *inside) Start(c *plugins.Call) (err error) {
	n.beside, err = c.Sequence([]int32{9, 8})
	return err
}

func (n *inside) Prompt(_ *plugins.Call, p *plugins.Prompt) error {
	p.IDs = append([]int32{11}, p.IDs...)
	return nil
}

func (n *inside) Logits(c *plugins.Call, l *plugins.Logits) error {
	other, err := l.Beside(n.beside)
	if err != nil {
		return err
	}
	p, err := other.Logprob(3)
	row, err2 := l.Full()
	h, err3 := l.Entropy()
	rank, err4 := l.Rank(2)
	model, err5 := l.Model().Full()
	return errors.Join(err, err2, err3, err4, err5, l.Add(n.beside, -.5), l.Bias([]int32{1}, p+row[4]+h+float32(rank)+model[3]), c.Emit("at", fmt.Sprint(c.At)))
}

func (n *inside) Sample(c *plugins.Call, s *plugins.Candidates) (int32, bool, error) {
	list, err := s.Top()
	drawn, err2 := s.Draw()
	if err := errors.Join(err, err2, c.Emit("drawn", fmt.Sprint(len(list), list[0], drawn))); err != nil {
		return 0, false, err
	}
	switch c.Position {
	case 5:
		return 0, false, c.Inject([]int32{12, 13})
	case 8:
		if n.taken++; n.taken == 1 {
			return 0, false, c.Rewind(6, false)
		}
	}
	return list[1].ID, true, nil
}

func (n *inside) Token(c *plugins.Call, t *plugins.Token) error {
	return c.Emit("token", fmt.Sprint(*t))
}

func (n *inside) Rewound(to int) { n.notes = append(n.notes, fmt.Sprint("back to ", to)) }

func (n *inside) Hidden(c *plugins.Call, h *plugins.Hidden) error {
	values, err := h.Read()
	top, err2 := h.Lens(2)
	return errors.Join(err, err2, c.Emit("hidden", fmt.Sprint(h.Position, h.Layer, values, top)))
}

func (n *inside) Route(c *plugins.Call, r *plugins.Router) error {
	logits, err := r.Read()
	if err != nil {
		return err
	}
	logits[0] += float32(c.Position)
	return r.Write(logits)
}

func (n *inside) Finish(c *plugins.Call, f *plugins.Finish) error {
	return c.Emit("finish", fmt.Sprint(*f, n.notes, n.taken))
}

// drive has a chain go through all of it, and tells what came of it.
func drive(t *testing.T, c *hook.Chain) string {
	t.Helper()
	var told strings.Builder
	ids, err := c.Prompt([]int32{1, 2, 3})
	fmt.Fprintln(&told, ids, err, c.Sequences(), c.Inside())
	row, beside := make(hook.Plain, small.Tokens), make(hook.Plain, small.Tokens)
	for n := range row {
		row[n], beside[n] = float32(n%5)/3, float32(n%3)
	}
	for position, steps := len(ids), 0; position < 10 && steps < 20; steps++ {
		values := []float32{1, 2, 3, 4, 5, 6, 7, 8}
		err := c.Within(hook.AtRouter, position-1, 2, values)
		fmt.Fprintln(&told, "router", values, err)
		v, err := c.Logits(hook.At{Position: position}, row, row, beside)
		if v.Edits != nil {
			fmt.Fprintf(&told, "%+v\n", *v.Edits)
			v.Edits = nil // an address
		}
		if err == nil && !v.Decided && !v.Rewind {
			var chosen hook.Verdict
			chosen, err = c.Sample(hook.At{Position: position}, choosing(row), nil)
			v.Decided, v.ID, v.Forced, v.Rewind, v.To = chosen.Decided, chosen.ID, chosen.Forced, chosen.Rewind, chosen.To
		}
		fmt.Fprintf(&told, "%d: %+v %v\n", position, v, err)
		if v.Rewind {
			position = v.To
			continue
		}
		c.Token(hook.Token{Position: position, ID: v.ID, Text: "x", Logprob: -2, Forced: v.Forced})
		c.Hidden(hook.HiddenRecord{Position: position, Layers: []int{1, 3}, Width: 4, Values: []float32{1, 2, 3, 4, 5, 6, 7, float32(position)}})
		position++
	}
	c.Finish(hook.Finish{Reason: "length", Prompt: 4, Completion: 6})
	return told.String()
}

// choosing is what a sampler has to choose from.
type choosing hook.Plain

func (c choosing) Candidates(n int) ([]hook.Candidate, error) { return hook.Plain(c).Top(n) }
func (c choosing) Draw() (int32, error)                       { return 4, nil }

// The whole contract is the same over the wire: sequences, choices, injected tokens,
// rewinds, residuals, routers.
func TestContractIsAsInProcess(t *testing.T) {
	h := open(t, Options{}, "inside")
	var told [2]string
	var notices [2][]string
	for n := range 2 {
		o := hook.Options{Seed: 3, OnError: hook.Fail, Notify: func(x hook.Notice) { notices[n] = append(notices[n], fmt.Sprintf("%+v", x)) },
			Lens: func(values []float32) (hook.Source, error) { return hook.Plain(values), nil }}
		o.Shape, o.Tokens = small.Shape, small.Tokens
		var c *hook.Chain
		if n == 0 {
			c, _ = begin(t, h, "inside", Env{}, o)
		} else {
			own, err := insidePlugin().Hook(&plugins.Sequence{Model: small})
			if err != nil {
				t.Fatal(err)
			}
			if c, err = hook.NewChain(o, own); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		told[n] = drive(t, c)
	}
	if told[0] != told[1] || !strings.Contains(told[1], "To:6") || !strings.Contains(told[1], "Forced:true") {
		t.Errorf("in a process of its own:\n%s\nin this one:\n%s", told[0], told[1])
	}
	a, b := strings.Join(notices[0], "\n"), strings.Join(notices[1], "\n")
	if a != b || !strings.Contains(a, "back to 6") {
		t.Errorf("told from its own process:\n%s\nfrom this one:\n%s", a, b)
	}
}

// writer writes the residual within the forward pass.
type writer struct{}

func (writer) Hidden(_ *plugins.Call, h *plugins.Hidden) error {
	values, err := h.Read()
	if err != nil {
		return err
	}
	for i := range values {
		values[i] *= 2
	}
	return h.Write(values)
}

func writerPlugin() *plugins.Plugin {
	return &plugins.Plugin{
		Name: "writer", Spec: plugins.Spec{Hidden: []int{2}, Write: true},
		New: func(*plugins.Sequence) (any, error) { return writer{}, nil },
		Request: func(_ context.Context, body json.RawMessage, params map[string]any) (json.RawMessage, error) {
			if len(body) > 20 {
				return nil, errors.New("too long for me")
			}
			return json.RawMessage(`{"changed": ` + string(body) + `}`), nil
		},
	}
}

func TestWriteWithin(t *testing.T) {
	h := open(t, Options{}, "writer")
	c, _ := begin(t, h, "writer", Env{}, hook.Options{OnError: hook.Fail})
	if _, err := c.Prompt([]int32{1}); err != nil {
		t.Fatal(err)
	}
	values := []float32{1, 2, 3, 4}
	if err := c.Within(hook.AtResidual, 0, 2, values); err != nil || values[3] != 8 {
		t.Errorf("%v, %v", values, err)
	}
	p, err := h.Get("writer")
	if err != nil {
		t.Fatal(err)
	}
	body, err := p.Request(t.Context(), []byte(`{"a":1}`), nil, func(string) {})
	if err != nil || string(body) != `{"changed": {"a":1}}` {
		t.Errorf("%s, %v", body, err)
	}
	if _, err := p.Request(t.Context(), []byte(`{"a":"`+strings.Repeat("a", 30)+`"}`), nil, func(string) {}); err == nil || !strings.Contains(err.Error(), "too long for me") {
		t.Errorf("%v", err)
	}
	if _, err := p.Request(t.Context(), nil, map[string]any{"x": 1}, func(string) {}); err == nil || !strings.Contains(err.Error(), "there is none of this name") {
		t.Errorf("%v", err)
	}
}
