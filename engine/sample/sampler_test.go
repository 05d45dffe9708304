package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// tolerance of a probability.
const tolerance = 1e-6

// trial compares draws with the reference, by every way that there is: the
// device or a window, and the whole row.
type trial struct {
	params  Params
	text    plainText
	window  int // 0 for the usual
	logits  []float32
	tokens  int
	work    *Work
	fetched int // how often the row was needed
	enough  map[string]int
}

func (c *trial) sampler(t testing.TB) *Sampler {
	t.Helper()
	s, err := New(c.params, 3, c.tokens, len(c.logits))
	if err != nil {
		t.Fatal(err)
	}
	s.Prompt(c.text.prompt)
	for _, id := range c.text.output {
		s.Accept(id)
	}
	if c.window > 0 && s.base.Window > 0 {
		s.base.Window = c.window
	}
	return s
}

// compare makes one draw and returns the worst difference of a probability.
func (c *trial) compare(t testing.TB, s *Sampler, position int) (worst float64) {
	t.Helper()
	if c.enough == nil {
		c.enough = map[string]int{}
	}
	drawn := s.Draw(position, 0)
	want := newPlain(&c.params, c.logits[:c.tokens], c.text).run(&c.params, c.text, &drawn, s.mu)
	prob, winner := want.probabilities(), want.race(&drawn)
	differ := func(p, q float64) { worst = max(worst, math.Abs(p-q)) }

	var out ops.Sample
	Device(c.work, &out, &drawn, c.logits, c.tokens)
	err := s.Choose(&out, func() ([]float32, error) { c.fetched++; return c.logits, nil })
	if err != nil {
		t.Fatalf("%+v: %v", c.params, err)
	}
	if out.Token.ID != winner {
		t.Fatalf("%+v, window %d: chose %d (p %v), want %d (p %v)", c.params, drawn.Window, out.Token.ID, prob[out.Token.ID], winner, prob[winner])
	}
	differ(math.Exp(float64(out.Chosen)), prob[winner])
	if want := float64(c.logits[winner] - out.LogSumExp); math.Abs(float64(out.Token.Logprob)-want) > tolerance {
		t.Fatalf("log-probability %v, want %v", out.Token.Logprob, want)
	}

	inner := &chain{work: c.work}
	edited := inner.edited(c.logits[:c.tokens], &drawn)
	for _, way := range []string{"window", "window before the row", "row"} {
		switch {
		case way == "row":
			inner.row(edited)
		case drawn.Window == 0:
			continue
		default:
			inner.window(&out, drawn.Window, c.tokens)
			if way != "window" {
				inner.behind(edited)
			}
		}
		if !s.run(inner) {
			if way == "row" {
				t.Fatalf("%+v: the whole row was not enough", c.params)
			}
			continue
		}
		c.enough[way]++
		got := make([]float64, c.tokens)
		sum, _ := inner.weigh()
		for _, k := range inner.kept {
			got[k.id] = k.weight / sum
		}
		for id := range got {
			differ(got[id], prob[id])
		}
	}
	return worst
}

func row(random *rand.Rand, n int, spread float64) []float32 {
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * spread)
	}
	return logits
}

// orders calls f with every order of every subset of the stages: 109,601.
func orders(f func(int, []Stage)) {
	count := 0
	var grow func(order []Stage)
	grow = func(order []Stage) {
		f(count, order)
		count++
		for _, stage := range DefaultOrder {
			if !slices.Contains(order, stage) {
				grow(append(order, stage))
			}
		}
	}
	grow(make([]Stage, 0, len(DefaultOrder)))
}

