package hook

import (
	"math"
	"slices"
	"testing"
)

// pinned is a number that no version may change.
const pinned = 0.7220560715310806

// counting counts what is asked of a row.
type counting struct {
	Plain
	asked map[string]int
}

func (c counting) Top(k int) ([]Candidate, error) { c.asked["top"]++; return c.Plain.Top(k) }
func (c counting) Logprob(id int32) (float32, error) {
	c.asked["logprob"]++
	return c.Plain.Logprob(id)
}
func (c counting) Entropy() (float32, error) { c.asked["entropy"]++; return c.Plain.Entropy() }

func TestReads(t *testing.T) {
	ln := func(p float64) float32 { return float32(math.Log(p)) }
	row := Plain{ln(.5), ln(.125), -inf, ln(.25), ln(.125)}
	from := counting{row, map[string]int{}}
	r := NewReads(5, from, row)
	near := func(what string, got, want float32) {
		t.Helper()
		if math.Abs(float64(got-want)) > 1e-6 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	top := must(r.Top(3))
	if ids := []int32{top[0].ID, top[1].ID, top[2].ID}; !slices.Equal(ids, []int32{0, 3, 1}) {
		t.Errorf("top 3: %v", ids)
	}
	top[0].ID = 77 // a copy
	if again := must(r.Top(2)); again[0].ID != 0 || from.asked["top"] != 1 {
		t.Errorf("%v, asked %d times", again, from.asked["top"])
	}
	near("probability of 3", must(r.Prob(3)), .25)
	near("probability of 4", must(r.Prob(4)), .125)
	near("log-probability of 4", must(r.Logprob(4)), ln(.125))
	near("entropy", must(r.Entropy()), float32(1.75*math.Ln2))
	near("entropy", must(r.Entropy()), float32(1.75*math.Ln2))
	if from.asked["logprob"] != 1 || from.asked["entropy"] != 1 {
		t.Errorf("asked %v: what is known is not asked for again", from.asked)
	}
	for id, want := range []int{0, 2, 4, 1, 3} {
		if got := must(r.Rank(int32(id))); got != want {
			t.Errorf("rank of %d: %d, want %d", id, got, want)
		}
	}
	if all := must(r.Top(5)); len(all) != 4 {
		t.Errorf("%d candidates: a banned token is none", len(all))
	}
	full := must(r.Full())
	if full[0] = 99; must(r.Full())[0] == 99 {
		t.Error("full is no copy")
	}
	for name, err := range map[string]error{"top": second(r.Top(6)), "prob": second(r.Prob(5)), "rank": second(r.Rank(-1))} {
		if kind := kindOf(t, err); kind != "bad_id" && kind != "bad_value" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Every read that fetches is counted once, for the hook that made it.
func TestReadsArePriced(t *testing.T) {
	h := func() *fake {
		return &fake{logits: func(_ *Call, l *Logits) error {
			l.Top(4)
			l.Top(2)
			l.Entropy()
			l.Full()
			l.Rank(0)
			l.Model().Entropy()
			return nil
		}}
	}
	r := start(t, Options{}, h(), h())
	r.step(3)
	u := r.Report().Hooks
	if u[0].Reads["top"] != 1 || u[0].Reads["sum"] != 2 || u[0].Reads["row"] != 1 || len(u[1].Reads) > 0 {
		t.Errorf("%v, %v", u[0].Reads, u[1].Reads)
	}
}

func TestRouting(t *testing.T) {
	var shares, overlaps []float64
	var counts []uint32
	h := &fake{spec: Spec{Lag: 1}, routing: func(_ *Call, r *Routing) error {
		shares = append(shares, must(r.Share(1, 4, 3)))
		if back := r.Back(1); back != nil {
			overlaps = append(overlaps, must(r.Overlap(r)), must(r.Overlap(back)))
			if back.Position != r.Position-1 {
				t.Errorf("one back of %d is %d", r.Position, back.Position)
			}
		}
		counts = must(r.Counts(1))
		if ids := must(r.Experts(1)); !slices.Equal(ids, []uint16{uint16((r.Position + 1) % 8)}) || len(must(r.Applied(1))) != 1 {
			t.Errorf("experts %v", ids)
		}
		for name, err := range map[string]error{"layer": second(r.Experts(4)), "expert": second(r.Share(0, 8, 1)), "window": second(r.Share(0, 1, 300))} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		return nil
	}}
	r := start(t, Options{}, h)
	for position := 3; position < 9; position++ {
		r.step(position)
	}
	// Rows 2 to 6 chose experts 3 to 7 in layer 1.
	if want := []float64{0, .5, 1. / 3, 1. / 3, 0}; !slices.Equal(shares, want) {
		t.Errorf("shares %v, want %v", shares, want)
	}
	if want := []uint32{0, 0, 0, 1, 1, 1, 1, 1}; !slices.Equal(counts, want) {
		t.Errorf("counts %v, want %v", counts, want)
	}
	if overlaps[0] != 1 || overlaps[1] != 0 {
		t.Errorf("overlaps %v", overlaps)
	}
}

func TestPromptRoutingIsAskedFor(t *testing.T) {
	for all, want := range map[bool]int{false: 0, true: 3} {
		got := 0
		h := &fake{spec: Spec{CaptureAll: all}, routing: func(c *Call, r *Routing) error {
			if c.Phase == InPrompt {
				got++
			}
			return nil
		}}
		r := start(t, Options{}, h)
		for position := range 3 {
			rec := record(position)
			rec.Prompt = true
			r.Routing(rec)
		}
		r.Finish(Finish{})
		if got != want || r.Needs().CaptureAll != all {
			t.Errorf("captureAll %v: %d prompt rows", all, got)
		}
	}
}
