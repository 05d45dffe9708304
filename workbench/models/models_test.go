package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

const (
	config  = `{"model_type": "qwen3_next"}`
	shard   = "\x02\x00\x00\x00\x00\x00\x00\x00{}"
	lfs     = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4297702384\n"
	twoPart = `{"metadata": {"total_size": 20}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`
)

// whole is a model folder of two shards with nothing wrong.
func whole() map[string]string {
	return map[string]string{
		"config.json": config, "tokenizer.json": "{}", indexName: twoPart,
		"model-00001-of-00002.safetensors": shard, "model-00002-of-00002.safetensors": shard,
	}
}

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// writeHub writes a snapshot as the hub's client does: links into blobs.
func writeHub(t *testing.T, hub, name, commit string, files map[string]string) (snapshot string) {
	t.Helper()
	root := filepath.Join(hub, "models--"+strings.ReplaceAll(name, "/", "--"))
	snapshot = filepath.Join(root, "snapshots", commit)
	if err := os.MkdirAll(snapshot, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, root, map[string]string{"blobs/keep": ""})
	i := 0
	for file, text := range files {
		blob := fmt.Sprintf("%s-%02d", commit, i)
		i++
		write(t, root, map[string]string{"blobs/" + blob: text})
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, file)); err != nil {
			t.Fatal(err)
		}
	}
	return snapshot
}

func environment(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestResolvePath(t *testing.T) {
	dir := write(t, t.TempDir(), whole())
	got, err := Resolve(dir, nil, environment())
	if want := (Location{filepath.Base(dir), dir}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	got, err = Resolve("~/m", nil, environment("HOME", filepath.Dir(dir)))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("~/m: got %v, %v; want not found", got, err)
	}
	got, err = Resolve("~/"+filepath.Base(dir), nil, environment("HOME", filepath.Dir(dir)))
	if err != nil || got.Path != dir {
		t.Errorf("~: got %v, %v; want %s", got, err, dir)
	}
	// A damaged folder given by path is for inspect to judge.
	empty := t.TempDir()
	if got, err := Resolve(empty, nil, environment()); err != nil || got.Path != empty {
		t.Errorf("empty folder: got %v, %v", got, err)
	}
	if _, err := Resolve(filepath.Join(dir, "config.json"), nil, environment()); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("a file: got %v", err)
	}
}

func TestResolveName(t *testing.T) {
	one, two, home := t.TempDir(), t.TempDir(), t.TempDir()
	hub := filepath.Join(home, ".cache", "huggingface", "hub")
	write(t, filepath.Join(one, "org", "first"), whole())
	write(t, filepath.Join(two, "org", "first"), whole())
	write(t, filepath.Join(two, "flat"), whole())
	write(t, filepath.Join(two, "other", "second"), whole())
	third := writeHub(t, hub, "org/third", "abc123", whole())
	write(t, filepath.Join(hub, "models--org--third"), map[string]string{"refs/main": "abc123\n"})
	other := writeHub(t, filepath.Join(home, "elsewhere"), "org/third", "fff", whole())

	dirs := []string{one, two, "~/none"}
	env := environment("HOME", home)
	for _, c := range []struct {
		name, path string
		env        func(string) string
	}{
		{"org/first", filepath.Join(one, "org", "first"), env},
		{"flat", filepath.Join(two, "flat"), env},
		{"second", filepath.Join(two, "other", "second"), env},
		{"org/third", third, env},
		{"org/third", other, environment("HOME", home, "HF_HUB_CACHE", filepath.Join(home, "elsewhere"))},
		{"org/third", third, environment("HF_HOME", filepath.Join(home, ".cache", "huggingface"))},
		{"org/third", third, environment("XDG_CACHE_HOME", filepath.Join(home, ".cache"))},
	} {
		got, err := Resolve(c.name, dirs, c.env)
		if want := (Location{filepath.Base(c.name), c.path}); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, err, want)
		}
	}

	_, err := Resolve("first", dirs, env)
	for _, part := range []string{"2 folders", filepath.Join(one, "org", "first"), filepath.Join(two, "org", "first")} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("ambiguous: got %v, want it to tell %q", err, part)
		}
	}
}

