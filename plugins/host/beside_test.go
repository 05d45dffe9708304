package host

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

var reportFile = flag.String("report", "", "write what was measured to this file, as JSON")

// Report is what `make plugin-faults` makes a page of.
type Report struct {
	Budget float64 // of a call, ms
	Health float64 // between two checks, ms
	Back   float64 // the first wait before a plugin is started again, ms
	Alone  float64 // the other stream's longest gap between two tokens without a fault, ms
	Faults []Row
}

// Row is one fault. Times are in ms.
type Row struct {
	Name, What, Stopped, Said string
	Longest, Recovered, Gap   float64
	Refused                   string // part of the error of a launch
	Dies, Survives            bool   // its process ended; one that it started did not
}

func (r *Report) write(t *testing.T) {
	if *reportFile == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = os.WriteFile(*reportFile, text, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// calm is a hook of this process.
type calm struct{ hook.None }

func (calm) Spec() hook.Spec { return hook.Spec{Name: "calm", Events: hook.OnLogits} }

func (calm) Logits(_ *hook.Call, l *hook.Logits) error { return l.Bias([]int32{1}, .5) }

// beside runs another stream's tokens, one a millisecond, until it is told to end: it
// returns the longest gap between two.
func beside(t *testing.T) (end func() time.Duration) {
	t.Helper()
	chain, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens, OnError: hook.Fail}, calm{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var gap time.Duration
	var stream sync.WaitGroup
	stream.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for position, last := 3, time.Now(); ctx.Err() == nil; position++ {
			<-ticker.C
			if _, err := chain.Logits(hook.At{Position: position}, nil, nil); err != nil {
				t.Errorf("the other stream: %v", err)
				return
			}
			gap, last = max(gap, time.Since(last)), time.Now()
		}
	})
	return func() time.Duration {
		cancel()
		stream.Wait()
		chain.Close()
		return gap
	}
}

// alone is the longest gap of the other stream when there is no fault.
func alone(t *testing.T) time.Duration {
	end := beside(t)
	time.Sleep(200 * time.Millisecond)
	return end()
}

// counted is what a process holds.
type counted struct{ children, descriptors, goroutines int }

func count(t *testing.T) counted {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("what a process holds is read from /proc")
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return counted{len(children(t)), len(fds), runtime.NumGoroutine()}
}

// compare says what has been left since, and returns what there is. What ends by itself may
// take a while.
func (c counted) compare(t *testing.T) (now counted) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(5 * time.Millisecond) {
		if now = count(t); now.children <= c.children && now.descriptors <= c.descriptors && now.goroutines <= c.goroutines {
			return now
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.Errorf("there were %+v, and are %+v; goroutines:\n%s", c, now, stacks)
	return now
}

// stat is a line of /proc/PID/stat behind the name: state, parent and so on.
func stat(pid string) []string {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return nil // it has ended
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// processes lists those that are so.
func processes(t *testing.T, is func(pid string) bool) (list []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && is(e.Name()) {
			list = append(list, pid)
		}
	}
	return list
}

// children lists this process's children, dead ones among them.
func children(t *testing.T) []int {
	own := strconv.Itoa(os.Getpid())
	return processes(t, func(pid string) bool { s := stat(pid); return len(s) > 1 && s[1] == own })
}

// named lists processes with an argument, living ones.
func named(t *testing.T, argument string) []int {
	return processes(t, func(pid string) bool {
		text, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		return err == nil && pid != strconv.Itoa(os.Getpid()) && slices.Contains(strings.Split(string(text), "\x00"), argument)
	})
}

// reap ends the processes that a plugin started and the host could not reach: there must be
// some.
func reap(t *testing.T, name string) {
	t.Helper()
	list := named(t, sleeper+name)
	if len(list) == 0 {
		t.Error("no process is left: then none was out of reach")
	}
	for _, pid := range list {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
	}
	within(t, "the end of what survived", func() bool { return len(named(t, sleeper+name)) == 0 })
}
