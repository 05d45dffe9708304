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
