package ops

import (
	"fmt"
	"math"
)

// Steering changes how the rows of a segment are routed: what a backend keeps in
// its steering tables. A nil Steering, and one that changes nothing, give the bits
// of a build without steering.
type Steering struct {
	Layers []LayerSteering // by layer; shorter where the rest is left alone
}

// LayerSteering is the steering of one layer. The zero value changes nothing.
//
// Choice: bias is added to the router logits that experts are ranked by; -Inf bans
// an expert, +Inf forces it to be chosen, before all others. Weights are made of
// the router logits as they were: softmax over all experts, divided by the sum of
// the chosen where the model renormalises. Then they are scaled, and not
// renormalised again.
type LayerSteering struct {
	Bias  []ExpertValue // ids ascending, each once
	Scale []ExpertValue // factor of the weight; ids ascending, each once
	K     int           // experts to choose, 1 to the model's; 0 for the model's
	// Gate is the factor of the shared expert's gate, less one: 0 leaves it alone,
	// -1 turns the shared expert off.
	Gate float32
	// Vector [hidden], times Strength, is added to the residual behind the layer;
	// nil adds nothing.
	Vector   []float32
	Strength float32
}

// ExpertValue is a number for one expert.
type ExpertValue struct {
	Expert int32
	Value  float32
}

// Check refuses steering that does not fit a model of so many layers, experts, k
// experts a token and hidden values, or that is no number. Nil fits all.
func (s *Steering) Check(layers, experts, k, hidden int) error {
	if s == nil {
		return nil
	}
	if len(s.Layers) > layers {
		return fmt.Errorf("ops: steering of %d layers for a model of %d", len(s.Layers), layers)
	}
	for i := range s.Layers {
		if err := s.Layers[i].check(experts, k, hidden); err != nil {
			return fmt.Errorf("ops: steering of layer %d: %w", i, err)
		}
	}
	return nil
}

func (l *LayerSteering) check(experts, k, hidden int) error {
	finite := func(v float32) bool { return v-v == 0 }
	for what, values := range map[string][]ExpertValue{"bias": l.Bias, "scale": l.Scale} {
		last := int32(-1)
		for _, v := range values {
			if v.Expert <= last || int(v.Expert) >= experts {
				return fmt.Errorf("%s of expert %d behind that of %d: ids ascend, from 0 to %d", what, v.Expert, last, experts-1)
			}
			if math.IsNaN(float64(v.Value)) || what == "scale" && !finite(v.Value) {
				return fmt.Errorf("%s of expert %d is %v", what, v.Expert, v.Value)
			}
			last = v.Expert
		}
	}
	if l.K < 0 || l.K > k {
		return fmt.Errorf("%d experts to choose: 1 to %d, or 0 for the model's", l.K, k)
	}
	if !finite(l.Gate) || !finite(l.Strength) {
		return fmt.Errorf("gate %v, strength %v: both must be finite", l.Gate, l.Strength)
	}
	if len(l.Vector) != 0 && len(l.Vector) != hidden {
		return fmt.Errorf("a vector of %d values for a hidden size of %d", len(l.Vector), hidden)
	}
	for i, v := range l.Vector {
		if !finite(v) {
			return fmt.Errorf("value %d of the vector is %v", i, v)
		}
	}
	return nil
}

// Neutral says that the layer is left alone.
func (l *LayerSteering) Neutral() bool {
	return len(l.Bias) == 0 && len(l.Scale) == 0 && l.K == 0 && l.Gate == 0 && !l.Adds()
}

// Adds says that there is a vector to add.
func (l *LayerSteering) Adds() bool { return len(l.Vector) > 0 && l.Strength != 0 }
