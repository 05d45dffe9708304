package workbench

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/workbench/bench"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
	"github.com/roundhouse-ai/roundhouse/workbench/inspect"
	"github.com/roundhouse-ai/roundhouse/workbench/machine"
)

// healthy is a machine and a model that there is nothing to say about.
func healthy() (*App, *Doctor) {
	a := &App{Config: &config.Effective{Config: config.Default()}}
	return a, &Doctor{
		Hardware: Hardware{Cores: 8, MemoryAvailable: 100e9, Bandwidth: &machine.Bandwidth{One: 10e9, All: 60e9}, NVIDIA: &machine.NVIDIA{}},
		Plan:     Plan{Threads: 8},
		Inspect:  &inspect.Report{Config: &inspect.Config{Context: 262144}, Memory: &inspect.Memory{Weights: 40e9, PerToken: 50e3, PerSequence: 80e6}},
	}
}

func TestAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*App, *Doctor)
		want   string // "" for no advice
	}{
		"nothing":      {func(*App, *Doctor) {}, ""},
		"many threads": {func(_ *App, d *Doctor) { d.Plan.Threads = 9 }, "more threads than cores"},
		"bound":        {func(_ *App, d *Doctor) { d.Hardware.Bandwidth.All = 14e9 }, "only 1.4 times as fast as one"},
		"int8":         {func(a *App, _ *Doctor) { a.Config.Engine.Numerics = "int8" }, "engine.numerics is int8"},
		"GPU": {func(a *App, d *Doctor) {
			d.Hardware.NVIDIA.Devices, a.Config.Engine.Device = []string{"NVIDIA H200"}, "cpu"
		}, "engine.device is cpu"},
		"large":          {func(_ *App, d *Doctor) { d.Hardware.MemoryAvailable = 30e9 }, "the weights (40.0 GB) exceed the free memory (30.0 GB)"},
		"streams":        {func(_ *App, d *Doctor) { d.Hardware.MemoryAvailable = 45e9 }, "4 full streams of 32768 tokens take 46.9 GB"},
		"fewer streams":  {func(a *App, d *Doctor) { d.Hardware.MemoryAvailable, a.Config.Engine.Streams = 45e9, 2 }, ""},
		"no model found": {func(_ *App, d *Doctor) { d.Inspect, d.Hardware.MemoryAvailable = nil, 1 }, ""},
	} {
		a, d := healthy()
		c.change(a, d)
		got := strings.Join(a.advice(d), "\n")
		if simd.Best() == simd.Portable {
			t.Skip("this machine has no vector kernels, which is advised about")
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPlanFollowsTheSettings(t *testing.T) {
	a, _ := healthy()
	a.Config.Engine.Device = "cpu"
	if p, err := a.plan(); err != nil || p.GPU || p.Kernels != simd.Best().String() || p.Why == "" || p.Threads < 1 {
		t.Errorf("%+v, %v", p, err)
	}
	a.Config.Engine.Kernels, a.Config.Engine.Threads = "portable", 3
	if p, err := a.plan(); err != nil || p.Kernels != "portable" || p.Threads != 3 || !strings.Contains(p.Why, "the best here is") {
		t.Errorf("%+v, %v", p, err)
	}
}

// On a GPU the plan, and the kernels that inspect shows, are the device's; one that
// the kernels do not run on leaves the model to the CPU, unless it was named.
func TestPlanOnAGPU(t *testing.T) {
	for _, c := range []struct {
		device, numerics string
		arch             int
		kernels, embed   string
		fails            bool
	}{
		{device: "auto", numerics: "auto", arch: 90, kernels: "sm_90", embed: "BF16 lookup"},
		{device: "cuda:0", numerics: "exact", arch: 80, kernels: "generic", embed: "BF16 lookup"},
		{device: "auto", numerics: "auto", arch: 75, kernels: simd.Best().String(), embed: "BF16 " + simd.Best().String()},
		{device: "cuda", numerics: "auto", arch: 75, fails: true},
		{device: "cuda:3", numerics: "auto", arch: 90, fails: true},
	} {
		fake, err := drivertest.New(drivertest.Options{Arch: c.arch})
		if err != nil {
			t.Fatal(err)
		}
		a, _ := healthy()
		a.Driver, a.Log = fake, slog.New(slog.DiscardHandler)
		a.Config.Engine.Device, a.Config.Engine.Numerics = c.device, c.numerics
		p, err := a.plan()
		if (err != nil) != c.fails || p.Kernels != c.kernels || p.GPU != (c.arch >= 80 && !c.fails) {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
		embed, head := &ops.Matrix{K: 64, N: 64, Type: ops.BF16}, &ops.Matrix{K: 64, N: 64, Type: ops.BF16}
		name, err := a.kernelNames(ops.Weights{Embed: embed, Head: head, Matrices: []*ops.Matrix{embed, head}})
		if err != nil || (name == nil) != c.fails || name != nil && name(embed) != c.embed {
			t.Errorf("%+v: kernels are named by %v, %v", c, name != nil, err)
		}
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	}
}

// Every byte of the model is in the work once, but for the embedding, of which
// a step reads rows, and the draft layer, which is not run.
func TestWorkOf(t *testing.T) {
	got := workOf(&inspect.Report{
		Config: &inspect.Config{Experts: 32, TopK: 4}, Memory: &inspect.Memory{PerToken: 7, PerSequence: 9},
		Kinds: []inspect.Kind{
			{Name: "mlp.experts.gate_proj", Bytes: 100}, {Name: "mlp.experts.down_proj", Bytes: 50}, {Name: "model.embed_tokens", Bytes: 1000},
			{Name: "lm_head", Bytes: 30}, {Name: "mlp.shared_expert.gate_proj", Bytes: 5}, {Name: "mtp.mlp.experts.gate_proj", Bytes: 400},
		},
	})
	if want := (bench.Work{Dense: 35, Experts: 150, ExpertsOf: 32, TopK: 4, KVPerToken: 7, State: 9}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
