package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/hostmem"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/engine/sched"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// defaultContext keeps the KV pool of an 80B checkpoint within 1.6 GB a stream
// in fp32 where nobody asked for more; its own limit is 262,144.
const defaultContext = 32768

// logitsRows is the most rows of one prompt with logits in one step: prompts
// whose log-probabilities are asked for are read in pieces of it. Each stream
// has a row beside.
const logitsRows = 64

// Model is an open model: weights placed, programs recorded. Its methods are
// safe for concurrent use; concurrent streams share steps.
type Model struct {
	info      Info
	cfg       *qwen3next.Config
	weights   *qwen3next.Weights
	files     *safetensors.Checkpoint
	tokenizer *tokenizer.Tokenizer // nil when the folder has none
	template  *chat.Template
	special   *chat.Map
	chunk     int
	streams   int
	kv        ops.Type

	backend ops.Backend
	arenas  []ops.Arena
	buffers *qwen3next.Buffers
	main    *stack
	draft   *stack // nil without an MTP layer
	sample  ops.Program
	sched   *sched.Scheduler

	device  chan struct{} // holds one token: its holder runs steps
	waiting atomic.Int64  // who waits for it, but for the scheduler
	mu      sync.Mutex
	users   int // sequences alive
	closed  chan struct{}
	idle    chan struct{} // closed when closed and no users are left
}

// stack is a recorded run of layers with the cache they keep: the model's, or
// its draft layer.
type stack struct {
	forward ops.Program
	cache   *cache.Cache
	shape   cache.Shape
}

// Open loads the model in fsys: config.json, *.safetensors, and, where they are
// there, tokenizer.json and a chat template. Memory is checked before weights
// are touched.
func Open(ctx context.Context, fsys fs.FS, opts Options) (*Model, error) {
	m := &Model{device: make(chan struct{}, 1), closed: make(chan struct{}), idle: make(chan struct{})}
	m.device <- struct{}{}
	if err := m.open(ctx, fsys, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("open model %s: %w", opts.Name, err), m.Close())
	}
	return m, nil
}

func (m *Model) open(ctx context.Context, fsys fs.FS, opts Options) error {
	report := opts.Progress
	if report == nil {
		report = func(Progress) {}
	}
	if err := m.bind(fsys, report); err != nil {
		return err
	}
	report(Progress{Stage: "tokenizer"})
	if err := m.text(fsys); err != nil {
		return err
	}
	if opts.Streams == 0 {
		opts.Streams = 4
	}
	var err error
	if m.backend, m.info.Note, err = machineFor(&opts); err != nil {
		return err
	}
	if err := m.limits(&opts); err != nil {
		return err
	}
	err = m.place(ctx, opts.Synthetic, func(done, total int64) {
		report(Progress{Stage: "weights", Done: done, Total: total})
	})
	if err != nil {
		return err
	}
	if err := m.record(cache.PagesFor(opts.CacheTokens)); err != nil {
		return err
	}
	m.sched = sched.New(&machine{m, m.backend.Caps().Ahead}, m.main.cache, sched.Options{
		Chunk: m.chunk, LogitsRows: logitsRows, Queue: opts.Queue, Overcommit: opts.Overcommit})
	m.describe(opts.Name)
	report(Progress{Stage: "ready", Done: m.info.WeightBytes, Total: m.info.WeightBytes})
	return nil
}

// place gives the backend its weights.
func (m *Model) place(ctx context.Context, synthetic bool, report func(done, total int64)) error {
	if !synthetic {
		return m.backend.Place(ctx, m.weights.All, report)
	}
	filler, ok := m.backend.(interface {
		PlaceSynthetic(ctx context.Context, w ops.Weights, seed uint64, report func(done, total int64)) error
	})
	if !ok {
		return fmt.Errorf("%s cannot make weights up: synthetic models without files run on a GPU; on a CPU, write one with roundhouse synth", m.backend.Caps().Name)
	}
	return filler.PlaceSynthetic(ctx, m.weights.All, 1, report)
}

// bind reads configuration and headers and finds every tensor.
func (m *Model) bind(fsys fs.FS, report func(Progress)) (err error) {
	config, err := readFile(fsys, "config.json")
	if err != nil {
		return fmt.Errorf("%w: is this a model folder?", err)
	}
	generation, err := readFile(fsys, "generation_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.cfg, err = qwen3next.ParseConfig(config, generation); err != nil {
		return err
	}
	quant, err := autoround.ReadConfig(fsys, config)
	if err != nil {
		return err
	}
	report(Progress{Stage: "headers"})
	if m.files, err = safetensors.Open(fsys); err != nil {
		return err
	}
	m.weights, err = qwen3next.Bind(m.files, m.cfg, quant)
	return firstProblems(err)
}

