package sched

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// newAhead is a bench on a machine that is ahead.
func newAhead(wanted bool) *bench {
	return newBenchOn(&fake{ahead: true, wanted: func() bool { return wanted }}, 8, 2, plain)
}

// A machine that is ahead is given each step before the one ahead of it is done,
// unless the host has a say in between. A stream that ends is read one token too
// far; one that has its length is not.
func TestStepsAreQueuedAhead(t *testing.T) {
	ids := prompt(1, 100) // two chunks, the second draws
	alone, _ := solo(ids, 30, &sampler{}, -1)
	end := slices.Index(alone, alone[20])
	for name, c := range map[string]struct {
		host, wanted  bool
		ahead         int
		ends          int32
		most, tokens  int
		steps, behind int
	}{
		"to its length":       {ahead: 30, ends: -1, most: 30, tokens: 30, steps: 31, behind: 30},
		"to its end":          {ahead: 30, ends: alone[end], most: 30, tokens: end + 1, steps: 2 + end + 1, behind: 1 + end + 1},
		"chosen by the host":  {ahead: 30, ends: -1, most: 30, tokens: 30, steps: 31, behind: 1, host: true},
		"wanted by others":    {ahead: 30, ends: -1, most: 30, tokens: 30, steps: 31, wanted: true},
		"one token at a time": {ahead: 1, ends: -1, most: 30, tokens: 30, steps: 31, behind: 1},
		"of one token":        {ahead: 30, ends: -1, most: 1, tokens: 1, steps: 2, behind: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newAhead(c.wanted)
			streams, err := b.Submit(Request{Prompt: ids, MaxTokens: c.most, Ahead: c.ahead, Ends: func(id int32) bool { return id == c.ends }},
				[]Choice{{Context: t.Context(), Sampler: &sampler{host: c.host}}})
			if err != nil {
				t.Fatal(err)
			}
			if n, end := consume(streams[0]); n != c.tokens || end.Err != nil {
				t.Errorf("%s: %d tokens, %+v, want %d", name, n, end, c.tokens)
			}
			b.close(t)
			if len(b.fake.steps) != c.steps || b.fake.behind != c.behind {
				t.Errorf("%s: %d steps, %d of them behind another, want %d and %d", name, len(b.fake.steps), b.fake.behind, c.steps, c.behind)
			}
		})
	}
}

// A step that breaks ends its streams, those too that have a row in the step behind
// it; their places come back when that one is done.
func TestBrokenStepAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAhead(false)
		b.fake.breakAt = 3 // with the next queued behind it
		broken := b.submit(t.Context(), t, Request{Prompt: prompt(1, 30), MaxTokens: 50, Ahead: 50})
		if n, end := consume(broken); n != 3 || !errors.Is(end.Err, errBroken) || end.Reason != "error" {
			t.Errorf("%d tokens, %+v", n, end)
		}
		if n, end := consume(b.submit(t.Context(), t, Request{Prompt: prompt(3, 70), MaxTokens: 5, Ahead: 9})); n != 5 || end.Err != nil {
			t.Errorf("afterwards: %d tokens, %+v", n, end)
		}
		b.close(t)
	})
}

// A client that leaves ends its stream at the next border, whatever is queued.
func TestLeavingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAhead(false)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		left := b.submit(ctx, t, Request{Prompt: prompt(1, 30), MaxTokens: 200, Ahead: 10})
		stays := b.submit(t.Context(), t, Request{Prompt: prompt(2, 30), MaxTokens: 200, Ahead: 200})
		for range 5 {
			<-left.Tokens()
			left.Taken()
		}
		leave()
		if end := left.Wait(); end.Reason != "cancelled" {
			t.Errorf("%+v", end)
		}
		if n, end := consume(stays); n != 200 || end.Err != nil {
			t.Errorf("the other: %d tokens, %+v", n, end)
		}
		b.close(t)
	})
}
