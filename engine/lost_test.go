package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

// Wherever the device is lost, every stream and sequence ends with an error that says
// so: those of the step, those put aside or far ahead of their consumers, those that
// wait. The model refuses what comes later and closes, with nothing held.
func TestLostDeviceEndsEverything(t *testing.T) {
	calls := []int{1, 2, 5, 9, 47, 91, 233, 700}
	if testing.Short() {
		calls = []int{9}
	}
	for _, overcommit := range []string{"", "swap"} {
		for _, n := range calls {
			t.Run(fmt.Sprintf("overcommit %q, call %d", overcommit, n), func(t *testing.T) { loseDevice(t, overcommit, n) })
		}
	}
}

func loseDevice(t *testing.T, overcommit string, n int) {
	before := runtime.NumGoroutine()
	fake, err := drivertest.New(drivertest.Options{Memory: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), os.DirFS(optest.Model(t, "int4-mixed-2026")), Options{
		Device: "cuda", Driver: fake, Streams: 3, Context: 256, CacheTokens: 256, PrefillChunk: 64, Overcommit: overcommit})
	if err != nil {
		t.Fatal(err)
	}
	if m.Err() != nil {
		t.Errorf("a whole device is lost: %v", m.Err())
	}
	var streams sync.WaitGroup
	const stalled = 1
	errs := make([]error, 6)
	started := make(chan struct{}, len(errs))
	for i := range errs {
		req := Request{Prompt: randomIDs(70 + i), MaxTokens: 100, IgnoreEOS: true}
		if i == stalled { // a quarter of the room, so that another always runs beside it
			req.Prompt, req.MaxTokens = randomIDs(20), 40
		}
		streams.Go(func() {
			told := false
			_, errs[i] = m.Generate(t.Context(), req, func(Token) error {
				if !told {
					started <- struct{}{}
					told = true
				}
				if i == stalled { // takes nothing more, as long as there is a device
					<-m.Lost()
				}
				return nil
			})
		})
	}
	<-started
	for st := m.Stats(); st.Running+st.Queued+st.Swapped+int(st.Finished["length"]) < len(errs); st = m.Stats() {
		time.Sleep(time.Millisecond)
	}
	var sequence error
	streams.Go(func() { // waits for all the room, behind every stream
		s, err := m.NewSequence(context.Background(), 256)
		if err == nil {
			_, err = s.Read(context.Background(), randomIDs(1), StepOptions{})
			s.Release()
		}
		sequence = err
	})
	fake.Fail(n, driver.IllegalAddress)
	ends(t, "streams", streams.Wait)
	for i, err := range append(errs, sequence) {
		if !errors.Is(err, ErrDeviceLost) {
			t.Errorf("stream %d ends with %v", i, err)
		}
	}
	select {
	case <-m.Lost():
	default:
		t.Error("nobody is told of the loss")
	}
	if !errors.Is(m.Err(), ErrDeviceLost) {
		t.Errorf("the model's error is %v", m.Err())
	}
	if _, err := m.Generate(t.Context(), Request{Prompt: randomIDs(3), MaxTokens: 1}, func(Token) error { return nil }); !errors.Is(err, ErrDeviceLost) {
		t.Errorf("a later request gets %v", err)
	}
	if _, err := m.NewSequence(t.Context(), 3); !errors.Is(err, ErrDeviceLost) {
		t.Errorf("a later sequence gets %v", err)
	}
	if st := m.Stats(); st.Finished["error"] != uint64(len(errs)) || st.Running+st.Queued+st.Swapped != 0 {
		t.Errorf("the streams are counted as %+v", st)
	}
	ends(t, "Close", func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, problem := range fake.Problems() {
		t.Error("driver:", problem)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines before, %d after", before, now)
	}
}

// ends waits for what must end.
func ends(t *testing.T, what string, wait func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: no end after a minute\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// A device that is lost while the model is opened is an error of Open, and leaves
// nothing behind.
func TestLostDeviceWhileOpening(t *testing.T) {
	folder := os.DirFS(optest.Model(t, "int4-mixed-2026"))
	for _, n := range []int{1, 5, 20, 60, 150, 400} {
		fake, err := drivertest.New(drivertest.Options{Memory: 4 << 30})
		if err != nil {
			t.Fatal(err)
		}
		fake.Fail(n, driver.IllegalAddress)
		m, err := Open(t.Context(), folder, Options{Device: "cuda", Driver: fake, Streams: 1, Context: 256, PrefillChunk: 64})
		if !errors.Is(err, ErrDeviceLost) || m != nil {
			t.Errorf("call %d: Open gives %v", n, err)
		}
		for _, problem := range fake.Problems() {
			t.Errorf("call %d: driver: %s", n, problem)
		}
	}
}
