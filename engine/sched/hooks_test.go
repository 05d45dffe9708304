package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// watcher is a sampler with hooks: it chooses on the host, after a pause.
type watcher struct {
	sampler
	pause   func(position int) time.Duration
	fault   func(position int) error // of Choose
	refuse  int                      // position whose steering is refused; 0 for none
	all     bool                     // rows of the prompt too
	asked   func()                   // by Draw; may be nil
	at      int
	records []hook.Record
	inside  hook.Inside
	hidden  []hook.HiddenRecord
	within  []string
}

func (w *watcher) Draw(position, candidates int) ops.Sampling {
	w.at = position
	if w.asked != nil {
		w.asked()
	}
	return w.sampler.Draw(position, candidates)
}

func (w *watcher) Choose(out *ops.Sample, row func() ([]float32, error)) error {
	if w.pause != nil {
		time.Sleep(w.pause(w.at))
	}
	if w.fault != nil {
		if err := w.fault(w.at); err != nil {
			return err
		}
	}
	return w.sampler.Choose(out, row)
}

var errRefused = errors.New("steering is refused")

func (w *watcher) Steer(position int) (*ops.Steering, error) {
	if w.refuse > 0 && position == w.refuse {
		return nil, errRefused
	}
	if w.steer == nil {
		return nil, nil
	}
	return w.steer(position), nil
}

func (w *watcher) Routing() (decode, prompt bool) { return true, w.all }
func (w *watcher) Routed(r hook.Record)           { w.records = append(w.records, r) }
func (w *watcher) Inside() hook.Inside            { return w.inside }
func (w *watcher) Hidden(r hook.HiddenRecord)     { w.hidden = append(w.hidden, r) }

func (w *watcher) Within(place hook.Place, position, layer int, values []float32) {
	w.within = append(w.within, fmt.Sprintf("%d.%d.%d", place, position, layer))
	values[0]++
}

// gates are steerings that the fake tells apart.
var gates = func() (list [4]*ops.Steering) {
	for i := range list {
		list[i] = &ops.Steering{Layers: []ops.LayerSteering{{K: i + 1}}}
	}
	return list
}()

// steer changes every few tokens, and is none at times.
func steer(position int) *ops.Steering {
	if position/5%5 == 4 || position < 70 {
		return nil
	}
	return gates[position/5%5]
}

func watch(ctx context.Context, b *bench, t *testing.T, req Request, w *watcher) *Stream {
	t.Helper()
	req.Ends, req.Ahead = func(int32) bool { return false }, 4
	streams, err := b.Submit(req, []Choice{{Context: ctx, Sampler: w}})
	if err != nil {
		t.Fatal(err)
	}
	return streams[0]
}

// take reads a stream to its end.
func take(s *Stream) (ids []int32, end End) {
	for token := range s.Tokens() {
		ids = append(ids, token.Token.ID)
		s.Taken()
	}
	return ids, s.Wait()
}

// A stream with hooks is steered row by row, on machines that are ahead too, and is
// told of every row once, beside others and when it was put aside.
func TestHooksSteerAndWatch(t *testing.T) {
	ids := prompt(1, 70)
	for _, ahead := range []bool{false, true} {
		for _, host := range []bool{false, true} {
			for _, overcommit := range []string{"", "swap", "rebuild"} {
				for _, all := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						opts := plain
						opts.Overcommit = overcommit
						b := newBenchOn(&fake{ahead: ahead}, 7, 3, opts)
						other := b.submit(t.Context(), t, Request{Prompt: prompt(2, 64), MaxTokens: 120})
						w := &watcher{sampler: sampler{host: host, steer: steer}, all: all}
						s := watch(t.Context(), b, t, Request{Prompt: ids, MaxTokens: 90}, w)
						done := make(chan int)
						go func() { n, _ := consume(other); done <- n }()
						got, end := take(s)
						if n := <-done; end.Err != nil || n != 120 {
							t.Errorf("%+v, and %d tokens of the other", end, n)
						}
						want, _ := solo(ids, 90, &sampler{host: host, steer: steer}, -1)
						if !slices.Equal(got, want) {
							t.Errorf("ahead %v, host %v, %q: drew\n%v, want\n%v", ahead, host, overcommit, got, want)
						}
						first := len(ids) - 1
						if all {
							first = 0
						}
						for i, r := range w.records {
							if r.Position != first+i || r.Prompt != (r.Position < len(ids)) || len(r.IDs) != 1 {
								t.Fatalf("record %d is %+v", i, r)
							}
						}
						if n := len(ids) + 90 - 1 - first; len(w.records) < n || len(w.records) > n+1 {
							t.Errorf("%d records, want %d", len(w.records), n)
						}
						b.close(t)
					})
				}
			}
		}
	}
}

