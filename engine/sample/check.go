package sample

import (
	"fmt"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// ParamError says which parameter cannot be served, and what can.
type ParamError struct {
	Field   string // as in Params, for example "TopP" or "DRY.Base"
	Value   any
	Message string
}

func (e *ParamError) Error() string {
	return fmt.Sprintf("sample: %s is %v: %s", e.Field, e.Value, e.Message)
}

// maxBias bounds what an edit may add: more would leave no digits to the logit.
const maxBias = 1e6

// Check returns a *ParamError for the first parameter that cannot be served
// with so many rows in the vocabulary. NaN never can.
func (p *Params) Check(vocab int) error {
	for _, f := range []struct {
		name      string
		value     float32
		low, high float32
		off       bool // 0 is allowed beside the range
	}{
		{"Temperature", p.Temperature, 0, 1000, false},
		{"TopP", p.TopP, 0, 1, false},
		{"MinP", p.MinP, 0, 1, false},
		{"Typical", p.Typical, 0, 1, false},
		{"TopNSigma", p.TopNSigma, 0, 1000, false},
		{"XTCProbability", p.XTCProbability, 0, 1, false},
		{"XTCThreshold", p.XTCThreshold, 0, 1, false},
		{"DRY.Multiplier", p.DRY.Multiplier, 0, 1000, false},
		{"DRY.Base", p.DRY.Base, 1, 1000, true},
		{"Mirostat.Tau", p.Mirostat.Tau, 0, 100, false},
		{"Mirostat.Eta", p.Mirostat.Eta, 0, 10, false},
		{"DynamicRange", p.DynamicRange, 0, 1000, false},
		{"DynamicExponent", p.DynamicExponent, 0, 100, false},
		{"Repetition", p.Repetition, .01, 100, true},
		{"Presence", p.Presence, -100, 100, false},
		{"Frequency", p.Frequency, -100, 100, false},
	} {
		if !(f.value >= f.low && f.value <= f.high || f.off && f.value == 0) {
			return &ParamError{f.name, f.value, fmt.Sprintf("it lies in %v to %v", f.low, f.high)}
		}
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"TopK", p.TopK}, {"DRY.AllowedLength", p.DRY.AllowedLength}, {"PenaltyLastN", p.PenaltyLastN}} {
		if f.value < 0 {
			return &ParamError{f.name, f.value, "it must not be negative"}
		}
	}
	return p.checkLists(vocab)
}

func (p *Params) checkLists(vocab int) error {
	last := int32(-1)
	for _, b := range p.Bias {
		switch {
		case b.ID <= last || int(b.ID) >= vocab:
			return &ParamError{"Bias", b.ID, fmt.Sprintf("ids ascend, each once, in 0 to %d", vocab-1)}
		case !(b.Value <= maxBias):
			return &ParamError{"Bias", b.Value, fmt.Sprintf("an edit of token %d is at most %g; -Inf bans it", b.ID, float64(maxBias))}
		}
		last = b.ID
	}
	last = -1
	for _, id := range p.DRY.Breakers {
		if id <= last || int(id) >= vocab {
			return &ParamError{"DRY.Breakers", id, fmt.Sprintf("ids ascend, each once, in 0 to %d", vocab-1)}
		}
		last = id
	}
	if words := (vocab + 31) / 32; len(p.Mask) > words {
		return &ParamError{"Mask", len(p.Mask), fmt.Sprintf("a vocabulary of %d has %d words of 32 bits", vocab, words)}
	}
	for i, stage := range p.Order {
		switch {
		case !slices.Contains(DefaultOrder, stage):
			return &ParamError{"Order", stage, fmt.Sprintf("the stages are %v", DefaultOrder)}
		case slices.Contains(p.Order[:i], stage):
			return &ParamError{"Order", stage, "a stage runs once"}
		}
	}
	return nil
}

// stages returns the order without the stages that change nothing. Nothing
// changes either after a temperature of 0, which leaves one token.
func (p *Params) stages() []Stage {
	order := p.Order
	if order == nil {
		order = DefaultOrder
	}
	var active []Stage
	for _, stage := range order {
		filter := true
		var on bool
		switch stage {
		case StageDRY:
			on, filter = p.DRY.Multiplier > 0, false
		case StageTopNSigma:
			on = p.TopNSigma > 0
		case StageTemperature:
			on, filter = p.Temperature != 1 || p.DynamicRange > 0, false
		case StageTopK:
			on = p.TopK > 0
		case StageTypical:
			on = p.Typical > 0 && p.Typical < 1
		case StageTopP:
			on = p.TopP > 0 && p.TopP < 1
		case StageMinP:
			on = p.MinP > 0
		case StageXTC:
			// Two tokens cannot both have more than half.
			on = p.XTCProbability > 0 && p.XTCThreshold <= .5
		}
		if !on || filter && p.Mirostat.Tau > 0 {
			continue
		}
		if active = append(active, stage); stage == StageTemperature && p.Temperature == 0 {
			return active
		}
	}
	return active
}

// device says whether the device's chain, in its order, does what the stages do.
func (p *Params) device(stages []Stage) bool {
	if p.Mirostat.Tau > 0 || p.DynamicRange > 0 && slices.Contains(stages, StageTemperature) {
		return false
	}
	next := 0
	for _, stage := range stages {
		at := slices.Index([]Stage{StageTemperature, StageTopK, StageTopP, StageMinP}, stage)
		if at < next {
			return false
		}
		next = at + 1
	}
	return true
}

// sampling returns what every draw asks of the device: edits, and its chain.
func (p *Params) sampling(stages []Stage, choice uint32) ops.Sampling {
	s := ops.Sampling{
		Repetition: p.Repetition, Presence: p.Presence, Frequency: p.Frequency, Mask: p.Mask,
		Temperature: 1, TopP: 1, Seed: p.Seed, Choice: choice, Watch: -1,
	}
	if !p.device(stages) {
		s.Window = window
		return s
	}
	for _, stage := range stages {
		switch stage {
		case StageTemperature:
			s.Temperature = p.Temperature
		case StageTopK:
			s.TopK = p.TopK
		case StageTopP:
			s.TopP = p.TopP
		case StageMinP:
			s.MinP = p.MinP
		}
	}
	return s
}
