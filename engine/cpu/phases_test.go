package cpu

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// replay returns a function that runs the first phase of a program on a step.
func replay(t testing.TB, recorded ops.Program, step *ops.Step) func() {
	t.Helper()
	p := recorded.(*program)
	r := &run{Step: step, scratch: p.scratch, pool: p.b.pool, rows: step.Rows()}
	if err := p.lay(r); err != nil {
		t.Fatal(err)
	}
	return func() { p.phases[0].run(r) }
}

// A replay of the mixers allocates nothing beyond what the pool does to share
// out their jobs.
func TestMixersAllocateNothing(t *testing.T) {
	for _, level := range simd.Levels() {
		delta, args, inputs := recordDelta(t, level, 1, ops.DeltaNetShape{KeyHeads: 2, ValueHeads: 4, KeyDim: 20, ValueDim: 33, Kernel: 4}, 100)
		copy(floats(args.In), inputs)
		attention := newAttention(t, level, 1, ops.AttentionShape{Heads: 4, KVHeads: 2, HeadDim: 20}, 100, 1000)
		pool := delta.(*program).b.pool
		nothing := func(int, int) {}
		for _, kind := range []ops.SegmentKind{ops.Prefill, ops.Replay} {
			step := &ops.Step{IDs: make([]int32, 100), Segments: []ops.Segment{{Kind: kind, Start: 0, Len: 100, Pages: attention.pages}}}
			long := &ops.Step{IDs: make([]int32, 100), Segments: []ops.Segment{{Kind: kind, Start: 900, Len: 100, Pages: attention.pages}}}
			for what, c := range map[string]struct {
				run  func()
				jobs int
			}{
				"delta net": {replay(t, delta, step), 2},
				"attention": {replay(t, attention.program, long), 5}, // two hundred parts take two rounds
			} {
				allowed := testing.AllocsPerRun(10, func() {
					for range c.jobs {
						pool.each(1, nothing)
					}
				})
				if n := testing.AllocsPerRun(10, c.run); n > allowed {
					t.Errorf("%v: %s, %v: %v allocations, the pool's are %v", level, what, kind, n, allowed)
				}
			}
		}
	}
}
