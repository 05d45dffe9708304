package scripts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
)

// testEnding is what the name of a test has beside that of its script.
const testEnding = ".test"

// Tests lists the names that have tests: name.test.ts or name.test.js.
func (s *Store) Tests() ([]string, error) { return s.list(testEnding) }

// Test runs the tests of a name, as their files say now.
func (s *Store) Test(ctx context.Context, name string, o TestOptions) *TestReport {
	r := &TestReport{File: name + testEnding + ".ts"}
	if len(name) > maxName || !names.MatchString(name) {
		r.Problems = []string{fmt.Sprintf("there are no tests of %.128q: names are made of a-z, 0-9, _, - and /", name)}
		return r
	}
	r.Looked = []string{name + testEnding + ".ts", name + testEnding + ".js"}
	file, err := s.find(name + testEnding)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there are no tests of %q: neither %s nor %s is in %s", name, r.Looked[0], r.Looked[1], s.root)
	}
	if err != nil {
		r.Problems = []string{err.Error()}
		return r
	}
	looked := r.Looked
	r = s.host.Test(ctx, s.folder, file, o)
	r.Looked = append(r.Looked, looked...)
	return r
}

// Stamp is another one once files were changed, came or went.
func (s *Store) Stamp(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range files {
		info, err := fs.Stat(s.folder, name)
		if err != nil {
			fmt.Fprintf(h, "%q is not there\n", name)
			continue
		}
		fmt.Fprintf(h, "%q %d %v\n", name, info.Size(), info.ModTime())
	}
	return [sha256.Size]byte(h.Sum(nil))
}