// maxProblems is how many problems of a folder are told in full: a foreign
// checkpoint lacks 74,000 modules. `roundhouse inspect` tells them by kind.
const maxProblems = 50

func firstProblems(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) <= maxProblems {
		return err
	}
	all := joined.Unwrap()
	return errors.Join(errors.Join(all[:maxProblems]...), fmt.Errorf("and %d more", len(all)-maxProblems))
}

// maxText bounds the json files of a model folder; the largest known is a
// tokenizer.json of 11 MB.
const maxText = 64 << 20

func readFile(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxText+1))
	if err == nil && len(data) > maxText {
		err = fmt.Errorf("%s has more than %d bytes, which no model folder needs", name, maxText)
	}
	return data, err
}

// text loads tokenizer and template. Neither is needed to compute.
func (m *Model) text(fsys fs.FS) error {
	data, err := readFile(fsys, "tokenizer.json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if m.tokenizer, err = tokenizer.Parse(data); err != nil {
		return fmt.Errorf("tokenizer.json: %w", err)
	}
	if m.tokenizer.Size() > m.cfg.Vocab {
		return fmt.Errorf("tokenizer.json has %d ids, the embedding only %d rows: the files do not belong together", m.tokenizer.Size(), m.cfg.Vocab)
	}
	if m.template, err = chat.Load(fsys); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.special, err = chat.LoadSpecialTokens(fsys)
	return err
}

// limits fills in the options' defaults and checks the memory they ask for.
func (m *Model) limits(opts *Options) (err error) {
	if opts.Context == 0 {
		opts.Context = min(m.cfg.Context, defaultContext)
	}
	if opts.Context < 1 || opts.Context > m.cfg.Context {
		return fmt.Errorf("context of %d tokens: the model allows 1 to %d", opts.Context, m.cfg.Context)
	}
	if opts.PrefillChunk == 0 {
		opts.PrefillChunk = 512
	}
	if opts.Streams < 0 || opts.PrefillChunk < 0 || opts.PrefillChunk%ops.ChunkTokens != 0 {
		return fmt.Errorf("%d streams with prefill chunks of %d tokens: streams must be positive, chunks a multiple of %d",
			opts.Streams, opts.PrefillChunk, ops.ChunkTokens)
	}
	if opts.CacheTokens == 0 {
		opts.CacheTokens = opts.Streams * cache.PagesFor(opts.Context) * ops.PageTokens
	}
	if opts.CacheTokens < opts.Context {
		return fmt.Errorf("a cache of %d tokens holds no stream of %d: raise the cache or lower the context", opts.CacheTokens, opts.Context)
	}
	if opts.Queue == 0 {
		opts.Queue = 256
	}
	if opts.Queue < 0 || !slices.Contains([]string{"", "swap", "rebuild"}, opts.Overcommit) {
		return fmt.Errorf("queue of %d requests with overcommit %q: the queue must be positive, overcommit \"\", \"swap\" or \"rebuild\"", opts.Queue, opts.Overcommit)
	}
	if m.kv, err = kvType(opts.KV, m.backend.Caps()); err != nil {
		return err
	}
	m.info.Context, m.chunk, m.streams = opts.Context, opts.PrefillChunk, opts.Streams
	for _, w := range m.weights.All.Matrices {
		m.info.WeightBytes += w.Bytes()
	}
	need := m.info.WeightBytes + m.shape().StateBytes()*int64(opts.Streams) + m.cfg.BufferBytes(m.stepRows())
	if free, ok := hostmem.Available(); ok && need > free && !opts.IgnoreMemory {
		return fmt.Errorf("the model needs %.1f GB of memory (weights %.1f GB), %.1f GB are free: close other programs, lower the context or the streams, or use a machine with more memory",
			float64(need)/1e9, float64(m.info.WeightBytes)/1e9, float64(free)/1e9)
	}
	return nil
}

// shape and draftShape say what the layers keep, with the KV type in force.
func (m *Model) shape() cache.Shape {
	s := m.cfg.Shape()
	s.KV = m.kv
	return s
}

func (m *Model) draftShape() cache.Shape {
	s := m.cfg.DraftShape()
	s.KV = m.kv
	return s
}

// stepRows returns the most token rows of a step, and the most with logits: a chunk
// and a row of every stream.
func (m *Model) stepRows() (rows, withLogits int) { return m.chunk + m.streams, logitsRows + m.streams }

