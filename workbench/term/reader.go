//go:build unix

package term

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watch is how long a Reader sleeps at most before it looks at its context.
const watch = 100 * time.Millisecond

// Reader reads a file, and stops waiting for input when a context ends: a read
// of a terminal or pipe cannot be called back otherwise.
type Reader struct {
	f   *os.File
	ctx context.Context
}

// NewReader reads f.
func NewReader(f *os.File) *Reader { return &Reader{f: f, ctx: context.Background()} }

// Until sets the context of the reads that follow.
func (r *Reader) Until(ctx context.Context) { r.ctx = ctx }

// Read waits for input, or for the end of the context.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		fds := []unix.PollFd{{Fd: int32(r.f.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(watch/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for input: %w", err)
		}
		if n > 0 {
			return r.f.Read(p)
		}
	}
}
