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
	if dir = os.Getenv("ROUNDHOUSE_SHARED"); dir != "" {
		return dir, isDir(dir)
	}
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
	dir = filepath.Join(root, "..", "shared")
	return dir, isDir(dir)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
