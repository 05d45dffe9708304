package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestTour(t *testing.T) {
	const frame = "prose\n```console\n$ exit 9\n```\n<!-- tour -->\n```console\nBODY\n```\n<!-- /tour -->\n"
	for _, c := range []struct{ body, fails string }{
		{body: "$ echo one\none"},
		{body: "$ place=here\n$ echo $place; echo and; echo there\nhere\n...\nthere"},
		{body: "$ echo one \\\n>   two\none two"},
		{body: "$ sleep 60 &\n$ true"},
		{body: "$ echo '{\"id\": 7, \"text\": \"yes.\"}'\n{...\"text\": \"yes.\"}"},
		{body: "$ echo '{\"text\": \"no\"}'\n{...\"text\": \"yes\"}", fails: "the page says"},
		{body: "$ echo two\none", fails: "the page says"},
		{body: "$ echo one; echo two\none", fails: "the page says"},
		{body: "$ false", fails: "exit code 1"},
		{body: "$ exit 3", fails: "the shell ended"},
	} {
		err := tour(t.Context(), []string{write(t, strings.Replace(frame, "BODY", c.body, 1))})
		if c.fails == "" && err != nil {
			t.Errorf("%q: %v", c.body, err)
		}
		if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q: got %v, want an error with %q", c.body, err, c.fails)
		}
	}
	if err := tour(t.Context(), []string{write(t, "no tour")}); err == nil {
		t.Error("a page without a tour was accepted")
	}
}
