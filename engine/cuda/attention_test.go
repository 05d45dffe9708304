package cuda

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// gqa is an attention layer on both sides, with pools full of random positions.
type gqa struct {
	*twin
	name         string
	shape        ops.AttentionShape
	bound        float64
	width, pages int
	in, out      pair
	keys, values pair
	qNorm, kNorm *ops.Vector
	half         ops.Buf // of the device's output, without elements in exact mode
	host, device ops.Program
}

// sizes of attention that the tests run.
type sizes struct {
	heads, kv, dim, half int
	numerics             Numerics
	pages                ops.Type
}

func (s sizes) String() string {
	return fmt.Sprintf("%d/%d heads of %d, %d turn, %v pages, %s", s.heads, s.kv, s.dim, 2*s.half, s.pages, s.numerics)
}

// bound is how far an output may be from the CPU's, of the largest value: pages
// are rounded, and on tensor cores the weights of a softmax likewise.
func (s sizes) bound() float64 {
	switch {
	case s.pages == ops.F32:
		return 2e-5
	case s.pages == ops.F16:
		return 2e-3
	}
	return 1e-2
}

func newGQA(t *testing.T, s sizes, rows, pages int) *gqa {
	t.Helper()
	w := newTwin(t, Options{Numerics: s.numerics, Streams: decodeRows})
	g := &gqa{twin: w, name: s.String(), bound: s.bound(), width: 2 * (s.heads + s.kv) * s.dim, pages: pages,
		shape: ops.AttentionShape{Heads: s.heads, KVHeads: s.kv, HeadDim: s.dim, Rope: ops.Rope{Scale: 1}}}
	for i := range s.half {
		g.shape.Rope.InvFreq = append(g.shape.Rope.InvFreq, float32(math.Pow(1e7, -float64(i)/float64(s.half))))
	}
	pool := pages * s.kv * ops.PageTokens * s.dim
	w.arenas(int64(4*rows*(g.width+s.heads*s.dim)+8*pool) + 1<<12)
	g.in, g.out = w.buf(rows*g.width, nil), w.buf(rows*s.heads*s.dim, nil)
	g.keys, g.values = g.pool(pool, s.pages), g.pool(pool, s.pages)
	g.qNorm, g.kNorm = w.vector("q_norm", s.dim, 0, .3), w.vector("k_norm", s.dim, 0, .3)
	w.place(ops.Weights{Vectors: []*ops.Vector{g.qNorm, g.kNorm}})
	g.host, g.device = w.record(rows, func(set ops.Set, device bool) error {
		a := ops.AttentionArgs{Layer: 3, Shape: g.shape, In: g.in.of(device), QNorm: g.qNorm, KNorm: g.kNorm, Eps: 1e-6,
			Keys: g.keys.of(device), Values: g.values.of(device), Out: g.out.of(device)}
		set.Attention(a)
		if r, ok := set.(*recorder); ok {
			r.reads, r.wanted = true, rows
			if at := r.half(a.Out); at != 0 {
				g.half = ops.Buf{Addr: uintptr(at), Len: a.Out.Len, Type: ops.F16}
			}
		}
		return nil
	})
	return g
}

// pool makes a page pool, fp32 on the CPU, whose random values are the same on both
// sides.
func (g *gqa) pool(n int, kind ops.Type) pair {
	g.Helper()
	var p pair
	var err error
	p.cpu, err = g.hosts.Alloc("pool", ops.F32, int64(n))
	g.check(err)
	p.device, err = g.arena.Alloc("pool", kind, int64(n))
	g.check(err)
	raw := make([]byte, 0, n*int(kind.Size()))
	for range n {
		v := float32(g.random.NormFloat64())
		switch bits := math.Float32bits(v); kind {
		case ops.F16:
			raw = append(raw, bytesOf([]uint16{drivertest.RoundHalf(v)})...)
		case ops.BF16:
			raw = append(raw, bytesOf([]uint16{uint16(bits >> 16)})...)
		default:
			raw = append(raw, bytesOf([]float32{v})...)
		}
	}
	g.check(g.twin.device.Write(p.device, raw))
	values := make([]float32, n)
	ops.Widen(values, raw, kind)
	g.check(g.cpu.Write(p.cpu, bytesOf(values)))
	return p
}

// wide reads a buffer of the device as fp32.
func (g *gqa) wide(from ops.Buf) []float32 {
	g.Helper()
	raw := make([]byte, from.Bytes())
	g.check(g.twin.device.Read(raw, from))
	values := make([]float32, from.Len)
	ops.Widen(values, raw, from.Type)
	return values
}

// inputs are the projections of the row at a position of a sequence: the same
// whatever step reads them.
func (g *gqa) inputs(slot, position int) []float32 {
	row := make([]float32, g.width)
	state := uint64(slot)<<32 | uint64(position)
	for i := range row {
		state = state*6364136223846793005 + 1442695040888963407
		row[i] = float32(int32(state>>32)) / (1 << 30)
	}
	return row
}

