package drivertest

import (
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Every fp16 comes back from its value, what lies between two goes to the nearer, and
// to the even one from half-way.
func TestRoundHalf(t *testing.T) {
	for h := range uint16(0x7c00) {
		v := ops.Half(h)
		next := float64(ops.Half(h + 1))
		if h == 0x7bff {
			next = 65536 // where another number would be
		}
		middle := float32((float64(v) + next) / 2)
		for _, c := range []struct {
			v    float32
			want uint16
		}{{v, h}, {middle, h + h&1}, {math.Nextafter32(middle, 0), h}, {math.Nextafter32(middle, 1e9), h + 1}} {
			if got, negative := RoundHalf(c.v), RoundHalf(-c.v); got != c.want || negative != c.want|0x8000 {
				t.Fatalf("%v becomes %#04x, its negative %#04x; want %#04x", c.v, got, negative, c.want)
			}
		}
	}
}

func TestActivationsSaturate(t *testing.T) {
	for v, want := range map[float32]float32{1: 1, -3.5: -3.5, 16 * 65504: 16 * 65504, 1e9: 16 * 65504, float32(math.Inf(-1)): -16 * 65504} {
		if got := FromActivation(ToActivation(v)); got != want {
			t.Errorf("%v becomes %v, want %v", v, got, want)
		}
	}
	if got := FromActivation(ToActivation(float32(math.NaN()))); got == got {
		t.Errorf("a NaN becomes %v", got)
	}
}
