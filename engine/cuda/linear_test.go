package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// linearTwin runs phases of this family on both sides.
type linearTwin struct{ *twin }

func newLinearTwin(t testing.TB, n Numerics) linearTwin {
	t.Helper()
	w := linearTwin{newTwin(t, Options{Numerics: n, Streams: decodeRows})}
	w.arenas(64 << 20)
	return w
}

// phase records one phase for steps of up to so many rows.
func (w linearTwin) phase(rows int, build func(set ops.Set, device bool)) (host, device ops.Program) {
	w.Helper()
	return w.record(rows, func(set ops.Set, device bool) error {
		if r, ok := set.(*recorder); ok {
			r.reads, r.pages = true, (rows+ops.PageTokens-1)/ops.PageTokens
		}
		build(set, device)
		return nil
	})
}

// linearStep is a step of decode rows and prefill segments: of each as many tokens.
// Every row's logits are wanted, those of the first twice where there is room.
func linearStep(decode int, prefill ...int) *ops.Step {
	step := &ops.Step{}
	add := func(kind ops.SegmentKind, n int) {
		s := ops.Segment{Kind: kind, Slot: len(step.Segments), Len: n, Pages: make([]int32, (n+ops.PageTokens-1)/ops.PageTokens)}
		if len(step.Segments) == 0 && decode < decodeRows {
			s.Logits = []int{0}
		}
		for i := range n {
			step.IDs = append(step.IDs, int32(3*len(step.IDs)%7))
			s.Logits = append(s.Logits, i)
		}
		step.Segments = append(step.Segments, s)
	}
	for range decode {
		add(ops.Decode, 1)
	}
	for _, n := range prefill {
		add(ops.Prefill, n)
	}
	return step
}

// linearRows is the most rows of linearSteps.
const linearRows = 16

// linearSteps cover one row, several with dead ones beside them, a full bucket,
// and prefill beyond a block of rows. Steps of several passes are for phases whose
// results find their own place: logits.
func linearSteps() map[string]*ops.Step {
	return map[string]*ops.Step{
		"one row": linearStep(1), "dead rows": linearStep(5), "full bucket": linearStep(8),
		"prefill": linearStep(0, 11), "prefill of one": linearStep(0, 1),
	}
}

// each runs the steps on both sides, after fresh, and compares what comes out: the
// rows that hold something, by the width of the buffer, or rows of logits.
func (w linearTwin) each(steps map[string]*ops.Step, host, device ops.Program, bound float64, fresh func(), out map[string]rowsOf) {
	w.Helper()
	for what, step := range steps {
		if fresh != nil {
			fresh()
		}
		run(w, host, step)
		run(w, device, step)
		for name, p := range out {
			n := step.Rows()
			if name == "logits" {
				n = step.LogitsRows()
			}
			values := int64(n * p.width)
			w.near(what+": "+name, pair{p.cpu.Slice(0, values), p.device.Slice(0, values)}, bound)
		}
	}
}

// rowsOf is a buffer of rows so many values wide.
type rowsOf struct {
	pair
	width int
}

// grouped makes a copy of a packed matrix whose inputs belong to groups in another
// order.
func grouped(m *ops.Matrix) *ops.Matrix {
	other := *m
	groups := make([]int32, m.K)
	for k := range groups {
		groups[k] = int32(k * 5 % m.K / m.Group)
	}
	other.Name, other.GroupOf = m.Name+".g_idx", ops.Extent{Data: bytesOf(groups)}
	return &other
}

// asymmetric makes a copy of a packed matrix with random stored zeros.
func (w linearTwin) asymmetric(m *ops.Matrix, z ops.Zeros) *ops.Matrix {
	other := *m
	words := make([]uint32, m.Groups()*m.N*m.Bits/32)
	for i := range words {
		words[i] = w.random.Uint32()
	}
	other.Name, other.Zeros, other.QZeros = m.Name+"."+z.String(), z, ops.Extent{Data: bytesOf(words)}
	return &other
}

