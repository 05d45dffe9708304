package ops

import (
	"slices"
	"strings"
	"testing"
)

func TestLayersAskedFor(t *testing.T) {
	do := func(Point, int, int, []float32) error { return nil }
	nine := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, c := range []struct {
		what     string
		residual *Residual
		between  *Between
		want     string // of the error; "" for none
	}{
		{"nothing", nil, nil, ""},
		{"no layers", &Residual{}, &Between{}, ""},
		{"the first and the last", &Residual{Layers: []int{0, 9}}, &Between{Router: []int{9}, Residual: []int{0}, Do: do}, ""},
		{"as many as may be changed", nil, &Between{Router: nine, Residual: nine, Do: do}, ""},
		{"more than are handed out", &Residual{Layers: nine}, nil, "behind 9 layers: a step hands out 8"},
		{"one too far", &Residual{Layers: []int{3, 10}}, nil, "residual of layer 10 behind that of 3: layers ascend, each once, from 0 to 9"},
		{"below the first", &Residual{Layers: []int{-1}}, nil, "layer -1"},
		{"twice", &Residual{Layers: []int{4, 4}}, nil, "layer 4 behind that of 4"},
		{"descending", nil, &Between{Residual: []int{4, 2}, Do: do}, "residual of layer 2 behind that of 4"},
		{"a router too far", nil, &Between{Router: []int{10}, Do: do}, "router logits of layer 10"},
		{"nothing to do", nil, &Between{Router: []int{1}}, "set Between.Do"},
	} {
		for _, err := range []error{c.residual.Check(10), c.between.Check(10)} {
			if err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", c.what, err, c.want)
			}
		}
		if c.want != "" && c.residual.Check(10) == nil && c.between.Check(10) == nil {
			t.Errorf("%s was taken", c.what)
		}
	}
}

func TestPlacesOfLayers(t *testing.T) {
	r := &Residual{Layers: []int{2, 5}, Values: []float32{7}}
	r.Resize(3, 4)
	for i := range r.Values {
		r.Values[i] = float32(i)
	}
	if place, ok := r.Place(5); !ok || !slices.Equal(r.Row(1, place), []float32{12, 13, 14, 15}) {
		t.Errorf("row 1 behind layer 5 is at place %d, %v", place, ok)
	}
	if _, ok := r.Place(3); ok || len(r.Values) != 24 {
		t.Errorf("layer 3 has a place among %v", r.Layers)
	}
	b := &Between{Router: []int{1}, Residual: []int{1, 2}}
	for layer, want := range [][2]bool{{}, {true, true}, {false, true}} {
		if got := [2]bool{b.Stops(RouterLogits, layer), b.Stops(ResidualOut, layer)}; got != want {
			t.Errorf("layer %d: stops at %v, want %v", layer, got, want)
		}
	}
	if _, ok := (*Residual)(nil).Place(0); ok || (*Between)(nil).Stops(ResidualOut, 0) {
		t.Error("nothing has a place")
	}
}
