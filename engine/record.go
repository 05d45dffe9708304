package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/cuda"
	"github.com/roundhouse-ai/roundhouse/engine/hostmem"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
)

const (
	// defaultContext keeps the KV pool of an 80B checkpoint within 1.6 GB a stream
	// in fp32 where nobody asked for more; its own limit is 262,144.
	defaultContext = 32768
	defaultStreams = 4
	// Default chunks. A CPU gains nothing from longer ones; on a GPU every chunk reads
	// the experts again.
	defaultChunk       = 512
	defaultDeviceChunk = 2048
)

// logitsRows is the most rows of one prompt with logits in one step: prompts
// whose log-probabilities are asked for are read in pieces of it. Each stream
// has a row beside.
const logitsRows = 64

// sizes decide what memory a model takes beside its weights.
type sizes struct {
	context, streams, chunk int
	pages                   int // of all streams
	kv                      ops.Type
}

// rows returns the most token rows of a step, and the most with logits: a chunk and a
// row of every stream.
func (s sizes) rows() (rows, withLogits int) { return s.chunk + s.streams, logitsRows + s.streams }

// wished are the sizes that the options ask for, with their defaults filled in.
func (m *Model) wished(opts *Options) (s sizes, err error) {
	device := gpuOf(m.backend)
	if opts.Context == 0 {
		opts.Context = min(m.cfg.Context, defaultContext)
	}
	if opts.Context < 1 || opts.Context > m.cfg.Context {
		return s, fmt.Errorf("context of %d tokens: the model allows 1 to %d", opts.Context, m.cfg.Context)
	}
	if opts.PrefillChunk == 0 {
		opts.PrefillChunk = defaultChunk
		if device != nil {
			opts.PrefillChunk = defaultDeviceChunk
		}
	}
	if opts.Streams < 0 || opts.PrefillChunk < 0 || opts.PrefillChunk%ops.ChunkTokens != 0 {
		return s, fmt.Errorf("%d streams with prefill chunks of %d tokens: streams must be positive, chunks a multiple of %d",
			opts.Streams, opts.PrefillChunk, ops.ChunkTokens)
	}
	whole := cache.PagesFor(opts.Context)
	s = sizes{context: opts.Context, streams: opts.Streams, chunk: opts.PrefillChunk, pages: opts.Streams * whole}
	s.chunk = min(s.chunk, (opts.Context+ops.ChunkTokens-1)/ops.ChunkTokens*ops.ChunkTokens) // no prompt is longer
	if opts.CacheTokens != 0 {
		s.pages = cache.PagesFor(opts.CacheTokens)
	}
	if s.pages < whole {
		return s, fmt.Errorf("a cache of %d tokens holds no stream of %d: raise the cache or lower the context", opts.CacheTokens, opts.Context)
	}
	if opts.Queue == 0 {
		opts.Queue = 256
	}
	if opts.Queue < 0 || !slices.Contains([]string{"", "swap", "rebuild"}, opts.Overcommit) {
		return s, fmt.Errorf("queue of %d requests with overcommit %q: the queue must be positive, overcommit \"\", \"swap\" or \"rebuild\"", opts.Queue, opts.Overcommit)
	}
	s.kv, err = kvType(opts.KV, m.backend.Caps())
	return s, err
}

// limits are the sizes that the model will have: on a GPU what fits there (see
// cuda.MakePlan), on a CPU what is asked for, or an error.
func (m *Model) limits(opts *Options, fixed cuda.Fixed) (sizes, error) {
	s, err := m.wished(opts)
	if err != nil {
		return s, err
	}
	for _, w := range m.weights.All.Matrices {
		m.info.WeightBytes += w.Bytes()
	}
	if device := gpuOf(m.backend); device != nil {
		s, err = m.fit(device, s, fixed, opts.CacheTokens != 0)
	} else if !opts.IgnoreMemory {
		err = m.checkHost(s)
	}
	m.info.Context = s.context
	return s, err
}

// checkHost refuses what exceeds the free memory of this machine. KV pages are not
// counted: they are touched as streams grow.
func (m *Model) checkHost(s sizes) error {
	need := m.info.WeightBytes + m.shape(s.kv).StateBytes()*int64(s.streams) + m.cfg.BufferBytes(s.rows()) + m.cfg.LensBytes()
	if free, ok := hostmem.Available(); ok && need > free {
		return fmt.Errorf("the model needs %.1f GB of memory (weights %.1f GB), %.1f GB are free: close other programs, lower the context or the streams, or use a machine with more memory",
			float64(need)/1e9, float64(m.info.WeightBytes)/1e9, float64(free)/1e9)
	}
	return nil
}

