package sample

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Work is the scratch memory of one thread that samples. It grows to the
// vocabulary at the first row; after that a row allocates nothing, but for what
// the caller's Sample has no room for yet.
type Work struct {
	level  simd.Level
	edited []float32 // the row after penalties, bias and mask
	peaks  []pick    // largest of each block of the row at hand
	values []float32
	ids    []int32
	picks  []pick
	heap   []pick
	counts [1024]int32
}

// NewWork returns scratch memory for kernels of one level. Levels differ in the
// last bits of sums (LogSumExp, WindowSumExp, Chosen), nowhere else.
func NewWork(level simd.Level) *Work { return &Work{level: level} }

// pick is an id with its logit.
type pick struct {
	id    int32
	value float32
}

// before orders picks: larger first, the lower id among equals.
func (p pick) before(q pick) bool {
	return p.value > q.value || p.value == q.value && p.id < q.id
}

// Device draws from one row of logits as ops.Sampling says: it is what a device
// does, on the CPU. Ids from tokens on are padding and cannot be drawn. What it
// gives depends on the row and s alone.
//
// No row makes it panic. One with a NaN, a +Inf or nothing above -Inf has no
// distribution: LogSumExp is NaN, Token.ID is -1 and the lists are empty. When
// the edits leave nothing to draw, Token.ID is -1, or the window is empty. An
// edit whose result is no number, or too large for one, bans its token.
func Device(w *Work, out *ops.Sample, s *ops.Sampling, logits []float32, tokens int) {
	*out = ops.Sample{
		Token: ops.Candidate{ID: -1}, Watched: ops.Candidate{ID: -1}, LogSumExp: float32(math.NaN()),
		Candidates: out.Candidates[:0], Window: out.Window[:0], WindowSumExp: float32(math.Inf(-1)),
	}
	tokens = min(tokens, len(logits))
	if tokens <= 0 {
		return
	}
	row := logits[:tokens]
	top := w.scan(row)
	for _, v := range logits[tokens:] {
		top = max(top, v)
	}
	out.LogSumExp = w.logSumExp(logits, top, 1)
	if out.LogSumExp != out.LogSumExp {
		return
	}
	candidate := func(id int32) ops.Candidate {
		return ops.Candidate{ID: id, Logit: logits[id], Logprob: logits[id] - out.LogSumExp}
	}
	list := w.best(row, s.Candidates)
	for _, p := range list {
		out.Candidates = append(out.Candidates, candidate(p.id))
	}
	if s.Watch >= 0 && int(s.Watch) < len(logits) {
		out.Watched = candidate(s.Watch)
	}
	if edits(s) {
		w.edited = append(w.edited[:0], row...)
		row = w.edited
		edit(row, s)
		w.scan(row)
	}
	// The candidates are the window's tokens too where nothing was edited.
	if n := max(s.Window, 1); edits(s) || s.Candidates < n {
		list = w.best(row, n)
	}
	first := list[:min(1, len(list))]
	switch {
	case len(first) == 0: // all are banned
	case s.Window > 0:
		out.WindowSumExp = w.logSumExp(row, first[0].value, 1)
		for _, p := range list[:min(s.Window, len(list))] {
			out.Window = append(out.Window, ops.Candidate{ID: p.id, Logit: p.value, Logprob: logits[p.id] - out.LogSumExp})
		}
	case !(s.Temperature > 0):
		out.Token = candidate(first[0].id)
	default:
		id, chosen := w.draw(s, row, first[0])
		out.Token, out.Chosen = candidate(id), chosen
	}
}

// scan finds the peaks of a row, for best, and returns the largest.
func (w *Work) scan(row []float32) float32 {
	blocks := (len(row) + simd.Block - 1) / simd.Block
	w.values = resize(w.values, blocks)
	w.level.Peaks(w.values, row)
	w.peaks = w.peaks[:0]
	top := w.values[0]
	for i, v := range w.values {
		w.peaks = append(w.peaks, pick{int32(i), v})
		top = max(top, v)
	}
	return top
}

