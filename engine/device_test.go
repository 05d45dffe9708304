package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// The promises of identity_test.go, kept by the CUDA engine: on the fake driver, or
// with ROUNDHOUSE_GPU=1 on the machine's own. There, ROUNDHOUSE_REAL4 names a folder
// of real dimensions (roundhouse synth --layers 4), whose every matrix satisfies the
// predicate of a fast kernel: the micro models' do not.

// opener opens the model of a test: open does, on the CPU.
type opener func(t testing.TB, o Options) *Model

// silicon says that devices are real.
func silicon() bool { return os.Getenv("ROUNDHOUSE_GPU") == "1" }

// realFolder is the model of real dimensions; "" where there is none, or no device
// that is up to it.
func realFolder() string {
	if !silicon() {
		return ""
	}
	return os.Getenv("ROUNDHOUSE_REAL4")
}

// newFake makes a driver without a GPU, which must have nothing to complain about in
// the end.
func newFake(t testing.TB) *drivertest.Fake {
	t.Helper()
	fake := drivertest.Open(t, drivertest.Options{Memory: 4 << 30})
	t.Cleanup(func() { // after the model is closed
		for _, problem := range fake.Problems() {
			t.Error("driver:", problem)
		}
	})
	return fake
}

// onDevice opens the model of a folder on the device.
func onDevice(dir, numerics string) opener {
	return func(t testing.TB, o Options) *Model {
		t.Helper()
		o.Device, o.Numerics = "cuda", numerics
		if !silicon() {
			o.Driver = newFake(t)
		}
		m := openFolder(t, dir, o)
		if !m.Info().Backend.Ahead || m.Info().Backend.Numerics != numerics {
			t.Fatalf("%+v is not the CUDA engine in %s numerics", m.Info().Backend, numerics)
		}
		return m
	}
}

// eachOnDevice runs a test in all numerics of the device.
func eachOnDevice(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	if testing.Short() && !silicon() {
		inNumerics(t, test, "fast") // the race detector sees the same goroutines in both
		return
	}
	inNumerics(t, test, "exact", "fast")
}

// onceOnDevice is eachOnDevice for what the scheduler does, which the fake driver need
// not show twice.
func onceOnDevice(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	if silicon() {
		eachOnDevice(t, test)
		return
	}
	inNumerics(t, test, "fast")
}

func inNumerics(t *testing.T, test func(t *testing.T, open opener), numerics ...string) {
	t.Helper()
	for _, numerics := range numerics {
		t.Run(numerics, func(t *testing.T) { test(t, onDevice(optest.Model(t, "int4-mixed-2026"), numerics)) })
		if dir := realFolder(); dir != "" {
			t.Run(numerics+"/real", func(t *testing.T) { test(t, onDevice(dir, numerics)) })
		}
	}
}

// lighter makes requests that the fake driver gets through: short prompts, but for
// one of several chunks, and few tokens.
func lighter(requests []Request) []Request {
	if silicon() {
		return requests
	}
	for i := range requests {
		requests[i].MaxTokens = 3 + i%5
		if i != 4 {
			requests[i].Prompt = requests[i].Prompt[:5+i]
		}
	}
	return requests
}

// Streams in a batch of 2, 5 and 16 have the bits that they have alone, whoever ends
// or is chosen for by the host.
func TestBatchesEqualSoloOnDevice(t *testing.T) {
	eachOnDevice(t, func(t *testing.T, open opener) { batchesEqualSolo(t, open, lighter(mixed(16))) })
}

// arithmetic skips, in short runs, a test of numbers on the fake device: the race detector
// makes it twenty times as long and has nothing to say of it; other tests have the
// goroutines.
func arithmetic(t *testing.T) {
	t.Helper()
	if testing.Short() && !silicon() {
		t.Skip("arithmetic only: not in short runs")
	}
}

func TestPrefillBitsOnDevice(t *testing.T) {
	arithmetic(t)
	others := []Options{{PrefillChunk: 64}}
	if silicon() {
		others = []Options{{PrefillChunk: 64}, {PrefillChunk: 128}, {PrefillChunk: 256}}
	}
	eachOnDevice(t, func(t *testing.T, open opener) { prefillBits(t, open, others) })
}

func TestEverySplitOnDevice(t *testing.T) {
	stride := 1
	if !silicon() {
		stride = 10 // 0000, 1010
	}
	eachOnDevice(t, func(t *testing.T, open opener) { everySplit(t, open, stride) })
}

// How far prefill is from step form is a matter of goldens and parity: here only that
// replay has the bits of decoding.
func TestStepFormBitsOnDevice(t *testing.T) {
	arithmetic(t)
	eachOnDevice(t, func(t *testing.T, open opener) { stepFormBits(t, open(t, Options{Context: 256}), 0) })
}

func TestMixedStepOnDevice(t *testing.T) { eachOnDevice(t, mixedStepEqualsSolo) }

func TestDecodeOnDevice(t *testing.T) {
	arithmetic(t)
	eachOnDevice(t, decodeEqualsSolo)
}

func TestSnapshotsOnDevice(t *testing.T) { eachOnDevice(t, snapshotsGoOn) }

func TestChoicesOnDevice(t *testing.T) { onceOnDevice(t, choicesEqualSolo) }

