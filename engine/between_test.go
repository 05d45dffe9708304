package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
)

// forms are the ways in which tokens are read. Each gives what it leaves behind.
var forms = []struct {
	name string
	rows int
	run  func(t *testing.T, m *Model, opts StepOptions) trace
}{
	{"prefill in pieces", 150, func(t *testing.T, m *Model, opts StepOptions) trace {
		return readAnew(t, m, randomIDs(150), opts)
	}},
	{"replay", 70, func(t *testing.T, m *Model, opts StepOptions) trace {
		opts.StepForm = true
		return readAnew(t, m, randomIDs(70), opts)
	}},
	{"decode", 1, func(t *testing.T, m *Model, opts StepOptions) trace {
		seq := sequence(t, m, 10)
		defer seq.Release()
		read(t, m, seq, randomIDs(5), StepOptions{})
		opts.StepForm = true
		return read(t, m, seq, []int32{7}, opts)
	}},
	{"decode of three", 3, func(t *testing.T, m *Model, opts StepOptions) (all trace) {
		var sequences []*Sequence
		for _, n := range []int{5, 12, 3} {
			seq := sequence(t, m, 20)
			defer seq.Release()
			read(t, m, seq, randomIDs(n), StepOptions{})
			sequences = append(sequences, seq)
		}
		opts.Logits = []int{0, 1, 2}
		opts.Rows = func(_ int, row []float32) { all.logits = append(all.logits, row...) }
		if _, err := m.Decode(context.Background(), sequences, []int32{7, 8, 9}, opts); err != nil {
			t.Fatal(err)
		}
		for _, seq := range sequences {
			all.states = append(all.states, states(t, m, seq)...)
		}
		return all
	}},
}

// readAnew reads tokens into a sequence of their own.
func readAnew(t *testing.T, m *Model, ids []int32, opts StepOptions) trace {
	t.Helper()
	seq := sequence(t, m, len(ids))
	defer seq.Release()
	return read(t, m, seq, ids, opts)
}

// betweenSizes make prompts come in pieces.
var betweenSizes = Options{Streams: 3, Context: 256, PrefillChunk: 64}

// The residual that a step hands out is what a tap sees, of every row, and asking for
// it changes no bit.
func TestResidualIsWhatATapSees(t *testing.T) { residualIsWhatATapSees(t, open) }
func TestResidualIsWhatATapSeesOnDevice(t *testing.T) {
	arithmetic(t)
	eachOnDevice(t, residualIsWhatATapSees)
}

func residualIsWhatATapSees(t *testing.T, open opener) {
	m := open(t, betweenSizes)
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			want := form.run(t, m, StepOptions{})
			tapped := map[int][]float32{}
			form.run(t, m, StepOptions{Tap: func(layer int, what string, width int, data []float32) {
				if what == "residual_out" {
					tapped[layer] = append(tapped[layer], data...)
				}
			}})
			for _, layers := range [][]int{{1}, {0, 2, 3}, {}} {
				residual := &ops.Residual{Layers: layers}
				mustEqual(t, fmt.Sprintf("with the residual of %v", layers), form.run(t, m, StepOptions{Residual: residual}), want)
				if residual.Width != m.cfg.Hidden || len(residual.Values) != form.rows*len(layers)*m.cfg.Hidden {
					t.Fatalf("%d values of %d for %d layers of %d rows", len(residual.Values), residual.Width, len(layers), form.rows)
				}
				for place, layer := range layers {
					for row := range form.rows {
						if !sameBits(residual.Row(row, place), tapped[layer][row*m.cfg.Hidden:][:m.cfg.Hidden]) {
							t.Fatalf("residual behind layer %d, row %d, differs from the tap's", layer, row)
						}
					}
				}
			}
		})
	}
}

// Stopping everywhere to change nothing changes no bit, and what is seen there is what
// taps see, once for each row.
func TestNeutralBetweenChangesNoBit(t *testing.T) { neutralBetweenChangesNoBit(t, open) }
func TestNeutralBetweenChangesNoBitOnDevice(t *testing.T) {
	arithmetic(t)
	eachOnDevice(t, neutralBetweenChangesNoBit)
}

