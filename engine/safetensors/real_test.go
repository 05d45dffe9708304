package safetensors_test

import (
	"os"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// A folder with the headers of the real model: its counts and sizes are those
// known of the published one.
func TestRealHeaders(t *testing.T) {
	dir := t.TempDir()
	if _, err := optest.WriteHeaders(dir); err != nil {
		t.Fatal(err)
	}
	c, err := safetensors.Open(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Count() != 227_088 || len(c.Files) != 12 || c.IndexTotal != 43_243_415_040 {
		t.Errorf("%d tensors in %d files, index total %d", c.Count(), len(c.Files), c.IndexTotal)
	}
	total, header := int64(0), 0
	for _, f := range c.Files {
		header += len(f.Header)
		for i := range f.Tensors {
			total += f.Tensors[i].Bytes
		}
	}
	if total != 43_243_415_040+859_042_816 || header < 20<<20 {
		t.Errorf("%d bytes of tensors, %d of headers", total, header)
	}
	if len(c.Unlisted) != 0 {
		t.Errorf("unlisted files %v", c.Unlisted)
	}
}

// BenchmarkOpenReal reads the headers and the index of the real model's folder;
// the goal is 0.5 s on two cores.
func BenchmarkOpenReal(b *testing.B) {
	dir := b.TempDir()
	if _, err := optest.WriteHeaders(dir); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := safetensors.Open(os.DirFS(dir))
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
