package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Two archives of the same contents are the same bytes, whatever the order and
// age of the files.
func TestArchiveIsReproducible(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for _, name := range []string{one, two} {
		if err := os.WriteFile(name, []byte("same"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(two, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	a, err := archive(filepath.Join(dir, "a.tar.gz"), "box", []packed{{"x", one, 0o755}, {"b/y", one, 0o644}})
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "b.tar.gz")
	b, err := archive(target, "box", []packed{{"b/y", two, 0o644}, {"x", two, 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("archives differ: %s and %s", a, b)
	}

	file, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	box := tar.NewReader(zipped)
	for _, want := range []string{"box/b/y", "box/x"} {
		header, err := box.Next()
		if err != nil || header.Name != want {
			t.Fatalf("read %v, %v; want %s", header, err, want)
		}
		if data, err := io.ReadAll(box); err != nil || string(data) != "same" {
			t.Errorf("%s holds %q, %v", want, data, err)
		}
	}
}
