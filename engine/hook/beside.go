package hook

import "slices"

// MaxSequences is how many sequences a request's hooks may have beside its choice. Each
// takes the place of a stream.
const MaxSequences = 2

// beside is a sequence of a hook's.
type beside struct {
	ids   []int32
	owner *link
}

// Sequence begins a second prompt for the choice, as guidance needs: the sequence reads
// every token that is chosen, in the same steps, and Logits.Beside and Edits.Add know its
// logits for the next one. It is possible at the start and in the prompt event, before
// the prompt is read; the choice then waits for its hooks at every token. A newer version
// of a hook that takes over in the midst of a choice gets the sequences of the one
// before, which must be the same.
func (c *Call) Sequence(ids []int32) (int, error) {
	if err := c.Usable(); err != nil {
		return 0, err
	}
	if err := c.reaches("sequence", func(r *Reach) bool { return r.Sequences }); err != nil {
		return 0, err
	}
	chain := c.chain
	switch {
	case c.Event != 0 && c.Event != OnPrompt:
		return 0, faultf(Misuse, "sequence in %s: it works in hooks() and prompt, before the prompt is read", c.Event)
	case len(ids) == 0:
		return 0, faultf(BadValue, "sequence of no tokens")
	}
	if err := chain.checkIDs("sequence", ids); err != nil {
		return 0, err
	}
	if chain.began {
		return c.inherit(ids)
	}
	if len(chain.beside) == MaxSequences {
		return 0, faultf(BadValue, "sequence: a request has %d at most", MaxSequences)
	}
	chain.beside = append(chain.beside, beside{slices.Clone(ids), c.link})
	return len(chain.beside) - 1, nil
}

// inherit finds the sequence that the version before had.
func (c *Call) inherit(ids []int32) (int, error) {
	for i, b := range c.chain.beside {
		if b.owner == c.link && slices.Equal(b.ids, ids) {
			return i, nil
		}
	}
	return 0, faultf(Misuse, "sequence: a choice keeps those that it began with, and this is another")
}

// Sequences are the prompts of the sequences beside the choice. The prompt's reading
// begins with them: there are no others afterwards.
func (c *Chain) Sequences() (prompts [][]int32) {
	if c == nil {
		return nil
	}
	c.began = true
	for _, b := range c.beside {
		prompts = append(prompts, b.ids)
	}
	return prompts
}

// others are the reads of the rows beside.
func (c *Chain) others(sources []Source) (out []*Reads) {
	for _, s := range sources {
		out = append(out, &Reads{tokens: c.options.Tokens, from: s})
	}
	return out
}
