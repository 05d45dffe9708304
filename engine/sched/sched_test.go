package sched

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

var plain = Options{Chunk: 64, LogitsRows: 64, Queue: 100}

// consume takes all tokens and returns how many there were.
func consume(s *Stream) (n int, end End) {
	for range s.Tokens() {
		s.Taken()
		n++
	}
	return n, s.Wait()
}

// held is a bench whose only stream is taken, and the stream that takes it: it
// skips steps until it is consumed.
func held(t *testing.T, opts Options) (*bench, *Stream) {
	b := newBench(8, 1, opts)
	s := b.submit(t.Context(), t, Request{Prompt: prompt(1, 5), MaxTokens: 50, Ahead: 1})
	synctest.Wait()
	return b, s
}

// The queue is served by priority, by arrival within one, and waiting for Ageing
// makes up for a step of priority.
func TestOrderOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, holder := held(t, plain)
		order := make(chan string, 10)
		enter := func(name string, priority int) {
			s := b.submit(t.Context(), t, Request{Prompt: prompt(2, 5), MaxTokens: 1, Priority: priority,
				Ends: func(int32) bool { order <- name; return true }})
			go consume(s)
			synctest.Wait()
		}
		enter("old", 0)
		time.Sleep(Ageing + time.Second)
		enter("first", 0)
		enter("second", 0)
		enter("one up", 1) // a second late to pass old, in time to pass the others
		enter("two up", 2)
		enter("beyond bounds", 1<<62)
		consume(holder)
		synctest.Wait()
		close(order)
		var got []string
		for name := range order {
			got = append(got, name)
		}
		if want := []string{"beyond bounds", "two up", "old", "one up", "first", "second"}; !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
		b.close(t)
	})
}

func TestQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := plain
		opts.Queue = 2
		b, holder := held(t, opts)
		var waiting []*Stream
		for range 2 {
			waiting = append(waiting, b.submit(t.Context(), t, Request{Prompt: prompt(2, 5), MaxTokens: 1}))
		}
		_, err := b.Submit(Request{Prompt: prompt(2, 5), MaxTokens: 1, Ahead: 1}, []Choice{{Context: t.Context(), Sampler: &sampler{}}})
		var full *QueueError
		if !errors.As(err, &full) || full.Limit != 2 || full.RetryAfter <= 0 {
			t.Errorf("a third in a queue of two: %v", err)
		}
		consume(holder)
		for _, s := range waiting {
			consume(s)
		}
		if st := b.Stats(); st.Refused != 1 || st.Admitted != 3 || st.Finished["length"] != 3 || st.GeneratedTokens != 52 || st.PromptTokens != 15 {
			t.Errorf("%+v", st)
		}
		b.close(t)
	})
}

// A client that goes, or whose time is over, while it waits or while nobody takes
// its tokens, gives everything back at once.
func TestContextsEndStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 1, plain)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		running := b.submit(ctx, t, Request{Prompt: prompt(1, 5), MaxTokens: 50, Ahead: 1})
		why := errors.New("why")
		gone, leave := context.WithCancelCause(t.Context())
		queued := b.submit(gone, t, Request{Prompt: prompt(1, 5), MaxTokens: 50})
		synctest.Wait()
		leave(why)
		synctest.Wait()
		if end := queued.Wait(); !errors.Is(end.Err, why) || end.Reason != "cancelled" {
			t.Errorf("cancelled while queued: %+v", end)
		}
		if st := b.Stats(); st.Queued != 0 || st.Running != 1 || st.SlotsUsed != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, slots, _ := b.cache.Free(); slots != 1 {
			t.Error("a stream past its deadline holds its slot")
		}
		if end := running.Wait(); !errors.Is(end.Err, context.DeadlineExceeded) {
			t.Errorf("past the deadline: %+v", end)
		}
		b.close(t)
	})
}

