package sched

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// fake is a machine whose state is hashes: a slot's is of all tokens read, in
// which form, and a row of logits is of the slot's state and of every entry of
// the pages. Whatever is mixed up changes all tokens that follow. What is queued
// runs when it is waited for, as late as can be.
type fake struct {
	lock   sync.Mutex
	slots  []slot
	pages  [][ops.PageTokens]uint64
	rows   []uint64
	drawn  []int32
	chunk  int
	broken error
	stuck  bool    // steps end only when abandoned
	steps  []shape // of each step

	ahead   bool
	wanted  func() bool
	holds   func(slot int, pages []int32) bool // whether a running stream has that place
	queue   []*ticket
	flying  map[string]int // tickets not waited for
	deepest int            // most steps on their way
	behind  int            // forward passes queued behind another step
	breakAt int            // the forward pass that fails, by steps before it; 0 for none
}

// ticket is something that was queued.
type ticket struct {
	f       *fake
	what    string
	work    func() error
	err     error
	ran     bool
	settled bool
}

// queued puts work into the queue. One that is not ahead has nothing else there;
// one that is has two of a kind at most, as many as a device keeps apart.
func (f *fake) queued(what string, work func() error) (ops.Ticket, error) {
	most := 1
	if f.ahead {
		most = 2
	}
	if f.flying[what] == most || !f.ahead && len(f.queue) > 0 {
		return nil, fmt.Errorf("%s is queued behind %v", what, f.flying)
	}
	if f.flying[what]++; what == "forward" && len(f.queue) > 0 {
		f.behind++
	}
	f.deepest = max(f.deepest, f.flying[what])
	t := &ticket{f: f, what: what, work: work}
	f.queue = append(f.queue, t)
	return t, nil
}

func (t *ticket) Wait(ctx context.Context) error {
	if t.settled {
		return errors.New("waited for twice")
	}
	t.settled = true
	t.f.flying[t.what]--
	if t.f.stuck {
		<-ctx.Done()
	}
	t.f.drain(t)
	if t.f.stuck {
		return ctx.Err()
	}
	return t.err
}

// drain runs what is queued, up to a ticket; all of it for nil.
func (f *fake) drain(last *ticket) {
	for len(f.queue) > 0 && (last == nil || !last.ran) {
		t := f.queue[0]
		f.queue = f.queue[1:]
		t.err, t.ran = t.work(), true
	}
}

type slot struct {
	read  int
	state uint64
}

type shape struct{ decodes, chunk int }

func mix(words ...uint64) uint64 {
	h := uint64(0x9E3779B97F4A7C15)
	for _, w := range words {
		h = (h ^ w) * 0xBF58476D1CE4E5B9
		h ^= h >> 29
	}
	return h
}

// form is the arithmetic form as a hash sees it: decode and replay are one.
func form(kind ops.SegmentKind) uint64 { return uint64(min(kind, ops.Decode)) }

// steered is steering as a hash sees it.
func steered(s *ops.Steering) uint64 {
	if s == nil {
		return 0
	}
	return uint64(s.Layers[0].K)
}

func (f *fake) Lock()   { f.lock.Lock() }
func (f *fake) Unlock() { f.lock.Unlock() }

func (f *fake) Ahead() bool  { return f.ahead }
func (f *fake) Wanted() bool { return f.wanted() }

func (f *fake) Forward(step *ops.Step) (ops.Ticket, error) {
	ids, segments := slices.Clone(step.IDs), slices.Clone(step.Segments)
	for i := range segments {
		s := &segments[i]
		s.Pages, s.Logits = slices.Clone(s.Pages), slices.Clone(s.Logits)
	}
	residual, between := step.Residual, step.Between
	return f.queued("forward", func() error {
		f.inside(segments, residual, between)
		return f.forward(ids, segments, step.Routes)
	})
}

func (f *fake) Sample(step *ops.Step) (ops.Ticket, error) {
	sampling := slices.Clone(step.Sampling)
	return f.queued("sample", func() error { return f.sample(sampling, step.Samples) })
}

