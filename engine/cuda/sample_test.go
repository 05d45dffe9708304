package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
)

// drawer draws on the device.
type drawer struct {
	*twin
	program            ops.Program
	vocabulary, tokens int
	logits             ops.Buf
}

func newDrawer(t testing.TB, rows, vocabulary, tokens int) *drawer {
	t.Helper()
	w := newTwin(t, Options{})
	w.arenas(int64(rows*vocabulary)*4 + 1<<12)
	d := &drawer{twin: w, vocabulary: vocabulary, tokens: tokens}
	var err error
	d.logits, err = w.arena.Alloc("logits", ops.F32, int64(rows*vocabulary))
	w.check(err)
	d.program, err = w.device.Record(rows, func(set ops.Set) error {
		set.Sample(ops.SampleArgs{Logits: d.logits, Vocabulary: vocabulary, Tokens: tokens})
		return nil
	})
	w.check(err)
	t.Cleanup(func() { w.check(d.program.Close()) })
	return d
}

// load puts rows of logits on the device.
func (d *drawer) load(rows ...[]float32) {
	d.Helper()
	for i, row := range rows {
		d.check(d.device.Write(d.logits.Slice(int64(i*d.vocabulary), int64(d.vocabulary)), bytesOf(row)))
	}
}

// draw draws with one set of parameters for each row.
func (d *drawer) draw(sampling ...ops.Sampling) []ops.Sample {
	d.Helper()
	step := &ops.Step{Sampling: sampling, Samples: make([]ops.Sample, len(sampling))}
	run(d, d.program, step)
	return step.Samples
}

// drawn reads what the next step would embed.
func (d *drawer) drawn(n int) []int32 {
	d.Helper()
	ids := make([]int32, n)
	d.check(d.device.Read(bytesOf(ids), ops.Buf{Addr: uintptr(d.device.drawn), Len: int64(n), Type: ops.I32}))
	return ids
}

// rowKinds are rows that are easy or hard to sort, and some without a distribution.
var rowKinds = []struct {
	name string
	fill func(row []float32, random *rand.Rand)
}{
	{"normal", normalRow(3)},
	{"peaked", func(row []float32, random *rand.Rand) {
		normalRow(2)(row, random)
		for range 3 {
			row[random.IntN(len(row))] = 25 + float32(random.Float64())
		}
	}},
	{"flat", normalRow(.01)},
	{"tied", func(row []float32, random *rand.Rand) {
		for i := range row {
			row[i] = float32(math.Round(random.NormFloat64() * 2))
		}
	}},
	{"equal", func(row []float32, _ *rand.Rand) {
		for i := range row {
			row[i] = float32(math.Copysign(0, float64(i%2)-.5))
		}
	}},
	{"ascending", func(row []float32, _ *rand.Rand) {
		for i := range row {
			row[i] = float32(i) * 1e-3
		}
	}},
	{"few", func(row []float32, random *rand.Rand) {
		for i := range row {
			row[i] = float32(math.Inf(-1))
		}
		for range 5 {
			row[random.IntN(len(row))] = float32(random.NormFloat64())
		}
	}},
	{"huge", func(row []float32, random *rand.Rand) {
		for i := range row {
			row[i] = float32(random.NormFloat64() * 1e37)
		}
	}},
	{"nan", func(row []float32, random *rand.Rand) {
		normalRow(1)(row, random)
		row[len(row)/3] = float32(math.NaN())
	}},
	{"inf", func(row []float32, random *rand.Rand) {
		normalRow(1)(row, random)
		row[len(row)-1] = float32(math.Inf(1))
	}},
	{"nothing", func(row []float32, _ *rand.Rand) {
		for i := range row {
			row[i] = float32(math.Inf(-1))
		}
	}},
}

func normalRow(spread float64) func(row []float32, random *rand.Rand) {
	return func(row []float32, random *rand.Rand) {
		for i := range row {
			row[i] = float32(random.NormFloat64() * spread)
		}
	}
}

