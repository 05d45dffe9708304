package cpu

import (
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
)

// Sample implements ops.Set.
func (r *recorder) Sample(a ops.SampleArgs) {
	var now *run // the replay at hand
	draw := func(worker, row int) {
		logits := floats(a.Logits)[row*a.Vocabulary:][:a.Vocabulary]
		sample.Device(now.workers[worker].sample, &now.Samples[row], &now.Sampling[row], logits, a.Tokens)
	}
	r.add(ops.PhaseSample, func(r *run) {
		now = r
		r.pool.each(len(r.Sampling), draw)
	})
}
