package cuda

import (
	"fmt"
	"math"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// mixtureShape is the experts of a layer. One whose experts have several bits is for
// generic kernels.
type mixtureShape struct {
	hidden, width, inner int
	experts, k           int
	bits, sharedBits     []int // 16: dense
	group                int
	renormalise          bool
}

var (
	mixtureOdd   = mixtureShape{hidden: 72, width: 40, inner: 24, experts: 9, k: 3, bits: []int{4, 8, 16}, sharedBits: []int{8}, group: 8, renormalise: true}
	mixtureLow   = mixtureShape{hidden: 96, width: 32, inner: 64, experts: 5, k: 5, bits: []int{2, 3}, sharedBits: []int{3}, group: 32}
	mixtureSmall = mixtureShape{hidden: 256, width: 128, inner: 256, experts: 40, k: 4, bits: []int{4}, sharedBits: []int{8}, group: 128, renormalise: true}
	mixtureDense = mixtureShape{hidden: 128, width: 64, inner: 64, experts: 6, k: 2, bits: []int{16}, sharedBits: []int{16}}
	mixtureEight = mixtureShape{hidden: 1152, width: 384, inner: 128, experts: 4, k: 2, bits: []int{8}, sharedBits: []int{4}, group: 128}
	mixtureModel = mixtureShape{hidden: 2048, width: 512, inner: 512, experts: 512, k: 10, bits: []int{4}, sharedBits: []int{8}, group: 128, renormalise: true}
)

const mixtureLayers = 2

// mixtureTwin is a program of two layers, each a choice and its experts, on both
// sides.
type mixtureTwin struct {
	*twin
	mixtureShape
	rows                int
	normed, gate, x     pair
	logits, weights     [mixtureLayers]pair
	ids                 [mixtureLayers]pair
	half                ops.Buf // companion of normed on the device
	onHost, onDevice    ops.Program
	routes, deviceRoute ops.Routes
}

// ints makes a buffer of integers on both sides.
func (w *twin) ints(n int) (p pair) {
	w.Helper()
	var err error
	p.cpu, err = w.hosts.Alloc("test", ops.I32, int64(n))
	w.check(err)
	p.device, err = w.arena.Alloc("test", ops.I32, int64(n))
	w.check(err)
	return p
}

// some makes one of the experts: of 16 bits it is dense.
func (s *mixtureShape) some(w *twin, name string, width, bits int) ops.Expert {
	if bits == 16 {
		return ops.Expert{Gate: w.dense(name+".gate", s.hidden, width), Up: w.dense(name+".up", s.hidden, width), Down: w.dense(name+".down", width, s.hidden)}
	}
	return w.expert(name, s.hidden, width, bits, s.group)
}

// weightsOf makes the mixture of a layer. Of many experts the bytes repeat.
func (s *mixtureShape) weightsOf(w *twin, layer int) (m ops.Mixture, all []*ops.Matrix) {
	const distinct = 16
	for i := range s.experts {
		var e ops.Expert
		if i < distinct {
			e = s.some(w, fmt.Sprintf("%d.%d", layer, i), s.width, s.bits[i%len(s.bits)])
		} else {
			like := m.Experts[i%distinct]
			gate, up, down := *like.Gate, *like.Up, *like.Down
			e = ops.Expert{Gate: &gate, Up: &up, Down: &down}
		}
		m.Experts = append(m.Experts, e)
		all = append(all, e.Gate, e.Up, e.Down)
	}
	m.Shared = s.some(w, fmt.Sprintf("%d.shared", layer), s.inner, s.sharedBits[0])
	return m, append(all, m.Shared.Gate, m.Shared.Up, m.Shared.Down)
}

func newMixture(t testing.TB, n Numerics, shape mixtureShape, rows int) *mixtureTwin {
	t.Helper()
	w := &mixtureTwin{twin: newTwin(t, Options{Numerics: n, Streams: decodeRows}), mixtureShape: shape, rows: rows}
	w.arenas(int64(4*rows*(2*shape.hidden+2*(shape.experts+2*shape.k)+8)) + 1<<16)
	w.normed, w.x, w.gate = w.buf(rows*shape.hidden, nil), w.buf(rows*shape.hidden, nil), w.buf(rows, nil)
	var weights ops.Weights
	for layer := range mixtureLayers {
		w.logits[layer], w.weights[layer], w.ids[layer] = w.buf(rows*shape.experts, nil), w.buf(rows*shape.k, nil), w.ints(rows*shape.k)
		m, all := shape.weightsOf(w.twin, layer)
		weights.Mixtures, weights.Matrices = append(weights.Mixtures, m), append(weights.Matrices, all...)
	}
	w.place(weights)
	w.onHost, w.onDevice = w.record(rows, func(set ops.Set, device bool) error {
		if r, ok := set.(*recorder); ok {
			r.reads, r.pages = true, rows/ops.PageTokens+1
			if w.device.fast {
				w.half = ops.Buf{Addr: uintptr(r.half(w.normed.device)), Len: w.normed.device.Len, Type: ops.F16}
			}
		}
		for layer := range mixtureLayers {
			m := weights.Mixtures[layer]
			set.Select(ops.SelectArgs{Layer: layer, Logits: w.logits[layer].of(device), Experts: shape.experts, K: shape.k,
				Renormalise: shape.renormalise, IDs: w.ids[layer].of(device), Weights: w.weights[layer].of(device)})
			set.Experts(ops.ExpertsArgs{Layer: layer, Normed: w.normed.of(device), IDs: w.ids[layer].of(device), Weights: w.weights[layer].of(device),
				K: shape.k, Experts: m.Experts, Gate: w.gate.of(device), Shared: m.Shared, X: w.x.of(device)})
		}
		return nil
	})
	return w
}

// inputs of some rows; those behind them are NaN.
type mixtureInputs struct {
	normed, x, gate []float32
	logits          [mixtureLayers][]float32
}

func (w *mixtureTwin) inputs(rows int) (in mixtureInputs) {
	some := func(n, width int, scale float64) []float32 {
		values := make([]float32, n*width)
		for i := range values {
			values[i] = float32(math.NaN())
			if i < rows*width {
				values[i] = w.normal(scale)(i)
			}
		}
		return values
	}
	in.normed, in.x, in.gate = some(w.rows, w.hidden, 1), some(w.rows, w.hidden, 1), some(w.rows, 1, 1)
	for i, v := range in.normed { // as half activations can hold them
		in.normed[i] = drivertest.FromActivation(drivertest.ToActivation(v))
	}
	for layer := range in.logits {
		in.logits[layer] = some(w.rows, w.experts, 2)
	}
	return in
}

// run runs a step on both sides from the inputs. Both have their routing recorded.
func (w *mixtureTwin) run(in mixtureInputs, step *ops.Step) {
	w.Helper()
	w.write(w.normed, in.normed)
	w.write(w.x, in.x)
	w.write(w.gate, in.gate)
	for layer := range in.logits {
		w.write(w.logits[layer], in.logits[layer])
	}
	if w.device.fast {
		halves := make([]uint16, len(in.normed))
		for i, v := range in.normed {
			halves[i] = drivertest.ToActivation(v)
		}
		w.check(w.device.Write(w.half, bytesOf(halves)))
	}
	step.Routes = &w.routes
	run(w, w.onHost, step)
	step.Routes = &w.deviceRoute
	run(w, w.onDevice, step)
}

// live are the first rows of a buffer on both sides.
func (w *mixtureTwin) live(p pair, rows, width int) (host, device []float32) {
	w.Helper()
	host, device = w.read(p)
	return host[:rows*width], device[:rows*width]
}

// compare checks residual and routing of the first rows against the CPU's.
func (w *mixtureTwin) compare(in mixtureInputs, rows int, bound float64) {
	w.Helper()
	host, device := w.live(w.x, rows, w.hidden)
	for i := range host { // what the layers added
		host[i], device[i] = host[i]-in.x[i], device[i]-in.x[i]
	}
	if d := far(host, device); !(d <= bound) {
		w.Errorf("residual: device and CPU differ by %.3g of the largest change, more than %.3g", d, bound)
	}
	a, b := w.routes, w.deviceRoute
	if a.Layers != b.Layers || a.K != b.K || len(b.IDs) != rows*mixtureLayers*w.k {
		w.Fatalf("routes of %d layers, %d experts, %d in all; the CPU has %d, %d", b.Layers, b.K, len(b.IDs), a.Layers, a.K)
	}
	for i, id := range a.IDs {
		if b.IDs[i] != id {
			w.Fatalf("choice %d of rank %d is expert %d, on the CPU %d", i/w.k, i%w.k, b.IDs[i], id)
		}
	}
	if d := far(a.Weights, b.Weights); !(d <= 1e-6) {
		w.Errorf("weights of the routing record differ by %.3g", d)
	}
}

// singles is a decode step of so many rows, each a sequence of its own.
func singles(rows int) *ops.Step {
	lengths := make([]int, rows)
	for i := range lengths {
		lengths[i] = 1
	}
	step := decodes(rows, lengths...)
	for i := range step.Segments {
		step.Segments[i].Logits = nil
	}
	return step
}

func TestExperts(t *testing.T) {
	for _, c := range []struct {
		name     string
		numerics Numerics
		shape    mixtureShape
		rows     []int
		bound    float64
		large    bool
	}{
		{"odd", Exact, mixtureOdd, []int{1, 3, 64}, 2e-6, false},
		{"few bits", Exact, mixtureLow, []int{2}, 2e-6, false},
		{"odd, fast", Fast, mixtureOdd, []int{2}, 2e-6, false},
		{"small, exact", Exact, mixtureSmall, []int{1, 5}, 2e-6, false},
		{"small", Fast, mixtureSmall, []int{1, 3, 8, 64}, 1e-3, false},
		{"dense", Fast, mixtureDense, []int{1, 7}, 4e-3, false},
		{"eight bits", Fast, mixtureEight, []int{1, 2}, 1e-3, false},
		{"model", Fast, mixtureModel, []int{1, 2, 8, 63, 64}, 1e-3, true},
		{"model, exact", Exact, mixtureModel, []int{1, 4}, 5e-6, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !silicon() {
				t.Skip("as large as the model: on a device only")
			}
			w := newMixture(t, c.numerics, c.shape, decodeRows)
			for _, rows := range c.rows {
				in := w.inputs(rows)
				w.run(in, singles(rows))
				w.compare(in, rows, c.bound)
			}
		})
	}
}

