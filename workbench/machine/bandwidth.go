package machine

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/hostmem"
)

// Bandwidth is how fast memory is read, in bytes a second.
type Bandwidth struct {
	One     float64 `json:"one_thread"`
	All     float64 `json:"all_threads"`
	Threads int     `json:"threads"`
	Buffer  int64   `json:"buffer"` // bytes read in a pass
}

const (
	minBuffer = 256 << 20
	maxBuffer = 1 << 30
	passes    = 9
)

// MeasureBandwidth reads a buffer of at least 256 MiB and four times the last
// cache, 9 times with one thread and 9 times with all, each thread its own part,
// and takes the medians. It takes about a second.
func MeasureBandwidth(ctx context.Context, threads int) (Bandwidth, error) {
	size := int64(min(max(minBuffer, 4*lastCache()), maxBuffer))
	if free, ok := hostmem.Available(); ok && size > free/2 {
		return Bandwidth{}, fmt.Errorf("bandwidth: a buffer of %d MiB does not fit in the %d MiB that are free: close other programs", size>>20, free>>20)
	}
	buffer, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return Bandwidth{}, fmt.Errorf("bandwidth: a buffer of %d bytes: %w", size, err)
	}
	defer unix.Munmap(buffer) //nolint:errcheck // nothing of it is left to lose
	for i := 0; i < len(buffer); i += 4096 {
		buffer[i] = byte(i >> 12) // else every page would be the same page of zeros
	}
	b := Bandwidth{Threads: threads, Buffer: size}
	if b.One, err = measure(ctx, buffer, 1); err == nil {
		b.All, err = measure(ctx, buffer, threads)
	}
	return b, err
}

func measure(ctx context.Context, buffer []byte, threads int) (float64, error) {
	part := len(buffer) / threads &^ 4095
	rates := make([]float64, 0, passes)
	sums, level := make([]uint64, threads), simd.Best()
	for range passes {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var group sync.WaitGroup
		start := time.Now()
		for i := range threads {
			group.Go(func() { sums[i] ^= level.Read(buffer[i*part:][:part]) })
		}
		group.Wait()
		rates = append(rates, float64(part*threads)/time.Since(start).Seconds())
	}
	slices.Sort(rates)
	return rates[len(rates)/2], nil
}

// lastCache is the size of the largest cache in bytes, 0 where it is unknown.
func lastCache() (size int) {
	for _, index := range []string{"2", "3", "4"} {
		text, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cache/index" + index + "/size")
		if err != nil {
			continue
		}
		number, isKiB := strings.CutSuffix(strings.TrimSpace(string(text)), "K")
		if n, err := strconv.Atoi(number); err == nil && isKiB && n < 1<<21 {
			size = max(size, n<<10)
		}
	}
	return size
}
