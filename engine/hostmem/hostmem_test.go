package hostmem

import (
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
