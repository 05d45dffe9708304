package cpu

import (
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Sample implements ops.Set.
func (r *recorder) Sample(a ops.SampleArgs) {
	r.plan.vocab = max(r.plan.vocab, a.Vocabulary)
	r.add("sample", -1, func(r *run) {
		logits := floats(a.Logits)
		r.pool.each(len(r.Sampling), func(id, row int) {
			draw(&r.workers[id], &r.Samples[row], &r.Sampling[row], logits[row*a.Vocabulary:][:a.Vocabulary], a.Tokens)
		})
	})
}

// pick is an id with its logit.
type pick struct {
	id    int32
	value float32
}

// before orders picks: larger first, the lower id among equals.
func (p pick) before(q pick) bool {
	return p.value > q.value || p.value == q.value && p.id < q.id
}

func compare(p, q pick) int {
	if p.before(q) {
		return -1
	}
	return 1
}

// largest appends the n largest values to picks, in order. It keeps a heap of
// n with the worst on top, so most values cost one comparison.
func largest(picks []pick, values []float32, n int) []pick {
	for id, v := range values {
		p := pick{int32(id), v}
		switch {
		case len(picks) < n:
			picks = append(picks, p)
			for i := len(picks) - 1; i > 0 && picks[(i-1)/2].before(picks[i]); i = (i - 1) / 2 {
				picks[i], picks[(i-1)/2] = picks[(i-1)/2], picks[i]
			}
		case n > 0 && p.before(picks[0]):
			picks[0] = p
			sink(picks)
		}
	}
	slices.SortFunc(picks, compare)
	return picks
}

// sink restores the heap after its top was replaced.
func sink(picks []pick) {
	for i := 0; ; {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(picks); child++ {
			if picks[worst].before(picks[child]) {
				worst = child
			}
		}
		if worst == i {
			return
		}
		picks[i], picks[worst] = picks[worst], picks[i]
		i = worst
	}
}

// draw fills in one sample: the chain temperature, top-k, top-p, min-p over the
// first tokens ids, then the draw. Log-probabilities are of the unmodified
// distribution over the whole vocabulary.
func draw(w *worker, out *ops.Sample, s *ops.Sampling, logits []float32, tokens int) {
	out.LogSumExp = logSumExp(logits)
	candidate := func(id int32) ops.Candidate {
		return ops.Candidate{ID: id, Logit: logits[id], Logprob: logits[id] - out.LogSumExp}
	}
	out.Candidates = out.Candidates[:0]
	for _, p := range largest(w.picks[:0], logits[:tokens], min(s.Candidates, tokens)) {
		out.Candidates = append(out.Candidates, candidate(p.id))
	}
	out.Watched = ops.Candidate{ID: -1}
	if s.Watch >= 0 && int(s.Watch) < len(logits) {
		out.Watched = candidate(s.Watch)
	}
	out.Token = candidate(choice(w, s, logits[:tokens]))
}

func logSumExp(logits []float32) float32 {
	top := slices.Max(logits)
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - top))
	}
	return top + float32(math.Log(sum))
}

// choice picks an id. A draw is a race: among the kept tokens, the one with the
// smallest -log(u)/p wins, which happens with probability p. Each token's u
// depends on its id and not on the others, so the order and the extent of the
// window play no part.
func choice(w *worker, s *ops.Sampling, logits []float32) int32 {
	if s.Temperature == 0 {
		return largest(w.picks[:0], logits, 1)[0].id
	}
	kept := filter(w.picks[:0], s, logits)
	best, first := kept[0].id, math.Inf(1)
	for _, p := range kept {
		scaled := float64(p.value-kept[0].value) / float64(s.Temperature)
		if time := -math.Log(float64(ops.Uniform(s, 0, p.id))) * math.Exp(-scaled); time < first {
			best, first = p.id, time
		}
	}
	return best
}

// filter returns the ids that top-k, top-p and min-p leave, largest first. At
// least one always stays.
func filter(picks []pick, s *ops.Sampling, logits []float32) []pick {
	count := len(logits)
	if s.TopK > 0 {
		count = min(count, s.TopK)
	}
	picks = largest(picks, logits, count)
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
