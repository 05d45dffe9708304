package engine

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// Whichever call to the driver fails, streams end with its error or unharmed, and
// the model goes on with the bits that it had.
func TestAnyCallMayFailAhead(t *testing.T) {
	fake := newFake(t)
	m := open(t, Options{Device: "cuda", Driver: fake, Streams: 2, Context: 256, PrefillChunk: 64})
	requests := mixed(2)
	want := make([][]Token, len(requests))
	for i := range requests {
		requests[i].MaxTokens = 4
		want[i] = stream(t, m, requests[i])
	}
	before := fake.Calls()
	stream(t, m, requests[0])
	calls := fake.Calls() - before
	step := 7
	if testing.Short() {
		step = 41
	}
	failed := 0
	for n := 1; n < calls; n += step {
		fake.Fail(n, driver.InvalidValue)
		var wait sync.WaitGroup
		var mu sync.Mutex
		for i, req := range requests {
			wait.Go(func() {
				var got []Token
				req.Candidates = 256
				_, err := m.Generate(context.Background(), req, func(tok Token) error {
					got = append(got, tok)
					return nil
				})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
				}
				if len(got) > len(want[i]) || !slices.EqualFunc(got, want[i][:len(got)], sameToken) || err == nil && len(got) < len(want[i]) {
					t.Errorf("call %d failed: stream %d differs, its end is %v", n, i, err)
				}
			})
		}
		wait.Wait()
	}
	if failed == 0 {
		t.Error("no failure reached a stream")
	}
	for i, req := range requests {
		if got := stream(t, m, req); !slices.EqualFunc(got, want[i], sameToken) {
			t.Errorf("stream %d differs after the failures", i)
		}
	}
	t.Logf("%d calls a stream, %d streams lost", calls, failed)
}
