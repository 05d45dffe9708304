package sample

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// repeats knows where the end of a text has been before. A token costs as many
// steps as it has earlier places, not as many as the text is long.
type repeats struct {
	DRY
	last int // how many tokens back it looks; 0 for all

	text  []int32
	place map[int32]int32 // where a token was last
	prior []int32         // of each place, the one before it with the same token; -1 for none
	// matches are the earlier places whose token is the last one, latest first,
	// with how many tokens up to there equal the end of the text.
	matches, spare []match
	penalties      []ops.Bias
}

type match struct{ at, length int32 }

func newRepeats(p *Params) *repeats {
	r := &repeats{DRY: p.DRY, last: p.PenaltyLastN, place: map[int32]int32{}}
	if r.Base == 0 {
		r.Base = 1.75
	}
	if r.AllowedLength == 0 {
		r.AllowedLength = 2
	}
	return r
}

func (r *repeats) clone() *repeats {
	c := *r
	c.text, c.prior, c.matches = slices.Clone(r.text), slices.Clone(r.prior), slices.Clone(r.matches)
	c.place = maps.Clone(r.place)
	c.spare, c.penalties = nil, nil
	return &c
}

// add appends a token. A place matches the new end with one token more than the
// place before it matched the old end; both lists run from late to early.
func (r *repeats) add(id int32) {
	now := int32(len(r.text))
	at, ok := r.place[id]
	if !ok {
		at = -1
	}
	r.text, r.prior, r.place[id] = append(r.text, id), append(r.prior, at), now
	old := r.matches
	r.matches, r.spare = r.spare[:0], old
	if r.breaks(id) {
		return
	}
	for ; at >= 0 && !r.forgotten(at); at = r.prior[at] {
		for len(old) > 0 && old[0].at >= at {
			old = old[1:]
		}
		m := match{at, 1}
		if len(old) > 0 && old[0].at == at-1 {
			m.length += old[0].length
		}
		r.matches = append(r.matches, m)
	}
}

func (r *repeats) forgotten(at int32) bool { return r.last > 0 && int(at) < len(r.text)-r.last }

func (r *repeats) breaks(id int32) bool {
	_, found := slices.BinarySearch(r.Breakers, id)
	return found
}

// edits returns what the next token's logits lose, ids ascending, each once: of
// several repeats that a token would go on, the longest counts. The slice is
// good until the next call.
func (r *repeats) edits() []ops.Bias {
	r.penalties = r.penalties[:0]
	told, longest := int32(-1), 0
	for _, m := range r.matches {
		next := r.text[m.at+1]
		length := int(m.length)
		if r.last > 0 {
			length = min(length, int(m.at)+1-(len(r.text)-r.last))
		}
		if length < r.AllowedLength || r.breaks(next) {
			continue
		}
		// A text in a loop has thousands of matches, most of which say again what
		// the one before them says.
		if next == told && length <= longest {
			continue
		}
		told, longest = next, length
		loss := float64(r.Multiplier) * math.Pow(float64(r.Base), float64(length-r.AllowedLength))
		r.penalties = append(r.penalties, ops.Bias{ID: next, Value: -float32(min(loss, math.MaxFloat32))})
	}
	slices.SortFunc(r.penalties, func(a, b ops.Bias) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Value, b.Value))
	})
	r.penalties = slices.CompactFunc(r.penalties, func(a, b ops.Bias) bool { return a.ID == b.ID })
	return r.penalties
}

// find looks an id up in edits, ids ascending.
func find(edits []ops.Bias, id int32) (at int, found bool) {
	return slices.BinarySearchFunc(edits, id, func(b ops.Bias, id int32) int { return cmp.Compare(b.ID, id) })
}

// merge adds two lists of edits, ids ascending, in the memory of into.
func merge(into, a, b []ops.Bias) []ops.Bias {
	into = into[:0]
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].ID < b[0].ID:
			into, a = append(into, a[0]), a[1:]
		case a[0].ID > b[0].ID:
			into, b = append(into, b[0]), b[1:]
		default:
			into = append(into, ops.Bias{ID: a[0].ID, Value: a[0].Value + b[0].Value})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(into, a...), b...)
}
