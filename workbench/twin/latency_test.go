//go:build !nodemo

package twin

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
)

// timed times the calls that a token waits for.
type timed struct {
	hook.Hook
	mu   *sync.Mutex
	took *[]time.Duration
}

func (h timed) since(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.took = append(*h.took, time.Since(began))
}

func (h timed) Logits(c *hook.Call, l *hook.Logits) error {
	defer h.since(time.Now())
	return h.Hook.Logits(c, l)
}

func (h timed) Sample(c *hook.Call, s *hook.Candidates) (int32, bool, error) {
	defer h.since(time.Now())
	return h.Hook.Sample(c, s)
}

// latency is how long the calls of a form took with so many streams.
func (b *bed) latency(ctx context.Context, ask hooks.Ask, streams, tokens int) ([]time.Duration, error) {
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	errs := make([]error, streams)
	for n := range streams {
		all.Go(func() {
			ids, err := b.HookTokenizer().Encode("Once upon a time")
			if err != nil {
				errs[n] = err
				return
			}
			req := engine.Request{Prompt: ids, MaxTokens: tokens, IgnoreEOS: true}
			req.Sampling.Temperature, req.Sampling.Seed = 1, uint64(n+1)
			set, err := b.owner.Prepare(ctx, ask)
			if err != nil {
				errs[n] = err
				return
			}
			h := set.Hooking(ctx, hook.Request{ID: "twin", MaxTokens: tokens, Choices: 1}, 0)
			start := h.Start
			h.Start = func(choice uint32) ([]hook.Hook, error) {
				list, err := start(choice)
				for i := range list {
					list[i] = timed{list[i], &mu, &took}
				}
				return list, err
			}
			req.Hooks = h
			_, errs[n] = b.Generate(ctx, req, func(engine.Token) error { return nil })
		})
	}
	all.Wait()
	slices.Sort(took)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// steps is the median time between tokens of plain streams.
func (b *bed) steps(ctx context.Context, streams, tokens int) (time.Duration, error) {
	courses, err := b.streams(ctx, hooks.Ask{}, streams, tokens)
	var all []time.Duration
	for _, c := range courses {
		all = append(all, c.took[1:]...)
	}
	slices.Sort(all)
	return all[len(all)/2], err
}

// TestLatency prints what each transport costs: evidence, asked for by name, and no test of
// anything.
func TestLatency(t *testing.T) {
	if os.Getenv("ROUNDHOUSE_LATENCY") == "" {
		t.Skip("timings are evidence: make evidence NAMES=plugin")
	}
	const tokens = 200
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	program := python(t)
	b := open(t, program, 8)
	text, err := os.ReadFile("forms/twin.ts")
	if err != nil {
		t.Fatal(err)
	}
	apart := form{"script in a worker", func(lag int) hooks.Ask {
		whole := strings.Replace(string(text), "import type { Hooks }", "import { script, type Hooks }", 1)
		return hooks.Ask{File: "inline.ts", Text: whole + fmt.Sprintf("\nexport default script({ api: 1, lag: %d, hooks: twin });", lag)}
	}}
	for _, form := range []form{forms[0], apart, forms[1], forms[2]} {
		if form.name == "python" && program == "" {
			t.Log("no Python has the plugins' package: make conformance makes one")
			continue
		}
		for _, streams := range []int{1, 8} {
			if _, err := b.latency(t.Context(), form.ask(2), streams, 20); err != nil { // to be warm
				t.Fatal(err)
			}
			took, err := b.latency(t.Context(), form.ask(2), streams, tokens)
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("plugin latency, %s, %d streams", form.name, streams)
			t.Logf("evidence: %s, p50: %.0f us <= 5000", name, micros(took[len(took)/2]))
			t.Logf("evidence: %s, p99: %.0f us <= 20000", name, micros(took[len(took)*99/100]))
		}
	}
	// Streams without plugins, beside plugins that nobody uses and without any: in turns, so that
	// a machine that changes meanwhile does not count.
	plain := open(t, "", 8)
	for _, p := range plain.owner.Plugins().Plugins() {
		if _, err := p.About(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := plain.owner.Plugins().Close(); err != nil {
		t.Fatal(err)
	}
	for _, streams := range []int{1, 8} {
		var ratios []float64
		for range 15 {
			without, err := plain.steps(t.Context(), streams, 100)
			if err != nil {
				t.Fatal(err)
			}
			with, err := b.steps(t.Context(), streams, 100)
			if err != nil {
				t.Fatal(err)
			}
			ratios = append(ratios, float64(with)/float64(without))
		}
		slices.Sort(ratios)
		t.Logf("evidence: plugins that a stream does not use, step of %d streams: %.2f %% <= 2", streams, 100*(ratios[len(ratios)/2]-1))
	}
}
