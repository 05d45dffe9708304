package drivertest

import (
	"errors"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

const moeTokens = 64 // of a tile

func moePlan(m Memory, a kernels.MoePlanArgs) error {
	rows, k, experts := int(a.Rows), int(a.K), int(a.Experts)
	chosen, err := Slice[int32](m, a.Chosen, rows*k)
	place, placeErr := Slice[int32](m, a.Place, rows*k)
	source, sourceErr := Slice[int32](m, a.Source, rows*(k+1))
	count, countErr := Slice[uint32](m, a.Count, 1)
	if err := errors.Join(err, placeErr, sourceErr, countErr); err != nil {
		return err
	}
	if rows*k > math.MaxUint16 || experts > 1024 {
		return fmt.Errorf("a plan of %d choices of %d experts", rows*k, experts)
	}
	var tiles []kernels.MoeTile
	next := 0
	tile := func(expert, end int) { // the places from next to end
		for ; next < end; next += moeTokens {
			tiles = append(tiles, kernels.MoeTile{Expert: int32(expert), First: int32(next), Count: int32(min(end-next, moeTokens))})
		}
		next = end
	}
	next = rows * k
	tile(experts, rows*(k+1))
	for row := range rows {
		source[rows*k+row] = int32(row)
	}
	for i := range place {
		place[i] = -1
	}
	next = 0
	for expert := range experts {
		end := next
		for i, id := range chosen {
			if int(id) == expert {
				place[i], source[end] = int32(end), int32(i/k)
				end++
			}
		}
		tile(expert, end)
	}
	to, err := Slice[kernels.MoeTile](m, a.Tiles, len(tiles))
	copy(to, tiles)
	count[0] = uint32(len(tiles))
	return err
}

// grouped gives the sums of every place with its expert's slabs, those of rows g and
// g+8 of a slab together.
func grouped(m Memory, l driver.Launch, a kernels.MoeArgs, put func(place, slab, g int, low, high float32)) error {
	count, err := Slice[uint32](m, a.Count, 1)
	if err != nil {
		return err
	}
	if count[0] > l.Grid[1] {
		return fmt.Errorf("%d tiles for a grid of %d", count[0], l.Grid[1])
	}
	tiles, err := Slice[kernels.MoeTile](m, a.Tiles, int(count[0]))
	if err != nil {
		return err
	}
	for _, tile := range tiles {
		at, slabCount, bits, stride, k := a.Slabs+uint64(tile.Expert)*a.Stride, a.SlabCount, a.Bits, a.Bytes, a.K
		if tile.Expert == int32(a.Experts) {
			at, slabCount, bits, stride, k = a.Shared, a.SharedCount, a.SharedBits, a.SharedBytes, a.SharedK
		}
		if perBlock := l.Block[0] / 32 * 2; l.Grid[0]*perBlock < slabCount {
			return fmt.Errorf("%d slabs for a grid of %d blocks of %d", slabCount, l.Grid[0], perBlock)
		}
		s, err := viewSlabs(m, at, int(slabCount), int(stride), int(k), int(bits))
		if err != nil {
			return err
		}
		x := make([][]float32, tile.Count)
		for i := range x {
			from := tile.First + int32(i)
			if a.Source != 0 {
				source, err := Slice[int32](m, a.Source+4*uint64(from), 1)
				if err != nil {
					return err
				}
				from = source[0]
			}
			if x[i], err = activations[float32](m, a.X+2*uint64(from)*uint64(a.XStride), int(k)); err != nil {
				return err
			}
		}
		sums := make([]float32, len(x)*int(slabCount)*16)
		s.times(x, func(token, n int, sum float32) { sums[token*int(slabCount)*16+n] = sum })
		for i := 0; i < len(sums); i += 16 {
			for g := range 8 {
				put(int(tile.First)+i/16/int(slabCount), i/16%int(slabCount), g, sums[i+g], sums[i+g+8])
			}
		}
	}
	return nil
}

func moeGateUp(m Memory, l driver.Launch, a kernels.MoeArgs) error {
	var errs []error
	err := grouped(m, l, a, func(place, slab, g int, gate, up float32) {
		h, err := Slice[uint16](m, a.Out+2*(uint64(place)*uint64(a.OutStride)+uint64(slab*8+g)), 1)
		if err != nil {
			errs = append(errs, err)
			return
		}
		h[0] = ToActivation(gate / (1 + float32(math.Exp(-float64(gate)))) * up)
	})
	return errors.Join(append(errs, err)...)
}

func moeDown(m Memory, l driver.Launch, a kernels.MoeArgs) error {
	var errs []error
	err := grouped(m, l, a, func(place, slab, g int, low, high float32) {
		y, err := Slice[float32](m, a.Out+4*(uint64(place)*uint64(a.OutStride)+uint64(slab*16)), 16)
		if err != nil {
			errs = append(errs, err)
			return
		}
		y[g], y[g+8] = low, high
	})
	return errors.Join(append(errs, err)...)
}

func moeCombine(m Memory, a kernels.MoeCombineArgs) error {
	rows, k, hidden, columns := int(a.Rows), int(a.K), int(a.Hidden), int(a.Columns)
	place, err := Slice[int32](m, a.Place, rows*k)
	weights, weightsErr := Slice[float32](m, a.Weights, rows*k)
	gate, gateErr := Slice[float32](m, a.Gate, rows)
	row, rowErr := Slice[kernels.Row](m, a.Row, rows)
	if err := errors.Join(err, weightsErr, gateErr, rowErr); err != nil {
		return err
	}
	for r := range rows {
		s, err := readSteered(m, a.Steer, a.SteerStride, row[r].Steer, int(a.Experts), hidden)
		out, outErr := Slice[float32](m, a.Out+4*uint64(r*hidden+int(a.Column)), columns)
		if err := errors.Join(err, outErr); err != nil {
			return err
		}
		sum := make([]float32, columns)
		add := func(weight float32, at int) {
			y, yErr := Slice[float32](m, a.Y+4*uint64(at)*uint64(columns), columns)
			err = errors.Join(err, yErr)
			for i, v := range y {
				sum[i] += weight * v
			}
		}
		for rank := range k {
			if at := place[r*k+rank]; a.Stage != 1 && at >= 0 {
				add(weights[r*k+rank], int(at))
			}
		}
		switch a.Stage {
		case 1:
			add(1, rows*k+r)
		case 0, 3:
			add(float32(sigmoid(float64(gate[r])))*(1+s.gate), rows*k+r)
		}
		if err != nil {
			return err
		}
		for i, v := range sum {
			if a.Stage > 0 {
				out[i] = v
				continue
			}
			out[i] += v
			if s.vector != nil {
				out[i] += s.strength * s.vector[int(a.Column)+i]
			}
		}
	}
	return nil
}
