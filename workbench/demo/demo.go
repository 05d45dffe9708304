// Package demo carries a small trained model inside the program, so that there
// is something to talk with before anything was downloaded: 21 MB, 8 layers, 32
// experts, int4 and int8. It tells short stories, answers easy questions and
// writes a few short Go functions. model/SOURCES.md lists what it was trained
// on and stays with it.
//
// The build tag nodemo leaves the model out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Name is the id that the demo model answers to.
const Name = "demo"

// ErrLeftOut says how to get a build with the demo model.
var ErrLeftOut = errors.New("this build has no demo model (build tag nodemo): name a MODEL folder, or build without the tag: go install github.com/roundhouse-ai/roundhouse/workbench/cmd/roundhouse@latest")

// FS returns the model folder; ok is false in a build without it.
func FS() (fsys fs.FS, ok bool) { return embedded() }

// Extract writes the model as a folder. A new or empty dir appears whole or not
// at all. A dir that holds something is refused, unless force is set: then the
// model's files are replaced one by one and all others stay.
func Extract(ctx context.Context, dir string, force bool) error {
	fsys, ok := FS()
	if !ok {
		return ErrLeftOut
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	empty, err := isEmpty(dir)
	switch {
	case err != nil:
		return fmt.Errorf("extract the demo model: %w", err)
	case !empty && !force:
		return fmt.Errorf("%s is not empty: name another folder, or replace the model's files in it with --force", dir)
	case !empty:
		return copyTo(ctx, dir, fsys)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), ".roundhouse-demo-*")
	if err != nil {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	if err = copyTo(ctx, partial, fsys); err == nil {
		err = moveInto(partial, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	return nil
}

// isEmpty says whether nothing is lost when a folder appears at dir.
func isEmpty(dir string) (bool, error) {
	folder, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer folder.Close()
	_, err = folder.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// moveInto renames a finished folder to dir, in place of an empty one.
func moveInto(partial, dir string) error {
	// MkdirTemp keeps others out while the folder is incomplete.
	if err := os.Chmod(partial, 0o755); err != nil {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return fmt.Errorf("extract the demo model: %w", err)
	}
	return nil
}

// copyTo writes every file of the model into a folder, each in one step.
func copyTo(ctx context.Context, dir string, fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("extract %s: %w", name, err)
		}
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.WriteFile(target+".partial", data, 0o644); err != nil {
			return fmt.Errorf("extract %s: %w", name, err)
		}
		if err := os.Rename(target+".partial", target); err != nil {
			return errors.Join(fmt.Errorf("extract %s: %w", name, err), os.Remove(target+".partial"))
		}
		return nil
	})
}