// A stream whose consumer sleeps skips steps; others run to their end.
func TestSlowConsumersStallNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 2, plain)
		slow := b.submit(t.Context(), t, Request{Prompt: prompt(1, 5), MaxTokens: 50, Ahead: 3})
		fast := b.submit(t.Context(), t, Request{Prompt: prompt(2, 5), MaxTokens: 200})
		if n, end := consume(fast); n != 200 || end.Err != nil {
			t.Errorf("beside a slow one: %d tokens, %v", n, end.Err)
		}
		if ahead := slow.ahead.Load(); ahead != 3 {
			t.Errorf("a slow stream is %d tokens ahead, 3 are allowed", ahead)
		}
		if n, end := consume(slow); n != 50 || end.Err != nil {
			t.Errorf("the slow one: %d tokens, %v", n, end.Err)
		}
		b.close(t)
	})
}

// A stop that the consumer finds costs at most one more token, where Ahead is 2.
func TestStopIsNoticedAStepLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 1, plain)
		s := b.submit(t.Context(), t, Request{Prompt: prompt(1, 5), MaxTokens: 100, Ahead: 2})
		for range 10 {
			<-s.Tokens()
			s.Taken()
		}
		<-s.Tokens()
		synctest.Wait()
		s.Stop()
		if end := s.Wait(); end.Err != nil || end.Reason != "stop" {
			t.Errorf("%+v", end)
		}
		if made := b.Stats().GeneratedTokens; made > 12 {
			t.Errorf("%d tokens were made for a stop at the 11th", made)
		}
		b.close(t)
	})
}

// Every step of a long prompt carries the rows of the streams that run, and a
// short prompt does not wait for the end of a long one.
func TestLongPromptsStopNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(64, 3, plain)
		b.fake.Lock() // until all have come
		running := b.submit(t.Context(), t, Request{Prompt: prompt(1, 5), MaxTokens: 100, Ahead: 100})
		long := b.submit(t.Context(), t, Request{Prompt: prompt(2, 40*64), MaxTokens: 1})
		short := b.submit(t.Context(), t, Request{Prompt: prompt(3, 65), MaxTokens: 1})
		b.fake.Unlock()
		for _, s := range []*Stream{running, long, short} {
			consume(s)
		}
		b.close(t)
		var mixed, alone int
		for _, s := range b.fake.steps[1:] {
			if s.chunk > 0 && s.decodes > 0 {
				mixed++
			}
			if s.chunk > 0 && s.decodes == 0 {
				alone++
			}
		}
		if mixed < 40 || alone > 2 {
			t.Errorf("%d chunks beside a decoding row, %d without", mixed, alone)
		}
		if short.end.Prefill+short.end.Queued > long.end.Prefill+long.end.Queued {
			t.Error("the short prompt waited for the long one")
		}
	})
}

// What breaks a step ends the streams in it and leaves the scheduler at work.
func TestBrokenStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 2, plain)
		b.fake.broken = errors.New("the device fell off")
		list := []Choice{{Context: t.Context(), Sampler: &sampler{}}, {Context: t.Context(), Sampler: &sampler{}}}
		streams, err := b.Submit(Request{Prompt: prompt(1, 70), MaxTokens: 5, Ahead: 1, Ends: func(int32) bool { return false }}, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range streams {
			if _, end := consume(s); !errors.Is(end.Err, b.fake.broken) || end.Reason != "error" {
				t.Errorf("%+v", end)
			}
		}
		synctest.Wait()
		b.fake.broken = nil
		if n, end := consume(b.submit(t.Context(), t, Request{Prompt: prompt(1, 70), MaxTokens: 5})); n != 5 || end.Err != nil {
			t.Errorf("afterwards: %d tokens, %v", n, end.Err)
		}
		b.close(t)
	})
}

// Close ends what waits, and lets what runs finish.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, holder := held(t, plain)
		waiting := b.submit(t.Context(), t, Request{Prompt: prompt(2, 5), MaxTokens: 1})
		go b.Close(errClosed)
		synctest.Wait()
		if end := waiting.Wait(); !errors.Is(end.Err, errClosed) {
			t.Errorf("a waiting request: %+v", end)
		}
		if n, end := consume(holder); n != 50 || end.Err != nil {
			t.Errorf("the running one: %d tokens, %v", n, end.Err)
		}
		if _, err := b.Submit(Request{Prompt: prompt(2, 5), MaxTokens: 1}, []Choice{{Context: t.Context(), Sampler: &sampler{}}}); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
		b.close(t)
	})
}

