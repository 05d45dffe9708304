package engine

import "github.com/roundhouse-ai/roundhouse/engine/sched"

// Stats are the counters of a model since it was opened, and how full it is.
type Stats = sched.Stats

// StepStats is the distribution of steps.
type StepStats = sched.StepStats

// QueueError refuses a request because as many as may wait do so already.
type QueueError = sched.QueueError

// Stats returns the counters. It never waits for a step.
func (m *Model) Stats() Stats { return m.sched.Stats() }
