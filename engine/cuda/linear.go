package cuda

import (
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// linear multiplies rows with matrices side by side, recorded for replay. Those in
// slabs take half activations, up to three in a launch; the others fp32.
type linear struct {
	generic kernel[kernels.LinearGenericArgs]
	decode  decodeLinear
	prefill prefillLinear
	slabs   []kernels.LinearArgs
	raw     []kernels.LinearGenericArgs
}

// target is where a linear writes: rows stride values apart, the matrices' outputs
// side by side.
type target struct {
	out    driver.Ptr
	stride int
	add    bool // to what is there
}

// inputs are the rows that a linear multiplies: fp32 for raw matrices; half
// activations, and what they lost to rounding or 0, for those in slabs.
type inputs struct {
	x, half, low driver.Ptr
	wanted       driver.Ptr // Wanted [rows]: which rows, and to where; 0 for all
	rows         int
}

func (r *recorder) linear(to target, weights ...*ops.Matrix) *linear {
	l := &linear{generic: find[kernels.LinearGenericArgs](r, "rh_linear_generic", 0)}
	column, taken := 0, 0
	for _, w := range weights {
		m := r.matrix(w)
		if m.slabs.data == 0 {
			l.raw = append(l.raw, rawArgs(m, to, column))
		} else {
			if taken%3 == 0 {
				l.slabs = append(l.slabs, kernels.LinearArgs{Out: uint64(to.out), K: uint32(w.K), Stride: uint32(to.stride), Add: flag(to.add)})
			}
			fill(&l.slabs[taken/3], taken%3, m, column)
			taken++
		}
		column += w.N
	}
	if taken > 0 {
		l.decode, l.prefill = r.decodeLinear(), newPrefillLinear(r)
	}
	return l
}

// beside is l and other, which reads the same rows, in as few launches as that takes:
// one, where each has one matrix and both are in slabs.
func (l *linear) beside(other *linear) []*linear {
	if len(l.slabs) != 1 || len(other.slabs) != 1 || l.slabs[0].Count1 != 0 || len(l.raw)+len(other.raw) > 0 {
		return []*linear{l, other}
	}
	both, second := *l, other.slabs[0]
	a := l.slabs[0]
	a.Slabs1, a.Count1, a.Bits1, a.Bytes1, a.N1 = second.Slabs0, second.Count0, second.Bits0, second.Bytes0, second.N0
	a.Out1 = second.Out
	both.slabs = []kernels.LinearArgs{a}
	return []*linear{&both}
}

// rawArgs are the arguments of a raw matrix, without those of its inputs.
func rawArgs(m *matrix, to target, column int) kernels.LinearGenericArgs {
	return kernels.LinearGenericArgs{Out: uint64(after(to.out, ops.F32, column)),
		Words: uint64(m.raw.words), Scales: uint64(m.raw.scales), Zeros: uint64(m.raw.zeros), GroupOf: uint64(m.raw.groupOf),
		K: uint32(m.K), N: uint32(m.N), Bits: uint32(m.Bits), Group: uint32(m.Group),
		Layout: uint32(m.Layout), ZeroKind: uint32(m.Zeros), Type: uint32(m.Type),
		XStride: uint32(m.K), OutStride: uint32(to.stride), Add: flag(to.add)}
}

// fill makes m matrix i of a launch.
func fill(a *kernels.LinearArgs, i int, m *matrix, column int) {
	s := m.slabs
	*[]*uint64{&a.Slabs0, &a.Slabs1, &a.Slabs2}[i] = uint64(s.data)
	*[]*uint32{&a.Count0, &a.Count1, &a.Count2}[i] = uint32(s.count)
	*[]*uint32{&a.Bits0, &a.Bits1, &a.Bits2}[i] = uint32(s.bits)
	*[]*uint32{&a.Bytes0, &a.Bytes1, &a.Bytes2}[i] = uint32(s.stride)
	*[]*uint32{&a.N0, &a.N1, &a.N2}[i] = uint32(m.N)
	*[]*uint32{&a.Column0, &a.Column1, &a.Column2}[i] = uint32(column)
}

// to is the same linear writing elsewhere, adding nothing.
func (l *linear) to(out driver.Ptr) *linear {
	other := *l
	other.slabs, other.raw = slices.Clone(l.slabs), slices.Clone(l.raw)
	for i := range other.slabs {
		other.slabs[i].Out, other.slabs[i].Add = uint64(out), 0
	}
	for i := range other.raw {
		other.raw[i].Out, other.raw[i].Add = uint64(out), 0
	}
	return &other
}

// Geometry of rh_linear_generic: rows of a block, and outputs, by 32 of packed and
// of dense weights alike.
const genericRows, genericOutputs = 8, 32

// run multiplies rows in the arithmetic of the pass's class.
func (l *linear) run(p *pass, in inputs) error {
	if err := l.runRaw(p, in); err != nil {
		return err
	}
	if p.class == decoding {
		return l.tiles(p, in)
	}
	for _, args := range l.slabs {
		args.X, args.Low, args.Wanted, args.Rows = uint64(in.half), uint64(in.low), uint64(in.wanted), uint32(in.rows)
		if err := l.prefill.launch(p, args); err != nil {
			return err
		}
	}
	return nil
}

// runRaw multiplies with the matrices that are not in slabs.
func (l *linear) runRaw(p *pass, in inputs) error {
	for _, args := range l.raw {
		args.X, args.Wanted, args.Rows = uint64(in.x), uint64(in.wanted), uint32(in.rows)
		grid := driver.Dim{(args.N + genericOutputs - 1) / genericOutputs, uint32(in.rows+genericRows-1) / genericRows, 1}
		if err := l.generic.launch(p, grid, driver.Dim{256, 1, 1}, 0, args); err != nil {
			return err
		}
	}
	return nil
}

// tiles multiplies with the matrices in slabs by the decode kernel, a launch for
// each decodeRows rows.
func (l *linear) tiles(p *pass, in inputs) error {
	for _, args := range l.slabs {
		for first := 0; first < in.rows; first += decodeRows {
			args.X, args.Low, args.Wanted = uint64(in.half), uint64(in.low), 0
			args.Rows = uint32(min(in.rows-first, decodeRows))
			part := args
			if in.wanted != 0 {
				part.Wanted = uint64(in.wanted) + uint64(first*wantedBytes)
			} else {
				k := int(args.K)
				part.X, part.Low = uint64(after(in.half, ops.F16, first*k)), uint64(after(in.low, ops.F16, first*k))
				part.Out = uint64(after(driver.Ptr(args.Out), ops.F32, first*int(args.Stride)))
				part.Out1 = uint64(after(driver.Ptr(args.Out1), ops.F32, first*int(args.N1)))
			}
			if err := l.decode.launch(p, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// takesNorm says whether the rows of a pass can be normed by the launch that
// multiplies them: they have the same bits either way. Who looks in wants to see them.
func (l *linear) takesNorm(p *pass, n norm, planes int) bool {
	return p.class == decoding && p.tap == nil && len(l.slabs) == 1 && len(l.raw) == 0 && n.n%4 == 0 &&
		p.rows <= decodeTiles[0] && decodeStaged(p.rows, planes, n.n) <= decodeShared
}

// runNormed norms the rows at x and multiplies with them; the normed rows go to
// where they are wanted, but for the low plane, which nobody else reads.
func (l *linear) runNormed(p *pass, n norm, x driver.Ptr, to normed) error {
	args := l.slabs[0]
	args.Residual, args.Norm, args.Eps = uint64(x), uint64(n.w), n.eps
	args.Normed, args.NormedHalf, args.Low, args.Rows = uint64(to.out), uint64(to.half), uint64(to.low), uint32(p.rows)
	return l.decode.launch(p, args)
}
