package parity

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Divergence is what one way of computing a model changes about its
// predictions, over the tokens of a text.
type Divergence struct {
	Tokens         int     `json:"tokens"`          // predictions compared
	MeanKL         float64 `json:"mean_kl"`         // nats, KL(reference || other)
	P99KL          float64 `json:"p99_kl"`          // 99 % of predictions are below
	MaxKL          float64 `json:"max_kl"`          //
	Top1           float64 `json:"top1"`            // share of predictions with the same most likely token
	Perplexity     float64 `json:"perplexity"`      // of the reference
	PerplexityThen float64 `json:"perplexity_then"` // of the other
}

// Bounds that the handbook sets for "fast" numerics (architecture.md, section 3).
const (
	MaxMeanKL         = 1e-3
	MinTop1           = 0.99
	MaxPerplexityRise = 0.003 // either way
)

// Within says whether the divergence keeps the bounds of fast numerics.
func (d Divergence) Within() bool {
	return d.MeanKL <= MaxMeanKL && d.Top1 >= MinTop1 && math.Abs(d.PerplexityThen/d.Perplexity-1) <= MaxPerplexityRise
}

// Diverge reads the same ids with two models, in windows of so many tokens that
// each begin anew, and compares the prediction after every token but the last.
func Diverge(ctx context.Context, reference, other *engine.Model, ids []int32, window int) (Divergence, error) {
	if window < 2 || len(ids) < 2 {
		return Divergence{}, fmt.Errorf("%d tokens in windows of %d: there is nothing to compare, give a longer text", len(ids), window)
	}
	var d Divergence
	var all []float64
	var lossA, lossB float64
	for part := range slices.Chunk(ids, window) {
		if len(part) < 2 {
			break
		}
		a, err := predictions(ctx, reference, part)
		if err != nil {
			return d, err
		}
		b, err := predictions(ctx, other, part)
		if err != nil {
			return d, err
		}
		for i := range a {
			next := part[i+1]
			lossA, lossB = lossA-a[i][next], lossB-b[i][next]
			var kl float64
			for id, p := range a[i] {
				kl += math.Exp(p) * (p - b[i][id])
			}
			all = append(all, max(kl, 0)) // rounding can leave -1e-17
			if argmax(a[i]) == argmax(b[i]) {
				d.Top1++
			}
		}
	}
	d.Tokens = len(all)
	n := float64(d.Tokens)
	for _, kl := range all {
		d.MeanKL += kl / n
	}
	slices.Sort(all)
	d.P99KL, d.MaxKL = all[len(all)*99/100], all[len(all)-1]
	d.Top1 /= n
	d.Perplexity, d.PerplexityThen = math.Exp(lossA/n), math.Exp(lossB/n)
	return d, nil
}

// predictions returns the log-probabilities after every token but the last.
func predictions(ctx context.Context, m *engine.Model, ids []int32) ([][]float64, error) {
	seq, err := m.NewSequence(ctx, len(ids))
	if err != nil {
		return nil, err
	}
	defer seq.Release()
	want := make([]int, len(ids)-1)
	for i := range want {
		want[i] = i
	}
	all := make([][]float64, len(want))
	_, err = seq.Read(ctx, ids, engine.StepOptions{Logits: want, Rows: func(at int, row []float32) {
		all[at] = logSoftmax(row)
	}})
	return all, err
}

func logSoftmax(row []float32) []float64 {
	top := float64(slices.Max(row))
	var sum float64
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	out, shift := make([]float64, len(row)), top+math.Log(sum)
	for i, v := range row {
		out[i] = float64(v) - shift
	}
	return out
}

func argmax(row []float64) (best int) {
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}
