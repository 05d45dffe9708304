package synth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// The sizes of the published checkpoints, to the byte (autoround-format.md,
// sections 1 and 6).
func TestLayoutsHaveThePublishedSizes(t *testing.T) {
	for layout, want := range map[string][2]int64{
		"int4-mixed-2026": {43_243_415_040, 859_042_816},
		"int4-mixed-2025": {43_118_175_744, 0},
		"int4":            {42_391_395_840, 0},
	} {
		m, err := New(Options{Shape: "qwen3-next-80b", Layout: layout})
		if err != nil {
			t.Fatal(err)
		}
		main, draft := m.tensors()
		var got [2]int64
		for i, all := range [][]tensor{main, draft} {
			for _, tensor := range all {
				got[i] += tensor.bytes()
			}
		}
		if got != want {
			t.Errorf("%s: %d bytes of tensors, the published files have %d", layout, got, want)
		}
	}
}

func write(t *testing.T, o Options) string {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var last int64
	err = m.Write(context.Background(), dir, nil, func(done, total int64) { last = max(last, done) })
	if err != nil || last == 0 {
		t.Fatal(last, err)
	}
	return dir
}

func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = sha256.Sum256(data)
	}
	return all
}

func TestASeedGivesTheSameBytes(t *testing.T) {
	o := Options{Shape: "kernel-test", Layout: "int4-mixed-2026", Seed: 5, Layers: 1}
	first, again := sums(t, write(t, o)), sums(t, write(t, o))
	for name, sum := range first {
		if again[name] != sum {
			t.Errorf("%s differs", name)
		}
	}
	o.Seed++
	if other := sums(t, write(t, o)); other["model.safetensors"] == first["model.safetensors"] || other["config.json"] != first["config.json"] {
		t.Error("another seed must change the tensors and nothing else")
	}
}

// Every layout binds without a warning, written out or as an outline, whose
// headers are those of the real thing.
func TestFoldersBind(t *testing.T) {
	for layout := range Layouts {
		o := Options{Shape: "kernel-test", Layout: layout, Seed: 1, Layers: 4}
		whole, hollow := write(t, o), t.TempDir()
		m, err := New(o)
		if err == nil {
			err = m.Outline(hollow)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{whole, hollow} {
			bind(t, layout, os.DirFS(dir))
		}
		head := func(dir string) []byte {
			data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			return data[:1<<14]
		}
		if !bytes.Equal(head(whole), head(hollow)) {
			t.Errorf("%s: the outline has another header", layout)
		}
	}
}

func bind(t *testing.T, layout string, dir fs.FS) {
	t.Helper()
	config, err := fs.ReadFile(dir, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := qwen3next.ParseConfig(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	quant, err := autoround.ReadConfig(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	files, err := safetensors.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	w, err := qwen3next.Bind(files, cfg, quant)
	if err != nil || len(w.Warnings) > 0 {
		t.Errorf("%s: %v, warnings %v", layout, err, w.Warnings)
	}
}

func TestOptionsRefused(t *testing.T) {
	for _, o := range []Options{{Shape: "x", Layout: "int4"}, {Shape: "demo", Layout: "x"}, {Shape: "demo", Layout: "int4", Layers: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is not refused", o)
		}
	}
	m, err := New(Options{Shape: "kernel-test", Layout: "int4"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(context.Background(), dir, nil, nil); err == nil {
		t.Error("a folder that holds something is written to")
	}
}
