package hook

import (
	"cmp"
	"math"
	"slices"
)

// Source shows a row of logits. Its methods may wait for a device.
type Source interface {
	// Top returns the k most likely tokens, best first, the lower id among equals.
	Top(k int) ([]Candidate, error)
	Logprob(id int32) (float32, error)
	Entropy() (float32, error) // in nats
	// Row returns all logits; who calls it does not write to them.
	Row() ([]float32, error)
}

// Reads are the reads of one row: of the row as it enters the hooks (after grammar,
// penalties and the user's bias, before any hook's edits), or of the model's own.
// Each fetches once what it needs. Errors are *Fault, or the source's.
type Reads struct {
	call    *Call // nil where no cost is kept
	tokens  int
	from    Source
	model   *Reads
	top     []Candidate
	asked   int // k of top
	entropy *float32
	row     []float32
	logprob map[int32]float32
}

// NewReads reads from a source of so many tokens, and the model's distribution from
// another.
func NewReads(tokens int, entry, model Source) *Reads {
	return &Reads{tokens: tokens, from: entry, model: &Reads{tokens: tokens, from: model}}
}

// bind binds memoised reads to a call, which pays for what they fetch.
func (r *Reads) bind(call *Call) {
	r.call = call
	if r.model != nil {
		r.model.call = call
	}
}

// Model returns the reads of the model's own distribution.
func (r *Reads) Model() *Reads {
	if r.model == nil {
		return r
	}
	return r.model
}

// Top returns the k most likely tokens, best first.
func (r *Reads) Top(k int) ([]Candidate, error) {
	if k < 0 || k > r.tokens {
		return nil, faultf(BadValue, "top of %d: 0 to %d tokens are there", k, r.tokens)
	}
	if err := r.usable(); err != nil {
		return nil, err
	}
	if k > r.asked {
		class := ReadTop
		if k > MaxCandidates {
			class = ReadRow
		}
		done := r.call.wait(class)
		top, err := r.from.Top(k)
		done()
		if err != nil {
			return nil, err
		}
		r.top, r.asked = top, k
	}
	return slices.Clone(r.top[:min(k, len(r.top))]), nil
}

// Logprob returns the natural logarithm of a token's probability.
func (r *Reads) Logprob(id int32) (float32, error) {
	if err := r.check(id); err != nil {
		return 0, err
	}
	if at := slices.IndexFunc(r.top, func(c Candidate) bool { return c.ID == id }); at >= 0 {
		return r.top[at].Logprob, nil
	}
	if v, ok := r.logprob[id]; ok {
		return v, nil
	}
	done := r.call.wait(ReadSum)
	v, err := r.from.Logprob(id)
	done()
	if err != nil {
		return 0, err
	}
	if r.logprob == nil {
		r.logprob = map[int32]float32{}
	}
	r.logprob[id] = v
	return v, nil
}

// Prob returns a token's probability.
func (r *Reads) Prob(id int32) (float32, error) {
	v, err := r.Logprob(id)
	return float32(math.Exp(float64(v))), err
}

// Entropy returns the entropy of the distribution in nats.
func (r *Reads) Entropy() (float32, error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	if r.entropy == nil {
		done := r.call.wait(ReadSum)
		v, err := r.from.Entropy()
		done()
		if err != nil {
			return 0, err
		}
		r.entropy = &v
	}
	return *r.entropy, nil
}

// Rank returns how many tokens are more likely: 0 for the most likely.
func (r *Reads) Rank(id int32) (int, error) {
	if err := r.check(id); err != nil {
		return 0, err
	}
	if at := slices.IndexFunc(r.top, func(c Candidate) bool { return c.ID == id }); at >= 0 {
		return at, nil
	}
	row, err := r.whole()
	if err != nil {
		return 0, err
	}
	rank := 0
	for other, v := range row {
		if v > row[id] || v == row[id] && int32(other) < id {
			rank++
		}
	}
	return rank, nil
}

// Full returns a copy of all logits.
func (r *Reads) Full() ([]float32, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	row, err := r.whole()
	return slices.Clone(row), err
}

func (r *Reads) whole() ([]float32, error) {
	if r.row == nil {
		done := r.call.wait(ReadRow)
		row, err := r.from.Row()
		done()
		if err != nil {
			return nil, err
		}
		r.row = row[:min(len(row), r.tokens)]
	}
	return r.row, nil
}

func (r *Reads) check(id int32) error {
	if id < 0 || int(id) >= r.tokens {
		return faultf(BadID, "token %d: ids lie in 0 to %d", id, r.tokens-1)
	}
	return r.usable()
}

func (r *Reads) usable() error {
	if r.call == nil {
		return nil
	}
	return r.call.Usable()
}

// Plain is a Source on the host: the plain form of every read.
type Plain []float32

// Top implements Source. Tokens that cannot be drawn, at minus infinity, are left out.
func (r Plain) Top(k int) ([]Candidate, error) {
	list := make([]Candidate, 0, len(r))
	norm := r.logSumExp()
	for id, v := range r {
		if v >= -math.MaxFloat32 {
			list = append(list, Candidate{int32(id), v, float32(float64(v) - norm)})
		}
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(b.Logit, a.Logit) })
	return slices.Clone(list[:min(k, len(list))]), nil
}

// Logprob implements Source.
func (r Plain) Logprob(id int32) (float32, error) {
	return float32(float64(r[id]) - r.logSumExp()), nil
}

// Entropy implements Source.
func (r Plain) Entropy() (float32, error) {
	h, norm := 0.0, r.logSumExp()
	for _, v := range r {
		if v >= -math.MaxFloat32 {
			logprob := float64(v) - norm
			h -= math.Exp(logprob) * logprob
		}
	}
	return float32(h), nil
}

// Row implements Source.
func (r Plain) Row() ([]float32, error) { return r, nil }

func (r Plain) logSumExp() float64 {
	best, sum := float64(slices.Max(r)), 0.0
	for _, v := range r {
		sum += math.Exp(float64(v) - best)
	}
	return best + math.Log(sum)
}
