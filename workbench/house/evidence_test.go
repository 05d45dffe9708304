package main

import "testing"

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
