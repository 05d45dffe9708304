package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/cpu"
	"github.com/roundhouse-ai/roundhouse/engine/cuda"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// machineFor opens what Options.Device names. Where nothing is named, that is the
// first NVIDIA device, or the CPU when there is none: then note says why. lost is
// told when the device is gone for good.
func machineFor(o *Options, lost func(error)) (b ops.Backend, note string, err error) {
	kind, ordinal, err := parseDevice(o.Device)
	if err != nil {
		return nil, "", err
	}
	if kind != "cpu" {
		b, err := openCUDA(o, ordinal, lost)
		if err == nil {
			return b, "", nil
		}
		if note, err = orCPU(kind, err); err != nil {
			return nil, "", err
		}
	}
	if o.KV != "" && o.KV != "f32" {
		return nil, "", fmt.Errorf("KV pages of type %q: the CPU keeps f32", o.KV)
	}
	host, err := cpu.New(cpu.Options{Threads: o.Threads, Kernels: o.Kernels, Numerics: cpu.Numerics(o.Numerics)})
	if err != nil {
		return nil, "", err // not a nil *cpu.Backend in an interface
	}
	return host, note, nil
}

// orCPU says why the CPU takes over from a device that cannot be used, or that it does
// not: where the device was named, or is there and only needs something done.
func orCPU(kind string, err error) (note string, _ error) {
	if kind == "cuda" || !errors.Is(err, driver.ErrNoDevice) && !errors.Is(err, cuda.ErrOldDevice) {
		return "", fmt.Errorf("%w; --device cpu runs without a GPU", err)
	}
	return "running on the CPU: " + err.Error(), nil
}

// FindGPU describes the GPU that a model would run on with these options; nil for the
// CPU. It opens nothing, and its errors are those of Open.
func FindGPU(o Options) (*driver.Properties, error) {
	kind, ordinal, err := parseDevice(o.Device)
	if err != nil || kind == "cpu" {
		return nil, err
	}
	d, err := openDriver(&o)
	if err == nil {
		var p driver.Properties
		if p, err = cuda.Find(d, ordinal); err == nil {
			return &p, nil
		}
	}
	_, err = orCPU(kind, err)
	return nil, err
}

// parseDevice reads "", "auto", "cpu", "cuda" or "cuda:N".
func parseDevice(name string) (kind string, ordinal int, err error) {
	kind, number, numbered := strings.Cut(name, ":")
	switch {
	case numbered && kind == "cuda":
		if ordinal, err = strconv.Atoi(number); err == nil && ordinal >= 0 {
			return kind, ordinal, nil
		}
	case name == "" || name == "auto":
		return "auto", 0, nil
	case name == "cpu" || name == "cuda":
		return name, 0, nil
	}
	return "", 0, fmt.Errorf("device %q: there are auto, cpu, cuda and cuda:N", name)
}

func openCUDA(o *Options, ordinal int, lost func(error)) (ops.Backend, error) {
	d, err := openDriver(o)
	if err != nil {
		return nil, err
	}
	b, err := cuda.New(d, cuda.Options{Device: ordinal, Numerics: cuda.Numerics(o.Numerics), Kernels: o.Kernels, Streams: o.Streams, Lost: lost})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// gpuOf is the backend if it is a GPU's; nil otherwise.
func gpuOf(b ops.Backend) *cuda.Backend {
	device, _ := b.(*cuda.Backend)
	return device
}

func openDriver(o *Options) (driver.Driver, error) {
	if o.Driver != nil {
		return o.Driver, nil
	}
	return driver.Open()
}

// kvType is how keys and values are kept: as asked for, else fp16 where activations
// are rounded to it and fp32 elsewhere.
func kvType(name string, caps ops.Caps) (ops.Type, error) {
	switch name {
	case "":
		if strings.HasPrefix(caps.Name, "cuda") && caps.Numerics == "fast" {
			return ops.F16, nil
		}
		return ops.F32, nil
	case "f32":
		return ops.F32, nil
	case "f16":
		return ops.F16, nil
	case "bf16":
		return ops.BF16, nil
	}
	return 0, fmt.Errorf("KV pages of type %q: there are f32, f16 and bf16", name)
}
