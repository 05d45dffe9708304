package main

import (
	"bytes"
	"os"
	"testing"
)

// TestTablesAreCurrent keeps the committed file equal to what gen writes.
func TestTablesAreCurrent(t *testing.T) {
	want, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../unicode_tables.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("unicode_tables.go differs from what internal/gen writes: run go generate in engine/tokenizer")
	}
}
