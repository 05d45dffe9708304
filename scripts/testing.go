package scripts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
)

// A test is a file beside a script, name.test.ts. It runs in a machine of its own; the
// scripts that it runs have theirs, and are in real chains. No model is there.

// TestOptions is what tests may use beside their folder.
type TestOptions struct {
	// Vectors finds steering vectors of so many values by name; nil where there are none.
	Vectors func(hidden int) func(name string) ([]float32, error)
}

// TestReport is what came of the tests of a file.
type TestReport struct {
	File     string
	Problems []string // why the file cannot be run, each with its place
	Tests    []TestResult
	Time     time.Duration
	Looked   []string // the files that were looked for, there or not
}

// Failed counts what went wrong.
func (r *TestReport) Failed() int {
	failed := 0
	if len(r.Problems) > 0 {
		failed++
	}
	for _, t := range r.Tests {
		if t.Problem != "" {
			failed++
		}
	}
	return failed
}

// TestResult is what came of one test.
type TestResult struct {
	Name    string
	Problem string // why it failed, with its place; "" where it did not
	Time    time.Duration
}

// Bounds of tests.
const (
	maxTests    = 1000 // of a file
	maxTestName = 200  // bytes
	maxTestTime = 30 * time.Second
)

// errTestTime ends what a test runs.
var errTestTime = fmt.Errorf("the test takes longer than %v", maxTestTime)

// tester is the side of a test's machine that the test sees.
type tester struct {
	ctx     context.Context // of the test at hand
	options TestOptions
	folder  fs.FS
	file    string
	named   map[*goja.Object]string // files of scripts that were imported
	scripts map[string]*Script      // that were run
	looked  map[string]bool
	tests   []declaredTest
	running bool
}

type declaredTest struct {
	name string
	body goja.Callable
}

// Test runs the tests of a file of a folder, one after the other.
func (h *Host) Test(ctx context.Context, folder fs.FS, entry string, o TestOptions) *TestReport {
	began := time.Now()
	t := &tester{ctx: ctx, options: o, folder: folder, file: entry, named: map[*goja.Object]string{}, scripts: map[string]*Script{}, looked: map[string]bool{}}
	r := &TestReport{File: entry}
	if err := h.test(ctx, t, r); err != nil {
		var broken *LoadError
		if r.Problems = []string{placed(err)}; errors.As(err, &broken) {
			r.Problems = broken.Lines
		}
	}
	for name := range t.looked {
		r.Looked = append(r.Looked, name)
	}
	slices.Sort(r.Looked)
	r.Time = time.Since(began)
	return r
}

func (h *Host) test(ctx context.Context, t *tester, r *TestReport) error {
	b, err := buildTest(ctx, t.folder, t.file)
	t.look(b.files...)
	if err != nil {
		return err
	}
	program, err := compile(b)
	if err != nil {
		return err
	}
	v, err := h.machine()
	if err != nil {
		return err
	}
	defer v.close()
	v.tester = t
	if err := t.in(v, func() error { return v.declareTests(program) }); err != nil {
		return err
	}
	if len(t.tests) == 0 {
		return fmt.Errorf("there are no tests in it: write test(%q, () => { ... })", "what it shows")
	}
	t.running = true
	for _, test := range t.tests {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		began, result := time.Now(), TestResult{Name: test.name}
		if err := t.in(v, test.run); err != nil {
			result.Problem = placed(err)
		}
		result.Time = time.Since(began)
		r.Tests = append(r.Tests, result)
	}
	return nil
}

// in runs something in the machine of the test.
func (t *tester) in(v *vm, job func() error) error {
	whole := t.ctx
	defer func() { t.ctx = whole }()
	ctx, cancel := context.WithTimeoutCause(whole, maxTestTime, errTestTime)
	defer cancel()
	t.ctx = ctx
	return v.do(nil, 0, job)
}

func (t *tester) look(names ...string) {
	for _, name := range names {
		t.looked[name] = true
	}
}

// run calls the test.
func (t declaredTest) run() error {
	out, err := t.body(goja.Undefined())
	if err != nil {
		return err
	}
	if settled(out) != nil {
		return faultf(hook.Misuse, "the test returned a promise: tests are not async, nothing waits for them")
	}
	return nil
}

// declareTests runs the module, which says which tests there are.
func (v *vm) declareTests(program *goja.Program) error {
	if err := v.prepare(time.Unix(0, 0).UTC()); err != nil {
		return err
	}
	given := v.rt.NewObject()
	for _, f := range testFunctions() {
		_ = given.Set(f.name(), func(c goja.FunctionCall) goja.Value { return f.do(v, c) })
	}
	_ = given.Set("script", func(c goja.FunctionCall) goja.Value {
		if o, ok := c.Argument(1).(*goja.Object); ok {
			v.tester.named[o] = c.Argument(0).String()
		}
		return c.Argument(1)
	})
	_, err := v.evaluate(program, given)
	return err
}