// record allocates buffers and caches of so many pages and records the programs.
func (m *Model) record(pages int) error {
	memory, err := m.arena("buffers", m.cfg.BufferBytes(m.stepRows()))
	if err != nil {
		return err
	}
	rows, withLogits := m.stepRows()
	if m.buffers, err = qwen3next.NewBuffers(memory, m.cfg, rows, withLogits); err != nil {
		return err
	}
	if m.main, err = m.stack("cache", m.shape(), pages, qwen3next.Forward); err != nil {
		return err
	}
	if m.weights.Draft != nil {
		if m.draft, err = m.stack("draft cache", m.draftShape(), pages, qwen3next.Draft); err != nil {
			return err
		}
	}
	m.info.Tokens = m.cfg.Vocab
	if m.tokenizer != nil {
		m.info.Tokens = m.tokenizer.Size()
	}
	m.sample, err = m.backend.Record(rows, func(set ops.Set) error {
		set.Sample(ops.SampleArgs{Logits: m.buffers.Logits, Vocabulary: m.cfg.Vocab, Tokens: m.info.Tokens})
		return nil
	})
	return err
}

// stack allocates a cache of so many pages and records what fills it.
func (m *Model) stack(name string, shape cache.Shape, pages int,
	forward func(ops.Set, *qwen3next.Config, *qwen3next.Weights, *cache.Cache, *qwen3next.Buffers)) (*stack, error) {
	memory, err := m.arena(name, shape.Bytes(pages, m.streams))
	if err != nil {
		return nil, err
	}
	s := &stack{shape: shape}
	if s.cache, err = cache.New(memory, shape, pages, m.streams); err != nil {
		return nil, err
	}
	rows, _ := m.stepRows()
	s.forward, err = m.backend.Record(rows, func(set ops.Set) error {
		forward(set, m.cfg, m.weights, s.cache, m.buffers)
		return nil
	})
	return s, err
}

func (m *Model) arena(name string, capacity int64) (ops.Arena, error) {
	a, err := m.backend.NewArena(name, capacity)
	if err == nil {
		m.arenas = append(m.arenas, a)
	}
	return a, err
}

func (m *Model) describe(name string) {
	caps := m.backend.Caps()
	hash := sha256.New()
	fmt.Fprintf(hash, "%+v\n", *m.cfg)
	for _, w := range m.weights.All.Matrices {
		fmt.Fprintln(hash, w.Name, w.K, w.N, w.Layout, w.Bits, w.Group, w.Zeros, w.Weight.File, w.Weight.Offset)
	}
	m.info.Fingerprint = fmt.Sprintf("%x-%s-%s-%s", hash.Sum(nil)[:8], caps.Name, caps.Kernels, caps.Numerics)
	m.info.Name = name
	m.info.Backend = caps
	m.info.Vocab, m.info.Layers = m.cfg.Vocab, m.cfg.Layers
	m.info.Experts, m.info.TopK = m.cfg.Experts, m.cfg.TopK
	m.info.EOS = m.cfg.EOS
	m.info.Defaults = Sampling{Temperature: m.cfg.Temperature, TopK: m.cfg.DefaultTopK, TopP: m.cfg.TopP}
}

// Info describes the model.
func (m *Model) Info() Info { return m.info }

// Tokenizer returns the model's tokenizer, nil when its folder has none.
func (m *Model) Tokenizer() *tokenizer.Tokenizer { return m.tokenizer }

// Template returns the model's chat template, nil when its folder has none.
func (m *Model) Template() *chat.Template { return m.template }

// SpecialTokens are the variables that templates expect beside the messages:
// bos_token, eos_token and their kin.
func (m *Model) SpecialTokens() *chat.Map { return m.special }

// Warnings lists oddities of the checkpoint that do not keep it from running.
func (m *Model) Warnings() []string { return m.weights.Warnings }

// Close waits for running streams and sequences to end and frees everything.
// What waits for admission, and what is new, gets ErrClosed.
func (m *Model) Close() error {
	m.mu.Lock()
	select {
	case <-m.closed:
		m.mu.Unlock()
		return nil
	default:
	}
	close(m.closed)
	if m.users == 0 {
		close(m.idle)
	}
	m.mu.Unlock()
	if m.sched != nil {
		m.sched.Close(ErrClosed)
	}
	<-m.idle
	var errs []error
	for _, s := range []*stack{m.main, m.draft} {
		if s != nil && s.forward != nil {
			errs = append(errs, s.forward.Close())
		}
	}
	if m.sample != nil {
		errs = append(errs, m.sample.Close())
	}
	for _, a := range m.arenas {
		errs = append(errs, a.Close())
	}
	if m.backend != nil {
		errs = append(errs, m.backend.Close())
	}
	if m.files != nil {
		errs = append(errs, m.files.Close())
	}
	return errors.Join(errs...)
}

// ErrClosed is returned by what was asked of a model after Close.
var ErrClosed = errors.New("the model is closed")

// enter counts a user, unless the model is closed.
func (m *Model) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		return ErrClosed
	default:
		m.users++
		return nil
	}
}

func (m *Model) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	select {
	case <-m.closed:
		if m.users == 0 {
			close(m.idle)
		}
	default:
	}
}
