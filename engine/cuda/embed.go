package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// embedThreads is the block of rh_embed_generic.
const embedThreads = 256

// embed returns the arguments of the lookup in a table, without those of a pass.
func (r *recorder) embed(table *ops.Matrix, out driver.Ptr, stride int) kernels.EmbedArgs {
	others := r.reading
	m := r.matrix(table)
	r.reading = others + int64(table.K)*table.Type.Size() // a row of it
	r.reads, r.vocab = true, table.N
	args := kernels.EmbedArgs{Drawn: uint64(r.b.drawn), Table: uint64(m.raw.words), Out: uint64(out),
		N: uint32(table.K), Count: uint32(table.N), Type: uint32(table.Type), OutStride: uint32(stride)}
	if m.slabs.data != 0 {
		args.Table, args.Slab = uint64(m.slabs.data), uint32(m.slabs.stride)
	}
	return args
}

// lookUp launches the lookup for the rows of a pass.
func lookUp(k kernel[kernels.EmbedArgs], p *pass, args kernels.EmbedArgs) error {
	args.Row, args.Rows = uint64(p.row), uint32(p.rows)
	return k.launch(p, driver.Dim{uint32(p.rows), 1, 1}, driver.Dim{embedThreads, 1, 1}, 0, args)
}

// Embed implements ops.Set.
func (r *recorder) Embed(a ops.EmbedArgs) {
	look := find[kernels.EmbedArgs](r, "rh_embed_generic", 0)
	args := r.embed(a.Table, at(a.X), a.Table.K)
	r.add(ops.PhaseEmbed, func(p *pass) error {
		if err := lookUp(look, p, args); err != nil {
			return err
		}
		return p.look(-1, "embedding", a.Table.K, at(a.X))
	})
}

// DraftIn implements ops.Set. The hidden states of a step are uploaded before its
// passes; each row finds its own by its place in the step.
func (r *recorder) DraftIn(a ops.DraftInArgs) {
	look := find[kernels.EmbedArgs](r, "rh_embed_generic", 0)
	hidden := a.Table.K
	uploaded := r.keep("hidden states", ops.F32, int64(r.rows*hidden))
	values := int64(r.most()) * int64(2*hidden)
	r.need(values * (4 + 2)) // the joined rows and their half activations
	embedNorm, hiddenNorm := r.norm(a.EmbedNorm, a.Eps), r.norm(a.HiddenNorm, a.Eps)
	project := r.linear(target{out: at(a.X), stride: hidden}, a.FC)
	left := r.embed(a.Table, 0, 2*hidden)
	right := kernels.EmbedArgs{Table: uint64(uploaded.Addr), N: uint32(hidden),
		Count: uint32(r.rows), Type: uint32(ops.F32), BySource: 1, OutStride: uint32(2 * hidden)}
	r.prepare = append(r.prepare, func(step *ops.Step, _ int) error {
		values := step.Hidden[:step.Rows()*hidden]
		return r.b.write(at(uploaded), memoryOf(values))
	})
	r.add(ops.PhaseDraftIn, func(p *pass) error {
		joined, half := p.scratch, driver.Ptr(0)
		if len(project.slabs) > 0 {
			half = joined + driver.Ptr(4*values)
		}
		for i, side := range []struct {
			embed kernels.EmbedArgs
			norm  norm
		}{{left, embedNorm}, {right, hiddenNorm}} {
			to := normed{out: after(joined, ops.F32, i*hidden), half: after(half, ops.F16, i*hidden)}
			side.embed.Out = uint64(to.out)
			if err := lookUp(look, p, side.embed); err != nil {
				return err
			}
			if err := side.norm.run(p, to.out, 2*hidden, to); err != nil {
				return err
			}
		}
		if err := project.run(p, inputs{x: joined, half: half, rows: p.rows}); err != nil {
			return err
		}
		return p.look(-1, "fc_out", hidden, at(a.X))
	})
}

// keep takes memory of the recording's own.
func (r *recorder) keep(what string, t ops.Type, n int64) ops.Buf {
	buf, err := r.b.scratch.Alloc(what, t, n)
	r.note(err)
	return buf
}

// most is how many rows a pass may have: a decode pass is as large as its bucket.
func (r *recorder) most() int { return max(r.rows, decodeRows) }

// after is the address of element i; 0 stays 0.
func after(p driver.Ptr, t ops.Type, i int) driver.Ptr {
	if p == 0 {
		return 0
	}
	return p + driver.Ptr(int64(i)*t.Size())
}
