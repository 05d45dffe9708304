package drivertest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// A Kernel does in Go what the kernel of its name does on a device, reading and
// writing device memory in the device's layouts. An error is what a device would
// call an illegal address.
type Kernel func(m Memory, l driver.Launch) error

// Args is the argument struct of a launch.
func Args[T any](l driver.Launch) (T, error) {
	var args T
	if len(l.Args) != int(unsafe.Sizeof(args)) {
		return args, fmt.Errorf("%d bytes of arguments for a %T", len(l.Args), args)
	}
	copy(kernels.Bytes(&args), l.Args)
	return args, nil
}

// typed makes a Kernel of a function that takes its argument struct.
func typed[T any](work func(m Memory, args T) error) Kernel {
	return func(m Memory, l driver.Launch) error {
		args, err := Args[T](l)
		if err != nil {
			return err
		}
		return work(m, args)
	}
}

// perLaunch is typed for work that also reads the launch: how many rows its grid has.
func perLaunch[T any](work func(m Memory, l driver.Launch, args T) error) Kernel {
	return func(m Memory, l driver.Launch) error {
		args, err := Args[T](l)
		if err != nil {
			return err
		}
		return work(m, l, args)
	}
}

func arithmetic() map[string]Kernel {
	all := map[string]Kernel{
		"rh_smoke_fill":      typed(fill),
		"rh_smoke_copy":      typed(smokeCopy),
		"rh_smoke_echo":      typed(echo),
		"rh_rmsnorm_generic": typed(rmsNorm),
		"rh_linear_prefill":  typed(linearPrefill),
		"rh_repack_pieces":   typed(repackPieces),
		"rh_repack_random":   typed(repackRandom),
		"rh_rmsnorm_half":    typed(normHalf),
		"rh_embed_generic":   typed(embed),
		"rh_linear_generic":  typed(linearGeneric),
		"rh_linear_decode8":  typed(linearSlabs(8)),
		"rh_linear_decode16": typed(linearSlabs(16)),
		"rh_linear_decode32": typed(linearSlabs(32)),
		"rh_linear_decode64": typed(linearSlabs(64)),

		"rh_select_topk":             perLaunch(choose),
		"rh_experts_gate_up_generic": perLaunch(genericGateUp),
		"rh_experts_down_generic":    perLaunch(genericDown),
		"rh_experts_gate_up":         perLaunch(slabGateUp),
		"rh_experts_down":            perLaunch(slabDown),
		"rh_moe_plan":                typed(moePlan),
		"rh_moe_gate_up":             perLaunch(moeGateUp),
		"rh_moe_down":                perLaunch(moeDown),
		"rh_moe_combine":             typed(moeCombine),

		"rh_deltanet_conv":         deltaKernel((*delta).convolve),
		"rh_deltanet_gates":        deltaKernel(func(d *delta) { d.rows(d.gates) }),
		"rh_deltanet_rule_generic": deltaKernel((*delta).rule),
		"rh_deltanet_norm":         deltaKernel(func(d *delta) { d.rows(d.norm) }),
		"rh_deltanet_columns":      typed(columns),
		"rh_deltanet_step":         deltaKernel((*delta).step),
		"rh_deltanet_chunk":        deltaKernel((*delta).solve),
		"rh_deltanet_norm_prefill": deltaKernel(func(d *delta) { d.rows(d.norm) }),
		"rh_deltanet_scan":         deltaKernel((*delta).scan),

		"rh_sample_scan":   typed(sampleScan),
		"rh_sample_select": typed(sampleSelect),
		"rh_sample_race":   typed(sampleRace),
		"rh_sample_finish": typed(sampleRace),
	}
	maps.Copy(all, attentionKernels())
	return all
}

func fill(m Memory, a kernels.FillArgs) error {
	dst, err := Slice[uint32](m, a.Dst, int(a.N))
	for i := range dst {
		dst[i] = a.Value
	}
	return err
}

func smokeCopy(m Memory, a kernels.CopyArgs) error {
	dst, err := Slice[uint32](m, a.Dst, int(a.N))
	src, srcErr := Slice[uint32](m, a.Src, int(a.N))
	copy(dst, src)
	return errors.Join(err, srcErr)
}

func echo(m Memory, a kernels.EchoArgs) error {
	out, err := Slice[uint32](m, a.Out, 8)
	step, stepErr := Slice[uint32](m, a.Step, 2)
	if err := errors.Join(err, stepErr); err != nil {
		return err
	}
	copy(out, []uint32{
		uint32(a.Wide), uint32(a.Wide >> 32), a.Word, math.Float32bits(a.Real),
		uint32(a.Half), uint32(a.Byte)<<8 | uint32(a.Last), step[0], step[1],
	})
	return nil
}