// floating makes a dense matrix of another type.
func (w linearTwin) floating(name string, k, n int, t ops.Type) *ops.Matrix {
	m := &ops.Matrix{Name: name, K: k, N: n, Layout: ops.Dense, Type: t, Bits: 8 * int(t.Size())}
	values, halves := make([]float32, k*n), make([]uint16, k*n)
	for i := range values {
		values[i] = float32(w.random.NormFloat64() / math.Sqrt(float64(k)))
		halves[i] = drivertest.RoundHalf(values[i])
	}
	m.Weight.Data = bytesOf(values)
	if t == ops.F16 {
		m.Weight.Data = bytesOf(halves)
	}
	return m
}

// everyLayout is a matrix of each layout that a checkpoint may hold.
func (w linearTwin) everyLayout(k int) []*ops.Matrix {
	const n, group = 32, 32
	four := w.gptq("four", k, n, 4, group)
	awq := *four
	awq.Name, awq.Layout = "awq", ops.AWQ
	return []*ops.Matrix{
		w.gptq("two", k, n, 2, group), w.gptq("three", k, n, 3, group), w.gptq("narrow", k, 24, 4, k), w.gptq("eight", k, 40, 8, group),
		four, &awq, w.asymmetric(four, ops.Stored), w.asymmetric(&awq, ops.StoredMinusOne),
		w.asymmetric(w.gptq("three", k, n, 3, group), ops.StoredMinusOne), grouped(four),
		w.dense("bfloat", k, 7), w.floating("half", k, 33, ops.F16), w.floating("single", k, 5, ops.F32),
	}
}

func width(weights []*ops.Matrix) (n int) {
	for _, w := range weights {
		n += w.N
	}
	return n
}

func TestMixerInMultipliesEveryLayout(t *testing.T) {
	// Bounds: sums of 96 products in another order; activations of 11 bits.
	for _, c := range []struct {
		numerics Numerics
		k        int
		weights  func(w linearTwin) []*ops.Matrix
		bound    float64
	}{
		{Exact, 96, func(w linearTwin) []*ops.Matrix { return w.everyLayout(96) }, 3e-6},
		{Exact, 50, func(w linearTwin) []*ops.Matrix { return []*ops.Matrix{w.dense("odd", 50, 9)} }, 3e-6},
		{Fast, 256, func(w linearTwin) []*ops.Matrix {
			return []*ops.Matrix{w.gptq("four", 256, 40, 4, 128), w.gptq("eight", 256, 8, 8, 128), w.dense("sixteen", 256, 33)}
		}, 1e-3},
		{Fast, 128, func(w linearTwin) []*ops.Matrix {
			return []*ops.Matrix{w.gptq("raw", 128, 40, 4, 32), w.gptq("slabs", 128, 24, 4, 128), w.dense("more", 128, 16), w.gptq("8", 128, 8, 8, 128), w.gptq("fourth", 128, 8, 4, 128)}
		}, 1e-3},
		// More blocks of a part of K than are on their way at a time, in parts of two sizes.
		{Fast, 4480, func(w linearTwin) []*ops.Matrix {
			return []*ops.Matrix{w.gptq("four", 4480, 40, 4, 128), w.gptq("eight", 4480, 8, 8, 128), w.dense("sixteen", 4480, 17)}
		}, 1e-3},
		{Fast, 320, func(w linearTwin) []*ops.Matrix { return []*ops.Matrix{w.dense("half a group", 320, 24)} }, 1e-3},
	} {
		t.Run(fmt.Sprint(c.numerics, c.k), func(t *testing.T) {
			w := newLinearTwin(t, c.numerics)
			weights, norm := c.weights(w), w.vector("norm", c.k, 0, .3)
			w.place(ops.Weights{Matrices: weights, Vectors: []*ops.Vector{norm}})
			x, out := w.buf(linearRows*c.k, w.normal(3)), w.buf(linearRows*width(weights), nil)
			host, device := w.phase(linearRows, func(set ops.Set, on bool) {
				set.MixerIn(ops.MixerInArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Weights: weights, Out: out.of(on)})
			})
			w.each(linearSteps(), host, device, c.bound, nil, map[string]rowsOf{"out": {out, width(weights)}})
		})
	}
}

