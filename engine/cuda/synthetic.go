package cuda

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// PlaceSynthetic is Place for weights that nobody has: their data is not looked at,
// and the device fills what Place would have filled with random codes, scales and
// values, the same for the same seed, such that activations stay sane and routing is
// spread. Matrices with an order of groups are refused.
func (b *Backend) PlaceSynthetic(ctx context.Context, w ops.Weights, seed uint64, report func(done, total int64)) error {
	return b.place(w, func(l *layout) error { return b.makeUp(ctx, l, w.Embed, seed, report) })
}

// makeUp fills the tensors of a layout, some thousand at a time. The context is
// current.
func (b *Backend) makeUp(ctx context.Context, l *layout, embed *ops.Matrix, seed uint64, report func(done, total int64)) (err error) {
	var pieces []kernels.RandomPiece
	var sizes []int64
	var done, total int64
	for i := range l.sources {
		s := &l.sources[i]
		switch s.of {
		case table:
			if err := b.write(driver.Ptr(s.piece.Dst), s.from.Data); err != nil {
				return err
			}
			continue
		case order:
			return fmt.Errorf("cuda: %s has an order of groups, which cannot be made up", s.name)
		}
		total += s.bytes
		piece := s.random(s.m != nil && s.m == embed)
		piece.Seed = seed + uint64(i)<<40 // streams of 2^40 numbers
		pieces, sizes = append(pieces, piece), append(sizes, s.bytes)
	}
	if len(pieces) == 0 {
		return nil
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(pieces))), len(pieces)*int(unsafe.Sizeof(pieces[0])))
	at, err := b.driver.Alloc(int64(len(bytes)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.driver.Synchronise(b.stream), b.driver.Free(at)) }()
	if err := b.write(at, bytes); err != nil {
		return err
	}
	function, err := b.images.function("rh_repack_random", int(unsafe.Sizeof(kernels.RandomArgs{})), 0)
	if err != nil {
		return err
	}
	for first := 0; first < len(pieces); first += maxPieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		count := min(maxPieces, len(pieces)-first)
		args := kernels.RandomArgs{Pieces: uint64(at) + uint64(first)*uint64(unsafe.Sizeof(pieces[0])), Count: uint32(count)}
		err := b.driver.Launch(&driver.Launch{Function: function, Grid: driver.Dim{args.Count, 64, 1}, Block: driver.Dim{256, 1, 1},
			Stream: b.stream, Args: kernels.Bytes(&args)})
		if err == nil {
			err = b.driver.Synchronise(b.stream)
		}
		if err != nil {
			return err
		}
		for _, size := range sizes[first : first+count] {
			done += size
		}
		if report != nil {
			report(done, total)
		}
	}
	return nil
}

// random is what makes a source up: the values of a synthetic model's files.
func (s *source) random(embed bool) kernels.RandomPiece {
	p := kernels.RandomPiece{Dst: s.piece.Dst, Kind: kernels.RandomValues, N: 1, Stride: s.piece.Stride, Side: s.piece.Side}
	raw := s.piece.Kind == kernels.RepackCopy
	switch {
	case s.m == nil:
		p.Count, p.Type = uint64(s.count), uint32(ops.F32)
		p.Centre, p.Spread = vectorScale(s.name)
	case s.of == values:
		p.Spread = float32(1 / math.Sqrt(float64(s.m.K)))
		if embed {
			p.Spread = 1
		}
		p.Count, p.Type = uint64(s.m.K)*uint64(s.m.N), uint32(s.m.Type)
		if !raw {
			p.Kind, p.Count, p.N = kernels.RandomDense, uint64(s.m.K), uint32(s.m.N)
		}
	case s.of == scales:
		// Codes spread over 2^bits values: the weight is near 1/sqrt(K).
		p.Centre = float32(1 / math.Sqrt(float64(s.m.K)) / float64(int(1)<<(s.m.Bits-2)))
		p.Spread, p.Signs, p.Type = p.Centre/4, 1, uint32(ops.F16)
		p.Count = uint64(s.m.Groups())
		if p.Kind, p.N = kernels.RandomScales, uint32(s.m.N); raw {
			p.Kind, p.N, p.Count = kernels.RandomValues, 1, p.Count*uint64(s.m.N)
		}
	default:
		p.Kind, p.Count = kernels.RandomWords, uint64(s.bytes/4)
		switch {
		case raw:
		case s.piece.Side == kernels.RepackUp: // made with gate, whose words it shares
			p.Count = 0
		default:
			per := slabRows
			if s.piece.Side == kernels.RepackGate {
				per = slabRows / 2
			}
			p.Count, p.N = uint64(slabRows*s.m.K*s.m.Bits/32), uint32((s.m.N+per-1)/per)
		}
	}
	return p
}

// vectorScale is centre and spread of a vector of a model.
func vectorScale(name string) (centre, spread float32) {
	switch {
	case strings.HasSuffix(name, "A_log"), strings.HasSuffix(name, "dt_bias"):
		return 1, 0.5
	case strings.HasSuffix(name, "linear_attn.norm.weight"):
		return 1, 0.1
	case strings.HasSuffix(name, "conv1d.weight"):
		return 0, 0.5
	}
	return 0, 0.1
}
