package openai

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
)

// Tokens go at the pace that was asked for, stand still, and go on when it changes.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		speed := func(x float64) *float64 { return &x }
		p, began := newPace(), time.Now()
		set := func(perSecond *float64) {
			t.Helper()
			if err := p.set(perSecond); err != nil {
				t.Fatal(err)
			}
		}
		set(speed(10))
		for range 5 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("five tokens at 10 a second took %v", took)
		}
		set(nil)
		began = time.Now()
		for range 1000 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a thousand tokens at full speed took %v", took)
		}
		set(speed(0))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if p.wait(ctx) == nil {
			t.Error("a token went while it stood still")
		}
		for _, bad := range []float64{-1, maxPace + 1, math.NaN()} {
			if p.set(&bad) == nil {
				t.Errorf("a pace of %v", bad)
			}
		}
		time.AfterFunc(3*time.Second, func() { set(speed(1)) })
		began = time.Now()
		if err := p.wait(t.Context()); err != nil || time.Since(began) != 4*time.Second {
			t.Errorf("went on after %v, %v", time.Since(began), err)
		}
	})
}

// The field is bounded.
func TestPaceOfRequests(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{}, nil)
	for _, bad := range []string{"0", "-1", "20000", `"fast"`} {
		status, body := post(t, url+"/v1/chat/completions", chatBody(`"roundhouse":{"pace":`+bad+`}`))
		if status != 400 {
			t.Errorf("pace %s: %d %s", bad, status, body)
		}
	}
	began := time.Now()
	if status, body := post(t, url+"/v1/chat/completions", chatBody(`"roundhouse":{"pace":50}`)); status != 200 || time.Since(began) < 20*time.Millisecond {
		t.Errorf("%d after %v: %s", status, time.Since(began), body)
	}
}
