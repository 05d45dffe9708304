// Package check looks a model over for people who have no reference values: does
// it predict plain text about as well as a working model does, answer three easy
// questions, spread its routing, and compute the same in both forms?
//
// It takes two minutes at most. What does not fit in the time is reported as cut
// short, never as passed.
package check

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// story is plain prose of the kind the demo model was trained on, which large
// models read with ease too.
//
//go:embed story.txt
var story string

// The range of a plausible perplexity on the story. A working model, small or
// large, lies between 1.2 (it has read nothing but such stories) and 30; one
// wrong norm or scale gives hundreds, random weights give the vocabulary.
const (
	leastPerplexity = 1.2
	mostPerplexity  = 30
)

// Verdict of one part or of the whole.
type Verdict string

// Verdicts.
const (
	Pass  Verdict = "pass"
	Fail  Verdict = "fail"
	Short Verdict = "cut short" // the time was over
)

// Part is one look at the model.
type Part struct {
	Name    string        `json:"name"`
	Verdict Verdict       `json:"verdict"`
	Value   string        `json:"value"`
	Bound   string        `json:"bound"`
	Took    time.Duration `json:"took_ns"`
}

// Report is the outcome.
type Report struct {
	Model   string  `json:"model"`
	Engine  string  `json:"engine"`
	Parts   []Part  `json:"parts"`
	Verdict Verdict `json:"verdict"`
}

// Options of Run.
type Options struct {
	Limit time.Duration // 0 for two minutes
}

// Run looks the model over.
func Run(ctx context.Context, m *engine.Model, opts Options) (*Report, error) {
	if m.Tokenizer() == nil {
		return nil, errors.New("check needs tokenizer.json in the model folder")
	}
	if opts.Limit == 0 {
		opts.Limit = 2 * time.Minute
	}
	c := &checker{m: m, ids: m.Tokenizer().Encode(story, tokenizer.Default)}
	c.ids = c.ids[:min(len(c.ids), m.Info().Context)]
	r := &Report{Model: m.Info().Name, Engine: m.Info().Fingerprint, Verdict: Pass}
	for i, part := range []struct {
		name string
		run  func(context.Context) (Part, error)
	}{{"perplexity", c.perplexity}, {"routing", c.routing}, {"prefill against step", c.forms},
		{"sum", c.sum}, {"story", c.tell}, {"code", c.code}} {
		start := time.Now()
		got, err := c.limited(ctx, opts.Limit/time.Duration(6-i), part.run)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", part.name, err)
		}
		got.Name, got.Took = part.name, time.Since(start)
		opts.Limit = max(opts.Limit-got.Took, 0)
		r.Parts = append(r.Parts, got)
		if got.Verdict == Fail || r.Verdict == Pass {
			r.Verdict = got.Verdict
		}
	}
	return r, nil
}

// limited runs a part in its share of the time. A part that it cut off says so.
func (c *checker) limited(ctx context.Context, limit time.Duration, run func(context.Context) (Part, error)) (Part, error) {
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	part, err := run(inner)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return Part{Verdict: Short, Value: part.Value, Bound: part.Bound}, nil
	}
	return part, err
}

type checker struct {
	m      *engine.Model
	ids    []int32
	chosen map[int]map[float32]int // layer -> expert -> tokens, of the prefill
}

func verdict(ok bool) Verdict {
	if ok {
		return Pass
	}
	return Fail
}

// perplexity reads the story in prefill form, in pieces of 64 tokens.
func (c *checker) perplexity(ctx context.Context) (Part, error) {
	part := Part{Bound: fmt.Sprintf("%.3g to %d", leastPerplexity, mostPerplexity)}
	seq, err := c.m.NewSequence(ctx, len(c.ids))
	if err != nil {
		return part, err
	}
	defer seq.Release()
	c.chosen = map[int]map[float32]int{}
	var nll float64
	var count int
	for at := 0; at < len(c.ids); at += ops.ChunkTokens {
		piece := c.ids[at:min(at+ops.ChunkTokens, len(c.ids))]
		opts := engine.StepOptions{Tap: c.tap}
		for i := range piece {
			watch := int32(-1)
			if at+i+1 < len(c.ids) {
				watch = c.ids[at+i+1]
			}
			opts.Logits, opts.Sampling = append(opts.Logits, i), append(opts.Sampling, ops.Sampling{Watch: watch})
		}
		samples, err := seq.Read(ctx, piece, opts)
		if err != nil {
			return part, err
		}
		for _, s := range samples {
			if s.Watched.ID >= 0 {
				nll, count = nll-float64(s.Watched.Logprob), count+1
			}
		}
		part.Value = fmt.Sprintf("%.3f on %d tokens", math.Exp(nll/float64(max(count, 1))), count)
	}
	value := math.Exp(nll / float64(max(count, 1)))
	part.Verdict = verdict(value >= leastPerplexity && value <= mostPerplexity)
	return part, nil
}

