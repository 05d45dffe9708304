package drivertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

func repackPieces(m Memory, a kernels.RepackArgs) error {
	pieces, err := Slice[kernels.RepackPiece](m, a.Pieces, int(a.Count))
	overflow, overflowErr := Slice[uint32](m, a.Overflow, 1)
	errs := []error{err, overflowErr}
	if errors.Join(errs...) != nil {
		return errors.Join(errs...)
	}
	for _, p := range pieces {
		r := repack{RepackPiece: p, m: m, from: a.Staging + uint64(p.Source), overflow: &overflow[0]}
		switch p.Kind {
		case kernels.RepackCopy:
			errs = append(errs, r.copy())
		case kernels.RepackWiden:
			errs = append(errs, r.widen())
		case kernels.RepackGPTQ, kernels.RepackAWQ:
			errs = append(errs, r.packed())
		case kernels.RepackScales:
			errs = append(errs, r.scales())
		case kernels.RepackDense:
			errs = append(errs, r.dense())
		default:
			errs = append(errs, fmt.Errorf("repack of kind %d", p.Kind))
		}
	}
	return errors.Join(errs...)
}

type repack struct {
	kernels.RepackPiece
	m        Memory
	from     uint64
	overflow *uint32
}

func (r repack) copy() error {
	dst, err := Slice[byte](r.m, r.Dst, int(r.Count))
	src, srcErr := Slice[byte](r.m, r.from, int(r.Count))
	copy(dst, src)
	return errors.Join(err, srcErr)
}

// values are n stored values as fp32.
func (r repack) values(n int) ([]float32, error) {
	v := &ops.Vector{N: n, Type: ops.Type(r.Type)}
	data, err := Slice[byte](r.m, r.from, n*int(v.Type.Size()))
	if err != nil {
		return nil, err
	}
	v.Source.Data = data
	dst := make([]float32, n)
	v.Values(dst)
	return dst, nil
}

func (r repack) widen() error {
	src, err := r.values(int(r.Count))
	dst, dstErr := Slice[float32](r.m, r.Dst, int(r.Count))
	copy(dst, src)
	return errors.Join(err, dstErr)
}

// row is the slab and the row in it that output n takes.
func (r repack) row(n int) (slab, g int) {
	switch r.Side {
	case kernels.RepackGate:
		return n / 8, n % 8
	case kernels.RepackUp:
		return n / 8, 8 + n%8
	}
	return n / 16, n % 16
}

// slab is the bytes from Dst's place in slab i on, size of them.
func (r repack) slab(i, size int) ([]byte, error) {
	return Slice[byte](r.m, r.Dst+uint64(i)*uint64(r.Stride), size)
}

func (r repack) packed() error {
	k, n, bits := int(r.Count), int(r.N), int(r.Bits)
	src := &ops.Matrix{K: k, N: n, Bits: bits, Layout: ops.GPTQ}
	if r.Kind == kernels.RepackAWQ {
		src.Layout = ops.AWQ
	}
	words, err := Slice[byte](r.m, r.from, k*n*bits/8)
	if err != nil {
		return err
	}
	src.Weight.Data = words
	codes := make([]uint16, n)
	for i := range k {
		src.Codes(codes, i)
		for column, code := range codes {
			slab, g := r.row(column)
			data, err := r.slab(slab, 16*int(r.K)*bits/8)
			if err != nil {
				return err
			}
			at, shift := CodeAt(bits, g, int(r.First)+i)
			data[at] = data[at]&^byte((1<<bits-1)<<shift) | byte(code<<shift)
		}
	}
	return nil
}

// CodeAt says where a slab of 4 or 8 bits has the code of row g, input k: its byte
// and the bits below it there.
func CodeAt(bits, g, k int) (at, shift int) {
	if bits == 8 {
		t, s, j := k%32/8, k%8/4, k%4
		return k/32*512 + (g%8*4+t)*16 + (2*s+g/8)*4 + j, 0
	}
	t, s, j := k%64/16, k%16/4, k%4
	nibble := []int{0, 4, 2, 6}[j] + g/8
	return k/64*512 + (g%8*4+t)*16 + s*4 + nibble/2, nibble % 2 * 4
}

