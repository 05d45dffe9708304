package drivertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// steered is a row's block of a layer in the steering tables (see steer.cuh). Without
// one, and without bias or vector, the slices are nil.
type steered struct {
	gate, strength      float32
	k                   int
	bias, scale, vector []float32
}

func readSteered(m Memory, tables uint64, stride uint32, table int32, experts, hidden int) (s steered, err error) {
	if table < 0 {
		return s, nil
	}
	at := tables + 4*uint64(table)*uint64(stride)
	head, err := Slice[float32](m, at, 4)
	words, wordsErr := Slice[uint32](m, at, 4)
	if err := errors.Join(err, wordsErr); err != nil {
		return s, err
	}
	s.gate, s.k, s.strength = head[0], int(words[1]), head[3]
	if words[2]&1 != 0 {
		s.bias, err = Slice[float32](m, at+16, experts)
		var scaleErr error
		s.scale, scaleErr = Slice[float32](m, at+16+4*uint64(experts), experts)
		err = errors.Join(err, scaleErr)
	}
	if words[2]&2 != 0 {
		var vectorErr error
		s.vector, vectorErr = Slice[float32](m, at+16+8*uint64(experts), hidden)
		err = errors.Join(err, vectorErr)
	}
	return s, err
}

// order is how rh_select_topk ranks a logit: NaN below all numbers; false for a banned one.
func order(logit, bias float32) (float32, int, bool) {
	switch {
	case math.IsInf(float64(bias), -1):
		return 0, 0, false
	case math.IsInf(float64(bias), 1):
		return bias, 1, true
	case logit+bias != logit+bias:
		return 0, 0, true
	}
	return logit + bias, 1, true
}

func choose(m Memory, l driver.Launch, a kernels.SelectArgs) error {
	n, k, rows := int(a.Experts), int(a.K), int(l.Grid[0])
	if n > 1024 || k > 32 {
		return fmt.Errorf("%d of %d experts", k, n)
	}
	place, err := Slice[kernels.Row](m, a.Row, rows)
	if err != nil {
		return err
	}
	for row := range rows {
		at := uint64(row * k)
		logits, err := Slice[float32](m, a.Logits+4*uint64(row*n), n)
		ids, idsErr := Slice[int32](m, a.Chosen+4*at, k)
		weights, weightsErr := Slice[float32](m, a.Weights+4*at, k)
		s, steerErr := readSteered(m, a.Steer, a.SteerStride, place[row].Steer, n, 0)
		if err := errors.Join(err, idsErr, weightsErr, steerErr); err != nil {
			return err
		}
		chooseRow(ids, weights, logits, s, a.Renormalise != 0)
		if a.Names != 0 {
			names, err := Slice[float32](m, a.Names+4*at, k)
			if err != nil {
				return err
			}
			for i, id := range ids {
				names[i] = float32(id)
			}
		}
		if a.RouteChosen != 0 {
			to := uint64(row) * uint64(a.RouteStride)
			chosen, err := Slice[uint16](m, a.RouteChosen+2*to, k)
			weighed, weighedErr := Slice[float32](m, a.RouteWeights+4*to, k)
			if err := errors.Join(err, weighedErr); err != nil {
				return err
			}
			for i, id := range ids {
				chosen[i], weighed[i] = uint16(id), weights[i]
			}
		}
	}
	return nil
}

func chooseRow(ids []int32, weights, logits []float32, s steered, renormalise bool) {
	k := len(ids)
	if s.k > 0 {
		k = min(k, s.k)
	}
	taken := make([]bool, len(logits))
	best, sum := math.Inf(-1), 0.0
	for rank := range ids {
		ids[rank], weights[rank] = -1, 0
		if rank >= k {
			continue
		}
		var top float32
		kind := -1
		for id, logit := range logits {
			bias := float32(0)
			if s.bias != nil {
				bias = s.bias[id]
			}
			v, number, allowed := order(logit, bias)
			if allowed && !taken[id] && (number > kind || number == kind && v > top) {
				ids[rank], top, kind = int32(id), v, number
			}
		}
		if id := ids[rank]; id >= 0 {
			taken[id] = true
			if v := float64(logits[id]); v > best {
				best = v
			}
		}
	}
	if !renormalise {
		for _, v := range logits {
			if float64(v) > best {
				best = float64(v)
			}
		}
		for _, v := range logits {
			sum += math.Exp(float64(v) - best)
		}
	} else {
		for _, id := range ids {
			if id >= 0 {
				sum += math.Exp(float64(logits[id]) - best)
			}
		}
	}
	for rank, id := range ids {
		if id < 0 {
			continue
		}
		weights[rank] = float32(math.Exp(float64(logits[id])-best) / sum)
		if s.scale != nil {
			weights[rank] *= s.scale[id]
		}
	}
}

