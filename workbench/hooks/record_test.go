package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// digits is a tokenizer.
type digits struct{}

func (digits) Encode(string) ([]int32, error) { return []int32{1}, nil }
func (digits) Decode(ids []int32) string      { return fmt.Sprint(ids) }

// recorder is an owner that records the script a, and what it publishes.
func recorder(t *testing.T, file string) (*Owner, *[]string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ts"), `import { script } from "roundhouse";
export default script({ api: 1, params: { x: { type: "number", default: 0 } }, hooks({ tokens, request }) { return {
  logits(l) { l.ban(3); },
  finish() { tokens.decode([1, 2]); },
}; } });`)
	var told []string
	o := New(Options{Dir: dir, Record: file, Publish: func(kind, request string, data any) {
		if r, ok := data.(Recorded); ok {
			told = append(told, fmt.Sprintf("%s %s %d %s %s", kind, request, r.Choice, filepath.Base(r.File), r.Error))
		}
	}})
	o.SetModel(model, digits{})
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o, &told
}

// choose plays a choice of one token.
func choose(t *testing.T, o *Owner, index int, params map[string]any) {
	t.Helper()
	set, err := o.Prepare(t.Context(), Ask{ID: "r", Scripts: []string{"a"}, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	list, err := set.Hooking(t.Context(), hook.Request{ID: "r", MaxTokens: 9, Choices: 2}, 0).Start(uint32(index))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, Choice: index, OnError: hook.Fail}, list...)
	if err != nil {
		t.Fatal(err)
	}
	row := hook.Plain{0, 1, 2, 3, 4, 5, 6, 7}
	if v, err := chain.Logits(hook.At{Position: 1}, row, row); err != nil || v.Edits.Allows(3) {
		t.Errorf("%+v, %v", v, err)
	}
	chain.Token(hook.Token{Position: 1, ID: 2, Text: "two"})
	chain.Finish(hook.Finish{Reason: "length", Prompt: 1, Completion: 1})
	chain.Close()
	if use := set.Scripts(index); len(use) != 1 || use[0].Digest == "" {
		t.Errorf("%+v", use)
	}
}

// Each choice has a file of its own, in which there was nothing before, and which says
// what the script was given.
func TestRecordings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "calm.jsonl")
	write(t, filepath.Join(dir, "calm-2.jsonl"), "mine")
	o, told := recorder(t, file)
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	choose(t, o, 0, nil)
	choose(t, o, 1, map[string]any{"x": 2.5})
	want := []string{"hook_recorded r 0 calm.jsonl ", "hook_recorded r 1 calm-3.jsonl "}
	if !slices.Equal(*told, want) {
		t.Errorf("%q, want %q", *told, want)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "calm-2.jsonl")); err != nil || string(text) != "mine" {
		t.Errorf("what was there: %q, %v", text, err)
	}
	from, err := os.Open(filepath.Join(dir, "calm-3.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	r, err := hook.ReadRecording(from)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hook != "a" || r.Choice != 1 || r.Params["x"] != 2.5 || r.Request.MaxTokens != 9 || len(r.Steps) != 1 || r.Finish.Reason != "length" || r.Now.IsZero() {
		t.Errorf("%+v", r)
	}
	if text, err := r.Tokenizer().Text([]int32{1, 2}); err != nil || text != "[1 2]" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := from.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A choice that cannot be recorded goes on without, and says so.
func TestRecordingsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	o, told := recorder(t, filepath.Join(dir, "none", "a.jsonl"))
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), "scripts.record") || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v", err)
	}
	choose(t, o, 0, nil)
	if len(*told) != 1 || !strings.HasPrefix((*told)[0], "hook_record_fault r 0 . open ") {
		t.Errorf("%q", *told)
	}
	write(t, filepath.Join(dir, "file"), "")
	o, _ = recorder(t, filepath.Join(dir, "file", "a.jsonl"))
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), "no folder") {
		t.Errorf("%v", err)
	}

	o, told = recorder(t, filepath.Join(dir, "unborn"))
	set, err := o.Prepare(t.Context(), Ask{ID: "r", Scripts: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := set.Hooking(t.Context(), hook.Request{}, 0).Start(0)
	if err != nil {
		t.Fatal(err)
	}
	list[0].Close()
	if _, err := os.Stat(filepath.Join(dir, "unborn")); err == nil || len(*told) != 1 || !strings.Contains((*told)[0], "did not start") {
		t.Errorf("%q, %v", *told, err)
	}

	o, told = recorder(t, filepath.Join(dir, "many"))
	o.recordings.made = maxRecorded - 1
	choose(t, o, 0, nil)
	choose(t, o, 0, nil)
	if len(*told) != 2 || !strings.HasPrefix((*told)[0], "hook_recorded r 0 many ") || !strings.Contains((*told)[1], "64 recordings") {
		t.Errorf("%q", *told)
	}
}
