package hook

import (
	"math"
	"slices"
)

// Op is the kind of an edit.
type Op uint8

// Edits of logits.
const (
	Bias  Op = iota // adds Value to the logits of IDs; -Inf bans
	Ban             // IDs cannot be drawn
	Only            // nothing but IDs can be drawn
	Scale           // multiplies all logits by Value
	Add             // adds Value times the logits of sequence Other
)

var opNames = [...]string{"bias", "ban", "only", "scale", "add"}

func (o Op) String() string { return opNames[o] }

// Edit is one recorded edit.
type Edit struct {
	Op    Op
	IDs   []int32
	Value float32
	Other int
}

// Bounds of what a token's edits may hold.
const (
	MaxEdits = 1 << 12 // edits
	MaxIDs   = 1 << 18 // ids in them together
	maxBias  = 1e6     // more would leave no digits to the logit
)

// Setting is a value of the sampling chain that an edit may set for a token.
type Setting uint8

// Settings.
const (
	Temperature Setting = iota
	TopK
	TopP
	MinP
	Typical
	settings
)

var settingNames = [...]string{"temperature", "topK", "topP", "minP", "typical"}

func (s Setting) String() string { return settingNames[s] }

// highest is the largest value of each setting; 0 is the least, and switches all
// but temperature off.
var highest = [...]float64{1000, math.MaxInt32, 1, 1, 1}

// Values are the settings that were set.
type Values struct {
	set   [settings]bool
	value [settings]float64
}

// Get returns a setting, and whether it was set.
func (v *Values) Get(s Setting) (float64, bool) { return v.value[s], v.set[s] }

// Edits is a list of edits of one row of logits, in call order, and of the values
// that the sampling chain takes for it. Every method checks what it is given and
// records nothing when it refuses it. Errors are *Fault.
type Edits struct {
	tokens int // ids that may be drawn: 0 to tokens-1
	list   []Edit
	ids    int
	values Values
	folded *Folded      // of the list, where it is known
	check  func() error // whether the handle may still be used; nil for always
	others int          // sequences that can be added
}

// NewEdits returns an empty list for a vocabulary of so many tokens.
func NewEdits(tokens int) *Edits { return &Edits{tokens: tokens} }

// List returns what was recorded.
func (e *Edits) List() []Edit { return e.list }

// Values returns what was set.
func (e *Edits) Values() Values { return e.values }

// Empty says that nothing was recorded or set.
func (e *Edits) Empty() bool { return len(e.list) == 0 && e.values == Values{} }

// Bias adds a value to the logits of some tokens; minus infinity bans them.
func (e *Edits) Bias(ids []int32, value float32) error {
	switch {
	case value != value:
		return faultf(NotANumber, "bias of NaN")
	case !(value <= maxBias) || value < -maxBias && !math.IsInf(float64(value), -1):
		return faultf(BadValue, "bias of %v: it lies in %g to %g, or is -Infinity to ban", value, -float64(maxBias), float64(maxBias))
	}
	return e.record(Edit{Op: Bias, IDs: ids, Value: value})
}

// Ban keeps tokens from being drawn.
func (e *Edits) Ban(ids []int32) error { return e.record(Edit{Op: Ban, IDs: ids}) }

// Only keeps all other tokens from being drawn. Of two lists, what both have stays.
func (e *Edits) Only(ids []int32) error {
	if len(ids) == 0 {
		return faultf(NothingLeft, "only of nothing: name at least one token")
	}
	return e.record(Edit{Op: Only, IDs: ids})
}

// Scale multiplies all logits, and the biases before it.
func (e *Edits) Scale(x float32) error {
	switch {
	case x != x:
		return faultf(NotANumber, "scale of NaN")
	case !(x > 0 && x <= maxBias):
		return faultf(BadValue, "scale of %v: it is positive and at most %g", x, float64(maxBias))
	}
	return e.record(Edit{Op: Scale, Value: x})
}

// Add adds the logits of another sequence of the request, times a weight.
func (e *Edits) Add(other int, weight float32) error {
	switch {
	case weight != weight:
		return faultf(NotANumber, "add with a weight of NaN")
	case !(weight >= -maxBias && weight <= maxBias):
		return faultf(BadValue, "add with a weight of %v: it lies in %g to %g", weight, -float64(maxBias), float64(maxBias))
	case other < 0 || other >= e.others:
		return faultf(BadID, "add of sequence %d: the request has %d", other, e.others)
	}
	return e.record(Edit{Op: Add, Value: weight, Other: other})
}

// Set sets a value of the chain for this token; the last one counts.
func (e *Edits) Set(s Setting, value float64) error {
	if err := e.usable(); err != nil {
		return err
	}
	switch {
	case value != value:
		return faultf(NotANumber, "%s of NaN", s)
	case !(value >= 0 && value <= highest[s]):
		return faultf(BadValue, "%s of %v: it lies in 0 to %v", s, value, highest[s])
	case s == TopK && value != math.Trunc(value):
		return faultf(BadValue, "topK of %v: it is a whole number", value)
	}
	e.values.set[s], e.values.value[s] = true, value
	e.folded = nil
	return nil
}

func (e *Edits) usable() error {
	if e.check == nil {
		return nil
	}
	return e.check()
}

// record checks the ids and bounds of an edit and keeps a copy.
func (e *Edits) record(edit Edit) error {
	if err := e.usable(); err != nil {
		return err
	}
	for _, id := range edit.IDs {
		if id < 0 || int(id) >= e.tokens {
			return faultf(BadID, "%s of token %d: ids lie in 0 to %d", edit.Op, id, e.tokens-1)
		}
	}
	if len(e.list) == MaxEdits || e.ids+len(edit.IDs) > MaxIDs {
		return faultf(BadValue, "%s of %d tokens after %d edits of %d: a token has at most %d edits of %d tokens together",
			edit.Op, len(edit.IDs), len(e.list), e.ids, MaxEdits, MaxIDs)
	}
	if len(edit.IDs) == 0 && (edit.Op == Bias || edit.Op == Ban) {
		return nil
	}
	edit.IDs = slices.Clone(edit.IDs)
	e.list, e.ids, e.folded = append(e.list, edit), e.ids+len(edit.IDs), nil
	return nil
}

// behind puts the edits of a hook of lower priority behind these: its transforms
// come later, its settings count where there are none. It refuses what would leave
// nothing to draw. It changes neither of the two.
func (e *Edits) behind(other *Edits) (*Edits, error) {
	if other.Empty() {
		return e, nil
	}
	both := Edits{tokens: e.tokens, list: append(e.list[:len(e.list):len(e.list)], other.list...), values: e.values}
	for s := range settings {
		if !both.values.set[s] && other.values.set[s] {
			both.values.set[s], both.values.value[s] = true, other.values.value[s]
		}
	}
	folded, err := both.Fold()
	if err != nil {
		return nil, err
	}
	both.folded = folded
	return &both, nil
}
