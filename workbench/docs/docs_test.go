package docs

import (
	"io/fs"
	"strings"
	"testing"
)

func TestPagesHaveTitles(t *testing.T) {
	pages, err := fs.Glob(Files, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pages {
		page, err := fs.ReadFile(Files, name)
		if err != nil {
			t.Fatal(err)
		}
		title := string(page)
		if strings.HasPrefix(title, "<!-- Code generated") {
			_, title, _ = strings.Cut(title, "\n")
		}
		if !strings.HasPrefix(title, "# ") {
			t.Errorf("%s does not begin with a title", name)
		}
	}
	if len(pages) < 10 {
		t.Errorf("the handbook has %d pages: the embedding lost some", len(pages))
	}
}
