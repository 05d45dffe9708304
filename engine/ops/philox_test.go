package ops

import (
	"math"
	"testing"
)

// Known answers published with the reference implementation (Random123,
// kat_vectors, philox4x32 10).
func TestPhilox4x32KnownAnswers(t *testing.T) {
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32},
			[2]uint32{math.MaxUint32, math.MaxUint32},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := Philox4x32(c.counter, c.key); got != c.want {
			t.Errorf("Philox4x32(%08x, %08x) = %08x, want %08x", c.counter, c.key, got, c.want)
		}
	}
}

func TestUniformDependsOnEveryKeyAndStaysOpen(t *testing.T) {
	base := Sampling{Seed: 7, Choice: 1, Position: 2, Attempt: 3}
	seen := map[float32]string{Uniform(&base, 0, 5): "base"}
	for name, vary := range map[string]func(s *Sampling) (uint8, int32){
		"seed":      func(s *Sampling) (uint8, int32) { s.Seed++; return 0, 5 },
		"high seed": func(s *Sampling) (uint8, int32) { s.Seed += 1 << 40; return 0, 5 },
		"choice":    func(s *Sampling) (uint8, int32) { s.Choice++; return 0, 5 },
		"position":  func(s *Sampling) (uint8, int32) { s.Position++; return 0, 5 },
		"attempt":   func(s *Sampling) (uint8, int32) { s.Attempt++; return 0, 5 },
		"draw":      func(s *Sampling) (uint8, int32) { return 1, 5 },
		"id":        func(s *Sampling) (uint8, int32) { return 0, 6 },
	} {
		s := base
		draw, id := vary(&s)
		u := Uniform(&s, draw, id)
		if other, dup := seen[u]; dup {
			t.Errorf("changing %s gives the number of %s", name, other)
		}
		seen[u] = name
	}
	for id := range int32(100_000) {
		if u := Uniform(&base, 0, id); u <= 0 || u >= 1 {
			t.Fatalf("Uniform(id %d) = %v, outside (0, 1)", id, u)
		}
	}
}

// The ends of the range are too rare for a draw to meet.
func TestUnitStaysOpenAtItsEnds(t *testing.T) {
	for word, want := range map[uint32]float32{0: 1.0 / (1 << 25), 255: 1.0 / (1 << 25), math.MaxUint32: MaxUniform, 0x80000000: .5} {
		if got := unit(word); got != want || got <= 0 || got >= 1 {
			t.Errorf("unit(%#x) = %v, want %v", word, got, want)
		}
	}
}
