package cpu

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Every item runs once, whether the helpers watch, sleep or are many.
func TestPoolRunsEveryItemOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 9} {
		p := newPool(threads)
		for job := range 300 {
			seen := make([]atomic.Int32, job%23)
			var worker [9]atomic.Int32
			p.each(len(seen), func(w, item int) {
				if worker[w].Add(1); w >= threads {
					t.Errorf("worker %d of %d", w, threads)
				}
				seen[item].Add(1)
			})
			for item := range seen {
				if n := seen[item].Load(); n != 1 {
					t.Fatalf("%d threads, job %d: item %d ran %d times", threads, job, item, n)
				}
			}
			if job%100 == 99 {
				time.Sleep(2 * time.Millisecond) // long enough to fall asleep
			}
		}
		p.close()
	}
}

func TestPoolDoesNotAllocate(t *testing.T) {
	p := newPool(2)
	defer p.close()
	var sum atomic.Int64
	do := func(_, item int) { sum.Add(int64(item)) }
	if n := testing.AllocsPerRun(100, func() { p.each(10, do) }); n != 0 {
		t.Errorf("a job allocates %v times", n)
	}
}

// BenchmarkPool is what a phase costs beside its work.
func BenchmarkPool(b *testing.B) {
	for threads := 2; threads <= runtime.NumCPU(); threads *= 2 {
		b.Run(fmt.Sprint(threads), func(b *testing.B) {
			p := newPool(threads)
			defer p.close()
			do := func(int, int) {}
			for b.Loop() {
				p.each(threads, do)
			}
		})
	}
}
