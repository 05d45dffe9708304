package drivertest

import (
	"errors"
	"math"

	"github.com/roundhouse-ai/roundhouse/kernels"
)

// rmsNorm norms rows.
func rmsNorm(m Memory, a kernels.RMSNormArgs) error {
	for row := range uint64(a.Rows) {
		y, err := normRow(m, a, row*uint64(a.XStride))
		if err != nil {
			return err
		}
		if err := writeNormed(m, a, row, y); err != nil {
			return err
		}
	}
	return nil
}

// normRow norms the row that begins with an element: the CPU reference's arithmetic,
// the sum in fp64.
func normRow(m Memory, a kernels.RMSNormArgs, first uint64) ([]float32, error) {
	w, err := Slice[float32](m, a.W, int(a.N))
	x, rowErr := Slice[float32](m, a.X+4*first, int(a.N))
	if err := errors.Join(err, rowErr); err != nil {
		return nil, err
	}
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	scale := float32(1 / math.Sqrt(sum/float64(len(x))+float64(a.Eps)))
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = v * scale * (1 + w[i])
	}
	return y, nil
}

// writeNormed writes a row to all places that want it.
func writeNormed(m Memory, a kernels.RMSNormArgs, row uint64, y []float32) error {
	at := row * uint64(a.OutStride)
	if a.Out != 0 {
		out, err := Slice[float32](m, a.Out+4*at, len(y))
		if err != nil {
			return err
		}
		copy(out, y)
	}
	for _, plane := range []struct {
		at  uint64
		low bool
	}{{a.Half, false}, {a.Low, true}} {
		if plane.at == 0 {
			continue
		}
		out, err := Slice[uint16](m, plane.at+2*at, len(y))
		if err != nil {
			return err
		}
		for i, v := range y {
			out[i] = ToActivation(v)
			if plane.low {
				out[i] = ToActivation(v - FromActivation(out[i]))
			}
		}
	}
	return nil
}

// normHalf is rmsNorm as rh_rmsnorm_half takes it.
func normHalf(m Memory, a kernels.RMSNormArgs) error {
	if a.Half == 0 || a.N%4 != 0 || a.XStride%4 != 0 || a.OutStride%4 != 0 {
		return errors.New("rh_rmsnorm_half writes half activations, four at a time")
	}
	return rmsNorm(m, a)
}
