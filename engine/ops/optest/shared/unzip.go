package shared

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"
)

// Unzip reads every NAME.gz of a folder of committed test data into memory, as
// NAME. A folder without any is an error.
func Unzip(dir string) (fstest.MapFS, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.gz"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s has no compressed files", dir)
	}
	fsys := fstest.MapFS{}
	for _, path := range paths {
		data, err := unzip(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fsys[strings.TrimSuffix(filepath.Base(path), ".gz")] = &fstest.MapFile{Data: data}
	}
	return fsys, nil
}

func unzip(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // read only
	z, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
