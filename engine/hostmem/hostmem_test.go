package hostmem

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestAvailableIsPositiveAndWithinTotal(t *testing.T) {
	available, ok := Available()
	if !ok {
		if runtime.GOOS == "linux" {
			t.Fatal("no figure on Linux")
		}
		t.Skip("memory cannot be read on " + runtime.GOOS)
	}
	total, ok := Total()
	if !ok || available <= 0 || available > total {
		t.Fatalf("Available() = %d of Total() = %d, %v", available, total, ok)
	}
}

func TestGroupDoesNotCountThePageCache(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := group(dir); ok {
		t.Error("a limit without files")
	}
	write("memory.max", "max\n")
	write("memory.current", "700\n")
	if _, ok := group(dir); ok {
		t.Error("max is no limit")
	}
	write("memory.max", "1000\n")
	write("memory.stat", "anon 100\ninactive_file 600\n")
	if left, ok := group(dir); !ok || left != 900 {
		t.Errorf("left %d, %v: want 1000 - (700 - 600)", left, ok)
	}
}
