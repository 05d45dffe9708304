package workbench

import (
	"fmt"
	"runtime"
	"strings"

	features "golang.org/x/sys/cpu"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cpu"
	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/cuda"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/workbench/machine"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Plan says what will run where.
type Plan struct {
	Engine  string `json:"engine"`
	GPU     bool   `json:"gpu"`
	Threads int    `json:"threads"` // of the CPU engine
	Kernels string `json:"kernels"`
	Why     string `json:"why"` // these kernels
}

// plan is what the settings and the machine come to.
func (a *App) plan() (Plan, error) {
	gpu, err := a.gpu()
	if err != nil {
		return Plan{}, err
	}
	settings := a.Config.Engine
	p := Plan{GPU: gpu != nil, Threads: settings.Threads}
	if p.Threads == 0 {
		p.Threads = runtime.GOMAXPROCS(0)
	}
	if p.GPU {
		p.Engine = fmt.Sprintf("all of the model on the GPU, %s", gpu.Name)
		p.Kernels, p.Why = fmt.Sprintf("sm_%d", gpu.Arch), fmt.Sprintf("the device has compute capability %d.%d", gpu.Arch/10, gpu.Arch%10)
		switch {
		case settings.Kernels != "auto":
			p.Kernels, p.Why = settings.Kernels, a.Config.Origin("engine.kernels").String()+" says so"
		case settings.Numerics == string(cuda.Exact):
			p.Kernels, p.Why = "generic", "exact numerics, as "+a.Config.Origin("engine.numerics").String()+" says"
		}
		return p, nil
	}
	p.Engine = fmt.Sprintf("all of the model on the CPU, %d threads", p.Threads)
	if settings.Device != "auto" {
		p.Engine += ", as " + a.Config.Origin("engine.device").String() + " says"
	}
	p.Kernels, p.Why = simd.Best().String(), whyBest()
	if settings.Kernels != "auto" {
		p.Kernels, p.Why = settings.Kernels, a.Config.Origin("engine.kernels").String()+" says so; the best here is "+simd.Best().String()
	}
	return p, nil
}

// whyBest says which features made the choice of simd.Best.
func whyBest() string {
	if runtime.GOARCH != "amd64" {
		return "there are no vector kernels for " + runtime.GOARCH
	}
	x := &features.X86
	lacks := func(has map[string]bool, names ...string) (missing []string) {
		for _, name := range names {
			if !has[name] {
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
	if d.Plan.GPU {
		return nil // what follows is about the CPU and its memory
	}
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

// kernelNames says what will multiply with the matrices of a model on this machine,
// with these settings. Routers keep fp32 activations on a CPU whatever the numerics.
func (a *App) kernelNames(w ops.Weights) (func(*ops.Matrix) string, error) {
	settings := a.Config.Engine
	kernels, numerics := unless(settings.Kernels, "auto"), unless(settings.Numerics, "auto")
	gpu, err := a.gpu()
	if err != nil {
		a.Log.Warn("what will multiply with the matrices is not known", "problem", err)
		return nil, nil
	}
	if gpu != nil {
		return cuda.KernelNames(w, cuda.Options{Kernels: kernels, Numerics: cuda.Numerics(numerics)})
	}
	name, err := cpu.KernelNames(cpu.Options{Kernels: kernels, Numerics: cpu.Numerics(numerics)})
	if err != nil {
		return nil, err
	}
	router, err := cpu.KernelNames(cpu.Options{Kernels: kernels, Numerics: cpu.Exact})
	return func(m *ops.Matrix) string {
		if strings.HasSuffix(m.Name, ".mlp.gate") || strings.HasSuffix(m.Name, ".shared_expert_gate") {
			return router(m)
		}
		return name(m)
	}, err
}

// gpu is the device that the settings and the machine come to; nil for the CPU.
func (a *App) gpu() (*driver.Properties, error) {
	return engine.FindGPU(engine.Options{Device: unless(a.Config.Engine.Device, "auto"), Driver: a.Driver})
}
