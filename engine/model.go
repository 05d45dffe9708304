package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/cuda"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/engine/sched"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

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
	backend   ops.Backend
	plan      *cuda.Plan // nil on a CPU
	*recording
	sched *sched.Scheduler

	device  chan struct{} // holds one token: its holder runs steps
	waiting atomic.Int64  // who waits for it, but for the scheduler
	mu      sync.Mutex
	users   int // sequences alive
	loss    error
	lost    chan struct{} // closed when loss is set
	closed  chan struct{}
	idle    chan struct{} // closed when closed and no users are left
}

// Open loads the model in fsys: config.json, *.safetensors, and, where they are
// there, tokenizer.json and a chat template. Memory is checked before weights
// are touched.
func Open(ctx context.Context, fsys fs.FS, opts Options) (*Model, error) {
	m := &Model{device: make(chan struct{}, 1), lost: make(chan struct{}), closed: make(chan struct{}), idle: make(chan struct{})}
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
	fixed := cuda.Fixed{Context: opts.Context != 0, Slots: opts.Streams != 0, Chunk: opts.PrefillChunk != 0}
	if opts.Streams == 0 {
		opts.Streams = defaultStreams
	}
	var err error
	if m.backend, m.info.Note, err = machineFor(&opts, m.lose); err != nil {
		return err
	}
	sizes, err := m.limits(&opts, fixed)
	if err != nil {
		return err
	}
	if m.plan != nil {
		report(Progress{Stage: "memory", Plan: m.plan.String()})
	}
	err = m.place(ctx, opts.Synthetic, func(done, total int64) {
		report(Progress{Stage: "weights", Done: done, Total: total})
	})
	if err != nil {
		return err
	}
	if m.recording, err = m.record(m.backend, sizes); err != nil {
		return err
	}
	m.info.Tokens = m.tokens()
	m.sched = sched.New(&machine{m, m.backend.Caps().Ahead}, m.main.cache, sched.Options{
		Chunk: sizes.chunk, LogitsRows: logitsRows, Queue: opts.Queue, Overcommit: opts.Overcommit})
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
	errs = append(errs, m.recording.close())
	if m.backend != nil {
		errs = append(errs, m.backend.Close())
	}
	if m.files != nil {
		errs = append(errs, m.files.Close())
	}
	return m.news(errs)
}

// ErrClosed is returned by what was asked of a model after Close.
var ErrClosed = errors.New("the model is closed")

// enter counts a user, unless the model is closed or its device lost.
func (m *Model) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		return ErrClosed
	default:
	}
	if m.loss == nil {
		m.users++
	}
	return m.loss
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
