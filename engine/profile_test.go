package engine

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// A profile has every phase of a step, with what the phases with weights move.
func TestProfileHasEveryPhase(t *testing.T) {
	arithmetic(t)
	m, _, err := planned(t, 4<<30, Options{Context: 512, Streams: 2})
	if err != nil {
		t.Fatal(err)
	}
	generate(t, m, Request{Prompt: randomIDs(10), MaxTokens: 2, IgnoreEOS: true})
	_, costs, err := m.Profile(1)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, c := range costs {
		found[c.Phase] = c.Bytes
		if c.Count < 1 {
			t.Errorf("%s is there %d times", c.Phase, c.Count)
		}
	}
	for _, phase := range []ops.Phase{ops.PhaseMixerIn, ops.PhaseMixerOut, ops.PhaseDeltaNet, ops.PhaseRouter, ops.PhaseExperts, ops.PhaseLogits} {
		if found[phase.String()] == 0 {
			t.Errorf("%v moves no byte in %v", phase, found)
		}
	}
}
