package tokenizer

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
	"github.com/ulikunitz/xz"
)

// testModel is a tokenizer with its goldens: encode, decode and stream.
type testModel struct {
	name      string
	tokenizer string                   // path
	goldens   func(kind string) string // path of a golden file
}

// testModels returns the committed models, which are complete, and those of
// the shared data folder where there is one.
func testModels(t *testing.T) []testModel {
	var models []testModel
	for name, file := range map[string]string{"qwen3": "tokenizer.json.xz", "demo": "tokenizer.json.gz"} {
		dir := filepath.Join("testdata", name)
		models = append(models, testModel{name, filepath.Join(dir, file), func(kind string) string {
			return filepath.Join(dir, kind+".jsonl.gz")
		}})
	}
	dir, ok := shared.Dir()
	if !ok {
		t.Run("shared", func(t *testing.T) { t.Skip("shared data not found: the committed cases ran alone") })
		return models
	}
	for name, file := range map[string]string{
		"qwen3": "tokenizer/qwen3/tokenizer.json.xz",
		"demo":  "models/demo-int4-mixed/tokenizer.json",
	} {
		models = append(models, testModel{"shared-" + name, filepath.Join(dir, file), func(kind string) string {
			return filepath.Join(dir, "goldens", "tokenizer", name+"-"+kind+".jsonl.gz")
		}})
	}
	return models
}

// unpacked returns the contents of a file, unpacked by its extension.
func unpacked(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var r io.Reader = bufio.NewReader(file)
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".gz":
		r, err = gzip.NewReader(r)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return data
}

// loaded remembers tokenizers by the SHA-256 of their packed file: unpacking
// Qwen3's takes a second, and the shared file is the committed one.
var (
	loadedMu sync.Mutex
	loaded   = map[[sha256.Size]byte]*Tokenizer{}
)

// load returns the tokenizer of a packed tokenizer.json.
func load(t testing.TB, path string) *Tokenizer {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	loadedMu.Lock()
	defer loadedMu.Unlock()
	key := sha256.Sum256(packed)
	if loaded[key] == nil {
		if loaded[key], err = Parse(unpacked(t, path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return loaded[key]
}

func qwen3(t testing.TB) *Tokenizer { return load(t, "testdata/qwen3/tokenizer.json.xz") }
func demo(t testing.TB) *Tokenizer  { return load(t, "testdata/demo/tokenizer.json.gz") }

// goldens decodes each line of a golden file.
func goldens[T any](t testing.TB, path string) []T {
	t.Helper()
	var cases []T
	d := json.NewDecoder(strings.NewReader(string(unpacked(t, path))))
	for d.More() {
		var c T
		if err := d.Decode(&c); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		cases = append(cases, c)
	}
	if len(cases) < 100 {
		t.Fatalf("%s has %d cases only", path, len(cases))
	}
	return cases
}
