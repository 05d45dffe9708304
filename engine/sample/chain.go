package sample

import (
	"math"
	"math/bits"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// chain is what the host's stages work on: the tokens still in, with their
// logits as the stages so far have left them, and what is known of tokens that
// are in as well but not listed.
//
// Listed tokens of a window are the best ones, in order, until a stage has cut
// the tail off; after that there is no tail, and the order is nobody's promise.
// Every stage returns false when the tail could change what it does. Then the
// chain starts again with the row behind the window, for stages that need no
// more than sums over all of it, and then, at last, on the whole row, which has
// no tail.
type chain struct {
	kept, spare []token
	tail        tail
	work        *Work // for the whole row
	sum         []float32
}

// token is a candidate in the chain.
type token struct {
	id     int32
	x      float64 // logit
	weight float64 // exp(x), the best one's being 1
	key    float64 // what the order goes by
}

func (t token) before(u token) bool { return t.key > u.key || t.key == u.key && t.id < u.id }

// tail is what a window leaves out.
type tail struct {
	count  int     // of its tokens, at most; 0 for no tail
	top    float64 // the best logit of all tokens, before any stage
	floor  float64 // no logit of the tail is larger, before any stage
	lo, hi float64 // bounds of its sum of exp(logit - top), before any stage
	beta   float64 // what its logits have been multiplied by

	first, last float64 // top and floor as the stages have left them

	// row, where it is known, is the whole row after edits; then count is exact.
	// All of it is in, window and tail.
	row []float32
}

// mass returns bounds of the tail's sum of exp(x - best). Let y = logit - top,
// all of them at most f = floor - top, with R = sum exp(y) in [lo, hi] over at
// most n tokens. Then sum exp(beta y):
//
//	beta >= 1: at most R exp((beta-1) f), since beta y <= y + (beta-1) f;
//	           at least n (R/n)^beta, by Jensen: z^beta is convex;
//	beta <  1: at least R exp((beta-1) f), for the same reason turned round;
//	           at most n (R/n)^beta, by Jensen: z^beta is concave.
//
// With n too large the Jensen bounds only get wider.
func (t *tail) mass(best float64) (lo, hi float64) {
	if t.count == 0 {
		return 0, 0
	}
	n, shift := float64(t.count), math.Exp(t.first-best)
	edge := math.Exp((t.beta - 1) * (t.floor - t.top))
	lo, hi = t.lo*edge, n*math.Pow(t.hi/n, t.beta)
	if t.beta >= 1 {
		lo, hi = n*math.Pow(t.lo/n, t.beta), t.hi*edge
	}
	if lo, hi = lo*shift, hi*shift; !(lo <= hi) {
		return 0, math.Inf(1) // too large for a float64: bounds that decide nothing
	}
	return lo, hi
}

// window begins a chain on the tokens that a device chose. Its sum is good to
// some last places of a float32: slack widens it by 2e-6 and two of them.
func (c *chain) window(out *ops.Sample, asked, tokens int) {
	c.kept, c.tail = c.kept[:0], tail{}
	top := float64(out.Window[0].Logit)
	sum := 0.0
	for _, w := range out.Window {
		c.kept = append(c.kept, token{id: w.ID, x: float64(w.Logit)})
		sum += math.Exp(float64(w.Logit) - top)
	}
	if len(out.Window) < asked || len(out.Window) >= tokens {
		return // all that may be drawn
	}
	slack := 2e-6 + math.Abs(float64(out.WindowSumExp))/(1<<22)
	total := float64(out.WindowSumExp) - top
	floor := float64(out.Window[len(out.Window)-1].Logit)
	c.tail = tail{
		count: tokens - len(out.Window), top: top, floor: floor, beta: 1, first: top, last: floor,
		lo: max(math.Exp(total-slack)-sum, 0), hi: max(math.Exp(total+slack)-sum, 0),
	}
}

// windowEdited begins a chain on tokens that were chosen before some edits. It says
// whether they are enough: every token that an edit touches is listed, and those that
// fall below the list's last join the tail.
func (c *chain) windowEdited(out *ops.Sample, tokens int, edits []ops.Bias, mask []uint32) bool {
	c.window(out, window, tokens)
	if mask != nil && c.tail.count > 0 {
		c.mask(mask, tokens)
	}
	if len(edits) == 0 && mask == nil {
		return true
	}
	touched := 0
	c.keep(func(t *token) bool {
		if mask != nil && !allows(mask, t.id) {
			return false
		}
		at, found := find(edits, t.id)
		if !found {
			return true
		}
		touched++
		t.x += float64(edits[at].Value)
		switch {
		case !(t.x >= -math.MaxFloat32 && t.x <= math.MaxFloat32):
			return false
		case c.tail.count > 0 && t.x < c.tail.floor:
			mass := math.Exp(t.x - c.tail.top)
			c.tail.lo, c.tail.hi, c.tail.count = c.tail.lo+mass, c.tail.hi+mass, c.tail.count+1
			return false
		}
		return true
	})
	if len(c.kept) == 0 || c.tail.count > 0 && touched < len(edits) {
		return false
	}
	if touched == 0 {
		return true // what is left is in order
	}
	c.byLogit()
	c.spare = best(c.spare, c.kept, len(c.kept))
	c.take(len(c.kept))
	return true
}

// mask takes the tokens off the tail that a mask does not allow. Which those are is not
// known: only how many are left, and that their sum is no larger.
func (c *chain) mask(mask []uint32, tokens int) {
	left := 0
	for i, word := range mask[:min(len(mask), (tokens+31)/32)] {
		if above := 32*(i+1) - tokens; above > 0 {
			word &= 1<<(32-above) - 1
		}
		left += bits.OnesCount32(word)
	}
	for _, t := range c.kept {
		if allows(mask, t.id) {
			left--
		}
	}
	if c.tail.count, c.tail.lo = min(c.tail.count, left), 0; left == 0 {
		c.tail = tail{}
	}
}

func allows(mask []uint32, id int32) bool {
	return int(id/32) < len(mask) && mask[id/32]>>(id%32)&1 != 0
}

// edited returns a row after edits, in memory of the chain.
func (c *chain) edited(logits []float32, s *ops.Sampling) []float32 {
	c.work.edited = append(c.work.edited[:0], logits...)
	edit(c.work.edited, s)
	return c.work.edited
}

// behind puts a row behind the window.
func (c *chain) behind(row []float32) {
	if c.tail.count > 0 {
		c.tail.row = row
		c.tail.count = int(c.moments().count) - len(c.kept)
	}
}

// row begins a chain on a whole row after edits.
func (c *chain) row(row []float32) {
	c.kept, c.tail = c.kept[:0], tail{}
	for id, v := range row {
		if v >= -math.MaxFloat32 && v <= math.MaxFloat32 {
			c.kept = append(c.kept, token{id: int32(id), x: float64(v)})
		}
	}
}

// run does the stages, and says whether the tail had no part in the outcome.
func (s *Sampler) run(c *chain) bool {
	p := &s.plan.params
	if s.plan.scale != 1 && !c.temperature(1/s.plan.scale, 0, 0) {
		return false
	}
	for _, stage := range s.plan.stages {
		ok := false
		switch stage {
		case StageDRY:
			ok = c.subtract(s.repeats.edits())
		case StageTopNSigma:
			ok = c.topNSigma(float64(p.TopNSigma))
		case StageTemperature:
			ok = c.temperature(float64(p.Temperature), float64(p.DynamicRange), float64(p.DynamicExponent))
		case StageTopK:
			ok = c.topK(p.TopK)
		case StageTypical:
			ok = c.typical(float64(p.Typical))
		case StageTopP:
			ok = c.topP(float64(p.TopP))
		case StageMinP:
			ok = c.minP(float64(p.MinP))
		case StageXTC:
			ok = ops.Uniform(&s.drawn, drawXTC, 0) > p.XTCProbability || c.xtc(float64(p.XTCThreshold))
		}
		if !ok {
			return false
		}
	}
	if p.Mirostat.Tau > 0 && !c.mirostat(s.mu) {
		return false
	}
	return c.tail.count == 0
}

// Numbers of the draws within a token: the race is 0.
const drawXTC = 1

// weigh sets the weights and returns bounds of their sum, tail included.
func (c *chain) weigh() (lo, hi float64) {
	best, sum := c.best(), 0.0
	for i := range c.kept {
		t := &c.kept[i]
		t.weight = math.Exp(t.x - best)
		sum += t.weight
	}
	lo, hi = c.tail.mass(best)
	return sum + lo, sum + hi
}

func (c *chain) best() float64 {
	best := c.kept[0].x
	for _, t := range c.kept {
		best = max(best, t.x)
	}
	return best
}

// edge returns a weight that no token of the tail exceeds: that of the last
// place in the window. Call it after weigh, with a tail.
func (c *chain) edge() float64 { return math.Exp(c.tail.last - c.best()) }

// keep drops the tokens that fail; in a window the order stays.
func (c *chain) keep(pass func(*token) bool) {
	n := 0
	for i := range c.kept {
		if pass(&c.kept[i]) {
			c.kept[n] = c.kept[i]
			n++
		}
	}
	c.kept = c.kept[:n]
}

// take keeps the n first of spare.
func (c *chain) take(n int) { c.kept, c.spare = c.spare[:n], c.kept }

// byLogit makes logits the keys.
func (c *chain) byLogit() {
	for i := range c.kept {
		c.kept[i].key = c.kept[i].x
	}
}

// topK keeps the k best: they are in the window when it has k.
func (c *chain) topK(k int) bool {
	if k > len(c.kept) {
		return c.tail.count == 0
	}
	c.tail.count = 0
	c.byLogit()
	c.spare = best(c.spare, c.kept, k)
	c.take(k)
	return true
}

// topP keeps the fewest best tokens that hold a share p of the mass. With a
// tail, the cut must lie in the window and be the same at both of its bounds.
func (c *chain) topP(p float64) bool {
	lo, hi := c.weigh()
	c.byLogit()
	n, enough := c.reach(p * lo)
	if c.tail.count > 0 {
		if m, certain := c.reach(p * hi); !enough || !certain || m != n {
			return false
		}
		c.tail.count = 0
	}
	c.take(n)
	return true
}

// reach returns how many of the tokens, by key, hold a mass together, and leaves
// them sorted in spare. As a rule few do, so the sorted part grows as needed.
func (c *chain) reach(mass float64) (n int, enough bool) {
	for part := 256; ; part *= 8 {
		c.spare = best(c.spare, c.kept, part)
		sum := 0.0
		for i, t := range c.spare {
			if sum += t.weight; sum >= mass {
				return i + 1, true
			}
		}
		if part >= len(c.kept) {
			return len(c.kept), false
		}
	}
}

// minP keeps tokens with a share p of the best one's probability. The tail goes
// when even the window's edge would; else some of it might stay.
func (c *chain) minP(p float64) bool {
	c.weigh()
	if c.tail.count > 0 {
		if c.edge() >= p {
			return false
		}
		c.tail.count = 0
	}
	c.keep(func(t *token) bool { return t.weight >= p })
	return true
}

// topNSigma keeps logits within n standard deviations of the best. Mean and
// deviation are of all logits, so that a tail needs its row; it goes when the
// window's edge would.
func (c *chain) topNSigma(n float64) bool {
	if c.tail.count > 0 && c.tail.row == nil {
		return false
	}
	m := c.moments()
	mean := m.sum / m.count
	floor := c.best() - n*math.Sqrt(max(m.square/m.count-mean*mean, 0))
	if c.tail.count > 0 {
		if c.tail.last >= floor {
			return false
		}
		c.tail.count = 0
	}
	c.keep(func(t *token) bool { return t.x >= floor })
	return true
}

// moments are sums over all that is in, of x less the best.
type moments struct{ count, sum, square float64 }

// moments may take squares of differences to the best: the best is among them,
// so the variance is at least mean^2/count, and 150,000 tokens cost it no more
// than 6 of a float64's 16 digits.
func (c *chain) moments() (m moments) {
	if c.tail.count == 0 {
		best := c.best()
		for _, t := range c.kept {
			d := t.x - best
			m.count, m.sum, m.square = m.count+1, m.sum+d, m.square+d*d
		}
		return m
	}
	for _, v := range c.tail.row {
		if v >= -math.MaxFloat32 {
			d := float64(v) - c.tail.top
			m.count, m.sum, m.square = m.count+1, m.sum+d, m.square+d*d
		}
	}
	m.sum *= c.tail.beta
	m.square *= c.tail.beta * c.tail.beta
	return m
}

// temperature divides the logits. A dynamic one goes by the entropy of all that
// is in, so that a tail needs its row; 0 keeps the best token only.
func (c *chain) temperature(t, span, exponent float64) bool {
	if t > 0 && span > 0 {
		if c.tail.count > 0 && c.tail.row == nil {
			return false
		}
		if n := len(c.kept) + c.tail.count; n > 1 {
			h, _ := c.entropy()
			share := h / math.Log(float64(n))
			low := max(t-span, 0)
			t = low + (t+span-low)*math.Pow(min(max(share, 0), 1), exponent)
		}
	}
	if t < coldest {
		return c.topK(1)
	}
	for i := range c.kept {
		c.kept[i].x /= t
	}
	c.tail.beta /= t
	c.tail.first /= t
	c.tail.last /= t
	return true
}

// coldest is below every temperature that a float32 can say, but 0: a dynamic
// one may come so near to 0 that the division would overflow.
const coldest = 1e-46

// entropy returns that of all that is in, in nats, and the logarithm of its sum
// of exp(x).
func (c *chain) entropy() (h, norm float64) {
	if c.tail.count > 0 {
		scale := float32(min(c.tail.beta, math.MaxFloat32))
		sum, moment := c.work.level.SumExpX(c.tail.row, float32(c.tail.top), scale)
		return math.Log(sum) - moment/sum, c.tail.first + math.Log(sum)
	}
	sum, _ := c.weigh()
	norm = c.best() + math.Log(sum)
	for _, t := range c.kept {
		if t.weight > 0 {
			h -= t.weight / sum * (t.x - norm)
		}
	}
	return h, norm
}

// typical keeps the fewest tokens that hold a share p of the mass, those first
// whose surprise is nearest to the entropy. With a tail, both come from its row,
// and the cut must be clear.
func (c *chain) typical(p float64) bool {
	if c.tail.count > 0 && c.tail.row == nil {
		return false
	}
	h, norm := c.entropy()
	for i := range c.kept {
		t := &c.kept[i]
		t.weight, t.key = math.Exp(t.x-norm), -math.Abs(norm-t.x-h)
	}
	n, enough := c.reach(p)
	if c.tail.count > 0 {
		if !enough || !c.clear(n, p, norm-c.tail.last-h) {
			return false
		}
		c.tail.count = 0
	}
	c.take(n)
	return true
}

// clear says whether typical's cut, the n first of spare, stays the same when
// entropy and probabilities are a little off, as sums over float32 are: the
// first that is out must be farther than the last that is in, and p lie between
// the masses with and without that. No token of the tail is nearer to the
// entropy than edge, for none has less surprise than the window's last.
func (c *chain) clear(n int, p, edge float64) bool {
	const slack = 2e-6
	last, sum := c.spare[n-1], 0.0
	for _, t := range c.spare[:n] {
		sum += t.weight
	}
	if n < len(c.spare) {
		edge = min(edge, -c.spare[n].key)
	}
	return edge+last.key > 2*slack && sum-p > slack && p-(sum-last.weight) > slack
}

// xtc drops the tokens with a probability of at least the threshold, but for
// the last of them. With a tail, the same ones must be above at both of its
// bounds, and its own best possible token must not be.
func (c *chain) xtc(threshold float64) bool {
	lo, hi := c.weigh()
	if c.tail.count > 0 && c.edge() >= threshold*lo {
		return false
	}
	last, count := token{}, 0
	for _, t := range c.kept {
		if (t.weight >= threshold*lo) != (t.weight >= threshold*hi) {
			return false
		}
		if t.weight < threshold*lo {
			continue
		}
		t.key = t.x
		if count++; count == 1 || last.before(t) {
			last = t
		}
	}
	if count > 1 {
		c.keep(func(t *token) bool { return t.id == last.id || t.weight < threshold*lo })
		c.tail.row = nil // not all of it is in any more
	}
	return true
}

// subtract takes DRY's penalties off. What they leave of a token may rank below
// some of the tail, and tokens of the tail may be penalised.
func (c *chain) subtract(edits []ops.Bias) bool {
	if len(edits) == 0 {
		return true
	}
	if c.tail.count > 0 {
		return false
	}
	for i := range c.kept {
		t := &c.kept[i]
		if at, found := find(edits, t.id); found {
			t.x += float64(edits[at].Value)
		}
	}
	return true
}

// mirostat keeps the tokens with at most mu bits of surprise, and at least the
// best one. With a tail, the cut must be the same at both bounds of its mass,
// and lie above the window's edge.
func (c *chain) mirostat(mu float64) bool {
	lo, hi := c.weigh()
	share := math.Exp2(-mu)
	if c.tail.count > 0 && c.edge() >= share*lo {
		return false
	}
	for _, t := range c.kept {
		if (t.weight >= share*lo) != (t.weight >= share*hi) {
			return false
		}
	}
	if share*lo > 1 {
		return c.topK(1)
	}
	c.tail.count = 0
	c.keep(func(t *token) bool { return t.weight >= share*lo })
	return true
}

// draw runs the race among what the stages left, which has no tail, and returns
// the winner with the log of its probability.
func (c *chain) draw(s *ops.Sampling) (int32, float64) {
	sum, _ := c.weigh()
	best := c.best()
	r := race{sampling: s, winner: -1, time: math.Inf(1)}
	for _, t := range c.kept {
		r.enter(t.id, t.x-best)
	}
	return r.winner, r.value - math.Log(sum)
}
