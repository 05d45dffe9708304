package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

var (
	mixtureFew  = mixtureShape{hidden: 128, width: 128, inner: 256, experts: 12, k: 3, bits: []int{4}, sharedBits: []int{8}, group: 128, renormalise: true}
	mixtureWide = mixtureShape{hidden: 640, width: 256, inner: 128, experts: 4, k: 2, bits: []int{8}, sharedBits: []int{4}, group: 128}
)

// prompt is a step of one prefill segment.
func prompt(rows int) *ops.Step {
	s := ops.Segment{Kind: ops.Prefill, Len: rows}
	for i := range (rows + ops.PageTokens - 1) / ops.PageTokens {
		s.Pages = append(s.Pages, int32(i))
	}
	return &ops.Step{IDs: make([]int32, rows), Segments: []ops.Segment{s}}
}

func TestPrefillExperts(t *testing.T) {
	for _, c := range []struct {
		name  string
		shape mixtureShape
		rows  []int
		large bool
	}{
		{"few", mixtureFew, []int{1, 7, 64, 100, 300}, false},
		{"dense", mixtureDense, []int{1, 70}, false},
		{"eight bits", mixtureWide, []int{3, 130}, false},
		{"model", mixtureModel, []int{1, 300, 2048, 3000}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !silicon() {
				t.Skip("as large as the model: on a device only")
			}
			w := newMixture(t, Fast, c.shape, slices.Max(c.rows))
			for _, rows := range c.rows {
				in := w.inputs(rows)
				w.run(in, prompt(rows))
				w.compare(in, rows, 2e-3) // both operands are fp16, and so are weights times their scale
			}
		})
	}
}

// All rows may choose the same experts, and most experts nobody.
func TestPrefillExpertsCrowded(t *testing.T) {
	const rows = 150
	w := newMixture(t, Fast, mixtureFew, rows)
	in := w.inputs(rows)
	for layer := range in.logits {
		for row := range rows {
			for rank := range w.k {
				in.logits[layer][row*w.experts+3*rank] = 100 - float32(rank)
			}
		}
	}
	w.run(in, prompt(rows))
	w.compare(in, rows, 2e-3)
}

// Rows may choose fewer experts, or no shared one, and a vector may be added.
func TestPrefillExpertsSteered(t *testing.T) {
	const rows = 90
	w := newMixture(t, Fast, mixtureFew, rows)
	in := w.inputs(rows)
	vector := make([]float32, w.hidden)
	for i := range vector {
		vector[i] = w.normal(1)(i)
	}
	step := prompt(rows)
	step.Segments[0].Steer = &ops.Steering{Layers: []ops.LayerSteering{
		{K: 2, Gate: -1},
		{K: 1, Gate: .5, Vector: vector, Strength: .25, Scale: []ops.ExpertValue{{Expert: 3, Value: 2}}},
	}}
	w.run(in, step)
	w.compare(in, rows, 2e-3)
}

// A row has the same bits in a prompt and in either half of it.
func TestPrefillExpertsAloneAsTogether(t *testing.T) {
	const rows = 140
	w := newMixture(t, Fast, mixtureFew, rows)
	in := w.inputs(rows)
	w.run(in, prompt(rows))
	_, together := w.live(w.x, rows, w.hidden)
	for _, part := range [][2]int{{0, 64}, {64, 71}, {71, rows}} {
		first, n := part[0], part[1]-part[0]
		some := w.inputs(n)
		copy(some.normed, in.normed[first*w.hidden:][:n*w.hidden])
		copy(some.x, in.x[first*w.hidden:][:n*w.hidden])
		copy(some.gate, in.gate[first:][:n])
		for layer := range some.logits {
			copy(some.logits[layer], in.logits[layer][first*w.experts:][:n*w.experts])
		}
		w.run(some, prompt(n))
		_, alone := w.live(w.x, n, w.hidden)
		for i, v := range alone {
			if math.Float32bits(v) != math.Float32bits(together[first*w.hidden+i]) {
				t.Fatalf("row %d, value %d is %g in rows %v and %g among all", first+i/w.hidden, i%w.hidden, v, part, together[first*w.hidden+i])
			}
		}
	}
}

