package drivertest

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// places are where the rows of a launch come from and go to.
func places(m Memory, wanted uint64, rows int) ([]kernels.Wanted, error) {
	if wanted != 0 {
		return Slice[kernels.Wanted](m, wanted, rows)
	}
	all := make([]kernels.Wanted, rows)
	for i := range all {
		all[i] = kernels.Wanted{Row: int32(i), To: int32(i)}
	}
	return all, nil
}

// put writes or adds a row of products.
func put(out, products []float32, add uint32) {
	for i, v := range products {
		if add != 0 {
			v += out[i]
		}
		out[i] = v
	}
}

// linearGeneric unpacks the weight by the reference's code.
func linearGeneric(m Memory, a kernels.LinearGenericArgs) error {
	rows, err := places(m, a.Wanted, int(a.Rows))
	if err != nil {
		return err
	}
	w, err := weight(m, kernels.Weight{Words: a.Words, Scales: a.Scales, Zeros: a.Zeros, GroupOf: a.GroupOf,
		K: a.K, N: a.N, Bits: a.Bits, Group: a.Group, Layout: a.Layout, ZeroKind: a.ZeroKind, Type: a.Type})
	if err != nil {
		return err
	}
	whole := unpack(w)
	for _, row := range rows {
		if row.To < 0 {
			continue
		}
		x, err := Slice[float32](m, a.X+4*uint64(row.Row)*uint64(a.XStride), whole.k)
		out, outErr := Slice[float32](m, a.Out+4*uint64(row.To)*uint64(a.OutStride), whole.n)
		if err := errors.Join(err, outErr); err != nil {
			return err
		}
		put(out, whole.product(x), a.Add)
	}
	return nil
}

// weight views a weight in device memory as its checkpoint has it.
func weight(m Memory, w kernels.Weight) (*ops.Matrix, error) {
	made := &ops.Matrix{K: int(w.K), N: int(w.N), Layout: ops.Layout(w.Layout), Type: ops.Type(w.Type),
		Bits: int(w.Bits), Group: int(w.Group), Zeros: ops.Zeros(w.ZeroKind)}
	bytes := made.K * made.N * made.Bits / 8
	if made.Layout == ops.Dense {
		bytes = made.K * made.N * int(made.Type.Size())
	}
	groups := made.Groups()
	for _, part := range []struct {
		to    *ops.Extent
		at    uint64
		bytes int
	}{
		{&made.Weight, w.Words, bytes}, {&made.Scales, w.Scales, 2 * groups * made.N},
		{&made.QZeros, w.Zeros, groups * made.N * made.Bits / 8}, {&made.GroupOf, w.GroupOf, 4 * made.K},
	} {
		if part.at == 0 || part.bytes == 0 {
			continue
		}
		data, err := Slice[byte](m, part.at, part.bytes)
		if err != nil {
			return nil, err
		}
		part.to.Data = data
	}
	return made, nil
}

// linearSlabs is the arithmetic of rh_linear_decode for up to so many rows.
func linearSlabs(most uint32) func(Memory, kernels.LinearArgs) error {
	return func(m Memory, a kernels.LinearArgs) error {
		if a.Rows > most {
			return fmt.Errorf("%d rows for a kernel of at most %d", a.Rows, most)
		}
		if a.Residual != 0 {
			return linearNormed(m, a)
		}
		rows, err := places(m, a.Wanted, int(a.Rows))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.To < 0 {
				continue
			}
			x, err := halves(m, a, row.Row)
			if err != nil {
				return err
			}
			if err := slabRow(m, a, row, x); err != nil {
				return err
			}
		}
		return nil
	}
}

// linearNormed norms the rows before it multiplies them.
func linearNormed(m Memory, a kernels.LinearArgs) error {
	if a.Rows > 8 || a.Wanted != 0 {
		return errors.New("rh_linear_decode8 alone norms its rows, and all of them")
	}
	for r := range int32(a.Rows) {
		args := kernels.RMSNormArgs{X: a.Residual, W: a.Norm, N: a.K, Eps: a.Eps}
		y, err := normRow(m, args, uint64(r)*uint64(a.K))
		if err != nil {
			return err
		}
		args.Out, args.Half, args.OutStride = a.Normed, a.NormedHalf, a.K
		if err := writeNormed(m, args, uint64(r), y); err != nil {
			return err
		}
		for i, v := range y {
			h := ToActivation(v)
			y[i] = FromActivation(h)
			if a.Low != 0 {
				y[i] += FromActivation(ToActivation(v - y[i]))
			}
		}
		if err := slabRow(m, a, kernels.Wanted{Row: r, To: r}, y); err != nil {
			return err
		}
	}
	return nil
}

// halves reads a row of half activations, both planes.
func halves(m Memory, a kernels.LinearArgs, row int32) ([]float32, error) {
	x := make([]float32, a.K)
	for _, plane := range []uint64{a.X, a.Low} {
		if plane == 0 {
			continue
		}
		values, err := activations[float32](m, plane+2*uint64(row)*uint64(a.K), len(x))
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			x[i] += v
		}
	}
	return x, nil
}

// slabRow multiplies one row with every matrix.
func slabRow(m Memory, a kernels.LinearArgs, row kernels.Wanted, x []float32) error {
	at := func(column uint32) uint64 { return a.Out + 4*(uint64(row.To)*uint64(a.Stride)+uint64(column)) }
	second := at(a.Column1)
	if a.Out1 != 0 {
		second = a.Out1 + 4*uint64(row.To)*uint64(a.N1)
	}
	for _, w := range []struct {
		at                    uint64
		count, bits, bytes, n uint32
		out                   uint64
	}{
		{a.Slabs0, a.Count0, a.Bits0, a.Bytes0, a.N0, at(a.Column0)},
		{a.Slabs1, a.Count1, a.Bits1, a.Bytes1, a.N1, second},
		{a.Slabs2, a.Count2, a.Bits2, a.Bytes2, a.N2, at(a.Column2)},
	} {
		if w.count == 0 {
			continue
		}
		s, err := viewSlabs(m, w.at, int(w.count), int(w.bytes), len(x), int(w.bits))
		out, outErr := Slice[float32](m, w.out, int(w.n))
		if err := errors.Join(err, outErr); err != nil {
			return err
		}
		products := make([]float32, w.n)
		for n := range products {
			products[n] = s.product(n, x)
		}
		put(out, products, a.Add)
	}
	return nil
}