func TestMixerOutAddsToTheResidual(t *testing.T) {
	for numerics, bound := range map[Numerics]float64{Exact: 2e-6, Fast: 1e-3} {
		t.Run(string(numerics), func(t *testing.T) {
			w := newLinearTwin(t, numerics)
			const k, n = 256, 72
			weight, norm := w.gptq("out", k, n, 4, 128), w.vector("norm", k, 0, .3)
			first := w.dense("first", k, k)
			w.place(ops.Weights{Matrices: []*ops.Matrix{weight, first}, Vectors: []*ops.Vector{norm}})
			x, in := w.buf(linearRows*n, nil), w.buf(linearRows*k, nil)
			// The router writes its normed rows with their half activations.
			from, logits, gate := w.buf(linearRows*k, w.normal(1)), w.buf(linearRows*k, nil), w.buf(linearRows*k, nil)
			host, device := w.phase(linearRows, func(set ops.Set, on bool) {
				set.Router(ops.RouterArgs{X: from.of(on), Norm: norm, Eps: 1e-6, Router: first, Shared: first,
					Normed: in.of(on), Logits: logits.of(on), Gate: gate.of(on)})
				set.MixerOut(ops.MixerOutArgs{In: in.of(on), W: weight, X: x.of(on)})
			})
			residual := make([]float32, linearRows*n)
			for i := range residual {
				residual[i] = float32(w.random.NormFloat64())
			}
			w.each(linearSteps(), host, device, bound, func() { w.write(x, residual) }, map[string]rowsOf{"x": {x, n}})
		})
	}
}

// Router logits are as good as of fp32 inputs in fast numerics too.
func TestRouterKeepsTwentyBits(t *testing.T) {
	for _, numerics := range []Numerics{Exact, Fast} {
		t.Run(string(numerics), func(t *testing.T) {
			w := newLinearTwin(t, numerics)
			const k, experts = 192, 40
			router, shared, norm := w.dense("router", k, experts), w.dense("shared", k, 1), w.vector("norm", k, 0, .3)
			w.place(ops.Weights{Matrices: []*ops.Matrix{router, shared}, Vectors: []*ops.Vector{norm}})
			x, normed := w.buf(linearRows*k, w.normal(100)), w.buf(linearRows*k, nil)
			logits, gate := w.buf(linearRows*experts, nil), w.buf(linearRows, nil)
			host, device := w.phase(linearRows, func(set ops.Set, on bool) {
				set.Router(ops.RouterArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Router: router, Shared: shared,
					Normed: normed.of(on), Logits: logits.of(on), Gate: gate.of(on)})
			})
			w.each(linearSteps(), host, device, 2e-6, nil, map[string]rowsOf{"normed": {normed, k}, "router logits": {logits, experts}, "gate": {gate, 1}})
		})
	}
}

func TestLogitsOfTheRowsThatAreWanted(t *testing.T) {
	const k, vocabulary, rows = 128, 136, 80
	for numerics, bound := range map[Numerics]float64{Exact: 2e-6, Fast: 1e-3} {
		t.Run(string(numerics), func(t *testing.T) {
			w := newLinearTwin(t, numerics)
			table, head, norm := w.dense("embed", k, 9), w.dense("lm_head", k, vocabulary), w.vector("norm", k, 0, .3)
			w.place(ops.Weights{Matrices: []*ops.Matrix{table, head}, Vectors: []*ops.Vector{norm}})
			x, hidden, logits := w.buf(rows*k, nil), w.buf(rows*k, nil), w.buf(rows*vocabulary, nil)
			host, device := w.phase(rows, func(set ops.Set, on bool) {
				set.Embed(ops.EmbedArgs{Table: table, X: x.of(on)})
				set.Logits(ops.LogitsArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Head: head, Hidden: hidden.of(on), Logits: logits.of(on)})
			})
			some := linearStep(3, 20, 9)
			some.Segments[1].Logits, some.Segments[3].Logits, some.Segments[4].Logits = nil, []int{19}, []int{0, 4, 4}
			w.each(map[string]*ops.Step{
				"some": some, "none": {IDs: make([]int32, 9), Segments: []ops.Segment{{Kind: ops.Prefill, Len: 9, Pages: []int32{0}}}},
				"more than a launch takes": linearStep(0, 79), "several passes": linearStep(5, 4, 9),
			}, host, device, bound, nil, map[string]rowsOf{"logits": {logits, vocabulary}})
			w.each(map[string]*ops.Step{"prefill": linearStep(0, 50)}, host, device, 1e-6, nil, map[string]rowsOf{"hidden": {hidden, k}})
		})
	}
}

