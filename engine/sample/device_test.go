package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// plainChain is the chain as its description reads, with sorting and no tricks:
// the probability of every id.
func plainChain(logits []float32, s ops.Sampling) []float64 {
	ids := make([]int, len(logits))
	for i := range ids {
		ids[i] = i
	}
	slices.SortStableFunc(ids, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	p := make([]float64, len(logits))
	softmax := func() {
		var sum float64
		for _, id := range ids {
			p[id] = math.Exp(float64(logits[id]-logits[ids[0]]) / float64(s.Temperature))
			sum += p[id]
		}
		for _, id := range ids {
			p[id] /= sum
		}
	}
	cut := func(n int) {
		for _, id := range ids[n:] {
			p[id] = 0
		}
		ids = ids[:n]
		softmax()
	}
	softmax()
	if s.TopK > 0 && s.TopK < len(ids) {
		cut(s.TopK)
	}
	if s.TopP > 0 && s.TopP < 1 {
		sum := 0.0
		for i, id := range ids {
			if sum += p[id]; sum >= float64(s.TopP) {
				cut(i + 1)
				break
			}
		}
	}
	if s.MinP > 0 {
		for i, id := range ids {
			if p[id] < float64(s.MinP)*p[ids[0]] {
				cut(i)
				break
			}
		}
	}
	return p
}

// Draws follow the plain chain: chi-square at fixed seeds over 20,000 draws.
func TestDrawsFollowTheChain(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	logits := make([]float32, 200)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 2)
	}
	for _, s := range []ops.Sampling{
		{Temperature: 1},
		{Temperature: .7, TopK: 20, TopP: .8},
		{Temperature: 1.5, TopP: .9},
		{Temperature: 1, MinP: .1},
		{Temperature: .9, TopK: 50, TopP: .95, MinP: .05},
	} {
		want, w, n := plainChain(logits, s), NewWork(simd.Best()), 20000
		var out ops.Sample
		counts := make([]int, len(logits))
		for i := range n {
			s.Seed, s.Position = 42, uint32(i)
			Device(w, &out, &s, logits, len(logits))
			counts[out.Token.ID]++
		}
		chi, bins, restWant, restGot := 0.0, 0, 0.0, 0.0
		for id, p := range want {
			if p == 0 && counts[id] > 0 {
				t.Fatalf("%+v: drew id %d, which the chain leaves out", s, id)
			}
			if e := p * float64(n); e >= 10 {
				chi += (float64(counts[id]) - e) * (float64(counts[id]) - e) / e
				bins++
			} else {
				restWant, restGot = restWant+e, restGot+float64(counts[id])
			}
		}
		if restWant >= 10 {
			chi += (restGot - restWant) * (restGot - restWant) / restWant
			bins++
		}
		// Mean k, variance 2k: five deviations is p < 1e-5.
		if k := float64(bins - 1); chi > k+5*math.Sqrt(2*k) {
			t.Errorf("%+v: chi-square %.1f over %d bins", s, chi, bins)
		}
	}
}

func TestDrawReportsTheUnmodifiedDistribution(t *testing.T) {
	logits := []float32{1, 3, 2, 3, -1, 9, 9} // the last two are padding rows
	w := NewWork(simd.Best())
	var out ops.Sample
	s := ops.Sampling{Temperature: 0, TopK: 1, Candidates: 3, Watch: 4}
	Device(w, &out, &s, logits, 5)
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v))
	}
	if out.Token.ID != 1 {
		t.Errorf("greedy chose %d, want the lower id 1 of the tie, and no padding row", out.Token.ID)
	}
	var ids []int32
	for _, c := range out.Candidates {
		ids = append(ids, c.ID)
		if want := float64(logits[c.ID]) - math.Log(sum); math.Abs(float64(c.Logprob)-want) > 1e-6 {
			t.Errorf("log-probability of %d is %v, want %v", c.ID, c.Logprob, want)
		}
	}
	if !slices.Equal(ids, []int32{1, 3, 2}) {
		t.Errorf("candidates %v, want 1 3 2", ids)
	}
	if out.Watched.ID != 4 || math.Abs(float64(out.Watched.Logprob)-(-1-math.Log(sum))) > 1e-6 {
		t.Errorf("watched %+v", out.Watched)
	}
}

// sorted returns all of a row, best first.
func sorted(logits []float32) []pick {
	all := make([]pick, len(logits))
	for i, v := range logits {
		all[i] = pick{int32(i), v}
	}
	slices.SortFunc(all, func(a, b pick) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	return all
}

// plainDraw picks an id. A draw is a race: among the kept tokens, the one with the
// smallest -log(u)/p wins, which happens with probability p. Each token's u
// depends on its id and not on the others, so the order and the extent of the
// window play no part.
func plainDraw(s *ops.Sampling, logits []float32) int32 {
	if s.Temperature == 0 {
		return sorted(logits)[0].id
	}
	kept := plainFilter(s, logits)
	best, first := kept[0].id, math.Inf(1)
	for _, p := range kept {
		scaled := float64(p.value-kept[0].value) / float64(s.Temperature)
		if time := -math.Log(float64(ops.Uniform(s, 0, p.id))) * math.Exp(-scaled); time < first {
			best, first = p.id, time
		}
	}
	return best
}

// plainFilter returns the ids that top-k, top-p and min-p leave, largest first. At
// least one always stays.
func plainFilter(s *ops.Sampling, logits []float32) []pick {
	count := len(logits)
	if s.TopK > 0 {
		count = min(count, s.TopK)
	}
	picks := sorted(logits)[:count]
	weight := func(p pick) float64 {
		return math.Exp(float64(p.value-picks[0].value) / float64(s.Temperature))
	}
	if s.TopP > 0 && s.TopP < 1 {
		var total, sum float64
		for _, p := range picks {
			total += weight(p)
		}
		for i, p := range picks {
			if sum += weight(p); sum >= float64(s.TopP)*total {
				picks = picks[:i+1]
				break
			}
		}
	}
	if s.MinP > 0 {
		for i, p := range picks {
			if i > 0 && weight(p) < float64(s.MinP) {
				picks = picks[:i]
				break
			}
		}
	}
	return picks
}

// Device chooses what the plain draw does, whatever shortcut it takes: over
// flat and peaked rows, ties, and every combination of filters.
func TestDeviceChoosesAsThePlainDraw(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for _, level := range simd.Levels() {
		w := NewWork(level)
		var out ops.Sample
		for i := range 600 {
			logits := make([]float32, []int{1, 5, 300, 5000}[i%4])
			spread := []float64{.01, 1, 3, 12}[random.IntN(4)]
			for i := range logits {
				logits[i] = float32(random.NormFloat64() * spread)
				if spread == 3 {
					logits[i] = float32(math.Round(float64(logits[i])))
				}
			}
			s := ops.Sampling{
				Temperature: []float32{0, .3, 1, 2}[random.IntN(4)], TopK: []int{0, 0, 1, 20, 4000}[random.IntN(5)],
				TopP: []float32{0, 1, .9, .999}[random.IntN(4)], MinP: []float32{0, 0, .05, 1}[random.IntN(4)],
				Seed: random.Uint64(), Position: uint32(i),
			}
			tokens := len(logits) - random.IntN(len(logits))/4
			Device(w, &out, &s, logits, tokens)
			if want := plainDraw(&s, logits[:tokens]); out.Token.ID != want {
				t.Fatalf("%v: %+v over %d of spread %v: drew %d, want %d", level, s, tokens, spread, out.Token.ID, want)
			}
		}
	}
}
