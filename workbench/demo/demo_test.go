//go:build !nodemo

package demo

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

func sums(t *testing.T, fsys fs.FS) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		all[name] = sha256.Sum256(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFolderIsAModel(t *testing.T) {
	fsys, ok := FS()
	if !ok {
		t.Fatal("the demo model is missing from a build without nodemo")
	}
	if err := fstest.TestFS(fsys, "config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json",
		"model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors", "SOURCES.md"); err != nil {
		t.Error(err)
	}
}

// The embedded copy and the folder it was taken from are the same.
func TestSameAsShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the demo model has nothing to be compared with")
	}
	fsys, _ := FS()
	here := sums(t, fsys)
	there := sums(t, os.DirFS(filepath.Join(dir, "models", "demo-int4-mixed")))
	delete(here, "SOURCES.md")
	if len(here) != len(there) || len(there) == 0 {
		t.Errorf("%d files here, %d there", len(here), len(there))
	}
	for name, sum := range there {
		if here[name] != sum {
			t.Errorf("%s differs", name)
		}
	}
}

func TestExtract(t *testing.T) {
	fsys, _ := FS()
	want := sums(t, fsys)
	ctx, parent := context.Background(), t.TempDir()
	check := func(dir string) {
		t.Helper()
		got := sums(t, os.DirFS(dir))
		for name, sum := range want {
			if got[name] != sum {
				t.Errorf("%s: %s differs", dir, name)
			}
		}
		left, err := filepath.Glob(filepath.Join(parent, ".roundhouse-demo-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	fresh := filepath.Join(parent, "deep", "model")
	if err := Extract(ctx, fresh, false); err != nil {
		t.Fatal(err)
	}
	check(fresh)
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("folder has mode %v, %v", info.Mode(), err)
	}

	if err := Extract(ctx, fresh, false); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a full folder gave %v", err)
	}

	damaged, own := filepath.Join(fresh, "config.json"), filepath.Join(fresh, "notes.txt")
	for _, path := range []string{damaged, own} {
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Extract(ctx, fresh, true); err != nil {
		t.Fatal(err)
	}
	check(fresh)
	if text, err := os.ReadFile(own); err != nil || string(text) != "mine" {
		t.Errorf("--force changed a file that is not the model's: %q, %v", text, err)
	}

	empty := filepath.Join(parent, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Extract(ctx, empty, false); err != nil {
		t.Fatal(err)
	}
	check(empty)
}

func TestExtractStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	parent := t.TempDir()
	if err := Extract(ctx, filepath.Join(parent, "model"), false); err == nil {
		t.Error("a cancelled extraction succeeded")
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
		t.Errorf("a cancelled extraction left %v, %v", entries, err)
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Extract(context.Background(), file, true); err == nil {
		t.Error("a file was taken for a folder")
	}
}
