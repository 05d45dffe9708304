package hook

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// inner is a hook that looks into the forward pass.
type inner struct {
	None
	spec   Spec
	hidden func(*Call, *Hidden) error
	route  func(*Call, *Router) error
}

func (i *inner) Spec() Spec {
	if i.hidden != nil {
		i.spec.Events |= OnHidden
	}
	if i.route != nil {
		i.spec.Events |= OnRoute
	}
	return i.spec
}
func (i *inner) Logits(*Call, *Logits) error     { return nil }
func (i *inner) Token(*Call, *Token) error       { return nil }
func (i *inner) Routing(*Call, *Routing) error   { return nil }
func (i *inner) Hidden(c *Call, h *Hidden) error { return i.hidden(c, h) }
func (i *inner) Route(c *Call, r *Router) error  { return i.route(c, r) }

var insideShape = Shape{Layers: 6, Experts: 4, K: 2, Hidden: 3}

func insideChain(t *testing.T, o Options, hooks ...Hook) *Chain {
	t.Helper()
	o.Shape, o.Tokens = insideShape, 8
	c, err := NewChain(o, hooks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Prompt([]int32{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Residuals are told at their lag, behind the row's routing, each layer to the hooks that
// asked for it; rows of the prompt but the last only to those that capture all.
func TestHiddenIsTold(t *testing.T) {
	for _, all := range []bool{false, true} {
		for lag := MinLag; lag <= DefaultLag; lag++ {
			var told []string
			look := func(name string, layers ...int) Hook {
				return &inner{spec: Spec{Name: name, Lag: lag, Hidden: layers, CaptureAll: all}, hidden: func(c *Call, h *Hidden) error {
					v, err := h.Read()
					told = append(told, fmt.Sprintf("%s:%d.%d=%v%s", name, h.Position, h.Layer, v[0], c.Phase))
					v[0] = -1 // its own copy
					return err
				}}
			}
			c := insideChain(t, Options{OnError: Fail}, look("a", 1, 4), look("b", 4))
			if got := c.Inside(); !slices.Equal(got.Read, []int{1, 4}) || got.Prompt != all || len(got.Write)+len(got.Route) > 0 {
				t.Errorf("they look into %+v", got)
			}
			for position := range 4 {
				c.Hidden(HiddenRecord{Position: position, Prompt: position < 3, Layers: []int{1, 4}, Width: 3, Values: []float32{float32(position), 0, 0, float32(10 + position), 0, 0}})
			}
			row := Plain{0, 1, 2, 3, 4, 5, 6, 7}
			if _, err := c.Logits(At{Position: 4}, row, row); err != nil {
				t.Fatal(err)
			}
			var want []string
			for position := 0; position+lag <= 4; position++ {
				if !all && position < 2 {
					continue
				}
				phase := "prompt"
				if position == 3 {
					phase = "decode"
				}
				want = append(want, fmt.Sprintf("a:%d.1=%d%s", position, position, phase), fmt.Sprintf("a:%d.4=%d%s", position, 10+position, phase),
					fmt.Sprintf("b:%d.4=%d%s", position, 10+position, phase))
			}
			if !slices.Equal(told, want) {
				t.Errorf("all %v, lag %d: told %q, want %q", all, lag, told, want)
			}
			if r := c.Report(); !r.Uncaptured || r.Synchronous != (lag == 1) || r.Hooks[0].Reads["hidden"] == 0 {
				t.Errorf("the report is %+v", r)
			}
		}
	}
}

// Within the forward pass hooks see and change values by priority; what they steer is in
// force from the next row on.
func TestWithin(t *testing.T) {
	steered := func(c *Chain, position int) bool {
		s, err := c.Steer(position)
		return err == nil && !s.Neutral()
	}
	double := &inner{spec: Spec{Name: "double", Priority: 1, Hidden: []int{2}, Write: true}, hidden: func(_ *Call, h *Hidden) error {
		v, _ := h.Read()
		for i := range v {
			v[i] *= 2
		}
		return h.Write(v)
	}}
	inc := &inner{spec: Spec{Name: "inc", Hidden: []int{2}, Write: true, Route: []int{0}}, hidden: func(call *Call, h *Hidden) error {
		v, _ := h.Read()
		v[0]++
		return errors.Join(call.Steer.Ban([]int{3}, []int32{1}), h.Write(v))
	}, route: func(_ *Call, r *Router) error {
		v, _ := r.Read()
		v[3] = float32(math.Inf(-1))
		return r.Write(v)
	}}
	c := insideChain(t, Options{OnError: Fail}, inc, double)
	if n := c.Needs(); !n.Synchronous {
		t.Error("the stream does not wait")
	}
	if in := c.Inside(); !slices.Equal(in.Write, []int{2}) || !slices.Equal(in.Route, []int{0}) || len(in.Read) > 0 {
		t.Errorf("they look into %+v", in)
	}
	for _, step := range []struct {
		place           Place
		position, layer int
		want            []float32
	}{
		{AtResidual, 1, 2, []float32{1, 2, 3}}, // of the prompt
		{AtResidual, 2, 2, []float32{3, 4, 6}},
		{AtResidual, 3, 1, []float32{1, 2, 3}},
		{AtResidual, 3, 2, []float32{3, 4, 6}},
		{AtRouter, 3, 0, []float32{1, 2, 3, float32(math.Inf(-1))}},
		{AtRouter, 3, 2, []float32{1, 2, 3, 4}},
	} {
		values := []float32{1, 2, 3}
		if step.place == AtRouter {
			values = []float32{1, 2, 3, 4}
		}
		if err := c.Within(step.place, step.position, step.layer, values); err != nil || !slices.Equal(values, step.want) {
			t.Errorf("%+v: %v, %v", step, values, err)
		}
	}
	if steered(c, 2) || !steered(c, 3) {
		t.Error("steering of row 2's handler is in force from row 3 on")
	}
	if r := c.Report(); !r.Uncaptured || !r.Synchronous || r.Hooks[1].Within != 3 || r.Hooks[1].Written != 3 {
		t.Errorf("the report is %+v", r)
	}
}

// What cannot be written, looked into or asked for is a fault, and changes nothing.
func TestInsideFaults(t *testing.T) {
	nan := float32(math.NaN())
	inf := float32(math.Inf(1))
	hidden := func(f func(*Call, *Hidden) error) *inner {
		return &inner{spec: Spec{Name: "h", Hidden: []int{1}, Write: true}, hidden: f}
	}
	for name, c := range map[string]struct {
		hook *inner
		kind FaultKind
	}{
		"too short":       {hidden(func(_ *Call, h *Hidden) error { return h.Write([]float32{1}) }), BadValue},
		"NaN":             {hidden(func(_ *Call, h *Hidden) error { return h.Write([]float32{1, nan, 2}) }), NotANumber},
		"infinite":        {hidden(func(_ *Call, h *Hidden) error { return h.Write([]float32{1, -inf, 2}) }), NotANumber},
		"a lens":          {hidden(func(_ *Call, h *Hidden) error { _, err := h.Lens(3); return err }), Misuse},
		"stop":            {hidden(func(c *Call, _ *Hidden) error { return c.Stop("now") }), Misuse},
		"write, then err": {hidden(func(_ *Call, h *Hidden) error { return errors.Join(h.Write([]float32{9, 9, 9}), errors.New("no")) }), Exception},
		"all experts":     {&inner{spec: Spec{Name: "r", Route: []int{1}}, route: func(_ *Call, r *Router) error { return r.Write([]float32{1, -inf, -inf, -inf}) }}, NothingLeft},
		"infinite logits": {&inner{spec: Spec{Name: "r", Route: []int{1}}, route: func(_ *Call, r *Router) error { return r.Write([]float32{1, 2, 3, inf}) }}, NotANumber},
	} {
		chain := insideChain(t, Options{OnError: Fail}, c.hook)
		place, values := AtResidual, []float32{1, 2, 3}
		if c.hook.route != nil {
			place, values = AtRouter, []float32{1, 2, 3, 4}
		}
		before := slices.Clone(values)
		var f *Fault
		if err := chain.Within(place, 5, 1, values); !errors.As(err, &f) || f.Kind != c.kind || !slices.Equal(values, before) {
			t.Errorf("%s: %v, want %v; values %v", name, err, c.kind, values)
		}
		if r := chain.Report(); r.Degraded != 1 {
			t.Errorf("%s: %d degraded tokens", name, r.Degraded)
		}
	}
	read := insideChain(t, Options{OnError: Fail}, &inner{spec: Spec{Name: "h", Lag: 1, Hidden: []int{1}}, hidden: func(_ *Call, h *Hidden) error { return h.Write([]float32{1, 2, 3}) }})
	read.Hidden(HiddenRecord{Position: 3, Layers: []int{1}, Width: 3, Values: make([]float32, 3)})
	row := Plain{0, 1, 2, 3, 4, 5, 6, 7}
	if _, err := read.Logits(At{Position: 4}, row, row); err == nil || !strings.Contains(err.Error(), "write: true") {
		t.Errorf("a write behind the pass: %v", err)
	}
	for what, spec := range map[string]Spec{
		"no layer": {}, "a layer that is not there": {Hidden: []int{6}}, "twice": {Hidden: []int{1, 1}}, "not ascending": {Route: []int{2, 1}, Hidden: []int{1}},
	} {
		if _, err := NewChain(Options{Shape: insideShape, Tokens: 8}, &inner{spec: spec, hidden: func(*Call, *Hidden) error { return nil }}); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// The lens is the engine's, and where there is none it says so.
func TestLens(t *testing.T) {
	var got []Candidate
	look := func() Hook {
		return &inner{spec: Spec{Name: "lens", Lag: 1, Hidden: []int{1}}, hidden: func(_ *Call, h *Hidden) (err error) { got, err = h.Lens(2); return err }}
	}
	row := Plain{0, 1, 2, 3, 4, 5, 6, 7}
	for _, lens := range []func([]float32) (Source, error){nil, func(x []float32) (Source, error) { return Plain{x[0], x[1], x[2], 0, 0, 0, 0, 0}, nil }} {
		c := insideChain(t, Options{OnError: Fail, Lens: lens}, look())
		c.Hidden(HiddenRecord{Position: 3, Layers: []int{1}, Width: 3, Values: []float32{1, 5, 3}})
		_, err := c.Logits(At{Position: 4}, row, row)
		if lens == nil {
			if err == nil || !strings.Contains(err.Error(), "no model") {
				t.Errorf("without a model: %v", err)
			}
			continue
		}
		if err != nil || len(got) != 2 || got[0].ID != 1 || got[1].ID != 2 || c.Report().Hooks[0].Reads["lens"] != 1 {
			t.Errorf("%v, %v, %+v", got, err, c.Report())
		}
	}
}
