package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Sequence is a place in the cache: tokens that were read, and room for more.
// One goroutine uses it at a time; Release gives it back.
type Sequence struct {
	m      *Model
	stack  *stack
	place  *cache.Sequence
	length int // tokens read
	limit  int
}

// StepOptions asks for more than the state of a step.
type StepOptions struct {
	// Logits are the offsets among the given tokens, ascending, whose logits
	// Rows is called with.
	Logits []int
	// Rows sees each asked row [vocabulary] once. It must copy what it keeps.
	Rows func(offset int, logits []float32)
	// Sampling asks for a draw from each row of Logits.
	Sampling []ops.Sampling
	// Tap sees the values inside phases, where the backend can show them.
	Tap func(layer int, what string, width int, data []float32)
	// Residual gets the residual behind some layers, of each of the tokens, as
	// ops.Step.Residual does: Values holds theirs, one after another.
	Residual *ops.Residual
	// Between changes values inside the step, as ops.Step.Between does: rows are the
	// places of tokens among those given.
	Between *ops.Between
	// Hidden is what a draft sequence reads beside the ids: for each, the
	// model's hidden state of the token before, after the final norm.
	Hidden []float32
	// StepForm reads the tokens in step form (ops.Replay) and not in chunks.
	StepForm bool
}

// NewSequence waits for room for so many tokens.
func (m *Model) NewSequence(ctx context.Context, tokens int) (*Sequence, error) {
	return m.sequence(ctx, m.main, tokens)
}

// NewDraft waits for room in the draft (MTP) layer.
func (m *Model) NewDraft(ctx context.Context, tokens int) (*Sequence, error) {
	if m.draft == nil {
		return nil, errors.New("this checkpoint has no draft (mtp) layer")
	}
	return m.sequence(ctx, m.draft, tokens)
}

func (m *Model) sequence(ctx context.Context, s *stack, tokens int) (*Sequence, error) {
	if tokens < 1 || tokens > m.info.Context {
		return nil, &ContextError{Prompt: tokens, Limit: m.info.Context}
	}
	if err := m.enter(); err != nil {
		return nil, err
	}
	place, err := m.acquire(ctx, s.cache, tokens)
	if err != nil {
		m.leave()
		return nil, err
	}
	return &Sequence{m: m, stack: s, place: place, limit: tokens}, nil
}

// acquire waits for the cache, and no longer than the model stays open and its device
// is there.
func (m *Model) acquire(ctx context.Context, c *cache.Cache, tokens int) (*cache.Sequence, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-m.closed:
			cancel(ErrClosed)
		case <-m.lost:
			cancel(m.Err())
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	return c.Acquire(ctx, tokens)
}

// Release gives the sequence's memory back. A second call does nothing.
func (s *Sequence) Release() {
	if s.place == nil {
		return
	}
	s.place.Release()
	s.place = nil
	s.m.leave()
}

// Length returns how many tokens the sequence has read.
func (s *Sequence) Length() int { return s.length }

// Read feeds tokens, in steps that end on absolute chunk borders, so that the
// split changes no bit. It returns one sample for each of opts.Sampling. After
// an error the sequence's state is lost: release it.
func (s *Sequence) Read(ctx context.Context, ids []int32, opts StepOptions) ([]ops.Sample, error) {
	if s.length+len(ids) > s.limit {
		return nil, fmt.Errorf("sequence with room for %d tokens has read %d: %d more do not fit", s.limit, s.length, len(ids))
	}
	if opts.Residual != nil {
		opts.Residual.Values = opts.Residual.Values[:0]
	}
	samples := make([]ops.Sample, 0, len(opts.Sampling))
	wanted := opts.Logits
	for offset := 0; offset < len(ids); {
		n := min(s.m.sizes.chunk-s.length%ops.ChunkTokens, len(ids)-offset) // ends on a border
		rows := before(wanted, offset+n)
		if rows > logitsRows {
			n = logitsRows - s.length%ops.ChunkTokens
			rows = before(wanted, offset+n)
		}
		draws := opts.Sampling
		if len(draws) > 0 {
			draws = draws[len(samples):][:rows]
		}
		got, err := s.step(ctx, ids[offset:offset+n], offset, wanted[:rows], draws, opts)
		if err != nil {
			return nil, err
		}
		samples = append(samples, got...)
		wanted, offset = wanted[rows:], offset+n
	}
	return samples, nil
}

// before counts the offsets, which ascend, before an end.
func before(offsets []int, end int) int {
	n, _ := slices.BinarySearch(offsets, end)
	return n
}