// HalfAt says at which byte a slab of 16 bits has the value of row g, input k.
func HalfAt(g, k int) int {
	t, j := k%16/4, k%4
	return k/16*512 + (g%8*4+t)*16 + (j/2*2+g/8)*4 + j%2*2
}

func (r repack) scales() error {
	src, err := Slice[uint16](r.m, r.from, int(r.Count*r.N))
	if err != nil {
		return err
	}
	for i, scale := range src {
		group, n := int(r.First)+i/int(r.N), i%int(r.N)
		slab, g := r.row(n)
		data, err := r.slab(slab, (group+1)*32)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint16(data[(group*16+g)*2:], scale)
	}
	return nil
}

func (r repack) dense() error {
	k := int(r.K)
	values, err := r.values(int(r.Count) * k)
	if err != nil {
		return err
	}
	for i, v := range values {
		slab, g := r.row(int(r.First) + i/k)
		data, err := r.slab(slab, 32*k)
		if err != nil {
			return err
		}
		half := RoundHalf(v)
		if half&0x7c00 == 0x7c00 {
			*r.overflow = max(*r.overflow, r.Tensor)
		}
		binary.LittleEndian.PutUint16(data[HalfAt(g, i%k):], half)
	}
	return nil
}

func repackRandom(m Memory, a kernels.RandomArgs) error {
	pieces, err := Slice[kernels.RandomPiece](m, a.Pieces, int(a.Count))
	errs := []error{err}
	for _, p := range pieces {
		errs = append(errs, randomPiece{p, m}.fill())
	}
	return errors.Join(errs...)
}

type randomPiece struct {
	kernels.RandomPiece
	m Memory
}

// number is 64 random bits (splitmix64).
func (p randomPiece) number(i int) uint64 {
	z := p.Seed + uint64(i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (p randomPiece) value(i int) float32 {
	r := p.number(i)
	sum := int32(r&0xffff+r>>16&0xffff+r>>32&0xffff+r>>48) - 2*65535
	unit := float32(float32(sum) * 2.6428964e-05)
	v := p.Centre + float32(p.Spread*unit) // the conversion keeps it from being fused
	if p.Signs != 0 && r>>20&1 != 0 {
		v = -v
	}
	return v
}

func (p randomPiece) fill() error {
	all := int(p.Count)
	if p.Kind != kernels.RandomValues {
		all *= int(p.N)
	}
	for i := range all {
		if err := p.make(i); err != nil {
			return err
		}
	}
	return nil
}

func (p randomPiece) make(i int) error {
	count, n := int(p.Count), int(p.N)
	place := func(offset, size int) ([]byte, error) { return Slice[byte](p.m, p.Dst+uint64(offset), size) }
	slab := repack{RepackPiece: kernels.RepackPiece{Side: p.Side}}
	switch {
	case p.Kind == kernels.RandomWords:
		at, err := place(i/count*int(p.Stride)+i%count*4, 4)
		if err == nil {
			binary.LittleEndian.PutUint32(at, uint32(p.number(i)))
		}
		return err
	case p.Kind == kernels.RandomValues && ops.Type(p.Type) == ops.F32:
		at, err := place(4*i, 4)
		if err == nil {
			binary.LittleEndian.PutUint32(at, math.Float32bits(p.value(i)))
		}
		return err
	}
	offset, half := 2*i, RoundHalf(p.value(i))
	switch p.Kind {
	case kernels.RandomValues:
		if ops.Type(p.Type) == ops.BF16 {
			half = uint16(math.Float32bits(p.value(i)) >> 16)
		}
	case kernels.RandomScales:
		s, row := slab.row(i % n)
		offset = s*int(p.Stride) + (i/n*16+row)*2
	default:
		s, row := slab.row(i / count)
		offset = s*int(p.Stride) + HalfAt(row, i%count)
	}
	at, err := place(offset, 2)
	if err == nil {
		binary.LittleEndian.PutUint16(at, half)
	}
	return err
}
