package qwen3next

import "github.com/roundhouse-ai/roundhouse/engine/ops"

// LensRows is the most rows that the lens reads at a time. Their logits take 4.9 MB at a
// vocabulary of 151,936.
const LensRows = 8

// Lens reads what a residual would say if no layer followed: logits of any rows of
// hidden values, in buffers of its own. Behind the last layer they are the model's.
type Lens struct {
	X      ops.Buf // [LensRows, hidden]
	Logits ops.Buf // [LensRows, vocabulary]
	hidden ops.Buf // [LensRows, hidden] after the final norm
}

// LensBytes returns what NewLens takes from its arena.
func (c *Config) LensBytes() int64 {
	return LensRows*int64(2*c.Hidden+c.Vocab)*ops.F32.Size() + 3*64
}

// NewLens takes the buffers of a lens.
func NewLens(arena ops.Arena, c *Config) (*Lens, error) {
	l := &Lens{}
	for _, buf := range []struct {
		what  string
		width int
		dst   *ops.Buf
	}{{"lens inputs", c.Hidden, &l.X}, {"lens hidden states", c.Hidden, &l.hidden}, {"lens logits", c.Vocab, &l.Logits}} {
		var err error
		if *buf.dst, err = arena.Alloc(buf.what, ops.F32, int64(LensRows*buf.width)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Record records logits = lm_head(norm(x)).
func (l *Lens) Record(set ops.Set, cfg *Config, w *Weights) {
	set.Logits(ops.LogitsArgs{X: l.X, Norm: w.Norm, Eps: cfg.Eps, Head: w.Head, Hidden: l.hidden, Logits: l.Logits})
}

// Step reads the first rows of X, and wants the logits of each.
func (l *Lens) Step(rows int) *ops.Step {
	s := ops.Segment{Kind: ops.Replay, Len: rows, Pages: []int32{0}} // nobody looks into the page
	for row := range rows {
		s.Logits = append(s.Logits, row)
	}
	return &ops.Step{IDs: make([]int32, rows), Segments: []ops.Segment{s}}
}
