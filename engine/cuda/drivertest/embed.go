package drivertest

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

func embed(m Memory, a kernels.EmbedArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(a.Rows))
	if err != nil {
		return err
	}
	for i, row := range rows {
		out, err := Slice[float32](m, a.Out+4*uint64(i)*uint64(a.OutStride), int(a.N))
		if err != nil {
			return err
		}
		id := row.ID
		if a.BySource != 0 {
			id = row.Source
		}
		if id < 0 && a.Drawn != 0 {
			drawn, err := Slice[int32](m, a.Drawn, int(^id)+1)
			if err != nil {
				return err
			}
			id = drawn[^id]
		}
		clear(out)
		if id < 0 || uint32(id) >= a.Count {
			continue
		}
		if err := tableRow(m, a, out, int(id)); err != nil {
			return err
		}
	}
	return nil
}

// tableRow reads one row of the table.
func tableRow(m Memory, a kernels.EmbedArgs, out []float32, id int) error {
	if a.Slab == 0 {
		return stored(m, out, a.Table, ops.Type(a.Type), id*len(out))
	}
	table, err := viewSlabs(m, a.Table, (int(a.Count)+slabOutputs-1)/slabOutputs, int(a.Slab), len(out), 16)
	if err != nil {
		return err
	}
	for k := range out {
		out[k] = table.value(id, k)
	}
	return nil
}

// stored widens len(dst) elements of a dense tensor from element first on.
func stored(m Memory, dst []float32, at uint64, t ops.Type, first int) error {
	if t == ops.F32 {
		src, err := Slice[float32](m, at+4*uint64(first), len(dst))
		copy(dst, src)
		return err
	}
	src, err := Slice[uint16](m, at+2*uint64(first), len(dst))
	for i, v := range src {
		switch t {
		case ops.F16:
			dst[i] = ops.Half(v)
		case ops.BF16:
			dst[i] = ops.BFloat16(v)
		default:
			return fmt.Errorf("a dense tensor of %v", t)
		}
	}
	return err
}
