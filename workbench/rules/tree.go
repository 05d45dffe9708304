// Package rules holds the house rules that a machine can keep: which package
// may import which, how long a file may be, that links resolve and that every
// dependency says why it is there. Its tests read the tree as source, so a
// broken package is still judged.
package rules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the repository root.
const Module = "github.com/roundhouse-ai/roundhouse"

// A Tree is the repository's files as paths from its root, with slashes.
type Tree struct {
	FS    fs.FS
	Files []string
}

// A Source is one Go file and what it imports.
type Source struct {
	Path    string
	Package string // folder from the root; "." for the root itself
	Test    bool
	Imports []string
}

// Open reads the tree that this source file lies in. Folders that hold no
// source of ours (build outputs, dot-folders other than .ci, node_modules) are
// left out.
func Open() (*Tree, error) {
	_, file, _, _ := runtime.Caller(0)
	fsys := os.DirFS(filepath.Join(filepath.Dir(file), "..", ".."))
	tree := &Tree{FS: fsys}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && skipped(name) {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			tree.Files = append(tree.Files, name)
		}
		return nil
	})
	return tree, err
}

func skipped(dir string) bool {
	base := path.Base(dir)
	return dir == "bin" || dir == "dist" || base == "node_modules" || base == "__pycache__" ||
		strings.HasPrefix(base, ".") && dir != ".ci"
}

// Sources parses the imports of every Go file that belongs to a package:
// files under testdata are data.
func (t *Tree) Sources() ([]Source, error) {
	var sources []Source
	for _, name := range t.Files {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		text, err := fs.ReadFile(t.FS, name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			return nil, err
		}
		source := Source{Path: name, Package: path.Dir(name), Test: strings.HasSuffix(name, "_test.go")}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			source.Imports = append(source.Imports, imported)
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// Text reads a file; ok is false for one that is not text, or not ours to read
// as prose (over 1 MiB).
func (t *Tree) Text(name string) (text string, ok bool) {
	info, err := fs.Stat(t.FS, name)
	if err != nil || info.Size() > 1<<20 {
		return "", false
	}
	data, err := fs.ReadFile(t.FS, name)
	if err != nil || slices.Contains(data, 0) {
		return "", false
	}
	return string(data), true
}