// fit makes the memory plan of a device; with fixedPages the cache stays as it is wished.
func (m *Model) fit(device *cuda.Backend, wish sizes, fixed cuda.Fixed, fixedPages bool) (sizes, error) {
	free, _, err := device.Memory()
	if err != nil {
		return wish, err
	}
	as := func(c cuda.Sizes) sizes {
		s := sizes{context: c.Context, streams: c.Slots, chunk: c.Chunk, pages: c.Slots * cache.PagesFor(c.Context), kv: c.KV}
		if fixedPages {
			s.pages = wish.pages
		}
		return s
	}
	rehearsal := device.Rehearse(m.weights.All)
	need := func(c cuda.Sizes) ([]cuda.Share, error) {
		return rehearsal.Shares(func(b ops.Backend) error {
			_, err := m.record(b, as(c)) // nothing is behind it that would have to be closed
			return err
		})
	}
	m.plan, err = cuda.MakePlan(need, cuda.Sizes{Context: wish.context, Slots: wish.streams, Chunk: wish.chunk, KV: wish.kv}, fixed, free)
	if err != nil {
		return wish, err
	}
	return as(m.plan.Sizes), nil
}

// shape and draftShape say what the layers keep, with keys and values of a type.
func (m *Model) shape(kv ops.Type) cache.Shape {
	s := m.cfg.Shape()
	s.KV = kv
	return s
}

func (m *Model) draftShape(kv ops.Type) cache.Shape {
	s := m.cfg.DraftShape()
	s.KV = kv
	return s
}

// recording is what runs on a backend: programs, and the memory they work in.
type recording struct {
	sizes   sizes
	arenas  []arena
	buffers *qwen3next.Buffers
	main    *stack
	draft   *stack // nil without an MTP layer
	sample  ops.Program
	lens    *lens
}

// arena is memory of one purpose.
type arena struct {
	ops.Arena
	name string
}

// stack is a recorded run of layers with the cache they keep: the model's, or
// its draft layer.
type stack struct {
	forward ops.Program
	cache   *cache.Cache
	shape   cache.Shape
}

// record allocates buffers and caches on a backend and records the programs. The
// caller closes the recording, also beside an error.
func (m *Model) record(b ops.Backend, s sizes) (*recording, error) {
	r := &recording{sizes: s}
	memory, err := r.arena(b, "buffers", m.cfg.BufferBytes(s.rows()))
	if err != nil {
		return r, err
	}
	rows, withLogits := s.rows()
	if r.buffers, err = qwen3next.NewBuffers(memory, m.cfg, rows, withLogits); err != nil {
		return r, err
	}
	if r.main, err = m.stack(b, r, "cache", m.shape(s.kv), qwen3next.Forward); err != nil {
		return r, err
	}
	if m.weights.Draft != nil {
		if r.draft, err = m.stack(b, r, "draft cache", m.draftShape(s.kv), qwen3next.Draft); err != nil {
			return r, err
		}
	}
	r.sample, err = b.Record(rows, func(set ops.Set) error {
		set.Sample(ops.SampleArgs{Logits: r.buffers.Logits, Vocabulary: m.cfg.Vocab, Tokens: m.tokens()})
		return nil
	})
	if err != nil {
		return r, err
	}
	r.lens, err = m.recordLens(b, r)
	return r, err
}

// tokens is how many ids may be drawn.
func (m *Model) tokens() int {
	if m.tokenizer != nil {
		return m.tokenizer.Size()
	}
	return m.cfg.Vocab
}

// stack allocates a cache and records what fills it.
func (m *Model) stack(b ops.Backend, r *recording, name string, shape cache.Shape,
	forward func(ops.Set, *qwen3next.Config, *qwen3next.Weights, *cache.Cache, *qwen3next.Buffers)) (*stack, error) {
	memory, err := r.arena(b, name, shape.Bytes(r.sizes.pages, r.sizes.streams))
	if err != nil {
		return nil, err
	}
	s := &stack{shape: shape}
	if s.cache, err = cache.New(memory, shape, r.sizes.pages, r.sizes.streams); err != nil {
		return nil, err
	}
	rows, _ := r.sizes.rows()
	s.forward, err = b.Record(rows, func(set ops.Set) error {
		forward(set, m.cfg, m.weights, s.cache, r.buffers)
		return nil
	})
	return s, err
}

func (r *recording) arena(b ops.Backend, name string, capacity int64) (ops.Arena, error) {
	a, err := b.NewArena(name, capacity)
	if err == nil {
		r.arenas = append(r.arenas, arena{a, name})
	}
	return a, err
}

// close frees everything, programs first. A nil recording has nothing.
func (r *recording) close() error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, s := range []*stack{r.main, r.draft} {
		if s != nil && s.forward != nil {
			errs = append(errs, s.forward.Close())
		}
	}
	if r.sample != nil {
		errs = append(errs, r.sample.Close())
	}
	if r.lens != nil && r.lens.program != nil {
		errs = append(errs, r.lens.program.Close())
	}
	for _, a := range r.arenas {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}
