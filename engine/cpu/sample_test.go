package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

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

func testWorker(vocab int) *worker { return &worker{picks: make([]pick, 0, vocab)} }

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
		want, w, n := plainChain(logits, s), testWorker(len(logits)), 20000
		counts := make([]int, len(logits))
		for i := range n {
			s.Seed, s.Position = 42, uint32(i)
			counts[choice(w, &s, logits)]++
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
	w := testWorker(len(logits))
	var out ops.Sample
	s := ops.Sampling{Temperature: 0, TopK: 1, Candidates: 3, Watch: 4}
	draw(w, &out, &s, logits, 5)
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

func TestLargestEqualsSorting(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		values := make([]float32, 1+random.IntN(300))
		for i := range values {
			values[i] = float32(random.IntN(40)) // many ties
		}
		n := random.IntN(len(values) + 1)
		got := largest(nil, values, n)
		want := make([]pick, len(values))
		for i, v := range values {
			want[i] = pick{int32(i), v}
		}
		slices.SortFunc(want, compare)
		if !slices.Equal(got, want[:n]) {
			t.Fatalf("largest %d of %v = %v", n, values, got)
		}
	}
}

func TestChooseWeighsExperts(t *testing.T) {
	logits := []float32{0, 2, 1, 2}
	ids, weights := make([]int32, 2), make([]float32, 2)
	choose(make([]pick, 0, 3), logits, ids, weights, true)
	if ids[0] != 1 || ids[1] != 3 || weights[0] != .5 || weights[1] != .5 {
		t.Errorf("renormalised: %v %v", ids, weights)
	}
	choose(make([]pick, 0, 3), logits, ids, weights, false)
	want := math.Exp(2) / (1 + math.E + 2*math.Exp(2))
	if math.Abs(float64(weights[0])-want) > 1e-6 {
		t.Errorf("not renormalised: %v, want %v", weights[0], want)
	}
}

func BenchmarkSampleVocabulary(b *testing.B) {
	random := rand.New(rand.NewPCG(7, 8))
	logits := make([]float32, 151936)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 3)
	}
	w := testWorker(len(logits))
	var out ops.Sample
	s := ops.Sampling{Temperature: .7, TopK: 20, TopP: .8, Candidates: 20, Watch: -1}
	for b.Loop() {
		draw(w, &out, &s, logits, 151669)
	}
}