// Taps of a prompt show what the CPU's show.
func TestPrefillExpertsTaps(t *testing.T) {
	const rows = 66
	w := newMixture(t, Fast, mixtureFew, rows)
	step, seen := prompt(rows), map[string][]float32{}
	step.Tap = func(layer int, what string, width int, data []float32) {
		key := fmt.Sprintf("%d %s %d", layer, what, width)
		if first, ok := seen[key]; !ok {
			seen[key] = slices.Clone(data)
		} else if d := far(first, data); !(d <= 2e-3) {
			t.Errorf("%s differs by %.3g", key, d)
		}
	}
	w.run(w.inputs(rows), step)
	if len(seen) != mixtureLayers*6 {
		t.Errorf("%d values were tapped", len(seen))
	}
}

// Places go by expert, then by row; rows that chose nothing have none.
func TestMoePlan(t *testing.T) {
	for _, c := range []struct{ rows, k, experts int }{
		{1, 1, 1}, {5, 3, 4}, {64, 2, 2}, {129, 10, 512}, {300, 4, 40}, {2048, 10, 512}, {1000, 16, 1024},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			s := newStand(t, 8<<20)
			n := c.rows * c.k
			chosen := make([]int32, n)
			for i := range chosen {
				// Few experts are popular; every ninth choice is none.
				chosen[i] = int32(s.random.ExpFloat64() * float64(c.experts) / 4)
				if i%9 == 8 || int(chosen[i]) >= c.experts {
					chosen[i] = -1
				}
			}
			m := &moe{experts: &experts{ExpertsArgs: ops.ExpertsArgs{K: c.k}, mixture: &mixture{count: c.experts}}}
			most := m.tiles(c.rows)
			args := kernels.MoePlanArgs{
				Chosen: uint64(put(s, chosen)), Place: uint64(put(s, make([]int32, n))), Source: uint64(put(s, make([]int32, n+c.rows))),
				Tiles: uint64(put(s, make([]kernels.MoeTile, most))), Count: uint64(put(s, []uint32{0})),
				Rows: uint32(c.rows), K: uint32(c.k), Experts: uint32(c.experts),
			}
			shared := planShared(c.experts)
			k := find[kernels.MoePlanArgs](s.r, "rh_moe_plan", shared)
			s.launch(pass{}, func(p *pass) error { return k.launch(p, driver.Dim{1}, driver.Dim{1024}, shared, args) })

			place, source := get[int32](s, driver.Ptr(args.Place), n), get[int32](s, driver.Ptr(args.Source), n+c.rows)
			count := int(get[uint32](s, driver.Ptr(args.Count), 1)[0])
			if count > most {
				t.Fatalf("%d tiles, at most %d were expected", count, most)
			}
			tiles := get[kernels.MoeTile](s, driver.Ptr(args.Tiles), count)
			var order []int // assignments as their places should have them
			for expert := range c.experts {
				for i, id := range chosen {
					if int(id) == expert {
						order = append(order, i)
					}
				}
			}
			for at, i := range order {
				if int(place[i]) != at || int(source[at]) != i/c.k {
					t.Fatalf("choice %d has place %d of row %d, should have %d", i, place[i], source[at], at)
				}
			}
			for i, id := range chosen {
				if id < 0 && place[i] != -1 {
					t.Fatalf("choice %d, of nothing, has place %d", i, place[i])
				}
			}
			for row := range c.rows {
				if int(source[n+row]) != row {
					t.Fatalf("row %d of the shared expert is %d", row, source[n+row])
				}
			}
			covered := make([]int, n+c.rows)
			for _, tile := range tiles {
				if tile.Count < 1 || tile.Count > gemmTokens {
					t.Fatalf("tile %+v", tile)
				}
				for at := tile.First; at < tile.First+tile.Count; at++ {
					covered[at]++
					if int(at) < n && chosen[order[at]] != tile.Expert || int(at) >= n && int(tile.Expert) != c.experts {
						t.Fatalf("place %d is in tile %+v", at, tile)
					}
				}
			}
			for at, times := range covered {
				if want := at < len(order) || at >= n; want != (times == 1) {
					t.Fatalf("place %d is in %d tiles", at, times)
				}
			}
		})
	}
}

// The choice of experts and the experts of two layers.
func BenchmarkPrefillExperts(b *testing.B) {
	if !silicon() {
		b.Skip("on a device only")
	}
	for _, rows := range []int{64, 512, 2048} {
		w := newMixture(b, Fast, mixtureModel, rows)
		w.run(w.inputs(rows), prompt(rows))
		b.Run(fmt.Sprintf("%d rows", rows), func(b *testing.B) {
			for b.Loop() {
				run(b, w.onDevice, prompt(rows))
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/mixtureLayers*48, "ms/48layers")
		})
	}
}
