package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Counts and repeats kept token by token are those of the whole text counted
// anew: over texts of few different tokens, which repeat a lot.
func TestHistoryEqualsCountingAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Int32Range(0, int32(rapid.IntRange(0, 5).Draw(t, "alphabet")))
		p := Params{
			Frequency: 1, PenaltyLastN: rapid.SampledFrom([]int{0, 0, 1, 5, 20}).Draw(t, "last"),
			DRY: DRY{Multiplier: 1, Base: rapid.Float32Range(1, 3).Draw(t, "base"), AllowedLength: rapid.IntRange(0, 4).Draw(t, "allowed"),
				Breakers: [][]int32{nil, {2}, {0, 3}}[rapid.IntRange(0, 2).Draw(t, "breakers")]},
		}
		s, err := New(p, 0, 10, 10)
		if err != nil {
			t.Fatal(err)
		}
		text := plainText{prompt: rapid.SliceOfN(id, 0, 40).Draw(t, "prompt")}
		s.Prompt(text.prompt)
		for _, next := range rapid.SliceOfN(id, 0, 40).Draw(t, "output") {
			s.Accept(next)
			if rapid.IntRange(0, 9).Draw(t, "fork") == 0 {
				other := s
				s = s.Clone()
				other.Accept(1)
				other.Draw(0, 0)
			}
			text.output = append(text.output, next)
			drawn := s.Draw(len(text.all()), 0)

			all, seen := text.all(), []ops.Count(nil)
			for id := range int32(10) {
				c := ops.Count{ID: id}
				for i, seen := range all {
					switch {
					case seen != id || p.PenaltyLastN > 0 && i < len(all)-p.PenaltyLastN:
					case i < len(text.prompt):
						c.Prompt++
					default:
						c.Output++
					}
				}
				if c.Prompt+c.Output > 0 {
					seen = append(seen, c)
				}
			}
			if !slices.Equal(drawn.Seen, seen) {
				t.Fatalf("after %v: counts %v, want %v", all, drawn.Seen, seen)
			}
			var want []ops.Bias
			losses := plainDRY(&p, all)
			for id := range int32(10) {
				if loss, ok := losses[id]; ok {
					want = append(want, ops.Bias{ID: id, Value: -float32(loss)})
				}
			}
			if !slices.Equal(drawn.Bias, want) {
				t.Fatalf("after %v: repeats cost %v, want %v", all, drawn.Bias, want)
			}
		}
	})
}

// The cost of a token stays far from the length of the text: 32,768 tokens with
// everything on, the worst text included.
func BenchmarkHistory(b *testing.B) {
	random := rand.New(rand.NewPCG(31, 32))
	for name, next := range map[string]func() int32{
		"zipf":  func() int32 { return int32(math.Exp(random.Float64()*11)) - 1 },
		"equal": func() int32 { return 7 },
	} {
		b.Run(name, func(b *testing.B) {
			s, err := New(Params{Temperature: 1, Repetition: 1.1, DRY: DRY{Multiplier: .8}}, 0, 151936, 151936)
			if err != nil {
				b.Fatal(err)
			}
			prompt := make([]int32, 32768)
			for i := range prompt {
				prompt[i] = next()
			}
			s.Prompt(prompt)
			for b.Loop() {
				s.Accept(next())
				s.Draw(0, 0)
			}
		})
	}
}

// Mirostat steers: over a long text mu follows the reference, and the mean
// surprise comes near to what was asked.
func TestMirostatFollowsItsTarget(t *testing.T) {
	random := rand.New(rand.NewPCG(33, 34))
	c := trial{
		params: Params{Temperature: 1.1, Mirostat: Mirostat{Tau: 3, Eta: .1}, TopK: 3, Seed: 5},
		tokens: 2000, work: NewWork(simd.Best()),
	}
	c.logits = row(random, 2000, 2.5)
	s := c.sampler(t)
	mu, total, n := 6.0, 0.0, 400
	for i := range n {
		c.logits = row(random, 2000, 2.5)
		if diff := c.compare(t, s, i); diff > tolerance {
			t.Fatalf("token %d: worst difference %.2g", i, diff)
		}
		drawn := s.Draw(i, 0)
		want := newPlain(&c.params, c.logits, c.text).run(&c.params, c.text, &drawn, mu)
		surprise := -math.Log2(want.probabilities()[s.chosen])
		s.Accept(s.chosen)
		mu -= .1 * (surprise - 3)
		if math.Abs(mu-s.mu) > 1e-4 {
			t.Fatalf("token %d: mu %v, want %v", i, s.mu, mu)
		}
		total += surprise
	}
	if mean := total / float64(n); math.Abs(mean-3) > .2 {
		t.Errorf("mean surprise %.2f bits, asked for 3", mean)
	}
	s.chosen = 4
	if before := s.mu; func() bool { s.Accept(5); return s.mu != before }() {
		t.Error("a forced token moved mu")
	}
}
