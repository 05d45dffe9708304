//go:build unix

package safetensors

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// mapFile maps a file read-only; it is paged in where it is touched.
func mapFile(fd uintptr, size int64) ([]byte, func() error, error) {
	if size > math.MaxInt {
		return nil, nil, errors.New("the file is larger than this machine's address space")
	}
	data, err := unix.Mmap(int(fd), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}
