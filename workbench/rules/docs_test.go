package rules

import (
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	span    = regexp.MustCompile("`([a-z]+/[A-Za-z0-9_./-]+)`")
)

// anchor is the name that a renderer gives a heading.
func anchor(heading string) string {
	kept := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r > 127:
			return r
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.ToLower(strings.TrimSpace(heading)))
	return kept
}

func TestLinksResolve(t *testing.T) {
	tree := tree(t)
	pages, links := 0, 0
	for _, name := range tree.Files {
		if path.Ext(name) != ".md" || data(name) {
			continue
		}
		pages++
		text, _ := tree.Text(name)
		for _, found := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, fragment, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := fs.Stat(tree.FS, file); err != nil {
				t.Errorf("%s links to %s, which is not there", name, found[1])
				continue
			}
			if fragment == "" {
				continue
			}
			page, _ := tree.Text(file)
			if !slices.ContainsFunc(heading.FindAllStringSubmatch(page, -1), func(h []string) bool { return anchor(h[1]) == fragment }) {
				t.Errorf("%s links to %s, but %s has no such heading", name, found[1], file)
			}
		}
	}
	if pages < 5 || links < 5 {
		t.Errorf("read %d pages with %d links: the walk does not see the handbook", pages, links)
	}
}

// A path in the README that begins with one of our folders exists.
func TestReadmePathsExist(t *testing.T) {
	tree := tree(t)
	text, _ := tree.Text("README.md")
	for _, found := range span.FindAllStringSubmatch(text, -1) {
		name := strings.TrimSuffix(found[1], "/")
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(folders, top) {
			continue
		}
		if _, err := fs.Stat(tree.FS, name); err != nil {
			t.Errorf("README.md names %s, which is not there", found[1])
		}
	}
}

// Every page of the handbook is in its index.
func TestIndexIsWhole(t *testing.T) {
	tree := tree(t)
	index, _ := tree.Text("workbench/docs/README.md")
	for _, name := range tree.Files {
		dir, base := path.Split(name)
		if dir == "workbench/docs/" && path.Ext(base) == ".md" && base != "README.md" && !strings.Contains(index, "]("+base+")") {
			t.Errorf("workbench/docs/README.md does not list %s", base)
		}
	}
}

// The table of dependencies.md has one row for each module that our code
// imports, and no other.
func TestDependenciesAreExplained(t *testing.T) {
	tree := tree(t)
	mod, _ := tree.Text("go.mod")
	var required []string
	for _, found := range regexp.MustCompile(`(?m)^\t(\S+) v\S+`).FindAllStringSubmatch(mod, -1) {
		required = append(required, found[1])
	}
	direct := map[string]bool{}
	for _, source := range sources(t) {
		for _, imported := range source.Imports {
			best := ""
			for _, module := range required {
				if (imported == module || strings.HasPrefix(imported, module+"/")) && len(module) > len(best) {
					best = module
				}
			}
			if best != "" {
				direct[best] = true
			}
		}
	}
	page, _ := tree.Text("workbench/docs/dependencies.md")
	explained := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z0-9.]+\\.[a-z]+/[^`]+)` \\| (.+) \\|$").FindAllStringSubmatch(page, -1) {
		if explained[found[1]] {
			t.Errorf("dependencies.md explains %s twice", found[1])
		}
		explained[found[1]] = true
	}
	for _, module := range slices.Sorted(maps.Keys(direct)) {
		if !explained[module] {
			t.Errorf("dependencies.md does not say why %s is there", module)
		}
	}
	for _, module := range slices.Sorted(maps.Keys(explained)) {
		if !direct[module] {
			t.Errorf("dependencies.md explains %s, which nothing imports", module)
		}
	}
}
