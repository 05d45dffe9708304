package hook

import (
	"errors"
	"testing"
)

// far is a hook whose calls another hook makes.
type far struct {
	None
	solo *Solo
	near Hook
	t    *testing.T
}

func (f *far) Start(c *Call) error {
	out, err := f.solo.Call(0, c.At, c.Budget(), f.near.Start)
	return errors.Join(err, c.Adopt(out))
}

func (f *far) Spec() Spec { return f.near.Spec() }

func (f *far) Logits(c *Call, l *Logits) error {
	var edits *Edits
	out, err := f.solo.Call(c.Event, c.At, c.Budget(), func(call *Call) error {
		l := f.solo.Logits(call, Plain{1, 2}, Plain{1, 2})
		edits = l.Edits
		return f.near.Logits(call, l)
	})
	if err != nil {
		return err
	}
	values := edits.Values()
	return errors.Join(l.Edits.Adopt(edits.List(), values.All()), c.Adopt(out))
}

// near edits and steers.
type near struct {
	None
	random float64
}

func (n *near) Spec() Spec { return Spec{Name: "near", Events: OnLogits} }

func (n *near) Start(c *Call) error { return c.Steer.Ban([]int{1}, []int32{2}) }

func (n *near) Logits(c *Call, l *Logits) error {
	n.random = c.Random()
	p, err := l.Prob(1)
	return errors.Join(err, l.Bias([]int32{1}, p), l.Set(Temperature, .5), c.Steer.Gate(nil, 2), c.Emit("x", 1.0))
}

// A hook that is called from elsewhere leads to the same as one in the chain.
func TestSolo(t *testing.T) {
	shape := Shape{Layers: 2, Experts: 4, K: 2}
	var verdicts [2]Verdict
	var steering [2]string
	var random [2]float64
	for i := range 2 {
		n := &near{}
		o := Options{Shape: shape, Tokens: 2, Seed: 7, OnError: Fail}
		var h Hook = n
		if i == 1 {
			h = &far{solo: NewSolo(o, n, Reach{}), near: n, t: t}
		}
		c, err := NewChain(o, h)
		if err != nil {
			t.Fatal(err)
		}
		if verdicts[i], err = c.Logits(At{Position: 3}, Plain{1, 2}, Plain{1, 2}); err != nil {
			t.Fatal(err)
		}
		s, err := c.Steer(3)
		if err != nil {
			t.Fatal(err)
		}
		steering[i], random[i] = s.Digest(), n.random
		if r := c.Report(); r.Hooks[0].Notices != 1 {
			t.Errorf("%+v", r)
		}
	}
	a, b := verdicts[0].Edits, verdicts[1].Edits
	if a.Bias[0] != b.Bias[0] || a.Values != b.Values || steering[0] == "" || steering[0] != steering[1] || random[0] != random[1] {
		t.Errorf("%+v, %+v, %v, %v", a, b, steering, random)
	}
}
