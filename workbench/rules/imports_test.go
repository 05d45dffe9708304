package rules

import (
	"slices"
	"strings"
	"testing"
)

// rooms says which packages of ours each package may import (architecture.md,
// section 2). A trailing "/..." also allows what lies below. A new package needs
// a row here, and a thought about its place.
var rooms = map[string][]string{
	"kernels":       {},
	"kernels/build": {"kernels", "kernels/host"},
	"kernels/host":  {},
	"web":           {},

	"engine": {
		"engine/autoround", "engine/cache", "engine/chat", "engine/cpu", "engine/cuda", "engine/cuda/driver", "engine/grammar", "engine/hook", "engine/hooked", "engine/hostmem",
		"engine/ops", "engine/qwen3next", "engine/safetensors", "engine/sample", "engine/sched", "engine/tokenizer",
	},
	"engine/hook":              {},
	"engine/hook/rehearse":     {"engine/hook"},
	"engine/hooked":            {"engine/hook", "engine/ops", "engine/sample", "engine/sched"},
	"engine/ops":               {},
	"engine/ops/optest":        {"engine/ops", "engine/safetensors", "engine/ops/optest/shared"},
	"engine/ops/optest/shared": {},
	"engine/hostmem":           {},
	"engine/cpu":               {"engine/ops", "engine/cpu/simd", "engine/sample"},
	"engine/cpu/simd":          {},
	"engine/cpu/simd/asm":      {"engine/cpu/simd/asm/..."}, // a module of its own
	"engine/cuda":              {"engine/ops", "engine/cuda/driver", "kernels"},
	"engine/cuda/driver":       {},
	"engine/cuda/drivertest":   {"engine/cpu", "engine/cpu/simd", "engine/ops", "engine/sample", "engine/cuda/driver", "kernels", "kernels/host"},
	"engine/cache":             {"engine/ops"},
	"engine/sample":            {"engine/hook", "engine/ops", "engine/cpu/simd"},
	"engine/grammar":           {"engine/hook"},
	"engine/sched":             {"engine/ops", "engine/cache", "engine/sample", "engine/hook"},
	"engine/safetensors":       {},
	"engine/autoround":         {"engine/ops", "engine/safetensors"},
	"engine/qwen3next":         {"engine/ops", "engine/autoround", "engine/safetensors", "engine/cache", "engine/hook"},
	"engine/parity":            {"engine", "engine/ops", "engine/safetensors"},
	"engine/tokenizer":         {},
	"engine/chat":              {},

	"plugins": {"engine/hook/...", "plugins/..."},
	"scripts": {"engine/hook/...", "scripts/..."},

	"workbench":                {"..."},
	"workbench/cmd/roundhouse": {"..."},
	"workbench/docs":           {},
	"workbench/rules":          {},
	"workbench/house":          {"workbench/demo", "workbench/synth"},
	"workbench/hooks":          {"engine/...", "scripts/...", "plugins/..."},
	"workbench/twin":           {"plugins"},
	"workbench/live/feed":      {"engine", "engine/hook", "workbench/live", "web"},
}

// room finds the row of a package. What lies in a package's internal folder
// follows that package; a package below plugins or scripts, or beside the other
// rooms of the workbench, follows the rule of its kind.
func room(pkg string) ([]string, bool) {
	if allowed, ok := rooms[pkg]; ok {
		return allowed, true
	}
	if owner, _, ok := strings.Cut(pkg, "/internal/"); ok {
		allowed, ok := room(owner)
		return append(slices.Clone(allowed), owner), ok
	}
	if generator := "engine/cpu/simd/asm"; strings.HasPrefix(pkg, generator+"/") {
		return rooms[generator], true
	}
	switch top, rest, _ := strings.Cut(pkg, "/"); top {
	case "plugins", "scripts":
		return rooms[top], true
	case "workbench":
		// A room of the workbench sees the engine and what lies below itself;
		// only package workbench and the command bring rooms together.
		own, _, _ := strings.Cut(rest, "/")
		return []string{"engine/...", "workbench/" + own + "/..."}, true
	}
	return nil, false
}

