package cuda

import (
	"fmt"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// deltaNet is one recorded gated delta net.
type deltaNet struct {
	ops.DeltaNetArgs
	args kernels.DeltaArgs // without what a pass decides

	width, channels, wide, keys int // of a row of In, of mixed, of Out, of all q

	fast                    bool // heads are what the fast kernels take
	conv, gates, rule, norm kernel[kernels.DeltaArgs]
	columns                 kernel[kernels.ColumnsArgs]

	// Where fast.
	step, chunk, scan, chunkNorm kernel[kernels.DeltaArgs]
}

// Limits of the kernels.
const (
	deltaDim  = 256 // of keys and of values
	deltaTaps = 8   // of the convolution
	deltaTile = 64  // rows of a block of the convolution

	deltaFast  = 128  // width of heads of the fast kernels
	deltaPiece = 2048 // rows that the chunk form runs at a time; a multiple of ops.ChunkTokens
)

// Dynamic shared memory of the chunk form in bytes, as deltanet_prefill.cu lays it
// out, and the columns of a block of its scan.
const (
	deltaChunkShared = 4 * (2*64*(deltaFast+4) + 64*(64+4) + 4*64)
	deltaScanShared  = 4 * (4*64*64 + 2*deltaColumns*(deltaFast/2+4+64/2+4) + 2*64)
	deltaColumns     = 32
)

// DeltaNet implements ops.Set.
func (r *recorder) DeltaNet(a ops.DeltaNetArgs) {
	s := a.Shape
	if s.KeyHeads < 1 || s.ValueHeads < 1 || s.ValueHeads%s.KeyHeads != 0 || s.KeyDim < 1 || s.KeyDim > deltaDim ||
		s.ValueDim < 1 || s.ValueDim > deltaDim || s.Kernel < 2 || s.Kernel > deltaTaps {
		r.note(fmt.Errorf("cuda: the delta net of layer %d has the shape %+v: heads up to %d wide, 2 to %d taps and whole groups of value heads are what the kernels do", a.Layer, s, deltaDim, deltaTaps))
		return
	}
	d := &deltaNet{
		DeltaNetArgs: a, channels: s.Channels(), wide: s.ValueHeads * s.ValueDim, keys: s.KeyHeads * s.KeyDim,
		conv:    find[kernels.DeltaArgs](r, "rh_deltanet_conv", 0),
		gates:   find[kernels.DeltaArgs](r, "rh_deltanet_gates", 0),
		rule:    find[kernels.DeltaArgs](r, "rh_deltanet_rule_generic", 0),
		norm:    find[kernels.DeltaArgs](r, "rh_deltanet_norm", 0),
		columns: find[kernels.ColumnsArgs](r, "rh_deltanet_columns", 0),
	}
	// An even number of heads keeps rows of In aligned to 16 bytes.
	if d.fast = r.b.fast && s.KeyDim == deltaFast && s.ValueDim == deltaFast && s.ValueHeads%2 == 0; d.fast {
		d.step = find[kernels.DeltaArgs](r, "rh_deltanet_step", 0)
		d.chunk = find[kernels.DeltaArgs](r, "rh_deltanet_chunk", deltaChunkShared)
		d.chunkNorm = find[kernels.DeltaArgs](r, "rh_deltanet_norm_prefill", 0)
		d.scan = find[kernels.DeltaArgs](r, "rh_deltanet_scan", deltaScanShared)
	}
	d.width = d.channels + d.wide + 2*s.ValueHeads
	d.args = kernels.DeltaArgs{
		In: uint64(at(a.In)), Conv: uint64(r.vector(a.Conv)), ALog: uint64(r.vector(a.ALog)), DTBias: uint64(r.vector(a.DTBias)),
		Norm: uint64(r.vector(a.Norm)), State: uint64(at(a.State)), Window: uint64(at(a.Window)),
		Out: uint64(at(a.Out)), Half: uint64(r.half(a.Out)),
		KeyHeads: uint32(s.KeyHeads), ValueHeads: uint32(s.ValueHeads), KeyDim: uint32(s.KeyDim), ValueDim: uint32(s.ValueDim),
		Kernel: uint32(s.Kernel), Tile: deltaTile, Eps: a.Eps,
	}
	r.need(d.scratch(nil, 0, d.most(max(r.rows, decodeRows))))
	r.reading = int64(2 * 4 * s.ValueHeads * s.KeyDim * s.ValueDim) // the state, there and back
	r.add(ops.PhaseDeltaNet, d.run)
}

// most is how many of some rows run at a time.
func (d *deltaNet) most(rows int) int {
	if d.fast {
		return min(rows, deltaPiece)
	}
	return rows
}

// scratch cuts the buffers between kernels for so many rows out of the scratch
// memory at an address, and returns how many bytes they take.
func (d *deltaNet) scratch(args *kernels.DeltaArgs, base driver.Ptr, rows int) int64 {
	var none kernels.DeltaArgs
	if args == nil {
		args = &none
	}
	chunk, pairs := 0, 0
	if d.fast {
		chunk, pairs = d.wide, d.Shape.ValueHeads*ops.ChunkTokens
	}
	next := uint64(base)
	for _, part := range []struct {
		at    *uint64
		width int
	}{
		// Mixed and Heads together hold a row of qkvz, and Heads all q: see tapColumns.
		{&args.Mixed, d.channels}, {&args.Heads, max(d.wide, d.keys)},
		{&args.Beta, d.Shape.ValueHeads}, {&args.Decay, d.Shape.ValueHeads},
		{&args.Change, chunk}, {&args.Carry, chunk}, {&args.Pairs, pairs},
	} {
		*part.at = next
		next += uint64(4*part.width*rows+alignment-1) &^ (alignment - 1)
	}
	return int64(next - uint64(base))
}

func (d *deltaNet) run(p *pass) error {
	a := d.args
	a.Segments, a.Table, a.Rows = uint64(p.segment), uint64(p.row), uint32(p.rows)
	d.scratch(&a, p.scratch, d.most(p.rows))
	form := d.generic
	switch {
	case d.fast && p.class == decoding:
		form = d.decode
	case d.fast:
		form = d.prefill
	}
	if err := form(p, a); err != nil {
		return err
	}
	return p.look(d.Layer, "gated_norm", d.wide, at(d.Out))
}

// decode runs a pass of the decode class with heads of deltaFast.
func (d *deltaNet) decode(p *pass, a kernels.DeltaArgs) error {
	if err := d.convolve(p, a); err != nil {
		return err
	}
	return d.step.launch(p, driver.Dim{a.ValueHeads, 1, uint32(p.segments)}, driver.Dim{256}, 0, a)
}

// prefill runs a prompt with heads of deltaFast in chunks, piece by piece: the
// borders of pieces are borders of chunks.
func (d *deltaNet) prefill(p *pass, a kernels.DeltaArgs) error {
	for from := 0; from < p.rows; {
		n := min(deltaPiece-(p.start+from)%ops.ChunkTokens, p.rows-from)
		part := a
		part.From, part.Rows = uint32(from), uint32(n)
		part.In += 4 * uint64(from*d.width)
		part.Out += 4 * uint64(from*d.wide)
		part.Half += 2 * uint64(from*d.wide)
		part.Table += uint64(from) * uint64(unsafe.Sizeof(kernels.Row{}))
		if err := d.piece(p, part, (p.start+from)%ops.ChunkTokens); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// piece runs some rows of a prompt, before which so many rows of their first chunk
// lie.
func (d *deltaNet) piece(p *pass, a kernels.DeltaArgs, before int) error {
	if err := d.convolve(p, a); err != nil {
		return err
	}
	chunks := (uint32(before) + a.Rows + ops.ChunkTokens - 1) / ops.ChunkTokens
	if err := d.chunk.launch(p, driver.Dim{a.KeyHeads, chunks}, driver.Dim{256}, deltaChunkShared, a); err != nil {
		return err
	}
	if err := d.scan.launch(p, driver.Dim{deltaFast / deltaColumns, a.ValueHeads}, driver.Dim{256}, deltaScanShared, a); err != nil {
		return err
	}
	return d.chunkNorm.launch(p, driver.Dim{(a.Rows*a.ValueHeads + 7) / 8}, driver.Dim{256}, 0, a)
}

// generic runs a pass of any dimensions, token by token. Only here may somebody
// look at all that lies between.
func (d *deltaNet) generic(p *pass, a kernels.DeltaArgs) error {
	if err := d.tapInputs(p, a); err != nil {
		return err
	}
	if err := d.convolve(p, a); err != nil {
		return err
	}
	if err := p.look(d.Layer, "conv_silu", d.channels, driver.Ptr(a.Mixed)); err != nil {
		return err
	}
	if err := d.gates.launch(p, driver.Dim{a.KeyHeads, a.Rows}, driver.Dim{128}, 0, a); err != nil {
		return err
	}
	if err := d.tapGates(p, a); err != nil {
		return err
	}
	blocks := driver.Dim{(a.ValueDim + 31) / 32, a.ValueHeads, uint32(p.segments)}
	if err := d.rule.launch(p, blocks, driver.Dim{256}, 0, a); err != nil {
		return err
	}
	if err := p.look(d.Layer, "delta_out", d.wide, driver.Ptr(a.Heads)); err != nil {
		return err
	}
	return d.norm.launch(p, driver.Dim{a.ValueHeads, a.Rows}, driver.Dim{128}, 0, a)
}

// convolve launches the convolution. A segment of the decode class fits one tile.
func (d *deltaNet) convolve(p *pass, a kernels.DeltaArgs) error {
	grid := driver.Dim{uint32(d.channels+255) / 256, (a.Rows + a.Tile - 1) / a.Tile, uint32(p.segments)}
	return d.conv.launch(p, grid, driver.Dim{256}, 0, a)
}

func (d *deltaNet) tapInputs(p *pass, a kernels.DeltaArgs) error {
	wide := d.channels + d.wide
	if err := d.tapColumns(p, "in_proj_qkvz", a.Mixed, a.In, d.width, 0, wide); err != nil {
		return err
	}
	return d.tapColumns(p, "in_proj_ba", a.Mixed, a.In, d.width, wide, d.width)
}

func (d *deltaNet) tapGates(p *pass, a kernels.DeltaArgs) error {
	if err := d.tapColumns(p, "q_l2", a.Heads, a.Mixed, d.channels, 0, d.keys); err != nil {
		return err
	}
	if err := d.tapColumns(p, "k_l2", a.Heads, a.Mixed, d.channels, d.keys, 2*d.keys); err != nil {
		return err
	}
	if err := p.look(d.Layer, "g", d.Shape.ValueHeads, driver.Ptr(a.Decay)); err != nil {
		return err
	}
	return p.look(d.Layer, "beta", d.Shape.ValueHeads, driver.Ptr(a.Beta))
}

// tapColumns taps columns c0 to c1 of rows with a stride, by way of scratch memory.
func (d *deltaNet) tapColumns(p *pass, what string, to, from uint64, stride, c0, c1 int) error {
	if p.tap == nil {
		return nil
	}
	err := d.columns.launch(p, driver.Dim{uint32(p.rows)}, driver.Dim{256}, 0, kernels.ColumnsArgs{
		Dst: to, Src: from + 4*uint64(c0), Rows: uint32(p.rows), Width: uint32(c1 - c0), Stride: uint32(stride),
	})
	if err != nil {
		return err
	}
	return p.look(d.Layer, what, c1-c0, driver.Ptr(to))
}
