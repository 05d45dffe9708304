// Package cuda runs the phases on one NVIDIA GPU. A step is cut into passes of two
// classes (see pass); the launches of a decode pass are captured once as a graph
// for each bucket of rows and replayed, what changes from step to step lies in
// the step block. Nothing is allocated after load.
//
// Numerics: residual, norms, router logits, softmax, gates, delta state and all
// sums are fp32. In Exact the inputs of matrices are fp32 too, and every kernel is
// generic. In Fast they are fp16 (see kHalfScale in abi.cuh), multiplied on tensor
// cores with the codes as they are; what the predicate of a fast kernel refuses
// runs generic.
package cuda

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Numerics is how activations that meet weights are kept.
type Numerics string

// Numerics; "" is Fast.
const (
	Exact Numerics = "exact"
	Fast  Numerics = "fast"
)

// Options of New.
type Options struct {
	Device   int // ordinal
	Numerics Numerics
	Kernels  string // "" for the fastest that fit, "generic": then Numerics is Exact
}

// Backend runs programs on one device. Its methods are called by one goroutine at
// a time, which holds the device while it does.
type Backend struct {
	driver     driver.Driver
	context    driver.Context
	device     int
	properties driver.Properties
	images     *images
	fast       bool
	stream     driver.Stream

	weights  *arena // of what Place placed
	scratch  *arena // of programs
	vectors  map[*ops.Vector]driver.Ptr
	matrices map[*ops.Matrix]*matrix
	mixtures map[*ops.Matrix]*mixture // by the gate of their first expert
	drawn    driver.Ptr               // int32 [maxDrawn]: what the last Sample drew, by its rows
}

// resolve checks the options: whether fast kernels may run.
func (o Options) resolve() (fast bool, err error) {
	if o.Kernels != "" && o.Kernels != "generic" {
		return false, fmt.Errorf("cuda: kernels %q: there are \"\" (the fastest that fit) and \"generic\"", o.Kernels)
	}
	switch o.Numerics {
	case "", Fast:
		if o.Kernels == "generic" && o.Numerics == Fast {
			return false, errors.New("cuda: generic kernels are exact: ask for numerics \"exact\" or leave the kernels open")
		}
		return o.Kernels == "", nil
	case Exact:
		return false, nil
	}
	return false, fmt.Errorf("cuda: numerics %q: there are %q and %q", o.Numerics, Exact, Fast)
}
