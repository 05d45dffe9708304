//go:build !nodemo

// Package library has the tests of the library of scripts: each shows on the demo model,
// in numbers, that a script does what its page says.
package library

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
)

var host = scripts.NewHost(scripts.Options{})

// model opens the demo model once for all tests.
var model = sync.OnceValues(func() (*engine.Model, error) {
	fsys, _ := demo.FS()
	return engine.Open(context.Background(), fsys, engine.Options{Name: demo.Name, Streams: 2, Context: 1024, Numerics: "exact"})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if m, err := model(); err == nil {
		_ = m.Close()
	}
	host.Close()
	os.Exit(code)
}

// run is a completion, with or without a script.
type run struct {
	script  string // of the library
	folder  fs.FS  // nil for the library
	params  map[string]any
	vectors func(string) ([]float32, error)
	prompt  string
	request engine.Request
	beside  hook.Hook // another hook; nil for none
	record  *tape     // what it is recorded on; nil for none
}

// tape is what a script is recorded on.
type tape struct {
	bytes.Buffer
	edits []string // that it made, in words
}

// outcome is what came of it.
type outcome struct {
	tokens  []engine.Token
	ids     []int32
	text    string
	notices []hook.Notice
	result  engine.Result
}

// story is a prompt that the demo model goes on with in many ways.
const story = "Once upon a time"

func (r run) do(t *testing.T) outcome {
	t.Helper()
	o, err := r.try(t)
	if err != nil {
		t.Fatalf("%s: %v", r.script, err)
	}
	return o
}

func (r run) err(t *testing.T) error {
	t.Helper()
	_, err := r.try(t)
	return err
}

func (r run) try(t *testing.T) (o outcome, err error) {
	t.Helper()
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	req := r.request
	if req.Prompt, err = m.HookTokenizer().Encode(r.prompt); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	if r.script != "" {
		folder := r.folder
		if folder == nil {
			folder = library.FS
		}
		script, err := host.Load(t.Context(), folder, r.script+".ts")
		if err != nil {
			t.Fatal(err)
		}
		req.Hooks = &engine.Hooking{
			OnError: hook.Fail,
			Start: func(uint32) ([]hook.Hook, error) {
				env := scripts.Env{Params: r.params, Model: m.HookModel(), Tokenizer: m.HookTokenizer(), Vectors: r.vectors}
				if r.record != nil {
					return r.recorded(script, env)
				}
				i, err := script.Start(env)
				if err != nil {
					return nil, err
				}
				if r.beside != nil {
					return []hook.Hook{i, r.beside}, nil
				}
				return []hook.Hook{i}, nil
			},
			Notify: func(_ uint32, n hook.Notice) {
				mu.Lock()
				defer mu.Unlock()
				o.notices = append(o.notices, n)
			},
		}
	}
	o.result, err = m.Generate(t.Context(), req, func(k engine.Token) error {
		k.Candidates = slices.Clone(k.Candidates)
		o.tokens, o.ids, o.text = append(o.tokens, k), append(o.ids, k.ID), o.text+k.Text
		return nil
	})
	if err != nil {
		return o, err
	}
	o.text += o.result.Tail
	for _, u := range o.result.Hooks.Hooks {
		if u.Calls > 0 {
			t.Logf("%s: %d calls of %v each", u.Name, u.Calls, (u.Time / time.Duration(u.Calls)).Round(time.Microsecond))
		}
	}
	return o, nil
}

// evidence logs a figure with its bound, as make evidence reads it.
func evidence(t *testing.T, script, what string, value float64, unit, relation string, bound float64) {
	t.Helper()
	t.Logf("evidence: library %s, %s: %.4g %s %s %g", script, what, value, unit, relation, bound)
}

// taped is a hook that is recorded.
type taped struct {
	*hook.Recorder
	tape *tape
}

func (h taped) Logits(call *hook.Call, l *hook.Logits) error {
	err := h.Recorder.Logits(call, l)
	h.tape.edits = append(h.tape.edits, edits(call.Position, call.Attempt, l.List(), l.Values()))
	return err
}

// edits are what a script made of a row, in words.
func edits(position, attempt int, list []hook.Edit, values hook.Values) string {
	return fmt.Sprintf("%d/%d %v %v", position, attempt, list, values.All())
}

// recorded starts a script that is recorded.
func (r run) recorded(script *scripts.Script, env scripts.Env) ([]hook.Hook, error) {
	spelling := hook.NewSpelling(env.Tokenizer)
	env.Tokenizer = spelling
	i, err := script.Start(env)
	if err != nil {
		return nil, err
	}
	return []hook.Hook{taped{hook.NewRecorder(r.record, hook.Recording{Model: env.Model, Params: env.Params}, spelling, i), r.record}}, nil
}

// numbers are those that a script told under a name, by position.
func (o outcome) numbers(name string) map[int]float64 {
	all := map[int]float64{}
	for _, n := range o.notices {
		if x, ok := n.Value.(float64); ok && n.Name == name {
			all[n.Position] = x
		}
	}
	return all
}

// data reads what a script told under a name last.
func (o outcome) data(t *testing.T, name string, to any) {
	t.Helper()
	for _, n := range slices.Backward(o.notices) {
		if raw, ok := n.Value.(json.RawMessage); ok && n.Name == name {
			if err := json.Unmarshal(raw, to); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the script told no %q: %v", name, o.notices)
}
