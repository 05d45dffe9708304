// Package models finds model folders on this machine: by path, by org/name in
// the configured folders and in the Hugging Face hub's cache, or by a bare
// name. It says what an incomplete one lacks and how to fetch it; it never
// downloads anything itself.
//
// Where to look: models.go resolves and lists, folder.go judges one folder,
// hub.go knows the hub's cache, advice.go writes the download command.
package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Bounds of a listing. A folder of models has tens of entries.
const (
	maxEntries    = 4096 // read of one folder
	maxCandidates = 1000
)

// Location is a model folder. Name is the last element of what it is called,
// also where the folder itself bears a commit's name (in the hub's cache).
type Location struct{ Name, Path string }

// Candidate is a folder that can be given as MODEL.
type Candidate struct {
	Name     string   `json:"name"` // what to give as MODEL: org/name or name
	Path     string   `json:"path"`
	Size     int64    `json:"size"` // bytes of its *.safetensors files
	Complete bool     `json:"complete"`
	Missing  []string `json:"missing,omitempty"`  // files that should be there
	Problems []string `json:"problems,omitempty"` // what is wrong with files that are

	need  int64 // bytes of tensors that the index or git-lfs pointers promise, 0 for unknown
	other bool  // a model of another type
	place place
}

// place is how a candidate is fetched.
type place struct {
	repo string // org/name, empty when unknown
	dir  string // its folder below one of dirs
	hub  string // or the hub cache that it is in
}

// Incomplete is the error of a model that was found, but lacks something. The
// Location that comes with it is right, so that it can still be inspected.
type Incomplete struct {
	Candidate Candidate
	advice    string
}

func (e *Incomplete) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "model %s in %s is incomplete:", e.Candidate.Name, e.Candidate.Path)
	for _, missing := range e.Candidate.Missing {
		fmt.Fprintf(&b, "\n  %s is missing", missing)
	}
	for _, problem := range e.Candidate.Problems {
		fmt.Fprintf(&b, "\n  %s", problem)
	}
	return b.String() + "\n" + e.advice
}

// Resolve finds the folder that name means, without a network: a folder's path;
// org/name in dirs, then in the hub caches of env ($HF_HUB_CACHE, $HF_HOME/hub,
// ~/.cache/huggingface/hub); or a bare name that one folder in dirs has. env is
// os.Getenv outside tests.
//
// A path is not judged: inspecting or opening it reports what is wrong (or
// Check does). A model found by name that is incomplete gives its Location
// and an *Incomplete; one not found an error that wraps fs.ErrNotExist. Both
// print the command that downloads it.
func Resolve(name string, dirs []string, env func(string) string) (Location, error) {
	path := expand(name, env)
	info, err := os.Stat(path)
	isDir := err == nil && info.IsDir()
	switch {
	case name == "":
		return Location{}, errors.New("no model is named: give a folder or org/name")
	case err == nil && !isDir:
		return Location{}, fmt.Errorf("model %q is a file: name the folder that it is in", name)
	case isDir && (explicit(name) || looksLikeModel(os.DirFS(path))):
		return pathLocation(path)
	case explicit(name):
		return Location{}, fmt.Errorf("model %q: no such folder: %w", name, fs.ErrNotExist)
	}
	if err := checkName(name); err != nil {
		return Location{}, err
	}
	dirs = expandAll(dirs, env)
	found := find(name, dirs, env)
	if len(found) == 0 {
		if isDir {
			return Location{}, fmt.Errorf("model %q: the folder holds no model (neither config.json nor *.safetensors)", name)
		}
		return Location{}, notFound(name, dirs, env)
	}
	if !strings.Contains(name, "/") && len(found) > 1 {
		lines := make([]string, len(found))
		for i, c := range found {
			lines[i] = "\n  " + c.Path
		}
		return Location{}, fmt.Errorf("model %q can mean %d folders, give one of them:%s", name, len(found), strings.Join(lines, ""))
	}
	best := found[0]
	if i := slices.IndexFunc(found, func(c Candidate) bool { return c.Complete }); i >= 0 {
		best = found[i]
	}
	location := Location{Name: filepath.Base(filepath.FromSlash(name)), Path: best.Path}
	if best.Complete {
		return location, nil
	}
	return location, &Incomplete{best, best.place.advice(best.need, best.Size, env)}
}

