package workbench

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/cpu"

	engines "github.com/roundhouse-ai/roundhouse/engine/cpu"
	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/workbench/machine"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Plan says what will run where.
type Plan struct {
	Engine  string `json:"engine"`
	Threads int    `json:"threads"`
	Kernels string `json:"kernels"`
	Why     string `json:"why"` // these kernels
}

// plan is what the settings and the machine, with or without NVIDIA devices, come to.
func (a *App) plan(nvidia bool) Plan {
	settings := a.Config.Engine
	p := Plan{Threads: settings.Threads}
	if p.Threads == 0 {
		p.Threads = runtime.GOMAXPROCS(0)
	}
	p.Kernels, p.Why = simd.Best().String(), whyBest()
	if settings.Kernels != "auto" {
		p.Kernels, p.Why = settings.Kernels, a.Config.Origin("engine.kernels").String()+" says so; the best here is "+simd.Best().String()
	}
	switch {
	case settings.Device != "auto":
		p.Engine = fmt.Sprintf("%s, as %v says; %d threads", settings.Device, a.Config.Origin("engine.device"), p.Threads)
	case nvidia:
		p.Engine = fmt.Sprintf("the first NVIDIA device if its driver answers, else all of the model on the CPU, %d threads", p.Threads)
	default:
		p.Engine = fmt.Sprintf("all of the model on the CPU, %d threads", p.Threads)
	}
	return p
}

// whyBest says which features made the choice of simd.Best.
func whyBest() string {
	if runtime.GOARCH != "amd64" {
		return "there are no vector kernels for " + runtime.GOARCH
	}
	x := &cpu.X86
	lacks := func(features map[string]bool, names ...string) (missing []string) {
		for _, name := range names {
			if !features[name] {
				missing = append(missing, name)
			}
		}
		return missing
	}
	narrow := lacks(map[string]bool{"AVX2": x.HasAVX2, "FMA": x.HasFMA}, "AVX2", "FMA")
	wide := lacks(map[string]bool{
		"AVX-512 F": x.HasAVX512F, "BW": x.HasAVX512BW, "DQ": x.HasAVX512DQ, "VL": x.HasAVX512VL, "VNNI": x.HasAVX512VNNI,
	}, "AVX-512 F", "BW", "DQ", "VL", "VNNI")
	switch simd.Best() {
	case simd.AVX512:
		return "the processor has AVX-512 F, BW, DQ, VL and VNNI"
	case simd.AVX2:
		return "the processor has AVX2 and FMA, and shows no " + strings.Join(wide, ", ")
	default:
		return "the processor shows no " + strings.Join(narrow, ", ")
	}
}

func nvidiaText(n machine.NVIDIA) string {
	switch {
	case n.Driver == "" && len(n.Devices) == 0:
		return "none found"
	case n.Driver == "":
		return strings.Join(n.Devices, ", ") + "; no driver is loaded"
	case len(n.Devices) == 0:
		return "driver " + n.Driver + ", no device"
	default:
		return strings.Join(n.Devices, ", ") + "; driver " + n.Driver
	}
}

// advice is what the findings suggest to do.
func (a *App) advice(d *Doctor) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	settings := a.Config.Engine
	if d.Plan.Threads > d.Hardware.Cores {
		say("engine.threads is %d and there are %d cores: more threads than cores wait for each other", d.Plan.Threads, d.Hardware.Cores)
	}
	if b := d.Hardware.Bandwidth; b.All > 0 && d.Plan.Threads > 2 && b.All < 1.5*b.One {
		say("%d threads read only %.1f times as fast as one: decoding is bound by memory here, so that --threads %d may be as fast", d.Plan.Threads, b.All/b.One, max(d.Plan.Threads/2, 1))
	}
	if simd.Best() == simd.Portable && runtime.GOARCH == "amd64" {
		say("the vector kernels need AVX2 and FMA: in a virtual machine, pass the host's processor through")
	}
	if simd.Best() > simd.Portable && settings.Kernels == simd.Portable.String() {
		say("engine.kernels is portable and this machine runs %s: leave it at auto unless you compare them", simd.Best())
	}
	if settings.Numerics == "int8" {
		say("engine.numerics is int8: about 3 %% of the most likely tokens change beside exact on the demo model; roundhouse numerics measures yours")
	}
	if len(d.Hardware.NVIDIA.Devices) > 0 && settings.Device == "cpu" {
		say("engine.device is cpu: the NVIDIA devices will not be used")
	}
	return append(list, a.memoryAdvice(d)...)
}

// memoryAdvice compares what the model takes with what is free.
func (a *App) memoryAdvice(d *Doctor) []string {
	if d.Inspect == nil || d.Inspect.Memory == nil || d.Inspect.Config == nil || d.Hardware.MemoryAvailable == 0 {
		return nil
	}
	const defaultContext, defaultStreams = 32768, 4 // as the engine has them
	settings, m := a.Config.Engine, d.Inspect.Memory
	length, streams := settings.Context, settings.Streams
	if length == 0 {
		length = min(d.Inspect.Config.Context, defaultContext)
	}
	if streams == 0 {
		streams = defaultStreams
	}
	stream := m.PerSequence + int64(length)*(m.PerToken+m.Draft)
	free := d.Hardware.MemoryAvailable
	switch need := m.Weights + int64(streams)*stream; {
	case m.Weights > free:
		return []string{fmt.Sprintf("the weights (%s) exceed the free memory (%s): they would be read from the disk again for every token", term.Bytes(m.Weights), term.Bytes(free))}
	case need > free:
		return []string{fmt.Sprintf("weights and %d full streams of %d tokens take %s, %s are free: lower --context or --streams, or use engine.overcommit", streams, length, term.Bytes(need), term.Bytes(free))}
	}
	return nil
}

// kernelName names what will multiply with a matrix on this machine, with these
// settings. Routers keep fp32 activations whatever the numerics.
func (a *App) kernelName(m *ops.Matrix) (string, error) {
	settings := a.Config.Engine
	o := engines.Options{Kernels: unless(settings.Kernels, "auto"), Numerics: engines.Numerics(unless(settings.Numerics, "auto"))}
	if strings.HasSuffix(m.Name, ".mlp.gate") || strings.HasSuffix(m.Name, ".shared_expert_gate") {
		o.Numerics = engines.Exact
	}
	return engines.KernelName(m, o)
}
