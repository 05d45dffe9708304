package cuda

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Rows that are changed behind the last layer have the change on top of what they have
// without it, the others not a bit, whichever rows they are, in passes of both classes.
// What is handed out is what lies there.
func TestBetweenRows(t *testing.T) {
	for _, c := range []struct {
		name     string
		numerics Numerics
		shape    mixtureShape
		step     *ops.Step
	}{
		{"decode, exact", Exact, mixtureOdd, singles(5)},
		{"decode", Fast, mixtureSmall, singles(5)},
		{"prefill, exact", Exact, mixtureOdd, prompt(70)},
		{"prefill", Fast, mixtureFew, prompt(70)},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := c.step.Rows()
			w := newMixture(t, c.numerics, c.shape, 100)
			in := w.inputs(rows)
			w.run(in, c.step)
			plain := [2][]float32{}
			plain[0], plain[1] = w.live(w.x, rows, w.hidden)
			for what, wants := range map[string]func(row int) bool{
				"none": func(int) bool { return false }, "all": func(int) bool { return true },
				"the first": func(row int) bool { return row == 0 }, "the last": func(row int) bool { return row == rows-1 },
				"every other": func(row int) bool { return row%2 == 1 }, "two runs": func(row int) bool { return row%3 != 1 },
			} {
				step := *c.step
				step.Residual = &ops.Residual{Layers: []int{1}}
				step.Between = &ops.Between{Residual: []int{1}, Do: func(_ ops.Point, _, row int, values []float32) error {
					for i := range values {
						if wants(row) {
							values[i] += float32(i - row)
						}
					}
					return nil
				}}
				w.run(in, &step)
				host, device := w.live(w.x, rows, w.hidden)
				for side, got := range [][]float32{host, device} {
					for i, v := range got {
						row, want := i/w.hidden, plain[side][i]
						if wants(row) {
							want += float32(i%w.hidden - row)
						}
						if v != want {
							t.Fatalf("%s, side %d: row %d is %v at %d, want %v", what, side, row, v, i%w.hidden, want)
						}
					}
				}
				for row := range rows { // the device ran last
					if far(device[row*w.hidden:][:w.hidden], step.Residual.Row(row, 0)) != 0 {
						t.Fatalf("%s: row %d of what is handed out is not what lies there", what, row)
					}
				}
			}
		})
	}
}

// Rows of a step that takes several passes are told by their places in it: decode and
// replay rows come first, 64 a pass, wherever they stand.
func TestBetweenTellsRowsByTheStep(t *testing.T) {
	const read, replay = 3, 70
	w := newMixture(t, Exact, mixtureOdd, 100)
	step := prompt(read)
	step.Segments = append(step.Segments, ops.Segment{Kind: ops.Replay, Slot: 1, Len: replay, Pages: []int32{1, 2}})
	step.IDs = make([]int32, read+replay)
	var order []string
	step.Between = &ops.Between{Residual: []int{0, 1}, Do: func(_ ops.Point, layer, row int, values []float32) error {
		if len(values) != w.hidden {
			return fmt.Errorf("%d values", len(values))
		}
		order = append(order, fmt.Sprint(layer, " ", row))
		return nil
	}}
	run(t, w.onDevice, step)
	var want []string
	for _, pass := range [][2]int{{read, read + 64}, {read + 64, read + replay}, {0, read}} {
		for layer := range mixtureLayers {
			for row := pass[0]; row < pass[1]; row++ {
				want = append(want, fmt.Sprint(layer, " ", row))
			}
		}
	}
	if strings.Join(order, ", ") != strings.Join(want, ", ") {
		t.Errorf("called for %v, want %v", order, want)
	}
}

// What fails is refused, or fails, on both sides alike, and the next step runs.
func TestBetweenRefused(t *testing.T) {
	w := newMixture(t, Exact, mixtureOdd, decodeRows)
	broken := errors.New("broken")
	for _, p := range []ops.Program{w.onHost, w.onDevice} {
		for want, edit := range map[string]func(*ops.Step){
			"residual of layer 2 behind that of -1": func(s *ops.Step) { s.Residual = &ops.Residual{Layers: []int{mixtureLayers}} },
			"residual of layer 1, row 2: broken": func(s *ops.Step) {
				s.Between = &ops.Between{Residual: []int{1}, Do: func(_ ops.Point, _, row int, _ []float32) error {
					if row == 2 {
						return broken
					}
					return nil
				}}
			},
		} {
			step := singles(3)
			edit(step)
			ticket, err := p.Submit(step)
			if err == nil {
				err = ticket.Wait(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(want, "broken") != errors.Is(err, broken) {
				t.Errorf("%q: %v", want, err)
			}
			run(t, p, singles(3))
		}
	}
}