// weightOf is a weight of a generic kernel's table as the matrix that it was.
func weightOf(m Memory, w kernels.Weight) (*ops.Matrix, error) {
	made := &ops.Matrix{K: int(w.K), N: int(w.N), Bits: int(w.Bits), Group: int(w.Group),
		Layout: ops.Layout(w.Layout), Zeros: ops.Zeros(w.ZeroKind), Type: ops.Type(w.Type)}
	size := func(bits int) int { return (bits + 31) / 32 * 4 }
	var errs []error
	for _, part := range []struct {
		to    *ops.Extent
		at    uint64
		bytes int
	}{
		{&made.Weight, w.Words, size(made.K * made.N * made.Bits)},
		{&made.Scales, w.Scales, made.Groups() * made.N * 2},
		{&made.QZeros, w.Zeros, size(made.Groups() * made.N * made.Bits)},
		{&made.GroupOf, w.GroupOf, made.K * 4},
	} {
		if part.at != 0 {
			data, err := Slice[byte](m, part.at, part.bytes)
			part.to.Data = data
			errs = append(errs, err)
		}
	}
	return made, errors.Join(errs...)
}

// unpacker unpacks the weights of a launch's table, each once: many rows choose the
// same experts.
type unpacker struct {
	m     Memory
	table uint64
	tiles map[uint64]tile
}

// tile is an unpacked weight [k][n].
type tile struct {
	k, n   int
	values []float32
}

func newUnpacker(m Memory, table uint64) *unpacker {
	return &unpacker{m, table, map[uint64]tile{}}
}

// of is the gate (0), up (1) or down (2) of an expert.
func (u *unpacker) of(expert, which int) (tile, error) {
	at := u.table + uint64(3*expert+which)*weightBytes
	if t, ok := u.tiles[at]; ok {
		return t, nil
	}
	table, err := Slice[kernels.Weight](u.m, at, 1)
	if err != nil {
		return tile{}, err
	}
	w, err := weightOf(u.m, table[0])
	if err != nil {
		return tile{}, err
	}
	u.tiles[at] = unpack(w)
	return u.tiles[at], nil
}

func unpack(w *ops.Matrix) tile {
	t := tile{w.K, w.N, make([]float32, w.K*w.N)}
	w.Tile(t.values, 0, w.K, 0, w.N)
	return t
}

// product is y[n] = sum of x[k] W[k,n] in fp64, four inputs at a time.
func (t tile) product(x []float32) []float32 {
	sums, out := make([]float64, t.n), make([]float32, t.n)
	k := 0
	for ; k+4 <= t.k; k += 4 {
		x0, x1, x2, x3 := float64(x[k]), float64(x[k+1]), float64(x[k+2]), float64(x[k+3])
		w0, w1, w2, w3 := t.row(k)[:len(sums)], t.row(k + 1)[:len(sums)], t.row(k + 2)[:len(sums)], t.row(k + 3)[:len(sums)]
		for n := range sums {
			sums[n] += x0*float64(w0[n]) + x1*float64(w1[n]) + x2*float64(w2[n]) + x3*float64(w3[n])
		}
	}
	for ; k < t.k; k++ {
		v, row := float64(x[k]), t.row(k)[:len(sums)]
		for n := range sums {
			sums[n] += v * float64(row[n])
		}
	}
	for n, v := range sums {
		out[n] = float32(v)
	}
	return out
}

func (t tile) row(k int) []float32 { return t.values[k*t.n:][:t.n] }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// expertOf is the expert of a row's rank: the shared one is the last. Below 0: none.
func expertOf(chosen []int32, rank, experts int) int {
	if rank == len(chosen) {
		return experts
	}
	return int(chosen[rank])
}

