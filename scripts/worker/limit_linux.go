package worker

import "golang.org/x/sys/unix"

// limit has the system refuse the process more than so many bytes of its own.
func limit(bytes uint64) error {
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: bytes, Max: bytes})
}
