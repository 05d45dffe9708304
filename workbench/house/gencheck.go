package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// genCheck copies the tree, runs every generator there and compares the copy
// with the tree, which stays as it is.
func genCheck(ctx context.Context, _ []string) error {
	work, err := os.MkdirTemp("", "roundhouse-gen-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := copyTree(".", work); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "generate", "./...")
	command.Dir = work
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go generate: %w", err)
	}
	changed, err := difference(".", work)
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		return fmt.Errorf("%w; run `make gen` and commit what it writes", errors.New(strings.Join(changed, "\n")))
	}
	fmt.Println("generated files are as their generators write them")
	return nil
}

// ours leaves out git's folder, build outputs and caches.
func ours(name string, entry fs.DirEntry) bool {
	return !entry.IsDir() || name != ".git" && name != "bin" && name != "dist" && name != ".cache"
}

// list calls visit for every regular file of a tree.
func list(root string, visit func(name string) error) error {
	return filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		if !ours(name, entry) {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return visit(name)
	})
}

func copyTree(from, to string) error {
	return list(from, func(name string) error {
		info, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, info.Mode().Perm()|0o200)
	})
}

// difference names the files that differ between two trees, either way.
func difference(tree, generated string) ([]string, error) {
	var changed []string
	err := list(generated, func(name string) error {
		want, err := os.ReadFile(filepath.Join(generated, name))
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(tree, name))
		if errors.Is(err, fs.ErrNotExist) {
			changed = append(changed, name+" is missing")
			return nil
		}
		if err == nil && !bytes.Equal(got, want) {
			changed = append(changed, name+" differs from what its generator writes")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = list(tree, func(name string) error {
		if _, err := os.Stat(filepath.Join(generated, name)); errors.Is(err, fs.ErrNotExist) {
			changed = append(changed, name+" is no longer written by its generator")
		}
		return nil
	})
	return changed, err
}
