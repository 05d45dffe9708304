// Package hostile attacks the machines of scripts: each file in attacks is a script
// that means harm, with what is to stop it in its first lines. The test runs each in
// process and in a worker, while another stream goes on; `make hostile` makes a page of
// what it finds.
package hostile

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
)

//go:embed attacks
var attacks embed.FS

// TestMain is also what a worker runs: the program is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == worker.Verb {
		if err := worker.Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Bounds that every attack is held to.
const (
	patience    = 10 // times as much for one that should have been stopped by something else
	maxCall     = 600 * time.Millisecond
	maxProcess  = 600 << 20 // of the heap, in process, where limits are as good as they can be
	maxWorker   = 400 << 20 // of a worker, resident
	tokens      = 100
	maxNoticed  = 1 << 20 // bytes of notices that an attack may cause
	workerLimit = 192 << 20
)

// attack is one file.
type attack struct {
	name, text string
	what       string
	stops      []string // any of them
	inWorker   []string
}

// outcome is what became of an attack.
type outcome struct {
	stopped string        // "load", "start", the kind of the first fault, or "nothing"
	said    string        // by the error
	longest time.Duration // of the calls
	gap     time.Duration // longest between two tokens of the other stream
	peak    int64         // bytes
	breach  string
	noticed int // bytes
}

func read(t *testing.T) (list []attack) {
	t.Helper()
	files, err := fs.Glob(attacks, "attacks/*.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := attacks.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitN(string(text), "\n", 4)
		stops, ok := strings.CutPrefix(lines[1], "// stopped by: ")
		if !ok {
			t.Fatalf("%s: the second line says what stops it: // stopped by: ...", file)
		}
		a := attack{name: strings.TrimSuffix(filepath.Base(file), ".js"), text: string(text), what: strings.TrimPrefix(lines[0], "// "), stops: strings.Split(stops, ", ")}
		a.inWorker = a.stops
		if stops, ok := strings.CutPrefix(lines[2], "// in a worker: "); ok {
			a.inWorker = strings.Split(stops, ", ")
		}
		list = append(list, a)
	}
	return list
}

// TestAttacks runs every attack in process and in a worker.
func TestAttacks(t *testing.T) {
	list := read(t)
	if len(list) < 40 {
		t.Fatalf("%d attacks", len(list))
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "root"), 0o755), os.WriteFile(filepath.Join(dir, "secret.js"), []byte("export default 1"), 0o644)); err != nil {
		t.Fatal(err)
	}
	report := Report{Budget: ms(*budget), Limit: workerLimit >> 20, Alone: ms(alone(t))}
	for _, a := range list {
		t.Run(a.name, func(t *testing.T) {
			near := a.patiently(a.stops, func(budget time.Duration) outcome { return inProcess(t, filepath.Join(dir, "root"), a, budget) })
			far := a.patiently(a.inWorker, func(budget time.Duration) outcome { return inWorker(t, a, budget) })
			a.judge(t, "in process", near, a.stops, maxProcess)
			a.judge(t, "in a worker", far, a.inWorker, maxWorker)
			report.Attacks = append(report.Attacks, Row{a.name, a.what, near.measured(), far.measured()})
		})
	}
	report.write(t)
}