// mixes are parameters of every kind.
func mixes(random *rand.Rand, tokens int) []ops.Sampling {
	mixes := []ops.Sampling{
		{},
		{Temperature: 1},
		{Temperature: .3},
		{Temperature: float32(math.Inf(1))},
		{Temperature: 1e-42},
		{Temperature: .7, TopK: 20, TopP: .8},
		{Temperature: 1, TopK: 1},
		{Temperature: 2, TopK: 256, TopP: .999},
		{Temperature: 1, TopK: 700},
		{Temperature: 1, TopK: 1 << 40, TopP: .5},
		{Temperature: 1.5, TopK: 900, TopP: .97, MinP: .001},
		{Temperature: 1, TopP: .9},
		{Temperature: 1, TopP: .3},
		{Temperature: 2, TopP: .9999999},
		{Temperature: 1, TopP: 1, MinP: .1},
		{Temperature: 3, MinP: 1e-4},
		{Temperature: 1, MinP: 1},
		{Temperature: .9, TopK: 50, TopP: .95, MinP: .05},
		{Window: 256},
		{Window: 7, Temperature: .5},
	}
	for i := range mixes {
		p := &mixes[i]
		p.Seed, p.Choice, p.Position, p.Attempt = random.Uint64(), random.Uint32(), random.Uint32(), uint32(random.IntN(3))
		p.Candidates, p.Watch = []int{0, 5, 256}[i%3], int32(random.IntN(tokens))
		if i%4 == 0 {
			p.Watch = -1
		}
	}
	return mixes
}

// edit adds penalties, bias and mask to parameters, each or all.
func edit(p ops.Sampling, kind int, random *rand.Rand, tokens int) ops.Sampling {
	ascending := func(n int) (ids []int32) {
		for id := random.IntN(3) - 1; id < tokens+1 && len(ids) < n; id += 1 + random.IntN(2*tokens/n+1) {
			ids = append(ids, int32(id))
		}
		return ids
	}
	if kind == 0 || kind == 3 {
		p.Repetition, p.Presence, p.Frequency = 1.3, .2, -.35
		for _, id := range ascending(200) {
			p.Seen = append(p.Seen, ops.Count{ID: id, Prompt: 1, Output: uint32(random.IntN(4))})
		}
	}
	if kind == 1 || kind == 3 {
		values := []float32{3.7, -2.1, float32(math.Inf(-1)), 1e6, 3e38}
		if p.Temperature > 1e30 {
			values = values[:4] // differences beyond fp32 would weigh something
		}
		for i, id := range ascending(150) {
			p.Bias = append(p.Bias, ops.Bias{ID: id, Value: values[i%len(values)]})
		}
	}
	if kind >= 2 && kind <= 4 {
		p.Mask = make([]uint32, []int{tokens/32 + 1, tokens / 64, tokens/32 + 9}[random.IntN(3)])
		for i := range p.Mask {
			p.Mask[i] = []uint32{random.Uint32(), math.MaxUint32, 0}[random.IntN(3)]
		}
		if kind == 4 {
			clear(p.Mask) // nothing may be drawn
		}
	}
	return p
}

// differs says how a device's sample is not the reference's, "" when it is.
func differs(want, got *ops.Sample) string {
	near := func(x, y float32) bool {
		return x == y || x != x && y != y || math.Abs(float64(x)-float64(y)) <= 1e-6*max(1, math.Abs(float64(x)))
	}
	candidate := func(x, y ops.Candidate) bool {
		return x.ID == y.ID && x.Logit == y.Logit && near(x.Logprob, y.Logprob)
	}
	list := func(x, y []ops.Candidate) bool {
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if !candidate(x[i], y[i]) {
				return false
			}
		}
		return true
	}
	switch {
	case !near(want.LogSumExp, got.LogSumExp):
		return fmt.Sprintf("LogSumExp is %v, want %v", got.LogSumExp, want.LogSumExp)
	case !candidate(want.Token, got.Token):
		return fmt.Sprintf("drew %+v, want %+v", got.Token, want.Token)
	case want.Token.ID >= 0 && math.Abs(float64(want.Chosen-got.Chosen)) > 2e-6*max(1, math.Abs(float64(want.Chosen))):
		return fmt.Sprintf("Chosen is %v, want %v", got.Chosen, want.Chosen)
	case !candidate(want.Watched, got.Watched):
		return fmt.Sprintf("watched %+v, want %+v", got.Watched, want.Watched)
	case !list(want.Candidates, got.Candidates):
		return fmt.Sprintf("%d candidates differ: %+v, want %d %+v", len(got.Candidates), head3(got.Candidates), len(want.Candidates), head3(want.Candidates))
	case !list(want.Window, got.Window):
		return fmt.Sprintf("windows differ: %d of %+v, want %d of %+v", len(got.Window), head3(got.Window), len(want.Window), head3(want.Window))
	case !near(want.WindowSumExp, got.WindowSumExp):
		return fmt.Sprintf("WindowSumExp is %v, want %v", got.WindowSumExp, want.WindowSumExp)
	}
	return ""
}

