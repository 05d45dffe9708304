package engine

import (
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda"
)

// Profile measures what decode steps of so many rows cost on a GPU, whole and by
// kind of phase (see cuda.Backend.Profile). It waits for the step that runs, and
// destroys what running streams carry: call it when none does.
func (m *Model) Profile(rows int) (step time.Duration, costs []cuda.Cost, err error) {
	b := gpuOf(m.backend)
	if b == nil {
		return 0, nil, fmt.Errorf("%s has no graphs to measure: phases of a CPU are in Step.Times", m.backend.Caps().Name)
	}
	<-m.device
	defer func() { m.device <- struct{}{} }()
	return b.Profile(m.main.forward, rows, 50)
}

// DeviceInfo describes the GPU that a model runs on.
type DeviceInfo struct {
	Name  string `json:"name"`
	Arch  int    `json:"arch"`  // compute capability times ten
	Model int64  `json:"model"` // bytes that this model takes
	Used  int64  `json:"used"`  // bytes in use, by everybody
	Total int64  `json:"total"`
	// Plan is the memory plan by which the model was loaded.
	Plan *cuda.Plan `json:"plan"`
}

// Device describes the model's GPU; nil on a CPU.
func (m *Model) Device() (*DeviceInfo, error) {
	b := gpuOf(m.backend)
	if b == nil {
		return nil, nil
	}
	<-m.device
	defer func() { m.device <- struct{}{} }()
	free, total, err := b.Memory()
	if err != nil {
		return nil, err
	}
	p := b.Properties()
	info := &DeviceInfo{Name: p.Name, Arch: p.Arch, Model: b.Used(), Used: total - free, Total: total, Plan: m.plan}
	for _, a := range m.arenas {
		info.Model += a.Used()
	}
	return info, nil
}
