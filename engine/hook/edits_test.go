package hook

import (
	"errors"
	"math"
	"slices"
	"testing"
)

var (
	inf = float32(math.Inf(1))
	nan = float32(math.NaN())
)

// kindOf is the kind of a fault, "" for none.
func kindOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var f *Fault
	if !errors.As(err, &f) {
		t.Fatalf("%v is no *Fault", err)
	}
	return f.Kind.String()
}

func TestEditsRefuse(t *testing.T) {
	long := make([]int32, MaxIDs+1)
	for name, c := range map[string]struct {
		do   func(e *Edits) error
		want string
	}{
		"bias":               {func(e *Edits) error { return e.Bias([]int32{0, 7}, 2) }, ""},
		"bias of none":       {func(e *Edits) error { return e.Bias(nil, 2) }, ""},
		"bias bans":          {func(e *Edits) error { return e.Bias([]int32{1}, -inf) }, ""},
		"bias of NaN":        {func(e *Edits) error { return e.Bias([]int32{1}, nan) }, "not_a_number"},
		"bias of Inf":        {func(e *Edits) error { return e.Bias([]int32{1}, inf) }, "bad_value"},
		"bias too large":     {func(e *Edits) error { return e.Bias([]int32{1}, 2e6) }, "bad_value"},
		"id below":           {func(e *Edits) error { return e.Ban([]int32{-1}) }, "bad_id"},
		"id above":           {func(e *Edits) error { return e.Only([]int32{8}) }, "bad_id"},
		"ids without end":    {func(e *Edits) error { return e.Ban(long) }, "bad_value"},
		"only of nothing":    {func(e *Edits) error { return e.Only(nil) }, "nothing_left"},
		"scale of NaN":       {func(e *Edits) error { return e.Scale(nan) }, "not_a_number"},
		"scale of 0":         {func(e *Edits) error { return e.Scale(0) }, "bad_value"},
		"scale below 0":      {func(e *Edits) error { return e.Scale(-1) }, "bad_value"},
		"scale of Inf":       {func(e *Edits) error { return e.Scale(inf) }, "bad_value"},
		"add of NaN":         {func(e *Edits) error { return e.Add(0, nan) }, "not_a_number"},
		"add of Inf":         {func(e *Edits) error { return e.Add(0, inf) }, "bad_value"},
		"add of nobody":      {func(e *Edits) error { return e.Add(-1, 1) }, "bad_id"},
		"temperature":        {func(e *Edits) error { return e.Set(Temperature, 0) }, ""},
		"temperature of NaN": {func(e *Edits) error { return e.Set(Temperature, math.NaN()) }, "not_a_number"},
		"temperature below":  {func(e *Edits) error { return e.Set(Temperature, -1) }, "bad_value"},
		"half a token":       {func(e *Edits) error { return e.Set(TopK, 1.5) }, "bad_value"},
		"topP above 1":       {func(e *Edits) error { return e.Set(TopP, 1.01) }, "bad_value"},
		"minP":               {func(e *Edits) error { return e.Set(MinP, .1) }, ""},
		"too many": {func(e *Edits) error {
			for range MaxEdits {
				if err := e.Scale(1); err != nil {
					return errors.New("too early")
				}
			}
			return e.Scale(1)
		}, "bad_value"},
	} {
		e := NewEdits(8)
		if got := kindOf(t, c.do(e)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.want != "" && name != "too many" && !e.Empty() {
			t.Errorf("%s: refused and recorded", name)
		}
	}
}

// edited is what a list of edits makes of a row.
func edited(t *testing.T, e *Edits, row []float32) []float32 {
	t.Helper()
	f, err := e.Fold()
	if err != nil {
		t.Fatal(err)
	}
	row = slices.Clone(row)
	f.Apply(row, func(int) []float32 { return []float32{10, 20, 30, 40} })
	return row
}

func TestEditsApply(t *testing.T) {
	row := []float32{1, -2, 3, 4}
	for name, c := range map[string]struct {
		do   func(e *Edits)
		want []float32
	}{
		"nothing":           {func(*Edits) {}, row},
		"bias":              {func(e *Edits) { e.Bias([]int32{0, 3}, 2) }, []float32{3, -2, 3, 6}},
		"biases add up":     {func(e *Edits) { e.Bias([]int32{0}, 2); e.Bias([]int32{0}, 1) }, []float32{4, -2, 3, 4}},
		"ban":               {func(e *Edits) { e.Ban([]int32{1, 2}) }, []float32{1, -inf, -inf, 4}},
		"bias bans":         {func(e *Edits) { e.Bias([]int32{1}, -inf) }, []float32{1, -inf, 3, 4}},
		"only":              {func(e *Edits) { e.Only([]int32{2, 3}) }, []float32{-inf, -inf, 3, 4}},
		"only twice":        {func(e *Edits) { e.Only([]int32{2, 3}); e.Only([]int32{1, 3}) }, []float32{-inf, -inf, -inf, 4}},
		"only and ban":      {func(e *Edits) { e.Only([]int32{2, 3}); e.Ban([]int32{3}) }, []float32{-inf, -inf, 3, -inf}},
		"scale":             {func(e *Edits) { e.Scale(2) }, []float32{2, -4, 6, 8}},
		"bias, then scale":  {func(e *Edits) { e.Bias([]int32{0}, 1); e.Scale(2) }, []float32{4, -4, 6, 8}},
		"scale, then bias":  {func(e *Edits) { e.Scale(2); e.Bias([]int32{0}, 1) }, []float32{3, -4, 6, 8}},
		"guidance":          {func(e *Edits) { e.Scale(2); e.Add(0, -.5) }, []float32{-3, -14, -9, -12}},
		"add, then scale":   {func(e *Edits) { e.Add(0, 1); e.Scale(2) }, []float32{22, 36, 66, 88}},
		"a ban outlasts it": {func(e *Edits) { e.Ban([]int32{0}); e.Scale(3); e.Bias([]int32{0}, 100) }, []float32{-inf, -6, 9, 12}},
	} {
		e := NewEdits(4)
		e.others = 1
		c.do(e)
		if got := edited(t, e, row); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestEditsThatChangeNothingAreNeutral(t *testing.T) {
	e := NewEdits(4)
	e.Bias([]int32{1}, 0)
	e.Bias([]int32{2}, 3)
	e.Bias([]int32{2}, -3)
	e.Scale(1)
	e.Add(1, 0)
	e.Only([]int32{3, 2, 1, 0})
	e.Ban(nil)
	f, err := e.Fold()
	if err != nil || !f.Neutral() {
		t.Errorf("%+v, %v: want neutral", f, err)
	}
}

func TestNothingLeft(t *testing.T) {
	for name, do := range map[string]func(e *Edits){
		"all banned":       func(e *Edits) { e.Ban([]int32{0, 1, 2, 3}) },
		"two lists":        func(e *Edits) { e.Only([]int32{0}); e.Only([]int32{1}) },
		"only what is not": func(e *Edits) { e.Ban([]int32{0}); e.Only([]int32{0}) },
	} {
		e := NewEdits(4)
		do(e)
		if _, err := e.Fold(); kindOf(t, err) != "nothing_left" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many bans become a mask, which means the same.
func TestManyBans(t *testing.T) {
	const n = 2000
	e, row := NewEdits(n), make([]float32, n)
	var ids []int32
	for id := int32(0); id < n; id += 2 {
		ids = append(ids, id)
	}
	e.Ban(ids)
	f, err := e.Fold()
	if err != nil || f.Mask == nil || len(f.Bias) > 0 {
		t.Fatalf("%d biases, mask of %d words, %v", len(f.Bias), len(f.Mask), err)
	}
	f.Apply(row, nil)
	for id := range int32(n) {
		if banned := row[id] == -inf; banned != (id%2 == 0) || f.Allows(id) == banned {
			t.Fatalf("token %d: %v, allowed %v", id, row[id], f.Allows(id))
		}
	}
}

func TestEditsMerge(t *testing.T) {
	first, second := NewEdits(4), NewEdits(4)
	first.Bias([]int32{0}, 1)
	first.Set(Temperature, .5)
	second.Scale(2)
	second.Set(Temperature, 1)
	second.Set(TopK, 3)
	both, err := first.behind(second)
	if err != nil {
		t.Fatal(err)
	}
	if got := edited(t, both, []float32{1, 1, 1, 1}); !slices.Equal(got, []float32{4, 2, 2, 2}) {
		t.Errorf("transforms in order of priority: %v", got)
	}
	v := both.Values()
	if temperature, _ := v.Get(Temperature); temperature != .5 {
		t.Errorf("temperature %v: the highest priority wins", temperature)
	}
	if k, set := v.Get(TopK); !set || k != 3 {
		t.Errorf("topK %v, %v: what only one sets, counts", k, set)
	}
	third := NewEdits(4)
	first.Only([]int32{1})
	third.Ban([]int32{1})
	if _, err := first.behind(third); kindOf(t, err) != "nothing_left" || len(first.List()) != 2 {
		t.Errorf("%v, %d edits", err, len(first.List()))
	}
}
