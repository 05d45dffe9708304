package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// pool is a fixed set of workers that share out the items of one job at a
// time. The caller works too, as worker 0. Between the jobs of a step the others
// watch a counter, which costs a microsecond or two a job and no allocation; when
// no job comes for a while they sleep. What different workers write lies on
// different cache lines: on one line, 16 workers took 32 us a job.
type pool struct {
	threads int
	do      func(worker, item int) // of the current job
	count   int64
	_       cpu.CacheLinePad
	epoch   atomic.Uint32 // counts jobs
	_       cpu.CacheLinePad
	next    atomic.Int64 // the item that nobody has taken yet
	_       cpu.CacheLinePad
	busy    atomic.Int32 // helpers that have not finished the current job
	_       cpu.CacheLinePad

	asleep atomic.Int32 // helpers that sleep or are about to
	mu     sync.Mutex
	wake   *sync.Cond // the epoch has changed, or the pool is closed
	closed atomic.Bool
	done   sync.WaitGroup
}

// A helper looks for the next job so often before it sleeps: about a
// millisecond. To be woken takes some 50 us, in which others would fall asleep if
// they had less patience; then no job of a step would find them awake. From
// politeness on they let others have their core between looks.
const (
	patience   = 1_000_000
	politeness = 20_000
)

func newPool(threads int) *pool {
	p := &pool{threads: threads}
	p.wake = sync.NewCond(&p.mu)
	for worker := 1; worker < threads; worker++ {
		p.done.Go(func() { p.help(worker) })
	}
	return p
}

// help takes part in every job until the pool is closed.
func (p *pool) help(worker int) {
	for seen := uint32(0); ; {
		epoch := p.await(seen)
		if p.closed.Load() {
			return
		}
		seen = epoch
		p.work(worker)
		p.busy.Add(-1)
	}
}

// await returns the epoch once it is another than the one seen.
func (p *pool) await(seen uint32) uint32 {
	for looks := range patience {
		if epoch := p.epoch.Load(); epoch != seen {
			return epoch
		}
		if looks >= politeness && looks%4096 == 0 {
			runtime.Gosched()
		}
	}
	p.asleep.Add(1) // before the last look: each sees it, or is seen
	p.mu.Lock()
	for p.epoch.Load() == seen {
		p.wake.Wait()
	}
	p.mu.Unlock()
	p.asleep.Add(-1)
	return p.epoch.Load()
}

// work runs the item of the worker's own number, then what is left.
func (p *pool) work(worker int) {
	for item := int64(worker); item < p.count; item = p.next.Add(1) - 1 {
		p.do(worker, int(item))
	}
}

// each calls do once for every item below count and returns when all are done.
// Items run in any order on any worker: they must write to separate places. do
// is best a method value made at recording, since making one allocates.
func (p *pool) each(count int, do func(worker, item int)) {
	if count <= 1 || p.threads == 1 {
		for item := range count {
			do(0, item)
		}
		return
	}
	p.do, p.count = do, int64(count)
	p.next.Store(int64(p.threads))
	p.busy.Store(int32(p.threads - 1))
	p.announce()
	p.work(0)
	for looks := 0; p.busy.Load() > 0; looks++ {
		if looks > politeness { // a helper lost its core to somebody else
			runtime.Gosched()
		}
	}
}

// announce starts a new epoch and wakes who sleeps.
func (p *pool) announce() {
	p.epoch.Add(1)
	if p.asleep.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
}

func (p *pool) close() {
	p.closed.Store(true)
	p.announce()
	p.done.Wait()
}