// Hooks are asked about a row while the forward pass that it comes of runs.
func TestHooksAnswerWhileTheStepRuns(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			machine := &fake{ahead: ahead}
			b := newBenchOn(machine, 7, 3, plain)
			asked, idle := 0, 0
			w := &watcher{asked: func() {
				if asked++; machine.flying["forward"] == 0 {
					idle++
				}
			}}
			take(watch(t.Context(), b, t, Request{Prompt: prompt(1, 70), MaxTokens: 20}, w))
			if asked != 20 || idle > 0 {
				t.Errorf("ahead %v: asked %d times, %d of them while the machine was idle", ahead, asked, idle)
			}
			b.close(t)
		})
	}
}

// Hooks that take long hold up their own stream; others skip no step for them.
func TestSlowHooksHoldUpTheirStream(t *testing.T) {
	ids := prompt(1, 70)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 3, plain)
		w := &watcher{sampler: sampler{host: true, steer: steer}, pause: func(position int) time.Duration {
			if position%2 == 0 {
				return time.Second
			}
			return 0
		}}
		s := watch(t.Context(), b, t, Request{Prompt: ids, MaxTokens: 20}, w)
		began := time.Now()
		other := b.submit(t.Context(), t, Request{Prompt: prompt(2, 64), MaxTokens: 60})
		if n, end := consume(other); n != 60 || end.Err != nil || time.Since(began) > 500*time.Millisecond {
			t.Errorf("the other: %d tokens in %v, %+v", n, time.Since(began), end)
		}
		got, end := take(s)
		want, _ := solo(ids, 20, &sampler{host: true, steer: steer}, -1)
		if !slices.Equal(got, want) || end.Err != nil {
			t.Errorf("drew %v, want %v; %+v", got, want, end)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("ten pauses of a second took %v", took)
		}
		b.close(t)
	})
}

// Who leaves while hooks choose is ended when they are done; a hook may end its stream
// in the place of a token, or fail it.
func TestEndsWhileHooksChoose(t *testing.T) {
	errHook := errors.New("a hook failed")
	slow := func(int) time.Duration { return time.Second }
	for name, c := range map[string]struct {
		w      *watcher
		leave  bool
		tokens int
		reason string
		err    error
	}{
		"left":           {&watcher{pause: slow}, true, 0, "cancelled", context.Canceled},
		"stopped":        {&watcher{fault: at(73, &Stop{"enough"})}, false, 3, "stop", nil},
		"stopped late":   {&watcher{pause: slow, fault: at(73, &Stop{"enough"})}, false, 3, "stop", nil},
		"failed":         {&watcher{fault: at(73, errHook)}, false, 3, "error", errHook},
		"failed late":    {&watcher{pause: slow, fault: at(73, errHook)}, false, 3, "error", errHook},
		"steered badly":  {&watcher{refuse: 72}, false, 3, "error", errRefused},
		"from the start": {&watcher{refuse: -1}, false, 30, "length", nil},
	} {
		for _, ahead := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBenchOn(&fake{ahead: ahead}, 8, 3, plain)
				c.w.host = c.w.pause != nil
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				s := watch(ctx, b, t, Request{Prompt: prompt(1, 70), MaxTokens: 30}, c.w)
				if c.leave {
					time.AfterFunc(100*time.Millisecond, leave)
				}
				got, end := take(s)
				if len(got) != c.tokens || end.Reason != c.reason || !errors.Is(end.Err, c.err) {
					t.Errorf("%s, ahead %v: %d tokens, %+v", name, ahead, len(got), end)
				}
				b.close(t)
			})
		}
	}
}

// at fails at one position.
func at(position int, err error) func(int) error {
	return func(p int) error {
		if p == position {
			return err
		}
		return nil
	}
}