func neutralBetweenChangesNoBit(t *testing.T, open opener) {
	m := open(t, betweenSizes)
	names := map[string]ops.Point{"router_logits": ops.RouterLogits, "residual_out": ops.ResidualOut}
	type place struct {
		point      ops.Point
		layer, row int
	}
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			want := form.run(t, m, StepOptions{})
			tapped := map[place][]float32{}
			next := map[place]int{}
			form.run(t, m, StepOptions{Tap: func(layer int, what string, width int, data []float32) {
				point, ok := names[what]
				if !ok {
					return
				}
				for row := range slices.Chunk(data, width) {
					at := place{point: point, layer: layer}
					tapped[place{point, layer, next[at]}] = slices.Clone(row)
					next[at]++
				}
			}})
			seen := map[place][]float32{}
			all := []int{0, 1, 2, 3}
			between := &ops.Between{Router: all, Residual: all, Do: func(point ops.Point, layer, row int, values []float32) error {
				at := place{point, layer, row}
				if _, twice := seen[at]; twice {
					t.Errorf("%+v twice", at)
				}
				seen[at] = slices.Clone(values)
				return nil
			}}
			mustEqual(t, "stopped everywhere", form.run(t, m, StepOptions{Between: between}), want)
			if len(seen) != 2*len(all)*form.rows || len(tapped) != len(seen) {
				t.Fatalf("%d places, taps saw %d, there are %d", len(seen), len(tapped), 2*len(all)*form.rows)
			}
			for at, values := range seen {
				if !sameBits(values, tapped[at]) {
					t.Errorf("%+v differs from the tap's", at)
				}
			}
		})
	}
}

// submitted runs one step of a sequence as edit has it, and returns the logits behind
// its last token.
func submitted(t *testing.T, s *Sequence, kind ops.SegmentKind, ids []int32, edit func(*ops.Step)) (logits []float32) {
	t.Helper()
	step := &ops.Step{IDs: ids, Segments: []ops.Segment{{Kind: kind, Slot: s.place.Slot, Start: s.length, Len: len(ids), Pages: s.place.Pages, Logits: []int{len(ids) - 1}}}}
	edit(step)
	_, err := s.m.run(t.Context(), s.stack, step, []int{0}, func(_ int, row []float32) { logits = slices.Clone(row) })
	if err != nil {
		t.Fatal(err)
	}
	s.length += len(ids)
	return logits
}

// A vector added between layers is a steering vector, and the residual that is handed
// out has it.
func TestBetweenIsASteeringVector(t *testing.T)         { betweenIsASteeringVector(t, open) }
func TestBetweenIsASteeringVectorOnDevice(t *testing.T) { eachOnDevice(t, betweenIsASteeringVector) }

func betweenIsASteeringVector(t *testing.T, open opener) {
	m := open(t, betweenSizes)
	vector := make([]float32, m.cfg.Hidden)
	for i := range vector {
		vector[i] = float32(math.Sin(float64(i))) / 8
	}
	for _, form := range []struct {
		kind ops.SegmentKind
		rows int
	}{{ops.Prefill, 33}, {ops.Replay, 7}, {ops.Decode, 1}} {
		var logits, residuals [3][]float32
		for i := range logits {
			seq := sequence(t, m, 40)
			residual := &ops.Residual{Layers: []int{0, 1, 2}}
			logits[i] = submitted(t, seq, form.kind, randomIDs(form.rows), func(step *ops.Step) {
				step.Residual = residual
				switch i {
				case 1:
					step.Segments[0].Steer = &ops.Steering{Layers: []ops.LayerSteering{{}, {Vector: vector, Strength: 1}}}
				case 2:
					step.Between = &ops.Between{Residual: []int{1}, Do: func(_ ops.Point, _, _ int, values []float32) error {
						for i := range values {
							values[i] += vector[i]
						}
						return nil
					}}
				}
			})
			residuals[i] = residual.Values
			seq.Release()
		}
		if !sameBits(logits[1], logits[2]) || !sameBits(residuals[1], residuals[2]) {
			t.Errorf("%v: logits differ by %.3g, residuals by %.3g from those of a steering vector", form.kind, apart(logits[1], logits[2]), apart(residuals[1], residuals[2]))
		}
		if sameBits(logits[0], logits[1]) {
			t.Errorf("%v: the vector changed nothing", form.kind)
		}
	}
}

// apart is the largest difference.
func apart(a, b []float32) (most float64) {
	for i := range a {
		most = max(most, math.Abs(float64(a[i])-float64(b[i])))
	}
	return most
}

// Changed router logits choose the experts, and give the logits, that the formulas
// do, for those rows alone that were changed; so does a changed residual.
func TestBetweenFollowsTheFormulas(t *testing.T)         { onEach(t, betweenFollowsTheFormulas) }
func TestBetweenFollowsTheFormulasOnDevice(t *testing.T) { onEach(t, betweenFollowsTheFormulas) }