// Check judges a folder that was given by path, for those who are about to load
// it: nil, or an *Incomplete.
func Check(location Location, dirs []string, env func(string) string) error {
	c := examine(os.DirFS(location.Path))
	if c.Complete {
		return nil
	}
	c.Name, c.Path = location.Name, location.Path
	for _, dir := range expandAll(dirs, env) {
		root, err := filepath.Abs(dir)
		if err != nil {
			continue
		}
		relative, err := filepath.Rel(root, location.Path)
		if repo := filepath.ToSlash(relative); err == nil && strings.Count(repo, "/") == 1 && checkName(repo) == nil {
			c.place = place{repo: repo, dir: location.Path}
		}
	}
	return &Incomplete{c, c.place.advice(c.need, c.Size, env)}
}

// List returns the folders of this model type in dirs, at most two levels deep,
// and in the hub caches, by name within each. Folders that config.json gives to
// other types are left out; unreadable ones are passed over.
func List(dirs []string, env func(string) string) []Candidate {
	var all []Candidate
	seen := map[string]bool{}
	add := func(candidates []Candidate) {
		for _, c := range candidates {
			real, err := filepath.EvalSymlinks(c.Path)
			if err != nil || seen[real] || c.other || len(all) == maxCandidates {
				continue
			}
			seen[real] = true
			all = append(all, c)
		}
	}
	for _, dir := range expandAll(dirs, env) {
		add(listDir(dir))
	}
	for _, hub := range hubCaches(env) {
		add(listHub(hub))
	}
	return all
}

// find returns the folders that a checked name means, in order of preference.
func find(name string, dirs []string, env func(string) string) (found []Candidate) {
	if !strings.Contains(name, "/") {
		var all []Candidate
		for _, dir := range dirs {
			all = append(all, listDir(dir)...)
		}
		seen := map[string]bool{}
		for _, c := range all {
			real, err := filepath.EvalSymlinks(c.Path)
			if err == nil && filepath.Base(c.Path) == name && !seen[real] {
				seen[real] = true
				found = append(found, c)
			}
		}
		return found
	}
	for _, dir := range dirs {
		path, err := filepath.Abs(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil && isFolder(path) {
			c := examine(os.DirFS(path))
			c.Name, c.Path, c.place = name, path, place{repo: name, dir: path}
			found = append(found, c)
		}
	}
	for _, hub := range hubCaches(env) {
		if c, ok := inHub(hub, name); ok {
			found = append(found, c)
		}
	}
	return found
}

// listDir finds model folders in dir itself, dir/name and dir/org/name.
func listDir(dir string) (found []Candidate) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	take := func(path, name string) bool {
		fsys := os.DirFS(path)
		if !looksLikeModel(fsys) {
			return false
		}
		c := examine(fsys)
		c.Name, c.Path = name, path
		if strings.Contains(name, "/") {
			c.place = place{repo: name, dir: path}
		}
		found = append(found, c)
		return true
	}
	if take(root, filepath.Base(root)) {
		return found
	}
	for _, outer := range folders(root) {
		if take(filepath.Join(root, outer), outer) {
			continue
		}
		for _, inner := range folders(filepath.Join(root, outer)) {
			if len(found) == maxCandidates {
				return found
			}
			take(filepath.Join(root, outer, inner), outer+"/"+inner)
		}
	}
	return found
}

// folders names the folders in path, links to folders too, in order.
func folders(path string) (names []string) {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(maxEntries) // what could be read before an error counts
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") && isFolder(filepath.Join(path, entry.Name())) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func pathLocation(path string) (Location, error) {
	absolute, err := filepath.Abs(path)
	return Location{Name: filepath.Base(absolute), Path: absolute}, err
}

// explicit says that name can only be a path.
func explicit(name string) bool {
	return filepath.IsAbs(name) || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "~") ||
		strings.HasSuffix(name, string(filepath.Separator))
}

// part is one half of org/name, as the hub allows it.
var part = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)

// checkName refuses what is neither name nor org/name. The hub forbids ".." and
// "--" in names, the latter because its cache separates with it.
func checkName(name string) error {
	parts := strings.Split(name, "/")
	valid := len(parts) <= 2 && !strings.Contains(name, "..") && !strings.Contains(name, "--")
	for _, p := range parts {
		valid = valid && part.MatchString(p)
	}
	if !valid {
		return fmt.Errorf("model %q is neither a folder here nor a name: give a folder, org/name or name (letters, digits, '.', '_', '-'; no '..', no '--')", name)
	}
	return nil
}

// expand replaces a leading ~ by the home folder, as shells do.
func expand(path string, env func(string) string) string {
	if home := env("HOME"); home != "" && (path == "~" || strings.HasPrefix(path, "~/")) {
		return filepath.Join(home, path[1:])
	}
	return path
}

func expandAll(paths []string, env func(string) string) []string {
	out := make([]string, 0, len(paths))
	for _, path := range paths {
		if path != "" {
			out = append(out, expand(path, env))
		}
	}
	return out
}