// best returns the n largest values above -Inf of the row scanned last, in
// order. n blocks whose peak is p or more have n values of p or more, so the
// n-th largest peak bounds the n-th largest value from below: what is less
// never gets into the selection.
func (w *Work) best(row []float32, n int) []pick {
	if n <= 0 {
		return nil
	}
	floor := float32(-math.MaxFloat32)
	switch {
	case n <= len(w.peaks):
		w.heap = heapOf(w.heap, w.peaks, n)
		floor = max(floor, w.heap[0].value)
	case n < len(row)/2:
		floor = max(floor, w.under(row, n))
	}
	w.heap = best(w.heap, w.atLeast(row, floor), n)
	return w.heap
}

// under returns a value that n values of the row scanned last, or more, are not below;
// -Inf where it finds none. It counts the values by steps below the largest: for rows of
// a few thousand, where peaks are fewer than n.
func (w *Work) under(row []float32, n int) float32 {
	const steps, perNat = 1024, 32
	top := w.peaks[0].value
	for _, p := range w.peaks {
		top = max(top, p.value)
	}
	clear(w.counts[:])
	for _, v := range row {
		if below := (top - v) * perNat; below < steps {
			w.counts[int(below)]++
		}
	}
	sum := 0
	for step, count := range w.counts {
		if sum += int(count); sum >= n {
			// A little lower, for what the product above rounds.
			return top - float32(step+1)/perNat*(1+1e-5) - 1e-5*abs(top)
		}
	}
	return float32(math.Inf(-1))
}

func abs(v float32) float32 { return max(v, -v) }

// atLeast returns the picks of the values not below floor, ids ascending.
func (w *Work) atLeast(row []float32, floor float32) []pick {
	w.ids = resize(w.ids, len(row))
	w.picks = w.picks[:0]
	for _, id := range w.ids[:w.level.AtLeast(w.ids, row, floor)] {
		w.picks = append(w.picks, pick{id, row[id]})
	}
	return w.picks
}

func (w *Work) logSumExp(row []float32, top, scale float32) float32 {
	return float32(float64(top) + math.Log(w.level.SumExp(row, top, scale)))
}

// resize returns a slice of n, for writing, in the memory of s when it fits.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func edits(s *ops.Sampling) bool {
	penalties := s.Repetition != 0 && s.Repetition != 1 || s.Presence != 0 || s.Frequency != 0
	return penalties && len(s.Seen) > 0 || len(s.Bias) > 0 || s.Mask != nil
}

// edit applies penalties, bias and mask: -Inf is a token that may not be drawn.
// Ids outside the row are passed over.
func edit(row []float32, s *ops.Sampling) {
	set := func(id int32, v float32) {
		if !(v <= math.MaxFloat32) {
			v = float32(math.Inf(-1))
		}
		row[id] = v
	}
	for _, seen := range s.Seen {
		if uint(seen.ID) >= uint(len(row)) {
			continue
		}
		v := row[seen.ID]
		if s.Repetition > 0 {
			if v > 0 {
				v /= s.Repetition
			} else {
				v *= s.Repetition
			}
		}
		if seen.Output > 0 {
			v -= float32(s.Frequency * float32(seen.Output)) // no fused multiply-add, which would round otherwise
			v -= s.Presence
		}
		set(seen.ID, v)
	}
	for _, b := range s.Bias {
		if uint(b.ID) < uint(len(row)) {
			set(b.ID, row[b.ID]+b.Value)
		}
	}
	if s.Mask == nil {
		return
	}
	for word := 0; word*32 < len(row); word++ {
		var allowed uint32
		if word < len(s.Mask) {
			allowed = s.Mask[word]
		}
		if allowed == math.MaxUint32 {
			continue
		}
		for i := range row[word*32 : min(word*32+32, len(row))] {
			if allowed>>i&1 == 0 {
				row[word*32+i] = float32(math.Inf(-1))
			}
		}
	}
}

