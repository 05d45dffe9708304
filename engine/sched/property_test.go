package sched

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// load is one random request of the property test.
type load struct {
	prompt                     []int32
	tokens, n, priority, ahead int
	end                        int32
	scores, host               bool
	delay                      int // yields before it arrives
	cancel                     int // tokens after which its first choice leaves; -1 never
	slow                       bool
}

func drawLoad(t *rapid.T, i int) load {
	label := func(what string) string { return fmt.Sprint(what, i) }
	l := load{
		prompt: prompt(uint64(i), rapid.IntRange(1, 200).Draw(t, label("prompt"))),
		tokens: rapid.IntRange(1, 180).Draw(t, label("tokens")),
		n:      rapid.SampledFrom([]int{1, 1, 1, 2, 3, 5}).Draw(t, label("n")),
		ahead:  rapid.IntRange(1, 4).Draw(t, label("ahead")), priority: rapid.IntRange(-2, 2).Draw(t, label("priority")),
		end: -1, scores: rapid.Bool().Draw(t, label("scores")), host: rapid.Bool().Draw(t, label("host")),
		delay: rapid.IntRange(0, 30).Draw(t, label("delay")), cancel: -1, slow: rapid.Bool().Draw(t, label("slow")),
	}
	if rapid.Bool().Draw(t, label("ends")) {
		l.end = 7
	}
	if rapid.IntRange(0, 2).Draw(t, label("leaves")) == 0 {
		l.cancel = rapid.IntRange(0, 20).Draw(t, label("cancel"))
	}
	return l
}

var errLeft = errors.New("client left")

// starving is far beyond what any case takes (milliseconds).
const starving = 20 * time.Second

// play sends the request and checks every choice against its solo run.
func (l load) play(b *bench, fail func(string, ...any)) {
	for range l.delay {
		runtime.Gosched()
	}
	req := Request{Prompt: l.prompt, MaxTokens: l.tokens, Priority: l.priority, Ahead: l.ahead, Ends: func(id int32) bool { return id == l.end }}
	if l.scores {
		req.PromptCandidates = new(int)
	}
	var list []Choice
	var cancels []context.CancelCauseFunc
	for i := range l.n {
		ctx, cancel := context.WithCancelCause(context.Background())
		timer := time.AfterFunc(starving, func() { cancel(errors.New("starved")) })
		defer timer.Stop()
		defer cancel(nil)
		list, cancels = append(list, Choice{Context: ctx, Sampler: &sampler{seed: uint64(i), host: l.host}}), append(cancels, cancel)
	}
	if l.cancel == 0 {
		cancels[0](errLeft)
	}
	streams, err := b.Submit(req, list)
	if err != nil {
		fail("submit: %v", err)
		return
	}
	var wait sync.WaitGroup
	for i, stream := range streams {
		wait.Go(func() {
			want, scores := solo(l.prompt, l.tokens, &sampler{seed: uint64(i), host: l.host}, l.end)
			var got []int32
			for sample := range stream.Tokens() {
				got = append(got, sample.Token.ID)
				if l.slow {
					runtime.Gosched()
				}
				stream.Taken()
				if i == 0 && len(got) == l.cancel {
					cancels[0](errLeft)
				}
			}
			end := stream.Wait()
			left := i == 0 && l.cancel >= 0 && errors.Is(end.Err, errLeft)
			switch {
			case end.Err != nil && !left:
				fail("choice %d ended with %v", i, end.Err)
			case len(got) > len(want) || !slices.Equal(got, want[:len(got)]) || !left && len(got) < len(want):
				fail("choice %d drew %v, alone %v", i, got, want)
			}
			if l.scores && len(got) > 0 && !slices.EqualFunc(end.Prompt, scores, func(s ops.Sample, c ops.Candidate) bool { return s.Watched == c }) {
				fail("choice %d: %d scores of the prompt differ from %d alone", i, len(end.Prompt), len(scores))
			}
		})
	}
	wait.Wait()
}

// Whatever comes, goes, waits and is put aside: every stream equals its solo
// run, all end, and nothing leaks.
func TestEveryStreamEqualsItsSoloRun(t *testing.T) {
	rounds := 30 // of 100 cases each, 20 with -short
	if testing.Short() {
		rounds = 15
	}
	before := runtime.NumGoroutine()
	preempted, deepest := map[string]uint64{}, map[bool]int{}
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			opts := Options{Chunk: rapid.SampledFrom([]int{64, 128}).Draw(t, "chunk"), LogitsRows: 64, Queue: 100,
				Overcommit: rapid.SampledFrom([]string{"", "swap", "rebuild"}).Draw(t, "overcommit")}
			f := &fake{ahead: rapid.Bool().Draw(t, "on a machine that is ahead")}
			if rapid.Bool().Draw(t, "wanted by others") {
				turns := 0
				f.wanted = func() bool { turns++; return turns%5 == 0 }
			}
			b := newBenchOn(f, rapid.IntRange(6, 12).Draw(t, "pages"), rapid.IntRange(1, 6).Draw(t, "slots"), opts)
			loads := make([]load, rapid.IntRange(1, 10).Draw(t, "requests"))
			for i := range loads {
				loads[i] = drawLoad(t, i)
			}
			manual := rapid.Bool().Draw(t, "manual")
			var wait sync.WaitGroup
			var mu sync.Mutex
			var problems []string
			fail := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, fmt.Sprintf(format, args...))
			}
			for i, l := range loads {
				wait.Go(func() {
					l.play(b, func(format string, args ...any) { fail("request %d: "+format, append([]any{i}, args...)...) })
				})
			}
			if manual { // a sequence that is not the scheduler's takes its turn
				wait.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), starving)
					defer cancel()
					s, err := b.cache.Acquire(ctx, 3*ops.PageTokens)
					if err != nil {
						fail("manual sequence: %v", err)
						return
					}
					runtime.Gosched()
					s.Release()
				})
			}
			wait.Wait()
			stats := b.Stats()
			b.close(t)
			preempted[opts.Overcommit] += stats.Preempted
			deepest[f.ahead] = max(deepest[f.ahead], f.deepest)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
		})
	}
	if preempted[""] != 0 || preempted["swap"] == 0 || preempted["rebuild"] == 0 {
		t.Errorf("streams put aside: %v, want some under overcommit and only there", preempted)
	}
	if deepest[false] != 1 || deepest[true] != 2 {
		t.Errorf("steps on their way at a time, by machines that are ahead: %v, want 1 and 2", deepest)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}
