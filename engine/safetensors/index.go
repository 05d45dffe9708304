package safetensors

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

const indexName = "model.safetensors.index.json"

// checkIndex compares the index, if there is one, with what is there. The files
// are the truth; the index only tells what is missing. Files with findings are
// not asked for their tensors.
func (c *Checkpoint) checkIndex(fsys fs.FS, names []string, before Problems) (problems Problems) {
	if _, err := fs.Stat(fsys, indexName); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	i := &index{c: c, sound: make(map[string]bool, len(names)), listed: map[string]int{}}
	for _, name := range names {
		i.sound[name] = true
	}
	for _, p := range before {
		i.sound[p.File] = false
	}
	data, _, unmap, err := contents(fsys, indexName, maxIndex)
	if err != nil {
		return Problems{{indexName, "", -1, err.Error()}}
	}
	if isPointer(data) {
		i.report("", 0, pointer)
	} else {
		i.parse(data)
	}
	i.problems = append(i.problems, closing(indexName, unmap)...)
	for _, shard := range slices.Sorted(maps.Keys(i.listed)) {
		_, there := i.sound[shard]
		if what := unsafeName(shard); what != "" {
			i.report("", -1, fmt.Sprintf("names the file %q, which %s", shard, what))
		} else if !there {
			i.problems = append(i.problems, Finding{shard, "", -1, fmt.Sprintf("is missing: %d tensors of the index are in it", i.listed[shard])})
		}
	}
	for _, name := range names {
		if i.listed[name] == 0 {
			c.Unlisted = append(c.Unlisted, name)
		}
	}
	slices.SortStableFunc(i.problems, func(a, b Finding) int { return strings.Compare(a.File, b.File) })
	return i.problems
}

// index is the reading of model.safetensors.index.json.
type index struct {
	c        *Checkpoint
	sound    map[string]bool // files that are there; true without findings
	listed   map[string]int  // tensors by shard
	problems Problems
}

func (i *index) report(tensor string, offset int64, what string) {
	i.problems = append(i.problems, Finding{indexName, tensor, offset, what})
}

func (i *index) parse(data []byte) {
	s := &scanner{data: data}
	mapped := false
	err := s.object(func(key []byte) error {
		switch {
		case string(key) == "metadata" && s.next() == '{':
			return i.metadata(s)
		case string(key) == "weight_map" && s.next() == '{':
			mapped = true
			return s.object(func(tensor []byte) error { return i.entry(s, tensor) })
		}
		return s.skip(8)
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		i.report("", int64(s.at), "is broken: "+err.Error())
	} else if !mapped {
		i.report("", -1, "has no weight_map")
	}
}

// metadata takes total_size, which some writers put as 1.0. It is for show
// alone, so other kinds of value are no finding.
func (i *index) metadata(s *scanner) error {
	return s.object(func(key []byte) error {
		s.space()
		start := s.at
		if err := s.skip(8); err != nil || string(key) != "total_size" {
			return err
		}
		if total, err := strconv.ParseFloat(string(s.data[start:s.at]), 64); err == nil && total >= 0 && total < 1<<53 {
			i.c.IndexTotal = int64(total)
		}
		return nil
	})
}

// entry reads the shard of one tensor.
func (i *index) entry(s *scanner, tensor []byte) error {
	at := int64(s.at)
	if s.next() != '"' {
		i.report(abridged(tensor), at, "has no file name")
		return s.skip(8)
	}
	shard, err := s.text()
	if err != nil {
		return err
	}
	i.listed[string(shard)]++
	if i.sound[string(shard)] { // others are reported once for the shard
		t, ok := i.c.byName[string(tensor)]
		switch {
		case !ok:
			i.report(abridged(tensor), at, fmt.Sprintf("should be in %s, which has no such tensor", shard))
		case t.File != string(shard):
			i.report(abridged(tensor), at, fmt.Sprintf("should be in %s, but is in %s", shard, t.File))
		}
	}
	switch {
	case len(i.problems) >= maxFound:
		return s.errorf("and more than %d findings before", maxFound)
	case len(i.listed) > maxFiles:
		return s.errorf("more than %d files", maxFiles)
	}
	return nil
}

// unsafeName says why a file name from an index is refused, "" if it is not.
func unsafeName(name string) string {
	switch {
	case name == "" || strings.ContainsAny(name, "/\\\x00") || name == "." || name == "..":
		return "is no plain file name (no separators, no ..)"
	case len(name) > 255:
		return "is longer than a file name can be"
	case path.Ext(name) != ".safetensors":
		return "does not end in .safetensors"
	}
	return ""
}