func head3(c []ops.Candidate) []ops.Candidate { return c[:min(3, len(c))] }

// Every mix of parameters over every kind of row gives what the reference gives,
// with and without edits; and a row beside 63 others what it gives alone.
func TestDeviceDrawsAsTheReference(t *testing.T) {
	shapes := [][2]int{{5000, 4801}, {300, 300}, {70, 1}}
	if silicon() {
		shapes = append(shapes, [2]int{151936, 151669}, [2]int{200003, 200003})
	}
	work := sample.NewWork(simd.Best())
	for _, shape := range shapes {
		vocabulary, tokens := shape[0], shape[1]
		random := rand.New(rand.NewPCG(uint64(vocabulary), 1))
		d := newDrawer(t, 64, vocabulary, tokens)
		for _, kind := range rowKinds {
			row := make([]float32, vocabulary)
			kind.fill(row, random)
			var sampling []ops.Sampling
			for i, p := range mixes(random, tokens) {
				sampling = append(sampling, p, edit(p, i%5, random, tokens), edit(p, (i+2)%5, random, tokens))
			}
			rows := make([][]float32, len(sampling))
			for i := range rows {
				rows[i] = row
			}
			d.load(rows...)
			together := d.draw(sampling...)
			ids := d.drawn(len(sampling))
			for i := range sampling {
				var want ops.Sample
				p := sampling[i]
				sample.Device(work, &want, &p, row, tokens)
				if why := differs(&want, &together[i]); why != "" {
					t.Errorf("%d of %d, %s row, draw %d %s: %s", tokens, vocabulary, kind.name, i, describe(&p), why)
				}
				if ids[i] != together[i].Token.ID {
					t.Errorf("%s row, draw %d: the next step reads %d, not %d", kind.name, i, ids[i], together[i].Token.ID)
				}
				if i%7 != 0 && !silicon() {
					continue
				}
				if alone := d.draw(p)[0]; !same(&alone, &together[i]) {
					t.Errorf("%s row, draw %d: alone %+v, beside others %+v", kind.name, i, alone.Token, together[i].Token)
				}
			}
		}
	}
}

// describe names parameters without their lists.
func describe(p *ops.Sampling) string {
	short := *p
	short.Seen, short.Bias, short.Mask = nil, nil, nil
	return fmt.Sprintf("%+v with %d seen, %d biased, mask %t", short, len(p.Seen), len(p.Bias), p.Mask != nil)
}

// same compares bits.
func same(x, y *ops.Sample) bool { return fmt.Sprintf("%v", *x) == fmt.Sprintf("%v", *y) }

// Over many seeds the device draws the ids of the reference.
func TestManyDrawsAgree(t *testing.T) {
	vocabulary, n := 3000, 300
	if silicon() {
		vocabulary, n = 151936, 10000
	}
	random := rand.New(rand.NewPCG(5, 6))
	const rows = 60
	d, works := newDrawer(t, rows, vocabulary, vocabulary), make([]*sample.Work, runtime.GOMAXPROCS(0))
	for i := range works {
		works[i] = sample.NewWork(simd.Best())
	}
	logits := make([][]float32, rows)
	for i := range logits {
		logits[i] = make([]float32, vocabulary)
		rowKinds[i%5].fill(logits[i], random)
	}
	d.load(logits...)
	parameters := mixes(random, vocabulary)[:18]
	for at := 0; at < n; at += rows {
		sampling := make([]ops.Sampling, rows)
		for i := range sampling {
			sampling[i] = parameters[(i+at/rows)%len(parameters)]
			sampling[i].Seed, sampling[i].Position = random.Uint64(), uint32(at)
		}
		var want [rows]ops.Sample
		var references sync.WaitGroup // thousands of long rows: all cores
		for first := range works {
			references.Go(func() {
				for i := first; i < rows; i += len(works) {
					sample.Device(works[first], &want[i], &sampling[i], logits[i], vocabulary)
				}
			})
		}
		references.Wait()
		for i, got := range d.draw(sampling...) {
			if got.Token.ID != want[i].Token.ID {
				t.Errorf("%s row, %s: drew %d, want %d", rowKinds[i%5].name, describe(&sampling[i]), got.Token.ID, want[i].Token.ID)
			}
		}
	}
}

