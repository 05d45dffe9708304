package models

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hubCaches returns the hub caches of env, the one that hf itself would use
// first. Layout: models--org--name/{refs/main, snapshots/<commit>/, blobs/}, the
// files of a snapshot being links into blobs
// (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
func hubCaches(env func(string) string) (caches []string) {
	add := func(path string) {
		if path = expand(path, env); !slices.Contains(caches, path) {
			caches = append(caches, path)
		}
	}
	if path := env("HF_HUB_CACHE"); path != "" {
		add(path)
	}
	if path := env("HF_HOME"); path != "" {
		add(filepath.Join(path, "hub"))
	}
	if path := env("XDG_CACHE_HOME"); path != "" {
		add(filepath.Join(path, "huggingface", "hub"))
	}
	if path := env("HOME"); path != "" {
		add(filepath.Join(path, ".cache", "huggingface", "hub"))
	}
	return caches
}

const hubPrefix = "models--"

func listHub(hub string) (found []Candidate) {
	for _, folder := range folders(hub) {
		if len(found) == maxCandidates {
			break
		}
		escaped, ok := strings.CutPrefix(folder, hubPrefix)
		name := strings.ReplaceAll(escaped, "--", "/")
		if !ok || checkName(name) != nil {
			continue
		}
		if c, ok := inHub(hub, name); ok {
			found = append(found, c)
		}
	}
	return found
}

// inHub examines org/name in a cache. ok is false when nothing of it is there.
func inHub(hub, name string) (c Candidate, ok bool) {
	root, err := filepath.Abs(filepath.Join(hub, hubPrefix+strings.ReplaceAll(name, "/", "--")))
	if err != nil || !isFolder(root) {
		return c, false
	}
	if snapshot, ok := snapshot(root); ok {
		c = examine(os.DirFS(snapshot))
		c.Path = snapshot
	} else {
		c.Path, c.Missing = root, []string{"snapshots/<commit> (nothing of it was downloaded whole)"}
	}
	if !c.Complete {
		x := &examination{fsys: os.DirFS(root), c: c}
		x.unfinished("blobs")
		c = x.c
	}
	c.Name, c.place = name, place{repo: name, hub: hub}
	return c, true
}

// snapshot follows refs/main; without it the newest snapshot is meant.
func snapshot(root string) (path string, ok bool) {
	ref, err := readBounded(os.DirFS(root), "refs/main", 256)
	if err == nil {
		commit := strings.TrimSpace(string(ref))
		path = filepath.Join(root, "snapshots", commit)
		return path, part.MatchString(commit) && !strings.Contains(commit, "..") && isFolder(path)
	}
	var newest int64
	for _, name := range folders(filepath.Join(root, "snapshots")) {
		candidate := filepath.Join(root, "snapshots", name)
		if info, err := os.Stat(candidate); err == nil && (path == "" || info.ModTime().UnixNano() > newest) {
			path, newest = candidate, info.ModTime().UnixNano()
		}
	}
	return path, path != ""
}
