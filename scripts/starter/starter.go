// Package starter writes what a folder of scripts begins with: the types that editors
// check scripts against, and a small script.
package starter

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/roundhouse-ai/roundhouse/scripts"
)

//go:embed files
var files embed.FS

// State says what became of a file.
type State string

// States.
const (
	Written   State = "written"
	Unchanged State = "unchanged" // it was there, the same
	Refreshed State = "refreshed" // it was there as another version of the program made it
	Kept      State = "kept"      // it was there with something else in it, and was left alone
)

// File is a file of the folder.
type File struct {
	Name  string
	State State
}

// typesName is the file that is never written by hand.
const typesName = "roundhouse.d.ts"

// Write writes the files into a folder, which is made where there is none. What was
// there before stays, but for the types, which are those of this program.
func Write(dir string) ([]File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of scripts: %w", err)
	}
	state, err := write(filepath.Join(dir, typesName), []byte(scripts.Declarations()), Refreshed)
	if err != nil {
		return nil, err
	}
	all := []File{{typesName, state}}
	entries, err := fs.ReadDir(files, "files")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		text, err := fs.ReadFile(files, "files/"+entry.Name())
		if err != nil {
			return nil, err
		}
		if state, err = write(filepath.Join(dir, entry.Name()), text, Kept); err != nil {
			return nil, err
		}
		all = append(all, File{entry.Name(), state})
	}
	return all, nil
}

// write writes a file. One that says something else is Kept, or Refreshed.
func write(name string, text []byte, other State) (State, error) {
	there, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		other = Written
	case err != nil:
		return "", fmt.Errorf("look at what is there: %w", err)
	case bytes.Equal(there, text):
		return Unchanged, nil
	case other == Kept:
		return Kept, nil
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return "", fmt.Errorf("write the folder of scripts: %w", err)
	}
	return other, nil
}