// race finds the token to draw: among all that enter, the one with the smallest
// -log(u)/weight wins, which happens with probability weight/sum. Each token's u
// depends on its id and not on the others, so the order and the extent of the
// field play no part.
type race struct {
	sampling *ops.Sampling
	winner   int32
	value    float64 // of the winner
	time     float64
}

// enter runs a token of weight exp(value): a logit less the best one, scaled.
// Since -log(u) > 1-u, most losers are known without a logarithm.
func (r *race) enter(id int32, value float64) {
	u := float64(ops.Uniform(r.sampling, 0, id))
	if value <= 0 && 1-u > r.time {
		return
	}
	time := -math.Log(u) * math.Exp(-value)
	if time < r.time || time == r.time && (value > r.value || value == r.value && id < r.winner) {
		r.winner, r.value, r.time = id, value, time
	}
}

// draw runs temperature, top-k, top-p, min-p and the draw over a row whose best
// token is first. It returns the token and the log of its probability.
func (w *Work) draw(s *ops.Sampling, row []float32, first pick) (int32, float32) {
	temperature := min(s.Temperature, math.MaxFloat32)
	scaled := func(p pick) float64 { return float64(p.value-first.value) / float64(temperature) }
	weight := func(p pick) float64 { return math.Exp(scaled(p)) }
	scale := min(1/temperature, math.MaxFloat32)
	r := race{sampling: s, winner: first.id, time: math.Inf(1)}
	var kept []pick
	sum := 0.0
	switch {
	case s.TopK > 0 || s.TopP > 0 && s.TopP < 1:
		kept = w.lead(s, row, scale, first, weight)
	case s.MinP > 0:
		// A little lower than the rule, which is applied below.
		floor := float64(first.value) + float64(temperature)*(math.Log(float64(s.MinP))-1e-3)
		kept = w.atLeast(row, float32(max(floor, -math.MaxFloat32)))
	default:
		// The field is the whole row, but once a token has run, those that are too
		// slow even with the luckiest number need not: time >= -log(u)/weight, and
		// the largest u leaves -log(u) >= 2^-24.
		sum = w.level.SumExp(row, first.value, scale)
		for _, p := range w.best(row, 64) {
			r.enter(p.id, scaled(p))
		}
		floor := float64(first.value) + float64(temperature)*(-24*math.Ln2-math.Log(r.time)-1e-3)
		kept = w.atLeast(row, float32(min(max(floor, -math.MaxFloat32), float64(first.value))))
	}
	add := sum == 0
	for _, p := range kept {
		x := weight(p)
		if s.MinP > 0 && p != first && x < float64(s.MinP) {
			continue
		}
		if add {
			sum += x
		}
		r.enter(p.id, scaled(p))
	}
	return r.winner, float32(r.value - math.Log(sum))
}

// lead returns the tokens that top-k and top-p leave, in order. Without top-k
// the whole row counts for top-p, and a window of it grows until it holds enough.
func (w *Work) lead(s *ops.Sampling, row []float32, scale float32, first pick, weight func(pick) float64) []pick {
	if s.TopK > 0 {
		kept := w.best(row, s.TopK)
		if !(s.TopP > 0 && s.TopP < 1) {
			return kept
		}
		total := 0.0
		for _, p := range kept {
			total += weight(p)
		}
		kept, _ = nucleus(kept, float64(s.TopP)*total, weight)
		return kept
	}
	mass := float64(s.TopP) * w.level.SumExp(row, first.value, scale)
	for n := 256; ; n *= 8 {
		kept, enough := nucleus(w.best(row, n), mass, weight)
		if enough || n >= len(row) {
			return kept
		}
	}
}

// nucleus cuts a sorted list where its weights reach mass.
func nucleus(kept []pick, mass float64, weight func(pick) float64) (cut []pick, enough bool) {
	sum := 0.0
	for i, p := range kept {
		if sum += weight(p); sum >= mass {
			return kept[:i+1], true
		}
	}
	return kept, false
}
