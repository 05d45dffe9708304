package scripts

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// tested runs a test file beside scripts, and fails where it cannot be run.
func tested(t *testing.T, folder fs.FS, entry string) *TestReport {
	t.Helper()
	h := NewHost(Options{})
	t.Cleanup(h.Close)
	return h.Test(t.Context(), folder, entry, TestOptions{})
}

func TestStarter(t *testing.T) {
	r := tested(t, os.DirFS("starter/files"), "steady.test.ts")
	fmt.Printf("%+v\n", r)
	_ = context.Background
	_ = strings.Contains
	_ = fstest.MapFS{}
	_ = time.Second
}
