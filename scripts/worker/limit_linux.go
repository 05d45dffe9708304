package worker

import (
	"fmt"
	"os"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// limit has the system refuse the process more than so many bytes of its own.
func limit(bytes uint64) error {
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: bytes, Max: bytes})
}

var highWater = regexp.MustCompile(`VmHWM:\s*(\d+) kB`)

// peakOf is the most memory that a process took so far, in bytes; 0 if it has ended.
// What the system says of one that has ended is also its parent's at the start.
func peakOf(p *os.Process) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		return 0
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		return 0
	}
	kilobytes, _ := strconv.ParseInt(string(m[1]), 10, 64) // it is digits
	return kilobytes << 10
}
