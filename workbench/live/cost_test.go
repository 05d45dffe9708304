//go:build !nodemo

package live

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
)

// TestCost prints what twenty watchers cost a step: evidence, asked for by name, and no test of
// anything. They and their sockets are in this process, and share its cores.
func TestCost(t *testing.T) {
	if os.Getenv("ROUNDHOUSE_LATENCY") == "" {
		t.Skip("timings are evidence: make evidence NAMES=watchers")
	}
	fsys, _ := demo.FS()
	m, err := engine.Open(t.Context(), fsys, engine.Options{Name: demo.Name, Streams: 1, Context: 1024, Numerics: "exact"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ids, err := m.HookTokenizer().Encode("Once upon a time")
	if err != nil {
		t.Fatal(err)
	}
	h, url := open(t, Options{})
	h.SetModel(m.HookModel(), m)
	// step is the median time between tokens of a stream.
	step := func(seed uint64) time.Duration {
		r := engine.Request{Prompt: ids, MaxTokens: 400, IgnoreEOS: true}
		r.Sampling.Temperature, r.Sampling.Seed = 1, seed
		tap := h.Attach("cost", 0, 1, &r, Pace{})
		var took []time.Duration
		last := time.Now()
		if _, err := m.Generate(t.Context(), r, func(k engine.Token) error {
			tap.Token(0, k)
			took, last = append(took, k.Drawn.Sub(last)), k.Drawn
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		tap.End(0, "length", engine.Result{Completion: len(took)})
		slices.Sort(took)
		return took[len(took)/2]
	}
	step(0)
	var shares []float64
	for n := range 15 {
		without := step(uint64(n))
		var watchers []*watcher
		for range 20 {
			w := watch(t, url)
			watchers = append(watchers, w)
			go func() { _, _ = io.Copy(io.Discard, w.conn.UnderlyingConn()) }() // ends with the connection
		}
		with := step(uint64(n))
		for _, w := range watchers {
			w.conn.Close()
			h.mu.RLock()
			s := h.sessions[w.hello.Session]
			h.mu.RUnlock()
			h.end(s)
		}
		shares = append(shares, 100*(float64(with)/float64(without)-1))
	}
	slices.Sort(shares)
	t.Logf("evidence: watchers, twenty of a stream, of a step of the demo: %.2f %% <= 1", shares[len(shares)/2])
}
