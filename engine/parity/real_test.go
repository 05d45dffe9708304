package parity

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Two engines beside each other at real dimensions, where there are no goldens: the
// device against the CPU. ROUNDHOUSE_REAL4 names the folder, four layers of random
// weights that `roundhouse synth --shape qwen3-next-80b --layers 4 DIR` writes; the
// device is the machine's GPU with ROUNDHOUSE_GPU=1, else the fake driver, which is up
// to micro models.

// sizes are how much of each test is run.
type sizes struct {
	prompts []int // tokens, read in chunks
	chunk   int   // of the device
	batches []int // sequences that decode together
	context int   // tokens of the longest of them
	long    int   // tokens of a prompt whose end and states are compared
	end     int   // tokens at its end whose every value is compared
	text    int   // predictions that fast numerics are judged by
	window  int
	whole   int // tokens that are read in chunks of two sizes
	chunks  [2]int
}

var (
	realSizes = sizes{prompts: []int{70, 1100}, chunk: 512, batches: []int{1, 3, 8, 16, 32}, context: 200,
		long: 8192, end: 512, text: 1024, window: 256, whole: 262144 - 64, chunks: [2]int{8192, 2048}}
	microSizes = sizes{prompts: []int{70, 150}, chunk: 64, batches: []int{1, 3, 8}, context: 20,
		long: 192, end: 64, text: 64, window: 64, whole: 256 - 64, chunks: [2]int{192, 64}}
)

func TestRealDimensions(t *testing.T) {
	dir := os.Getenv("ROUNDHOUSE_REAL4")
	if dir == "" {
		t.Skip("ROUNDHOUSE_REAL4 names no folder of real dimensions: write one with roundhouse synth --shape qwen3-next-80b --layers 4 DIR")
	}
	n := realSizes
	if text := os.Getenv("ROUNDHOUSE_REAL4_LONG"); text != "" {
		var err error
		if n.long, err = strconv.Atoi(text); err != nil || n.long < n.end {
			t.Fatalf("ROUNDHOUSE_REAL4_LONG=%q: tokens of the long prompt, %d or more", text, n.end)
		}
	}
	if device() != "cuda" {
		n = microSizes
	}
	besideCPU(t, dir, n)
}

// The same with a micro model, so that the test itself is tested where there is no GPU.
func TestMicroDimensions(t *testing.T) { besideCPU(t, optest.Model(t, "int4-mixed-2026"), microSizes) }

func besideCPU(t *testing.T, dir string, n sizes) {
	t.Run("exact", func(t *testing.T) {
		p := newPair(t, dir, n)
		for _, tokens := range n.prompts {
			t.Run(fmt.Sprintf("prompt of %d", tokens), func(t *testing.T) { p.prompt(t, tokens, tokens) })
		}
		t.Run("decode", func(t *testing.T) { p.decode(t, n.batches, n.context) })
		t.Run(fmt.Sprintf("prompt of %d", n.long), func(t *testing.T) { p.prompt(t, n.long, n.end) })
	})
	t.Run("fast", func(t *testing.T) { fastBesideExact(t, dir, n) })
	t.Run("chunks", func(t *testing.T) { wholeInChunks(t, dir, n) })
}

