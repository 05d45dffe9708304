package hook

import "slices"

// Candidate is a token with its place in a distribution.
type Candidate struct {
	ID      int32
	Logit   float32
	Logprob float32 // natural log
}

// Prompt is a prompt before it is read. A hook may replace IDs.
type Prompt struct {
	IDs []int32
}

// Logits is a row of logits on its way to a draw: what to change, and what it is.
type Logits struct {
	*Edits
	*Reads
	beside []*Reads
}

// Beside returns the reads of a sequence's row beside (see Call.Sequence): the logits
// that it gives for the same token.
func (l *Logits) Beside(sequence int) (*Reads, error) {
	if sequence < 0 || sequence >= len(l.beside) {
		return nil, faultf(BadID, "sequence %d: the request has %d", sequence, len(l.beside))
	}
	return l.beside[sequence], nil
}

// Token is a token that was chosen.
type Token struct {
	Position int
	ID       int32
	Text     string  // its bytes as text, broken characters replaced
	Logprob  float32 // of the model's distribution
	Forced   bool    // injected, not drawn
}

// Finish says how a choice ended.
type Finish struct {
	Reason     string // "stop", "length", "cancelled", "error", or what a hook stopped it for
	Prompt     int    // tokens
	Completion int    // tokens
}

// Chooser lets a hook choose in the place of the chain.
type Chooser interface {
	// Candidates returns up to n of the tokens that the chain left, most likely
	// first; log-probabilities are of what is left.
	Candidates(n int) ([]Candidate, error)
	// Draw draws as the chain would.
	Draw() (int32, error)
}

// MaxCandidates bounds what Candidates.Top shows.
const MaxCandidates = 256

// Candidates is what the chain left of the vocabulary.
type Candidates struct {
	call  *Call
	from  Chooser
	list  []Candidate
	drawn *int32
}

// NewCandidates shows what a chooser has to a call; nil does where no cost is kept.
func NewCandidates(call *Call, from Chooser) *Candidates { return &Candidates{call: call, from: from} }

// Top returns the most likely tokens, MaxCandidates at most.
func (c *Candidates) Top() ([]Candidate, error) {
	if err := c.call.Usable(); err != nil {
		return nil, err
	}
	if c.list == nil {
		defer c.call.wait(ReadTop)()
		list, err := c.from.Candidates(MaxCandidates)
		if err != nil {
			return nil, err
		}
		c.list = list
	}
	return slices.Clone(c.list), nil
}

// Draw returns the token that the chain would choose; the same at every call.
func (c *Candidates) Draw() (int32, error) {
	if err := c.call.Usable(); err != nil {
		return 0, err
	}
	if c.drawn == nil {
		defer c.call.wait(ReadTop)()
		id, err := c.from.Draw()
		if err != nil {
			return 0, err
		}
		c.drawn = &id
	}
	return *c.drawn, nil
}

// Record is what a row of a forward pass was routed to, in every layer.
type Record struct {
	Position  int
	Prompt    bool
	Layers, K int
	IDs       []uint16  // [Layers, K], best first; NoExpert where fewer were chosen
	Weights   []float32 // likewise, as applied
}

// NoExpert fills the ranks of Record.IDs that no expert has.
const NoExpert = 1<<16 - 1

// of returns a layer's experts.
func (r *Record) of(layer int) []uint16 { return r.IDs[layer*r.K:][:r.K] }