func betweenFollowsTheFormulas(t *testing.T, o Options) {
	m, reference := small(t, o, 1)
	edit := intervention{router: map[int]float64{3: 1.5, 0: -2, 6: .25}}
	for i := range m.cfg.Hidden {
		edit.vector = append(edit.vector, .7*math.Sin(float64(i)))
	}
	wants := func(position int) bool { return position%3 != 1 }
	between := func(start int) *ops.Between {
		return &ops.Between{Router: []int{0, 2}, Residual: []int{0, 2}, Do: func(point ops.Point, _, row int, values []float32) error {
			if !wants(start + row) {
				return nil
			}
			for i := range values {
				if point == ops.RouterLogits {
					values[i] += float32(edit.router[i])
				} else {
					values[i] += float32(edit.vector[i])
				}
			}
			return nil
		}}
	}
	position := 0
	reference.edit = func(layer int) *intervention {
		if layer == 1 || !wants(position) {
			return nil
		}
		return &edit
	}
	seq := sequence(t, m, 80)
	worst := 0.0
	feed := func(kind ops.SegmentKind, ids ...int32) {
		var routes ops.Routes
		got := submitted(t, seq, kind, ids, func(step *ops.Step) { step.Between, step.Routes = between(seq.length), &routes })
		var want []float64
		for i, id := range ids {
			want = reference.token(id, position)
			for layer, chosen := range reference.chosen {
				ids := routes.IDs[(i*routes.Layers+layer)*routes.K:][:routes.K]
				if !slices.EqualFunc(ids, chosen, func(a uint16, b int) bool { return int(a) == b }) {
					t.Fatalf("position %d, layer %d: experts %v, the formulas choose %v", position, layer, ids, chosen)
				}
			}
			position++
		}
		for i, v := range got {
			d := math.Abs(float64(v) - want[i])
			if worst = max(worst, d); !(d < 1e-3) {
				t.Fatalf("%v to position %d: logit %d is %v, the formulas say %v", kind, position, i, v, want[i])
			}
		}
	}
	prompt := make([]int32, 70)
	for i := range prompt {
		prompt[i] = int32(i * 7 % 53)
	}
	feed(ops.Prefill, prompt...)
	feed(ops.Decode, 4)
	feed(ops.Decode, 9)
	feed(ops.Replay, 1, 52, 30)
	feed(ops.Decode, 17)
	t.Logf("changed between phases: worst difference of a logit %.2g, bound 1e-3", worst)
}

// An error of Do, and layers that are not there, fail their step and no other.
func TestBetweenThatFails(t *testing.T)         { betweenThatFails(t, open) }
func TestBetweenThatFailsOnDevice(t *testing.T) { onceOnDevice(t, betweenThatFails) }

func betweenThatFails(t *testing.T, open opener) {
	m := open(t, betweenSizes)
	ids := randomIDs(100)
	want := readAnew(t, m, ids, StepOptions{})
	broken := errors.New("broken")
	failing := func(point ops.Point, layer, row int) *ops.Between {
		return &ops.Between{Router: []int{1, 3}, Residual: []int{0, 3}, Do: func(p ops.Point, l, r int, values []float32) error {
			values[0]++
			if p == point && l == layer && r == row {
				return broken
			}
			return nil
		}}
	}
	for what, opts := range map[string]StepOptions{
		"router logits of layer 1, row 3: broken": {Between: failing(ops.RouterLogits, 1, 3)},
		"residual of layer 3, row 35: broken":     {Between: failing(ops.ResidualOut, 3, 99)}, // of the second piece
		"residual of layer 3, row 63: broken":     {Between: failing(ops.ResidualOut, 3, 63), Residual: &ops.Residual{Layers: []int{0, 1, 2, 3}}, StepForm: true},
		"layer 4 behind that of 0":                {Residual: &ops.Residual{Layers: []int{0, 4}}},
		"router logits of layer 4":                {Between: &ops.Between{Router: []int{4}, Do: failing(0, 0, 0).Do}},
		"set Between.Do":                          {Between: &ops.Between{Residual: []int{1}}},
	} {
		seq := sequence(t, m, len(ids))
		_, err := seq.Read(t.Context(), ids, opts)
		if err == nil || !strings.Contains(err.Error(), what) || strings.Contains(what, "broken") != errors.Is(err, broken) {
			t.Errorf("%s: %v", what, err)
		}
		seq.Release()
		mustEqual(t, "after "+what, readAnew(t, m, ids, StepOptions{}), want)
	}
}

