package host

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// TestSoak crashes a plugin in the midst of a choice again and again: 1,000 times where
// ROUNDHOUSE_SOAK has a minute or more for it, 20 times without. Nothing is left of those that crashed.
func TestSoak(t *testing.T) {
	cycles := 20
	if long, err := time.ParseDuration(os.Getenv("ROUNDHOUSE_SOAK")); err == nil && long >= time.Minute {
		cycles = 1000
	}
	h := open(t, Options{Budget: 5 * time.Second, Back: time.Millisecond, MaxBack: time.Millisecond, Break: 1 << 30}, "all", "exit", "edits")
	for range 3 {
		crash(t, h, 0) // what first ones start for good is started
	}
	before, heap := count(t), live()
	var times []time.Duration
	for n := range cycles {
		times = append(times, crash(t, h, n))
	}
	now := before.compare(t)
	grown := max(float64(live()-heap)/(1<<20), 0)
	if grown > 32 {
		t.Errorf("the heap has grown by %.1f MiB", grown)
	}
	if s := h.Plugins()[1].Stat(); s.Name != "edits" || s.Launches != 1 {
		t.Errorf("the plugin that nobody crashed: %+v", s)
	}
	slices.Sort(times)
	t.Logf("evidence: plugin crashes, cycles: %d cycles >= %d", cycles, cycles)
	t.Logf("evidence: plugin crashes, processes left: %d processes <= 0", max(now.children-before.children, 0))
	t.Logf("evidence: plugin crashes, descriptors left: %d descriptors <= 0", max(now.descriptors-before.descriptors, 0))
	t.Logf("evidence: plugin crashes, goroutines left: %d goroutines <= 0", max(now.goroutines-before.goroutines, 0))
	t.Logf("evidence: plugin crashes, heap: %.1f MiB <= 32", grown)
	t.Logf("evidence: plugin crashes, median until it is back: %.1f ms <= 1000", ms(times[len(times)/2]))
}

// crash begins a choice of each plugin, crashes two of them in the midst, in one way or
// another, and returns how long one of them took to be back.
func crash(t *testing.T, h *Host, n int) time.Duration {
	t.Helper()
	all, exit := h.Plugins()[0], h.Plugins()[2]
	for _, p := range h.Plugins() {
		within(t, "a plugin that is ready", func() bool { return p.Stat().State == Ready })
	}
	launches, exits := all.Stat().Launches, exit.Stat().Launches
	row := make(hook.Plain, small.Tokens)
	var chains []*hook.Chain
	for _, p := range []*Plugin{all, exit, h.Plugins()[1]} {
		i, err := p.Start(t.Context(), Env{Model: small})
		if err != nil {
			t.Fatal(err)
		}
		c, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens}, i)
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, c)
	}
	began := time.Now()
	switch pid := all.Stat().PID; {
	case n%3 == 2:
		all.Restart()
	case syscall.Kill(pid, syscall.SIGKILL) != nil:
		t.Fatalf("process %d is not there", pid)
	}
	for position := 3; position < 7; position++ {
		for _, c := range chains {
			if _, err := c.Logits(hook.At{Position: position}, row, row); err != nil {
				t.Fatal(err)
			}
		}
	}
	if u := chains[1].Report().Hooks[0]; u.Faults["lost"] != 1 {
		t.Errorf("cycle %d: %+v", n, u)
	}
	if u := chains[2].Report().Hooks[0]; len(u.Faults) > 0 {
		t.Errorf("cycle %d: the plugin that nobody crashed: %+v", n, u)
	}
	within(t, "a new process", func() bool { s := all.Stat(); return s.Launches > launches && s.State == Ready })
	took := time.Since(began)
	within(t, "another", func() bool { s := exit.Stat(); return s.Launches > exits && s.State == Ready })
	for _, c := range chains {
		c.Close()
	}
	return took
}

// live is the heap that is in use.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
