package hook

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What hooks did to a token is told with it, and nothing of a token that they left alone.
func TestChanges(t *testing.T) {
	edits := &fake{spec: Spec{Name: "edits"}, logits: func(_ *Call, l *Logits) error { return l.Ban([]int32{1}) }}
	r := start(t, Options{}, edits, &fake{spec: Spec{Name: "looks"}})
	v := r.step(3)
	if diff := cmp.Diff([]Change{{Hook: "edits", What: Edited}}, r.Changes(3, v)); diff != "" {
		t.Error(diff)
	}
	drawn := int32(1)
	v.Instead = &drawn
	if diff := cmp.Diff([]Change{{Hook: "edits", What: Edited, Instead: &drawn}}, r.Changes(3, v)); diff != "" {
		t.Error(diff)
	}
	// A choice names what would have been drawn; an edit of the same row had no say.
	choice := &fake{spec: Spec{Name: "choice"}, sample: func(_ *Call, c *Candidates) (int32, bool, error) { _, err := c.Draw(); return 5, true, err }}
	r = start(t, Options{}, edits, choice)
	r.step(3)
	v = must(r.Sample(At{Position: 3}, chooser(6), nil))
	drawn = 6
	if diff := cmp.Diff([]Change{{Hook: "edits", What: Edited}, {Hook: "choice", What: Chose, Instead: &drawn}}, r.Changes(3, v)); diff != "" {
		t.Error(diff)
	}
	// Steering counts from its first row on, and not for a token that has no row.
	steers := &fake{spec: Spec{Name: "steers", Lag: 1}, token: func(c *Call, k *Token) error {
		if k.Position == 4 {
			if err := c.Inject([]int32{7}); err != nil {
				return err
			}
		}
		return c.Steer.Ban([]int{0}, []int32{2})
	}}
	steering := NewSteering(small)
	if err := steering.Ban([]int{1}, []int32{3}); err != nil {
		t.Fatal(err)
	}
	r = start(t, Options{Steer: steering}, steers)
	for position, want := range [][]Change{
		3: {{Hook: OfRequest, What: Steered}}, 4: {{Hook: OfRequest, What: Steered}},
		5: {{Hook: "steers", What: Wrote}}, 6: {{Hook: OfRequest, What: Steered}, {Hook: "steers", What: Steered}},
	} {
		if position < 3 {
			continue
		}
		if diff := cmp.Diff(want, r.Changes(position, r.step(position))); diff != "" {
			t.Errorf("position %d: %s", position, diff)
		}
	}
	if list := (*Chain)(nil).Changes(3, Verdict{}); list != nil {
		t.Errorf("%v", list)
	}
}