// Rows of a prefill segment, in tiles.
func TestExpertsPrefillExact(t *testing.T) {
	const rows = 70
	w := newMixture(t, Exact, mixtureOdd, 100)
	in := w.inputs(rows)
	w.run(in, &ops.Step{IDs: make([]int32, rows), Segments: []ops.Segment{{Kind: ops.Prefill, Len: rows, Pages: []int32{0, 1}}}})
	w.compare(in, rows, 2e-6)
}

// A row has the same bits alone and among others.
func TestExpertsAloneAsTogether(t *testing.T) {
	for _, n := range []Numerics{Exact, Fast} {
		const rows = 9
		w := newMixture(t, n, mixtureSmall, decodeRows)
		in := w.inputs(rows)
		w.run(in, singles(rows))
		_, together := w.live(w.x, rows, w.hidden)
		for _, row := range []int{0, 4, rows - 1} {
			one := w.inputs(1)
			copy(one.normed, in.normed[row*w.hidden:][:w.hidden])
			copy(one.x, in.x[row*w.hidden:][:w.hidden])
			one.gate[0] = in.gate[row]
			for layer := range one.logits {
				copy(one.logits[layer], in.logits[layer][row*w.experts:][:w.experts])
			}
			w.run(one, singles(1))
			_, alone := w.live(w.x, 1, w.hidden)
			for i, v := range alone {
				if math.Float32bits(v) != math.Float32bits(together[row*w.hidden+i]) {
					t.Fatalf("%s: row %d, value %d is %g alone and %g among %d rows", n, row, i, v, together[row*w.hidden+i], rows)
				}
			}
		}
	}
}

