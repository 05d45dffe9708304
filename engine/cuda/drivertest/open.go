package drivertest

import (
	"errors"
	"os"
	"testing"

	"github.com/roundhouse-ai/roundhouse/kernels/host"
)

// Open makes the fake driver of a test: with arithmetic in Go, or, where
// ROUNDHOUSE_HOST_KERNELS is 1, with the kernels' own sources on the CPU; asan
// compiles them with AddressSanitizer. A machine that cannot skips the test.
func Open(t testing.TB, o Options) *Fake {
	t.Helper()
	switch kind := os.Getenv("ROUNDHOUSE_HOST_KERNELS"); kind {
	case "", "0":
	case "1", "asan":
		o.Host, o.Sanitize = true, kind == "asan"
	default:
		t.Fatalf("ROUNDHOUSE_HOST_KERNELS is %q: 1, asan or nothing", kind)
	}
	return open(t, o)
}

// NewHost makes a fake driver whose kernels are their own sources, whatever the
// environment says.
func NewHost(t testing.TB, o Options) *Fake {
	t.Helper()
	o.Host = true
	return open(t, o)
}

func open(t testing.TB, o Options) *Fake {
	t.Helper()
	f, err := New(o)
	if errors.Is(err, host.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}
