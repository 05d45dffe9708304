package sched

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Hooks are told the residual of each of their rows once, in order, and called within the
// forward pass for the rows and layers that they name, beside streams that look elsewhere,
// when they are put aside and when tokens are taken back.
func TestHooksLookInside(t *testing.T) {
	ids := prompt(1, 70)
	for _, ahead := range []bool{false, true} {
		for _, overcommit := range []string{"", "swap", "rebuild"} {
			for _, all := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					opts := plain
					opts.Overcommit = overcommit
					b := newBenchOn(&fake{ahead: ahead}, 8, 4, opts)
					other := b.submit(t.Context(), t, Request{Prompt: prompt(2, 64), MaxTokens: 120})
					// Together they look at more layers than ops.MaxResidualLayers.
					seen := []*watcher{
						{sampler: sampler{host: true}, inside: hook.Inside{Read: []int{1, 5}, Route: []int{2}, Write: []int{7}, Prompt: all}},
						{sampler: sampler{host: true}, inside: hook.Inside{Read: []int{10, 11, 12, 13, 14, 15, 16, 17}, Prompt: all}},
					}
					done := make(chan int)
					go func() { n, _ := consume(other); done <- n }()
					ends := make(chan error, len(seen))
					for _, w := range seen {
						s := watch(t.Context(), b, t, Request{Prompt: ids, MaxTokens: 40}, w)
						go func() { _, end := take(s); ends <- end.Err }()
					}
					for range seen {
						if err := <-ends; err != nil {
							t.Error(err)
						}
					}
					if n := <-done; n != 120 {
						t.Errorf("%d tokens of the other", n)
					}
					b.close(t)
					first := len(ids) - 1
					if all {
						first = 0
					}
					for _, w := range seen {
						for i, r := range w.hidden {
							var want []float32
							for _, layer := range w.inside.Read {
								want = append(want, float32(1000*layer+r.Position))
							}
							if r.Position != first+i || r.Prompt != (r.Position < len(ids)) || !slices.Equal(r.Values, want) || !slices.Equal(r.Layers, w.inside.Read) {
								t.Fatalf("ahead %v, %q, all %v: record %d is %+v", ahead, overcommit, all, i, r)
							}
						}
						if n := len(ids) + 39 - first; len(w.hidden) != n {
							t.Errorf("ahead %v, %q, all %v: %d records, want %d", ahead, overcommit, all, len(w.hidden), n)
						}
					}
					calls := slices.Compact(slices.Sorted(slices.Values(seen[0].within))) // a row may be read again
					var want []string
					for position := first; position < len(ids)+39; position++ {
						want = append(want, fmt.Sprintf("%d.%d.2", hook.AtRouter, position), fmt.Sprintf("%d.%d.7", hook.AtResidual, position))
					}
					slices.Sort(want)
					if !slices.Equal(calls, want) || len(seen[1].within) > 0 {
						t.Errorf("ahead %v, %q, all %v: called at %v, want %v", ahead, overcommit, all, calls, want)
					}
				})
			}
		}
	}
}

// A hook reaches the machine while its stream waits for it, when it is late, and not once
// its stream has ended.
func TestVisits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, plain)
		quit, visits := make(chan struct{}), 0
		w := &watcher{sampler: sampler{host: true}}
		w.fault = func(position int) error {
			if position%3 == 0 {
				time.Sleep(50 * time.Millisecond) // so that it is late
			}
			if !b.Visit(quit, func(m Machine) {
				if row, err := m.Lens([]float32{float32(position)}); err != nil || row[0] != -float32(position) {
					t.Errorf("the lens gives %v, %v", row, err)
				}
				visits++
			}) {
				t.Error("a visit was not made")
			}
			return nil
		}
		other := b.submit(t.Context(), t, Request{Prompt: prompt(2, 64), MaxTokens: 50})
		s := watch(t.Context(), b, t, Request{Prompt: prompt(1, 10), MaxTokens: 20}, w)
		go func() { _, _ = consume(other) }()
		if _, end := take(s); end.Err != nil || visits != 20 {
			t.Errorf("%d visits, %+v", visits, end)
		}
		other.Wait()
		b.close(t)
		close(quit)
		if b.Visit(quit, func(Machine) { t.Error("it was made") }) {
			t.Error("a visit was made behind the end")
		}
	})
}