// step runs one step of the device.
func (s *Sequence) step(ctx context.Context, ids []int32, offset int, wanted []int, draws []ops.Sampling, opts StepOptions) ([]ops.Sample, error) {
	m := s.m
	segment := ops.Segment{Slot: s.place.Slot, Start: s.length, Len: len(ids), Pages: s.place.Pages}
	switch {
	case opts.StepForm && len(ids) == 1:
		segment.Kind = ops.Decode
	case opts.StepForm:
		segment.Kind = ops.Replay
	}
	for _, at := range wanted {
		segment.Logits = append(segment.Logits, at-offset)
	}
	step := &ops.Step{IDs: ids, Segments: []ops.Segment{segment}, Sampling: draws, Tap: opts.Tap, Between: shifted(opts.Between, offset)}
	if opts.Residual != nil {
		step.Residual = &ops.Residual{Layers: opts.Residual.Layers}
	}
	if width := m.cfg.Hidden; opts.Hidden != nil {
		step.Hidden = opts.Hidden[offset*width:][:len(ids)*width]
	}
	samples, err := m.run(ctx, s.stack, step, wanted, opts.Rows)
	if err != nil {
		return nil, err
	}
	s.length += len(ids)
	if to := opts.Residual; to != nil {
		to.Width, to.Values = step.Residual.Width, append(to.Values, step.Residual.Values...)
	}
	return samples, nil
}

// shifted is between for a step whose first row is one further on for its caller.
func shifted(between *ops.Between, offset int) *ops.Between {
	if between == nil || between.Do == nil || offset == 0 {
		return between
	}
	other := *between
	other.Do = func(point ops.Point, layer, row int, values []float32) error {
		return between.Do(point, layer, offset+row, values)
	}
	return &other
}

// Decode feeds one token to each of several sequences in one step, as streams beside
// each other are: each has the bits that it has alone. Of opts, Logits are places
// among the sequences. After an error the state of all is lost: release them.
func (m *Model) Decode(ctx context.Context, sequences []*Sequence, ids []int32, opts StepOptions) ([]ops.Sample, error) {
	if len(sequences) == 0 || len(ids) != len(sequences) {
		return nil, fmt.Errorf("%d tokens for %d sequences: a step needs one for each", len(ids), len(sequences))
	}
	step := &ops.Step{IDs: ids, Sampling: opts.Sampling, Hidden: opts.Hidden, Tap: opts.Tap, Residual: opts.Residual, Between: opts.Between}
	for i, s := range sequences {
		switch {
		case s.stack != sequences[0].stack || slices.Contains(sequences[:i], s):
			return nil, fmt.Errorf("sequence %d of a step is there twice, or of another model", i)
		case s.length == s.limit:
			return nil, fmt.Errorf("sequence with room for %d tokens is full", s.limit)
		}
		segment := ops.Segment{Kind: ops.Decode, Slot: s.place.Slot, Start: s.length, Len: 1, Pages: s.place.Pages}
		if slices.Contains(opts.Logits, i) {
			segment.Logits = []int{0}
		}
		step.Segments = append(step.Segments, segment)
	}
	samples, err := m.run(ctx, sequences[0].stack, step, opts.Logits, opts.Rows)
	if err == nil {
		for _, s := range sequences {
			s.length++
		}
	}
	return samples, err
}

// run runs one step of the device, forward, then the draws, and shows its rows of
// logits under the names in wanted.
func (m *Model) run(ctx context.Context, s *stack, step *ops.Step, wanted []int, show func(int, []float32)) ([]ops.Sample, error) {
	if err := m.hold(ctx); err != nil {
		return nil, err
	}
	defer m.release()
	if err := replay(ctx, s.forward, step); err != nil {
		return nil, err
	}
	if show != nil {
		if err := m.rows(wanted, show); err != nil {
			return nil, err
		}
	}
	if len(step.Sampling) == 0 {
		return nil, nil
	}
	step.Samples = make([]ops.Sample, len(step.Sampling))
	err := replay(ctx, m.sample, step)
	return step.Samples, err
}

// replay submits a step to a program and waits for it.
func replay(ctx context.Context, p ops.Program, step *ops.Step) error {
	ticket, err := p.Submit(step)
	if err != nil {
		return err
	}
	return ticket.Wait(ctx)
}

// rows shows each wanted row of logits.
func (m *Model) rows(wanted []int, show func(int, []float32)) error {
	row := make([]float32, m.cfg.Vocab)
	for i, offset := range wanted {
		if err := m.read(row, m.buffers.Logits.Slice(int64(i*m.cfg.Vocab), int64(m.cfg.Vocab))); err != nil {
			return err
		}
		show(offset, row)
	}
	return nil
}
