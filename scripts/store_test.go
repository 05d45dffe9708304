package scripts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// shelf is a store in a folder that the test writes to.
type shelf struct {
	*Store
	t   *testing.T
	dir string

	mu      sync.Mutex
	reloads []string
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, dir: t.TempDir()}
	store, err := Open(s.dir, Options{Report: func(r Reload) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reloads = append(s.reloads, fmt.Sprint(r.Script, " ", r.Err))
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Store = store
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shelf) write(name, text string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) get(name string) *Script {
	s.t.Helper()
	script, err := s.Get(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return script
}

func TestStoreFindsByName(t *testing.T) {
	s := newShelf(t)
	s.write("plain.ts", wrapped(`return {}`))
	s.write("dir/old.js", wrapped(`return {}`))
	s.write("both.ts", wrapped(`return {}`))
	s.write("both.js", wrapped(`return {}`))
	s.write("plain.test.ts", "")
	s.write("Upper.ts", wrapped(`return {}`))
	s.write("broken.ts", "let = ;")
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.dir), "secret.ts"), []byte(wrapped(`return {}`)), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Symlink("../secret.ts", filepath.Join(s.dir, "link.ts")) == nil {
		if _, err := s.Get("link"); err == nil || !strings.Contains(err.Error(), "link.ts") {
			t.Errorf("a link that leaves the folder: %v", err)
		}
		if err := os.Remove(filepath.Join(s.dir, "link.ts")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"plain", "dir/old"} {
		if got := s.get(name); got.Name() != name || got.Info().Digest == "" {
			t.Errorf("%s: %+v", name, got.Info())
		}
	}
	for name, want := range map[string]string{
		"none": "neither none.ts nor none.js", "Upper": "names are made of", "../plain": "names are made of", "/plain": "names are made of",
		"dir/": "names are made of", "plain.ts": "names are made of", "": "names are made of", "dir": "neither",
		"both": "remove one", "broken": "broken.ts:1:7", strings.Repeat("a", 200): "names are made of",
	} {
		_, err := s.Get(name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
		if there := slices.Contains([]string{"both", "broken"}, name); errors.Is(err, fs.ErrNotExist) == there {
			t.Errorf("%q: is not there: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, "plain.ts")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("plain"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a script whose file was removed: %v", err)
	}
	s.write("plain.ts", wrapped(`return {}`))
	got, err := s.Names()
	if want := []string{"both", "broken", "dir/old", "plain"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// chain starts a script and returns what runs one token, and what it logged.
func (s *shelf) chain(script *Script) (i *Instance, step func(position int) string) {
	s.t.Helper()
	i, err := script.Start(Env{Model: model, Tokenizer: letters{}})
	if err != nil {
		s.t.Fatal(err)
	}
	var said []string
	o := hook.Options{Shape: model.Shape, Tokens: model.Tokens, Budget: 50 * time.Millisecond, Notify: func(n hook.Notice) {
		if n.Fault != nil {
			n.Value = n.Fault.Line
		}
		said = append(said, fmt.Sprint(n.Name, " ", n.Value))
	}}
	c, err := hook.NewChain(o, i)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return i, func(position int) string {
		said = nil
		if _, err := c.Logits(hook.At{Position: position}, nil, nil); err != nil {
			s.t.Fatal(err)
		}
		return strings.Join(said, "|")
	}
}

// until runs tokens until the script says something else than before.
func until(t *testing.T, step func(int) string, position *int, before string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := step(*position); got != before {
			return got
		}
		*position++
	}
	t.Fatalf("still %q after 10 s", before)
	return ""
}

// What runs follows its files: the state goes along, a version that does not work
// changes nothing, and every position knows its version.
func TestHotReload(t *testing.T) {
	s := newShelf(t)
	text := func(says string) string {
		return `import { script } from "roundhouse"; import { word } from "./lib/word";
export default script({ api: 1, migrate: (old) => old, hooks({ state, log }) {
  const st = state(() => ({ n: 0 }));
  return { logits() { st.n++; log(` + says + `); } };
} });`
	}
	s.write("lib/word.ts", `export const word: string = "one";`)
	s.write("talk.ts", text(`word`))
	script := s.get("talk")
	i, step := s.chain(script)
	if got := step(3); got != "log one" {
		t.Fatal(got)
	}
	first, position := script.Info().Digest, 4
	s.write("lib/word.ts", `export const word: string = "two";`)
	if got := until(t, step, &position, "log one"); got != "reload <nil>|log two" {
		t.Errorf("after a change of what it imports: %q", got)
	}
	if i.Digest(3) != first || i.Digest(position) == first || i.Digest(position) != script.Info().Digest || len(i.Changes()) != 2 {
		t.Errorf("digests: %v", i.Changes())
	}
	s.write("talk.ts", text("word +"))
	time.Sleep(lookEvery)
	for range 100 {
		if got := step(position); got != "log two" {
			t.Fatalf("with a version that does not compile: %q", got)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := script.Broken(); err == nil || !strings.Contains(err.Error(), "talk.ts:4:") {
		t.Errorf("the error of the version that does not compile: %v", err)
	}
	s.write("talk.ts", strings.Replace(text("word"), "return {", "null.x; return {", 1))
	if got := until(t, step, &position, "log two"); got != "reload talk.ts:4:7|log two" {
		t.Errorf("with a version that does not start: %q", got)
	}
	s.write("talk.ts", text(`word, st.n > 100`))
	if got := until(t, step, &position, "log two"); got != "reload <nil>|log two true" {
		t.Errorf("with one that works again: %q", got)
	}
	if script.Broken() != nil {
		t.Error(script.Broken())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reloads) != 4 || !strings.Contains(s.reloads[1], "talk.ts:4:") || s.reloads[3] != "talk <nil>" {
		t.Errorf("%q", s.reloads)
	}
}
