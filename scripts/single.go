package scripts

import (
	"io/fs"
	"strings"
	"time"
)

// single is a folder with one file.
type single struct{ name, text string }

// Open implements fs.FS.
func (s single) Open(name string) (fs.File, error) {
	if name != s.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &singleFile{s, strings.NewReader(s.text)}, nil
}

// singleFile is that file, and its own fs.FileInfo.
type singleFile struct {
	single
	*strings.Reader
}

func (f *singleFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *singleFile) Close() error               { return nil }
func (f *singleFile) Name() string               { return f.name }
func (f *singleFile) Size() int64                { return int64(len(f.text)) }
func (f *singleFile) Mode() fs.FileMode          { return 0o444 }
func (f *singleFile) ModTime() time.Time         { return time.Time{} }
func (f *singleFile) IsDir() bool                { return false }
func (f *singleFile) Sys() any                   { return nil }
