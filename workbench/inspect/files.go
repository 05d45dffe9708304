package inspect

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

const indexName = "model.safetensors.index.json"

// open opens all weight files, or, when some are damaged, the sound ones.
func (x *inspection) open() {
	names, err := fs.Glob(x.fsys, "*.safetensors")
	if err != nil {
		x.finding("the folder cannot be listed: %v", err)
	}
	// Every round hides at least one more file, the index among them.
	hidden := map[string]bool{}
	for range len(names) + 2 {
		c, err := safetensors.Open(without{x.fsys, hidden})
		if err == nil {
			x.checkpoint = c
			break
		}
		var problems safetensors.Problems
		if !errors.As(err, &problems) {
			x.failures(err)
			break
		}
		before := len(hidden)
		x.damaged(problems, hidden, len(names))
		if len(hidden) == before {
			break
		}
	}
	if x.checkpoint == nil {
		x.checkpoint = &safetensors.Checkpoint{}
	}
	x.files(names, hidden)
}

// damaged reports problems and hides the files that have them.
func (x *inspection) damaged(problems safetensors.Problems, hidden map[string]bool, files int) {
	if len(hidden) == files+1 {
		return // nothing is left, which is no news
	}
	count := map[string]int{}
	for _, p := range problems {
		if p.File == "." && len(hidden) > 0 {
			continue
		}
		if count[p.File]++; count[p.File] <= maxAlike {
			x.finding("%v", p)
		}
	}
	for _, p := range problems {
		if more := count[p.File] - maxAlike; more > 0 {
			x.finding("%s: and %d more problems", p.File, more)
			count[p.File] = 0
		}
		hidden[p.File] = true
	}
	hidden[indexName] = true // it would only report the hidden files as missing
}

// files describes each file; names are those in the folder.
func (x *inspection) files(names []string, hidden map[string]bool) {
	open := map[string]*safetensors.File{}
	for _, f := range x.checkpoint.Files {
		open[f.Name] = f
	}
	for _, name := range names {
		out := File{Name: name, Unlisted: slices.Contains(x.checkpoint.Unlisted, name), Damaged: hidden[name]}
		if f := open[name]; f != nil {
			sum := sha256.Sum256(f.Header)
			out.Size, out.Tensors, out.HeaderSHA256 = f.Size, len(f.Tensors), hex.EncodeToString(sum[:])
			for _, t := range f.Tensors {
				if !out.Unlisted {
					x.listed += t.Bytes
				}
			}
		} else if info, err := fs.Stat(x.fsys, name); err == nil {
			out.Size = info.Size()
		}
		if out.Unlisted {
			x.note("%s is not in the index; its tensors are read all the same", name)
		}
		x.r.Files = append(x.r.Files, out)
	}
}

// without is a folder that does not show some of its files.
type without struct {
	fs.FS
	hidden map[string]bool
}

func (w without) Open(name string) (fs.File, error) {
	if w.hidden[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return w.FS.Open(name)
}

// ReadDir is what fs.Glob lists with.
func (w without) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(w.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return w.hidden[e.Name()] }), err
}
