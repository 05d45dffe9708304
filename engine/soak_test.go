package engine

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

// TestSoak runs a mixed load with random cancels, choices, seeds and slow
// consumers for ROUNDHOUSE_SOAK (a duration; 3s without it), in every mode of
// overcommit, and compares each stream with its solo run made beforehand.
func TestSoak(t *testing.T) {
	total := soakTime(t, 3*time.Second)
	if testing.Short() {
		total = soakTime(t, 300*time.Millisecond)
	}
	before := runtime.NumGoroutine()
	for _, mode := range []string{"", "swap", "rebuild"} {
		t.Run("overcommit="+mode, func(t *testing.T) {
			requests := mixed(8)
			for i := range requests {
				requests[i].MaxTokens = 12 + 16*i
			}
			opts := Options{Streams: 6, Context: 512, Queue: 64, PrefillChunk: 64, Overcommit: mode}
			if mode != "" {
				opts.CacheTokens = 768
			}
			soak(t, open, opts, requests, 10, total/3)
		})
	}
	goroutinesEnd(t, before)
}

// TestSoakOnDevice is the same load on the CUDA engine in fast numerics, 16 streams
// at a time. In the end, as much memory of the device is in use as before. On the fake
// driver, which keeps a record of every launch, it is over in a moment.
func TestSoakOnDevice(t *testing.T) {
	dir, requests, length := optest.Model(t, "int4-mixed-2026"), mixed(4), 500*time.Millisecond
	if silicon() {
		requests, length = mixed(8), soakTime(t, 20*time.Second)
	}
	if folder := realFolder(); folder != "" {
		dir = folder
	}
	for i := range requests {
		requests[i].MaxTokens = 4 + i
		if silicon() {
			requests[i].MaxTokens = 12 + 16*i
		}
	}
	open := onDevice(dir, "fast")
	inUse := func() int64 {
		m := open(t, Options{Streams: 1, Context: 512})
		device, err := m.Device()
		if err := errors.Join(err, m.Close()); err != nil {
			t.Fatal(err)
		}
		return device.Used
	}
	goroutines, memory := runtime.NumGoroutine(), inUse()
	t.Run("load", func(t *testing.T) {
		opts := Options{Streams: 16, Context: 512, Queue: 64, PrefillChunk: 64}
		soak(t, open, opts, requests, 16, length)
	})
	after := inUse()
	t.Logf("device memory with a model of one stream, MB: %.1f before, %.1f after", float64(memory)/1e6, float64(after)/1e6)
	if after > memory+deviceSlack {
		t.Errorf("%d bytes of device memory in use, %d before", after, memory)
	}
	goroutinesEnd(t, goroutines)
}

// deviceSlack is what a driver may keep to itself, in bytes.
const deviceSlack = 8 << 20

// soakTime is ROUNDHOUSE_SOAK, or else so long.
func soakTime(t *testing.T, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("ROUNDHOUSE_SOAK")
	if text == "" {
		return otherwise
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("ROUNDHOUSE_SOAK=%q: %v", text, err)
	}
	return length
}

// goroutinesEnd waits until there are no more goroutines than before.
func goroutinesEnd(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	t.Logf("goroutines: %d before, %d after", before, runtime.NumGoroutine())
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}

// choicesOf is how many choices of each soak request are known.
const choicesOf = 3

// soloRuns is what each choice of the requests draws alone.
func soloRuns(t *testing.T, open opener, requests []Request) [][choicesOf][]int32 {
	want := make([][choicesOf][]int32, len(requests))
	solo := open(t, Options{Name: "solo", Streams: 1, Context: 512})
	for i, req := range requests {
		for c := range choicesOf {
			req.Choice = uint32(c)
			want[i][c], _ = generate(t, solo, req)
		}
	}
	if err := solo.Close(); err != nil {
		t.Error(err)
	}
	return want
}

var (
	errBored = errors.New("client bored")
	errStuck = errors.New("no end after " + patience.String())
)

// patience is what the slowest request needs many times over.
const patience = 2 * time.Minute

