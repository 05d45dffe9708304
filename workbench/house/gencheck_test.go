package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDifference(t *testing.T) {
	tree, generated := t.TempDir(), t.TempDir()
	put := func(root, name, text string) {
		t.Helper()
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(tree, "a/same.go", "1")
	put(tree, "a/stale.go", "1")
	put(tree, "bin/ignored", "1")
	if err := copyTree(tree, generated); err != nil {
		t.Fatal(err)
	}
	if changed, err := difference(tree, generated); err != nil || len(changed) > 0 {
		t.Fatalf("a copy differs: %v, %v", changed, err)
	}
	put(generated, "a/stale.go", "2")
	put(generated, "a/new.go", "2")
	put(tree, "a/gone.go", "1")
	changed, err := difference(tree, generated)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a/new.go is missing", "a/stale.go differs from what its generator writes", "a/gone.go is no longer written by its generator"}
	if !slices.Equal(changed, want) {
		t.Errorf("got %q, want %q", changed, want)
	}
}
