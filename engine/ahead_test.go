package engine

import (
	"slices"
	"sync"
	"testing"

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
