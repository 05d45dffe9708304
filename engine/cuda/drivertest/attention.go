package drivertest

import (
	"errors"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

func attentionKernels() map[string]Kernel {
	return map[string]Kernel{
		"rh_attention_rotate":  gridded(rotate),
		"rh_attention_generic": gridded(attend),
		"rh_attention_gate":    gridded(gate),
		"rh_attention_decode":  gridded(decodeSplits),
		"rh_attention_merge":   gridded(mergeSplits),
		"rh_attention_prefill": gridded(prefillAttention),
	}
}

// gridded makes a Kernel of a function that takes its argument struct and its grid.
func gridded[T any](work func(m Memory, grid driver.Dim, args T) error) Kernel {
	return func(m Memory, l driver.Launch) error {
		args, err := Args[T](l)
		if err != nil {
			return err
		}
		return work(m, l.Grid, args)
	}
}

// pages are the keys or values of one KV head of one sequence: positions by way of
// the page table that begins at table.
type pages struct {
	m                  Memory
	pool, table        uint64
	head, heads, width uint64
	kind               ops.Type
}

// address is where a position lies.
func (p pages) address(position int) (uint64, error) {
	page, err := Slice[int32](p.m, p.table+4*uint64(position/ops.PageTokens), 1)
	if err != nil {
		return 0, err
	}
	if page[0] < 0 {
		return 0, fmt.Errorf("page %d of position %d", page[0], position)
	}
	at := (uint64(page[0])*p.heads+p.head)*ops.PageTokens + uint64(position%ops.PageTokens)
	return p.pool + at*p.width*uint64(p.kind.Size()), nil
}

// at returns the values of a position.
func (p pages) at(position int) ([]float32, error) {
	at, err := p.address(position)
	if err != nil {
		return nil, err
	}
	return load(p.m, at, p.kind, int(p.width))
}

func (p pages) put(position int, values []float32) error {
	at, err := p.address(position)
	if err != nil {
		return err
	}
	return store(p.m, at, p.kind, values)
}

// load widens n stored values.
func load(m Memory, at uint64, kind ops.Type, n int) ([]float32, error) {
	if kind == ops.F32 {
		return Slice[float32](m, at, n)
	}
	stored, err := Slice[uint16](m, at, n)
	values := make([]float32, len(stored))
	for i, v := range stored {
		if values[i] = ops.BFloat16(v); kind == ops.F16 {
			values[i] = ops.Half(v)
		}
	}
	return values, err
}

// store rounds values to a stored type; fp16 saturates.
func store(m Memory, at uint64, kind ops.Type, values []float32) error {
	if kind == ops.F32 {
		stored, err := Slice[float32](m, at, len(values))
		copy(stored, values)
		return err
	}
	stored, err := Slice[uint16](m, at, len(values))
	for i := range stored {
		if kind == ops.F16 {
			stored[i] = roundSaturated(values[i])
		} else {
			stored[i] = roundBFloat16(values[i])
		}
	}
	return err
}

// rotate is the norms, the rotation and the append, in fp64.
func rotate(m Memory, grid driver.Dim, a kernels.AttentionRotateArgs) error {
	dim := int(a.HeadDim)
	qNorm, err := Slice[float32](m, a.QNorm, dim)
	kNorm, kErr := Slice[float32](m, a.KNorm, dim)
	var invFreq []float32
	var freqErr error
	if a.Half > 0 {
		invFreq, freqErr = Slice[float32](m, a.InvFreq, int(a.Half))
	}
	row, rowErr := Slice[kernels.Row](m, a.Row, int(grid[0]))
	if err := errors.Join(err, kErr, freqErr, rowErr); err != nil {
		return err
	}
	heads, kv := int(a.Heads), int(a.KVHeads)
	width := 2 * (heads + kv) * dim
	for t := range row {
		r := row[t]
		if r.Slot < 0 {
			continue
		}
		in, err := Slice[float32](m, a.In+4*uint64(t*width), width)
		if err != nil {
			return err
		}
		turn := func(x []float32, norm []float32) []float32 { return turned(a, x, norm, invFreq, int(r.Position)) }
		for head := range heads {
			q := turn(in[2*head*dim:][:dim], qNorm)
			to := uint64((t*heads + head) * dim)
			if a.Q != 0 {
				err = errors.Join(err, store(m, a.Q+4*to, ops.F32, q))
			}
			if a.HalfQ != 0 {
				err = errors.Join(err, store(m, a.HalfQ+2*to, ops.Type(a.Type), q))
			}
		}
		for head := range kv {
			k, v := turn(in[(2*heads+head)*dim:][:dim], kNorm), in[(2*heads+kv+head)*dim:][:dim]
			keys := pages{m, a.Keys, a.Pages + 4*uint64(r.Page), uint64(head), uint64(kv), uint64(dim), ops.Type(a.Type)}
			values := keys
			values.pool = a.Values
			err = errors.Join(err, keys.put(int(r.Position), k), values.put(int(r.Position), v))
			if a.K != 0 {
				err = errors.Join(err, store(m, a.K+4*uint64((t*kv+head)*dim), ops.F32, k))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// turned is a head after norm and rotation.
func turned(a kernels.AttentionRotateArgs, x, norm, invFreq []float32, position int) []float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	scale := float32(1 / math.Sqrt(sum/float64(len(x))+float64(a.Eps)))
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = v * scale * (1 + norm[i])
	}
	for i, f := range invFreq {
		sin, cos := math.Sincos(float64(float32(position) * f))
		s, c := float32(sin)*a.Scale, float32(cos)*a.Scale
		low, high := y[i], y[i+len(invFreq)]
		y[i], y[i+len(invFreq)] = low*c-high*s, high*c+low*s
	}
	return y
}

// history returns the values of positions 0 to length-1.
func (p pages) history(length int) ([][]float32, error) {
	all := make([][]float32, length)
	for position := range all {
		var err error
		if all[position], err = p.at(position); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// histories returns the keys and values of one KV head at positions 0 to length-1.
func histories(m Memory, keys, values, table uint64, head int, heads, dim uint32, kind ops.Type, length int) (k, v [][]float32, err error) {
	p := pages{m, keys, table, uint64(head), uint64(heads), uint64(dim), kind}
	k, err = p.history(length)
	p.pool = values
	v, valueErr := p.history(length)
	return k, v, errors.Join(err, valueErr)
}

// weighted is the attention of one query over keys and values, plainly, sums in fp64:
// the largest score times scale, the sum of weights relative to it as powers of two,
// and the weighted values.
func weighted(q []float32, keys, values [][]float32, scale float64) (top, total float64, sums []float64) {
	weights := make([]float64, len(keys))
	top = math.Inf(-1)
	for position, k := range keys {
		for i, v := range q {
			weights[position] += float64(v) * float64(k[i])
		}
		weights[position] *= scale
		top = max(top, weights[position])
	}
	sums = make([]float64, len(q))
	for position, v := range values {
		weight := math.Exp2(weights[position] - top)
		total += weight
		for i := range sums {
			sums[i] += weight * float64(v[i])
		}
	}
	return top, total, sums
}

// narrowed is sums over total, in fp32.
func narrowed(sums []float64, total float64) []float32 {
	out := make([]float32, len(sums))
	for i, v := range sums {
		out[i] = float32(v / total)
	}
	return out
}

// output writes a head's output, gated if there is a gate, and its half companion.
func output(m Memory, out, half, gate uint64, values []float32) error {
	if gate != 0 {
		g, err := Slice[float32](m, gate, len(values))
		if err != nil {
			return err
		}
		for i := range values {
			values[i] *= float32(1 / (1 + math.Exp(-float64(g[i]))))
		}
	}
	err := store(m, out, ops.F32, values)
	if half == 0 {
		return err
	}
	stored, halfErr := Slice[uint16](m, half, len(values))
	for i := range stored {
		stored[i] = ToActivation(values[i])
	}
	return errors.Join(err, halfErr)
}

// offset is an address some bytes further on; nothing stays nothing.
func offset(at, bytes uint64) uint64 {
	if at == 0 {
		return 0
	}
	return at + bytes
}

// gateOf is where the gate of a head of a row lies in rows of queries, gates, keys
// and values.
func gateOf(in uint64, row, head int, heads, kvHeads, dim uint32) uint64 {
	width := 2 * uint64(heads+kvHeads) * uint64(dim)
	return offset(in, 4*(uint64(row)*width+uint64(2*head+1)*uint64(dim)))
}

func attend(m Memory, grid driver.Dim, a kernels.AttentionGenericArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(grid[0]))
	if err != nil {
		return err
	}
	group := int(a.Heads / a.KVHeads)
	for t := range rows {
		if rows[t].Slot < 0 {
			continue
		}
		for kv := range int(a.KVHeads) {
			k, v, err := histories(m, a.Keys, a.Values, a.Pages+4*uint64(rows[t].Page), kv, a.KVHeads, a.HeadDim, ops.Type(a.Type), int(rows[t].Position)+1)
			if err != nil {
				return err
			}
			for head := kv * group; head < (kv+1)*group; head++ {
				to := uint64(t*int(a.Heads)+head) * uint64(a.HeadDim)
				q, err := Slice[float32](m, a.Out+4*to, int(a.HeadDim))
				if err != nil {
					return err
				}
				_, total, sums := weighted(q, k, v, float64(a.Scale)*math.Log2E)
				if err := output(m, a.Out+4*to, offset(a.HalfOut, 2*to), gateOf(a.Gate, t, head, a.Heads, a.KVHeads, a.HeadDim), narrowed(sums, total)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func gate(m Memory, grid driver.Dim, a kernels.AttentionGateArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(grid[0]))
	if err != nil {
		return err
	}
	for t := range rows {
		if rows[t].Slot < 0 {
			continue
		}
		for head := range int(a.Heads) {
			to := uint64(t*int(a.Heads)+head) * uint64(a.HeadDim)
			out, err := Slice[float32](m, a.Out+4*to, int(a.HeadDim))
			if err := errors.Join(err, output(m, a.Out+4*to, offset(a.HalfOut, 2*to), gateOf(a.Gate, t, head, a.Heads, a.KVHeads, a.HeadDim), out)); err != nil {
				return err
			}
		}
	}
	return nil
}

// tensorDim is the head dimension of the kernels on tensor cores.
const tensorDim = 256

// splitSize is how many positions a split of a decode row has.
func splitSize(length int) int { return (length + 2047) / 2048 * 32 }

// decodeSplits leaves, for each split and head, the largest score as a power of two,
// the sum of weights relative to it, and the weighted values.
func decodeSplits(m Memory, grid driver.Dim, a kernels.AttentionDecodeArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(grid[2]))
	if err != nil {
		return err
	}
	group := int(a.Heads / a.KVHeads)
	for t := range rows {
		if rows[t].Slot < 0 {
			continue
		}
		length := int(rows[t].Position) + 1
		size := splitSize(length)
		for kv := range int(a.KVHeads) {
			k, v, err := histories(m, a.Keys, a.Values, a.Pages+4*uint64(rows[t].Page), kv, a.KVHeads, tensorDim, ops.Type(a.Type), length)
			if err != nil {
				return err
			}
			for split := 0; split*size < length; split++ {
				from, to := split*size, min(length, (split+1)*size)
				for h := range group {
					q, err := load(m, a.Q+2*uint64((t*int(a.Heads)+kv*group+h)*tensorDim), ops.Type(a.Type), tensorDim)
					if err != nil {
						return err
					}
					top, total, sums := weighted(q, k[from:to], v[from:to], float64(a.Scale))
					at := uint64(((t*int(a.KVHeads)+kv)*int(a.Splits)+split)*8 + h)
					err = errors.Join(store(m, a.Weights+8*at, ops.F32, []float32{float32(top), float32(total)}),
						store(m, a.Sums+4*tensorDim*at, ops.F32, narrowed(sums, 1)))
					if err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func mergeSplits(m Memory, grid driver.Dim, a kernels.AttentionMergeArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(grid[0]))
	if err != nil {
		return err
	}
	group := int(a.Heads / a.KVHeads)
	for t := range rows {
		if rows[t].Slot < 0 {
			continue
		}
		length := int(rows[t].Position) + 1
		size := splitSize(length)
		splits := (length + size - 1) / size
		for head := range int(a.Heads) {
			first := uint64((t*int(a.KVHeads)+head/group)*int(a.Splits)*8 + head%group)
			weights, err := Slice[float32](m, a.Weights+8*first, 16*(splits-1)+2)
			if err != nil {
				return err
			}
			top := math.Inf(-1)
			for i := range splits {
				top = max(top, float64(weights[16*i]))
			}
			total, sums := 0.0, make([]float64, tensorDim)
			for i := range splits {
				fade := math.Exp2(float64(weights[16*i]) - top)
				total += fade * float64(weights[16*i+1])
				part, err := Slice[float32](m, a.Sums+4*tensorDim*(first+8*uint64(i)), tensorDim)
				if err != nil {
					return err
				}
				for j, v := range part {
					sums[j] += fade * float64(v)
				}
			}
			to := uint64(t*int(a.Heads)+head) * tensorDim
			if err := output(m, a.Out+4*to, offset(a.HalfOut, 2*to), gateOf(a.Gate, t, head, a.Heads, a.KVHeads, tensorDim), narrowed(sums, total)); err != nil {
				return err
			}
		}
	}
	return nil
}

func prefillAttention(m Memory, _ driver.Dim, a kernels.AttentionPrefillArgs) error {
	rows, err := Slice[kernels.Row](m, a.Row, int(a.Rows))
	if err != nil {
		return err
	}
	start, table, group := int(rows[0].Position), a.Pages+4*uint64(rows[0].Page), int(a.Heads/a.KVHeads)
	for kv := range int(a.KVHeads) {
		k, v, err := histories(m, a.Keys, a.Values, table, kv, a.KVHeads, tensorDim, ops.Type(a.Type), start+len(rows))
		if err != nil {
			return err
		}
		for t := range rows {
			seen := start + t + 1
			for head := kv * group; head < (kv+1)*group; head++ {
				to := uint64(t*int(a.Heads)+head) * tensorDim
				q, err := load(m, a.Q+2*to, ops.Type(a.Type), tensorDim)
				if err != nil {
					return err
				}
				_, total, sums := weighted(q, k[:seen], v[:seen], float64(a.Scale))
				if err := output(m, a.Out+4*to, offset(a.HalfOut, 2*to), gateOf(a.Gate, t, head, a.Heads, a.KVHeads, tensorDim), narrowed(sums, total)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
