package chat

import (
	"context"
	"errors"
	"testing"
)

// TestLanguage compares small templates, one for each feature of the language,
// with what transformers makes of them (testdata/language.py).
func TestLanguage(t *testing.T) {
	lines := readLines(t, "testdata/language.jsonl")
	last := lines[len(lines)-1]
	vars := field[*Map](last, "vars")
	messages, _ := last.Get("messages")
	for _, m := range lines[:len(lines)-1] {
		source := field[String](m, "template").text
		want, wantError := field[String](m, "expected").text, field[String](m, "error").text
		var got Rendering
		template, err := Parse(source)
		if err == nil {
			got, err = template.Render(context.Background(), Input{Messages: messages, Kwargs: vars})
		}
		var e *Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Errorf("%s\n got another error: %v", source, err)
		case err != nil && e.Line == 0:
			t.Errorf("%s\n error without a line: %v", source, err)
		case err != nil && wantError == "":
			t.Errorf("%s\n got error %v\nwant %q", source, err, want)
		case err == nil && wantError != "":
			t.Errorf("%s\n got %q\nwant error %s", source, got.Text, wantError)
		case err == nil && got.Text != want:
			t.Errorf("%s\n got %q\nwant %q", source, got.Text, want)
		}
		checkSpans(t, source, got)
	}
}
