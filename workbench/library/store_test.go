//go:build !nodemo

package library

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
	"github.com/roundhouse-ai/roundhouse/workbench/docs"
)

// scriptFiles are the files of scripts, without their tests.
func scriptFiles(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(library.FS, "*.ts")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, ".test.ts") })
}

// Copied into a folder, every file is a script that a store finds by its name, says
// what it is for, and describes parameters that have defaults and bounds.
func TestCopiedScriptsAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, library.FS); err != nil {
		t.Fatal(err)
	}
	store, err := scripts.Open(dir, scripts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	names, err := store.Names()
	files := scriptFiles(t)
	if err != nil || len(names) != len(files) || len(names) == 0 {
		t.Fatalf("the store finds %v of %v: %v", names, files, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(library.FS, name+".ts")
		if err != nil || !strings.HasPrefix(string(text), "// ") {
			t.Errorf("%s does not begin with what it does (%v)", name, err)
		}
		script, err := store.Get(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for param, p := range script.Info().Params {
			bounded := p.Type == "boolean" || p.Type == "string" && p.MaxLength > 0 || len(p.Enum) > 0 || p.Minimum != nil && p.Maximum != nil
			if p.Default == nil || p.Description == "" || !bounded {
				t.Errorf("%s: parameter %s has no default, no description or no bounds: %+v", name, param, p)
			}
		}
	}
}

// Every script has its section in the handbook, with its parameters as they are and a
// request that runs.
func TestHandbookTellsOfEachScript(t *testing.T) {
	page, err := docs.Files.ReadFile("library.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|")
	request := regexp.MustCompile("(?s)```json\n(.*?)```")
	for _, file := range scriptFiles(t) {
		name := strings.TrimSuffix(file, ".ts")
		script, err := host.Load(t.Context(), library.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		params := script.Info().Params
		rows := row.FindAllStringSubmatch(sections[name], -1)
		for _, found := range rows {
			p, ok := params[found[1]]
			if line, _, _ := strings.Cut(sections[name][strings.Index(sections[name], found[0]):], "\n"); !ok {
				t.Errorf("%s has no parameter %s", name, found[1])
			} else if p.Type == "number" || p.Type == "integer" {
				if want := fmt.Sprintf("| %v | %.10v to %.10v |", p.Default, *p.Minimum, *p.Maximum); !strings.Contains(line, want) {
					t.Errorf("%s: %s, want %s", name, line, want)
				}
			} else if p.Type == "string" && !strings.Contains(line, fmt.Sprintf("| %d characters |", p.MaxLength)) || p.Type == "boolean" && !strings.Contains(line, fmt.Sprintf("| %v |", p.Default)) {
				t.Errorf("%s: %s, but it is %+v", name, line, p)
			}
		}
		if len(rows) != len(params) {
			t.Errorf("%s has %d parameters, its page %d", name, len(params), len(rows))
		}
		found := request.FindStringSubmatch(sections[name])
		if found == nil {
			t.Errorf("%s has no example of a request", name)
			continue
		}
		var asked struct {
			Roundhouse struct {
				Script string
				Params map[string]any
			}
		}
		if err := json.Unmarshal([]byte(found[1]), &asked); err != nil || asked.Roundhouse.Script != name {
			t.Errorf("%s: %s: %v", name, found[1], err)
		}
		example := run{script: name, params: asked.Roundhouse.Params, vectors: vectors, prompt: story, request: engine.Request{MaxTokens: 4}}
		if err := example.err(t); err != nil {
			t.Error(err)
		}
	}
}
