package hook

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

var small = Shape{Layers: 4, Experts: 8, K: 2, Hidden: 3}

func TestSteeringRefuses(t *testing.T) {
	ids := func(n ...int32) []int32 { return n }
	for name, c := range map[string]struct {
		do   func(s *Steering) error
		want string
	}{
		"ban":              {func(s *Steering) error { return s.Ban(nil, ids(0, 1, 2, 3, 4, 5)) }, ""},
		"too few left":     {func(s *Steering) error { return s.Ban(nil, ids(0, 1, 2, 3, 4, 5, 6)) }, "nothing_left"},
		"few for a k of 1": {func(s *Steering) error { s.TopK(nil, 1); return s.Ban(nil, ids(0, 1, 2, 3, 4, 5, 6)) }, ""},
		"k after bans": {func(s *Steering) error {
			s.TopK(nil, 1)
			s.Ban(nil, ids(0, 1, 2, 3, 4, 5, 6))
			return s.TopK(nil, 2)
		}, "nothing_left"},
		"forced, then banned": {func(s *Steering) error { s.Force([]int{1}, ids(3)); return s.Ban(nil, ids(3)) }, "bad_value"},
		"banned, then forced": {func(s *Steering) error { s.Ban(nil, ids(3)); return s.Force([]int{1}, ids(3)) }, "bad_value"},
		"another layer":       {func(s *Steering) error { s.Ban([]int{0}, ids(3)); return s.Force([]int{1}, ids(3)) }, ""},
		"too many forced":     {func(s *Steering) error { return s.Force(nil, ids(1, 2, 3)) }, "bad_value"},
		"k above the engine":  {func(s *Steering) error { return s.TopK(nil, 3) }, "bad_value"},
		"k below 0":           {func(s *Steering) error { return s.TopK(nil, -1) }, "bad_value"},
		"no such expert":      {func(s *Steering) error { return s.Bias(nil, ids(8), 1) }, "bad_id"},
		"no such layer":       {func(s *Steering) error { return s.Bias([]int{4}, ids(1), 1) }, "bad_id"},
		"layer below 0":       {func(s *Steering) error { return s.Gate([]int{-1}, 1) }, "bad_id"},
		"bias of NaN":         {func(s *Steering) error { return s.Bias(nil, ids(1), nan) }, "not_a_number"},
		"bias of Inf":         {func(s *Steering) error { return s.Bias(nil, ids(1), inf) }, "bad_value"},
		"scale of NaN":        {func(s *Steering) error { return s.Scale(nil, ids(1), nan) }, "not_a_number"},
		"gate of Inf":         {func(s *Steering) error { return s.Gate(nil, inf) }, "bad_value"},
		"vector":              {func(s *Steering) error { return s.AddVector(Vector{Values: make([]float32, 3), Layer: 1, Scale: 1}) }, ""},
		"short vector":        {func(s *Steering) error { return s.AddVector(Vector{Values: make([]float32, 2), Scale: 1}) }, "bad_value"},
		"vector with NaN":     {func(s *Steering) error { return s.AddVector(Vector{Values: []float32{0, nan, 0}, Scale: 1}) }, "not_a_number"},
		"vector nowhere":      {func(s *Steering) error { return s.AddVector(Vector{Values: make([]float32, 3), Layer: 4, Scale: 1}) }, "bad_id"},
	} {
		s := NewSteering(small)
		before := s.changes
		if got := kindOf(t, c.do(s)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.want == "" && s.changes == before {
			t.Errorf("%s: changed nothing", name)
		}
	}
	wide := NewSteering(Shape{Layers: 1, Experts: 64, K: 10, MaxK: 40})
	if err := wide.TopK(nil, 17); kindOf(t, err) != "bad_value" {
		t.Errorf("k above 16: %v", err)
	}
	if err := wide.TopK(nil, 16); err != nil {
		t.Error(err)
	}
}

func TestSteeringIsSetNotAdded(t *testing.T) {
	s := NewSteering(small)
	for range 3 {
		s.Bias([]int{1}, []int32{5, 2}, -1.5)
	}
	want := LayerSteering{Bias: []ExpertValue{{2, -1.5}, {5, -1.5}}, Gate: 1}
	if got := s.Layer(1); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if s.changes != 1 {
		t.Errorf("%d changes: the same value again is none", s.changes)
	}
	s.Bias([]int{1}, []int32{2, 5}, 0)
	s.Scale(nil, []int32{1}, 2)
	s.Scale(nil, []int32{1}, 1)
	s.Gate(nil, 1)
	s.TopK(nil, 0)
	if !s.Neutral() || s.Digest() != "" {
		t.Error("taken back, and not neutral")
	}
	s.Ban([]int{0}, []int32{1})
	s.OnlyDecode()
	s.Reset()
	if !s.Neutral() || s.DecodeOnly() {
		t.Error("reset, and not neutral")
	}
}

func TestSteeringMerges(t *testing.T) {
	a, b := NewSteering(small), NewSteering(small)
	a.Bias([]int{1}, []int32{2}, 1)
	a.Scale([]int{1}, []int32{2}, 2)
	a.Gate([]int{1}, .5)
	a.TopK([]int{1}, 1)
	b.Bias([]int{1}, []int32{2, 3}, 1)
	b.Scale([]int{1}, []int32{2}, 2)
	b.Gate([]int{1}, .5)
	b.TopK([]int{1}, 2)
	b.Ban([]int{2}, []int32{7})
	if err := a.behind(b); err != nil {
		t.Fatal(err)
	}
	want := LayerSteering{Bias: []ExpertValue{{2, 2}, {3, 1}}, Scale: []ExpertValue{{2, 4}}, Gate: .25, K: 1}
	if got := a.Layer(1); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	c := NewSteering(small)
	c.Force([]int{2}, []int32{7})
	digest := a.Digest()
	if err := a.behind(c); kindOf(t, err) != "bad_value" || a.Digest() != digest {
		t.Errorf("%v: forced by one and banned by the other", err)
	}
}

func TestDigest(t *testing.T) {
	seen := map[string]string{}
	for name, do := range map[string]func(s *Steering){
		"bias":        func(s *Steering) { s.Bias([]int{1}, []int32{2}, 1) },
		"layer":       func(s *Steering) { s.Bias([]int{2}, []int32{2}, 1) },
		"expert":      func(s *Steering) { s.Bias([]int{1}, []int32{3}, 1) },
		"value":       func(s *Steering) { s.Bias([]int{1}, []int32{2}, 2) },
		"scale":       func(s *Steering) { s.Scale([]int{1}, []int32{2}, 2) },
		"ban":         func(s *Steering) { s.Ban([]int{1}, []int32{2}) },
		"force":       func(s *Steering) { s.Force([]int{1}, []int32{2}) },
		"gate":        func(s *Steering) { s.Gate([]int{1}, 0) },
		"k":           func(s *Steering) { s.TopK([]int{1}, 1) },
		"vector":      func(s *Steering) { s.AddVector(Vector{Values: []float32{1, 2, 3}, Scale: 1}) },
		"otherVector": func(s *Steering) { s.AddVector(Vector{Values: []float32{1, 2, 4}, Scale: 1}) },
		"strength":    func(s *Steering) { s.AddVector(Vector{Values: []float32{1, 2, 3}, Scale: 2}) },
	} {
		s, again := NewSteering(small), NewSteering(small)
		do(s)
		again.Ban(nil, []int32{0})
		again.Reset()
		do(again)
		digest := s.Digest()
		if other, ok := seen[digest]; ok || digest == "" {
			t.Errorf("%s has the digest of %q", name, other)
		}
		if again.Digest() != digest {
			t.Errorf("%s: another digest by another way", name)
		}
		seen[digest] = name
	}
}

func TestSteerJSON(t *testing.T) {
	find := func(name string) ([]float32, error) {
		if name != "calm" {
			return nil, errors.New("no such vector")
		}
		return []float32{1, 2, 3}, nil
	}
	for text, want := range map[string]string{
		`{}`:                                            "",
		`{"layers": {"3": {"ban": [7]}}}`:               "",
		`{"layers": {"all": {"gate": 0}}}`:              "",
		`{"layers": {"3": {"ban": [8]}}}`:               "steer.layers.3.ban: expert 8",
		`{"layers": {"4": {}}}`:                         "layer 4",
		`{"layers": {"03": {}}}`:                        "a layer is its number",
		`{"layers": {"x": {}}}`:                         "a layer is its number",
		`{"layers": {"1": {"top_k": 17}}}`:              "steer.layers.1.top_k",
		`{"layers": {"1": {"topk": 1}}}`:                "unknown field",
		`{"layers": [1]}`:                               "cannot unmarshal",
		`{"vectors": [{"layer": 1}]}`:                   "steer.vectors.0: a vector has values",
		`{"vectors": [{"name": "calm"}]}`:               "",
		`{"vectors": [{"name": "storm"}]}`:              "no such vector",
		`{"vectors": [{"values": [1, 2]}]}`:             "the hidden size is 3",
		`{"decode_only": true} {}`:                      "behind the object",
		`{"layers": {"1": {"force": [1], "ban": [1]}}}`: "both forced and banned",
		`{"layers": {"1": {"bias": {"1": 1e39}}}}`:      "cannot unmarshal",
	} {
		_, err := ParseSteering([]byte(text), small, find)
		var typed *SteerError
		switch {
		case want == "" && err != nil, want != "" && (!errors.As(err, &typed) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestSteerJSONLayersComeOnTop(t *testing.T) {
	s, err := ParseSteering([]byte(`{"layers": {"2": {"bias": {"1": 3}}, "all": {"bias": {"1": 1, "4": 2}, "top_k": 1}}}`), small, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Layer(2); got.K != 1 || !reflect.DeepEqual(got.Bias, []ExpertValue{{1, 3}, {4, 2}}) {
		t.Errorf("%+v", got)
	}
}

func FuzzSteerJSON(f *testing.F) {
	for _, seed := range []string{
		`{"layers": {"all": {"gate": 0.5}, "1": {"ban": [2], "force": [3], "bias": {"3": -1.5}, "scale": {"0": 2}, "top_k": 1}}}`,
		`{"vectors": [{"name": "a", "values": [1, 2, 3], "layer": 2, "scale": 2}], "decode_only": true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSteering(data, small, nil)
		if err != nil {
			var typed *SteerError
			if !errors.As(err, &typed) {
				t.Fatalf("%v is no *SteerError", err)
			}
			return
		}
		for n := range small.Layers {
			l := s.Layer(n)
			if err := l.check(n, small); err != nil {
				t.Fatal(err)
			}
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseSteering(written, small, nil)
		if err != nil || again.Digest() != s.Digest() || again.DecodeOnly() != s.DecodeOnly() {
			t.Fatalf("%s was written as %s: %v", data, written, err)
		}
	})
}