func (f *fake) forward(ids []int32, segments []ops.Segment, routes *ops.Routes) error {
	if f.broken != nil {
		return f.broken
	}
	if f.breakAt > 0 && len(f.steps) == f.breakAt {
		f.breakAt = 0
		return errBroken
	}
	for i, id := range ids {
		if id < 0 {
			ids[i] = f.drawn[^id]
		}
	}
	used := map[int]bool{}
	f.rows = f.rows[:0]
	if routes != nil {
		*routes = ops.Routes{Layers: 1, K: 1}
	}
	var s shape
	for _, g := range segments {
		at := &f.slots[g.Slot]
		if g.Start == 0 {
			*at = slot{}
		}
		switch {
		case !f.holds(g.Slot, g.Pages):
			return fmt.Errorf("slot %d with pages %v belongs to nobody", g.Slot, g.Pages)
		case used[g.Slot]:
			return fmt.Errorf("slot %d twice in a step", g.Slot)
		case at.read != g.Start:
			return fmt.Errorf("segment starts at %d, its slot is at %d", g.Start, at.read)
		case g.Kind == ops.Prefill && g.Start%ops.ChunkTokens != 0:
			return fmt.Errorf("prefill starts at %d", g.Start)
		case g.Len < 1 || g.Len > f.chunk || g.Kind == ops.Decode && g.Len != 1:
			return fmt.Errorf("%v of %d tokens", g.Kind, g.Len)
		}
		used[g.Slot] = true
		if g.Kind == ops.Decode {
			s.decodes++
		} else if s.chunk += g.Len; s.chunk != g.Len {
			return errors.New("two chunks in a step")
		}
		wanted := g.Logits
		for i := range g.Len {
			position := g.Start + i
			f.pages[g.Pages[position/ops.PageTokens]][position%ops.PageTokens] = mix(uint64(ids[i]), uint64(position), form(g.Kind))
			at.state = mix(at.state, uint64(ids[i]), form(g.Kind), steered(g.Steer))
			if routes != nil {
				routes.IDs, routes.Weights = append(routes.IDs, uint16(at.state)), append(routes.Weights, 1)
			}
			for len(wanted) > 0 && wanted[0] == i {
				row := at.state
				for p := range position + 1 {
					row = mix(row, f.pages[g.Pages[p/ops.PageTokens]][p%ops.PageTokens])
				}
				f.rows, wanted = append(f.rows, row), wanted[1:]
			}
		}
		at.read += g.Len
		ids = ids[g.Len:]
	}
	if len(ids) != 0 {
		return fmt.Errorf("%d ids left", len(ids))
	}
	f.steps = append(f.steps, s)
	return nil
}

func (f *fake) sample(sampling []ops.Sampling, samples []ops.Sample) error {
	if len(f.rows) != len(sampling) || len(samples) != len(sampling) {
		return fmt.Errorf("%d rows, %d draws, %d samples", len(f.rows), len(sampling), len(samples))
	}
	f.drawn = f.drawn[:0]
	for i, s := range sampling {
		samples[i] = ops.Sample{Token: ops.Candidate{ID: token(f.rows[i], s.Seed)}, Watched: watched(f.rows[i], s.Watch)}
		f.drawn = append(f.drawn, samples[i].Token.ID)
	}
	return nil
}

const vocabulary = 97

func token(row, seed uint64) int32 { return int32(mix(row, seed) % vocabulary) }

func watched(row uint64, id int32) ops.Candidate {
	return ops.Candidate{ID: id, Logprob: -float32(mix(row, uint64(id)) % 1000)}
}

func (f *fake) Row(dst []float32, i int) ([]float32, error) {
	f.drain(nil)
	return append(dst[:0], float32(f.rows[i]%(1<<20))), nil
}

// inside shows and hands out a value for each row and layer: layer*1000 + position, one
// more for each time that it was changed.
func (f *fake) inside(segments []ops.Segment, r *ops.Residual, b *ops.Between) {
	if r == nil && b == nil {
		return
	}
	rows := 0
	for _, g := range segments {
		rows += g.Len
	}
	if r != nil {
		r.Resize(rows, 1)
		if err := r.Check(100); err != nil {
			panic(err)
		}
	}
	row := 0
	for _, g := range segments {
		for i := range g.Len {
			for layer := range 100 {
				value := []float32{float32(1000*layer + g.Start + i)}
				for _, point := range []ops.Point{ops.RouterLogits, ops.ResidualOut} {
					if b.Stops(point, layer) {
						if err := b.Do(point, layer, row, value); err != nil {
							panic(err)
						}
					}
				}
				if place, ok := r.Place(layer); ok {
					copy(r.Row(row, place), value)
				}
			}
			row++
		}
	}
}

func (f *fake) Lens(x []float32) ([]float32, error) {
	f.drain(nil)
	return []float32{-x[0]}, nil
}

func (f *fake) CopySlot(dst, src int) error {
	f.drain(nil)
	f.slots[dst] = f.slots[src]
	return nil
}

func (f *fake) CopyPage(dst, src int32) error {
	f.drain(nil)
	f.pages[dst] = f.pages[src]
	return nil
}

func (f *fake) Save(place *cache.Sequence, tokens int) ([]byte, error) {
	f.drain(nil)
	at := f.slots[place.Slot]
	if at.read != tokens {
		return nil, fmt.Errorf("saved at %d tokens, the slot is at %d", tokens, at.read)
	}
	out := binary.LittleEndian.AppendUint64(nil, at.state)
	for p := range tokens {
		out = binary.LittleEndian.AppendUint64(out, f.pages[place.Pages[p/ops.PageTokens]][p%ops.PageTokens])
	}
	return out, nil
}

