package hook

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	zero, one := 0.0, 1.0
	schema := Params{
		"floor": {Type: "number", Default: .02, Minimum: &zero, Maximum: &one},
		"last":  {Type: "integer", Default: int64(4), Minimum: &zero},
		"mode":  {Type: "string", Default: "soft", Enum: []any{"soft", "hard"}},
		"loud":  {Type: "boolean", Default: false},
		"word":  {Type: "string", MaxLength: 3},
	}
	if err := schema.Check(); err != nil {
		t.Fatal(err)
	}
	got, err := schema.Fill(map[string]any{"word": "abc", "last": 7})
	want := map[string]any{"floor": .02, "last": 7.0, "mode": "soft", "loud": false, "word": "abc"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"floor": {2.0, "it lies in 0 to 1"}, "last": {1.5, "is no integer"}, "mode": {"loud", "is none of"},
		"loud": {"yes", "is no boolean"}, "word": {"abcd", "4 characters"}, "other": {1, "there is none"},
	} {
		_, err := schema.Fill(map[string]any{"word": "a", name: c.value})
		var typed *ParamError
		if !errors.As(err, &typed) || typed.Name != name || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := schema.Fill(nil); err == nil || !strings.Contains(err.Error(), "must be given") {
		t.Errorf("%v", err)
	}
	for name, p := range map[string]Param{
		"type": {Type: "list"}, "range": {Type: "number", Minimum: &one, Maximum: &zero},
		"default": {Type: "number", Default: "x"}, "enum": {Type: "string", Enum: []any{1.0}},
	} {
		if err := (Params{name: p}).Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
