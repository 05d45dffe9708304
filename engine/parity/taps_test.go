package parity

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// phases are the values that each phase shows (see ops.Step.Tap), in their order, and
// what a sequence carries, which is read behind a step.
var phases = []struct{ name, shows string }{
	{"Embed", "embedding"},
	{"MixerIn", "input_norm in_proj_qkvz in_proj_ba q_proj k_proj v_proj"},
	{"DeltaNet", "conv_silu q_l2 k_l2 g beta delta_out gated_norm"},
	{"Attention", "q_roped k_roped attn_out attn_gated"},
	{"MixerOut", "mixer_out"},
	{"Router", "post_norm router_logits shared_gate_logit"},
	{"Select", "router_experts router_weights"},
	{"Experts", "shared_out routed_out mlp_out residual_out"},
	{"Logits", "hidden logits"},
	{"carried", "recurrent_state conv_state keys values"},
}

// phaseOf finds the phase that shows a value; its place is -1 for an unknown one.
func phaseOf(what string) (place int, name string) {
	for i, phase := range phases {
		if slices.Contains(strings.Fields(phase.shows), what) {
			return i, phase.name
		}
	}
	return -1, "unknown"
}

// byPhase sorts values as a step makes them.
func byPhase(a, b string) int {
	i, _ := phaseOf(a)
	j, _ := phaseOf(b)
	return cmp.Or(cmp.Compare(i, j), cmp.Compare(a, b))
}

// behindChoice are the values of a layer that depend on which experts were chosen.
var behindChoice = []string{"router_weights", "routed_out", "mlp_out", "residual_out"}

// taps are the values that a model showed of its rows, by layer.N.WHAT or WHAT.
type taps map[string][]float32

func (s taps) tap(layer int, what string, _ int, data []float32) {
	if layer >= 0 {
		what = "layer." + strconv.Itoa(layer) + "." + what
	}
	s[what] = append(s[what], data...)
}

// add appends the rows of a later step.
func (s taps) add(later taps) {
	for name, data := range later {
		s[name] = append(s[name], data...)
	}
}

// layerOf takes a name apart; layer is -1 outside of layers.
func layerOf(name string) (layer int, what string) {
	rest, ok := strings.CutPrefix(name, "layer.")
	if !ok {
		return -1, name
	}
	number, what, _ := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	if err != nil {
		panic(err) // tap made it
	}
	return layer, what
}

// gaps are, for each row, the distance of the last chosen router logit of a layer from
// the first left out.
func gaps(logits []float32, experts, k int) []float64 {
	all := make([]float64, 0, len(logits)/experts)
	for row := range slices.Chunk(logits, experts) {
		sorted := slices.Sorted(slices.Values(row))
		all = append(all, float64(sorted[experts-k])-float64(sorted[experts-k-1]))
	}
	return all
}

// smallestGap is that of any row in any layer.
func (s taps) smallestGap(experts, k int) float64 {
	least := math.Inf(1)
	for name, logits := range s {
		if strings.HasSuffix(name, ".router_logits") && experts > k {
			least = min(least, slices.Min(gaps(logits, experts, k)))
		}
	}
	return least
}

// A contest compares what two models showed of the same rows.
type contest struct {
	rows, layers, experts, k int
	// follows says that rows are tokens of one sequence, in order: what happens to one
	// happens to those after it, one layer up.
	follows bool
	bound   func(layer int, what string) float64
}

// worst is the largest difference of one kind of value, relative to the largest value
// of its layer.
type worst struct {
	error, bound float64
	layer        int
	compared     int // values
}

// compare returns the worst of each kind, and how often other experts were chosen
// although the choice was none of a near tie: more than 0 is a failure. Rows that
// other experts than the reference's had a part in are not compared further.
func (c contest) compare(t *testing.T, got, want taps) (kinds map[string]worst, flips, ties int) {
	t.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: only one side shows it", name)
		}
	}
	kinds = map[string]worst{}
	good := slices.Repeat([]bool{true}, c.rows) // rows that are compared
	names := slices.Collect(maps.Keys(want))
	inLayer := func(layer int) (all []string) {
		for _, name := range names {
			if l, _ := layerOf(name); l == layer {
				all = append(all, name)
			}
		}
		slices.Sort(all)
		return all
	}
	for layer := range c.layers {
		at := fmt.Sprintf("layer.%d.", layer)
		chosen := slices.Clone(good)
		if experts, ok := want[at+"router_experts"]; ok {
			near := 2 * c.bound(layer, "router_logits") * largest(want[at+"router_logits"])
			gap := gaps(want[at+"router_logits"], c.experts, c.k)
			for row := range c.rows {
				if !good[row] || sameSet(part(got[at+"router_experts"], row, c.rows), part(experts, row, c.rows)) {
					continue
				}
				if chosen[row] = false; gap[row] > near {
					flips++
				} else {
					ties++
				}
			}
			want[at+"router_weights"] = byExpert(want[at+"router_weights"], experts, c.k)
			got[at+"router_weights"] = byExpert(got[at+"router_weights"], got[at+"router_experts"], c.k)
		}
		for _, name := range inLayer(layer) {
			_, what := layerOf(name)
			switch {
			case what == "router_experts":
			case slices.Contains(behindChoice, what):
				c.one(t, kinds, name, got[name], want[name], chosen)
			default:
				c.one(t, kinds, name, got[name], want[name], good)
			}
		}
		if good = chosen; c.follows {
			if first := slices.Index(good, false); first >= 0 {
				clear(good[first:])
			}
		}
	}
	for _, name := range inLayer(-1) {
		rows := good
		if name == "embedding" {
			rows = slices.Repeat([]bool{true}, c.rows)
		}
		c.one(t, kinds, name, got[name], want[name], rows)
	}
	return kinds, flips, ties
}