func genericGateUp(m Memory, l driver.Launch, a kernels.ExpertsGenericArgs) error {
	k, hidden := int(a.K), int(a.Hidden)
	weights := newUnpacker(m, a.Table)
	for row := range int(l.Grid[0]) / (k + 1) {
		place, chosen, err := rowOf(m, a.Row, a.Chosen, row, k)
		if err != nil {
			return err
		}
		if place.Slot < 0 {
			continue
		}
		x, err := Slice[float32](m, a.X+4*uint64(row*hidden), hidden)
		if err != nil {
			return err
		}
		for rank := range k + 1 {
			id := expertOf(chosen, rank, int(a.Experts))
			if id < 0 {
				continue
			}
			gate, gateErr := weights.of(id, 0)
			up, upErr := weights.of(id, 1)
			h, hErr := Slice[float32](m, a.H+4*uint64((row*(k+1)+rank)*int(a.Width)), gate.n)
			if err := errors.Join(gateErr, upErr, hErr); err != nil {
				return err
			}
			g, u := gate.product(x), up.product(x)
			for n := range h {
				h[n] = silu(g[n]) * u[n]
			}
		}
	}
	return nil
}

const weightBytes = 64 // of a kernels.Weight

// rowOf is where a row belongs and what it chose.
func rowOf(m Memory, rows, chosen uint64, row, k int) (kernels.Row, []int32, error) {
	place, err := Slice[kernels.Row](m, rows+32*uint64(row), 1)
	ids, idsErr := Slice[int32](m, chosen+4*uint64(row*k), k)
	if err := errors.Join(err, idsErr); err != nil {
		return kernels.Row{}, nil, err
	}
	return place[0], ids, nil
}

// combined is what both downs do with the outputs of a row's experts.
type combined struct {
	m                         Memory
	weights, gate, steer, out uint64
	stride, stage             uint32
	experts, hidden           int
	output                    func(row, rank, id int) ([]float32, error)
}

func genericDown(m Memory, l driver.Launch, a kernels.ExpertsGenericArgs) error {
	k := int(a.K)
	table := newUnpacker(m, a.Table)
	c := combined{m, a.Weights, a.Gate, a.Steer, a.Out, a.SteerStride, a.Stage, int(a.Experts), int(a.Hidden),
		func(row, rank, id int) ([]float32, error) {
			down, err := table.of(id, 2)
			h, hErr := Slice[float32](m, a.H+4*uint64((row*(k+1)+rank)*int(a.Width)), down.k)
			if err := errors.Join(err, hErr); err != nil {
				return nil, err
			}
			return down.product(h), nil
		}}
	return c.rows(int(l.Grid[0]), a.Row, a.Chosen, k)
}