// Every order of every subset of stages equals the reference on the whole row:
// its distribution to 1e-6 and the id it draws.
func TestEveryOrderEqualsTheReference(t *testing.T) {
	random := rand.New(rand.NewPCG(21, 22))
	var rows [][]float32
	for i := range 16 {
		rows = append(rows, row(random, 48, []float64{.5, 2, 4}[i%3]))
	}
	base := []Params{
		{Temperature: .7, TopK: 8, TopP: .9, MinP: .02, Typical: .9, TopNSigma: 2, XTCProbability: .5, XTCThreshold: .1, DRY: DRY{Multiplier: .8}},
		{Temperature: 1.4, TopK: 20, TopP: .6, MinP: .1, Typical: .5, TopNSigma: 1, XTCProbability: 1, XTCThreshold: .05, DRY: DRY{Multiplier: 2}, Repetition: 1.2, Presence: .4, Frequency: .3},
		{Temperature: 1, DynamicRange: .6, DynamicExponent: 2, TopK: 30, TopP: .97, MinP: .005, Typical: .7, TopNSigma: 3, XTCProbability: 1, XTCThreshold: .2, DRY: DRY{Multiplier: .5}, Bias: []ops.Bias{{ID: 3, Value: 2}, {ID: 9, Value: float32(math.Inf(-1))}}},
	}
	text := plainText{prompt: []int32{5, 6, 7, 8, 1, 2, 3}, output: []int32{9, 5, 6, 7, 8, 1, 5, 6, 7}}
	c := trial{text: text, window: 10, tokens: 45, work: NewWork(simd.Best())}
	worst, count := 0.0, 0
	orders(func(i int, order []Stage) {
		if testing.Short() && i%59 != 0 {
			return
		}
		c.params = base[i%len(base)]
		c.params.Order, c.params.Seed, c.logits = order, uint64(i), rows[i%len(rows)]
		diff := c.compare(t, c.sampler(t), i)
		if diff > tolerance {
			t.Fatalf("%v: worst difference %.2g", c.params, diff)
		}
		worst = max(worst, diff)
		count++
	})
	t.Logf("%d orders, worst difference %.2g, the row needed for %d, enough: %v", count, worst, c.fetched, c.enough)
	if c.fetched == 0 || c.enough["window"] == 0 || c.enough["window before the row"] <= c.enough["window"] {
		t.Error("a way was not tested")
	}
}

// Parameters of every size, on rows flat, peaked and full of ties, with masks
// and edits, equal the reference as well.
func TestAnyParamsEqualTheReference(t *testing.T) {
	random := rand.New(rand.NewPCG(23, 24))
	pick := func(values ...float32) float32 { return values[random.IntN(len(values))] }
	c := trial{work: NewWork(simd.Best())}
	worst, count := 0.0, 4000
	if testing.Short() {
		count = 400
	}
	for i := range count {
		n := 40 + random.IntN(600)
		c.logits, c.tokens, c.window = row(random, n, float64(pick(.1, 1, 3, 9))), n-random.IntN(10), 8+random.IntN(80)
		if i%5 == 0 {
			for id := range c.logits {
				c.logits[id] = float32(math.Round(float64(c.logits[id])*4) / 4)
			}
		}
		order := slices.Clone(DefaultOrder)
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		c.params = Params{
			Temperature: pick(0, .01, .5, 1, 1, 2, 50), TopK: int(pick(0, 0, 1, 5, 60, 1e6)), TopP: pick(0, 1, .001, .5, .93), MinP: pick(0, 0, .001, .3, 1),
			Typical: pick(0, 1, .2, .87), TopNSigma: pick(0, 0, .01, 1.1, 4), XTCProbability: pick(0, .5, 1), XTCThreshold: pick(0, .013, .09, .4),
			DRY: DRY{Multiplier: pick(0, 0, .7), Base: pick(0, 1, 2.5), AllowedLength: random.IntN(3)}, Mirostat: Mirostat{Tau: pick(0, 0, 0, 2, 9)},
			DynamicRange: pick(0, 0, .4, 5), DynamicExponent: pick(0, 1, 3), Repetition: pick(0, 1, .7, 1.3), Presence: pick(0, 0, -1, 1.5), Frequency: pick(0, 0, .3),
			PenaltyLastN: int(pick(0, 0, 3, 9)), Seed: random.Uint64(), Order: order[:random.IntN(len(order)+1)],
		}
		if i%3 == 0 {
			c.params.Order = nil
		}
		c.text = plainText{}
		for range random.IntN(30) {
			c.text.prompt = append(c.text.prompt, int32(random.IntN(6)))
			c.text.output = append(c.text.output, int32(random.IntN(6)))
		}
		if random.IntN(4) == 0 {
			c.params.Mask = []uint32{random.Uint32() | 1, random.Uint32()}
			c.params.Bias = []ops.Bias{{ID: 0, Value: 1.5}, {ID: 7, Value: float32(math.Inf(-1))}}
		}
		diff := c.compare(t, c.sampler(t), i)
		if diff > tolerance {
			t.Fatalf("%d: %+v: worst difference %.2g", i, c.params, diff)
		}
		worst = max(worst, diff)
	}
	t.Logf("%d cases, worst difference %.2g, enough: %v", count, worst, c.enough)
}