// Taps show what the CPU's show, and change nothing.
func TestExpertsTaps(t *testing.T) {
	for _, c := range []struct {
		numerics Numerics
		bound    float64
	}{{Exact, 2e-6}, {Fast, 1e-3}} {
		const rows = 3
		w := newMixture(t, c.numerics, mixtureSmall, decodeRows)
		in := w.inputs(rows)
		w.run(in, singles(rows))
		_, plain := w.live(w.x, rows, w.hidden)
		step := singles(rows)
		seen := map[string][]float32{}
		order := [2][]string{}
		calls := 0
		step.Tap = func(layer int, what string, width int, data []float32) {
			key := fmt.Sprintf("%d %s %d", layer, what, width)
			if first, ok := seen[key]; ok {
				if d := far(first, data); !(d <= c.bound) {
					t.Errorf("%s: %s differs by %.3g", c.numerics, key, d)
				}
				order[1] = append(order[1], key)
			} else {
				seen[key] = append([]float32(nil), data...)
				order[0] = append(order[0], key)
			}
			calls++
		}
		w.run(in, step)
		if calls != 2*mixtureLayers*6 || fmt.Sprint(order[0]) != fmt.Sprint(order[1]) {
			t.Errorf("%s: the CPU taps %v, the device %v", c.numerics, order[0], order[1])
		}
		_, tapped := w.live(w.x, rows, w.hidden)
		if far(plain, tapped) != 0 {
			t.Errorf("%s: a tap changes the residual", c.numerics)
		}
	}
}
