package cuda

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

var (
	ban   = float32(math.Inf(-1))
	force = float32(math.Inf(1))
)

// steerings by what they do, for mixtureSmall: 40 experts, 4 of them chosen.
func (w *mixtureTwin) steerings() map[string]ops.LayerSteering {
	vector := make([]float32, w.hidden)
	for i := range vector {
		vector[i] = w.normal(1)(i)
	}
	all := func(v func(int) float32) (values []ops.ExpertValue) {
		for e := range w.experts {
			values = append(values, ops.ExpertValue{Expert: int32(e), Value: v(e)})
		}
		return values
	}
	return map[string]ops.LayerSteering{
		"bias":           {Bias: []ops.ExpertValue{{Expert: 3, Value: 4}, {Expert: 39, Value: -2}}},
		"ban":            {Bias: all(func(e int) float32 { return []float32{ban, 0}[e%2] })},
		"ban but two":    {Bias: all(func(e int) float32 { return map[bool]float32{true: 0, false: ban}[e == 7 || e == 21] })},
		"ban all":        {Bias: all(func(int) float32 { return ban })},
		"force":          {Bias: []ops.ExpertValue{{Expert: 17, Value: force}, {Expert: 30, Value: force}}},
		"force too many": {Bias: all(func(int) float32 { return force })},
		"scale":          {Scale: all(func(e int) float32 { return float32(e) / 20 })},
		"fewer":          {K: 2},
		"as many":        {K: 4},
		"gate off":       {Gate: -1},
		"gate twice":     {Gate: 1},
		"vector":         {Vector: vector, Strength: -.5},
		"all": {Bias: all(func(e int) float32 { return float32(e%5) - 2 }), Scale: all(func(e int) float32 { return 1 - float32(e%3) }),
			K: 3, Gate: .25, Vector: vector, Strength: 3},
	}
}

// Every kind of steering does on the device what it does on the CPU, to its own rows,
// beside rows that are left alone.
func TestSteering(t *testing.T) {
	for _, c := range []struct {
		numerics Numerics
		bound    float64
	}{{Exact, 2e-6}, {Fast, 1e-3}} {
		for _, renormalise := range []bool{true, false} {
			shape := mixtureSmall
			shape.renormalise = renormalise
			w := newMixture(t, c.numerics, shape, decodeRows)
			for name, l := range w.steerings() {
				t.Run(fmt.Sprintf("%s, %s, %v", name, c.numerics, renormalise), func(t *testing.T) {
					w := *w
					twin := *w.twin
					twin.TB = t
					w.twin = &twin
					const rows = 3
					in := w.inputs(rows)
					step := singles(rows)
					step.Segments[0].Steer = &ops.Steering{Layers: []ops.LayerSteering{l}}
					step.Segments[2].Steer = &ops.Steering{Layers: []ops.LayerSteering{{}, l}}
					w.run(in, step)
					w.compare(in, rows, c.bound)
				})
			}
		}
	}
}

// What steering promises of the choice, read from the device's record.
func TestSteeringChoice(t *testing.T) {
	w := newMixture(t, Fast, mixtureSmall, decodeRows)
	all := w.steerings()
	in := w.inputs(1)
	chosen := func(l ops.LayerSteering) (ids []uint16, weights []float32) {
		step := singles(1)
		step.Segments[0].Steer = &ops.Steering{Layers: []ops.LayerSteering{l}}
		w.run(in, step)
		return slices.Clone(w.deviceRoute.IDs[:w.k]), slices.Clone(w.deviceRoute.Weights[:w.k])
	}
	plain, _ := chosen(ops.LayerSteering{})
	const none = ops.NoExpert
	for name, want := range map[string][]uint16{
		"ban but two":    {7, 21, none, none},
		"ban all":        {none, none, none, none},
		"force":          {17, 30, plain[0], plain[1]},
		"force too many": {0, 1, 2, 3},
		"fewer":          {plain[0], plain[1], none, none},
		"scale":          plain,
	} {
		ids, weights := chosen(all[name])
		if name == "ban but two" && in.logits[0][21] > in.logits[0][7] {
			want = []uint16{21, 7, none, none}
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s chooses %v, expected %v", name, ids, want)
		}
		sum := float32(0)
		for rank, id := range ids {
			if sum += weights[rank]; id == none && weights[rank] != 0 {
				t.Errorf("%s: no expert has weight %g", name, weights[rank])
			}
		}
		if name != "scale" && name != "ban all" && math.Abs(float64(sum)-1) > 1e-6 {
			t.Errorf("%s: weights %v do not sum to 1", name, weights)
		}
	}
	ids, _ := chosen(all["ban"])
	for _, id := range ids {
		if id%2 == 0 {
			t.Errorf("a banned expert was chosen: %v", ids)
		}
	}
}

