package library

import (
	"io/fs"
	"testing"

	"github.com/roundhouse-ai/roundhouse/scripts"
)

// The tests beside scripts pass.
func TestScripts(t *testing.T) {
	host := scripts.NewHost(scripts.Options{})
	defer host.Close()
	files, err := fs.Glob(FS, "*.test.ts")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d tests, %v", len(files), err)
	}
	for _, file := range files {
		r := host.Test(t.Context(), FS, file, scripts.TestOptions{})
		for _, problem := range r.Problems {
			t.Errorf("%s: %s", file, problem)
		}
		for _, test := range r.Tests {
			if test.Problem != "" {
				t.Errorf("%s: %s: %s", file, test.Name, test.Problem)
			}
		}
		t.Logf("%s: %d tests in %v", file, len(r.Tests), r.Time)
	}
}
