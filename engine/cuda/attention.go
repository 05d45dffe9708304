package cuda

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

const (
	maxHeadDim   = 512 // of the generic kernels
	tensorDim    = 256 // head dimension of those on tensor cores
	tensorGroup  = 8   // most query heads of a KV head there
	tensorRows   = 64  // of a block of the prefill
	tensorShared = 96 << 10

	maxSplits = 64 // of a decode row
	splitUnit = 32 // positions: the shortest
)

// attention is one recorded gated attention layer. Rotated queries wait where the
// output will be: in Out for the generic kernel, in its half companion for others.
//
// Whose bits: a row's sums run over pages of its own sequence from the first, so
// its bits depend on its position and what lies before it.
type attention struct {
	ops.AttentionArgs
	out, half    driver.Ptr
	qNorm, kNorm driver.Ptr
	invFreq      driver.Ptr
	width        int // of a row of In
	scale        float32

	rotate  kernel[kernels.AttentionRotateArgs]
	generic kernel[kernels.AttentionGenericArgs]
	gate    kernel[kernels.AttentionGateArgs]
	columns kernel[kernels.ColumnsArgs]

	// On tensor cores, where the shape fits.
	tensors bool
	splits  int // the most that a row of these pools has
	decode  kernel[kernels.AttentionDecodeArgs]
	merge   kernel[kernels.AttentionMergeArgs]
	prefill kernel[kernels.AttentionPrefillArgs]
}

// Attention implements ops.Set.
func (r *recorder) Attention(a ops.AttentionArgs) {
	s := a.Shape
	if s.HeadDim > maxHeadDim {
		r.note(fmt.Errorf("cuda: attention of layer %d has heads of %d values, the kernels take up to %d: run on the CPU", a.Layer, s.HeadDim, maxHeadDim))
		return
	}
	at := &attention{AttentionArgs: a, out: at(a.Out), half: r.half(a.Out), qNorm: r.vector(a.QNorm), kNorm: r.vector(a.KNorm)}
	at.width = 2 * (s.Heads + s.KVHeads) * s.HeadDim
	at.scale = float32(1 / math.Sqrt(float64(s.HeadDim)))
	at.invFreq = r.floats("rotary frequencies", s.Rope.InvFreq)
	at.rotate = find[kernels.AttentionRotateArgs](r, "rh_attention_rotate", 0)
	at.generic = find[kernels.AttentionGenericArgs](r, "rh_attention_generic", 0)
	at.gate = find[kernels.AttentionGateArgs](r, "rh_attention_gate", 0)
	at.columns = find[kernels.ColumnsArgs](r, "rh_deltanet_columns", 0)
	pages := int(a.Keys.Len) / (s.KVHeads * ops.PageTokens * s.HeadDim)
	r.pages = max(r.pages, pages)
	if r.b.fast && s.HeadDim == tensorDim && s.Heads <= tensorGroup*s.KVHeads && a.Keys.Type != ops.F32 {
		at.tensors = true
		at.splits = min(maxSplits, pages*ops.PageTokens/splitUnit)
		at.decode = find[kernels.AttentionDecodeArgs](r, "rh_attention_decode", tensorShared)
		at.merge = find[kernels.AttentionMergeArgs](r, "rh_attention_merge", 0)
		at.prefill = find[kernels.AttentionPrefillArgs](r, "rh_attention_prefill", tensorShared)
		r.need(at.partials(min(r.rows, decodeRows)) * tensorGroup * (tensorDim + 2) * 4)
	}
	if !r.b.fast { // where a tap's columns are laid side by side
		r.need(int64(r.rows) * int64(max(2*s.Heads, s.KVHeads)*s.HeadDim) * 4)
	}
	r.add(ops.PhaseAttention, at.run)
}

// floats puts a small table on the device.
func (r *recorder) floats(what string, values []float32) driver.Ptr {
	if len(values) == 0 {
		return 0
	}
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	buf, err := r.b.scratch.Alloc(what, ops.F32, int64(len(values)))
	if err == nil {
		err = r.b.write(at(buf), raw)
	}
	r.note(err)
	return at(buf)
}

func (a *attention) run(p *pass) error {
	if err := a.tapInputs(p); err != nil {
		return err
	}
	if err := a.rotateAll(p); err != nil {
		return err
	}
	if err := a.attend(p); err != nil || p.tap == nil {
		return err
	}
	queries := a.Shape.Heads * a.Shape.HeadDim
	if err := p.look(a.Layer, "attn_out", queries, a.out); err != nil {
		return err
	}
	if err := a.gate.launch(p, a.heads(p), driver.Dim{256}, 0, a.gateArgs(p)); err != nil {
		return err
	}
	return p.look(a.Layer, "attn_gated", queries, a.out)
}

// heads is a grid of rows and query heads.
func (a *attention) heads(p *pass) driver.Dim {
	return driver.Dim{uint32(p.rows), uint32(a.Shape.Heads)}
}