// openOn opens a model on the device, or on the CPU.
func openOn(t *testing.T, dir string, o engine.Options) *engine.Model {
	t.Helper()
	o.Name = "real"
	if o.Device == "cuda" && device() != "cuda" {
		fake := drivertest.Open(t, drivertest.Options{Memory: 8 << 30})
		t.Cleanup(func() { // after the model is closed
			for _, problem := range fake.Problems() {
				t.Error("driver:", problem)
			}
		})
		o.Driver = fake
	}
	start := time.Now()
	m, err := engine.Open(context.Background(), os.DirFS(dir), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%s in %v", m.Info().Fingerprint, time.Since(start).Round(time.Millisecond))
	return m
}

// bound is the largest difference, relative to the largest value, that two engines of
// fp32 arithmetic may come to. A phase by itself keeps 2e-5 (engine/cuda). What a layer
// adds to the residual carries the differences of all before it, so that they grow with
// the layers as a sum does. Embeddings are only widened.
func (p *pair) bound(layer int, what string) float64 {
	switch {
	case what == "embedding":
		return 0
	case layer < 0: // behind the last
		layer = p.host.Info().Layers
	}
	return 2e-5 * float64(layer+1)
}

// nearTie is how near the last chosen expert may be to the first left out, in router
// logits, before a token is taken for another: between engines they differ by some
// 1e-5, and a flipped expert would change all that follows.
const nearTie = 5e-5

// pair is a model on both sides, in exact numerics.
type pair struct {
	host, device *engine.Model
	random       *rand.Rand
	drawn, kept  int // steps of the host
}

func newPair(t *testing.T, dir string, n sizes) *pair {
	most := slices.Max(n.batches)
	o := engine.Options{Device: "cpu", Numerics: "exact", Streams: most + 1, Context: max(n.long, slices.Max(n.prompts)), PrefillChunk: n.chunk}
	o.CacheTokens = o.Context + most*(n.context+64)
	p := &pair{random: rand.New(rand.NewPCG(4, 80))}
	p.host = openOn(t, dir, o)
	o.Device = "cuda"
	p.device = openOn(t, dir, o)
	return p
}

func (p *pair) sequence(t *testing.T, m *engine.Model, tokens int) *engine.Sequence {
	t.Helper()
	s, err := m.NewSequence(context.Background(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	return s
}

// draw fills in ids of a step of the host and runs it, again with others where a row's
// experts are a near tie. Where nobody wants to see more, it returns router logits.
func (p *pair) draw(t *testing.T, ids []int32, sequences []*engine.Sequence, shown bool, run func(engine.StepOptions) error) taps {
	t.Helper()
	info := p.host.Info()
	before := make([]*engine.Snapshot, len(sequences))
	for i, s := range sequences {
		var err error
		if before[i], err = s.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	for p.kept++; ; {
		p.drawn++
		for i := range ids {
			ids[i] = int32(p.random.IntN(info.Tokens))
		}
		seen := taps{}
		err := run(engine.StepOptions{Tap: func(layer int, what string, width int, data []float32) {
			if shown || what == "router_logits" {
				seen.tap(layer, what, width, data)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if seen.smallestGap(info.Experts, info.TopK) >= nearTie {
			return seen
		}
		for i, s := range sequences {
			if err := s.Restore(before[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// read makes up a prompt while the host reads it, a chunk of the delta rule at a time;
// of the last so many tokens it shows every value.
func (p *pair) read(t *testing.T, s *engine.Sequence, tokens, shown int) (ids []int32, seen taps) {
	t.Helper()
	const chunk = 64
	ids, seen = make([]int32, tokens), taps{}
	for at := 0; at < tokens; at += chunk {
		part := ids[at:min(at+chunk, tokens)]
		last := at+len(part) == tokens
		step := p.draw(t, part, []*engine.Sequence{s}, at >= tokens-shown, func(o engine.StepOptions) error {
			if last {
				o.Logits = []int{len(part) - 1}
			}
			_, err := s.Read(context.Background(), part, o)
			return err
		})
		if at >= tokens-shown {
			seen.add(step)
		}
	}
	return ids, seen
}

// prompt compares the reading of a prompt: every value of its last tokens, and what the
// sequence carries in the end.
func (p *pair) prompt(t *testing.T, tokens, shown int) {
	start := time.Now()
	host, device := p.sequence(t, p.host, tokens), p.sequence(t, p.device, tokens)
	ids, want := p.read(t, host, tokens, shown)
	read := time.Now()
	got := taps{}
	if _, err := device.Read(context.Background(), ids[:tokens-shown], engine.StepOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := device.Read(context.Background(), ids[tokens-shown:], engine.StepOptions{Tap: got.tap, Logits: []int{shown - 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the CPU read %d tokens in %v, the device in %v", tokens, read.Sub(start).Round(time.Millisecond), time.Since(read).Round(time.Millisecond))
	carried(t, host, p.host.Info().Layers, want)
	carried(t, device, p.device.Info().Layers, got)
	p.report(t, shown, true, got, want)
}

// carried adds what a sequence carries.
func carried(t *testing.T, s *engine.Sequence, layers int, to taps) {
	t.Helper()
	for layer := range layers {
		state, err := s.State(layer)
		if err != nil {
			t.Fatal(err)
		}
		for what, data := range map[string][]float32{"recurrent_state": state.Recurrent, "conv_state": state.Window, "keys": state.Keys, "values": state.Values} {
			if data != nil {
				to.tap(layer, what, 0, data)
			}
		}
	}
}

// decode compares steps of so many sequences of different lengths: every value of one,
// and the logits of a second one that nobody looks into, which runs as a graph.
func (p *pair) decode(t *testing.T, batches []int, longest int) {
	most := slices.Max(batches)
	room := longest + 2*len(batches)
	host, device := make([]*engine.Sequence, most), make([]*engine.Sequence, most)
	for i := range host {
		host[i], device[i] = p.sequence(t, p.host, room), p.sequence(t, p.device, room)
		ids, _ := p.read(t, host[i], 1+longest*i/most, 0)
		if _, err := device[i].Read(context.Background(), ids, engine.StepOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range batches {
		ids, all := make([]int32, n), make([]int, n)
		for i := range all {
			all[i] = i
		}
		step := func(t *testing.T, looked bool) {
			want := p.draw(t, ids, host[:n], true, func(o engine.StepOptions) error {
				o.Logits = all
				_, err := p.host.Decode(context.Background(), host[:n], ids, o)
				return err
			})
			got := taps{}
			o := engine.StepOptions{Logits: all, Tap: got.tap}
			if !looked {
				want = taps{"logits": want["logits"]}
				o = engine.StepOptions{Logits: all, Rows: func(_ int, row []float32) { got.tap(-1, "logits", 0, row) }}
			}
			if _, err := p.device.Decode(context.Background(), device[:n], ids, o); err != nil {
				t.Fatal(err)
			}
			p.report(t, n, false, got, want)
		}
		t.Run(fmt.Sprintf("%d sequences", n), func(t *testing.T) { step(t, true) })
		t.Run(fmt.Sprintf("%d sequences, graph", n), func(t *testing.T) { step(t, false) })
	}
}

// report compares and prints a row for each kind of value.
func (p *pair) report(t *testing.T, rows int, follows bool, got, want taps) {
	t.Helper()
	info := p.host.Info()
	c := contest{rows: rows, layers: info.Layers, experts: info.Experts, k: info.TopK, follows: follows, bound: p.bound}
	kinds, flips, ties := c.compare(t, got, want)
	var table verdicts
	for _, what := range slices.SortedFunc(maps.Keys(kinds), byPhase) {
		w := kinds[what]
		_, phase := phaseOf(what)
		table.atMost(fmt.Sprintf("%-9s %-17s worst in layer %2d of %d values", phase, what, w.layer, w.compared), w.error, w.bound)
	}
	for _, phase := range phases {
		for _, what := range strings.Fields(phase.shows) {
			_, compared := kinds[what]
			if _, looked := want["embedding"]; looked && !compared && what != "router_experts" && (follows || phase.name != "carried") {
				t.Errorf("nobody showed %s", what)
			}
		}
	}
	table.atMost("experts chosen otherwise", float64(flips), 0)
	table.print(t)
	t.Logf("%d rows, %d near ties chosen otherwise; %d of %d steps drawn again for near ties", rows, ties, p.drawn-p.kept, p.drawn)
}

// fastBesideExact holds fast numerics of the device to the handbook's bounds on how far
// its predictions may be from exact ones on the CPU. Which token is most likely is told
// and not judged: behind random weights the likeliest two are often as good as equal.
// TestFastNumericsOnText judges that.
func fastBesideExact(t *testing.T, dir string, n sizes) {
	random := rand.New(rand.NewPCG(5, 80))
	ids := make([]int32, n.text)
	d := divergence(t, dir, n.window, func(m *engine.Model) []int32 {
		for i := range ids {
			ids[i] = int32(random.IntN(m.Info().Tokens))
		}
		return ids
	})
	var table verdicts
	table.predictions(d)
	table.print(t)
	t.Logf("%+v", d)
}

// divergence compares what the CPU predicts in exact numerics and the device in fast ones.
func divergence(t *testing.T, dir string, window int, text func(*engine.Model) []int32) Divergence {
	t.Helper()
	o := engine.Options{Device: "cpu", Numerics: "exact", Streams: 1, Context: window}
	host := openOn(t, dir, o)
	o.Device, o.Numerics = "cuda", "fast"
	d, err := Diverge(context.Background(), host, openOn(t, dir, o), text(host), window)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A model that was trained, and the kind of text it was trained on: all three bounds of
// fast numerics hold (architecture.md, section 3).
func TestFastNumericsOnText(t *testing.T) {
	tokens, window := 256, 128 // of the fake driver
	if device() == "cuda" {
		tokens, window = 4096, 1024
	}
	text, err := os.ReadFile("testdata/alice.txt")
	if err != nil {
		t.Fatal(err)
	}
	d := divergence(t, "../../workbench/demo/model", window, func(m *engine.Model) []int32 {
		ids := m.Tokenizer().Encode(string(text), tokenizer.Default)
		if len(ids) < tokens {
			t.Fatalf("the text has %d tokens, want %d", len(ids), tokens)
		}
		return ids[:tokens]
	})
	var table verdicts
	table.predictions(d)
	table.atMost("another most likely token", 1-d.Top1, 1-MinTop1)
	table.print(t)
	t.Logf("%+v", d)
}

// wholeInChunks reads a prompt as long as the context in chunks of two sizes, in fast
// numerics: the logits behind it and all that the sequence carries have the same bits.
func wholeInChunks(t *testing.T, dir string, n sizes) {
	var seen [2]taps
	for i, chunk := range n.chunks {
		seen[i] = readWhole(t, dir, n.whole, chunk)
	}
	var table verdicts
	for _, name := range slices.Sorted(maps.Keys(seen[0])) {
		a, b := seen[0][name], seen[1][name]
		differ := len(a) - len(b)
		for i := range min(len(a), len(b)) {
			if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
				differ++
			}
		}
		table.atMost(fmt.Sprintf("%s of %d tokens, differing bits of %d values", name, n.whole, len(a)), math.Abs(float64(differ)), 0)
	}
	table.print(t)
}

func readWhole(t *testing.T, dir string, tokens, chunk int) taps {
	t.Helper()
	m := openOn(t, dir, engine.Options{Device: "cuda", Numerics: "fast", Streams: 1, Context: tokens + 64, PrefillChunk: chunk})
	defer m.Close() // the other needs its memory
	random, seen := rand.New(rand.NewPCG(6, 80)), taps{}
	ids := make([]int32, tokens)
	for i := range ids {
		ids[i] = int32(random.IntN(m.Info().Tokens))
	}
	s, err := m.NewSequence(context.Background(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	start := time.Now()
	_, err = s.Read(context.Background(), ids, engine.StepOptions{Logits: []int{tokens - 1},
		Rows: func(_ int, row []float32) { seen.tap(-1, "logits", 0, row) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tokens in chunks of %d in %v", tokens, chunk, time.Since(start).Round(time.Millisecond))
	carried(t, s, m.Info().Layers, seen)
	return seen
}

// verdicts are the lines of a report.
type verdicts struct {
	lines  []string
	failed bool
}

// atMost adds a line: a value and what it may come to.
func (v *verdicts) atMost(what string, value, bound float64) {
	verdict := "PASS"
	if !(value <= bound) {
		verdict, v.failed = "FAIL", true
	}
	v.lines = append(v.lines, fmt.Sprintf("%-70s %9.2g of %9.2g  %s", what, value, bound, verdict))
}

func (v *verdicts) predictions(d Divergence) {
	v.atMost(fmt.Sprintf("mean KL, nats, of %d predictions", d.Tokens), d.MeanKL, MaxMeanKL)
	v.atMost("perplexity, relative", math.Abs(d.PerplexityThen/d.Perplexity-1), MaxPerplexityRise)
}

func (v *verdicts) print(t *testing.T) {
	t.Helper()
	t.Log("\n" + strings.Join(v.lines, "\n"))
	if v.failed {
		t.Error("a bound is missed")
	}
}