// Lists that do not fit in one launch together are drawn from in several, and two
// steps on their way keep their results apart.
func TestStepsAreCutWhereTheirParametersDoNotFit(t *testing.T) {
	const vocabulary, rows = 20000, 60
	random := rand.New(rand.NewPCG(7, 8))
	d, work := newDrawer(t, rows, vocabulary, vocabulary), sample.NewWork(simd.Best())
	row := make([]float32, vocabulary)
	normalRow(2)(row, random)
	logits := make([][]float32, rows)
	steps := [2]*ops.Step{}
	for s := range steps {
		step := &ops.Step{Samples: make([]ops.Sample, rows)}
		for i := range rows {
			p := ops.Sampling{Temperature: 1, TopK: 40, Presence: 1, Repetition: 1.1, Seed: random.Uint64(), Watch: -1}
			for id := range vocabulary {
				p.Seen = append(p.Seen, ops.Count{ID: int32(id), Output: uint32(id+i) % 3})
			}
			logits[i], step.Sampling = row, append(step.Sampling, p)
		}
		steps[s] = step
	}
	d.load(logits...)
	var tickets [2]ops.Ticket
	for s := range steps {
		var err error
		tickets[s], err = d.program.Submit(steps[s])
		d.check(err)
	}
	for s, step := range steps {
		d.check(tickets[s].Wait(t.Context()))
		for i := range step.Samples {
			var want ops.Sample
			sample.Device(work, &want, &step.Sampling[i], row, vocabulary)
			if why := differs(&want, &step.Samples[i]); why != "" {
				t.Errorf("step %d, row %d: %s", s, i, why)
			}
		}
	}
}

func TestDrawsThatTheDeviceRefuses(t *testing.T) {
	d := newDrawer(t, 2, 100, 90)
	for want, step := range map[string]*ops.Step{
		"2 rows of logits": {Sampling: make([]ops.Sampling, 3), Samples: make([]ops.Sample, 3)},
		"room for 0":       {Sampling: make([]ops.Sampling, 1)},
		"window of 257":    {Sampling: []ops.Sampling{{Window: 257}}, Samples: make([]ops.Sample, 1)},
		"257 candidates":   {Sampling: []ops.Sampling{{Candidates: 257}}, Samples: make([]ops.Sample, 1)},
		"seen must ascend": {Sampling: []ops.Sampling{{Seen: []ops.Count{{ID: 4}, {ID: 4}}}}, Samples: make([]ops.Sample, 1)},
		"bias must ascend": {Sampling: []ops.Sampling{{Bias: []ops.Bias{{ID: 4}, {ID: 3}}}}, Samples: make([]ops.Sample, 1)},
	} {
		if _, err := d.program.Submit(step); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := d.device.Record(2, func(set ops.Set) error {
		set.Sample(ops.SampleArgs{Logits: d.logits, Vocabulary: 100, Tokens: 101})
		return nil
	}); err == nil || !strings.Contains(err.Error(), "101 tokens in rows of 100") {
		t.Errorf("more tokens than logits: %v", err)
	}
}

// What a phase of draws costs over the real vocabulary, with two steps on their way.
func BenchmarkDraw(b *testing.B) {
	if !silicon() {
		b.Skip("it measures a device")
	}
	const vocabulary = 151936
	for name, p := range map[string]ops.Sampling{
		"greedy": {Watch: -1}, "top-k": {Temperature: .7, TopK: 20, TopP: .8, Watch: -1}, "top-p": {Temperature: 1, TopP: .95, Watch: -1},
		"plain": {Temperature: 1, Watch: -1}, "penalties": {Temperature: .7, TopK: 20, Presence: 1, Seen: []ops.Count{{ID: 5, Output: 2}}, Watch: -1},
	} {
		for _, rows := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", name, rows), func(b *testing.B) {
				d := newDrawer(b, rows, vocabulary, vocabulary)
				random := rand.New(rand.NewPCG(1, 2))
				steps := [2]*ops.Step{}
				for s := range steps {
					steps[s] = &ops.Step{Samples: make([]ops.Sample, rows), Sampling: make([]ops.Sampling, rows)}
				}
				for i := range rows {
					row := make([]float32, vocabulary)
					normalRow(3)(row, random)
					d.check(d.device.Write(d.logits.Slice(int64(i*vocabulary), vocabulary), bytesOf(row)))
					for _, step := range steps {
						step.Sampling[i] = p
						step.Sampling[i].Seed = random.Uint64()
					}
				}
				var before ops.Ticket
				for i := 0; b.Loop(); i++ {
					ticket, err := d.program.Submit(steps[i%2])
					d.check(err)
					if before != nil {
						d.check(before.Wait(b.Context()))
					}
					before = ticket
				}
				d.check(before.Wait(b.Context()))
			})
		}
	}
}
