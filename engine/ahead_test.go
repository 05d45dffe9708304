package engine

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
)

// On a machine that is ahead, streams in a batch have the bits that they have
// alone, whoever ends, leaves or is chosen for by the host; with nothing held and
// nothing misused in the end.
func TestBatchesAheadEqualSolo(t *testing.T) {
	for _, numerics := range []string{"exact", "fast"} {
		t.Run(numerics, func(t *testing.T) { batchesAhead(t, numerics) })
	}
}

func batchesAhead(t *testing.T, numerics string) {
	fake, err := drivertest.New(drivertest.Options{Memory: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the model is closed
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	})
	m := open(t, Options{Device: "cuda", Driver: fake, Numerics: numerics, Streams: 4, Context: 256, PrefillChunk: 64})
	if !m.Info().Backend.Ahead {
		t.Fatal("the CUDA engine is not ahead")
	}
	requests := mixed(5)
	want := make([][]Token, len(requests))
	for i, req := range requests {
		requests[i].MaxTokens, req.MaxTokens = 6+i, 6+i
		want[i] = stream(t, m, req)
	}
	var wait sync.WaitGroup
	for i, req := range requests {
		wait.Go(func() {
			if got := stream(t, m, req); !slices.EqualFunc(got, want[i], sameToken) {
				t.Errorf("stream %d in a batch differs from alone", i)
			}
		})
	}
	wait.Wait()
	if st := m.Stats(); st.Steps.BatchRows <= st.Steps.Decode+st.Steps.Mixed {
		t.Errorf("nothing ran together: %+v", st.Steps)
	}
}

// Whichever call to the driver fails, streams end with its error or unharmed, and
// the model goes on with the bits that it had.
func TestAnyCallMayFailAhead(t *testing.T) {
	fake, err := drivertest.New(drivertest.Options{Memory: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	})
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
