package scripts

import (
	"errors"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// A machine that cannot be stopped is left behind: it is counted, keeps others from
// starting, and is waited for.
func TestMachineIsLeftBehind(t *testing.T) {
	h := NewHost(Options{Grace: time.Millisecond, MaxAbandoned: 1})
	v, err := h.machine()
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	err = v.do(nil, time.Millisecond, func() error { <-release; return nil })
	var f *hook.Fault
	if !errors.As(err, &f) || f.Kind != hook.Abandoned || h.Abandoned() != 1 {
		t.Errorf("%v, %d left behind", err, h.Abandoned())
	}
	if err := v.do(nil, time.Second, func() error { return nil }); !errors.As(err, &f) || f.Kind != hook.Abandoned {
		t.Errorf("a call after it: %v", err)
	}
	var busy *BusyError
	if _, err := h.machine(); !errors.As(err, &busy) {
		t.Errorf("another machine: %v", err)
	}
	v.close() // as its owner does
	close(release)
	h.Close()
	if h.Abandoned() != 0 {
		t.Errorf("%d left behind after all have ended", h.Abandoned())
	}
	if _, err := h.machine(); err == nil {
		t.Error("a machine starts after the host was closed")
	}
}

// What an abandoned machine does reaches nobody.
func TestAbandonedMachineReachesNobody(t *testing.T) {
	h := NewHost(Options{Grace: time.Millisecond})
	v, err := h.machine()
	if err != nil {
		t.Fatal(err)
	}
	release, reached := make(chan struct{}), false
	_ = v.do(nil, time.Millisecond, func() error {
		<-release
		v.outside(func() error { reached = true; return nil })
		return nil
	})
	close(release)
	h.Close()
	if reached {
		t.Error("it reached the world outside")
	}
}

// A budget without pressure costs nothing but the call: reads do not count.
func TestReadsDoNotCount(t *testing.T) {
	p := started(t, wrapped(`return { logits(l) { log(l.entropy()); } }`), hook.Options{OnError: hook.Fail, Budget: 5 * time.Millisecond})
	if _, err := p.Logits(hook.At{Position: 3}, slow{p.row}, p.row); err != nil {
		t.Error(err)
	}
}

// slow is a source that takes its time.
type slow struct{ hook.Plain }

func (s slow) Entropy() (float32, error) {
	time.Sleep(50 * time.Millisecond)
	return s.Plain.Entropy()
}
