package main

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func wheel(t *testing.T, files map[string]string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a.whl")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z := zip.NewWriter(file)
	for entry, text := range files {
		w, err := z.Create(entry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestUnpackKeepsWhatCompilesAndCanRun(t *testing.T) {
	root := t.TempDir()
	err := unpack(wheel(t, map[string]string{
		"nvidia/cu13/bin/nvcc":              "program",
		"nvidia/cu13/nvvm/bin/cicc":         "program",
		"nvidia/cu13/include/cuda.h":        "header",
		"nvidia/cu13/bin/nvlink":            "not needed",
		"nvidia/cu13/lib/libcudart.so.13":   "not needed",
		"nvidia/cu13/lib/libcudart.a":       "not needed",
		"nvidia_cuda_nvcc.dist-info/RECORD": "not needed",
	}), root)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]fs.FileMode{}
	_ = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if info, _ := entry.Info(); err == nil && !entry.IsDir() {
			got[strings.TrimPrefix(name, root+"/nvidia/cu13/")] = info.Mode().Perm() & 0o700
		}
		return err
	})
	if len(got) != 3 || got["bin/nvcc"] != 0o700 || got["nvvm/bin/cicc"] != 0o700 || got["include/cuda.h"] != 0o600 {
		t.Errorf("unpacked %v", got)
	}
}

func TestUnpackStaysInItsFolder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	err := unpack(wheel(t, map[string]string{"nvidia/cu13/../../../outside": "x"}), root)
	if err == nil {
		t.Error("an entry that leads out was accepted")
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(root), "outside")); err == nil {
		t.Error("a file was written outside")
	}
}

// Both hosts pin the same versions, each package with one hash.
func TestLocksAgree(t *testing.T) {
	versions := map[string]string{}
	for arch := range platforms {
		text, err := locks.ReadFile("lock/" + arch + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for line := range strings.Lines(string(text)) {
			pin, hash, ok := strings.Cut(strings.TrimSpace(line), " --hash=sha256:")
			if !ok || len(hash) != 64 {
				t.Errorf("%s: %q pins no hash", arch, line)
			}
			list = append(list, pin)
		}
		versions[arch] = strings.Join(list, " ")
	}
	if versions["amd64"] != versions["arm64"] {
		t.Errorf("%v", versions)
	}
}
