// Package bench measures a model end to end: prefill and decode at several
// prompt lengths and numbers of streams, as shares of what the memory's measured
// bandwidth allows. Its Go benchmarks measure the demo model, beside
// transformers_demo.py, which does the same work with transformers: the same
// weights, prompt lengths and number of tokens.
package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Model is what is measured; *engine.Model is one.
type Model interface {
	Info() engine.Info
	Generate(ctx context.Context, req engine.Request, emit func(engine.Token) error) (engine.Result, error)
}

// Options say what to measure.
type Options struct {
	Lengths []int         // of prompts, in tokens
	Streams []int         // decoding at once
	Tokens  int           // decoded by each stream of a run; at least 2
	Time    time.Duration // for each row: as many runs as fit, at least 3
	Work    Work
	// Bandwidth is what memory was measured to give, in bytes a second; 0 leaves
	// the share of the roofline out.
	Bandwidth float64
	Progress  func(done, total int) // of rows; may be nil
}

// Work is what a step touches, in bytes as the files store them. Weights are
// read once a step, whatever its rows; of the experts only those that a row
// chose.
type Work struct {
	Dense      int64 `json:"dense"`        // all weights but experts and embedding
	Experts    int64 `json:"experts"`      // all experts of all layers
	ExpertsOf  int   `json:"experts_of"`   // in a layer
	TopK       int   `json:"top_k"`        // of them for a row
	KVPerToken int64 `json:"kv_per_token"` // read once a token of context
	State      int64 `json:"state"`        // of a stream, read and written each step
}

// bytes of a step of rows rows of as many streams, with context tokens each.
// Rows choose their experts independently of each other, so that of e experts
// e (1 - (1 - k/e)^rows) are read; real rows share some more.
func (w Work) bytes(rows, streams, context int) float64 {
	share := 0.0
	if w.ExpertsOf > 0 {
		share = 1 - math.Pow(1-float64(w.TopK)/float64(w.ExpertsOf), float64(rows))
	}
	return float64(w.Dense) + share*float64(w.Experts) + float64(streams)*(float64(context)*float64(w.KVPerToken)+2*float64(w.State))
}

// Row is one thing measured.
type Row struct {
	What    string  `json:"what"` // "prefill" or "decode"
	Prompt  int     `json:"prompt"`
	Streams int     `json:"streams"`
	Runs    int     `json:"runs"`
	Speed   float64 `json:"tokens_per_second"` // of all streams together; the median
	Low     float64 `json:"low"`               // slowest run
	High    float64 `json:"high"`              // fastest run
	// BytesPerToken is what a token touches, by Options.Work.
	BytesPerToken float64 `json:"bytes_per_token"`
	Roofline      float64 `json:"roofline"` // share of Bandwidth, 0 to 1; 0 without one
	Skipped       string  `json:"skipped,omitempty"`
}

// prefillRows is how many prompt tokens the engine reads in a step by default.
const prefillRows = 512

// Run measures one row after the other: prefill at each length, then decode at
// each length and number of streams. Lengths that do not fit in the context are
// skipped, and say so.
func Run(ctx context.Context, m Model, o Options) ([]Row, error) {
	if o.Tokens < 2 || len(o.Lengths) == 0 || len(o.Streams) == 0 || slices.Min(o.Lengths) < 1 || slices.Min(o.Streams) < 1 {
		return nil, fmt.Errorf("bench: prompts of %v tokens, %v streams, %d tokens: lengths and streams must be positive, tokens 2 or more", o.Lengths, o.Streams, o.Tokens)
	}
	var rows []Row
	for _, length := range o.Lengths {
		rows = append(rows, Row{What: "prefill", Prompt: length, Streams: 1})
	}
	for _, streams := range o.Streams {
		for _, length := range o.Lengths {
			rows = append(rows, Row{What: "decode", Prompt: length, Streams: streams})
		}
	}
	for i := range rows {
		if o.Progress != nil {
			o.Progress(i, len(rows))
		}
		if err := rows[i].measure(ctx, m, o); err != nil {
			return nil, fmt.Errorf("bench: %s of %d tokens, %d streams: %w", rows[i].What, rows[i].Prompt, rows[i].Streams, err)
		}
	}
	return rows, nil
}

