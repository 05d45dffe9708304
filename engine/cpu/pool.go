package cpu

import (
	"sync"
	"sync/atomic"
)

// pool is a fixed set of workers that share out the items of one job at a
// time. The caller works too, as worker 0.
type pool struct {
	threads int
	jobs    chan *job
	done    sync.WaitGroup
}

type job struct {
	next  atomic.Int64
	count int64
	do    func(worker, item int)
	left  sync.WaitGroup
}

func newPool(threads int) *pool {
	p := &pool{threads: threads, jobs: make(chan *job)}
	for i := 1; i < threads; i++ {
		p.done.Add(1)
		go func() {
			defer p.done.Done()
			for j := range p.jobs {
				j.work(i)
				j.left.Done()
			}
		}()
	}
	return p
}

func (j *job) work(worker int) {
	for {
		item := j.next.Add(1) - 1
		if item >= j.count {
			return
		}
		j.do(worker, int(item))
	}
}

// each calls do once for every item below count and returns when all are done.
// Items run in any order on any worker: they must write to separate places.
func (p *pool) each(count int, do func(worker, item int)) {
	j := &job{count: int64(count), do: do}
	for helpers := min(p.threads, count) - 1; helpers > 0; helpers-- {
		j.left.Add(1)
		p.jobs <- j
	}
	j.work(0)
	j.left.Wait()
}

func (p *pool) close() {
	close(p.jobs)
	p.done.Wait()
}
