// Package shared finds the folder of large test data (models, goldens,
// tokenizer, templates) that may stand beside a clone. Every package commits a
// compact set of its own under testdata, so tests are real without it; with it
// they run every case.
package shared

import (
	"os"
	"path/filepath"
	"runtime"
)

// Dir returns the shared data folder: $ROUNDHOUSE_SHARED if set, else
// "../shared" beside the repository root. ok is false when neither is a folder.
func Dir() (dir string, ok bool) {
	if dir = os.Getenv("ROUNDHOUSE_SHARED"); dir == "" {
		dir = filepath.Join(Root(), "..", "shared")
	}
	return dir, isDir(dir)
}

// Root returns the repository's root. A binary built with -trimpath does not know
// where its sources lay: there it is the module that the working folder lies in.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	if filepath.IsAbs(file) {
		return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
	}
	at, err := os.Getwd()
	for err == nil && at != filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		at = filepath.Dir(at)
	}
	return "."
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
