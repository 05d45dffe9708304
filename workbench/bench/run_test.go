package bench

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// paced is a model that takes a time for each token.
type paced struct{ context int }

func (p paced) Info() engine.Info { return engine.Info{Context: p.context, Tokens: 384} }

func (p paced) Generate(ctx context.Context, req engine.Request, emit func(engine.Token) error) (engine.Result, error) {
	for range req.MaxTokens {
		time.Sleep(2 * time.Millisecond)
		if err := emit(engine.Token{}); err != nil {
			return engine.Result{}, err
		}
	}
	return engine.Result{Prefill: 10 * time.Millisecond}, ctx.Err()
}

func TestRun(t *testing.T) {
	rows, err := Run(t.Context(), paced{100}, Options{
		Lengths: []int{10, 99}, Streams: []int{1, 3}, Tokens: 8, Bandwidth: 1e6, Work: Work{Dense: 1000},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		if fits := r.What == "prefill" || r.Prompt == 10; fits != (r.Skipped == "") {
			t.Errorf("%+v", r)
		} else if fits && (r.Runs < 3 || r.Low > r.Speed || r.Speed > r.High || r.Speed <= 0 || r.Roofline <= 0) {
			t.Errorf("%+v", r)
		}
	}
	if r := rows[0]; r.Speed != 1000 || r.BytesPerToken != 100 || math.Abs(r.Roofline-0.1) > 1e-9 {
		t.Errorf("10 tokens in 10 ms, 1000 bytes: %+v", r)
	}
	if _, err := Run(t.Context(), paced{100}, Options{Lengths: []int{0}, Streams: []int{1}, Tokens: 8}); err == nil {
		t.Error("a prompt of no tokens was accepted")
	}
}

// Only the time counts in which all streams decode.
func TestTogether(t *testing.T) {
	at := func(ms ...int) (times []time.Time) {
		for _, m := range ms {
			times = append(times, time.UnixMilli(int64(m)))
		}
		return times
	}
	for _, c := range []struct {
		times [][]time.Time
		want  float64 // 0 for an error
	}{
		{[][]time.Time{at(0, 10, 20)}, 100},
		{[][]time.Time{at(0, 100, 200, 300), at(100, 200, 300, 400)}, 20}, // 100 to 300: 2 of each
		{[][]time.Time{at(0, 10), at(20, 30)}, 0},
		{[][]time.Time{at(5)}, 0},
	} {
		got, err := together(c.times)
		if (err != nil) != (c.want == 0) || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, %v, want %v", c.times, got, err, c.want)
		}
	}
}

func TestWork(t *testing.T) {
	w := Work{Dense: 1000, Experts: 3200, ExpertsOf: 32, TopK: 4, KVPerToken: 2, State: 50}
	if got := w.bytes(1, 1, 100); math.Abs(got-(1000+400+200+100)) > 1e-6 {
		t.Errorf("one row touches %v bytes", got)
	}
	if got := w.bytes(10000, 1, 0); math.Abs(got-(1000+3200+100)) > 1e-6 {
		t.Errorf("many rows touch %v bytes: all experts once", got)
	}
}
