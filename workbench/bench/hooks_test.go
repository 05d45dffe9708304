package bench

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// hookedPace is a model that takes a millisecond for a token, and three with hooks.
type hookedPace struct{ paced }

func (p hookedPace) Generate(ctx context.Context, req engine.Request, emit func(engine.Token) error) (engine.Result, error) {
	pace, result := time.Millisecond, engine.Result{}
	if req.Hooks != nil {
		pace = 3 * time.Millisecond
		result.Hooks = hook.Report{Degraded: 1, Hooks: []hook.Usage{{Time: time.Duration(req.MaxTokens) * 2 * time.Millisecond}}}
	}
	at := time.UnixMilli(0)
	for i := range req.MaxTokens {
		at = at.Add(pace)
		if i == req.MaxTokens-1 {
			at = at.Add(time.Second) // the mean sees it, the median does not
		}
		if err := emit(engine.Token{Drawn: at}); err != nil {
			return engine.Result{}, err
		}
	}
	return result, ctx.Err()
}

func TestHooks(t *testing.T) {
	o := HookOptions{Cases: []HookCase{{Name: "slow", By: "Go"}}, Length: 4, Streams: []int{1}, Tokens: 9}
	rows, err := Hooks(t.Context(), hookedPace{paced{100}}, o)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	want := HookRow{Hook: "slow", By: "Go", Streams: 1, Pairs: leastPairs, Step: 1000, Cost: 2000, Low: 2000, High: 2000, Percent: 200, MeanCost: 2000, Handlers: 2000, Degraded: leastPairs}
	if rows[0] != want {
		t.Errorf("got %+v, want %+v", rows[0], want)
	}
	o.Length = 92
	if _, err := Hooks(t.Context(), hookedPace{paced{100}}, o); err == nil {
		t.Error("more tokens than the context holds were accepted")
	}
}

func TestWithin(t *testing.T) {
	values := []float64{9, 1, 2, 3, 4, 5, 6, 7, 8, 100, -50}
	if middle, low, high := within(values); middle != 5 || low != 2 || high != 8 {
		t.Errorf("%v within %v to %v", middle, low, high)
	}
	if middle, low, high := within([]float64{1, 2}); middle != 1.5 || low != 1 || high != 2 {
		t.Errorf("%v within %v to %v", middle, low, high)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("nothing has a median")
	}
}