// A step block holds so many rows of logits and no more.
func TestMoreLogitsThanADecodePassHoldsAreRefused(t *testing.T) {
	w := newLinearTwin(t, Exact)
	head, norm := w.dense("lm_head", 8, 8), w.vector("norm", 8, 0, .3)
	w.place(ops.Weights{Matrices: []*ops.Matrix{head}, Vectors: []*ops.Vector{norm}})
	x, hidden, logits := w.buf(linearRows*8, nil), w.buf(linearRows*8, nil), w.buf(100*8, nil)
	_, device := w.phase(linearRows, func(set ops.Set, on bool) {
		set.Logits(ops.LogitsArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Head: head, Hidden: hidden.of(on), Logits: logits.of(on)})
	})
	step := linearStep(1)
	step.Segments[0].Logits = make([]int, decodeRows+1)
	if _, err := device.Submit(step); err == nil {
		t.Error("a decode pass with 65 rows of logits was taken")
	}
}

func TestEmbedFindsRowsAndDrawnTokens(t *testing.T) {
	for _, c := range []struct {
		numerics Numerics
		table    func(w linearTwin) *ops.Matrix
	}{
		{Exact, func(w linearTwin) *ops.Matrix { return w.dense("embed", 50, 23) }},
		{Exact, func(w linearTwin) *ops.Matrix { return w.floating("embed", 50, 23, ops.F32) }},
		{Exact, func(w linearTwin) *ops.Matrix { return w.floating("embed", 50, 23, ops.F16) }},
		{Fast, func(w linearTwin) *ops.Matrix { return w.floating("embed", 128, 23, ops.F16) }},
	} {
		w := newLinearTwin(t, c.numerics)
		table := c.table(w)
		w.place(ops.Weights{Matrices: []*ops.Matrix{table}})
		x := w.buf(linearRows*table.K, nil)
		host, device := w.phase(linearRows, func(set ops.Set, on bool) { set.Embed(ops.EmbedArgs{Table: table, X: x.of(on)}) })
		w.each(linearSteps(), host, device, 0, nil, map[string]rowsOf{"x": {x, table.K}})

		drawn := []int32{22, -1, 23}
		w.check(w.device.Write(ops.Buf{Addr: uintptr(w.device.drawn), Len: 3, Type: ops.I32}, bytesOf(drawn)))
		step := linearStep(4)
		step.IDs = []int32{ops.Drawn(1), ops.Drawn(0), 22, ops.Drawn(2)}
		run(t, device, step)
		_, got := w.read(x)
		row := func(i int) []float32 { return got[i*table.K:][:table.K] }
		if !slices.Equal(row(1), row(2)) || far(row(2), make([]float32, table.K)) == 0 {
			t.Errorf("%v: the token drawn is not the row of its id", c.numerics)
		}
		if zeros := make([]float32, table.K); !slices.Equal(row(0), zeros) || !slices.Equal(row(3), zeros) {
			t.Errorf("%v: a row without a token is not zeros", c.numerics)
		}
	}
}

