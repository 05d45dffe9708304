package scripts

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// The page has every member in the section of its kind, in rows that are whole.
func TestReference(t *testing.T) {
	page := Reference()
	for _, k := range kinds() {
		_, section, found := strings.Cut(page, "\n## "+k.name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !found {
			t.Errorf("%s has no section", k.name)
		}
		for _, m := range k.members {
			if !strings.Contains(section, "| `"+strings.ReplaceAll(m.sig, "|", `\|`)+"` |") {
				t.Errorf("%s.%s is not in its section", k.name, m.name())
			}
		}
	}
	bar := regexp.MustCompile(`(^|[^\\])\|`)
	width := 0
	for line := range strings.Lines(page) {
		bars := len(bar.FindAllString(line, -1))
		if width > 0 && bars > 0 && bars != width {
			t.Errorf("a row of %d cells in a table of %d: %s", bars-1, width-1, line)
		}
		width = bars
	}
}

// Every class that a report counts has its price, and the reads of it are there.
func TestReadCosts(t *testing.T) {
	func() {
		defer func() { _ = recover() }() // there is no such class
		name := hook.ReadClass(len(readCosts)).String()
		t.Errorf("class %s has no price", name)
	}()
	for i, c := range readCosts {
		if int(c.class) != i {
			t.Errorf("price %d is of class %s", i, c.class)
		}
		for _, read := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(c.reads, -1) {
			if !slices.ContainsFunc(kinds(), func(k *kind) bool {
				return slices.ContainsFunc(k.members, func(m member) bool { return m.name() == read[1] })
			}) {
				t.Errorf("class %s names the read %s, which no type has", c.class, read[1])
			}
		}
	}
}
