package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

const (
	vocabulary = 151936 // Qwen3-Next: rows of the logits
	drawable   = 151669 // and tokens of its tokenizer
)

// samplers are the table's rows: each sampler by itself, and chains.
var samplers = []struct {
	name, source string
	params       Params
}{
	{"greedy", "argmax", Params{}},
	{"temperature", "softmax(x/T)", Params{Temperature: .8}},
	{"top-k", "sort", Params{Temperature: 1, TopK: 40}},
	{"top-p", "Holtzman et al. 2020", Params{Temperature: 1, TopP: .95}},
	{"min-p", "Nguyen et al. 2024", Params{Temperature: 1, MinP: .05}},
	{"repetition", "Keskar et al. 2019", Params{Temperature: 1, TopK: 40, Repetition: 1.2}},
	{"presence, frequency", "OpenAI", Params{Temperature: 1, TopK: 40, Presence: .5, Frequency: .5}},
	{"logit bias", "OpenAI", Params{Temperature: 1, TopK: 40, Bias: []ops.Bias{{ID: 5, Value: 20}, {ID: 6, Value: float32(math.Inf(-1))}}}},
	{"token mask", "half of all ids", Params{Temperature: 1, TopK: 40, Mask: slices.Repeat([]uint32{0xF0F0F0F0}, vocabulary/32)}},
	{"device chain", "penalties, T, top-k, top-p, min-p", Params{Temperature: .7, TopK: 40, TopP: .95, MinP: .02, Repetition: 1.1, Presence: .2, Frequency: .1}},
	{"DRY", "p-e-w 2024", Params{Temperature: 1, TopK: 40, DRY: DRY{Multiplier: .8}}},
	{"typical", "Meister et al. 2022", Params{Temperature: 1, Typical: .9}},
	{"top-k, typical", "the same", Params{Temperature: 1, TopK: 40, Typical: .9}},
	{"top-n-sigma", "Tang et al. 2024", Params{Temperature: 1, TopNSigma: 1}},
	{"XTC", "p-e-w 2024", Params{Temperature: 1, TopP: .95, XTCProbability: 1, XTCThreshold: .01}},
	{"dynamic temperature", "kalomaze 2023", Params{Temperature: 1, DynamicRange: .5, TopK: 40}},
	{"top-k, dynamic", "the same", Params{Temperature: 1, DynamicRange: .5, TopK: 40, Order: []Stage{StageTopK, StageTemperature}}},
	{"mirostat 2", "Basu et al. 2021", Params{Temperature: 1, Mirostat: Mirostat{Tau: 3}}},
	{"host chain", "DRY, T, top-k, typical, top-p, min-p, XTC", Params{Temperature: .7, TopK: 40, Typical: .98, TopP: .95, MinP: .02, XTCProbability: .5, XTCThreshold: .1, DRY: DRY{Multiplier: .8}, Repetition: 1.1}},
	{"custom order", "min-p, top-k, T, top-p", Params{Temperature: 1.5, TopK: 40, TopP: .9, MinP: .01, Order: []Stage{StageMinP, StageTopK, StageTemperature, StageTopP}}},
}

// peaked is a row as language models make them: most of the mass on some tens of
// tokens, a long tail of thousands.
func peaked(random *rand.Rand) []float32 {
	logits := row(random, vocabulary, 2)
	for range 60 {
		logits[random.IntN(drawable)] = float32(10 + random.ExpFloat64()*2)
	}
	return logits
}

func tableTrial(i int, logits []float32, work *Work) trial {
	c := trial{params: samplers[i].params, logits: logits, tokens: drawable, work: work}
	c.params.Seed = uint64(i)
	best := sorted(logits[:drawable])
	for i := range 12 { // a text that repeats, of tokens that might come next
		c.text.prompt = append(c.text.prompt, best[i%4].id, best[9].id)
		c.text.output = append(c.text.output, best[i%4].id)
	}
	return c
}

// The table of evidence: go test -run TestSamplerTable -v ./engine/sample. Its
// times are of this moment on this machine and prove nothing.
func TestSamplerTable(t *testing.T) {
	if testing.Short() {
		t.Skip("the reference sorts 40 rows of 151,936 logits")
	}
	random := rand.New(rand.NewPCG(81, 82))
	work := NewWork(simd.Best())
	rows := [][]float32{peaked(random), row(random, vocabulary, 3)}
	var table strings.Builder
	fmt.Fprintf(&table, "| sampler | reference | worst difference | us |\n| --- | --- | ---: | ---: |\n")
	for i, sampler := range samplers {
		worst := 0.0
		for _, logits := range rows {
			c := tableTrial(i, logits, work)
			worst = max(worst, c.compare(t, c.sampler(t), i))
		}
		if worst > tolerance {
			t.Errorf("%s: worst difference %.2g", sampler.name, worst)
		}
		c := tableTrial(i, rows[0], work)
		s := c.sampler(t)
		fetched := false
		turn := func(position int) time.Duration {
			var out ops.Sample
			start := time.Now()
			drawn := s.Draw(position, 0)
			Device(work, &out, &drawn, c.logits, c.tokens)
			err := s.Choose(&out, func() ([]float32, error) { fetched = true; return c.logits, nil })
			if err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		best := turn(0)
		for position := range 9 {
			best = min(best, turn(position))
		}
		where := map[bool]string{true: "window", false: "device"}[s.base.Window > 0]
		if fetched {
			where = "row"
		}
		fmt.Fprintf(&table, "| %s (%s) | %s | %.1e | %.0f |\n", sampler.name, where, sampler.source, worst, float64(best.Nanoseconds())/1000)
	}
	t.Logf("151,936 logits, %v\n%s", simd.Best(), table.String())
}

func benchmark(b *testing.B, i int, level simd.Level) {
	work := NewWork(level)
	c := tableTrial(i, peaked(rand.New(rand.NewPCG(83, 84))), work)
	s := c.sampler(b)
	var out ops.Sample
	position := 0
	for b.Loop() {
		position++
		drawn := s.Draw(position, 0)
		Device(work, &out, &drawn, c.logits, c.tokens)
		if err := s.Choose(&out, func() ([]float32, error) { return c.logits, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChain is the whole way of a token, device's chain and host's chain,
// at every level of kernels.
func BenchmarkChain(b *testing.B) {
	for _, level := range simd.Levels() {
		for i, sampler := range samplers {
			if strings.HasSuffix(sampler.name, " chain") {
				b.Run(fmt.Sprintf("%s/%v", strings.TrimSuffix(sampler.name, " chain"), level), func(b *testing.B) { benchmark(b, i, level) })
			}
		}
	}
}

// BenchmarkSampler has each sampler by itself.
func BenchmarkSampler(b *testing.B) {
	for i, sampler := range samplers {
		b.Run(strings.NewReplacer(", ", "+", " ", "-").Replace(sampler.name), func(b *testing.B) { benchmark(b, i, simd.Best()) })
	}
}

// BenchmarkTop256 selects the 256 best of a row, its scan included.
func BenchmarkTop256(b *testing.B) {
	random := rand.New(rand.NewPCG(85, 86))
	for name, logits := range map[string][]float32{"peaked": peaked(random), "normal": row(random, vocabulary, 3), "equal": make([]float32, vocabulary)} {
		for _, level := range simd.Levels() {
			b.Run(fmt.Sprintf("%s/%v", name, level), func(b *testing.B) {
				w := NewWork(level)
				for b.Loop() {
					w.scan(logits[:drawable])
					if got := w.best(logits[:drawable], 256); len(got) != 256 {
						b.Fatal(len(got))
					}
				}
			})
		}
	}
}
