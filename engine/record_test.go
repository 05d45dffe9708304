package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

// planned opens the small model on a device with so much memory.
func planned(t *testing.T, memory int64, opts Options) (m *Model, shown string, err error) {
	t.Helper()
	fake, err := drivertest.New(drivertest.Options{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	opts.Device, opts.Driver = "cuda", fake
	opts.Progress = func(p Progress) { shown += p.Plan }
	m, err = Open(context.Background(), os.DirFS(optest.Model(t, "int4-mixed-2026")), opts)
	t.Cleanup(func() {
		if err == nil {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	})
	return m, shown, err
}

// A model takes no more of a device than its plan says, and what it takes works.
func TestMemoryPlanIsKept(t *testing.T) {
	m, shown, err := planned(t, 4<<30, Options{Context: 512, Streams: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(shown, "device memory for 512 tokens of context, 2 slots, chunks of 512,") || strings.Contains(shown, "lowered") {
		t.Errorf("the plan is\n%s", shown)
	}
	device, err := m.Device()
	if err != nil {
		t.Fatal(err)
	}
	if taken := device.Used - (device.Total - m.plan.Free); taken > m.plan.Need() {
		t.Errorf("%d bytes are taken, the plan says %d:\n%s", taken, m.plan.Need(), shown)
	}
	if ids, _ := generate(t, m, Request{Prompt: randomIDs(70), MaxTokens: 3, IgnoreEOS: true}); len(ids) != 3 {
		t.Errorf("made %v", ids)
	}
}

// Where the device is small, what nobody asked for shrinks, in the plan's order, and
// the model runs with what is left.
func TestMemoryPlanShrinks(t *testing.T) {
	whole, _, err := planned(t, 8<<30, Options{})
	if err != nil {
		t.Fatal(err)
	}
	device, err := whole.Device()
	if err != nil {
		t.Fatal(err)
	}
	around := device.Total - whole.plan.Free // what the driver keeps
	small, shown, err := planned(t, around+whole.plan.Need()-(1<<20), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if small.plan.Chunk >= whole.plan.Chunk || small.info.Context != small.plan.Context || !strings.Contains(shown, "chunk lowered from 2048 to ") {
		t.Errorf("with 1 MB less the plan is\n%s", shown)
	}
	if ids, _ := generate(t, small, Request{Prompt: randomIDs(70), MaxTokens: 3, IgnoreEOS: true}); len(ids) != 3 {
		t.Errorf("made %v", ids)
	}
	_, _, err = planned(t, around+whole.plan.Need()-(1<<20), Options{Context: whole.plan.Context, Streams: whole.plan.Slots, PrefillChunk: whole.plan.Chunk})
	if !errors.Is(err, driver.ErrOutOfMemory) || !strings.Contains(err.Error(), "lower --ctx, --slots, --chunk") {
		t.Errorf("fixed sizes on it: %v", err)
	}
}
