package sample

import (
	"cmp"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// seen counts the tokens that penalties look at: ids ascending, each once. A
// new token costs a search, and a move of what lies behind an id never seen
// before (12 bytes an id: 100 KB after 8,000 different ones).
type seen []ops.Count

func (s *seen) add(id int32, prompt, output int) {
	at, found := slices.BinarySearchFunc(*s, id, func(c ops.Count, id int32) int { return cmp.Compare(c.ID, id) })
	if !found {
		*s = slices.Insert(*s, at, ops.Count{ID: id})
	}
	c := &(*s)[at]
	c.Prompt += uint32(prompt) // wraps for -1, as it should
	c.Output += uint32(output)
	if c.Prompt == 0 && c.Output == 0 {
		*s = slices.Delete(*s, at, at+1)
	}
}

// prompt counts many tokens at once, in n log n.
func (s *seen) prompt(ids []int32) {
	all := slices.Clone(*s)
	for _, id := range ids {
		all = append(all, ops.Count{ID: id, Prompt: 1})
	}
	slices.SortFunc(all, func(a, b ops.Count) int { return cmp.Compare(a.ID, b.ID) })
	*s = (*s)[:0]
	for _, c := range all {
		if n := len(*s); n > 0 && (*s)[n-1].ID == c.ID {
			(*s)[n-1].Prompt += c.Prompt
			(*s)[n-1].Output += c.Output
		} else {
			*s = append(*s, c)
		}
	}
}
