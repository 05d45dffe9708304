package cuda

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// deltaNet is one recorded gated delta net.
type deltaNet struct {
	ops.DeltaNetArgs
	args kernels.DeltaArgs // without what a pass decides

	width, channels, wide, keys int // of a row of In, of mixed, of Out, of all q

	conv, gates, rule, norm kernel[kernels.DeltaArgs]
	columns                 kernel[kernels.ColumnsArgs]
}

// Limits of the kernels.
const (
	deltaDim  = 256 // of keys and of values
	deltaTaps = 8   // of the convolution
	deltaTile = 64  // rows of a block of the convolution
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
	d.width = d.channels + d.wide + 2*s.ValueHeads
	d.args = kernels.DeltaArgs{
		In: uint64(at(a.In)), Conv: uint64(r.vector(a.Conv)), ALog: uint64(r.vector(a.ALog)), DTBias: uint64(r.vector(a.DTBias)),
		Norm: uint64(r.vector(a.Norm)), State: uint64(at(a.State)), Window: uint64(at(a.Window)),
		Out: uint64(at(a.Out)), Half: uint64(r.half(a.Out)),
		KeyHeads: uint32(s.KeyHeads), ValueHeads: uint32(s.ValueHeads), KeyDim: uint32(s.KeyDim), ValueDim: uint32(s.ValueDim),
		Kernel: uint32(s.Kernel), Tile: deltaTile, Eps: a.Eps,
	}
	r.need(d.scratch(nil, 0, max(r.rows, decodeRows)))
	r.add(ops.PhaseDeltaNet, d.run)
}

// scratch cuts the buffers between kernels for so many rows out of the scratch
// memory at an address, and returns how many bytes they take.
func (d *deltaNet) scratch(args *kernels.DeltaArgs, base driver.Ptr, rows int) int64 {
	var none kernels.DeltaArgs
	if args == nil {
		args = &none
	}
	next := uint64(base)
	for _, part := range []struct {
		at    *uint64
		width int
	}{
		// Mixed and Heads together hold a row of qkvz, and Heads all q: see tapColumns.
		{&args.Mixed, d.channels}, {&args.Heads, max(d.wide, d.keys)},
		{&args.Beta, d.Shape.ValueHeads}, {&args.Decay, d.Shape.ValueHeads},
	} {
		*part.at = next
		next += uint64(4*part.width*rows+alignment-1) &^ (alignment - 1)
	}
	return int64(next - uint64(base))
}

func (d *deltaNet) run(p *pass) error {
	a := d.args
	a.Segments, a.Table, a.Rows = uint64(p.segment), uint64(p.row), uint32(p.rows)
	d.scratch(&a, p.scratch, p.rows)
	return d.generic(p, a)
}

// generic runs a pass of any dimensions, token by token.
func (d *deltaNet) generic(p *pass, a kernels.DeltaArgs) error {
	s := d.Shape
	if err := d.tapInputs(p, a); err != nil {
		return err
	}
	if err := d.convolve(p, a); err != nil {
		return err
	}
	if err := p.look(d.Layer, "conv_silu", d.channels, driver.Ptr(a.Mixed)); err != nil {
		return err
	}
	if err := d.gates.launch(p, driver.Dim{uint32(s.KeyHeads), a.Rows}, driver.Dim{128}, 0, a); err != nil {
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
	if err := d.norm.launch(p, driver.Dim{a.ValueHeads, a.Rows}, driver.Dim{128}, 0, a); err != nil {
		return err
	}
	return p.look(d.Layer, "gated_norm", s.ValueDim, at(d.Out))
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