// load writes the inputs of a step's rows.
func (g *gqa) load(step *ops.Step) {
	g.Helper()
	values := make([]float32, g.in.cpu.Len)
	row := 0
	for _, s := range step.Segments {
		for i := range s.Len {
			copy(values[row*g.width:], g.inputs(s.Slot, s.Start+i))
			row++
		}
	}
	for i := row * g.width; i < len(values); i++ {
		values[i] = float32(math.NaN()) // of rows that hold nothing
	}
	g.write(g.in, values)
}

// bits runs a step on the device alone and returns its rows' outputs.
func (g *gqa) bits(step *ops.Step) [][]float32 {
	g.Helper()
	g.load(step)
	run(g, g.device, step)
	all, n := g.wide(g.out.device), g.shape.Heads*g.shape.HeadDim
	rows := make([][]float32, step.Rows())
	for i := range rows {
		rows[i] = all[i*n:][:n]
	}
	return rows
}

// compare runs a step on both sides: outputs, their half companions, and all that
// stands in the pools must agree.
func (g *gqa) compare(what string, step *ops.Step) {
	g.Helper()
	rows := g.bits(step)
	run(g, g.host, step)
	host, _ := g.read(g.out)
	for i, row := range rows {
		if d := far(host[i*len(row):][:len(row)], row); !(d <= g.bound) {
			g.Errorf("%s, %s: row %d is %.3g of its largest value from the CPU's, bound %.3g", g.name, what, i, d, g.bound)
			break
		}
	}
	if g.half.Len > 0 {
		half := g.wide(g.half)
		for i, v := range slices.Concat(rows...) {
			if d := math.Abs(float64(half[i]*16 - v)); !(d <= math.Abs(float64(v))/2048+1e-6) {
				g.Errorf("%s, %s: half companion %v of %v", g.name, what, half[i]*16, v)
				break
			}
		}
	}
	rounding := map[ops.Type]float64{ops.F32: 1e-5, ops.F16: 5e-4, ops.BF16: 4e-3}[g.keys.device.Type]
	for _, p := range []pair{g.keys, g.values} {
		want := make([]float32, p.cpu.Len)
		g.check(g.cpu.Read(bytesOf(want), p.cpu))
		if d := far(want, g.wide(p.device)); !(d <= rounding) {
			g.Errorf("%s, %s: pools differ by %.3g", g.name, what, d)
		}
	}
}

// segment makes a step of one segment of a sequence whose pages lie scattered.
func (g *gqa) segment(kind ops.SegmentKind, start, n int) *ops.Step {
	s := ops.Segment{Kind: kind, Slot: 5, Start: start, Len: n}
	for i := range (start + n + ops.PageTokens - 1) / ops.PageTokens {
		s.Pages = append(s.Pages, int32((3+i*5)%g.pages))
	}
	return &ops.Step{IDs: make([]int32, n), Segments: []ops.Segment{s}}
}

// attentionSizes are odd dimensions, the largest ones, and those of fast kernels; on a
// device those of the real model too.
var attentionSizes = append([]sizes{
	{3, 1, 20, 3, Exact, ops.F32},
	{4, 2, 64, 32, Exact, ops.F16},
	{2, 2, 512, 256, Exact, ops.F32},
	{6, 2, 36, 0, Fast, ops.BF16},
	{8, 1, 256, 32, Fast, ops.F16},
	{4, 2, 256, 32, Fast, ops.BF16},
	{5, 1, 256, 32, Fast, ops.F16},
	{2, 1, 256, 32, Fast, ops.F32},
}, realSizes()...)

func realSizes() []sizes {
	if !silicon() {
		return nil
	}
	return []sizes{{16, 2, 256, 32, Fast, ops.F16}, {16, 2, 256, 32, Fast, ops.BF16}, {16, 2, 256, 32, Exact, ops.F32}}
}

func TestAttentionDecode(t *testing.T) {
	for _, s := range attentionSizes {
		t.Run(s.String(), func(t *testing.T) {
			g := newGQA(t, s, 11, 131)
			g.compare("one row", decodes(g.pages, 64))
			lengths := []int{1, 63, 64, 65, 130, 1000, 31, 32, 33, 200}
			if s.dim == tensorDim {
				lengths = append(lengths, 5000)
			}
			step := decodes(g.pages, lengths...)
			g.compare("rows of many lengths", step)
			together := g.bits(step)
			for i := range lengths {
				alone := &ops.Step{IDs: step.IDs[i : i+1], Segments: step.Segments[i : i+1]}
				if got := g.bits(alone)[0]; !slices.Equal(got, together[i]) {
					t.Errorf("a row of length %d has other bits alone", lengths[i])
				}
			}
		})
	}
}

