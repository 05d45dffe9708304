// Package hostmem tells how much memory a process may still take.
package hostmem

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Available returns the bytes that can be used without swapping: what the
// kernel reports as available, or what a control group leaves if that is less.
// ok is false where neither can be read (other systems than Linux).
func Available() (bytes int64, ok bool) {
	bytes, ok = meminfo("MemAvailable:")
	limit, limited := number("/sys/fs/cgroup/memory.max")
	used, known := number("/sys/fs/cgroup/memory.current")
	if limited && known && (!ok || limit-used < bytes) {
		return max(limit-used, 0), true
	}
	return bytes, ok
}

// Total returns the machine's memory.
func Total() (bytes int64, ok bool) { return meminfo("MemTotal:") }

func meminfo(key string) (int64, bool) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer file.Close() //nolint:errcheck // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == key {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// number reads a file that holds one number; "max" counts as none.
func number(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
