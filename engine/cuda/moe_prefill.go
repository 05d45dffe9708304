package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// moeRows is the most rows of a prefill pass whose experts run at a time: as many
// as keep tensor cores busy, 40 for each of 512 experts. Between the second product
// and the sum lie moeColumns of their outputs: 46 MB of fp32 for 11 experts a row.
const moeRows, moeColumns = 2048, 512

// moeWarps is the warps of a block of the grouped products: three blocks fill a
// multiprocessor's registers.
const moeWarps = 4

// moeScratch is where in scratch memory lies what passes from kernel to kernel.
type moeScratch struct {
	place, source, tiles, count, h, y driver.Ptr
}

// moe is the experts of prefill passes, in slabs.
type moe struct {
	*experts
	x    driver.Ptr // half activations
	seen int        // bytes of what a tap sees
	plan kernel[kernels.MoePlanArgs]
	up   kernel[kernels.MoeArgs]
	down kernel[kernels.MoeArgs]
	sum  kernel[kernels.MoeCombineArgs]
}

// planShared is the shared memory of rh_moe_plan.
func planShared(experts int) int { return experts * (4 + 2*32) }

// prefillExperts runs the experts of a prefill pass on tensor cores.
func (r *recorder) prefillExperts(a ops.ExpertsArgs, m *mixture) func(p *pass) error {
	e := &experts{ExpertsArgs: a, mixture: m, steer: r.steer, most: min(moeRows, r.rows)}
	run := &moe{
		experts: e, x: r.half(a.Normed), seen: 4 * r.rows * m.hidden,
		plan: find[kernels.MoePlanArgs](r, "rh_moe_plan", planShared(m.count)),
		up:   find[kernels.MoeArgs](r, "rh_moe_gate_up", gemmShared),
		down: find[kernels.MoeArgs](r, "rh_moe_down", gemmShared),
		sum:  find[kernels.MoeCombineArgs](r, "rh_moe_combine", 0),
	}
	_, most := run.scratch(0, e.most)
	_, tapped := run.scratch(run.seen, min(e.most, decodeRows))
	r.need(int64(max(most, tapped)))
	e.launch = run.launch
	return e.run
}

// scratch lays out scratch memory for so many rows from an offset on, and says
// where it ends.
func (e *moe) scratch(from, rows int) (s moeScratch, end int) {
	places := rows * (e.K + 1)
	for _, part := range []struct {
		at    *driver.Ptr
		bytes int
	}{
		{&s.place, 4 * rows * e.K}, {&s.source, 4 * places}, {&s.tiles, 16 * e.tiles(rows)}, {&s.count, 4},
		{&s.h, 2 * places * e.widest()}, {&s.y, 4 * places * min(e.hidden, moeColumns)},
	} {
		from = (from + alignment - 1) &^ (alignment - 1)
		*part.at = driver.Ptr(from)
		from += part.bytes
	}
	return s, from
}

// widest is the stride of activations between the products.
func (e *moe) widest() int { return max(e.width, e.inner) }

// tiles is the most tiles that so many rows can make: each expert that is chosen
// has one that is not full.
func (e *moe) tiles(rows int) int {
	chosen := rows * e.K
	return min(chosen, e.count) + chosen/gemmTokens + (rows+gemmTokens-1)/gemmTokens
}

// tail is a matrix in slabs from an output on.
func (s slabs) tail(n, count int) slabs {
	s.data += driver.Ptr(n / slabRows * s.stride)
	s.count = (count + slabRows - 1) / slabRows
	return s
}

// launch runs a stage of rows from first on, as experts.launch does.
func (e *moe) launch(p *pass, first, rows, stage int, out driver.Ptr) error {
	from := 0
	if p.tap != nil {
		from = e.seen
	}
	s, _ := e.scratch(from, rows)
	at := func(offset driver.Ptr) uint64 { return uint64(p.scratch + offset) }
	row := func(b ops.Buf, width int) uint64 { return uint64(b.Addr) + uint64(4*first*width) }
	plan := kernels.MoePlanArgs{
		Chosen: row(e.IDs, e.K), Place: at(s.place), Source: at(s.source), Tiles: at(s.tiles), Count: at(s.count),
		Rows: uint32(rows), K: uint32(e.K), Experts: uint32(e.count),
	}
	if err := e.plan.launch(p, driver.Dim{1}, driver.Dim{1024}, e.plan.shared, plan); err != nil {
		return err
	}
	w, shared := e.mixture.experts, e.shared
	up := e.product(w.gateUp, shared.gateUp, w.gateUpBytes, plan)
	up.X, up.Source, up.Out = uint64(e.x)+uint64(2*first*e.hidden), plan.Source, at(s.h)
	up.K, up.SharedK, up.XStride, up.OutStride = uint32(e.hidden), uint32(e.hidden), uint32(e.hidden), uint32(e.widest())
	if err := e.multiply(p, e.up, rows, up); err != nil {
		return err
	}
	for column := 0; column < e.hidden; column += moeColumns {
		columns := min(e.hidden-column, moeColumns)
		down := e.product(w.down.tail(column, columns), shared.down.tail(column, columns), w.downBytes, plan)
		down.X, down.Out = up.Out, at(s.y)
		down.K, down.SharedK, down.XStride, down.OutStride = uint32(e.width), uint32(e.inner), up.OutStride, uint32(columns)
		if err := e.multiply(p, e.down, rows, down); err != nil {
			return err
		}
		err := e.sum.launch(p, driver.Dim{uint32(rows)}, driver.Dim{moeColumns / 4}, 0, kernels.MoeCombineArgs{
			Y: down.Out, Place: plan.Place, Weights: row(e.Weights, e.K), Gate: row(e.Gate, 1),
			Row: uint64(p.row) + uint64(first*rowBytes), Steer: uint64(e.steer.layer(e.Layer)), SteerStride: uint32(e.steer.stride()),
			Out: uint64(out), Rows: uint32(rows), K: uint32(e.K), Hidden: uint32(e.hidden), Experts: uint32(e.count),
			Column: uint32(column), Columns: uint32(columns), Stage: uint32(stage),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// multiply launches a grouped product over the tiles that so many rows can make.
func (e *moe) multiply(p *pass, k kernel[kernels.MoeArgs], rows int, args kernels.MoeArgs) error {
	const slabs = moeWarps * gemmSlabs
	grid := driver.Dim{(max(args.SlabCount, args.SharedCount) + slabs - 1) / slabs, uint32(e.tiles(rows))}
	return k.launch(p, grid, driver.Dim{32 * moeWarps}, gemmShared, args)
}

// product is the weights' and the plan's part of a grouped product's arguments.
func (e *moe) product(experts, shared slabs, stride int64, plan kernels.MoePlanArgs) kernels.MoeArgs {
	return kernels.MoeArgs{
		Tiles: plan.Tiles, Count: plan.Count,
		Slabs: uint64(experts.data), Stride: uint64(stride), Shared: uint64(shared.data), Experts: uint32(e.count),
		SlabCount: uint32(experts.count), Bits: uint32(experts.bits), Bytes: uint32(experts.stride),
		SharedCount: uint32(shared.count), SharedBits: uint32(shared.bits), SharedBytes: uint32(shared.stride),
	}
}