// A full bucket: more rows than blocks for all their splits. And two sequences that
// share the pages of their beginning.
func TestAttentionDecodeFullBucket(t *testing.T) {
	g := newGQA(t, sizes{2, 1, 256, 32, Fast, ops.F16}, decodeRows, 400)
	lengths := make([]int, decodeRows)
	for i := range lengths {
		lengths[i] = 1 + i*i*61%1000
	}
	lengths[decodeRows-1] = lengths[0] + 700
	step := decodes(2000, lengths...)
	for i := range step.Segments {
		for j := range step.Segments[i].Pages {
			step.Segments[i].Pages[j] %= int32(g.pages - decodeRows)
		}
		pages := step.Segments[i].Pages // rows write to pages of their own
		pages[len(pages)-1] = int32(g.pages - decodeRows + i)
	}
	g.compare("a full bucket", step)
	together := g.bits(step)
	for _, i := range []int{0, 7, decodeRows - 1} {
		alone := &ops.Step{IDs: step.IDs[i : i+1], Segments: step.Segments[i : i+1]}
		if got := g.bits(alone)[0]; !slices.Equal(got, together[i]) {
			t.Errorf("row %d of a full bucket has other bits alone", i)
		}
	}
}

// What pages hold behind a sequence's end, even if it is no number, changes no bit.
func TestAttentionIgnoresWhatLiesBehind(t *testing.T) {
	for _, s := range attentionSizes {
		t.Run(s.String(), func(t *testing.T) {
			g := newGQA(t, s, 70, 7)
			steps := []*ops.Step{g.segment(ops.Prefill, 0, 70), g.segment(ops.Decode, 70, 1), g.segment(ops.Replay, 71, 5)}
			var want [][]float32
			for _, step := range steps {
				want = append(want, g.bits(step)...)
			}
			for _, pool := range []ops.Buf{g.keys.device, g.values.device} {
				g.check(g.twin.device.Write(pool, bytes.Repeat([]byte{0xff}, int(pool.Bytes()))))
			}
			var got [][]float32
			for _, step := range steps {
				got = append(got, g.bits(step)...)
			}
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("position %d has other bits before NaNs", i)
					break
				}
			}
		})
	}
}

// Several tokens in step form have the bits of as many decode steps.
func TestAttentionReplay(t *testing.T) {
	for _, s := range attentionSizes {
		t.Run(s.String(), func(t *testing.T) {
			g := newGQA(t, s, 8, 7)
			step := g.segment(ops.Replay, 60, 7)
			g.compare("replay", step)
			rows := g.bits(step)
			for i := range rows {
				if got := g.bits(g.segment(ops.Decode, 60+i, 1))[0]; !slices.Equal(got, rows[i]) {
					t.Errorf("token %d of a replay has other bits as a decode step", i)
				}
			}
		})
	}
}

func TestAttentionPrefill(t *testing.T) {
	lengths := []int{1, 64, 65, 150}
	if silicon() {
		lengths = append(lengths, 200, 700, 2500)
	}
	for _, s := range attentionSizes {
		t.Run(s.String(), func(t *testing.T) {
			g := newGQA(t, s, slices.Max(lengths), 41)
			for _, n := range lengths {
				g.compare(fmt.Sprintf("%d tokens", n), g.segment(ops.Prefill, 0, n))
			}
			whole := g.bits(g.segment(ops.Prefill, 0, 150))
			for _, cuts := range [][]int{{0, 64, 150}, {0, 7, 64, 128, 150}} {
				var parts [][]float32
				for i := range cuts[1:] {
					parts = append(parts, g.bits(g.segment(ops.Prefill, cuts[i], cuts[i+1]-cuts[i]))...)
				}
				for i := range parts {
					if !slices.Equal(parts[i], whole[i]) {
						t.Errorf("cut at %v, row %d has other bits", cuts, i)
						break
					}
				}
			}
			g.compare("a later chunk", g.segment(ops.Prefill, 200, 70))
		})
	}
}

// Every tap of the CPU is there in exact mode, with its values.
func TestAttentionTaps(t *testing.T) {
	g := newGQA(t, sizes{4, 2, 36, 5, Exact, ops.F32}, 9, 7)
	for _, step := range []*ops.Step{g.segment(ops.Prefill, 0, 9), g.segment(ops.Replay, 100, 3)} {
		g.load(step)
		taps := func(p ops.Program) (names []string, values map[string][]float32) {
			values = map[string][]float32{}
			step.Tap = func(layer int, what string, width int, data []float32) {
				names = append(names, fmt.Sprintf("%d %s %d", layer, what, width))
				values[what] = slices.Clone(data)
			}
			run(t, p, step)
			return names, values
		}
		want, host := taps(g.host)
		got, device := taps(g.device)
		if !slices.Equal(got, want) {
			t.Fatalf("taps %q, the CPU has %q", got, want)
		}
		for what, values := range host {
			if len(device[what]) != len(values) {
				t.Errorf("%s: %d values, the CPU has %d", what, len(device[what]), len(values))
			} else if d := far(values, device[what]); !(d <= 2e-5) {
				t.Errorf("%s is %.3g from the CPU's", what, d)
			}
		}
	}
}

func TestAttentionRefusesWideHeads(t *testing.T) {
	w := newTwin(t, Options{Numerics: Exact})
	_, err := w.device.Record(1, func(set ops.Set) error {
		set.Attention(ops.AttentionArgs{Shape: ops.AttentionShape{Heads: 1, KVHeads: 1, HeadDim: 1024}})
		return nil
	})
	if err == nil {
		t.Error("heads of 1024 values were recorded")
	}
}
