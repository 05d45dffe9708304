package cuda

import (
	"context"
	"errors"
	"math"
	"testing"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// moments are mean and deviation.
func moments(values []float32) (mean, deviation float64) {
	for _, v := range values {
		mean += float64(v) / float64(len(values))
	}
	for _, v := range values {
		deviation += (float64(v) - mean) * (float64(v) - mean) / float64(len(values))
	}
	return mean, math.Sqrt(deviation)
}

// emptied are weights without their data.
func emptied(w ops.Weights) ops.Weights {
	for _, m := range w.Matrices {
		m.Weight.Data, m.Scales.Data = nil, nil
	}
	for _, v := range w.Vectors {
		v.Source.Data = nil
	}
	return w
}

func TestMadeUpWeightsAreSane(t *testing.T) {
	for _, numerics := range []Numerics{Fast, Exact} {
		w := newTwin(t, Options{Numerics: numerics})
		all := emptied(w.some())
		all.Vectors[0].Name, all.Vectors[1].Name = "layers.0.linear_attn.A_log", "layers.0.linear_attn.norm.weight"
		if err := w.device.PlaceSynthetic(context.Background(), all, 7, nil); err != nil {
			t.Fatal(err)
		}
		// Whatever can be computed with: what a matrix does to inputs of size one.
		for _, m := range all.Matrices {
			placed, ok := w.device.matrices[m]
			if !ok {
				continue
			}
			var values []float32
			if placed.slabs.data != 0 {
				data := fetch(t, w.device, placed.slabs.data, placed.slabs.count*placed.slabs.stride)
				for slab := range placed.slabs.count {
					for g := range slabRows {
						row := slabRow(data, placed.slabs, slab, g, m.K)
						if slab*slabRows+g < m.N {
							values = append(values, row...)
							continue
						}
						for _, v := range row {
							if v != 0 {
								t.Fatalf("%s: a row past the last output holds %g", m.Name, v)
							}
						}
					}
				}
			} else {
				m.Weight.Data = fetch(t, w.device, placed.raw.words, int(storedBytes(m)[0]))
				if m.Layout != ops.Dense {
					m.Scales.Data = fetch(t, w.device, placed.raw.scales, int(storedBytes(m)[1]))
				}
				values = make([]float32, m.K*m.N)
				m.Tile(values, 0, m.K, 0, m.N)
			}
			want := 1 / math.Sqrt(float64(m.K))
			if m == all.Embed {
				want = 1
			}
			mean, deviation := moments(values)
			if math.Abs(mean) > want/4 || deviation < want/2 || deviation > want*2 {
				t.Errorf("%s: mean %g, deviation %g, expected about %g", m.Name, mean, deviation, want)
			}
		}
		for i, want := range [][2]float64{{1, 0.5}, {1, 0.1}, {0, 0.1}} {
			v := all.Vectors[i]
			v.Type, v.Source.Data = ops.F32, fetch(t, w.device, w.device.vectors[v], 4*v.N)
			values := make([]float32, v.N)
			v.Values(values)
			if mean, deviation := moments(values); math.Abs(mean-want[0]) > 0.1 || math.Abs(deviation-want[1]) > 0.05 {
				t.Errorf("%s: mean %g, deviation %g, expected %v", v.Name, mean, deviation, want)
			}
		}
	}
}

func TestMadeUpWeightsFollowTheirSeed(t *testing.T) {
	bytes := func(seed uint64) string {
		w := newTwin(t, Options{})
		all := emptied(w.some())
		done := int64(0)
		err := w.device.PlaceSynthetic(context.Background(), all, seed, func(n, total int64) {
			if done = n; n > total {
				t.Errorf("%d of %d bytes", n, total)
			}
		})
		if err != nil || done == 0 {
			t.Fatal(done, err)
		}
		a := w.device.weights[0]
		placed := fetch(t, w.device, a.base, int(a.used))
		for _, m := range w.device.mixtures { // tables hold addresses, which each arena has its own of
			if m.weights != 0 {
				clear(placed[m.weights-a.base:][:3*(m.count+1)*int(unsafe.Sizeof(kernels.Weight{}))])
			}
		}
		return string(placed)
	}
	first := bytes(1)
	if bytes(1) != first {
		t.Error("one seed gives two models")
	}
	if bytes(2) == first {
		t.Error("two seeds give one model")
	}
}

func TestMakingUpMayBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := newTwin(t, Options{})
	if err := w.device.PlaceSynthetic(ctx, emptied(w.some()), 1, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