// patiently runs an attack, and again with more time where the machine was too slow for
// the attack to come to what stops it.
func (a attack) patiently(stops []string, run func(time.Duration) outcome) outcome {
	o := run(*budget)
	if slow := hook.OverBudget.String(); o.stopped == slow && !slices.Contains(stops, slow) {
		o = run(patience * *budget)
	}
	return o
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (a attack) judge(t *testing.T, where string, o outcome, want []string, most int64) {
	t.Helper()
	if !slices.Contains(want, o.stopped) {
		t.Errorf("%s: stopped by %s, want %v: %s", where, o.stopped, want, o.said)
	}
	if o.breach != "" {
		t.Errorf("%s: it came through: %s", where, o.breach)
	}
	if o.longest > maxCall {
		t.Errorf("%s: a call took %v", where, o.longest)
	}
	if o.peak > most {
		t.Errorf("%s: memory grew to %d MiB", where, o.peak>>20)
	}
	if o.noticed > maxNoticed {
		t.Errorf("%s: %d bytes of notices", where, o.noticed)
	}
}

// inProcess runs an attack in process, beside another stream.
func inProcess(t *testing.T, root string, a attack, budget time.Duration) (o outcome) {
	t.Helper()
	file := filepath.Join(root, a.name+".js")
	if err := os.WriteFile(file, []byte(a.text), 0o644); err != nil {
		t.Fatal(err)
	}
	store, err := scripts.Open(root, scripts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	end := beside(t)
	script, err := store.Get(a.name)
	if err != nil {
		o.stopped, o.said = "load", err.Error()
	} else {
		o.run(t, 2, budget, func() (hook.Hook, error) { return script.Start(environment()) })
	}
	o.gap, o.peak = end()
	return o
}

// inWorker runs an attack in a worker.
func inWorker(t *testing.T, a attack, budget time.Duration) (o outcome) {
	t.Helper()
	end := beside(t)
	h := worker.New(worker.Options{Memory: workerLimit})
	script, err := h.Load(t.Context(), a.name+".js", a.text)
	if err != nil {
		o.stopped, o.said = "load", err.Error()
	} else {
		o.run(t, 1, budget, func() (hook.Hook, error) { return script.Start(t.Context(), environment()) })
	}
	h.Close()
	o.gap, _ = end()
	o.peak = h.Peak()
	return o
}

var model = hook.Model{Name: "small", Shape: hook.Shape{Layers: 4, Experts: 8, K: 2, Hidden: 3}, Tokens: 8, EOS: []int32{7}}

// letters is a tokenizer of the letters a to h.
type letters struct{}

func (letters) Encode(string) ([]int32, error) { return []int32{1}, nil }
func (letters) Decode(ids []int32) string      { return strings.Repeat("a", len(ids)) }
func (letters) Draw() (int32, error)           { return 3, nil }
func (letters) Candidates(int) ([]hook.Candidate, error) {
	return []hook.Candidate{{ID: 3}, {ID: 4}}, nil
}

func environment() scripts.Env { return scripts.Env{Model: model, Tokenizer: letters{}} }

// run plays choices to hooks of an attack, one after the other.
func (o *outcome) run(t *testing.T, choices int, budget time.Duration, start func() (hook.Hook, error)) {
	t.Helper()
	o.stopped = "nothing"
	for range choices {
		h, err := start()
		if err != nil {
			o.fail("start", err)
			return
		}
		o.choice(h, budget)
	}
}

func (o *outcome) fail(stopped string, err error) {
	if o.stopped == "nothing" {
		o.stopped, o.said = stopped, err.Error()
	}
}

// choice plays one choice until it is over, or the hook is switched off.
func (o *outcome) choice(h hook.Hook, budget time.Duration) {
	off := false
	notify := func(n hook.Notice) {
		switch {
		case n.Fault != nil:
			off = off || n.Name == "off"
			o.fail(n.Fault.Kind.String(), n.Fault)
		case n.Name == "breach":
			o.breach = fmt.Sprint(n.Value)
		default:
			o.noticed += len(fmt.Sprint(n.Value))
		}
	}
	timed := func(do func() error) error {
		began := time.Now()
		err := do()
		o.longest = max(o.longest, time.Since(began))
		return err
	}
	var chain *hook.Chain
	err := timed(func() (err error) {
		chain, err = hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, Budget: budget, Notify: notify}, h)
		return err
	})
	if err != nil {
		o.fail("start", err)
		return
	}
	defer chain.Close()
	row := hook.Plain{0, 1, 2, 3, 4, 5, 6, 7}
	_ = timed(func() error { _, err := chain.Prompt([]int32{1, 2, 3}); return err })
	for position := 3; position < 3+tokens && !off; position++ {
		at := hook.At{Position: position}
		_ = timed(func() error { _, err := chain.Logits(at, row, row); return err })
		_ = timed(func() error { _, err := chain.Sample(at, letters{}, nil); return err })
		chain.Token(hook.Token{Position: position, ID: 1, Text: "b"})
	}
	_ = timed(func() error { chain.Finish(hook.Finish{Reason: "stop"}); return nil })
}

// beside runs another stream's tokens, one a millisecond, until it is told to end: it
// returns the longest gap between two, and by how much memory grew at most.
func beside(t *testing.T) func() (time.Duration, int64) {
	t.Helper()
	host := scripts.NewHost(scripts.Options{})
	script, err := host.LoadSource(t.Context(), "calm.js", `export default { api: 1, hooks() { return { logits(l) { l.bias(1, 0.5); } }; } };`)
	if err != nil {
		t.Fatal(err)
	}
	i, err := script.Start(environment())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, i)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	var gap time.Duration
	var peak int64
	var stream sync.WaitGroup
	stream.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for position, last := 3, time.Now(); ctx.Err() == nil; position++ {
			<-ticker.C
			if _, err := chain.Logits(hook.At{Position: position}, nil, nil); err != nil {
				t.Errorf("the other stream: %v", err)
				return
			}
			peak = max(peak, heap()-before)
			gap, last = max(gap, time.Since(last)), time.Now()
		}
	})
	return func() (time.Duration, int64) {
		cancel()
		stream.Wait()
		chain.Close()
		host.Close()
		return gap, peak
	}
}

func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}