func (c *checker) tap(layer int, what string, _ int, data []float32) {
	if what != "router_experts" {
		return
	}
	if c.chosen[layer] == nil {
		c.chosen[layer] = map[float32]int{}
	}
	for _, expert := range data {
		c.chosen[layer][expert]++
	}
}

// routing looks at the experts that the story chose: a dead router sends all
// tokens to the same ones.
func (c *checker) routing(context.Context) (Part, error) {
	info := c.m.Info()
	part := Part{Bound: fmt.Sprintf("every layer uses more than %d of %d experts", info.TopK, info.Experts)}
	if len(c.chosen) == 0 {
		part.Verdict, part.Value = Short, "no tokens were read, or the backend does not show routing"
		return part, nil
	}
	fewest, most := info.Experts+1, 0.0
	for _, counts := range c.chosen {
		fewest = min(fewest, len(counts))
		total, top := 0, 0
		for _, n := range counts {
			total, top = total+n, max(top, n)
		}
		most = max(most, float64(top*info.TopK)/float64(total))
	}
	part.Value = fmt.Sprintf("fewest in a layer %d; the busiest expert serves %.0f %% of tokens", fewest, 100*most)
	part.Verdict = verdict(fewest > info.TopK || info.TopK == info.Experts)
	return part, nil
}

// forms compares the distributions after prefill and after step form.
func (c *checker) forms(ctx context.Context) (Part, error) {
	part := Part{Bound: "mean KL <= 1e-4"}
	n := min(len(c.ids), 72) // past one chunk border
	logits := func(stepForm bool) (rows [][]float32, err error) {
		seq, err := c.m.NewSequence(ctx, n)
		if err != nil {
			return nil, err
		}
		defer seq.Release()
		opts := engine.StepOptions{StepForm: stepForm, Rows: func(_ int, row []float32) { rows = append(rows, slices.Clone(row)) }}
		for i := max(0, n-16); i < n; i++ {
			opts.Logits = append(opts.Logits, i)
		}
		_, err = seq.Read(ctx, c.ids[:n], opts)
		return rows, err
	}
	prefill, err := logits(false)
	if err != nil {
		return part, err
	}
	step, err := logits(true)
	if err != nil {
		return part, err
	}
	var kl float64
	for i := range prefill {
		kl += divergence(prefill[i], step[i]) / float64(len(prefill))
	}
	part.Value = fmt.Sprintf("mean KL %.2g over the last %d of %d tokens", kl, len(prefill), n)
	part.Verdict = verdict(kl <= 1e-4)
	return part, nil
}

// divergence is KL(p || q) of two rows of logits, in nats.
func divergence(p, q []float32) (kl float64) {
	logSum := func(row []float32) float64 {
		top, sum := float64(slices.Max(row)), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		return top + math.Log(sum)
	}
	a, b := logSum(p), logSum(q)
	for i := range p {
		logP := float64(p[i]) - a
		kl += math.Exp(logP) * (logP - (float64(q[i]) - b))
	}
	return max(kl, 0)
}

func (c *checker) sum(ctx context.Context) (Part, error) {
	return c.ask(ctx, "What is seven plus five?", 24, "12", "twelve")
}

func (c *checker) tell(ctx context.Context) (Part, error) {
	return c.ask(ctx, "Tell me a short story about a rabbit.", 48, "rabbit", "bunny")
}

func (c *checker) code(ctx context.Context) (Part, error) {
	return c.ask(ctx, "Write a Go function that adds two numbers.", 48, "func")
}

// ask answers a question greedily and looks for one of some words.
func (c *checker) ask(ctx context.Context, question string, tokens int, words ...string) (Part, error) {
	part := Part{Bound: fmt.Sprintf("%q is answered with one of %q", question, words)}
	prompt, err := c.prompt(ctx, question)
	if err != nil {
		return part, err
	}
	var answer strings.Builder
	_, err = c.m.Generate(ctx, engine.Request{Prompt: prompt, MaxTokens: tokens}, func(t engine.Token) error {
		answer.WriteString(t.Text)
		part.Value = fmt.Sprintf("%.120q", answer.String())
		return nil
	})
	lower := strings.ToLower(answer.String())
	found := slices.ContainsFunc(words, func(w string) bool { return strings.Contains(lower, w) })
	if err != nil && !found {
		return part, err
	}
	part.Verdict = verdict(found)
	return part, nil
}

// prompt renders the question with the model's template, if it has one.
func (c *checker) prompt(ctx context.Context, question string) ([]int32, error) {
	if c.m.Template() == nil {
		return c.m.Tokenizer().Encode("Question: "+question+"\nAnswer:", tokenizer.Default), nil
	}
	message := chat.NewMap()
	message.Set("role", chat.NewString("user"))
	message.Set("content", chat.NewString(question))
	text, err := c.m.Template().Render(ctx, chat.Input{
		Messages: chat.NewList(message), AddGenerationPrompt: true, SpecialTokens: c.m.SpecialTokens()})
	if err != nil {
		return nil, err
	}
	return c.m.Tokenizer().Encode(text.Text, tokenizer.Default), nil
}