// Steering that changes nothing has the bits of none at all.
func TestNeutralSteering(t *testing.T) {
	for _, n := range []Numerics{Exact, Fast} {
		w := newMixture(t, n, mixtureSmall, decodeRows)
		in := w.inputs(2)
		w.run(in, singles(2))
		_, plain := w.live(w.x, 2, w.hidden)
		routes := w.deviceRoute
		routes.IDs, routes.Weights = slices.Clone(routes.IDs), slices.Clone(routes.Weights)
		zeros := []ops.ExpertValue{{Expert: 0}, {Expert: 39}}
		ones := []ops.ExpertValue{{Expert: 0, Value: 1}, {Expert: 39, Value: 1}}
		for name, l := range map[string]ops.LayerSteering{
			"zero": {}, "zero bias": {Bias: zeros}, "scale of one": {Scale: ones}, "own k": {K: w.k},
			"vector without strength": {Vector: make([]float32, w.hidden)},
		} {
			step := singles(2)
			step.Segments[1].Steer = &ops.Steering{Layers: []ops.LayerSteering{l, l}}
			w.run(in, step)
			_, steered := w.live(w.x, 2, w.hidden)
			if !slices.EqualFunc(plain, steered, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
				t.Errorf("%s, %s: the residual differs by %.3g", n, name, far(plain, steered))
			}
			if !slices.Equal(routes.IDs, w.deviceRoute.IDs) || !slices.Equal(routes.Weights, w.deviceRoute.Weights) {
				t.Errorf("%s, %s: the choice differs", n, name)
			}
		}
	}
}

// A slot's table follows the steering of its segments from step to step, and more
// changes than staging holds wait for one another.
func TestSteeringChanges(t *testing.T) {
	w := newMixture(t, Exact, mixtureSmall, decodeRows)
	all := w.steerings()
	const rows = 5
	in := w.inputs(rows)
	one := func(names ...string) *ops.Steering {
		s := &ops.Steering{}
		for _, name := range names {
			s.Layers = append(s.Layers, all[name])
		}
		return s
	}
	vector, both := one("vector"), one("all", "all")
	for _, s := range [][]*ops.Steering{
		{both, both, both, both, both},
		{vector, one("", "force"), nil, one("fewer", "vector"), {}},
		{both, nil, vector, one("bias"), one("all", "scale")},
		{{}, {}, {}, {}, {}},
		{vector, vector, both, nil, both},
	} {
		step := singles(rows)
		for i := range s {
			step.Segments[i].Steer = s[i]
		}
		w.run(in, step)
		w.compare(in, rows, 2e-6)
	}
}

// Steering that does not fit is refused before anything runs, on either side.
func TestSteeringRefused(t *testing.T) {
	w := newMixture(t, Exact, mixtureDense, decodeRows)
	step := singles(1)
	step.Segments[0].Steer = &ops.Steering{Layers: []ops.LayerSteering{{K: 3}}}
	for _, p := range []ops.Program{w.onHost, w.onDevice} {
		if _, err := p.Submit(step); err == nil || !strings.Contains(err.Error(), "layer 0: 3 experts to choose") {
			t.Errorf("3 of 2 experts to choose: %v", err)
		}
	}
	step = singles(2)
	step.Segments[1].Slot = 0
	for i := range step.Segments {
		step.Segments[i].Steer = &ops.Steering{}
	}
	if _, err := w.onDevice.Submit(step); err == nil || !strings.Contains(err.Error(), "slot 0 are steered differently") {
		t.Errorf("two steerings of a slot: %v", err)
	}
}

// A NaN is chosen only where nothing else is left, and no expert twice.
func TestChoiceAmongNaN(t *testing.T) {
	w := newMixture(t, Exact, mixtureSmall, decodeRows)
	in := w.inputs(3)
	nan := float32(math.NaN())
	row := func(i int) []float32 { return in.logits[0][i*w.experts:][:w.experts] }
	for i := range w.experts {
		if row(1)[i] = nan; i%11 == 5 { // 5, 16, 27, 38
			row(1)[i] = -float32(i)
		}
		row(2)[i] = nan
	}
	row(0)[0], row(0)[9], row(2)[20] = nan, ban, ban
	w.run(in, singles(3))
	got := w.deviceRoute.IDs
	stride := mixtureLayers * w.k
	for i, want := range map[int][]uint16{1: {5, 16, 27, 38}, 2: {20, 0, 1, 2}} {
		if !slices.Equal(got[i*stride:][:w.k], want) {
			t.Errorf("row %d chooses %v, expected %v", i, got[i*stride:][:w.k], want)
		}
	}
	if first := got[:w.k]; slices.Contains(first, 0) || slices.Contains(first, 9) {
		t.Errorf("NaN or minus infinity among %v", first)
	}
}
