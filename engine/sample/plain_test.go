package sample

import (
	"cmp"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// plain is the reference: every sampler as its source describes it, on the
// whole row, in float64, with a full sort wherever an order is asked for.
type plain struct {
	x  []float64 // logits
	in []bool
}

// plainText is what penalties look at.
type plainText struct{ prompt, output []int32 }

func (h plainText) all() []int32 { return slices.Concat(h.prompt, h.output) }

// newPlain edits a row: repetition penalty over prompt and output (Keskar et
// al. 2019), presence and frequency over output (OpenAI), bias, mask.
func newPlain(p *Params, logits []float32, h plainText) *plain {
	c := &plain{make([]float64, len(logits)), make([]bool, len(logits))}
	all, from := h.all(), 0
	if p.PenaltyLastN > 0 {
		from = max(0, len(all)-p.PenaltyLastN)
	}
	for id, v := range logits {
		x := float64(v)
		seen, written := 0, 0
		for i := from; i < len(all); i++ {
			if all[i] == int32(id) {
				seen++
				if i >= len(h.prompt) {
					written++
				}
			}
		}
		if r := float64(p.Repetition); seen > 0 && r != 0 {
			if x > 0 {
				x /= r
			} else {
				x *= r
			}
		}
		x -= float64(p.Frequency) * float64(written)
		if written > 0 {
			x -= float64(p.Presence)
		}
		for _, b := range p.Bias {
			if b.ID == int32(id) {
				x += float64(b.Value)
			}
		}
		allowed := p.Mask == nil || id/32 < len(p.Mask) && p.Mask[id/32]>>(id%32)&1 == 1
		c.x[id], c.in[id] = x, allowed && x > -math.MaxFloat32
	}
	return c
}

// order lists what is in, best first, the lower id among equals.
func (c *plain) order() (ids []int) {
	for id, in := range c.in {
		if in {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int) int { return cmp.Or(cmp.Compare(c.x[b], c.x[a]), a-b) })
	return ids
}

func (c *plain) probabilities() []float64 {
	p, sum := make([]float64, len(c.x)), 0.0
	best := math.Inf(-1)
	for id, in := range c.in {
		if in {
			best = max(best, c.x[id])
		}
	}
	for id, in := range c.in {
		if in {
			p[id] = math.Exp(c.x[id] - best)
			sum += p[id]
		}
	}
	for id := range p {
		p[id] /= sum
	}
	return p
}

func (c *plain) drop(ids []int) {
	for _, id := range ids {
		c.in[id] = false
	}
}

// stage runs one. chance says whether XTC's dice fell so that it runs.
func (c *plain) stage(stage Stage, p *Params, h plainText, chance bool) {
	off := map[Stage]bool{
		StageDRY: p.DRY.Multiplier == 0, StageTopK: p.TopK == 0, StageTopP: p.TopP == 0 || p.TopP == 1, StageMinP: p.MinP == 0,
		StageTypical: p.Typical == 0 || p.Typical == 1, StageTopNSigma: p.TopNSigma == 0, StageXTC: !chance,
		StageTemperature: p.Temperature == 1 && p.DynamicRange == 0,
	}
	if off[stage] {
		return
	}
	ids, prob := c.order(), c.probabilities()
	switch stage {
	case StageDRY:
		for id, loss := range plainDRY(p, h.all()) {
			c.x[id] -= loss
		}
	case StageTopK: // the k best
		c.drop(ids[min(p.TopK, len(ids)):])
	case StageTopP: // Holtzman et al. 2020: the fewest with a mass of p
		c.drop(ids[mass(ids, prob, float64(p.TopP)):])
	case StageMinP: // Nguyen et al. 2024: at least p of the best one's probability
		for _, id := range ids {
			if prob[id] < float64(p.MinP)*prob[ids[0]] {
				c.in[id] = false
			}
		}
	case StageTypical: // Meister et al. 2022: nearest to the entropy first
		h := entropy(prob)
		slices.SortFunc(ids, func(a, b int) int {
			return cmp.Or(cmp.Compare(math.Abs(-math.Log(prob[a])-h), math.Abs(-math.Log(prob[b])-h)), a-b)
		})
		c.drop(ids[mass(ids, prob, float64(p.Typical)):])
	case StageTopNSigma: // Tang et al. 2024: within n standard deviations of the best logit
		mean, variance := 0.0, 0.0
		for _, id := range ids {
			mean += c.x[id] / float64(len(ids))
		}
		for _, id := range ids {
			variance += (c.x[id] - mean) * (c.x[id] - mean) / float64(len(ids))
		}
		for _, id := range ids {
			if c.x[id] < c.x[ids[0]]-float64(p.TopNSigma)*math.Sqrt(variance) {
				c.in[id] = false
			}
		}
	case StageXTC: // all above the threshold but the last go
		above := 0
		for _, id := range ids {
			if prob[id] >= float64(p.XTCThreshold) {
				above++
			}
		}
		if above > 1 {
			c.drop(ids[:above-1])
		}
	case StageTemperature:
		t := float64(p.Temperature)
		if t > 0 && p.DynamicRange > 0 && len(ids) > 1 { // by the entropy's share of the largest possible
			exponent := float64(p.DynamicExponent)
			if exponent == 0 {
				exponent = 1
			}
			low, high := max(0, t-float64(p.DynamicRange)), t+float64(p.DynamicRange)
			t = low + (high-low)*math.Pow(entropy(prob)/math.Log(float64(len(ids))), exponent)
		}
		if t == 0 {
			c.drop(ids[1:])
			return
		}
		for id := range c.x {
			c.x[id] /= t
		}
	}
}

// mirostat keeps what surprises by at most mu bits, and the best.
func (c *plain) mirostat(mu float64) {
	prob := c.probabilities()
	for _, id := range c.order()[1:] {
		if -math.Log2(prob[id]) > mu {
			c.in[id] = false
		}
	}
}

func mass(ids []int, prob []float64, p float64) int {
	sum := 0.0
	for i, id := range ids {
		if sum += prob[id]; sum >= p {
			return i + 1
		}
	}
	return len(ids)
}

func entropy(prob []float64) (h float64) {
	for _, p := range prob {
		if p > 0 {
			h -= p * math.Log(p)
		}
	}
	return h
}

// plainDRY goes over every earlier place of the last token and counts backward.
func plainDRY(p *Params, text []int32) map[int32]float64 {
	base, allowed := float64(p.DRY.Base), p.DRY.AllowedLength
	if base == 0 {
		base = 1.75
	}
	if allowed == 0 {
		allowed = 2
	}
	if p.PenaltyLastN > 0 {
		text = text[max(0, len(text)-p.PenaltyLastN):]
	}
	breaks := func(id int32) bool { return slices.Contains(p.DRY.Breakers, id) }
	losses := map[int32]float64{}
	last := len(text) - 1
	if p.DRY.Multiplier == 0 || last < 0 || breaks(text[last]) {
		return losses
	}
	for i := range last {
		length := 0
		for length <= i && text[i-length] == text[last-length] && !breaks(text[i-length]) {
			length++
		}
		if next := text[i+1]; length >= allowed && !breaks(next) {
			loss := float64(p.DRY.Multiplier) * math.Pow(base, float64(length-allowed))
			losses[next] = max(losses[next], min(loss, math.MaxFloat32))
		}
	}
	return losses
}

// race returns the winner among what is in: the smallest -log(u)/p.
func (c *plain) race(s *ops.Sampling) int32 {
	best, first := int32(-1), math.Inf(1)
	prob := c.probabilities()
	for _, id := range c.order() {
		if time := -math.Log(float64(ops.Uniform(s, 0, int32(id)))) / prob[id]; time < first {
			best, first = int32(id), time
		}
	}
	return best
}

// run does the whole chain.
func (c *plain) run(p *Params, h plainText, s *ops.Sampling, mu float64) *plain {
	order := p.Order
	if order == nil {
		order = DefaultOrder
	}
	for _, stage := range order {
		if p.Mirostat.Tau > 0 && stage != StageDRY && stage != StageTemperature {
			continue
		}
		c.stage(stage, p, h, ops.Uniform(s, drawXTC, 0) <= p.XTCProbability)
	}
	if p.Mirostat.Tau > 0 {
		c.mirostat(mu)
	}
	return c
}
