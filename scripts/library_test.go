package scripts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
)

// A store finds scripts of the library where its folder has none of the name, also before
// there is a folder; one of the folder comes first from when it is there.
func TestStoreFindsTheLibrary(t *testing.T) {
	text := func(priority string) string {
		return `import { script } from "roundhouse"; export default script({ api: 1, priority: ` + priority + `, hooks() { return {}; } });`
	}
	shipped := fstest.MapFS{
		"calm.ts": {Data: []byte(text("1"))}, "loud.ts": {Data: []byte(text("2"))}, "calm.test.ts": {Data: []byte("throw 1")},
	}
	dir := filepath.Join(t.TempDir(), "later")
	store, err := Open(dir, Options{Library: shipped})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	priority := func(name string) int {
		t.Helper()
		script, err := store.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		return script.Info().Spec.Priority
	}
	lists := func(own, library []string) {
		t.Helper()
		names, err := store.Names()
		others, libraryErr := store.Library()
		if err := errors.Join(err, libraryErr); err != nil || !slices.Equal(names, own) || !slices.Equal(others, library) {
			t.Errorf("of the folder %v, of the library %v: %v", names, others, err)
		}
	}
	if priority("calm") != 1 || priority("loud") != 2 {
		t.Error("the library's scripts are others")
	}
	lists(nil, []string{"calm", "loud"})
	if _, err := store.Get("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a script that is nowhere: %v", err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o750), os.WriteFile(filepath.Join(dir, "calm.ts"), []byte(text("7")), 0o600)); err != nil {
		t.Fatal(err)
	}
	if priority("calm") != 7 || priority("loud") != 2 {
		t.Error("the folder's script does not come first")
	}
	lists([]string{"calm"}, []string{"loud"})
}
