package sched

import (
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Stats are the counters of a scheduler since it began, and how full it is. The
// workbench exports them; the engine only counts.
type Stats struct {
	Queued, Running, Swapped int // streams waiting, in the batch, and put aside under overcommit
	PagesUsed, PagesTotal    int // KV pages of ops.PageTokens positions
	SlotsUsed, SlotsTotal    int // recurrent-state slots

	PromptTokens, GeneratedTokens uint64
	Admitted, Refused             uint64            // refused: the queue was full
	Finished                      map[string]uint64 // by reason: "stop", "length", "cancelled", "error"
	Preempted, Restored           uint64            // streams put aside under overcommit, and brought back

	Steps      StepStats
	PhaseTimes ops.Times // wall time by phase
}

// StepStats is the distribution of steps.
type StepStats struct {
	Decode, Prefill, Mixed uint64    // steps by what they held
	Seconds                float64   // wall time of all
	Buckets                []uint64  // steps by duration: counts of the bounds below, and one for all above
	Bounds                 []float64 // seconds, ascending
	BatchRows              uint64    // decode rows of all steps
}

// bounds of the step histogram, seconds: a batch of one takes 1 ms on a GPU, a
// chunk of a large prompt seconds on a CPU.
var bounds = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}

// count adds a step.
func (s *StepStats) count(decodes, chunk int, took time.Duration) {
	switch {
	case chunk == 0:
		s.Decode++
	case decodes == 0:
		s.Prefill++
	default:
		s.Mixed++
	}
	s.Seconds += took.Seconds()
	s.BatchRows += uint64(decodes)
	bucket := 0
	for bucket < len(bounds) && took.Seconds() > bounds[bucket] {
		bucket++
	}
	s.Buckets[bucket]++
}

// QueueError refuses a request because as many as may wait do so already.
type QueueError struct {
	Limit int
	// RetryAfter estimates, from the streams that have ended, when the queue
	// will have moved.
	RetryAfter time.Duration
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("%d requests are waiting, which is the limit: try again in %v", e.Limit, e.RetryAfter.Round(100*time.Millisecond))
}
