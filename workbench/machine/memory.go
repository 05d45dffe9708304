// Package machine tells what the program runs on and what it takes: memory of
// the process, read bandwidth, NVIDIA devices.
package machine

import (
	"bufio"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Memory is what a process holds, in bytes; -1 where the system does not tell.
// Mapped weights count as file pages, which the kernel takes back when memory is
// short; anonymous pages (heap, cache, buffers) stay.
type Memory struct {
	Anonymous     int64 `json:"anonymous"`      // now
	PeakAnonymous int64 `json:"peak_anonymous"` // the most that was seen
	Files         int64 `json:"files"`          // now
	PeakResident  int64 `json:"peak_resident"`  // VmHWM: anonymous and file pages together
}

// ReadMemory reads this process's memory; PeakAnonymous is what it is now, for
// the kernel keeps no peak of it (Watch does).
func ReadMemory() Memory { return readMemory(os.DirFS("/proc/self")) }

func readMemory(proc fs.FS) Memory {
	status, exact := lines(proc, "status"), lines(proc, "smaps_rollup")
	m := Memory{Anonymous: kib(exact, "Anonymous"), Files: kib(status, "RssFile"), PeakResident: kib(status, "VmHWM")}
	if m.Anonymous < 0 { // smaps_rollup sums pages; status may lag some hundred behind
		m.Anonymous = kib(status, "RssAnon")
	}
	m.PeakAnonymous = m.Anonymous
	return m
}

// lines reads a file of lines "name: value".
func lines(proc fs.FS, name string) map[string]string {
	file, err := proc.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close() // read only
	out := map[string]string{}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if key, value, ok := strings.Cut(scanner.Text(), ":"); ok {
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return out
}

// kib returns a value of lines that is in KiB, -1 for none.
func kib(lines map[string]string, name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(lines[name], " kB"), 10, 64)
	if err != nil {
		return -1
	}
	return n << 10
}

// Watch forgets the peak so far and looks at the anonymous memory every 20 ms
// until stop is called, which waits for the watcher and returns what was seen.
func Watch() (stop func() Memory) {
	// 5 resets VmHWM (proc(5)); where that is not possible it is of the whole
	// process.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	var peak atomic.Int64
	look := func() { peak.Store(max(peak.Load(), kib(lines(os.DirFS("/proc/self"), "status"), "RssAnon"))) }
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				look()
			}
		}
	}()
	return func() Memory {
		close(end)
		<-done
		m := ReadMemory()
		m.PeakAnonymous = max(m.PeakAnonymous, peak.Load())
		return m
	}
}
