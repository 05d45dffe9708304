package scripts

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

func looking(handlers string) string {
	return `import { script } from "roundhouse";
export default script({ api: 1, lag: 1, hooks({ log, steer }) { return { ` + handlers + ` }; } });`
}

// Scripts read the residual behind layers, look through the lens, and change residuals
// and router logits within the forward pass.
func TestScriptsLookInside(t *testing.T) {
	lens := func(x []float32) (hook.Source, error) {
		return hook.Plain{x[0], x[1], x[2], x[3], 0, 0, 0, 0}, nil
	}
	p := started(t, looking(`hidden: { layers: [1, 3], at(h, at) {
		const best = h.lens(2);
		log(h.position, h.layer, Array.from(h.read()).join(","), best.ids[0], best.n, at.phase);
	} }`), hook.Options{OnError: hook.Fail, Lens: lens})
	p.Chain.Hidden(hook.HiddenRecord{Position: 3, Layers: []int{1, 3}, Width: 4, Values: []float32{1, 2, 9, 4, 8, 1, 2, 3}})
	if _, err := p.step(4); err != nil {
		t.Fatal(err)
	}
	if got, want := p.logs(), []string{"3 1 1,2,9,4 2 2 decode", "3 3 8,1,2,3 0 2 decode"}; !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
	p = started(t, looking(`
		hidden: { layers: [2], write: true, at(h) { h.write(h.read().map((x) => 2 * x)); } },
		route: { layers: [0], at(r) { const x = r.read(); x[1] = -Infinity; r.write(x); log(r.layer, r.position); } }`), hook.Options{OnError: hook.Fail})
	if in := p.Inside(); !slices.Equal(in.Write, []int{2}) || !slices.Equal(in.Route, []int{0}) {
		t.Errorf("it looks into %+v", in)
	}
	residual, logits := []float32{1, 2, 3, 4}, []float32{1, 2, 3, 4, 5, 6, 7, 8}
	if err := errors.Join(p.Within(hook.AtResidual, 5, 2, residual), p.Within(hook.AtRouter, 5, 0, logits)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(residual, []float32{2, 4, 6, 8}) || !math.IsInf(float64(logits[1]), -1) || logits[2] != 3 {
		t.Errorf("the residual is %v, the logits %v", residual, logits)
	}
}

// What a script cannot look into, or write, is a fault with its line.
func TestScriptsLookInsideFaults(t *testing.T) {
	for handlers, want := range map[string]string{
		`hidden: { layers: [9], at() {} }`:    "layer 9",
		`hidden: { layers: [], at() {} }`:     "no layer",
		`hidden: { layers: [2, 1], at() {} }`: "ascend",
		`hidden: { at() {} }`:                 "layer is undefined",
		`hidden: { layers: [1] }`:             "hidden is no function",
		`hidden() {}`:                         "layer is undefined",
		`route: 5`:                            "{ layers, at }",
		`route: { layers: [{}], at() {} }`:    "layer",
	} {
		_, err := begin(t, looking(handlers), hook.Options{}, Env{})
		var f *hook.Fault
		if !errors.As(err, &f) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", handlers, err, want)
		}
	}
	for body, kind := range map[string]hook.FaultKind{
		`h.write([1, 2])`: hook.BadValue, `h.write([1, 2, NaN, 4])`: hook.NotANumber, `h.lens(1)`: hook.Misuse, `h.write("x")`: hook.BadValue,
		`for (;;) {}`: hook.OverBudget, `throw 1`: hook.Exception,
	} {
		o := hook.Options{OnError: hook.Fail}
		if kind == hook.OverBudget {
			o.Budget = 5e6
		}
		p := started(t, looking(`hidden: { layers: [1], write: true, at(h) { `+body+` } }`), o)
		var f *hook.Fault
		if err := p.Within(hook.AtResidual, 4, 1, make([]float32, 4)); !errors.As(err, &f) || f.Kind != kind || f.Line == "" {
			t.Errorf("%s: %v, want %v", body, err, kind)
		}
	}
}
