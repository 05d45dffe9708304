package rehearse

import (
	"cmp"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// chooser is what sample sees.
type chooser struct {
	list  func() ([]hook.Candidate, error)
	drawn func() (int32, error)
}

// Candidates implements hook.Chooser.
func (c chooser) Candidates(n int) ([]hook.Candidate, error) {
	list, err := c.list()
	return list[:min(n, len(list))], err
}

// Draw implements hook.Chooser.
func (c chooser) Draw() (int32, error) { return c.drawn() }

// left lists the tokens that edits leave of a row, most likely first. Where the row is not
// whole, it is those of the most likely ones.
func left(row hook.Source, edits *hook.Folded) ([]hook.Candidate, error) {
	all, err := row.Row()
	if err != nil {
		list, err := row.Top(hook.MaxCandidates)
		if err != nil || edits == nil {
			return list, err
		}
		return edited(list, edits), nil
	}
	if edits != nil {
		all = slices.Clone(all)
		edits.Apply(all, func(int) []float32 { return all }) // no sequences are added
	}
	return hook.Plain(all).Top(hook.MaxCandidates)
}

// edited is what edits make of some tokens.
func edited(list []hook.Candidate, edits *hook.Folded) []hook.Candidate {
	bias := map[int32]float32{}
	for _, b := range edits.Bias {
		bias[b.ID] = b.Value
	}
	var out []hook.Candidate
	sum := 0.0
	for _, c := range list {
		if !edits.Allows(c.ID) {
			continue
		}
		c.Logit = c.Logit*edits.Scale + bias[c.ID]
		sum += math.Exp(float64(c.Logit - list[0].Logit*edits.Scale))
		out = append(out, c)
	}
	for i := range out {
		out[i].Logprob = float32(float64(out[i].Logit-list[0].Logit*edits.Scale) - math.Log(sum))
	}
	slices.SortStableFunc(out, func(a, b hook.Candidate) int { return cmp.Compare(b.Logit, a.Logit) })
	return out
}