func permits(allowed []string, pkg string) bool {
	return slices.ContainsFunc(allowed, func(pattern string) bool {
		prefix, below := strings.CutSuffix(pattern, "...")
		return pkg == pattern || below && strings.HasPrefix(pkg+"/", prefix)
	})
}

func TestImportDirections(t *testing.T) {
	for _, source := range sources(t) {
		if strings.HasPrefix(source.Path, "engine/") && source.Test {
			for _, imported := range source.Imports {
				if strings.HasPrefix(imported, Module+"/workbench") {
					t.Errorf("%s: the engine's tests must not need the workbench (%s)", source.Path, imported)
				}
			}
		}
		if source.Test {
			continue
		}
		allowed, ok := room(source.Package)
		if !ok {
			t.Errorf("%s: package %s has no row in the table of rooms: add one, and a line to architecture.md", source.Path, source.Package)
			continue
		}
		for _, imported := range source.Imports {
			if imported == Module {
				t.Errorf("%s: the repository root is not a package", source.Path)
			}
			ours, ok := strings.CutPrefix(imported, Module+"/")
			if ok && !permits(allowed, ours) {
				t.Errorf("%s: %s may not import %s (it may: %v)", source.Path, source.Package, ours, allowed)
			}
		}
	}
}

// leaves import the standard library only.
var leaves = []string{"engine/ops", "engine/hook", "engine/ops/optest/shared", "kernels", "web"}

// doors are packages that one room alone may use. An empty room means none.
var doors = []struct{ imported, room, why string }{
	{"C", "-", "the project is free of cgo"},
	{"github.com/dop251/goja", "scripts", "JavaScript lives in scripts"},
	{"github.com/hashicorp/go-plugin", "plugins", "child processes live in plugins"},
	{"github.com/mmcloughlin/avo", "engine/cpu/simd/asm", "assembly is generated there, in a module of its own"},
	{"github.com/ebitengine/purego", "engine/cuda/driver", "there is one door to C"},
	{"net/http", "workbench plugins scripts web", "the engine keeps plain counters, the workbench serves them"},
}

func TestDoors(t *testing.T) {
	for _, source := range sources(t) {
		for _, imported := range source.Imports {
			if !source.Test && slices.Contains(leaves, source.Package) && strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("%s: %s imports the standard library only, not %s", source.Path, source.Package, imported)
			}
			for _, door := range doors {
				if imported != door.imported && !strings.HasPrefix(imported, door.imported+"/") {
					continue
				}
				inside := slices.ContainsFunc(strings.Fields(door.room), func(room string) bool {
					return source.Package == room || strings.HasPrefix(source.Package, room+"/")
				})
				if !inside {
					t.Errorf("%s imports %s: %s", source.Path, imported, door.why)
				}
			}
		}
	}
}

// The table itself is tested on cases that must fail, so that a slip in the
// matching cannot let everything through.
func TestRoomsRefuse(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"engine/ops", "engine/cpu", false},
		{"engine/cpu", "engine/ops", true},
		{"engine/cpu", "engine/ops/optest", false},
		{"engine", "engine/qwen3next", true},
		{"engine", "workbench/openai", false},
		{"engine", "engine/parity", false},
		{"engine/tokenizer/internal/gen", "engine/tokenizer", true},
		{"engine/tokenizer/internal/gen", "engine/chat", false},
		{"workbench/openai", "workbench/config", false},
		{"workbench/openai", "workbench/openai/sse", true},
		{"workbench/openai", "engine/chat", true},
		{"workbench/openai", "workbench", false},
		{"workbench", "workbench/openai", true},
		{"scripts", "engine/hook", true},
		{"scripts", "engine/sample", false},
	} {
		allowed, ok := room(c.from)
		if got := ok && permits(allowed, c.to); got != c.want {
			t.Errorf("%s -> %s: permitted %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if _, ok := room("engine/attic"); ok {
		t.Error("a package without a row was accepted")
	}
}

func tree(t *testing.T) *Tree {
	t.Helper()
	tree, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func sources(t *testing.T) []Source {
	t.Helper()
	sources, err := tree(t).Sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 20 {
		t.Fatalf("found only %d Go files: the walk does not see the tree", len(sources))
	}
	return sources
}
