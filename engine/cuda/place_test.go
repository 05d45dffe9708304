package cuda

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// fetch reads device memory.
func fetch(t *testing.T, b *Backend, at driver.Ptr, bytes int) []byte {
	t.Helper()
	data := make([]byte, bytes)
	if err := b.Read(data, ops.Buf{Addr: uintptr(at), Len: int64(bytes), Type: ops.U8}); err != nil {
		t.Fatal(err)
	}
	return data
}

// slabRow is one output of slabs as fp32, from the device's bytes.
func slabRow(data []byte, s slabs, slab, g, k int) []float32 {
	data = data[slab*s.stride:][:s.stride]
	row := make([]float32, k)
	for i := range row {
		if s.bits == 16 {
			row[i] = ops.Half(binary.LittleEndian.Uint16(data[drivertest.HalfAt(g, i):]))
			continue
		}
		at, shift := drivertest.CodeAt(s.bits, g, i)
		code := int(data[at]>>shift) & (1<<s.bits - 1)
		scale := ops.Half(binary.LittleEndian.Uint16(data[slabRows*k*s.bits/8+(i/slabGroup*slabRows+g)*2:]))
		row[i] = scale * float32(code-1<<(s.bits-1))
	}
	return row
}

// sameSlabs compares every row of slabs with the checkpoint's values, and rows that
// belong to no output with zero.
func sameSlabs(t *testing.T, b *Backend, s slabs, outputs func(slab, g int) (*ops.Matrix, int)) {
	t.Helper()
	data := fetch(t, b, s.data, s.count*s.stride)
	for slab := range s.count {
		for g := range slabRows {
			m, n := outputs(slab, g)
			want := make([]float32, m.K)
			if n < m.N {
				m.Tile(want, 0, m.K, n, n+1)
				for k, v := range want {
					if m.Layout == ops.Dense {
						want[k] = ops.Half(drivertest.RoundHalf(v))
					}
				}
			}
			for k, got := range slabRow(data, s, slab, g, m.K) {
				if got != want[k] {
					t.Fatalf("%s: output %d, input %d is %g in slab %d row %d, expected %g", m.Name, n, k, got, slab, g, want[k])
				}
			}
		}
	}
}

// samples are one matrix of every kind that is kept in slabs.
func (w *twin) samples() []*ops.Matrix {
	all := []*ops.Matrix{
		w.gptq("gptq 4", 256, 96, 4, 128), w.gptq("gptq 8", 384, 160, 8, 128),
		w.gptq("ragged 4", 128, 40, 4, 128), w.gptq("ragged 8", 640, 9, 8, 128),
		w.awq("awq", 256, 136), w.dense("bf16", 192, 50), w.dense("one output", 64, 1),
	}
	for _, t := range []ops.Type{ops.F16, ops.F32} {
		m := &ops.Matrix{Name: t.String(), K: 64, N: 35, Layout: ops.Dense, Type: t, Bits: int(t.Size() * 8)}
		for range m.K * m.N {
			half := drivertest.RoundHalf(float32(w.random.NormFloat64()))
			if t == ops.F16 {
				m.Weight.Data = binary.LittleEndian.AppendUint16(m.Weight.Data, half)
			} else {
				m.Weight.Data = binary.LittleEndian.AppendUint32(m.Weight.Data, math.Float32bits(ops.Half(half)))
			}
		}
		all = append(all, m)
	}
	return all
}

// awq makes a random symmetric matrix in the layout of AWQ.
func (w *twin) awq(name string, k, n int) *ops.Matrix {
	m := w.gptq(name, k, n, 4, 128)
	m.Layout = ops.AWQ
	return m
}

func TestSlabsHoldWhatTheCheckpointHas(t *testing.T) {
	w := newTwin(t, Options{})
	matrices := w.samples()
	if err := w.device.Place(context.Background(), ops.Weights{Matrices: matrices}, nil); err != nil {
		t.Fatal(err)
	}
	for _, m := range matrices {
		placed := w.device.matrices[m]
		if placed.slabs.data == 0 || placed.raw != (raw{}) {
			t.Errorf("%s is kept raw", m.Name)
			continue
		}
		sameSlabs(t, w.device, placed.slabs, func(slab, g int) (*ops.Matrix, int) { return m, slab*slabRows + g })
	}
}

func TestExpertsLieSideBySide(t *testing.T) {
	for _, kind := range []struct{ experts, shared int }{{4, 8}, {8, 4}} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			w := newTwin(t, Options{})
			mixture := ops.Mixture{Shared: w.expert("shared", 128, 256, kind.shared, 128)}
			for i := range 3 {
				mixture.Experts = append(mixture.Experts, w.expert(fmt.Sprint("expert ", i), 128, 128, kind.experts, 128))
			}
			if err := w.device.Place(context.Background(), mixtureWeights(mixture), nil); err != nil {
				t.Fatal(err)
			}
			placed := w.device.mixtures[mixture.Experts[0].Gate]
			if placed.weights != 0 || placed.hidden != 128 || placed.width != 128 || placed.inner != 256 || placed.count != 3 {
				t.Errorf("placed as %+v", placed)
			}
			check := func(s expertSlabs, i int, e ops.Expert) {
				s.gateUp.data += driver.Ptr(int64(i) * s.gateUpBytes)
				s.down.data += driver.Ptr(int64(i) * s.downBytes)
				sameSlabs(t, w.device, s.gateUp, func(slab, g int) (*ops.Matrix, int) {
					return []*ops.Matrix{e.Gate, e.Up}[g/8], slab*8 + g%8
				})
				sameSlabs(t, w.device, s.down, func(slab, g int) (*ops.Matrix, int) { return e.Down, slab*slabRows + g })
			}
			for i, e := range mixture.Experts {
				check(placed.experts, i, e)
			}
			check(placed.shared, 0, mixture.Shared)
		})
	}
}

// mixtureWeights lists the matrices of a mixture as a model does.
func mixtureWeights(m ops.Mixture) ops.Weights {
	w := ops.Weights{Mixtures: []ops.Mixture{m}}
	for _, e := range append([]ops.Expert{m.Shared}, m.Experts...) {
		w.Matrices = append(w.Matrices, e.Gate, e.Up, e.Down)
	}
	return w
}