func doTest(v *vm, c goja.FunctionCall) goja.Value {
	t, name := v.tester, v.text("the name of a test", c.Argument(0))
	body, ok := goja.AssertFunction(c.Argument(1))
	switch {
	case !ok:
		v.throw(faultf(hook.BadValue, "test(%.100q) takes a function", name))
	case t.running:
		v.throw(faultf(hook.Misuse, "test(%.100q) in a test: tests are not nested", name))
	case name == "" || len(name) > maxTestName || strings.ContainsAny(name, "\n\r"):
		v.throw(faultf(hook.BadValue, "the name of a test, %.100q: it is one line of 1 to %d bytes", name, maxTestName))
	case slices.ContainsFunc(t.tests, func(other declaredTest) bool { return other.name == name }):
		v.throw(faultf(hook.BadValue, "a second test %q", name))
	case len(t.tests) == maxTests:
		v.throw(faultf(hook.BadValue, "more than %d tests in a file", maxTests))
	}
	t.tests = append(t.tests, declaredTest{name, body})
	return goja.Undefined()
}

// script loads the script that an object was imported as. It is called outside.
func (t *tester) script(h *Host, file string) (*Script, error) {
	if s := t.scripts[file]; s != nil {
		return s, nil
	}
	version, b, err := h.load(t.ctx, t.folder, file)
	if b != nil {
		t.look(b.files...)
	}
	if err != nil {
		return nil, err
	}
	s := &Script{name: version.name, host: h}
	s.current.Store(version)
	t.scripts[file] = s
	return s, nil
}

// imported is the file of a script.
func (v *vm) imported(value goja.Value) string {
	o, _ := value.(*goja.Object)
	file, ok := v.tester.named[o]
	switch {
	case !ok:
		v.throw(faultf(hook.BadValue, "what is to run is %s: it is a script, the default export of its file: import steady from \"./steady\"", kindOf(value)))
	case file == v.tester.file:
		v.throw(faultf(hook.BadValue, "a script of the test itself: it has a file of its own, which the test imports it from"))
	}
	return file
}

// play plays a scene to a script. Neither its time nor its memory are those of the test.
func (v *vm) play(file string, scene *rehearse.Scene, env Env) (course *rehearse.Course) {
	v.apart(func() error {
		script, err := v.tester.script(v.host, file)
		if err != nil {
			return err
		}
		instance, err := script.Start(env)
		if err != nil {
			return err
		}
		course, err = scene.Play(v.tester.ctx, instance)
		return err
	})
	return course
}

// apart runs what is not the test's own work, and throws its error.
func (v *vm) apart(do func() error) {
	v.outside(func() error {
		resume := v.clock.Pause()
		defer resume()
		err := do()
		var f *hook.Fault
		if errors.As(err, &f) {
			return &hook.Fault{Kind: f.Kind, Err: err} // which says hook, event and line
		}
		return err
	})
}

func doRun(v *vm, c goja.FunctionCall) goja.Value {
	file, s := v.imported(c.Argument(0)), v.stage(c.Argument(1))
	course := v.play(file, s.scene(), s.env(v.tester.vectors(s.model.Shape.Hidden)))
	return v.show(courseKind, course, func(step rehearse.Step) string { return s.vocabulary.Decode([]int32{step.ID}) })
}

// vectors finds vectors by name; nil where there are none.
func (t *tester) vectors(hidden int) func(string) ([]float32, error) {
	if t.options.Vectors == nil {
		return nil
	}
	return t.options.Vectors(hidden)
}

func doReplay(v *vm, c goja.FunctionCall) goja.Value {
	file, name := v.imported(c.Argument(0)), v.text("the file", c.Argument(1))
	var r *hook.Recording
	v.apart(func() (err error) {
		r, err = v.tester.recording(name)
		return err
	})
	env := Env{Params: r.Params, Model: r.Model, Request: r.Request, Tokenizer: r.Tokenizer(), Vectors: v.tester.vectors(r.Model.Shape.Hidden), Now: r.Now}
	if params := v.params(c.Argument(2)); params != nil {
		env.Params = params
	}
	course := v.play(file, rehearse.Recorded(r), env)
	return v.show(replayKind, course, func(step rehearse.Step) string {
		if step.Told != nil && step.Told.ID == step.ID {
			return step.Told.Text
		}
		return env.Tokenizer.Decode([]int32{step.ID})
	})
}

// recording reads a file beside the test.
func (t *tester) recording(name string) (*hook.Recording, error) {
	file := path.Join(path.Dir(t.file), name)
	if !fs.ValidPath(file) {
		return nil, fmt.Errorf("replay of %.200q: it lies outside the folder of the scripts", name)
	}
	t.look(file)
	info, err := fs.Stat(t.folder, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("replay of %.200q: there is no such file beside the test: roundhouse --record-hooks writes one", name)
	case err != nil:
		return nil, fmt.Errorf("replay of %.200q: %w", name, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("replay of %.200q: it is no regular file", name)
	}
	from, err := t.folder.Open(file)
	if err != nil {
		return nil, fmt.Errorf("replay of %.200q: %w", name, err)
	}
	defer from.Close()
	r, err := hook.ReadRecording(from)
	if err != nil {
		return nil, fmt.Errorf("replay of %.200q: %w", name, err)
	}
	return r, nil
}
