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
)

// TestSoak runs a mixed load with random cancels, choices, seeds and slow
// consumers for ROUNDHOUSE_SOAK (a duration; 3s without it), in every mode of
// overcommit, and compares each stream with its solo run made beforehand.
func TestSoak(t *testing.T) {
	total := 3 * time.Second
	if text := os.Getenv("ROUNDHOUSE_SOAK"); text != "" {
		var err error
		if total, err = time.ParseDuration(text); err != nil {
			t.Fatalf("ROUNDHOUSE_SOAK=%q: %v", text, err)
		}
	} else if testing.Short() {
		total = 300 * time.Millisecond
	}
	before := runtime.NumGoroutine()
	for _, mode := range []string{"", "swap", "rebuild"} {
		t.Run("overcommit="+mode, func(t *testing.T) { soak(t, mode, total/3) })
	}
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

// soakKinds makes requests of all sizes, and what each choice draws alone.
func soakKinds(t *testing.T, mode string) (requests []Request, want [][choicesOf][]int32) {
	requests = mixed(8)
	for i := range requests {
		requests[i].MaxTokens = 12 + 16*i
	}
	want = make([][choicesOf][]int32, len(requests))
	solo := open(t, Options{Name: "solo " + mode, Streams: 1, Context: 512})
	for i, req := range requests {
		for c := range choicesOf {
			req.Choice = uint32(c)
			want[i][c], _ = generate(t, solo, req)
		}
	}
	if err := solo.Close(); err != nil {
		t.Error(err)
	}
	return requests, want
}

var errBored = errors.New("client bored")

func soak(t *testing.T, mode string, length time.Duration) {
	requests, want := soakKinds(t, mode)
	opts := Options{Streams: 6, Context: 512, Queue: 64, PrefillChunk: 64, Overcommit: mode}
	if mode != "" {
		opts.CacheTokens = 768
	}
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
		ctx, cancel := context.WithCancelCause(context.Background())
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
	for i := range 10 {
		clients.Go(func() {
			for random := rand.New(rand.NewPCG(uint64(i), 4)); time.Now().Before(end) && wrong.Load() == 0; {
				client(random)
			}
		})
	}
	memory := sampleMemory(end)
	clients.Wait()
	st := m.Stats()
	t.Logf("%d streams, %d cancelled, %d wrong; %d put aside; %d steps (%d mixed), %.1f decode rows a step", streams.Load(), cancelled.Load(), wrong.Load(),
		st.Preempted, st.Steps.Decode+st.Steps.Prefill+st.Steps.Mixed, st.Steps.Mixed, float64(st.Steps.BatchRows)/float64(max(st.Steps.Decode+st.Steps.Mixed, 1)))
	t.Logf("heap after collection, MB: %.1f; resident, MB: %.1f (at 10 %% to 100 %% of the time)", memory[0], memory[1])
	if streams.Load() == 0 || st.Queued+st.Running+st.Swapped+st.PagesUsed+st.SlotsUsed != 0 {
		t.Errorf("in the end: %+v", st)
	}
	// Flat: the last sample is within a quarter, and 8 MB, of the first.
	for i, what := range []string{"heap", "resident memory"} {
		if first, last := memory[i][0], memory[i][len(memory[i])-1]; last > 1.25*first+8 {
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

// sampleMemory samples heap and resident memory, in MB, ten times until end.
func sampleMemory(end time.Time) (memory [2][]float64) {
	interval := time.Until(end) / 10
	for range 10 {
		time.Sleep(interval)
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		memory[0] = append(memory[0], float64(stats.HeapAlloc)/1e6)
		memory[1] = append(memory[1], resident())
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
