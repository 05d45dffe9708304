package hook

import (
	"maps"
	"math"
	"math/bits"
	"slices"
)

// Value is an edit of one logit.
type Value struct {
	ID    int32
	Value float32
}

// Weight is the part of another sequence's logits that is added.
type Weight struct {
	Other int
	Value float32
}

// Folded is a list of edits as one formula, which a device can work out for each
// token by itself, in this order:
//
//	logit = Scale*logit + sum of Add + Bias, if Mask has the token
//
// Where a list says otherwise (a bias before a scale), the fold has done the sum.
// What changes nothing is left out: without a scale the logit is not multiplied.
type Folded struct {
	Scale  float32  // 1 for none
	Add    []Weight // sequences ascending, each once
	Bias   []Value  // ids ascending, each once; -Inf bans
	Mask   []uint32 // a bit for each id that may be drawn, lowest first; nil for all
	Values Values
}

// Neutral says that the row is left alone and drawn as the request says.
func (f *Folded) Neutral() bool {
	return f.Scale == 1 && len(f.Add) == 0 && len(f.Bias) == 0 && f.Mask == nil && f.Values == Values{}
}

// maxBans is how many banned tokens are listed one by one; more become a mask.
const maxBans = 512

// Fold makes one formula of the list. The error, a *Fault, says that nothing would
// be left to draw.
func (e *Edits) Fold() (*Folded, error) {
	if e.folded != nil {
		return e.folded, nil
	}
	f := &Folded{Scale: 1, Values: e.values}
	if len(e.list) == 0 && e.tokens > 0 {
		return f, nil
	}
	bias, banned, add := map[int32]float32{}, map[int32]bool{}, map[int]float32{}
	var only []uint32
	for _, edit := range e.list {
		switch edit.Op {
		case Bias:
			for _, id := range edit.IDs {
				if math.IsInf(float64(edit.Value), -1) {
					banned[id] = true
				} else {
					bias[id] += edit.Value
				}
			}
		case Ban:
			for _, id := range edit.IDs {
				banned[id] = true
			}
		case Only:
			only = e.mask(only, edit.IDs)
		case Scale:
			f.Scale *= edit.Value
			for id := range bias {
				bias[id] *= edit.Value
			}
			for other := range add {
				add[other] *= edit.Value
			}
		case Add:
			add[edit.Other] += edit.Value
		}
	}
	if !(f.Scale > 0 && f.Scale <= maxBias) {
		return nil, faultf(BadValue, "the scales multiply to %v: their product is positive and at most %g", f.Scale, float64(maxBias))
	}
	for _, other := range slices.Sorted(maps.Keys(add)) {
		if add[other] != 0 {
			f.Add = append(f.Add, Weight{other, add[other]})
		}
	}
	return f, f.limit(e.tokens, bias, banned, only)
}

// mask keeps of a mask, or of all, what is listed.
func (e *Edits) mask(have []uint32, ids []int32) []uint32 {
	listed := make([]uint32, (e.tokens+31)/32)
	for _, id := range ids {
		listed[id/32] |= 1 << (id % 32)
	}
	for i := range have {
		listed[i] &= have[i]
	}
	return listed
}

// limit fills in biases and mask and counts what they leave.
func (f *Folded) limit(tokens int, bias map[int32]float32, banned map[int32]bool, only []uint32) error {
	mask := only
	if mask == nil && len(banned) > maxBans {
		mask = make([]uint32, (tokens+31)/32)
		for i := range tokens {
			mask[i/32] |= 1 << (i % 32)
		}
	}
	left := tokens - len(banned)
	if mask != nil {
		for id := range banned {
			mask[id/32] &^= 1 << (id % 32)
		}
		left = 0
		for _, word := range mask {
			left += bits.OnesCount32(word)
		}
		if left == tokens {
			mask = nil // it names all
		}
	} else {
		for id := range banned {
			bias[id] = float32(math.Inf(-1))
		}
	}
	if left <= 0 {
		return faultf(NothingLeft, "the edits ban all %d tokens: leave at least one", tokens)
	}
	f.Mask = mask
	for _, id := range slices.Sorted(maps.Keys(bias)) {
		if bias[id] != 0 {
			f.Bias = append(f.Bias, Value{id, bias[id]})
		}
	}
	return nil
}

// Apply edits a row in place: the plain form of what a device does. A logit that is
// no number, or too large for one, bans its token; ids behind the row are passed
// over. other returns the logits of another sequence.
func (f *Folded) Apply(logits []float32, other func(int) []float32) {
	never := float32(math.Inf(-1))
	if f.Scale != 1 {
		for i := range logits {
			logits[i] *= f.Scale
		}
	}
	for _, w := range f.Add {
		for i, v := range other(w.Other)[:len(logits)] {
			logits[i] += float32(w.Value * v) // rounded before the sum, as everywhere
		}
	}
	for _, b := range f.Bias {
		if int(b.ID) < len(logits) {
			logits[b.ID] += b.Value
		}
	}
	for i, v := range logits {
		if !(v <= math.MaxFloat32) || f.Mask != nil && (i/32 >= len(f.Mask) || f.Mask[i/32]>>(i%32)&1 == 0) {
			logits[i] = never
		}
	}
}

// Allows says whether a token may be drawn.
func (f *Folded) Allows(id int32) bool {
	if f.Mask != nil && (int(id/32) >= len(f.Mask) || f.Mask[id/32]>>(id%32)&1 == 0) {
		return false
	}
	at, found := slices.BinarySearchFunc(f.Bias, id, func(b Value, id int32) int { return int(b.ID) - int(id) })
	return !found || !math.IsInf(float64(f.Bias[at].Value), -1)
}