func TestDraftInJoinsEmbeddingAndHiddenState(t *testing.T) {
	for numerics, bound := range map[Numerics]float64{Exact: 3e-6, Fast: 1e-3} {
		t.Run(string(numerics), func(t *testing.T) {
			w := newLinearTwin(t, numerics)
			const hidden, vocabulary = 64, 9
			table, fc, head := w.dense("embed", hidden, vocabulary), w.dense("fc", 2*hidden, hidden), w.dense("head", hidden, vocabulary)
			left, right := w.vector("left", hidden, 0, .3), w.vector("right", hidden, 0, .3)
			w.place(ops.Weights{Matrices: []*ops.Matrix{table, fc, head}, Vectors: []*ops.Vector{left, right}})
			x, normed, logits := w.buf(linearRows*hidden, nil), w.buf(linearRows*hidden, nil), w.buf(2*linearRows*vocabulary, nil)
			host, device := w.phase(linearRows, func(set ops.Set, on bool) {
				set.DraftIn(ops.DraftInArgs{Table: table, EmbedNorm: left, HiddenNorm: right, Eps: 1e-6, FC: fc, X: x.of(on)})
				set.Logits(ops.LogitsArgs{X: x.of(on), Norm: left, Eps: 1e-6, Head: head, Hidden: normed.of(on), Logits: logits.of(on)})
			})
			steps := linearSteps()
			steps["several passes"] = linearStep(2, 4, 9)
			slices.Reverse(steps["several passes"].Segments) // prefill rows come first, but for the device
			for _, step := range steps {
				step.Hidden = make([]float32, step.Rows()*hidden)
				for i := range step.Hidden {
					step.Hidden[i] = float32(w.random.NormFloat64())
				}
			}
			w.each(steps, host, device, 3*bound, nil, map[string]rowsOf{"logits": {logits, vocabulary}})
			delete(steps, "several passes")
			w.each(steps, host, device, bound, nil, map[string]rowsOf{"x": {x, hidden}})
		})
	}
}

// A row's bits depend neither on the number of rows nor on where it stands, nor on
// which launch norms it.
func TestRowsOfDecodeKeepTheirBits(t *testing.T) {
	for numerics, k := range map[Numerics]int{Exact: 384, Fast: 4480} {
		w := newLinearTwin(t, numerics)
		weights, norm := []*ops.Matrix{w.gptq("four", k, 24, 4, 128), w.gptq("eight", k, 16, 8, 128), w.dense("sixteen", k, 9)}, w.vector("norm", k, 0, .3)
		router, shared := w.dense("router", k, 8), w.dense("shared", k, 1)
		w.place(ops.Weights{Matrices: append(weights, router, shared), Vectors: []*ops.Vector{norm}})
		n := width(weights)
		x, out := w.buf(decodeRows*k, nil), w.buf(decodeRows*n, nil)
		normed, logits, gate := w.buf(decodeRows*k, nil), w.buf(decodeRows*8, nil), w.buf(decodeRows, nil)
		_, device := w.phase(decodeRows, func(set ops.Set, on bool) {
			set.MixerIn(ops.MixerInArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Weights: weights, Out: out.of(on)})
			set.Router(ops.RouterArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Router: router, Shared: shared,
				Normed: normed.of(on), Logits: logits.of(on), Gate: gate.of(on)})
		})
		row := make([]float32, k)
		for i := range row {
			row[i] = float32(w.random.NormFloat64())
		}
		results := map[string]rowsOf{"out": {out, n}, "normed": {normed, k}, "logits": {logits, 8}, "gate": {gate, 1}}
		want := map[string][]float32{}
		for _, rows := range []int{1, 2, 7, 16, 31, 64} {
			values := make([]float32, decodeRows*k)
			for i := range values {
				values[i] = float32(w.random.NormFloat64())
			}
			copy(values[(rows-1)*k:], row)
			w.write(x, values)
			run(t, device, linearStep(rows))
			for name, p := range results {
				_, got := w.read(p.pair)
				got = got[(rows-1)*p.width:][:p.width]
				if want[name] == nil {
					want[name] = got
				}
				if !slices.Equal(want[name], got) {
					t.Errorf("%v: %s: the last of %d rows has other bits than the row alone", numerics, name, rows)
				}
			}
		}
	}
}

// seen is what a tap saw.
type seen struct {
	layer, width int
	what         string
	data         []float32
}