// rotateAll norms and rotates queries and keys, and appends to the pages.
func (a *attention) rotateAll(p *pass) error {
	s := a.Shape
	args := kernels.AttentionRotateArgs{
		In: uint64(at(a.In)), QNorm: uint64(a.qNorm), KNorm: uint64(a.kNorm), InvFreq: uint64(a.invFreq),
		Row: uint64(p.row), Pages: uint64(p.pages), Keys: uint64(at(a.Keys)), Values: uint64(at(a.Values)),
		Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), HeadDim: uint32(s.HeadDim),
		Half: uint32(len(s.Rope.InvFreq)), Type: uint32(a.Keys.Type), Scale: s.Rope.Scale, Eps: a.Eps,
	}
	if a.tensors {
		args.HalfQ = uint64(a.half)
	} else {
		args.Q = uint64(a.out)
	}
	if p.tap != nil && a.half == 0 {
		args.K = uint64(p.scratch)
	}
	if err := a.rotate.launch(p, driver.Dim{uint32(p.rows), uint32(s.Heads + s.KVHeads)}, driver.Dim{128}, 0, args); err != nil || args.K == 0 {
		return err
	}
	if err := p.look(a.Layer, "q_roped", s.Heads*s.HeadDim, a.out); err != nil {
		return err
	}
	return p.look(a.Layer, "k_roped", s.KVHeads*s.HeadDim, p.scratch)
}

// attend computes the outputs, gated unless a tap is to see them before.
func (a *attention) attend(p *pass) error {
	gate, half := uint64(at(a.In)), uint64(a.half)
	if p.tap != nil {
		gate, half = 0, 0
	}
	s := a.Shape
	switch {
	case a.tensors && p.class == decoding:
		return a.attendSplits(p, gate, half)
	case a.tensors:
		return a.prefill.launch(p, driver.Dim{uint32((p.rows + tensorRows - 1) / tensorRows), uint32(s.Heads)}, driver.Dim{128}, tensorShared, kernels.AttentionPrefillArgs{
			Out: uint64(a.out), Q: uint64(a.half), HalfOut: half, Gate: gate, Row: uint64(p.row), Pages: uint64(p.pages),
			Keys: uint64(at(a.Keys)), Values: uint64(at(a.Values)),
			Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), HeadDim: tensorDim, Rows: uint32(p.rows), Type: uint32(a.Keys.Type), Scale: a.scale * math.Log2E,
		})
	}
	return a.generic.launch(p, a.heads(p), driver.Dim{256}, 0, kernels.AttentionGenericArgs{
		Out: uint64(a.out), HalfOut: half, Gate: gate, Row: uint64(p.row), Pages: uint64(p.pages),
		Keys: uint64(at(a.Keys)), Values: uint64(at(a.Values)),
		Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), HeadDim: uint32(s.HeadDim), Type: uint32(a.Keys.Type), Scale: a.scale,
	})
}

// partials is how many splits so many rows have at most, over all KV heads.
func (a *attention) partials(rows int) int64 {
	return int64(rows) * int64(a.Shape.KVHeads) * int64(a.splits)
}

// attendSplits is attend for decode rows. A row's length, and with it its splits, is
// known on the device alone: the grid has room for those of any length while rows are
// few; with more rows, blocks take several splits in turn.
func (a *attention) attendSplits(p *pass, gate, half uint64) error {
	const blocks = 1024 // 2 on each of 132 multiprocessors, four times over
	s := a.Shape
	sums := uint64(p.scratch)
	weights := sums + uint64(a.partials(p.rows))*tensorGroup*tensorDim*4
	together := min(a.splits, max(blocks/(p.rows*s.KVHeads), 8))
	err := a.decode.launch(p, driver.Dim{uint32(together), uint32(s.KVHeads), uint32(p.rows)}, driver.Dim{128}, tensorShared, kernels.AttentionDecodeArgs{
		Q: uint64(a.half), Row: uint64(p.row), Pages: uint64(p.pages), Keys: uint64(at(a.Keys)), Values: uint64(at(a.Values)),
		Sums: sums, Weights: weights,
		Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), Splits: uint32(a.splits), Type: uint32(a.Keys.Type), Scale: a.scale * math.Log2E,
	})
	if err != nil {
		return err
	}
	return a.merge.launch(p, a.heads(p), driver.Dim{256}, 0, kernels.AttentionMergeArgs{
		Out: uint64(a.out), HalfOut: half, Gate: gate, Row: uint64(p.row), Sums: sums, Weights: weights,
		Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), HeadDim: tensorDim, Splits: uint32(a.splits),
	})
}

func (a *attention) gateArgs(p *pass) kernels.AttentionGateArgs {
	s := a.Shape
	return kernels.AttentionGateArgs{
		Out: uint64(a.out), HalfOut: uint64(a.half), Gate: uint64(at(a.In)), Row: uint64(p.row),
		Heads: uint32(s.Heads), KVHeads: uint32(s.KVHeads), HeadDim: uint32(s.HeadDim),
	}
}

// tapInputs shows the columns of In. Only exact programs have room to lay them
// side by side.
func (a *attention) tapInputs(p *pass) error {
	if p.tap == nil || a.half != 0 {
		return nil
	}
	s := a.Shape
	column := 0
	for _, part := range []struct {
		what  string
		width int
	}{{"q_proj", 2 * s.Heads * s.HeadDim}, {"k_proj", s.KVHeads * s.HeadDim}, {"v_proj", s.KVHeads * s.HeadDim}} {
		args := kernels.ColumnsArgs{Dst: uint64(p.scratch), Src: uint64(at(a.In)) + 4*uint64(column), Rows: uint32(p.rows), Width: uint32(part.width), Stride: uint32(a.width)}
		if err := a.columns.launch(p, driver.Dim{uint32(p.rows)}, driver.Dim{256}, 0, args); err != nil {
			return err
		}
		if err := p.look(a.Layer, part.what, part.width, p.scratch); err != nil {
			return err
		}
		column += part.width
	}
	return nil
}
