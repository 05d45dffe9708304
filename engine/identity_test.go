package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// stream is what a completion shows: every token with the 256 largest logits,
// and with its log-probability, which all logits are part of.
func stream(t *testing.T, m *Model, req Request) []Token {
	var tokens []Token
	req.Candidates = 256
	_, err := m.Generate(context.Background(), req, func(tok Token) error {
		tokens = append(tokens, tok)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return tokens
}

func sameToken(a, b Token) bool {
	return a.ID == b.ID && a.Text == b.Text && math.Float32bits(a.Logprob) == math.Float32bits(b.Logprob) &&
		slices.EqualFunc(a.Candidates, b.Candidates, func(x, y ops.Candidate) bool {
			return x.ID == y.ID && math.Float32bits(x.Logit) == math.Float32bits(y.Logit) && math.Float32bits(x.Logprob) == math.Float32bits(y.Logprob)
		})
}

// mixed are n requests of different lengths, seeds and samplers.
func mixed(n int) []Request {
	all := make([]Request, n)
	for i := range all {
		all[i] = Request{Prompt: randomIDs(7 + 23*i), MaxTokens: 10 + i, IgnoreEOS: true,
			Sampling: Sampling{Temperature: 1, TopP: .95, Seed: uint64(i)}}
		switch i % 4 {
		case 1:
			all[i].Sampling = Sampling{}
		case 2:
			all[i].Sampling.Repetition, all[i].Sampling.Frequency = 1.2, .3
		case 3:
			all[i].Sampling.Typical, all[i].Sampling.Mirostat.Tau, all[i].Logprobs = .9, 3, OfChain
		}
	}
	return all
}

// A batch of up to 16 streams, with prompts read beside, gives each the bits
// that it has alone; so do threads.
func TestBatchesEqualSolo(t *testing.T) { batchesEqualSolo(t, open, mixed(16)) }

func batchesEqualSolo(t *testing.T, open opener, requests []Request) {
	solo := open(t, Options{Threads: 1, Streams: 1, Context: 512, PrefillChunk: 512})
	batched := open(t, Options{Threads: 3, Streams: 16, Context: 512, PrefillChunk: 64})
	want := make([][]Token, len(requests))
	for i, req := range requests {
		want[i] = stream(t, solo, req)
	}
	sizes := []int{2, 5, 16}
	if testing.Short() {
		sizes = []int{16}
	}
	for _, size := range sizes {
		var wait sync.WaitGroup
		for i, req := range requests[:size] {
			wait.Go(func() {
				if got := stream(t, batched, req); !slices.EqualFunc(got, want[i], sameToken) {
					t.Errorf("stream %d in a batch of %d differs from alone", i, size)
				}
			})
		}
		wait.Wait()
	}
	if st := batched.Stats(); st.Steps.Mixed == 0 || st.Steps.BatchRows <= st.Steps.Decode+st.Steps.Mixed {
		t.Errorf("nothing ran together: %+v", st.Steps)
	}
}

// Every way to split a prompt on chunk borders gives the same bits.
func TestEverySplitOnBorders(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 5 // 0000, 0101, 1010, 1111
	}
	everySplit(t, open, stride)
}

func everySplit(t *testing.T, open opener, stride int) {
	const chunks = 4
	ids := randomIDs(chunks*ops.ChunkTokens + 21)
	m := open(t, Options{Context: 512})
	want := read(t, m, sequence(t, m, len(ids)), ids, StepOptions{})
	for split := 0; split < 1<<chunks; split += stride {
		seq := sequence(t, m, len(ids))
		from := 0
		for border := range chunks {
			if to := (border + 1) * ops.ChunkTokens; split>>border&1 == 1 {
				read(t, m, seq, ids[from:to], StepOptions{})
				from = to
			}
		}
		mustEqual(t, fmt.Sprintf("split %04b", split), read(t, m, seq, ids[from:], StepOptions{}), want)
		seq.Release()
	}
}

// A sequence that goes on from a snapshot, in other pages and another slot, has
// the bits of one that never stopped.
func TestSnapshotsGoOnWithTheSameBits(t *testing.T) { snapshotsGoOn(t, open) }

func snapshotsGoOn(t *testing.T, open opener) {
	m := open(t, Options{Context: 256})
	ids := randomIDs(150)
	straight := sequence(t, m, 152)
	read(t, m, straight, ids, StepOptions{})
	snapshot, err := straight.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	read(t, m, straight, []int32{5}, StepOptions{StepForm: true})
	want := read(t, m, straight, []int32{6}, StepOptions{StepForm: true})
	for range 2 {
		restored := sequence(t, m, 200)
		read(t, m, restored, randomIDs(77), StepOptions{}) // garbage in its place
		if err := restored.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		if restored.Length() != 150 || snapshot.Length() != 150 {
			t.Errorf("restored at %d of %d", restored.Length(), snapshot.Length())
		}
		read(t, m, restored, []int32{5}, StepOptions{StepForm: true})
		mustEqual(t, "restored", read(t, m, restored, []int32{6}, StepOptions{StepForm: true}), want)
	}
	if err := sequence(t, m, 149).Restore(snapshot); err == nil {
		t.Error("150 tokens restored into room for 149")
	}
	draft, err := m.NewDraft(context.Background(), 200)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Release()
	if err := draft.Restore(snapshot); err == nil {
		t.Error("the model's state restored into the draft layer")
	}
}

// Streams that were put aside, in either way, go on with the same bits.
func TestOvercommitChangesNoBit(t *testing.T) {
	requests := mixed(6)
	if testing.Short() {
		requests = requests[:4]
	}
	overcommitChangesNoBit(t, open, requests, 150)
}

// overcommitChangesNoBit makes so many tokens for each request.
func overcommitChangesNoBit(t *testing.T, open opener, requests []Request, tokens int) {
	for i := range requests {
		requests[i].Prompt, requests[i].MaxTokens = requests[i].Prompt[:7+9*i], tokens
	}
	solo := open(t, Options{Streams: 1, Context: 256})
	want := make([][]Token, len(requests))
	for i, req := range requests {
		want[i] = stream(t, solo, req)
	}
	for _, mode := range []string{"swap", "rebuild"} {
		m := open(t, Options{Streams: 4, Context: 256, CacheTokens: 256, PrefillChunk: 64, Overcommit: mode})
		var wait sync.WaitGroup
		for i, req := range requests {
			wait.Go(func() {
				if got := stream(t, m, req); !slices.EqualFunc(got, want[i], sameToken) {
					t.Errorf("%s: stream %d differs from uninterrupted", mode, i)
				}
			})
		}
		wait.Wait()
		if st := m.Stats(); st.Preempted == 0 || st.Restored != st.Preempted || st.PagesUsed != 0 || st.SlotsUsed != 0 {
			t.Errorf("%s: %+v", mode, st)
		}
	}
}

// Choice c of n equals a request alone with Choice c, beside choices that end
// early, and also where n are more than the streams.
func TestChoicesEqualSolo(t *testing.T) { choicesEqualSolo(t, open) }

func choicesEqualSolo(t *testing.T, open opener) {
	m := open(t, Options{Streams: 3, Context: 256})
	req := Request{Prompt: randomIDs(100), MaxTokens: 20, IgnoreEOS: true, Candidates: 256, Choice: 4, Sampling: Sampling{Temperature: 1, Seed: 8}}
	full := errors.New("client full")
	const n, leaver = 5, 1
	got := make([][]Token, n)
	outcomes := m.GenerateChoices(context.Background(), req, n, func(choice int, tok Token) error {
		if got[choice] = append(got[choice], tok); choice == leaver && len(got[choice]) == 3 {
			return full
		}
		return nil
	})
	for c, outcome := range outcomes {
		alone := req
		alone.Choice += uint32(c)
		want := stream(t, m, alone)
		if c == leaver {
			want = want[:3]
		}
		if errors.Is(outcome.Err, full) != (c == leaver) || outcome.Err != nil && c != leaver {
			t.Errorf("choice %d: %v", c, outcome.Err)
		}
		if !slices.EqualFunc(got[c], want, sameToken) || outcome.Result.Completion != len(want) || outcome.Result.Prompt != 100 {
			t.Errorf("choice %d of %d differs from alone: %+v", c, n, outcome.Result)
		}
	}
	if read := m.Stats().PromptTokens; read != 100*(2+n) {
		t.Errorf("%d prompt tokens were read for %d choices of 3 streams and as many alone", read, n)
	}
	for _, n := range []int{0, maxChoices + 1} {
		if out := m.GenerateChoices(context.Background(), req, n, nil); len(out) != 1 || out[0].Err == nil {
			t.Errorf("%d choices: %+v", n, out)
		}
	}
}

// The queue's limit and a deadline reach the caller, and the counters say so.
func TestQueueAndDeadline(t *testing.T) {
	m := open(t, Options{Streams: 1, Queue: 1, Context: 512})
	holder := sequence(t, m, 10)
	late := make(chan error, 1)
	go func() {
		_, err := m.Generate(context.Background(), Request{Prompt: []int32{1}, Deadline: time.Now().Add(300 * time.Millisecond)}, nil)
		late <- err
	}()
	for m.Stats().Queued == 0 {
		time.Sleep(time.Millisecond)
	}
	var full *QueueError
	if _, err := m.Generate(context.Background(), Request{Prompt: []int32{1}}, nil); !errors.As(err, &full) || full.Limit != 1 {
		t.Errorf("a second request in a queue of one: %v", err)
	}
	if err := <-late; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	holder.Release()
	if st := m.Stats(); st.Refused != 1 || st.Finished["cancelled"] != 1 || st.Queued != 0 || st.SlotsTotal != 1 || st.PagesTotal != 8 {
		t.Errorf("%+v", st)
	}
}

// What a seed draws stays what it is from version to version.
func TestSeedOfYesterday(t *testing.T) {
	m := open(t, Options{Kernels: "portable", Numerics: "exact"})
	var text strings.Builder
	var ids []int32
	result, err := m.Generate(context.Background(), Request{Prompt: randomIDs(20), MaxTokens: 24, IgnoreEOS: true,
		Sampling: Sampling{Temperature: .8, TopK: 40, TopP: .95, Seed: 2026}}, func(tok Token) error {
		ids = append(ids, tok.ID)
		text.WriteString(tok.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	info := m.Info()
	if mode := "-cpu-" + info.Backend.Kernels + "-" + info.Backend.Numerics; !strings.HasSuffix(info.Fingerprint, mode) {
		t.Errorf("the fingerprint %s does not say %s: bits are promised within one", info.Fingerprint, mode)
	}
	want := []int32{118, 201, 321, 359, 24, 166, 107, 156, 47, 272, 128, 67, 366, 139, 145, 293, 148, 256, 124, 140, 173, 21, 195, 313}
	if !slices.Equal(ids, want) {
		t.Errorf("seed 2026 drew %v (%q%q), yesterday %v", ids, text.String(), result.Tail, want)
	}
}

// A model leaves no goroutine behind, whatever its streams did.
func TestGoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("work", func(t *testing.T) {
		m := open(t, Options{Streams: 2, Context: 256})
		ctx, cancel := context.WithCancel(context.Background())
		m.GenerateChoices(ctx, Request{Prompt: randomIDs(70), IgnoreEOS: true, Sampling: Sampling{Temperature: 1}}, 3, func(c int, _ Token) error {
			if c == 1 {
				cancel()
			}
			return nil
		})
	})
	goroutinesEnd(t, before)
}