// one compares one value of the rows that are good.
func (c contest) one(t *testing.T, kinds map[string]worst, name string, got, want []float32, good []bool) {
	t.Helper()
	layer, what := layerOf(name)
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d values, the reference has %d", name, len(got), len(want))
		return
	}
	if _, phase := phaseOf(what); phase == "carried" || what == "logits" && c.follows { // of the last row alone
		good = good[len(good)-1:]
	}
	w := worst{bound: c.bound(layer, what), layer: layer}
	top := max(largest(want), math.SmallestNonzeroFloat32)
	for row, ok := range good {
		if !ok {
			continue
		}
		a, b := part(got, row, len(good)), part(want, row, len(good))
		w.compared += len(b)
		for i := range b {
			d := math.Abs(float64(a[i])-float64(b[i])) / top
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			w.error = max(w.error, d)
		}
	}
	old, seen := kinds[what]
	compared := w.compared + old.compared
	if seen && old.error/old.bound > w.error/w.bound {
		w = old
	}
	w.compared = compared
	kinds[what] = w
}

func largest(values []float32) (top float64) {
	for _, v := range values {
		top = max(top, math.Abs(float64(v)))
	}
	return top
}

// part is what a row has of values of so many rows.
func part(values []float32, row, rows int) []float32 {
	n := len(values) / rows
	return values[row*n:][:n]
}

func sameSet(a, b []float32) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// byExpert puts the weights of each row of k in the order of its experts' ids.
func byExpert(weights, experts []float32, k int) []float32 {
	sorted := make([]float32, 0, len(weights))
	for row := range len(weights) / k {
		ids, of := experts[row*k:][:k], weights[row*k:][:k]
		order := make([]int, k)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ids[a], ids[b]) })
		for _, i := range order {
			sorted = append(sorted, of[i])
		}
	}
	return sorted
}

// A difference is found where it is, and a choice of other experts is forgiven where
// it was a near tie, with all that follows from it.
func TestContest(t *testing.T) {
	const rows, experts = 4, 3
	model := func() taps {
		s := taps{"embedding": {1, 2, 3, 4}, "hidden": {1, 2, 3, 4}, "logits": {5, 6}}
		for layer := range 2 {
			at := fmt.Sprintf("layer.%d.", layer)
			s[at+"router_logits"] = []float32{3, 1, 0, 3, 1, 0, 3, 1, 0, 3, 1, 0}
			s[at+"router_experts"] = []float32{0, 1, 0, 1, 0, 1, 0, 1}
			s[at+"router_weights"] = []float32{.6, .4, .6, .4, .6, .4, .6, .4}
			s[at+"residual_out"] = []float32{1, 2, 3, 4}
			s[at+"recurrent_state"] = []float32{7}
		}
		return s
	}
	run := func(change func(got, want taps), follows bool) (errors map[string]float64, flips, ties int) {
		got, want := model(), model()
		change(got, want)
		c := contest{rows: rows, layers: 2, experts: experts, k: 2, follows: follows, bound: func(int, string) float64 { return 1e-3 }}
		kinds, flips, ties := c.compare(t, got, want)
		errors = map[string]float64{}
		for what, w := range kinds {
			if w.error > 0 {
				errors[what] = w.error
			}
		}
		return errors, flips, ties
	}
	nothing := map[string]float64{}
	for name, test := range map[string]struct {
		change      func(got, want taps)
		follows     bool
		errors      map[string]float64
		flips, ties int
	}{
		"equal": {func(taps, taps) {}, true, nothing, 0, 0},
		"other order": {func(got, _ taps) {
			got["layer.0.router_experts"][0], got["layer.0.router_experts"][1] = 1, 0
			got["layer.0.router_weights"][0], got["layer.0.router_weights"][1] = .4, .6
		}, true, nothing, 0, 0},
		"difference": {func(got, _ taps) { got["layer.1.residual_out"][2] = 5 }, true, map[string]float64{"residual_out": .5}, 0, 0},
		"no number":  {func(got, _ taps) { got["hidden"][0] = float32(math.NaN()) }, true, map[string]float64{"hidden": math.Inf(1)}, 0, 0},
		"state":      {func(got, _ taps) { got["layer.1.recurrent_state"][0] = 14 }, true, map[string]float64{"recurrent_state": 1}, 0, 0},
		"flip":       {func(got, _ taps) { got["layer.0.router_experts"][2] = 2 }, true, nothing, 1, 0},
		"near tie, and what follows": {func(got, want taps) {
			want["layer.0.router_logits"][5], got["layer.0.router_logits"][5] = .999, .999
			got["layer.0.router_experts"][3] = 2
			got["layer.0.residual_out"][1] = 9
			got["layer.1.residual_out"][3], got["layer.1.recurrent_state"][0], got["hidden"][2], got["logits"][0] = 9, 9, 9, 9
		}, true, nothing, 0, 1},
		"near tie of one sequence": {func(got, want taps) {
			want["layer.0.router_logits"][5], got["layer.0.router_logits"][5] = .999, .999
			got["layer.0.router_experts"][3] = 2
			got["layer.1.residual_out"][1], got["layer.1.residual_out"][3] = 9, 8
		}, false, map[string]float64{"residual_out": 1}, 0, 1},
	} {
		errors, flips, ties := run(test.change, test.follows)
		if flips != test.flips || ties != test.ties || !maps.Equal(errors, test.errors) {
			t.Errorf("%s: %d flips, %d ties, %v; want %d, %d, %v", name, flips, ties, errors, test.flips, test.ties, test.errors)
		}
	}
	if least := model().smallestGap(experts, 2); least != 1 {
		t.Errorf("smallest gap %v", least)
	}
}
