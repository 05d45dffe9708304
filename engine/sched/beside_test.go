package sched

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// guided is a sampler with hooks whose tokens hang on the rows of sequences beside.
type guided struct {
	watcher
	beside []*Beside
	rows   [][]uint64  // that it saw, by token: its own, then those beside
	back   map[int]int // positions where it goes back once, and to where
}

func (g *guided) Choose(out *ops.Sample, row func() ([]float32, error)) error {
	if g.pause != nil {
		time.Sleep(g.pause(g.at))
	}
	fetch := []func() ([]float32, error){row}
	for _, b := range g.beside {
		fetch = append(fetch, b.Row)
	}
	var rows []uint64
	for _, f := range fetch {
		logits, err := f()
		if err != nil {
			return err
		}
		rows = append(rows, uint64(logits[0]))
	}
	if to, ok := g.back[g.at]; ok {
		delete(g.back, g.at)
		g.rows = g.rows[:len(g.rows)-(g.at-to)]
		return &Rewind{To: to}
	}
	out.Token.ID = token(mix(rows...), 0)
	g.rows = append(g.rows, rows)
	return nil
}

func (g *guided) Accept(int32) {}

// rowsAfter works out the row behind a prompt and each of some tokens, alone.
func rowsAfter(prompt, drawn []int32, steer func(int) *ops.Steering) (rows []uint64) {
	var state, row uint64
	var entries []uint64
	for i, id := range append(slices.Clone(prompt), drawn...) {
		kind := ops.Prefill
		if i >= len(prompt) {
			kind = ops.Decode
		}
		entries = append(entries, mix(uint64(id), uint64(i), form(kind)))
		state = mix(state, uint64(id), form(kind), steered(steer(i)))
		if i < len(prompt)-1 {
			continue
		}
		row = state
		for _, e := range entries {
			row = mix(row, e)
		}
		rows = append(rows, row%(1<<20))
	}
	return rows
}

// Sequences beside a stream read what it draws and show the rows that they have alone,
// whatever the scheduler does: beside other streams, put aside, late, taken back.
func TestSequencesBeside(t *testing.T) {
	ids, others := prompt(1, 70), [][]int32{prompt(5, 130), prompt(6, 3)}
	slow := func(position int) time.Duration { return time.Duration(position%4) * 20 * time.Millisecond }
	for _, ahead := range []bool{false, true} {
		for _, overcommit := range []string{"", "swap", "rebuild"} {
			for _, pause := range []func(int) time.Duration{nil, slow} {
				synctest.Test(t, func(t *testing.T) {
					opts := plain
					opts.Overcommit = overcommit
					b := newBenchOn(&fake{ahead: ahead}, 14, 5, opts)
					other := b.submit(t.Context(), t, Request{Prompt: prompt(2, 64), MaxTokens: 200})
					g := &guided{watcher: watcher{sampler: sampler{host: true, steer: steer}, pause: pause},
						beside: []*Beside{NewBeside(others[0]), NewBeside(others[1])}, back: map[int]int{75: 72, 90: 86, 130: 125}}
					streams, err := b.Submit(Request{Prompt: ids, MaxTokens: 90, Ahead: 4, Hold: 6, Ends: func(int32) bool { return false }},
						[]Choice{{Context: t.Context(), Sampler: g, Beside: g.beside}})
					if err != nil {
						t.Fatal(err)
					}
					late := make(chan int)
					go func() { // comes while both run, and takes their room under overcommit
						time.Sleep(50 * time.Millisecond)
						n, _ := consume(b.submit(t.Context(), t, Request{Prompt: prompt(3, 60), MaxTokens: 150}))
						late <- n
					}()
					done := make(chan int)
					go func() { n, _ := consume(other); done <- n }()
					got, end := take(streams[0])
					if n, m := <-done, <-late; end.Err != nil || len(got) != 90 || n != 200 || m != 150 {
						t.Errorf("ahead %v, %q: %+v, %d tokens; %d and %d of the others", ahead, overcommit, end, len(got), n, m)
					}
					for i, begins := range append([][]int32{ids}, others...) {
						same := func(at int) *ops.Steering { // as the stream's row is
							if at < len(begins) {
								return steer(0)
							}
							return steer(at - len(begins) + len(ids))
						}
						for n, row := range rowsAfter(begins, got[:max(len(got)-1, 0)], same) {
							if seen := g.rows[n][i]; seen != row {
								t.Fatalf("ahead %v, %q: token %d saw row %d as %d, alone it is %d", ahead, overcommit, n, i, seen, row)
							}
						}
					}
					b.close(t)
				})
			}
		}
	}
}

// What has no room for its sequences is refused at once, and says what to do.
func TestSequencesBesideNeedRoom(t *testing.T) {
	b := newBench(8, 2, plain)
	defer b.close(t)
	two := []*Beside{NewBeside(prompt(1, 5)), NewBeside(prompt(2, 5))}
	req := Request{Prompt: prompt(3, 5), MaxTokens: 10, Ahead: 1}
	if _, err := b.Submit(req, []Choice{{Context: t.Context(), Sampler: &sampler{}, Beside: two}}); err == nil {
		t.Error("three slots of two are there")
	}
	one := []Choice{{Context: t.Context(), Sampler: &sampler{}, Beside: two[:1]}}
	if _, err := b.Submit(req, append(one, one...)); err == nil {
		t.Error("two choices share a sequence")
	}
}
