//go:build !nodemo

package library

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
)

// Copied into a folder, every file is a script that a store finds by its name, says
// what it is for, and describes parameters that have defaults and bounds.
func TestCopiedScriptsAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, library.FS); err != nil {
		t.Fatal(err)
	}
	store, err := scripts.Open(dir, scripts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	names, err := store.Names()
	files, globErr := fs.Glob(library.FS, "*.ts")
	if err != nil || globErr != nil || len(names) != len(files) || len(names) == 0 {
		t.Fatalf("the store finds %v of %v: %v, %v", names, files, err, globErr)
	}
	for _, name := range names {
		text, err := fs.ReadFile(library.FS, name+".ts")
		if err != nil || !strings.HasPrefix(string(text), "// ") {
			t.Errorf("%s does not begin with what it does (%v)", name, err)
		}
		script, err := store.Get(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for param, p := range script.Info().Params {
			bounded := p.Type == "boolean" || p.Type == "string" && p.MaxLength > 0 || len(p.Enum) > 0 || p.Minimum != nil && p.Maximum != nil
			if p.Default == nil || p.Description == "" || !bounded {
				t.Errorf("%s: parameter %s has no default, no description or no bounds: %+v", name, param, p)
			}
		}
	}
}