func (c *combined) rows(n int, rows, chosen uint64, k int) error {
	for row := range n {
		place, chosen, err := rowOf(c.m, rows, chosen, row, k)
		if err == nil && place.Slot >= 0 {
			err = c.row(row, place.Steer, chosen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *combined) row(row int, table int32, chosen []int32) error {
	k := len(chosen)
	weights, err := Slice[float32](c.m, c.weights+4*uint64(row*k), k)
	gate, gateErr := Slice[float32](c.m, c.gate+4*uint64(row), 1)
	x, xErr := Slice[float32](c.m, c.out+4*uint64(row*c.hidden), c.hidden)
	s, steerErr := readSteered(c.m, c.steer, c.stride, table, c.experts, c.hidden)
	if err := errors.Join(err, gateErr, xErr, steerErr); err != nil {
		return err
	}
	sum := make([]float32, c.hidden)
	for rank := range k + 1 {
		id := expertOf(chosen, rank, c.experts)
		if id < 0 {
			continue
		}
		out, err := c.output(row, rank, id)
		if err != nil {
			return err
		}
		if rank == k && c.stage == 1 {
			copy(sum, out)
			break
		}
		weight := float32(0)
		switch {
		case rank < k:
			weight = weights[rank]
		case c.stage != 2:
			weight = float32(sigmoid(float64(gate[0]))) * (1 + s.gate)
		}
		for n, v := range out {
			sum[n] += weight * v
		}
	}
	if c.stage > 0 {
		copy(x, sum)
		return nil
	}
	for n, v := range sum {
		x[n] += v
	}
	for n, v := range s.vector {
		x[n] += s.strength * v
	}
	return nil
}

// slabWeights are weights in slabs: those of the first expert, and of the others behind.
type slabWeights struct {
	at, expert    uint64 // address, bytes from one expert to the next
	bits, stride  int
	inputs, count int
}

// outputs are the products of an expert's rows with x, slab after slab.
func (w slabWeights) outputs(m Memory, id int, x []float64) ([]float32, error) {
	const rows = 16
	type place struct{ at, shift int }
	places := make([]place, 0, rows*len(x)) // of each row's values in any slab
	for g := range rows {
		for k := range x {
			if w.bits == 16 {
				places = append(places, place{HalfAt(g, k), 0})
			} else {
				at, shift := CodeAt(w.bits, g, k)
				places = append(places, place{at, shift})
			}
		}
	}
	out := make([]float32, 0, rows*w.count)
	for slab := range w.count {
		data, err := Slice[byte](m, w.at+uint64(id)*w.expert+uint64(slab*w.stride), w.stride)
		if err != nil {
			return nil, err
		}
		for g := range rows {
			sum, scale := 0.0, 1.0
			for k, v := range x {
				p := places[g*len(x)+k]
				if w.bits == 16 {
					sum += v * float64(ops.Half(binary.LittleEndian.Uint16(data[p.at:])))
					continue
				}
				if k%128 == 0 {
					scale = float64(ops.Half(binary.LittleEndian.Uint16(data[rows*w.inputs*w.bits/8+(k/128*rows+g)*2:])))
				}
				sum += v * scale * float64(int(data[p.at]>>p.shift)&(1<<w.bits-1)-1<<(w.bits-1))
			}
			out = append(out, float32(sum))
		}
	}
	return out, nil
}

func slabGateUp(m Memory, l driver.Launch, a kernels.ExpertsArgs) error {
	k, hidden := int(a.K), int(a.Hidden)
	if want := a.SharedCount + a.K*a.Count; l.Grid[0] != want {
		return fmt.Errorf("a grid of %d slabs, there are %d", l.Grid[0], want)
	}
	for row := range int(l.Grid[1]) {
		place, chosen, err := rowOf(m, a.Row, a.Chosen, row, k)
		if err != nil {
			return err
		}
		if place.Slot < 0 {
			continue
		}
		x, err := activations[float64](m, a.X+2*uint64(row*hidden), hidden)
		if err != nil {
			return err
		}
		for rank := range k + 1 {
			w := slabWeights{a.GateUp, a.GateUpBytes, int(a.GateUpBits), int(a.GateUpStride), hidden, int(a.Count)}
			id := expertOf(chosen, rank, int(a.Experts))
			if rank == k {
				w, id = slabWeights{a.SharedGateUp, 0, int(a.SharedGateUpBits), int(a.SharedGateUpStride), hidden, int(a.SharedCount)}, 0
			}
			if id < 0 {
				continue
			}
			h, hErr := Slice[uint16](m, a.H+2*uint64((row*(k+1)+rank)*int(a.Width)), 8*w.count)
			both, err := w.outputs(m, id, x)
			if err := errors.Join(err, hErr); err != nil {
				return err
			}
			for n := range h {
				at := n/8*16 + n%8
				h[n] = ToActivation(silu(both[at]) * both[at+8])
			}
		}
	}
	return nil
}

func slabDown(m Memory, l driver.Launch, a kernels.ExpertsArgs) error {
	k := int(a.K)
	if want := 32 * (a.K + 2); l.Block[0] != want {
		return fmt.Errorf("a block of %d threads, not %d", l.Block[0], want)
	}
	c := combined{m, a.Weights, a.Gate, a.Steer, a.Out, a.SteerStride, a.Stage, int(a.Experts), int(a.Hidden),
		func(row, rank, id int) ([]float32, error) {
			w := slabWeights{a.Down, a.DownBytes, int(a.DownBits), int(a.DownStride), int(a.Inner), int(l.Grid[0])}
			if rank == k {
				w, id = slabWeights{a.SharedDown, 0, int(a.SharedDownBits), int(a.SharedDownStride), int(a.SharedInner), int(l.Grid[0])}, 0
			}
			h, err := activations[float64](m, a.H+2*uint64((row*(k+1)+rank)*int(a.Width)), w.inputs)
			if err != nil {
				return nil, err
			}
			out, err := w.outputs(m, id, h)
			return out[:min(len(out), int(a.Hidden))], err
		}}
	return c.rows(int(l.Grid[1]), a.Row, a.Chosen, k)
}