// The choices of a request share one reading of the prompt and its full pages.
func TestChoicesShareThePrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(64, 4, plain)
		list := make([]Choice, 4)
		for i := range list {
			list[i] = Choice{Context: t.Context(), Sampler: &sampler{seed: uint64(i)}}
		}
		streams, err := b.Submit(Request{Prompt: prompt(1, 10*ops.PageTokens+1), MaxTokens: 5, Ahead: 1, Ends: func(int32) bool { return false }}, list)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := b.Stats(); st.PagesUsed != 10+4 || st.PromptTokens != 10*ops.PageTokens+1 || st.Running != 4 {
			t.Errorf("four choices of a prompt of 10 pages and a token: %+v", st)
		}
		for _, s := range streams {
			consume(s)
		}
		b.close(t)
	})
}

// A step is abandoned when all that are in it have left, and not before.
func TestAbandonedStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 2, plain)
		b.fake.stuck = true
		why := errors.New("why")
		var leave [2]context.CancelCauseFunc
		var list []Choice
		for i := range leave {
			ctx, cancel := context.WithCancelCause(t.Context())
			leave[i], list = cancel, append(list, Choice{Context: ctx, Sampler: &sampler{}})
		}
		streams, err := b.Submit(Request{Prompt: prompt(1, 5), MaxTokens: 5, Ahead: 1, Ends: func(int32) bool { return false }}, list)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		leave[0](why)
		synctest.Wait()
		if st := b.Stats(); st.Running != 2 || st.Steps.Prefill != 0 {
			t.Errorf("one of two left a step that runs: %+v", st)
		}
		leave[1](why)
		for _, s := range streams {
			if end := s.Wait(); !errors.Is(end.Err, why) || end.Reason != "cancelled" {
				t.Errorf("%+v", end)
			}
		}
		b.close(t)
	})
}

// A prompt that is put aside while it is read is scored once, and reads on to the
// same tokens.
func TestPutAsideWhileReading(t *testing.T) {
	for _, mode := range []string{"swap", "rebuild"} {
		synctest.Test(t, func(t *testing.T) {
			opts := plain
			opts.Overcommit = mode
			b := newBench(1+80+1+1, 3, opts) // the older, the prompt, a page to spare and one for its first token
			b.fake.Lock()                    // until both have come
			older := b.submit(t.Context(), t, Request{Prompt: prompt(1, 60), MaxTokens: 250, Ahead: 250})
			ids := prompt(2, 80*ops.PageTokens)
			list := []Choice{{Context: t.Context(), Sampler: &sampler{seed: 1}}}
			streams, err := b.Submit(Request{Prompt: ids, MaxTokens: 3, Ahead: 3, PromptCandidates: new(int), Ends: func(int32) bool { return false }}, list)
			if err != nil {
				t.Fatal(err)
			}
			b.fake.Unlock()
			if n, end := consume(older); n != 250 || end.Err != nil {
				t.Errorf("the older stream: %d tokens, %v", n, end.Err)
			}
			want, scores := solo(ids, 3, &sampler{seed: 1}, -1)
			var got []int32
			for sample := range streams[0].Tokens() {
				streams[0].Taken()
				got = append(got, sample.Token.ID)
			}
			end := streams[0].Wait()
			if !slices.Equal(got, want) || !slices.EqualFunc(end.Prompt, scores, func(s ops.Sample, c ops.Candidate) bool { return s.Watched == c }) {
				t.Errorf("%s: drew %v with %d scores, alone %v with %d", mode, got, len(end.Prompt), want, len(scores))
			}
			if st := b.Stats(); st.Preempted == 0 || st.Preempted != st.Restored || st.PromptTokens != uint64(60+len(ids)) {
				t.Errorf("%s: %+v", mode, st)
			}
			b.close(t)
		})
	}
}
