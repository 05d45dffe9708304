package scripts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evanw/esbuild/pkg/api"
)

// Bounds of what is bundled.
const (
	// Bytes of a file of source, and of one of data. Compilers follow a chain of
	// operators down: one of a quarter million would take them minutes, and the stack.
	maxSource = 64 << 10
	maxData   = 256 << 10
	maxFiles  = 64
	// Parsers follow brackets down. Those in texts may not come in pairs, and count.
	maxNesting = 1000
	maxBundle  = 2 << 20 // bytes of the result
	maxBuild   = 5 * time.Second
)

// bundle is a script and all that it imports, as one piece of JavaScript.
type bundle struct {
	entry           string
	code, sourceMap string
	files           []string // that were looked for, there or not
}

// fingerprint is that of all files that were looked for.
func (b *bundle) fingerprint(folder fs.FS) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range b.files {
		text, err := readFile(folder, name)
		fmt.Fprintf(h, "%s %d %t\n%s", name, len(text), err == nil, text)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// extensions are those of files that can be read, and that may be left out.
var extensions = []string{".ts", ".js", ".json"}

// moduleName is the module that scripts import, and testModuleName the one that their
// tests do beside it; they have no files.
const (
	moduleName     = "roundhouse"
	testModuleName = "roundhouse/test"
)

// testName is what a bundle of a test calls what the machine gives it.
const testName = "__roundhouse"

// OpenFolder returns the files below a folder. What a link names must lie below it
// too.
func OpenFolder(dir string) (fs.FS, io.Closer, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("scripts: open the folder %s: %w", dir, err)
	}
	return root.FS(), root, nil
}

// build bundles a script of a folder. Only regular .ts, .js and .json files of the
// folder are read. The error, a *LoadError, lists what is wrong, with lines; the
// bundle then says which files were looked for.
func build(ctx context.Context, folder fs.FS, entry string) (*bundle, error) {
	return (&resolver{folder: folder}).build(ctx, entry)
}

// buildTest bundles the test of a script, likewise.
func buildTest(ctx context.Context, folder fs.FS, entry string) (*bundle, error) {
	return (&resolver{folder: folder, test: true}).build(ctx, entry)
}

// head is what a bundle begins with: it is a function.
func (r *resolver) head() string {
	if r.test {
		return "(function(module, " + testName + "){"
	}
	return "(function(module){"
}

func (r *resolver) build(ctx context.Context, entry string) (*bundle, error) {
	ctx, cancel := context.WithTimeout(ctx, maxBuild)
	defer cancel()
	r.looked = map[string]bool{entry: true}
	b := &bundle{entry: entry}
	build, contextErr := api.Context(api.BuildOptions{
		EntryPoints: []string{entry},
		Bundle:      true,
		Outfile:     "script.js", // only named: nothing is written
		Platform:    api.PlatformNeutral,
		Format:      api.FormatCommonJS,
		Target:      api.ES2022,
		// A power or shift of a big integer is one instruction without end, and a spread
		// of a long text into an object: as a loop it can be interrupted.
		// Literals with \p{..} become calls of RegExp, which say that goja does not know them.
		Supported: map[string]bool{"bigint": false, "top-level-await": false, "dynamic-import": false, "object-rest-spread": false,
			"regexp-unicode-property-escapes": false},
		Sourcemap:     api.SourceMapExternal,
		LegalComments: api.LegalCommentsNone,
		LogLevel:      api.LogLevelSilent,
		TsconfigRaw:   "{}",
		Banner:        map[string]string{"js": r.head()},
		Footer:        map[string]string{"js": "})"},
		Plugins:       []api.Plugin{{Name: "folder", Setup: r.setup}},
	})
	if contextErr != nil {
		return b, loadError(entry, contextErr.Errors)
	}
	defer build.Dispose()
	stop := context.AfterFunc(ctx, build.Cancel)
	result := build.Rebuild()
	b.files = slices.Sorted(maps.Keys(r.looked))
	if !stop() {
		return b, &LoadError{File: entry, Lines: []string{"bundling takes too long: " + context.Cause(ctx).Error()}}
	}
	for _, warning := range result.Warnings {
		if warning.ID == "bigint" {
			result.Errors = append(result.Errors, warning)
		}
	}
	if len(result.Errors) > 0 {
		return b, loadError(entry, result.Errors)
	}
	for _, file := range result.OutputFiles {
		if strings.HasSuffix(file.Path, ".map") {
			b.sourceMap = string(file.Contents)
		} else {
			b.code = string(file.Contents)
		}
	}
	if len(b.code) > maxBundle {
		return b, &LoadError{File: entry, Lines: []string{fmt.Sprintf("it is %d bytes with all that it imports: %d at most", len(b.code), maxBundle)}}
	}
	return b, nil
}

// resolver finds and reads the files of a folder for esbuild.
type resolver struct {
	folder fs.FS
	test   bool // the bundle is a test
	files  atomic.Int64

	mu     sync.Mutex
	looked map[string]bool
}

