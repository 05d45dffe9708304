package main

import (
	"slices"
	"testing"
)

func TestParseTargets(t *testing.T) {
	got := parseTargets("FuzzA\nFuzzB\nok  \tm/p\t0.1s\n?   \tm/q\t[no test files]\nok  \tm/r\t0.1s\nFuzzC\nok  \tm/s\t(cached)\n")
	want := []target{{"m/p", "FuzzA"}, {"m/p", "FuzzB"}, {"m/s", "FuzzC"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProgressLine(t *testing.T) {
	found := progress.FindStringSubmatch("fuzz: elapsed: 6s, execs: 102341 (17056/sec), new interesting: 12 (total: 40)")
	if !slices.Equal(found[1:], []string{"6s", "102341", "12", "40"}) {
		t.Errorf("read %v", found)
	}
}

func TestMergeKeepsOtherRows(t *testing.T) {
	page := soakPage(0, 1, []string{"| `p` | `FuzzA` | old |", "| `q` | `FuzzB` | old |"})
	got := merge(page, []string{"| `q` | `FuzzB` | new |", "| `a` | `FuzzC` | new |"})
	want := []string{"| `a` | `FuzzC` | new |", "| `p` | `FuzzA` | old |", "| `q` | `FuzzB` | new |"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