func TestResolveWithoutRef(t *testing.T) {
	hub := t.TempDir()
	older := writeHub(t, hub, "org/m", "old", whole())
	newer := writeHub(t, hub, "org/m", "new", whole())
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(older, past, past); err != nil {
		t.Fatal(err)
	}
	env := environment("HF_HUB_CACHE", hub)
	if got, err := Resolve("org/m", nil, env); err != nil || got.Path != newer {
		t.Errorf("got %v, %v; want the newest snapshot %s", got, err, newer)
	}
	// A ref to a snapshot that is not there must not fall back to another one,
	// nor lead out of the cache.
	for _, ref := range []string{"gone", "../../..", "/etc", ""} {
		write(t, filepath.Join(hub, "models--org--m"), map[string]string{"refs/main": ref})
		var incomplete *Incomplete
		if got, err := Resolve("org/m", nil, env); !errors.As(err, &incomplete) {
			t.Errorf("refs/main %q: got %v, %v; want Incomplete", ref, got, err)
		}
	}
}

func TestRefusedNames(t *testing.T) {
	for _, name := range []string{
		"", "a/b/c", "../no-such", "org/..", "org/../x", "/no/such/folder", "org//x", "/org/x", "org/", "org\\x",
		"a--b/c", "org/a b", "org/\x00", "-x", "~nobody/x", strings.Repeat("a", 97),
	} {
		if got, err := Resolve(name, []string{t.TempDir()}, environment("HF_HUB_CACHE", t.TempDir())); err == nil {
			t.Errorf("%q resolved to %v", name, got)
		} else if strings.Contains(err.Error(), "hf download") {
			t.Errorf("%q: offered for download: %v", name, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my models")
	const name = "Intel/Qwen3-Next-80B-A3B-Instruct-int4-mixed-AutoRound"
	for _, c := range []struct {
		dirs []string
		want string
	}{
		{[]string{dir}, "hf download " + name + " --local-dir '" + filepath.Join(dir, filepath.FromSlash(name)) + "'\n"},
		{nil, "hf download " + name + "\n"},
	} {
		_, err := Resolve(name, c.dirs, environment("HF_HUB_CACHE", t.TempDir()))
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("got %v, want not found", err)
		}
		for _, part := range []string{c.want, "It takes 44.2 GB.", " free"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("got %v\nwant it to tell %q", err, part)
			}
		}
	}
}

func TestIncomplete(t *testing.T) {
	change := func(edit func(files map[string]string)) map[string]string {
		files := whole()
		edit(files)
		return files
	}
	for _, c := range []struct {
		name    string
		files   map[string]string
		missing []string
		problem string // part of one, "" for none
		advice  string
	}{
		{"missing shard", change(func(f map[string]string) { delete(f, "model-00002-of-00002.safetensors") }),
			[]string{"model-00002-of-00002.safetensors"}, "", "It takes 20 B"},
		{"missing shard, no index", change(func(f map[string]string) {
			delete(f, indexName)
			delete(f, "model-00001-of-00002.safetensors")
		}), []string{"model-00001-of-00002.safetensors"}, "", "not known before"},
		{"nothing", map[string]string{"config.json": config}, []string{"*.safetensors", "tokenizer.json"}, "", ""},
		{"no config", change(func(f map[string]string) { delete(f, "config.json") }), []string{"config.json"}, "", ""},
		{"pointer", change(func(f map[string]string) { f["model-00001-of-00002.safetensors"] = lfs }),
			nil, "git-lfs pointer, not the file, the file has 4.3 GB", ""},
		{"pointers without index", change(func(f map[string]string) {
			f["model-00001-of-00002.safetensors"], f["model-00002-of-00002.safetensors"] = lfs, lfs
			delete(f, indexName)
		}), nil, "git-lfs pointer", "It takes 8.6 GB"},
		{"pointer config", change(func(f map[string]string) { f["config.json"] = lfs }), nil, "config.json is a git-lfs pointer", ""},
		{"pointer tokenizer", change(func(f map[string]string) { f["tokenizer.json"] = lfs }), nil, "tokenizer.json is a git-lfs pointer", ""},
		{"unfinished", change(func(f map[string]string) {
			delete(f, "model-00002-of-00002.safetensors")
			f[".cache/huggingface/download/x.incomplete"] = "12345"
		}), []string{"model-00002-of-00002.safetensors"}, "1 unfinished downloads (.incomplete, 5 B so far)", ""},
		{"cut header", change(func(f map[string]string) { f["model-00001-of-00002.safetensors"] = "\xff\x00\x00\x00\x00\x00\x00\x00{" }),
			nil, "a header of 255", ""},
		{"empty shard", change(func(f map[string]string) { f["model-00001-of-00002.safetensors"] = "" }), nil, "has 0 bytes", ""},
		{"short", change(func(f map[string]string) { f[indexName] = strings.Replace(twoPart, "20", "21", 1) }), nil, "promises 21", ""},
		{"bad index", change(func(f map[string]string) { f[indexName] = `{"weight_map": [` }), nil, "is broken", ""},
		{"escaping index", change(func(f map[string]string) { f[indexName] = `{"weight_map": {"a": "../x.safetensors"}}` }), nil, "only plain names", ""},
		{"other type", change(func(f map[string]string) { f["config.json"] = `{"model_type": "llama"}` }), nil, `model_type is "llama"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, filepath.Join(dir, "org", "m"), c.files)
			location, err := Resolve("org/m", []string{dir}, environment())
			var incomplete *Incomplete
			if !errors.As(err, &incomplete) || location.Path != path {
				t.Fatalf("got %v, %v; want Incomplete at %s", location, err, path)
			}
			if diff := cmp.Diff(c.missing, incomplete.Candidate.Missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			problems := strings.Join(incomplete.Candidate.Problems, "\n")
			if (c.problem == "") != (problems == "") || !strings.Contains(problems, c.problem) {
				t.Errorf("problems %q, want %q", problems, c.problem)
			}
			for _, part := range []string{"hf download org/m --local-dir " + path + "\n", c.advice} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %v\nwant it to tell %q", err, part)
				}
			}
			if again := Check(location, []string{dir}, environment()); again == nil || !strings.Contains(again.Error(), "hf download org/m") {
				t.Errorf("Check by path: %v", again)
			}
		})
	}
	good := write(t, t.TempDir(), whole())
	if err := Check(Location{"x", good}, nil, environment()); err != nil {
		t.Errorf("Check of a whole folder: %v", err)
	}
}

func TestIncompleteInHub(t *testing.T) {
	hub := t.TempDir()
	snapshot := writeHub(t, hub, "org/m", "c0", whole())
	link := filepath.Join(snapshot, "model-00002-of-00002.safetensors")
	blob, err := filepath.EvalSymlinks(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(blob, blob+".incomplete"); err != nil {
		t.Fatal(err)
	}
	for _, env := range []func(string) string{
		environment("HF_HUB_CACHE", hub),
		environment("HF_HUB_CACHE", t.TempDir(), "HF_HOME", filepath.Dir(hub)), // found second: hf must be told
	} {
		second := env("HF_HOME") != ""
		if second {
			if err := os.Symlink(hub, filepath.Join(filepath.Dir(hub), "hub")); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Resolve("org/m", nil, env)
		if err == nil {
			t.Fatal("no error")
		}
		for _, part := range []string{"model-00002-of-00002.safetensors (a link whose file is not there) is missing", "1 unfinished downloads", "hf download org/m"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("got %v\nwant it to tell %q", err, part)
			}
		}
		if strings.Contains(err.Error(), "--cache-dir") != second {
			t.Errorf("--cache-dir: got %v, want %v", err, second)
		}
	}
}

func TestList(t *testing.T) {
	dir, hub := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "a"), whole())
	part := whole()
	delete(part, "model-00001-of-00002.safetensors")
	write(t, filepath.Join(dir, "org", "b"), part)
	write(t, filepath.Join(dir, "llama"), map[string]string{"config.json": `{"model_type": "llama"}`, "model.safetensors": shard})
	write(t, filepath.Join(dir, "x", "y", "too-deep"), whole())
	write(t, filepath.Join(dir, ".hidden"), whole())
	snapshot := writeHub(t, hub, "org/c", "c0", whole())
	write(t, filepath.Join(hub, "datasets--org--d"), map[string]string{"refs/main": "x"})
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "same-as-a")); err != nil {
		t.Fatal(err)
	}

	got := List([]string{dir, filepath.Join(dir, "nowhere")}, environment("HF_HUB_CACHE", hub))
	type row struct {
		Name, Path string
		Size       int64
		Complete   bool
		Missing    []string
	}
	var rows []row
	for _, c := range got {
		rows = append(rows, row{c.Name, c.Path, c.Size, c.Complete, c.Missing})
	}
	want := []row{
		{"a", filepath.Join(dir, "a"), 20, true, nil},
		{"org/b", filepath.Join(dir, "org", "b"), 10, false, []string{"model-00001-of-00002.safetensors"}},
		{"org/c", snapshot, 20, true, nil},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	data, err := json.Marshal(got[0])
	if err != nil || !strings.Contains(string(data), `"complete":true`) {
		t.Errorf("as JSON: %s, %v", data, err)
	}
}

func TestListIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range maxCandidates + 5 {
		write(t, filepath.Join(dir, "org", fmt.Sprint("m", i)), map[string]string{"config.json": config})
	}
	if got := len(List([]string{dir}, environment())); got != maxCandidates {
		t.Errorf("%d candidates, want %d", got, maxCandidates)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(twoPart))
	f.Add([]byte(`{"metadata":{"total_size":1e300},"weight_map":{"a":1}}`))
	f.Add([]byte(`{"weight_map":{"a":"x"},"weight_map":{"a":"y"}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		listed, total, err := parseIndex(data)
		if err == nil && (listed == nil || total < 0 || len(listed) > maxShards) {
			t.Errorf("accepted %q with %d files, total %d", data, len(listed), total)
		}
	})
}

// Every model of the shared data is listed as complete and found by its name.
func TestSharedModels(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: set ROUNDHOUSE_SHARED")
	}
	dirs := []string{filepath.Join(dir, "models")}
	var names []string
	for _, c := range List(dirs, environment()) {
		names = append(names, c.Name)
		if !c.Complete || c.Size < 500_000 {
			t.Errorf("%s: %+v", c.Name, c)
		}
		if got, err := Resolve(c.Name, dirs, environment()); err != nil || got.Path != c.Path {
			t.Errorf("%s: resolved to %v, %v", c.Name, got, err)
		}
	}
	if len(names) < 14 || !slices.Contains(names, "demo-int4-mixed") || !slices.Contains(names, "micro/int3") {
		t.Errorf("listed %v", names)
	}
}

// BenchmarkParseIndex reads an index as long as the real model's, 227,088 tensors.
func BenchmarkParseIndex(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"metadata": {"total_size": 43243415040}, "weight_map": {`)
	for i := range 227_088 {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"model.layers.%d.mlp.experts.%d.gate_proj.qweight": "model-%05d-of-00012.safetensors"`, i%48, i, i%12+1)
	}
	text.WriteString("}}")
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if listed, _, err := parseIndex(data); err != nil || len(listed) != 12 {
			b.Fatal(len(listed), err)
		}
	}
}