// look looks for a file.
func (r *resolver) look(name string) (fs.FileInfo, error) {
	r.mu.Lock()
	r.looked[name] = true
	r.mu.Unlock()
	return fs.Stat(r.folder, name)
}

// namespace keeps esbuild's own file system out of it.
const namespace = "scripts"

func (r *resolver) setup(build api.PluginBuild) {
	build.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(args api.OnResolveArgs) (api.OnResolveResult, error) {
		switch {
		case args.Path == moduleName && r.test: // one for each file, which knows its name
			return api.OnResolveResult{Path: args.Importer, Namespace: moduleName}, nil
		case args.Path == moduleName:
			return api.OnResolveResult{Path: moduleName, Namespace: moduleName}, nil
		case args.Path == testModuleName && r.test:
			return api.OnResolveResult{Path: testModuleName, Namespace: testModuleName}, nil
		case args.Path == testModuleName:
			return api.OnResolveResult{}, fmt.Errorf("%q is there in tests only, which are files named *.test.ts", testModuleName)
		}
		file, err := r.resolve(args)
		return api.OnResolveResult{Path: file, Namespace: namespace}, err
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: moduleName}, func(args api.OnLoadArgs) (api.OnLoadResult, error) {
		code := "export const script = (s) => s;"
		if r.test {
			code = fmt.Sprintf("export const script = (s) => %s.script(%q, s);", testName, args.Path)
		}
		return api.OnLoadResult{Contents: &code, Loader: api.LoaderJS}, nil
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: testModuleName}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
		var names []string
		for _, f := range testFunctions() {
			names = append(names, f.name())
		}
		code := fmt.Sprintf("export const { %s } = %s;", strings.Join(names, ", "), testName)
		return api.OnLoadResult{Contents: &code, Loader: api.LoaderJS}, nil
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: namespace}, func(args api.OnLoadArgs) (api.OnLoadResult, error) {
		text, err := r.read(args.Path)
		loader := map[string]api.Loader{".ts": api.LoaderTS, ".js": api.LoaderJS, ".json": api.LoaderJSON}[path.Ext(args.Path)]
		return api.OnLoadResult{Contents: &text, Loader: loader}, err
	})
}

// resolve finds the file that an import names.
func (r *resolver) resolve(args api.OnResolveArgs) (string, error) {
	name := args.Path
	if args.Kind != api.ResolveEntryPoint {
		if !strings.HasPrefix(name, "./") && !strings.HasPrefix(name, "../") {
			return "", fmt.Errorf("%q is not there: a script imports %q and files of its folder, named from ./ on", name, moduleName)
		}
		name = path.Join(path.Dir(args.Importer), name)
	}
	if name = path.Clean(name); !fs.ValidPath(name) {
		return "", fmt.Errorf("%q lies outside the folder of the scripts", args.Path)
	}
	for _, end := range append([]string{""}, extensions...) {
		if !slices.Contains(extensions, path.Ext(name+end)) {
			continue
		}
		info, err := r.look(name + end)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look at %q: %w", name+end, err)
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("%q is no regular file", name+end)
		}
		return name + end, nil
	}
	return "", fmt.Errorf("%q is not there: files that can be imported end on %s", args.Path, strings.Join(extensions, ", "))
}

// read returns a file of the folder.
func (r *resolver) read(name string) (string, error) {
	if r.files.Add(1) > maxFiles {
		return "", fmt.Errorf("%q is one file too many: a script has %d at most", name, maxFiles)
	}
	return readFile(r.folder, name)
}

// readFile returns a file of a folder, if it is not too large.
func readFile(folder fs.FS, name string) (string, error) {
	// Opening a pipe would wait for somebody to write to it.
	if info, err := fs.Stat(folder, name); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%q is no regular file", name)
	}
	file, err := folder.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	most := maxSource
	if path.Ext(name) == ".json" {
		most = maxData
	}
	text, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	if depth := nesting(string(text)); err == nil && depth > maxNesting {
		err = fmt.Errorf("%q has brackets nested %d deep: %d at most", name, depth, maxNesting)
	}
	if err == nil && len(text) > most {
		err = fmt.Errorf("%q is over %d bytes, the most that such a file may have", name, most)
	}
	return string(text), err
}

// LoadError says why a script cannot be used.
type LoadError struct {
	File  string
	Lines []string // each with its place, where that is known
	Err   error    // what lies behind, where it is one thing
}

func (e *LoadError) Error() string {
	return fmt.Sprintf("script %s: %s", e.File, strings.Join(e.Lines, "; "))
}

// Unwrap returns what lies behind.
func (e *LoadError) Unwrap() error { return e.Err }

func loadError(entry string, messages []api.Message) *LoadError {
	e := &LoadError{File: entry}
	for _, m := range messages {
		line := m.Text
		if at := m.Location; at != nil {
			file := strings.TrimPrefix(at.File, namespace+":")
			line = fmt.Sprintf("%s:%d:%d: %s", file, at.Line, at.Column+1, line)
		}
		e.Lines = append(e.Lines, line)
	}
	return e
}