func TestOvercommitOnDevice(t *testing.T) {
	arithmetic(t)
	n, tokens := 6, 150
	if !silicon() {
		n, tokens = 3, 120
	}
	onceOnDevice(t, func(t *testing.T, open opener) { overcommitChangesNoBit(t, open, mixed(n), tokens) })
}

// In exact numerics the most likely tokens are the same on the CPU, the fake driver
// and a GPU.
func TestGreedyTokensOnDevice(t *testing.T) {
	lengths, tokens := []int{5, 70}, 10
	if silicon() {
		lengths, tokens = []int{1, 5, 64, 70, 130, 300}, 32
	}
	for _, dir := range greedyFolders(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			opts := Options{Device: "cpu", Numerics: "exact", Context: 512, Streams: 1}
			others := map[string]*Model{}
			if silicon() {
				others["GPU"] = onDevice(dir, "exact")(t, opts)
			}
			if committed := filepath.Dir(dir) == optest.Data("models"); committed {
				o := opts
				o.Device, o.Driver = "cuda", newFake(t)
				others["fake driver"] = openFolder(t, dir, o)
			}
			host := openFolder(t, dir, opts)
			for _, n := range lengths {
				req := Request{Prompt: randomIDs(n), MaxTokens: tokens, IgnoreEOS: true}
				want := stream(t, host, req)
				for name, m := range others {
					sameChoices(t, fmt.Sprintf("%s after %d tokens", name, n), stream(t, m, req), want)
				}
			}
		})
	}
}

// greedyFolders are the committed micro models, and for a GPU those of the shared
// folder.
func greedyFolders(t *testing.T) []string {
	folders, err := filepath.Glob(optest.Data("models", "*"))
	if err != nil || len(folders) < 3 {
		t.Fatalf("%d committed models: %v", len(folders), err)
	}
	if !silicon() {
		return folders
	}
	folders = append(folders, optest.Demo(t))
	root, ok := shared.Dir()
	if !ok {
		t.Log("shared data not found: its micro models are not compared")
		return folders
	}
	micro, err := filepath.Glob(filepath.Join(root, "models", "micro", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range micro {
		if !slices.ContainsFunc(folders, func(have string) bool { return filepath.Base(have) == filepath.Base(dir) }) {
			folders = append(folders, dir)
		}
	}
	return folders
}

// sameChoices compares the ids of two streams. Where they part, it says how near the
// tie was.
func sameChoices(t *testing.T, what string, got, want []Token) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d tokens, %d on the CPU", what, len(got), len(want))
		return
	}
	for i, tok := range want {
		if got[i].ID != tok.ID {
			t.Errorf("%s: token %d is %d, on the CPU %d, which is ahead of the next by %.3g", what, i, got[i].ID, tok.ID,
				tok.Candidates[0].Logit-tok.Candidates[1].Logit)
			return
		}
	}
}

// Sequences that read a token each in one step have the bits that they have alone.
func TestDecodeEqualsSolo(t *testing.T) { decodeEqualsSolo(t, open) }

func decodeEqualsSolo(t *testing.T, open opener) {
	const most, steps = 16, 2
	m := open(t, Options{Streams: most, Context: 256})
	m2 := open(t, Options{Streams: 1, Context: 256})
	prompt := func(i int) []int32 { return randomIDs(1 + 5*i) }
	want := make([]trace, most)
	for i := range want {
		alone := sequence(t, m2, 128)
		read(t, m2, alone, prompt(i), StepOptions{})
		for step := range steps {
			want[i] = read(t, m2, alone, []int32{int32(i + step)}, StepOptions{StepForm: true})
		}
		alone.Release()
	}
	for _, n := range []int{2, 5, most} {
		sequences, ids, all := make([]*Sequence, n), make([]int32, n), make([]int, n)
		for i := range sequences {
			sequences[i], all[i] = sequence(t, m, 128), i
			read(t, m, sequences[i], prompt(i), StepOptions{})
		}
		got := make([]trace, n)
		for step := range steps {
			for i := range ids {
				ids[i] = int32(i + step)
			}
			_, err := m.Decode(context.Background(), sequences, ids, StepOptions{Logits: all,
				Rows: func(i int, row []float32) { got[i].logits = slices.Clone(row) }})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range sequences {
			got[i].states = states(t, m, s)
			mustEqual(t, fmt.Sprintf("sequence %d of %d", i, n), got[i], want[i])
			s.Release()
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	m := open(t, Options{Context: 64})
	one, two := sequence(t, m, 1), sequence(t, m, 1)
	draft, err := m.NewDraft(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Release()
	for name, sequences := range map[string][]*Sequence{"none": nil, "twice": {one, one}, "another stack": {one, draft}} {
		if _, err := m.Decode(context.Background(), sequences, make([]int32, len(sequences)), StepOptions{}); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	sample := []ops.Sampling{{Watch: -1}, {Watch: -1}}
	samples, err := m.Decode(context.Background(), []*Sequence{one, two}, []int32{1, 2}, StepOptions{Logits: []int{0, 1}, Sampling: sample})
	if err != nil || len(samples) != 2 || one.Length() != 1 || two.Length() != 1 {
		t.Errorf("%d samples, %v", len(samples), err)
	}
	if _, err := m.Decode(context.Background(), []*Sequence{one, two}, []int32{1, 2}, StepOptions{}); err == nil {
		t.Error("decoded into a full sequence")
	}
}
