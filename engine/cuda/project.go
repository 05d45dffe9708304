package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// MixerIn implements ops.Set.
func (r *recorder) MixerIn(a ops.MixerInArgs) {
	norm := r.norm(a.Norm, a.Eps)
	stride := 0
	for _, w := range a.Weights {
		stride += w.N
	}
	project := r.linear(target{out: at(a.Out), stride: stride}, a.Weights...)
	values := int64(r.most()) * int64(norm.n)
	r.need(values * (4 + 2))
	r.add(ops.PhaseMixerIn, func(p *pass) error {
		if project.takesNorm(p, norm, 1) {
			return project.runNormed(p, norm, at(a.X), normed{})
		}
		to := normed{out: p.scratch}
		if len(project.slabs) > 0 {
			to.half = p.scratch + driver.Ptr(4*values)
			if len(project.raw) == 0 && p.tap == nil {
				to.out = 0
			}
		}
		if err := norm.run(p, at(a.X), norm.n, to); err != nil {
			return err
		}
		if err := p.look(a.Layer, "input_norm", norm.n, to.out); err != nil {
			return err
		}
		return project.run(p, inputs{x: to.out, half: to.half, rows: p.rows})
	})
}

// MixerOut implements ops.Set. Who looks in gets the product by itself, computed
// once more.
func (r *recorder) MixerOut(a ops.MixerOutArgs) {
	project := r.linear(target{out: at(a.X), stride: a.W.N, add: true}, a.W)
	half := r.half(a.In)
	r.add(ops.PhaseMixerOut, func(p *pass) error {
		in := inputs{x: at(a.In), half: half, rows: p.rows}
		if p.tap != nil {
			if err := r.lookAtProduct(p, a, project, in); err != nil {
				return err
			}
		}
		return project.run(p, in)
	})
	r.need(4 * int64(r.most()) * int64(a.W.N))
}

func (r *recorder) lookAtProduct(p *pass, a ops.MixerOutArgs, project *linear, in inputs) error {
	if err := project.to(p.scratch).run(p, in); err != nil {
		return err
	}
	return p.look(a.Layer, "mixer_out", a.W.N, p.scratch)
}

// Router implements ops.Set. Its matrices take both planes of the normed rows, so
// that logits are as good as of fp32 inputs: a flipped expert is dearer than the
// time saved.
func (r *recorder) Router(a ops.RouterArgs) {
	norm := r.norm(a.Norm, a.Eps)
	router := r.linear(target{out: at(a.Logits), stride: a.Router.N}, a.Router)
	shared := r.linear(target{out: at(a.Gate), stride: 1}, a.Shared)
	both, apart := router.beside(shared), []*linear{router, shared}
	half := r.half(a.Normed)
	r.need(2 * int64(r.most()) * int64(norm.n))
	r.add(ops.PhaseRouter, func(p *pass) error {
		to := normed{out: at(a.Normed), half: half}
		if len(router.slabs)+len(shared.slabs) > 0 {
			to.low = p.scratch
		}
		if len(both) == 1 && both[0].takesNorm(p, norm, 2) {
			return both[0].runNormed(p, norm, at(a.X), to)
		}
		if err := norm.run(p, at(a.X), norm.n, to); err != nil {
			return err
		}
		if err := p.look(a.Layer, "post_norm", norm.n, to.out); err != nil {
			return err
		}
		projections := apart
		if p.class == decoding {
			projections = both
		}
		for _, l := range projections {
			if err := l.run(p, inputs{x: to.out, half: to.half, low: to.low, rows: p.rows}); err != nil {
				return err
			}
		}
		if err := p.look(a.Layer, "router_logits", a.Router.N, at(a.Logits)); err != nil {
			return err
		}
		return p.look(a.Layer, "shared_gate_logit", 1, at(a.Gate))
	})
	r.gap(ops.RouterLogits, a.Layer, a.Logits, a.Router.N)
}

// Logits implements ops.Set. Rows of logits have the bits of the decode class in
// every pass.
func (r *recorder) Logits(a ops.LogitsArgs) {
	norm := r.norm(a.Norm, a.Eps)
	head := r.linear(target{out: at(a.Logits), stride: a.Head.N}, a.Head)
	half := r.half(a.Hidden)
	r.reads, r.wanted = true, int(a.Logits.Len)/a.Head.N
	r.add(ops.PhaseLogits, func(p *pass) error {
		if err := norm.run(p, at(a.X), norm.n, normed{out: at(a.Hidden), half: half}); err != nil {
			return err
		}
		if err := p.look(-1, "hidden", norm.n, at(a.Hidden)); err != nil {
			return err
		}
		if p.wanted == 0 {
			return nil
		}
		in := inputs{x: at(a.Hidden), half: half, wanted: p.want, rows: p.wanted}
		if err := head.runRaw(p, in); err != nil {
			return err
		}
		if err := head.tiles(p, in); err != nil || p.tap == nil {
			return err
		}
		return p.tap(-1, "logits", p.asked, a.Head.N, after(at(a.Logits), ops.F32, p.firstAsked*a.Head.N))
	})
}
