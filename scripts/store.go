package scripts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Store is a folder of scripts, which are found by name and follow their files. It is
// safe for concurrent use.
type Store struct {
	root   string
	folder fs.FS
	closer io.Closer
	host   *Host
	ctx    context.Context // of builds; ends with the store
	cancel context.CancelFunc
	builds sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	scripts map[string]*Script
}

// Reload says what became of a script whose files changed.
type Reload struct {
	Script string
	Digest string // of the new version
	Err    error  // why there is none, and the old one stays; nil where there is
}

// Open opens a folder of scripts. Close the store when its instances are closed. With a
// library, the folder may come later, or be "" for none.
func Open(root string, o Options) (*Store, error) {
	folder, closer, err := OpenFolder(root)
	if o.Library != nil && (root == "" || errors.Is(err, fs.ErrNotExist)) {
		late := &lateFolder{dir: root}
		folder, closer, err = late, late, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, folder: folder, closer: closer, host: NewHost(o), scripts: map[string]*Script{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Host is what the store's scripts run in, for scripts from elsewhere to run there too.
func (s *Store) Host() *Host { return s.host }

// Close waits for builds and machines, and lets go of the folder.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.builds.Wait()
	s.host.Close()
	return s.closer.Close()
}

// names are what scripts may be called: no dots, so that tests and types are none.
var names = regexp.MustCompile(`^[a-z0-9_-]+(/[a-z0-9_-]+)*$`)

// Bounds of a folder.
const (
	maxName    = 128
	maxScripts = 1000
)

// Get returns the script of a name, as its files say now; "a/b" is a/b.ts or a/b.js
// below the root. Where they do not work but did before, it is the version before, and
// Broken says why. Errors are a *LoadError or a *BusyError; for a script that is not
// there, the error matches fs.ErrNotExist.
func (s *Store) Get(name string) (*Script, error) {
	if len(name) > maxName || !names.MatchString(name) {
		return nil, fmt.Errorf("scripts: there is no script %.128q: names are made of a-z, 0-9, _, - and /: %w", name, fs.ErrNotExist)
	}
	s.mu.Lock()
	script := s.scripts[name]
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if script == nil {
		script = &Script{name: name, host: s.host}
		script.follow = &follower{store: s, script: script}
		s.scripts[name] = script
	}
	s.builds.Add(1)
	s.mu.Unlock()
	defer s.builds.Done()
	err := script.follow.refresh()
	if script.current.Load() == nil || errors.Is(err, fs.ErrNotExist) {
		s.mu.Lock()
		delete(s.scripts, name) // names cost no memory that no script has
		s.mu.Unlock()
		return nil, err
	}
	return script, nil
}

// Library lists the library's scripts, but for those whose names the folder has.
func (s *Store) Library() ([]string, error) {
	if s.host.options.Library == nil {
		return nil, nil
	}
	files, err := fs.Glob(s.host.options.Library, "*.ts")
	if err != nil {
		return nil, fmt.Errorf("scripts: list the library: %w", err)
	}
	var list []string
	for _, file := range files {
		name := strings.TrimSuffix(file, ".ts")
		if _, err := s.find(name); names.MatchString(name) && errors.Is(err, fs.ErrNotExist) {
			list = append(list, name)
		}
	}
	return list, nil
}

// home finds the file of a name, and the files that it may import: those of the folder,
// or the library's.
func (s *Store) home(name string) (from fs.FS, entry string, err error) {
	entry, err = s.find(name)
	if library := s.host.options.Library; library != nil && errors.Is(err, fs.ErrNotExist) {
		if _, err := fs.Stat(library, name+".ts"); err == nil {
			return library, name + ".ts", nil
		}
	}
	return s.folder, entry, err
}

// lateFolder is a folder that may not be there yet.
type lateFolder struct {
	dir string

	mu     sync.Mutex
	folder fs.FS // nil before it was there
	closer io.Closer
}

// now returns the folder.
func (l *lateFolder) now() (fs.FS, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.folder != nil {
		return l.folder, nil
	}
	if l.dir == "" {
		return nil, fs.ErrNotExist
	}
	folder, closer, err := OpenFolder(l.dir)
	if err == nil {
		l.folder, l.closer = folder, closer
	}
	return folder, err
}

// Open implements fs.FS.
func (l *lateFolder) Open(name string) (fs.File, error) {
	folder, err := l.now()
	if err != nil {
		return nil, err
	}
	return folder.Open(name)
}

// Stat implements fs.StatFS: of what may be a pipe, nothing is opened.
func (l *lateFolder) Stat(name string) (fs.FileInfo, error) {
	folder, err := l.now()
	if err != nil {
		return nil, err
	}
	return fs.Stat(folder, name)
}

// Close implements io.Closer.
func (l *lateFolder) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closer == nil {
		return nil
	}
	return l.closer.Close()
}

// Broken is why the newest files of a script do not work; nil where they do.
func (s *Script) Broken() error {
	if s.follow == nil {
		return nil
	}
	s.follow.mu.Lock()
	defer s.follow.mu.Unlock()
	return s.follow.err
}

// Names lists what may be scripts: files of the folder with names that scripts have.
func (s *Store) Names() ([]string, error) { return s.list("") }

// list lists the names whose files have an ending before that of their language.
func (s *Store) list(ending string) ([]string, error) {
	found := map[string]bool{}
	err := fs.WalkDir(s.folder, ".", func(file string, entry fs.DirEntry, err error) error {
		if file == "." && s.host.options.Library != nil && errors.Is(err, fs.ErrNotExist) {
			return fs.SkipAll // it may come yet
		}
		if err != nil {
			return err
		}
		if entry.IsDir() && file != "." && !names.MatchString(file) {
			return fs.SkipDir
		}
		ext := path.Ext(file)
		name, has := strings.CutSuffix(strings.TrimSuffix(file, ext), ending)
		if has && !entry.IsDir() && (ext == ".ts" || ext == ".js") && names.MatchString(name) {
			found[name] = true
		}
		if len(found) > maxScripts {
			return fmt.Errorf("more than %d scripts", maxScripts)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scripts: list the folder %s: %w", s.root, err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// find returns the file of a name.
func (s *Store) find(name string) (string, error) {
	var found []string
	for _, ext := range []string{".ts", ".js"} {
		if _, err := fs.Stat(s.folder, name+ext); err == nil {
			found = append(found, name+ext)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("scripts: look for %s in %s: %w", name+ext, s.root, err)
		}
	}
	switch len(found) {
	case 0:
		if s.root == "" {
			return "", fmt.Errorf("scripts: there is no script %q, and no folder of scripts (scripts.dir): %w", name, fs.ErrNotExist)
		}
		return "", fmt.Errorf("scripts: there is no script %q: neither %s.ts nor %s.js is in %s: %w", name, name, name, s.root, fs.ErrNotExist)
	case 1:
		return found[0], nil
	}
	return "", &LoadError{File: name, Lines: []string{fmt.Sprintf("there are both %s and %s: remove one", found[0], found[1])}}
}

// follower keeps a script up with its files.
type follower struct {
	store  *Store
	script *Script
	busy   atomic.Bool
	looked atomic.Int64 // when, in nanoseconds of the clock

	mu   sync.Mutex // of one build at a time, and what follows
	made *bundle    // of the newest files that were looked at
	seen [sha256.Size]byte
	err  error
}

// lookEvery is how often the files of a script at work are looked at.
const lookEvery = 200 * time.Millisecond

// look has the files looked at in the background, unless they just were.
func (f *follower) look() {
	now := time.Now().UnixNano()
	if now-f.looked.Load() < int64(lookEvery) || !f.busy.CompareAndSwap(false, true) {
		return
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.store.closed {
		return
	}
	f.store.builds.Go(func() {
		defer f.busy.Store(false)
		_ = f.refresh() // it is kept, and reported
		f.looked.Store(time.Now().UnixNano())
	})
}

// refresh builds the script if what its files hold has changed.
func (f *follower) refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, entry, err := f.store.home(f.script.name)
	if err != nil {
		f.fail(err)
		return err
	}
	if f.made != nil && f.made.entry == entry && f.made.fingerprint(from) == f.seen {
		return f.err
	}
	version, made, err := f.store.host.load(f.store.ctx, from, entry)
	var busy *BusyError
	if errors.As(err, &busy) || f.store.ctx.Err() != nil {
		return err // and next time again
	}
	if f.made = made; made != nil {
		f.seen = made.fingerprint(from)
	}
	if err != nil {
		f.fail(err)
		return err
	}
	f.err = nil
	old := f.script.current.Load()
	if old != nil && old.digest == version.digest {
		return nil
	}
	f.script.current.Store(version)
	if old != nil {
		f.report(Reload{Script: f.script.name, Digest: version.digest})
	}
	return nil
}

// fail keeps an error, and reports it if it is another than before.
func (f *follower) fail(err error) {
	if f.err == nil || f.err.Error() != err.Error() {
		f.report(Reload{Script: f.script.name, Err: err})
	}
	f.err = err
}

func (f *follower) report(r Reload) {
	if report := f.store.host.options.Report; report != nil && f.script.current.Load() != nil {
		report(r)
	}
}
