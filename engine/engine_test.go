package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

func open(t testing.TB, opts Options) *Model {
	t.Helper()
	return openFolder(t, optest.Model(t, "int4-mixed-2026"), opts)
}

func openFolder(t testing.TB, dir string, opts Options) *Model {
	t.Helper()
	m, err := Open(context.Background(), os.DirFS(dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func randomIDs(n int) []int32 {
	random := rand.New(rand.NewPCG(11, uint64(n)))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(random.IntN(376))
	}
	return ids
}

// trace is everything a sequence leaves behind: last logits and all states.
type trace struct {
	logits []float32
	states []State
}

func read(t *testing.T, m *Model, seq *Sequence, ids []int32, opts StepOptions) trace {
	t.Helper()
	var tr trace
	opts.Logits = []int{len(ids) - 1}
	opts.Rows = func(_ int, row []float32) { tr.logits = slices.Clone(row) }
	if _, err := seq.Read(context.Background(), ids, opts); err != nil {
		t.Fatal(err)
	}
	tr.states = states(t, m, seq)
	return tr
}

// states are those of all layers.
func states(t *testing.T, m *Model, seq *Sequence) (all []State) {
	t.Helper()
	for layer := range m.Info().Layers {
		s, err := seq.State(layer)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func sequence(t *testing.T, m *Model, tokens int) *Sequence {
	t.Helper()
	seq, err := m.NewSequence(context.Background(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(seq.Release)
	return seq
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func mustEqual(t *testing.T, what string, got, want trace) {
	t.Helper()
	if !sameBits(got.logits, want.logits) {
		t.Errorf("%s: logits differ", what)
	}
	for i := range want.states {
		g, w := got.states[i], want.states[i]
		if !sameBits(g.Keys, w.Keys) || !sameBits(g.Values, w.Values) || !sameBits(g.Recurrent, w.Recurrent) || !sameBits(g.Window, w.Window) {
			t.Errorf("%s: state of layer %d differs", what, i)
		}
	}
}

// Neither the prefill chunk, nor how the prompt comes in pieces, nor threads,
// nor garbage in a used slot change a bit.
func TestPrefillBits(t *testing.T) {
	prefillBits(t, open, []Options{{Threads: 1, PrefillChunk: 64}, {Threads: 2, PrefillChunk: 128}, {Threads: 3, PrefillChunk: 256}, {Threads: 7, PrefillChunk: 512}})
}

func prefillBits(t *testing.T, open opener, others []Options) {
	ids := randomIDs(300)
	m := open(t, Options{Threads: 1, PrefillChunk: 512, Context: 512})
	want := read(t, m, sequence(t, m, 300), ids, StepOptions{})
	for _, opts := range others {
		opts.Streams, opts.Context = 1, 512
		m := open(t, opts)
		for range 2 { // the second time in a slot and pages that were used
			seq := sequence(t, m, 300)
			mustEqual(t, "other threads and chunks", read(t, m, seq, ids, StepOptions{}), want)
			seq.Release()
		}
	}
	pieces := sequence(t, m, 300)
	read(t, m, pieces, ids[:64], StepOptions{})
	read(t, m, pieces, ids[64:192], StepOptions{})
	mustEqual(t, "prompt in pieces on borders", read(t, m, pieces, ids[192:], StepOptions{}), want)
}

// A prompt is read in whole chunks, in smaller ones where many rows of logits are asked
// for.
func TestReadTakesWholeChunks(t *testing.T) {
	m := open(t, Options{PrefillChunk: 256, Context: 512})
	ids, all := randomIDs(300), make([]int, 300)
	for i := range all {
		all[i] = i
	}
	for _, test := range []struct{ logits, steps []int }{
		{nil, []int{256, 44}},
		{[]int{3, 299}, []int{256, 44}},
		{all[200:], []int{256, 44}},
		{all[:100], []int{64, 236}},
		{all, []int{64, 64, 64, 64, 44}},
	} {
		var steps []int
		seq := sequence(t, m, 300)
		_, err := seq.Read(context.Background(), ids, StepOptions{Logits: test.logits, Tap: func(_ int, what string, width int, data []float32) {
			if what == "embedding" {
				steps = append(steps, len(data)/width)
			}
		}})
		if err != nil || !slices.Equal(steps, test.steps) {
			t.Errorf("%d rows of logits: steps of %v tokens, want %v (%v)", len(test.logits), steps, test.steps, err)
		}
		seq.Release()
	}
}

// Replay of n tokens has the bits of n decode steps, also from a border inside
// a chunk; and prefill agrees with both: within the golden's tolerance where
// activations are exact, within their rounding where they are not.
func TestStepFormBits(t *testing.T) {
	for numerics, tolerance := range map[string]float64{"exact": 6e-4, "fast": 3e-3} {
		t.Run(numerics, func(t *testing.T) { stepFormBits(t, open(t, Options{Numerics: numerics}), tolerance) })
	}
}

// stepFormBits compares logits of prefill to a tolerance, or not at all where it is 0.
func stepFormBits(t *testing.T, m *Model, tolerance float64) {
	ids := randomIDs(150)
	decoded := sequence(t, m, 150)
	var want trace
	for i := range ids {
		want = read(t, m, decoded, ids[i:i+1], StepOptions{StepForm: true})
	}
	replayed := sequence(t, m, 150)
	read(t, m, replayed, ids[:37], StepOptions{StepForm: true})
	mustEqual(t, "replay", read(t, m, replayed, ids[37:], StepOptions{StepForm: true}), want)
	if tolerance == 0 {
		return
	}

	mixed := sequence(t, m, 150)
	read(t, m, mixed, ids[:30], StepOptions{})
	read(t, m, mixed, ids[30:40], StepOptions{StepForm: true})
	resumed := read(t, m, mixed, ids[40:], StepOptions{}) // first chunk ends at 64
	prefilled := read(t, m, sequence(t, m, 150), ids, StepOptions{})
	for what, got := range map[string]trace{"prefill": prefilled, "prefill after decode": resumed} {
		for i := range want.logits {
			if d := math.Abs(float64(got.logits[i] - want.logits[i])); d > tolerance {
				t.Fatalf("%s: logit %d differs from step form by %.3g", what, i, d)
			}
		}
	}
}

func generate(t *testing.T, m *Model, req Request) ([]int32, Result) {
	t.Helper()
	var ids []int32
	result, err := m.Generate(context.Background(), req, func(tok Token) error { ids = append(ids, tok.ID); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ids, result
}

// Streams beside others give what they give alone.
func TestConcurrentStreamsEqualSolo(t *testing.T) {
	m := open(t, Options{Streams: 2, Context: 256})
	requests := make([]Request, 6)
	want := make([][]int32, len(requests))
	for i := range requests {
		requests[i] = Request{Prompt: randomIDs(20 + 30*i), MaxTokens: 12, IgnoreEOS: true,
			Sampling: Sampling{Temperature: 1, TopP: .95, Seed: uint64(i)}}
		want[i], _ = generate(t, m, requests[i])
	}
	got := make([][]int32, len(requests))
	var wait sync.WaitGroup
	for i, req := range requests {
		wait.Go(func() { got[i], _ = generate(t, m, req) })
	}
	wait.Wait()
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("stream %d: %v beside others, %v alone", i, got[i], want[i])
		}
	}
	if pages, slots, waiting := m.main.cache.Free(); slots != 2 || pages != 2*4 || waiting != 0 {
		t.Errorf("after all streams: %d pages, %d slots free, %d waiting", pages, slots, waiting)
	}
}

func TestSeedsAndChoices(t *testing.T) {
	m := open(t, Options{})
	req := Request{Prompt: randomIDs(9), MaxTokens: 24, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 5}}
	first, result := generate(t, m, req)
	again, _ := generate(t, m, req)
	if !slices.Equal(first, again) || len(first) != 24 || result.Completion != 24 || result.Reason != OutOfRoom {
		t.Errorf("same seed: %v then %v (%+v)", first, again, result)
	}
	req.Choice = 1
	if other, _ := generate(t, m, req); slices.Equal(first, other) {
		t.Error("another choice draws the same")
	}
	req.Choice, req.Sampling.Seed = 0, 6
	if other, _ := generate(t, m, req); slices.Equal(first, other) {
		t.Error("another seed draws the same")
	}
	for _, id := range first {
		if int(id) >= m.Info().Tokens {
			t.Errorf("drew padding id %d", id)
		}
	}
}

func TestPromptCandidates(t *testing.T) {
	m := open(t, Options{})
	ids, n := randomIDs(130), 3
	rows := map[int][]float32{}
	all := make([]int, len(ids))
	for i := range all {
		all[i] = i
	}
	_, err := sequence(t, m, 130).Read(context.Background(), ids, StepOptions{Logits: all,
		Rows: func(at int, row []float32) { rows[at] = slices.Clone(row) }})
	if err != nil {
		t.Fatal(err)
	}
	_, result := generate(t, m, Request{Prompt: ids, MaxTokens: 1, PromptCandidates: &n})
	if len(result.PromptTokens) != len(ids)-1 {
		t.Fatalf("%d prompt tokens for a prompt of %d", len(result.PromptTokens), len(ids))
	}
	for i, tok := range result.PromptTokens {
		var sum float64
		for _, v := range rows[i] {
			sum += math.Exp(float64(v))
		}
		want := float64(rows[i][ids[i+1]]) - math.Log(sum)
		if tok.ID != ids[i+1] || math.Abs(float64(tok.Logprob)-want) > 1e-5 || len(tok.Candidates) != n {
			t.Fatalf("prompt token %d: %+v, want id %d with %.5f", i+1, tok, ids[i+1], want)
		}
	}
}

// A stop text ends the completion wherever token borders fall in it, and no
// part of it is shown.
func TestStopTextAcrossTokens(t *testing.T) {
	m := open(t, Options{})
	req := Request{Prompt: randomIDs(7), MaxTokens: 40, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 3}}
	text := func(req Request) (string, Result) {
		var b strings.Builder
		r, err := m.Generate(context.Background(), req, func(tok Token) error { b.WriteString(tok.Text); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return b.String() + r.Tail, r
	}
	whole, _ := text(req)
	stride := 1
	if testing.Short() {
		stride = 11
	}
	for at := 1; at+3 < len(whole); at += stride {
		for n := 1; n <= 3; n++ {
			stop := whole[at : at+n]
			if strings.ContainsRune(stop, '\uFFFD') || strings.ToValidUTF8(stop, "") != stop {
				continue
			}
			req.Stop = []string{"never in it", stop}
			got, r := text(req)
			if want := whole[:strings.Index(whole, stop)]; got != want || r.StopText != stop || r.Reason != Stopped {
				t.Fatalf("stop %q: %q (%+v), want %q", stop, got, r, want)
			}
		}
	}
}

func TestEndTokens(t *testing.T) {
	m := open(t, Options{})
	req := Request{Prompt: randomIDs(7), MaxTokens: 40, IgnoreEOS: true, Sampling: Sampling{Temperature: 1, Seed: 3}}
	ids, _ := generate(t, m, req)
	req.StopIDs = []int32{ids[5]}
	got, r := generate(t, m, req)
	if want := ids[:slices.Index(ids, ids[5])+1]; !slices.Equal(got, want) || r.StopID != ids[5] || r.Reason != Stopped {
		t.Errorf("stop id %d: %v %+v", ids[5], got, r)
	}
}

func TestRefusals(t *testing.T) {
	m := open(t, Options{Context: 100})
	var context100 *ContextError
	for name, req := range map[string]Request{
		"no prompt":        {},
		"too long":         {Prompt: randomIDs(90), MaxTokens: 11},
		"prompt too long":  {Prompt: randomIDs(101)},
		"unknown id":       {Prompt: []int32{384}},
		"negative id":      {Prompt: []int32{-1}},
		"negative maximum": {Prompt: []int32{1}, MaxTokens: -1},
		"temperature":      {Prompt: []int32{1}, Sampling: Sampling{Temperature: float32(math.NaN())}},
		"top_p":            {Prompt: []int32{1}, Sampling: Sampling{TopP: 1.5}},
		"candidates":       {Prompt: []int32{1}, Candidates: 257},
	} {
		_, err := m.Generate(context.Background(), req, func(Token) error { return nil })
		if err == nil {
			t.Errorf("%s was served", name)
		}
		if strings.Contains(name, "long") && (!errors.As(err, &context100) || context100.Limit != 100) {
			t.Errorf("%s: %v, want a ContextError", name, err)
		}
	}
}

func TestCancelGivesEverythingBack(t *testing.T) {
	m := open(t, Options{Streams: 1, Context: 2048})
	boom := errors.New("client left")
	if _, err := m.Generate(context.Background(), Request{Prompt: randomIDs(5)}, func(Token) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error of emit became %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	count := 0
	_, err := m.Generate(ctx, Request{Prompt: randomIDs(5), IgnoreEOS: true}, func(Token) error {
		if count++; count == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || count > 4 {
		t.Errorf("after cancel: %d tokens, %v", count, err)
	}
	seq := sequence(t, m, 10) // the only slot
	ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.Generate(ctx, Request{Prompt: randomIDs(5)}, func(Token) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a slot ended with %v", err)
	}
	seq.Release()
	if _, slots, waiting := m.main.cache.Free(); slots != 1 || waiting != 0 {
		t.Errorf("%d slots free, %d waiting", slots, waiting)
	}
}

func TestCloseWaitsForSequences(t *testing.T) {
	m := open(t, Options{Streams: 1})
	seq := sequence(t, m, 10)
	waiting := make(chan error, 1)
	go func() {
		_, err := m.NewSequence(context.Background(), 10)
		waiting <- err
	}()
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("a waiting sequence got %v", err)
	}
	select {
	case <-closed:
		t.Error("closed under a live sequence")
	case <-time.After(20 * time.Millisecond):
	}
	seq.Release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := m.NewSequence(context.Background(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A hostile or foreign folder ends in an error that says what is wrong.
func TestOpenRefuses(t *testing.T) {
	if _, err := Open(context.Background(), os.DirFS(t.TempDir()), Options{Name: "empty"}); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("empty folder: %v", err)
	}
	fsys := os.DirFS(optest.Model(t, "int4-mixed-2026"))
	for want, opts := range map[string]Options{
		"context of 9999999 tokens": {Context: 9999999},
		"multiple of 64":            {PrefillChunk: 100},
	} {
		if _, err := Open(context.Background(), fsys, opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", opts, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, fsys, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestProgressReachesReady(t *testing.T) {
	var stages []string
	open(t, Options{Progress: func(p Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	}})
	if !slices.Equal(stages, []string{"headers", "tokenizer", "weights", "ready"}) {
		t.Errorf("stages %v", stages)
	}
}

// The draft layer runs beside the model and refuses where there is none.
func TestDraftNeedsItsLayer(t *testing.T) {
	m := open(t, Options{})
	seq, err := m.NewDraft(context.Background(), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer seq.Release()
	hidden := make([]float32, 5*m.cfg.Hidden)
	samples, err := seq.Read(context.Background(), randomIDs(5), StepOptions{Hidden: hidden, Logits: []int{4},
		Sampling: []ops.Sampling{{Watch: -1}}})
	if err != nil || len(samples) != 1 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	m.draft = nil
	if _, err := m.NewDraft(context.Background(), 5); err == nil {
		t.Error("a draft without a layer")
	}
}

// One step with rows of several sequences gives each the bits it has alone.
func TestMixedStepEqualsSolo(t *testing.T) { mixedStepEqualsSolo(t, open) }

func mixedStepEqualsSolo(t *testing.T, open opener) {
	m := open(t, Options{Streams: 6, Context: 256})
	long, short := randomIDs(100), randomIDs(40)
	solo := sequence(t, m, 101)
	read(t, m, solo, long, StepOptions{})
	wantDecode := read(t, m, solo, []int32{9}, StepOptions{StepForm: true})
	wantPrefill := read(t, m, sequence(t, m, 40), short, StepOptions{})
	wantReplay := read(t, m, sequence(t, m, 5), short[:5], StepOptions{StepForm: true})

	decoding, prefilling, replaying := sequence(t, m, 101), sequence(t, m, 40), sequence(t, m, 5)
	read(t, m, decoding, long, StepOptions{})
	segment := func(s *Sequence, kind ops.SegmentKind, n int) ops.Segment {
		return ops.Segment{Kind: kind, Slot: s.place.Slot, Start: s.length, Len: n, Pages: s.place.Pages, Logits: []int{n - 1}}
	}
	step := &ops.Step{
		IDs: slices.Concat(short, []int32{9}, short[:5]),
		Segments: []ops.Segment{segment(prefilling, ops.Prefill, 40), segment(decoding, ops.Decode, 1),
			segment(replaying, ops.Replay, 5)},
	}
	if err := replay(context.Background(), m.main.forward, step); err != nil {
		t.Fatal(err)
	}
	for i, want := range []trace{wantPrefill, wantDecode, wantReplay} {
		row := make([]float32, m.cfg.Vocab)
		if err := m.read(row, m.buffers.Logits.Slice(int64(i*m.cfg.Vocab), int64(m.cfg.Vocab))); err != nil {
			t.Fatal(err)
		}
		if !sameBits(row, want.logits) {
			t.Errorf("segment %d: logits differ from those alone", i)
		}
	}
	for s, want := range map[*Sequence]trace{prefilling: wantPrefill, decoding: wantDecode, replaying: wantReplay} {
		s.length += map[*Sequence]int{prefilling: 40, decoding: 1, replaying: 5}[s]
		for layer := range want.states {
			got, err := s.State(layer)
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, "mixed step", trace{states: []State{got}}, trace{states: want.states[layer : layer+1]})
		}
	}
}

// A checkpoint of another architecture does not fill the screen.
func TestForeignFolderIsToldBriefly(t *testing.T) {
	fsys, _, _ := randomModel(t, map[string]any{
		"model_type": "qwen3_next", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 8, "max_position_embeddings": 8,
		"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "full_attention_interval": 1,
		"linear_num_key_heads": 1, "linear_num_value_heads": 1, "linear_key_head_dim": 4, "linear_value_head_dim": 4,
		"num_experts": 40, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8})
	folder := fsys.(fstest.MapFS)
	folder["model.safetensors"] = &fstest.MapFile{Data: safetensorsOf(t, weights64{"other": {1}}, map[string][]int{"other": {1}})}
	_, err := Open(context.Background(), folder, Options{Name: "foreign"})
	if err == nil || !strings.Contains(err.Error(), "model.embed_tokens") || !strings.Contains(err.Error(), "more") ||
		strings.Count(err.Error(), "\n") > maxProblems+1 {
		t.Errorf("%v", err)
	}
}
