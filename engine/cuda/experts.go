package cuda

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// What rh_select_topk holds in the registers of a warp.
const (
	maxExperts = 1024
	maxChosen  = 16
)

// Select implements ops.Set.
func (r *recorder) Select(a ops.SelectArgs) {
	if a.Experts > maxExperts || a.K > min(maxChosen, a.Experts) || a.K < 1 {
		r.note(fmt.Errorf("cuda: layer %d chooses %d of %d experts: the kernel chooses 1 to %d of up to %d", a.Layer, a.K, a.Experts, maxChosen, maxExperts))
	}
	steer := r.steered(a.Layer, a.Experts, a.K, 0)
	r.layers, r.k = max(r.layers, a.Layer+1), max(r.k, a.K)
	r.need(int64(4 * r.rows * a.K)) // the ids as a tap shows them
	choose := find[kernels.SelectArgs](r, "rh_select_topk", 0)
	r.add(ops.PhaseSelect, func(p *pass) error {
		args := kernels.SelectArgs{
			Logits: uint64(a.Logits.Addr), Chosen: uint64(a.IDs.Addr), Weights: uint64(a.Weights.Addr), Row: uint64(p.row),
			Steer: uint64(steer.layer(a.Layer)), SteerStride: uint32(steer.stride()),
			Experts: uint32(a.Experts), K: uint32(a.K), Renormalise: flag(a.Renormalise),
		}
		if p.routeIDs != 0 {
			first := driver.Ptr(a.Layer * r.k)
			args.RouteChosen, args.RouteWeights = uint64(p.routeIDs+2*first), uint64(p.routeWeights+4*first)
			args.RouteStride = uint32(r.layers * r.k)
		}
		if p.tap != nil {
			args.Names = uint64(p.scratch)
		}
		if err := choose.launch(p, driver.Dim{uint32(p.rows)}, driver.Dim{32}, 0, args); err != nil {
			return err
		}
		if err := p.look(a.Layer, "router_experts", a.K, p.scratch); err != nil {
			return err
		}
		return p.look(a.Layer, "router_weights", a.K, at(a.Weights))
	})
}

