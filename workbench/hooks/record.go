package hooks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// Bounds of recording: each file is bounded by hook.MaxRecording.
const (
	// maxRecorded is how many recordings are made: 4 GiB if all are as long as they can be.
	maxRecorded = 64
	// maxTaken is how many names of files may be taken.
	maxTaken = 10000
)

// recordings makes the files of recordings. No file that is there is ever written to: the
// n-th free one of FILE, FILE-2, FILE-3, ... is taken, the number before the ending.
type recordings struct {
	file string // "" for none

	mu   sync.Mutex
	made int
	last int // the number that was taken last
}

// check says whether files can be made at all.
func (r *recordings) check() error {
	if r.file == "" {
		return nil
	}
	dir := filepath.Dir(r.file)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no folder")
	}
	if err != nil {
		return fmt.Errorf("record hooks in %s (scripts.record): the folder %s: %w", r.file, dir, err)
	}
	return nil
}

// errEnough says that no more recordings are made.
var errEnough = fmt.Errorf("%d recordings were made since the program began, the most that it makes: start it anew for more", maxRecorded)

// create makes the next file.
func (r *recordings) create() (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == maxRecorded {
		return nil, errEnough
	}
	ext := filepath.Ext(r.file)
	for n := r.last + 1; n <= maxTaken; n++ {
		name := r.file
		if n > 1 {
			name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(r.file, ext), n, ext)
		}
		// It holds what was asked and answered: for nobody else to read.
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.made, r.last = r.made+1, n
		return file, nil
	}
	return nil, fmt.Errorf("%s and %d names like it are taken: name another file", r.file, maxTaken-1)
}

// Recorded is the data of "hook_recorded" and "hook_record_fault": a script's choice was
// written to a file, or could not be in full.
type Recorded struct {
	Hook   string `json:"hook"`
	Choice int    `json:"choice"`
	File   string `json:"file,omitempty"`
	Error  string `json:"error,omitempty"`
}

// taped is a hook that is recorded.
type taped struct {
	*hook.Recorder
	file *os.File
	told Recorded
	set  *Set
}

// Close implements hook.Hook.
func (t *taped) Close() {
	t.Recorder.Close()
	err := t.Err()
	if at, seekErr := t.file.Seek(0, io.SeekCurrent); seekErr == nil && at == 0 {
		err = errors.Join(errors.New("the script did not start, and the empty file was removed"), os.Remove(t.file.Name()))
	}
	t.set.recorded(t.told, errors.Join(err, t.file.Close()))
}

// recorded tells of a recording.
func (s *Set) recorded(told Recorded, err error) {
	kind := "hook_recorded"
	if err != nil {
		kind, told.Error = "hook_record_fault", err.Error()
	}
	s.owner.options.Publish(kind, s.id, told)
}

// record starts a script whose choice is recorded, where choices are. One that cannot be
// goes on without, and an event says so.
func (s *Set) record(env scripts.Env, told Recorded, start func(scripts.Env) (hook.Hook, error)) (h, outer hook.Hook, err error) {
	if s.owner.recordings.file == "" {
		h, err = start(env)
		return h, h, err
	}
	var spelling *hook.Spelling
	if env.Tokenizer != nil {
		spelling = hook.NewSpelling(env.Tokenizer)
		env.Tokenizer = spelling
	}
	if h, err = start(env); err != nil {
		return nil, nil, err
	}
	file, err := s.owner.recordings.create()
	if err != nil {
		s.recorded(told, err)
		return h, h, nil
	}
	told.File = file.Name()
	head := hook.Recording{Model: env.Model, Params: env.Params, Request: env.Request, Now: env.Now}
	return h, &taped{hook.NewRecorder(file, head, spelling, h), file, told, s}, nil
}