func (f *fake) Load(place *cache.Sequence, tokens int, saved []byte) error {
	f.drain(nil)
	f.slots[place.Slot] = slot{read: tokens, state: binary.LittleEndian.Uint64(saved)}
	for p := range tokens {
		f.pages[place.Pages[p/ops.PageTokens]][p%ops.PageTokens] = binary.LittleEndian.Uint64(saved[8+8*p:])
	}
	return nil
}

// sampler keys each draw with all tokens accepted before; on the host, it draws
// from the row itself.
type sampler struct {
	seed  uint64
	host  bool
	steer func(position int) *ops.Steering // of solo; nil for none
}

func (s *sampler) Draw(position, _ int) ops.Sampling {
	sampling := ops.Sampling{Seed: mix(s.seed, uint64(position)), Watch: -1}
	if s.host {
		sampling.Window = 1
	}
	return sampling
}

func (s *sampler) Choose(out *ops.Sample, row func() ([]float32, error)) error {
	if !s.host {
		return nil
	}
	logits, err := row()
	if err == nil {
		out.Token.ID = token(uint64(logits[0]), s.seed)
	}
	return err
}

func (s *sampler) Accept(id int32) { s.seed = mix(s.seed, uint64(id)) }

// solo is what a stream must draw, and the scores of its prompt, worked out
// without machine or scheduler.
func solo(prompt []int32, tokens int, s *sampler, end int32) (ids []int32, scores []ops.Candidate) {
	var state uint64
	var entries []uint64
	read := func(id int32, kind ops.SegmentKind) (row uint64) {
		entries = append(entries, mix(uint64(id), uint64(len(entries)), form(kind)))
		var steer *ops.Steering
		if s.steer != nil {
			steer = s.steer(len(entries) - 1)
		}
		state = mix(state, uint64(id), form(kind), steered(steer))
		row = state
		for _, e := range entries {
			row = mix(row, e)
		}
		return row
	}
	var row uint64
	for i, id := range prompt {
		row = read(id, ops.Prefill)
		if i+1 < len(prompt) {
			scores = append(scores, watched(row, prompt[i+1]))
		}
	}
	for {
		id := token(row, s.Draw(len(entries), 0).Seed)
		if s.host {
			id = token(row%(1<<20), s.seed)
		}
		s.Accept(id)
		if ids = append(ids, id); id == end || len(ids) == tokens {
			return ids, scores
		}
		row = read(id, ops.Decode)
	}
}

// bench is a scheduler on a fake machine.
type bench struct {
	*Scheduler
	fake  *fake
	cache *cache.Cache
}

func newBench(pages, slots int, opts Options) *bench { return newBenchOn(&fake{}, pages, slots, opts) }

// newBenchOn is newBench with a machine that may be ahead.
func newBenchOn(f *fake, pages, slots int, opts Options) *bench {
	c, err := cache.New(nil, cache.Shape{}, pages, slots)
	if err != nil {
		panic(err)
	}
	f.slots, f.pages, f.chunk, f.flying = make([]slot, slots), make([][ops.PageTokens]uint64, pages), opts.Chunk, map[string]int{}
	if f.wanted == nil {
		f.wanted = func() bool { return false }
	}
	b := &bench{fake: f, cache: c}
	f.lock.Lock() // the loop waits for it before it looks at b
	f.holds = func(slot int, pages []int32) bool {
		return slices.ContainsFunc(b.running, func(g *group) bool {
			return slices.ContainsFunc(g.streams, func(t *Stream) bool {
				ours := func(p *cache.Sequence) bool {
					return p != nil && p.Slot == slot && slices.Equal(p.Pages[:len(pages)], pages)
				}
				return ours(t.place) || slices.ContainsFunc(t.beside, func(b *Beside) bool { return ours(b.place) })
			})
		})
	}
	b.Scheduler = New(f, c, opts)
	f.lock.Unlock()
	return b
}

var errClosed, errBroken = errors.New("closed"), errors.New("the device fell off")

// close ends the scheduler and checks that everything came back.
func (b *bench) close(t interface{ Errorf(string, ...any) }) {
	b.Close(errClosed)
	pages, slots := b.cache.Size()
	if p, s, waiting := b.cache.Free(); p != pages || s != slots || waiting != 0 {
		t.Errorf("in the end %d of %d pages, %d of %d slots are free, %d wait", p, pages, s, slots, waiting)
	}
	if st := b.Stats(); st.Queued+st.Running+st.Swapped != 0 {
		t.Errorf("in the end %+v", st)
	}
}

func prompt(seed uint64, n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(mix(seed, uint64(i)) % vocabulary)
	}
	return ids
}

// submit queues a request of one choice.
func (b *bench) submit(ctx context.Context, t testing.TB, req Request) *Stream {
	t.Helper()
	if req.Ends == nil {
		req.Ends = func(int32) bool { return false }
	}
	if req.Ahead == 0 {
		req.Ahead = 4
	}
	streams, err := b.Submit(req, []Choice{{Context: ctx, Sampler: &sampler{}}})
	if err != nil {
		t.Fatal(err)
	}
	return streams[0]
}
