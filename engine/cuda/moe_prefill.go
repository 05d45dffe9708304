package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// moeRows is the most rows of a prefill pass whose experts run at a time: as many
// as keep tensor cores busy (40 for each of 512 experts), with 185 MB of outputs
// between the second product and the sum.
const moeRows = 2048

// moeWarps is the warps of a block of the grouped products: three blocks fill a
// multiprocessor's registers.
const moeWarps = 4

// moeScratch is where a pass of so many rows finds what passes from kernel to
// kernel, in scratch memory.
type moeScratch struct {
	place, source, tiles, count, h, y driver.Ptr
}

// moe is the experts of prefill passes, in slabs.
type moe struct {
	*experts
	x    driver.Ptr // half activations
	at   moeScratch
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
		experts: e, x: r.half(a.Normed),
		plan: find[kernels.MoePlanArgs](r, "rh_moe_plan", planShared(m.count)),
		up:   find[kernels.MoeArgs](r, "rh_moe_gate_up", gemmShared),
		down: find[kernels.MoeArgs](r, "rh_moe_down", gemmShared),
		sum:  find[kernels.MoeCombineArgs](r, "rh_moe_combine", 0),
	}
	rows := e.most
	places, used := rows*(a.K+1), 4*r.rows*m.hidden // behind what a tap sees
	for _, part := range []struct {
		at    *driver.Ptr
		bytes int
	}{
		{&run.at.place, 4 * rows * a.K}, {&run.at.source, 4 * places}, {&run.at.tiles, 16 * run.tiles(rows)}, {&run.at.count, 4},
		{&run.at.h, 2 * places * run.widest()}, {&run.at.y, 4 * places * m.hidden},
	} {
		used = (used + alignment - 1) &^ (alignment - 1)
		*part.at = driver.Ptr(used)
		used += part.bytes
	}
	r.need(int64(used))
	e.launch = run.launch
	return e.run
}

// widest is the stride of activations between the products.
func (e *moe) widest() int { return max(e.width, e.inner) }

// tiles is the most tiles that so many rows can make: each expert that is chosen
// has one that is not full.
func (e *moe) tiles(rows int) int {
	chosen := rows * e.K
	return min(chosen, e.count) + chosen/gemmTokens + (rows+gemmTokens-1)/gemmTokens
}

// launch runs a stage of rows from first on, as experts.launch does.
func (e *moe) launch(p *pass, first, rows, stage int, out driver.Ptr) error {
	at := func(offset driver.Ptr) uint64 { return uint64(p.scratch + offset) }
	row := func(b ops.Buf, width int) uint64 { return uint64(b.Addr) + uint64(4*first*width) }
	plan := kernels.MoePlanArgs{
		Chosen: row(e.IDs, e.K), Place: at(e.at.place), Source: at(e.at.source), Tiles: at(e.at.tiles), Count: at(e.at.count),
		Rows: uint32(rows), K: uint32(e.K), Experts: uint32(e.count),
	}
	if err := e.plan.launch(p, driver.Dim{1}, driver.Dim{1024}, e.plan.shared, plan); err != nil {
		return err
	}
	x, s := e.mixture.experts, e.shared
	up := e.product(x.gateUp, s.gateUp, x.gateUpBytes)
	up.X, up.Source, up.Out = uint64(e.x)+uint64(2*first*e.hidden), plan.Source, at(e.at.h)
	up.K, up.SharedK, up.XStride, up.OutStride = uint32(e.hidden), uint32(e.hidden), uint32(e.hidden), uint32(e.widest())
	down := e.product(x.down, s.down, x.downBytes)
	down.X, down.Out = up.Out, at(e.at.y)
	down.K, down.SharedK, down.XStride, down.OutStride = uint32(e.width), uint32(e.inner), up.OutStride, uint32(e.hidden)
	for _, product := range []struct {
		kernel[kernels.MoeArgs]
		args kernels.MoeArgs
	}{{e.up, up}, {e.down, down}} {
		product.args.Tiles, product.args.Count = plan.Tiles, plan.Count
		const slabs = moeWarps * gemmSlabs
		grid := driver.Dim{(max(product.args.SlabCount, product.args.SharedCount) + slabs - 1) / slabs, uint32(e.tiles(rows))}
		if err := product.launch(p, grid, driver.Dim{32 * moeWarps}, gemmShared, product.args); err != nil {
			return err
		}
	}
	return e.sum.launch(p, driver.Dim{uint32(rows)}, driver.Dim{256}, 0, kernels.MoeCombineArgs{
		Y: down.Out, Place: plan.Place, Weights: row(e.Weights, e.K), Gate: row(e.Gate, 1),
		Row: uint64(p.row) + uint64(first*rowBytes), Steer: uint64(e.steer.layer(e.Layer)), SteerStride: uint32(e.steer.stride()),
		Out: uint64(out), Rows: uint32(rows), K: uint32(e.K), Hidden: uint32(e.hidden), Experts: uint32(e.count), Stage: uint32(stage),
	})
}

// product is the weights' part of a grouped product's arguments.
func (e *moe) product(experts, shared slabs, stride int64) kernels.MoeArgs {
	return kernels.MoeArgs{
		Slabs: uint64(experts.data), Stride: uint64(stride), Shared: uint64(shared.data), Experts: uint32(e.count),
		SlabCount: uint32(experts.count), Bits: uint32(experts.bits), Bytes: uint32(experts.stride),
		SharedCount: uint32(shared.count), SharedBits: uint32(shared.bits), SharedBytes: uint32(shared.stride),
	}
}
