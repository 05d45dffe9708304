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
	if left, limited := group("/sys/fs/cgroup"); limited && (!ok || left < bytes) {
		return left, true
	}
	return bytes, ok
}

// group returns what a control group (version 2) leaves. Its use counts the page
// cache; pages of files that were read once go first when memory is short, so a
// checkpoint that was just downloaded does not count.
func group(dir string) (bytes int64, ok bool) {
	limit, limited := number(dir + "/memory.max")
	used, known := number(dir + "/memory.current")
	cached, _ := field(dir+"/memory.stat", "inactive_file")
	return max(limit-max(used-cached, 0), 0), limited && known
}

// Total returns the machine's memory.
func Total() (bytes int64, ok bool) { return meminfo("MemTotal:") }

// meminfo returns a row of /proc/meminfo, whose unit is KiB.
func meminfo(key string) (int64, bool) {
	kib, ok := field("/proc/meminfo", key)
	return kib << 10, ok
}

// field returns the number behind a key in a file of lines "key number".
func field(path, key string) (int64, bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer file.Close() // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n, err == nil
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
