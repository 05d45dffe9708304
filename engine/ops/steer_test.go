package ops

import (
	"math"
	"strings"
	"testing"
)

func TestSteeringCheck(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	value := func(expert int32, v float32) []ExpertValue { return []ExpertValue{{Expert: expert, Value: v}} }
	for _, c := range []struct {
		layer LayerSteering
		want  string // of the error; "" for none
	}{
		{LayerSteering{}, ""},
		{LayerSteering{Bias: []ExpertValue{{0, -inf}, {7, inf}}, Scale: value(7, -2), K: 3, Gate: -1, Vector: make([]float32, 5), Strength: 2}, ""},
		{LayerSteering{Bias: value(8, 0)}, "bias of expert 8 behind that of -1: ids ascend, from 0 to 7"},
		{LayerSteering{Scale: value(-1, 0)}, "scale of expert -1"},
		{LayerSteering{Bias: []ExpertValue{{3, 0}, {3, 0}}}, "bias of expert 3 behind that of 3"},
		{LayerSteering{Bias: value(1, nan)}, "bias of expert 1 is NaN"},
		{LayerSteering{Scale: value(1, inf)}, "scale of expert 1 is +Inf"},
		{LayerSteering{K: 4}, "4 experts to choose: 1 to 3"},
		{LayerSteering{K: -1}, "-1 experts to choose"},
		{LayerSteering{Gate: nan}, "gate NaN"},
		{LayerSteering{Strength: inf}, "strength +Inf"},
		{LayerSteering{Vector: make([]float32, 4)}, "a vector of 4 values for a hidden size of 5"},
		{LayerSteering{Vector: []float32{0, 0, nan, 0, 0}}, "value 2 of the vector is NaN"},
	} {
		err := (&Steering{Layers: []LayerSteering{{}, c.layer}}).Check(2, 8, 3, 5)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.layer, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "layer 1: ") || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, expected %q", c.layer, err, c.want)
		}
	}
	if err := (*Steering)(nil).Check(0, 0, 0, 0); err != nil {
		t.Errorf("nil: %v", err)
	}
	if err := (&Steering{Layers: make([]LayerSteering, 3)}).Check(2, 8, 3, 5); err == nil {
		t.Error("three layers fit two")
	}
}