// Two steps that are on their way at a time have a residual each, also where the second
// has more of it than waits in one piece.
func TestResidualsOfStepsAheadOnDevice(t *testing.T) { onceOnDevice(t, residualsOfStepsAhead) }

func residualsOfStepsAhead(t *testing.T, open opener) {
	m := open(t, Options{Streams: 2, Context: 256, PrefillChunk: 256})
	prompts := [2][]int32{randomIDs(9), randomIDs(150)}
	var want [2]ops.Residual
	var sequences [2]*Sequence
	for i, ids := range prompts {
		want[i].Layers = []int{0, 1, 3}
		readAnew(t, m, ids, StepOptions{Residual: &want[i]})
	}
	for i, ids := range prompts {
		sequences[i] = sequence(t, m, len(ids))
	}
	if err := m.hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.release()
	var got [2]ops.Residual
	var tickets [2]ops.Ticket
	for i, ids := range prompts {
		got[i].Layers = want[i].Layers
		place := sequences[i].place
		var err error
		tickets[i], err = m.main.forward.Submit(&ops.Step{IDs: ids, Residual: &got[i],
			Segments: []ops.Segment{{Kind: ops.Prefill, Slot: place.Slot, Len: len(ids), Pages: place.Pages}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, ticket := range tickets {
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !sameBits(got[i].Values, want[i].Values) {
			t.Errorf("step %d has another residual than alone", i)
		}
	}
}

// The lens of the residual behind the last layer has the bits of the step's own logits,
// in every form, also of more rows than it takes at a time, and leaves those alone.
func TestLens(t *testing.T)         { lensOfTheLastLayer(t, open) }
func TestLensOnDevice(t *testing.T) { eachOnDevice(t, lensOfTheLastLayer) }

func lensOfTheLastLayer(t *testing.T, open opener) {
	m := open(t, Options{Streams: 1, Context: 256, PrefillChunk: 64})
	device := &machine{m: m}
	const rows = 2*qwen3next.LensRows + 3
	last := m.cfg.Layers - 1
	ids, all := randomIDs(rows), make([]int, rows)
	for i := range all {
		all[i] = i
	}
	for _, stepForm := range []bool{false, true} {
		seq := sequence(t, m, rows)
		residual := &ops.Residual{Layers: []int{0, last}}
		var want []float32
		opts := StepOptions{Logits: all, Residual: residual, StepForm: stepForm, Rows: func(_ int, row []float32) { want = append(want, row...) }}
		if _, err := seq.Read(t.Context(), ids, opts); err != nil {
			t.Fatal(err)
		}
		seq.Release()
		var early, late []float32
		for row := range rows {
			early, late = append(early, residual.Row(row, 0)...), append(late, residual.Row(row, 1)...)
		}
		if err := m.hold(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := device.Lens(late)
		if err != nil || !sameBits(got, want) {
			t.Errorf("step form %v: logits of the last layer differ by %.3g from the step's, %v", stepForm, apart(got, want), err)
		}
		for _, n := range []int{1, qwen3next.LensRows} {
			one, err := device.Lens(late[:n*m.cfg.Hidden])
			if err != nil || !sameBits(one, want[:n*m.cfg.Vocab]) {
				t.Errorf("step form %v: the first %d rows by themselves differ, %v", stepForm, n, err)
			}
		}
		other, err := device.Lens(early)
		if err != nil || sameBits(other, want) || len(other) != len(want) {
			t.Errorf("step form %v: the first layer says what the last does, %v", stepForm, err)
		}
		row, err := device.Row(nil, rows-1)
		if err != nil || !sameBits(row, want[(rows-1)*m.cfg.Vocab:]) {
			t.Errorf("step form %v: the step's own logits are gone, %v", stepForm, err)
		}
		m.release()
	}
	if _, err := device.Lens(make([]float32, m.cfg.Hidden+1)); err == nil {
		t.Error("a row and a value were taken")
	}
}

// What stops between phases may look through the lens there.
func TestLensBetween(t *testing.T)         { lensBetween(t, open) }
func TestLensBetweenOnDevice(t *testing.T) { eachOnDevice(t, lensBetween) }

func lensBetween(t *testing.T, open opener) {
	m := open(t, betweenSizes)
	for _, form := range forms {
		want := form.run(t, m, StepOptions{})
		var seen []float32
		got := form.run(t, m, StepOptions{Between: &ops.Between{Router: []int{1}, Residual: []int{0, m.cfg.Layers - 1}, Do: func(point ops.Point, layer, row int, values []float32) error {
			if point == ops.RouterLogits {
				return nil
			}
			logits, err := (&machine{m: m}).Lens(values)
			if layer > 0 && (row == form.rows-1 || len(want.logits) > m.cfg.Vocab) {
				seen = append(seen, logits...)
			}
			return err
		}}})
		mustEqual(t, form.name, got, want)
		if !sameBits(seen, want.logits) {
			t.Errorf("%s: seen between the phases, the logits are others", form.name)
		}
	}
}

// Whichever call to the driver fails, a step that stops between phases ends with an
// error or unharmed, and the model goes on with the bits that it had.
func TestAnyCallMayFailBetween(t *testing.T) {
	fake := newFake(t)
	opts := betweenSizes
	opts.Device, opts.Driver = "cuda", fake
	m := open(t, opts)
	ids := randomIDs(80)
	want := readAnew(t, m, ids, StepOptions{})
	run := func() ([]float32, error) {
		seq := sequence(t, m, len(ids))
		defer seq.Release()
		residual := &ops.Residual{Layers: []int{1, 2}}
		_, err := seq.Read(t.Context(), ids, StepOptions{Residual: residual, StepForm: true, Between: &ops.Between{Router: []int{0}, Residual: []int{2},
			Do: func(_ ops.Point, _, _ int, values []float32) error {
				values[0] += .5
				return nil
			}}})
		return residual.Values, err
	}
	before := fake.Calls()
	whole, err := run()
	if err != nil {
		t.Fatal(err)
	}
	calls, failed := fake.Calls()-before, 0
	step := 3
	if testing.Short() {
		step = 17
	}
	for n := 1; n < calls; n += step {
		fake.Fail(n, driver.InvalidValue)
		got, err := run()
		if err == nil && !sameBits(got, whole) {
			t.Errorf("call %d failed: no error, and another residual", n)
		}
		if err != nil {
			failed++
		}
	}
	if failed < calls/step/2 {
		t.Errorf("%d of %d failures reached the caller", failed, calls/step)
	}
	fake.Fail(1<<30, driver.InvalidValue)
	mustEqual(t, "after the failures", readAnew(t, m, ids, StepOptions{}), want)
}

// BenchmarkBetween is what it costs a decode step to be looked into: on a device with
// ROUNDHOUSE_GPU=1 and a folder of real dimensions, else on the CPU.
func BenchmarkBetween(b *testing.B) {
	opener := open
	if dir := realFolder(); dir != "" {
		opener = onDevice(dir, "fast")
	}
	m := opener(b, Options{Streams: 1, Context: 4096})
	all := []int{0, 1, 2, 3}
	nothing := func(ops.Point, int, int, []float32) error { return nil }
	change := func(_ ops.Point, _, _ int, values []float32) error {
		values[0]++
		return nil
	}
	for _, c := range []struct {
		name string
		opts StepOptions
	}{
		{"plain", StepOptions{}},
		{"residual of 1 layer", StepOptions{Residual: &ops.Residual{Layers: all[:1]}}},
		{"residual of 4 layers", StepOptions{Residual: &ops.Residual{Layers: all}}},
		{"stops at 1 router", StepOptions{Between: &ops.Between{Router: all[:1], Do: nothing}}},
		{"stops at 4 routers", StepOptions{Between: &ops.Between{Router: all, Do: nothing}}},
		{"changes at 4 routers", StepOptions{Between: &ops.Between{Router: all, Do: change}}},
		{"changes at 4 routers and 4 residuals", StepOptions{Between: &ops.Between{Router: all, Residual: all, Do: change}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.opts.StepForm = true
			var seq *Sequence
			defer func() { seq.Release() }()
			for b.Loop() {
				if seq == nil || seq.Length() == 4096 {
					if seq != nil {
						seq.Release()
					}
					var err error
					if seq, err = m.NewSequence(b.Context(), 4096); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := seq.Read(b.Context(), []int32{7}, c.opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("lens of 1 row", func(b *testing.B) {
		if err := m.hold(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer m.release()
		for b.Loop() {
			if _, err := (&machine{m: m}).Lens(make([]float32, m.cfg.Hidden)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