// soak lets so many clients send the requests again and again, whole, in part and in
// several choices.
func soak(t *testing.T, open opener, opts Options, requests []Request, many int, length time.Duration) {
	want := soloRuns(t, open, requests)
	m := open(t, opts)
	var streams, wrong, cancelled atomic.Int64
	client := func(random *rand.Rand) {
		kind := random.IntN(len(requests))
		req, n := requests[kind], 1+random.IntN(choicesOf)
		req.Priority = random.IntN(3)
		leaves, slow := make([]int, n), random.IntN(6) == 0
		for c := range leaves {
			if leaves[c] = -1; random.IntN(4) == 0 {
				leaves[c] = random.IntN(req.MaxTokens)
			}
		}
		ctx, stop := context.WithTimeoutCause(context.Background(), patience, errStuck)
		defer stop()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if random.IntN(8) == 0 {
			timer := time.AfterFunc(time.Duration(random.IntN(20))*time.Millisecond, func() { cancel(errBored) })
			defer timer.Stop()
		}
		got := make([][]int32, n)
		outcomes := m.GenerateChoices(ctx, req, n, func(c int, tok Token) error {
			if got[c] = append(got[c], tok.ID); len(got[c]) == leaves[c] {
				return errBored
			}
			if slow {
				time.Sleep(2 * time.Millisecond)
			}
			return nil
		})
		for c, outcome := range outcomes {
			streams.Add(1)
			left := errors.Is(outcome.Err, errBored)
			if left {
				cancelled.Add(1)
			}
			full := want[kind][c]
			if outcome.Err != nil && !left || !left && len(got[c]) != len(full) || len(got[c]) > len(full) || !prefix(full, got[c]) {
				wrong.Add(1)
				t.Errorf("request %d choice %d (%v): %v, alone %v", kind, c, outcome.Err, got[c], full)
			}
		}
	}
	end := time.Now().Add(length)
	var clients sync.WaitGroup
	for i := range many {
		clients.Go(func() {
			for random := rand.New(rand.NewPCG(uint64(i), 4)); time.Now().Before(end) && wrong.Load() == 0; {
				client(random)
			}
		})
	}
	memory := sampleMemory(t, m, end)
	clients.Wait()
	st := m.Stats()
	t.Logf("%d streams, %d cancelled, %d wrong; %d put aside; %d steps (%d mixed), %.1f decode rows a step", streams.Load(), cancelled.Load(), wrong.Load(),
		st.Preempted, st.Steps.Decode+st.Steps.Prefill+st.Steps.Mixed, st.Steps.Mixed, float64(st.Steps.BatchRows)/float64(max(st.Steps.Decode+st.Steps.Mixed, 1)))
	t.Logf("at 10 %% to 100 %% of the time, MB: heap after collection %.1f; resident %.1f; device %.1f", memory[0], memory[1], memory[2])
	if streams.Load() == 0 || st.Queued+st.Running+st.Swapped+st.PagesUsed+st.SlotsUsed != 0 {
		t.Errorf("in the end: %+v", st)
	}
	// Flat: the last sample is within a quarter, and 8 MB, of the first. A device
	// allocates nothing after load.
	for i, what := range []string{"heap", "resident memory", "device memory"} {
		growth := [...]float64{1.25, 1.25, 1}[i]
		if first, last := memory[i][0], memory[i][len(memory[i])-1]; last > growth*first+8 {
			t.Errorf("%s grew from %.1f to %.1f MB", what, first, last)
		}
	}
}

func prefix(full, part []int32) bool {
	for i, id := range part {
		if full[i] != id {
			return false
		}
	}
	return true
}

// sampleMemory samples heap, resident memory and that in use on the device, in MB,
// ten times until end.
func sampleMemory(t *testing.T, m *Model, end time.Time) (memory [3][]float64) {
	interval := time.Until(end) / 10
	for range 10 {
		time.Sleep(interval)
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		memory[0] = append(memory[0], float64(stats.HeapAlloc)/1e6)
		memory[1] = append(memory[1], resident())
		used := 0.0
		if device, err := m.Device(); err != nil {
			t.Error(err)
		} else if device != nil {
			used = float64(device.Used) / 1e6
		}
		memory[2] = append(memory[2], used)
	}
	return memory
}

// resident returns VmRSS in MB, 0 where the kernel does not tell.
func resident() float64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close() // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			return kib * 1024 / 1e6
		}
	}
	return 0
}