func TestTapsShowWhatTheCPUShows(t *testing.T) {
	const k, experts, vocabulary = 64, 8, 24
	for numerics, bound := range map[Numerics]float64{Exact: 1e-5, Fast: 5e-3} {
		w := newLinearTwin(t, numerics)
		table, out, router, shared, head := w.dense("embed", k, 9), w.dense("out", k, k), w.dense("router", k, experts), w.dense("shared", k, 1), w.dense("head", k, vocabulary)
		norm := w.vector("norm", k, 0, .3)
		w.place(ops.Weights{Matrices: []*ops.Matrix{table, out, router, shared, head}, Vectors: []*ops.Vector{norm}})
		x, mixed, normed, logits, gate := w.buf(linearRows*k, nil), w.buf(linearRows*k, nil), w.buf(linearRows*k, nil), w.buf(linearRows*experts, nil), w.buf(linearRows, nil)
		hidden, words := w.buf(linearRows*k, nil), w.buf(linearRows*vocabulary, nil)
		host, device := w.phase(linearRows, func(set ops.Set, on bool) {
			set.Embed(ops.EmbedArgs{Table: table, X: x.of(on)})
			set.MixerIn(ops.MixerInArgs{Layer: 2, X: x.of(on), Norm: norm, Eps: 1e-6, Weights: []*ops.Matrix{out}, Out: mixed.of(on)})
			set.Router(ops.RouterArgs{Layer: 2, X: x.of(on), Norm: norm, Eps: 1e-6, Router: router, Shared: shared,
				Normed: normed.of(on), Logits: logits.of(on), Gate: gate.of(on)})
			set.MixerOut(ops.MixerOutArgs{Layer: 2, In: normed.of(on), W: out, X: x.of(on)})
			set.Logits(ops.LogitsArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Head: head, Hidden: hidden.of(on), Logits: words.of(on)})
		})
		for _, step := range []*ops.Step{linearStep(3), linearStep(0, 10)} {
			var taps [2][]seen
			for i, p := range []ops.Program{host, device} {
				step.Tap = func(layer int, what string, width int, data []float32) {
					taps[i] = append(taps[i], seen{layer, width, what, slices.Clone(data)})
				}
				run(t, p, step)
			}
			if len(taps[0]) != 8 || len(taps[1]) != len(taps[0]) {
				t.Fatalf("%v: the CPU shows %d values, the device %d", numerics, len(taps[0]), len(taps[1]))
			}
			for i, want := range taps[0] {
				got := taps[1][i]
				if got.layer != want.layer || got.what != want.what || got.width != want.width || len(got.data) != len(want.data) {
					t.Errorf("%v: device shows %d %s of %d x %d, the CPU %d %s of %d x %d", numerics,
						got.layer, got.what, len(got.data), got.width, want.layer, want.what, len(want.data), want.width)
				} else if d := far(want.data, got.data); !(d <= bound) {
					t.Errorf("%v: %s differs by %.3g", numerics, want.what, d)
				}
			}
		}
	}
}

// The shapes of the model, on a device.
func TestModelShapesOfLinears(t *testing.T) {
	if !silicon() {
		t.Skip("for a device: set ROUNDHOUSE_GPU=1")
	}
	w := newLinearTwin(t, Fast)
	for _, c := range []struct{ k, n, bits int }{{2048, 12352, 4}, {2048, 12352, 8}, {4096, 2048, 4}, {4096, 2048, 8}, {2048, 15194, 16}, {2048, 513, 16}} {
		m := w.dense("weight", c.k, c.n)
		if c.bits < 16 {
			m = w.gptq("weight", c.k, c.n, c.bits, slabGroup)
		}
		norm := w.vector("norm", c.k, 0, .3)
		w.place(ops.Weights{Matrices: []*ops.Matrix{m}, Vectors: []*ops.Vector{norm}})
		mark, markHost := w.arena.Mark(), w.hosts.Mark()
		x, out := w.buf(decodeRows*c.k, w.normal(3)), w.buf(decodeRows*c.n, nil)
		host, device := w.phase(decodeRows, func(set ops.Set, on bool) {
			set.MixerIn(ops.MixerInArgs{X: x.of(on), Norm: norm, Eps: 1e-6, Weights: []*ops.Matrix{m}, Out: out.of(on)})
		})
		steps := map[string]*ops.Step{}
		for _, rows := range []int{1, 3, 8, 16, 30, 64} {
			steps[fmt.Sprintf("%v, %d rows", c, rows)] = linearStep(rows)
		}
		w.each(steps, host, device, 1e-3, nil, map[string]rowsOf{"out": {out, c.n}})
		w.arena.Release(mark)
		w.hosts.Release(markHost)
	}
}