// flag is a bool as kernels take it.
func flag(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// Experts implements ops.Set.
func (r *recorder) Experts(a ops.ExpertsArgs) {
	m := r.mixture(a.Experts)
	r.steered(a.Layer, m.count, a.K, m.hidden)
	r.reading = m.bytes(a)
	few := r.experts(a, m).run
	many := few
	if m.experts.gateUp.data != 0 {
		many = r.prefillExperts(a, m)
	}
	r.add(ops.PhaseExperts, func(p *pass) error {
		if p.class == prefilling {
			return many(p)
		}
		return few(p)
	})
	r.gap(ops.ResidualOut, a.Layer, a.X, m.hidden)
}

// bytes is what the chosen experts of one row and the shared one take.
func (m *mixture) bytes(a ops.ExpertsArgs) (total int64) {
	if s := m.shared; s.gateUp.data != 0 {
		return int64(a.K)*(m.experts.gateUpBytes+m.experts.downBytes) +
			int64(s.gateUp.count)*int64(s.gateUp.stride) + int64(s.down.count)*int64(s.down.stride)
	}
	for _, e := range append(a.Experts[:min(a.K, len(a.Experts)):min(a.K, len(a.Experts))], a.Shared) {
		total += e.Gate.Bytes() + e.Up.Bytes() + e.Down.Bytes()
	}
	return total
}

// experts is a recorded mixture, in kernels that take some rows at a time. Scratch
// holds what a tap sees [rows][hidden], then what passes from kernel to kernel.
type experts struct {
	ops.ExpertsArgs
	*mixture
	steer *steering
	most  int        // rows of a launch
	acts  driver.Ptr // offset of the activations in scratch
	// launch runs a stage of rows from first on (see kernels.ExpertsGenericArgs).
	launch func(p *pass, first, rows, stage int, out driver.Ptr) error
}

// stages of the taps, in the order that a CPU shows them.
var stages = []struct {
	what  string
	stage int
}{{"shared_out", 1}, {"routed_out", 2}, {"mlp_out", 3}}

func (r *recorder) experts(a ops.ExpertsArgs, m *mixture) *experts {
	e := &experts{ExpertsArgs: a, mixture: m, steer: r.steer, most: decodeRows}
	e.acts = driver.Ptr(4*r.rows*m.hidden+alignment-1) &^ (alignment - 1)
	if m.experts.gateUp.data != 0 {
		e.launch = e.fast(r)
	} else {
		e.launch = e.generic(r)
	}
	return e
}

func (e *experts) run(p *pass) error {
	if p.tap != nil {
		for _, s := range stages {
			if err := e.tiles(p, s.stage, p.scratch); err != nil {
				return err
			}
			if err := p.look(e.Layer, s.what, e.hidden, p.scratch); err != nil {
				return err
			}
		}
	}
	if err := e.tiles(p, 0, at(e.X)); err != nil {
		return err
	}
	return p.look(e.Layer, "residual_out", e.hidden, at(e.X))
}

// tiles runs a stage over the rows of a pass.
func (e *experts) tiles(p *pass, stage int, out driver.Ptr) error {
	most := e.most
	if p.tap != nil { // what it sees takes the room
		most = min(most, decodeRows)
	}
	for first := 0; first < p.rows; first += most {
		to := out + driver.Ptr(4*first*e.hidden)
		if err := e.launch(p, first, min(most, p.rows-first), stage, to); err != nil {
			return err
		}
	}
	return nil
}

// generic takes the kernels for any shape.
func (e *experts) generic(r *recorder) func(p *pass, first, rows, stage int, out driver.Ptr) error {
	width := max(e.width, e.inner)
	r.need(int64(e.acts) + int64(4*decodeRows*(e.K+1)*width))
	gateUp := find[kernels.ExpertsGenericArgs](r, "rh_experts_gate_up_generic", 0)
	down := find[kernels.ExpertsGenericArgs](r, "rh_experts_down_generic", 0)
	const threads, columns = 256, 32
	return func(p *pass, first, rows, stage int, out driver.Ptr) error {
		args := kernels.ExpertsGenericArgs{
			X:      uint64(at(e.Normed) + driver.Ptr(4*first*e.hidden)),
			Chosen: uint64(at(e.IDs) + driver.Ptr(4*first*e.K)), Weights: uint64(at(e.Weights) + driver.Ptr(4*first*e.K)),
			Gate: uint64(at(e.Gate) + driver.Ptr(4*first)), Row: uint64(p.row + driver.Ptr(first*rowBytes)),
			Steer: uint64(e.steer.layer(e.Layer)), SteerStride: uint32(e.steer.stride()),
			Table: uint64(e.weights), H: uint64(p.scratch + e.acts), Out: uint64(out),
			Experts: uint32(e.count), K: uint32(e.K), Hidden: uint32(e.hidden), Width: uint32(width), Stage: uint32(stage),
		}
		grid := driver.Dim{uint32(rows * (e.K + 1)), uint32((width + columns - 1) / columns)}
		if err := gateUp.launch(p, grid, driver.Dim{threads}, 0, args); err != nil {
			return err
		}
		return down.launch(p, driver.Dim{uint32(rows), uint32((e.hidden + columns - 1) / columns)}, driver.Dim{threads}, 0, args)
	}
}

// fast takes the kernels for slabs.
func (e *experts) fast(r *recorder) func(p *pass, first, rows, stage int, out driver.Ptr) error {
	width := max(e.width, e.inner)
	r.need(int64(e.acts) + int64(2*decodeRows*(e.K+1)*width))
	const sharing = 2 // warps of a down that have the shared expert
	warps := e.K + sharing
	row, acts := 2*e.hidden, 2*warps*width // bytes of shared memory
	gateUp := find[kernels.ExpertsArgs](r, "rh_experts_gate_up", row)
	down := find[kernels.ExpertsArgs](r, "rh_experts_down", acts)
	normed := r.half(e.Normed)
	x, s := e.experts, e.shared
	args := kernels.ExpertsArgs{
		GateUp: uint64(x.gateUp.data), GateUpBytes: uint64(x.gateUpBytes), GateUpBits: uint32(x.gateUp.bits), GateUpStride: uint32(x.gateUp.stride),
		Down: uint64(x.down.data), DownBytes: uint64(x.downBytes), DownBits: uint32(x.down.bits), DownStride: uint32(x.down.stride),
		SharedGateUp: uint64(s.gateUp.data), SharedGateUpBits: uint32(s.gateUp.bits), SharedGateUpStride: uint32(s.gateUp.stride),
		SharedDown: uint64(s.down.data), SharedDownBits: uint32(s.down.bits), SharedDownStride: uint32(s.down.stride),
		Count: uint32(x.gateUp.count), SharedCount: uint32(s.gateUp.count), Inner: uint32(e.width), SharedInner: uint32(e.inner),
		Experts: uint32(e.count), K: uint32(e.K), Hidden: uint32(e.hidden), Width: uint32(width),
	}
	return func(p *pass, first, rows, stage int, out driver.Ptr) error {
		args := args
		args.X = uint64(normed + driver.Ptr(2*first*e.hidden))
		args.Chosen, args.Weights = uint64(at(e.IDs)+driver.Ptr(4*first*e.K)), uint64(at(e.Weights)+driver.Ptr(4*first*e.K))
		args.Gate, args.Row = uint64(at(e.Gate)+driver.Ptr(4*first)), uint64(p.row+driver.Ptr(first*rowBytes))
		args.Steer, args.SteerStride = uint64(e.steer.layer(e.Layer)), uint32(e.steer.stride())
		args.H, args.Out, args.Stage = uint64(p.scratch+e.acts), uint64(out), uint32(stage)
		grid := driver.Dim{args.SharedCount + args.K*args.Count, uint32(rows)}
		if err := gateUp.launch(p, grid, driver.Dim{4 * 32}, row, args); err != nil {
			return err
		}
		return down.launch(p, driver.Dim{uint32(x.down.count), uint32(rows)}, driver.Dim{uint32(32 * warps)}, acts, args)
	}
}
