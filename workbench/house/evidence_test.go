package main

import (
	"slices"
	"testing"
)

func TestFigure(t *testing.T) {
	const output = "goos: linux\ncpu: Some CPU\nBenchmarkDecode-2   \t     100\t  1234567 ns/op\t  81.5 tok/s\t   12 B/op\nPASS\n"
	for unit, want := range map[string]float64{"ns/op": 1234567, "tok/s": 81.5} {
		if got, err := figure(output, unit); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", unit, got, err, want)
		}
	}
	if _, err := figure(output, "MB/s"); err == nil {
		t.Error("found a figure that is not there")
	}
}

func TestWorst(t *testing.T) {
	const output = "BenchmarkChain/host/portable-2 \t 1\t 900 ns/op\nBenchmarkChain/host/avx2-2 \t 1\t 400 ns/op\nBenchmarkChain/device/avx2-2 \t 1\t 300 ns/op\t 4 B/op\n" +
		"BenchmarkMul/2048x512/w4/avx2/fast/rows=1-2 \t 1\t 5 ns/op\t 81.5 %roof\nBenchmarkMul/512x2048/w4/avx2/fast/rows=1-2 \t 1\t 5 ns/op\t 77 %roof\t 3 GMAC/s\n" +
		"BenchmarkMul/512x2048/w4/portable/fast/rows=1-2 \t 1\t 5 ns/op\t 7 %roof\nPASS\n"
	for _, c := range []struct {
		unit, without string
		more          bool
		want          float64
	}{
		{"ns/op", "Mul", false, 400},
		{"ns/op", "Chain", false, 5},
		{"%roof", "", true, 77},
	} {
		if got, err := worst(output, c.unit, c.without, c.more); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	if _, err := worst(output, "tok/s", "", false); err == nil {
		t.Error("found a unit that was not reported")
	}
}

func TestLines(t *testing.T) {
	const output = "=== RUN TestA\n    a_test.go:7: evidence: library mark, key 1, p: 1.5e-50 p <= 1e-06\n    a_test.go:8: evidence: rows seen: 96 rows >= 90\n    a_test.go:9: no evidence: x\n--- PASS: TestA\n"
	got, err := lines(output)
	want := []line{{"library mark, key 1, p", "p", 1.5e-50, 1e-6, false}, {"rows seen", "rows", 96, 90, true}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := lines("PASS\n"); err == nil {
		t.Error("found evidence in nothing")
	}
}

func TestRowOf(t *testing.T) {
	rows := []hookCost{{Hook: "a", By: "Go", Streams: 8, Cost: 2}, {Hook: "b", By: "Go", Streams: 1, Off: "too slow"}}
	if r, err := rowOf(rows, "a", "Go", 8); err != nil || r.Cost != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := rowOf(rows, "b", "Go", 1); err != nil || r.Percent <= 5 || r.Percent > 5 {
		t.Errorf("a hook that was switched off keeps a bound: %+v, %v", r, err)
	}
	if _, err := rowOf(rows, "c", "Go", 1); err == nil {
		t.Error("found a row that is not there")
	}
}
