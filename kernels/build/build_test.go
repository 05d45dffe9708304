package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/kernels"
)

const command = "run `go run ./kernels/build` and commit what it writes"

func tree(t *testing.T) (root string, sources []source, manifest kernels.Manifest) {
	t.Helper()
	root = ".."
	sources, err := readSources(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err = readManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	return root, sources, manifest
}

func TestImagesAreFresh(t *testing.T) {
	root, sources, manifest := tree(t)
	for _, family := range kernels.Families {
		text, err := header(family)
		if err != nil {
			t.Fatal(err)
		}
		name := "include/rh/check_" + family.Name + ".cuh"
		if old, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(old, text) {
			t.Errorf("%s is not what args_%s.go says (%v): %s", name, family.Name, err, command)
		}
	}
	for _, s := range staleImages(sources, manifest, os.DirFS(filepath.Join(root, "bin"))) {
		t.Errorf("the image of %s.cu is stale: %s", s.name, command)
	}
	images, err := filepath.Glob(filepath.Join(root, "bin/*.fatbin"))
	if err != nil || len(images) != len(sources) || len(manifest.Images) != len(sources) {
		t.Errorf("%d images, %d in the manifest, for %d sources (%v): %s", len(images), len(manifest.Images), len(sources), err, command)
	}
}

// The machine code itself is asked for its kernels and the size of their
// arguments, for every architecture.
func TestImagesTakeTheirArguments(t *testing.T) {
	root, sources, _ := tree(t)
	total := 0
	for _, s := range sources {
		data, err := os.ReadFile(filepath.Join(root, "bin", s.name+".fatbin"))
		if err != nil {
			t.Fatal(err)
		}
		if total += len(data); total > maxImages {
			t.Errorf("%d bytes of images up to %s.cu, more than %d", total, s.name, maxImages)
		}
		if err := checkImage(data, s.kernels); err != nil {
			t.Errorf("%s.cu: %v: %s", s.name, err, command)
		}
		wrong := slices.Clone(s.kernels)
		wrong[0].ArgSize += 8
		if err := checkImage(data, wrong); err == nil {
			t.Errorf("%s.cu: another argument size was accepted", s.name)
		}
		if err := checkImage(data, s.kernels[1:]); err == nil {
			t.Errorf("%s.cu: a kernel that no source declares was accepted", s.name)
		}
		for n := 0; n < len(data); n += 61 {
			if err := checkImage(data[:n], s.kernels); err == nil {
				t.Errorf("%s.cu: %d of %d bytes were accepted", s.name, n, len(data))
			}
		}
	}
}

func TestStaleness(t *testing.T) {
	root, sources, manifest := tree(t)
	bin := os.DirFS(filepath.Join(root, "bin"))
	for name, change := range map[string]func(*source, *kernels.Manifest){
		"source": func(s *source, _ *kernels.Manifest) { s.hashes[s.name+".cu"] = "0" },
		"header": func(s *source, _ *kernels.Manifest) { s.hashes["include/rh/ptx.cuh"] = "0" },
		"kernel": func(s *source, _ *kernels.Manifest) { s.kernels[0].MinArch++ },
		"image":  func(s *source, m *kernels.Manifest) { m.Images[0].SHA256 = "0" },
		"flags":  func(_ *source, m *kernels.Manifest) { m.Flags = nil },
		"archs":  func(_ *source, m *kernels.Manifest) { m.Archs = m.Archs[1:] },
		"lock":   func(_ *source, m *kernels.Manifest) { m.Lock = "" },
	} {
		fresh, err := readSources(os.DirFS(root))
		if err != nil {
			t.Fatal(err)
		}
		changed := manifest
		changed.Images = slices.Clone(manifest.Images)
		change(&fresh[0], &changed)
		if len(staleImages(fresh, changed, bin)) == 0 {
			t.Errorf("another %s leaves the images fresh", name)
		}
	}
	if stale := staleImages(sources, manifest, fstest.MapFS{}); len(stale) != len(sources) {
		t.Errorf("without images %d of %d are stale", len(stale), len(sources))
	}
}

func TestSourcesRefused(t *testing.T) {
	const good = "RH_KERNEL(rh_a_b, rh::FillArgs, 80, 256) {}\n"
	for want, files := range map[string]fstest.MapFS{
		"no .cu files":                      {},
		"has no RH_KERNEL":                  {"a.cu": {Data: []byte("int a;\n")}},
		"inline assembly":                   {"a.cu": {Data: []byte(good + "void f() { asm volatile(\"nop;\"); }\n")}},
		"opens 2 kernels":                   {"a.cu": {Data: []byte(good + "extern \"C\" __global__ void g() {}\n")}},
		"not named rh_":                     {"a.cu": {Data: []byte("RH_KERNEL(norm, rh::FillArgs, 80, 256) {}\n")}},
		"kernels.Families":                  {"a.cu": {Data: []byte("RH_KERNEL(rh_a_b, rh::OtherArgs, 80, 256) {}\n")}},
		"is in a.cu already":                {"a.cu": {Data: []byte(good)}, "b.cu": {Data: []byte(good)}},
		"file does not exist":               {"a.cu": {Data: []byte("#include \"rh/lost.cuh\"\n" + good)}},
		"headers of ours lie in":            {"a.cu": {Data: []byte("#include \"../up.cuh\"\n" + good)}},
		"ptx.cuh":                           {"a.cu": {Data: []byte("#include \"rh/b.cuh\"\n" + good)}, "include/rh/b.cuh": {Data: []byte("asm(\"\");")}},
		"headers of ours lie in include/rh": {"a.cu": {Data: []byte("#include \"rh/../../up.cuh\"\n" + good)}},
	} {
		if _, err := readSources(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	sources, err := readSources(fstest.MapFS{
		"a.cu":             {Data: []byte("#include \"rh/b.cuh\"\n#include <cstdint>\n" + good)},
		"include/rh/b.cuh": {Data: []byte("#include \"rh/c.cuh\"\n")},
		"include/rh/c.cuh": {Data: []byte("#include \"rh/b.cuh\"\n")},
	})
	want := kernels.Kernel{Name: "rh_a_b", Args: "FillArgs", ArgSize: 24, MinArch: 80, MaxThreads: 256}
	if err != nil || len(sources) != 1 || len(sources[0].hashes) != 3 || sources[0].kernels[0] != want {
		t.Errorf("%+v, %v", sources, err)
	}
}

// cached is the compiler, where one is there without fetching it.
func cached(t *testing.T) toolset {
	t.Helper()
	tools, err := compiler(t.Context(), false)
	if errors.Is(err, errNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// One architecture compiled anew has the committed bytes.
func TestImagesAreReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles every kernel once: not in short mode")
	}
	tools := cached(t)
	root, sources, manifest := tree(t)
	if tools.version != manifest.Compiler {
		t.Skipf("nvcc here is %s, the images were made with %s", tools.version, manifest.Compiler)
	}
	if err := compare(t.Context(), tools, root, sources, 2); err != nil {
		t.Errorf("%v: %s", err, command)
	}
	changed := t.TempDir()
	if err := os.CopyFS(changed, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(changed, "smoke.cu")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(text, []byte("a.step[1]"), []byte("a.step[1] + 1"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	smoke := slices.DeleteFunc(sources, func(s source) bool { return s.name != "smoke" })
	if err := compare(t.Context(), tools, changed, smoke, 2); err == nil || !strings.Contains(err.Error(), "smoke.cu") {
		t.Errorf("another kernel was taken for the same: %v", err)
	}
}

// What would make an image depend on its place is refused, and so is a struct
// that C++ lays out otherwise than Go.
func TestCompilationsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles four small files: not in short mode")
	}
	tools := cached(t)
	root := t.TempDir()
	kernel := []kernels.Kernel{{Name: "rh_a_b", Args: "FillArgs", ArgSize: 4, MinArch: 80, MaxThreads: 32}}
	for name, c := range map[string]struct{ text, want string }{
		"anonymous": {"namespace { __device__ int seen; }\nextern \"C\" __global__ void rh_a_b(int a) { atomicAdd(&seen, a); }\n", "anonymous namespace"},
		"size":      {"extern \"C\" __global__ void rh_a_b(long a, long b) { }\n", "takes 2 arguments of 16 bytes"},
		"assert":    {"struct A { char a; int b; };\nstatic_assert(sizeof(A) == 5, \"A in args.go\");\n", "A in args.go"},
		"fine":      {"extern \"C\" __global__ void rh_a_b(int a) { }\n", ""},
	} {
		if err := os.WriteFile(filepath.Join(root, name+".cu"), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := compile(t.Context(), tools, root, root, source{name: name, kernels: kernel}, "sm_80")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestFlagsHoldNoPaths(t *testing.T) {
	for _, flag := range flags {
		if strings.Contains(flag, "lineinfo") || strings.HasPrefix(flag, "-G") || strings.Contains(flag, "/") {
			t.Errorf("%s makes images depend on their place", flag)
		}
	}
}

func TestCompilerIsJudged(t *testing.T) {
	dir := t.TempDir()
	script := func(name, release string) string {
		name = filepath.Join(dir, name)
		text := "#!/bin/sh\necho 'Cuda compilation tools, release " + release + "'\n"
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Setenv("NVCC", script("new", "13.3, V13.3.20"))
	if _, err := compiler(context.Background(), false); err == nil || !strings.Contains(err.Error(), "13.0") {
		t.Errorf("an nvcc of 13.3 gave %v", err)
	}
	link := filepath.Join(t.TempDir(), "nvcc")
	if err := os.Symlink(script("right", "13.0, V13.0.88"), link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NVCC", link)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tools, err := compiler(context.Background(), false); err != nil || tools.version != "13.0.88" || tools.bin != real {
		t.Errorf("through a link: %+v, %v; want the folder %s", tools, err, real)
	}
	t.Setenv("NVCC", filepath.Join(dir, "lost"))
	if _, err := compiler(context.Background(), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lost nvcc gave %v", err)
	}
}