func (r *Row) measure(ctx context.Context, m Model, o Options) error {
	tokens := o.Tokens
	if r.What == "prefill" {
		tokens = 1
	}
	if limit := m.Info().Context; r.Prompt+tokens > limit {
		r.Skipped = fmt.Sprintf("does not fit in the context of %d", limit)
		return nil
	}
	run := func() (float64, error) { return Decode(ctx, m, r.Prompt, r.Streams, tokens) }
	if r.What == "prefill" {
		run = func() (float64, error) { return Prefill(ctx, m, r.Prompt) }
	}
	if _, err := run(); err != nil { // warms caches and memory
		return err
	}
	var speeds []float64
	for start := time.Now(); len(speeds) < 3 || time.Since(start) < o.Time; {
		speed, err := run()
		if err != nil {
			return err
		}
		speeds = append(speeds, speed)
	}
	slices.Sort(speeds)
	r.Runs, r.Speed, r.Low, r.High = len(speeds), speeds[len(speeds)/2], speeds[0], speeds[len(speeds)-1]
	if r.What == "decode" {
		r.BytesPerToken = o.Work.bytes(r.Streams, r.Streams, r.Prompt+tokens/2) / float64(r.Streams)
	} else {
		steps := (r.Prompt + prefillRows - 1) / prefillRows
		r.BytesPerToken = float64(steps) * o.Work.bytes(min(r.Prompt, prefillRows), 1, r.Prompt/2) / float64(r.Prompt)
	}
	if o.Bandwidth > 0 {
		r.Roofline = r.Speed * r.BytesPerToken / o.Bandwidth
	}
	return nil
}

// prompt is n ids spread over the vocabulary, different for each stream;
// transformers_demo.py has the same for stream 0.
func prompt(n, stream, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(3 + (i*7919+stream*104729)%max(min(4000, vocab-3), 1))
	}
	return ids
}

func request(m Model, length, stream, tokens int) engine.Request {
	return engine.Request{Prompt: prompt(length, stream, m.Info().Tokens), MaxTokens: tokens, IgnoreEOS: true}
}

// Prefill reads a prompt and returns its tokens a second.
func Prefill(ctx context.Context, m Model, length int) (float64, error) {
	result, err := m.Generate(ctx, request(m, length, 0, 1), func(engine.Token) error { return nil })
	if err != nil {
		return 0, err
	}
	return float64(length) / result.Prefill.Seconds(), nil
}

// Decode makes tokens with several streams at once and returns the tokens a
// second of all together, from the moment when the last stream has its first
// token to the one when the first stream has its last: between them all of them
// decode.
func Decode(ctx context.Context, m Model, length, streams, tokens int) (float64, error) {
	times := make([][]time.Time, streams)
	errs := make([]error, streams)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	for s := range streams {
		times[s] = make([]time.Time, 0, tokens)
		group.Go(func() {
			_, errs[s] = m.Generate(ctx, request(m, length, s, tokens), func(engine.Token) error {
				times[s] = append(times[s], time.Now())
				return nil
			})
			if errs[s] != nil {
				stop()
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return together(times)
}

// together counts the tokens of the time in which all streams decode.
func together(times [][]time.Time) (float64, error) {
	from, to, err := window(times)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, t := range times {
		for _, at := range t {
			if at.After(from) && !at.After(to) {
				count++
			}
		}
	}
	if count == 0 {
		return 0, errApart(len(times))
	}
	return float64(count) / to.Sub(from).Seconds(), nil
}

// window is the time from the moment when the last stream has its first token to the
// one when the first stream has its last.
func window(times [][]time.Time) (from, to time.Time, err error) {
	for s, t := range times {
		if len(t) < 2 {
			return from, to, fmt.Errorf("stream %d made %d tokens, too few to time", s, len(t))
		}
		if t[0].After(from) {
			from = t[0]
		}
		if last := t[len(t)-1]; to.IsZero() || last.Before(to) {
			to = last
		}
	}
	if !to.After(from) {
		return from, to, errApart(len(times))
	}
	return from, to, nil
}

func errApart(streams int) error {
	return fmt.Errorf("%d streams never decoded at the same time: make more tokens, or open the model with as many streams", streams)
}
