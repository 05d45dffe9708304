package engine

import "github.com/roundhouse-ai/roundhouse/engine/ops"

// Stats are the counters of a model since it was opened, and how full it is.
// The workbench exports them; the engine only counts.
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
