package scripts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// version is a script as its files say at one time, ready to run. It does not change.
type version struct {
	name       string
	digest     string // of the bundle: the same text has the same
	params     hook.Params
	spec       hook.Spec // but for Events, which each choice decides
	program    *goja.Program
	hasRequest bool
}

// bundleName is the name of the bundle in stacks; what it was made of has its own.
const bundleName = "script.js"

// load bundles a script of a folder and reads what it declares. The bundle is there
// with an error too: it says which files the script is made of. Errors are *LoadError,
// but for *BusyError.
func (h *Host) load(ctx context.Context, folder fs.FS, entry string) (*version, *bundle, error) {
	b, err := build(ctx, folder, entry)
	if err != nil {
		return nil, b, err
	}
	sum := sha256.Sum256([]byte(b.code))
	s := &version{name: strings.TrimSuffix(path.Base(entry), path.Ext(entry)), digest: hex.EncodeToString(sum[:])}
	if s.program, err = compile(b); err != nil {
		return nil, b, &LoadError{File: entry, Lines: []string{err.Error()}}
	}
	v, err := h.machine()
	if err != nil {
		return nil, b, err
	}
	defer v.close()
	if err := v.do(nil, loadTime, func() error { return s.declare(v) }); err != nil {
		return nil, b, &LoadError{File: entry, Lines: []string{placed(err)}, Err: err}
	}
	return s, b, nil
}

// loadTime is how long a script has to declare itself.
const loadTime = 500 * time.Millisecond

// placed is what an error says, with its line in front where that is known.
func placed(err error) string {
	var f *hook.Fault
	switch {
	case !errors.As(err, &f):
		return err.Error()
	case f.Line == "":
		return f.Err.Error()
	}
	return f.Line + ": " + f.Err.Error()
}

func compile(b *bundle) (*goja.Program, error) {
	loader := parser.WithSourceMapLoader(func(string) ([]byte, error) { return []byte(b.sourceMap), nil })
	ast, err := goja.Parse(bundleName, b.code+"\n//# sourceMappingURL="+bundleName+".map", loader)
	if err != nil {
		return nil, err
	}
	return goja.CompileAST(ast, true)
}

// ErrNoScript is behind the error of a file that exports no script: where it means to be
// none, others may import it.
var ErrNoScript = errors.New("it exports no script: write export default script({ ... })")

// open makes the runtime of a machine and runs the module in it. It returns what the
// script exports.
func (v *vm) open(program *goja.Program, now time.Time) (*goja.Object, error) {
	if err := v.prepare(now); err != nil {
		return nil, err
	}
	exports, err := v.evaluate(program)
	if err != nil {
		return nil, err
	}
	exported, ok := exports.Get("default").(*goja.Object)
	if !ok {
		return nil, &hook.Fault{Kind: hook.Misuse, Err: ErrNoScript}
	}
	return exported, nil
}

// prepare makes the runtime of a machine.
func (v *vm) prepare(now time.Time) error {
	v.rt.SetParserOptions(parser.WithDisableSourceMaps)
	v.rt.SetMaxCallStackSize(maxCalls)
	v.rt.SetTimeSource(func() time.Time { return now })
	v.rt.SetRandSource(v.random)
	return v.fence()
}

// evaluate runs a bundle, which is a function of its module and of what it is given beside,
// and returns what it exports.
func (v *vm) evaluate(program *goja.Program, given ...goja.Value) (*goja.Object, error) {
	wrapper, err := v.rt.RunProgram(program)
	if err != nil {
		return nil, err
	}
	run, ok := goja.AssertFunction(wrapper)
	if !ok {
		return nil, errors.New("the bundle is no function")
	}
	module := v.rt.NewObject()
	_ = module.Set("exports", v.rt.NewObject())
	if _, err := run(goja.Undefined(), append([]goja.Value{module}, given...)...); err != nil {
		return nil, err
	}
	return module.Get("exports").ToObject(v.rt), nil
}

// random is what Math.random gives: keyed in handlers, and a constant before them.
func (v *vm) random() float64 {
	if v.call == nil {
		return .5
	}
	return v.call.Random()
}

// declare reads what a script says of itself.
func (s *version) declare(v *vm) error {
	exported, err := v.open(s.program, time.Time{})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range scriptKind.members {
		known[m.name()] = true
	}
	for _, name := range exported.Keys() {
		if !known[name] {
			return faultf(hook.BadValue, "script({ %s }): there is no such field", name)
		}
	}
	if _, ok := goja.AssertFunction(exported.Get("hooks")); !ok {
		return faultf(hook.BadValue, "script({ hooks }) is %s: it is a function that returns the handlers", kindOf(exported.Get("hooks")))
	}
	_, s.hasRequest = goja.AssertFunction(exported.Get("request"))
	if err := json.Unmarshal([]byte(v.json(exported)), &declaration{s}); err != nil {
		return faultf(hook.BadValue, "script({ ... }): %w", err)
	}
	return s.params.Check()
}

// declaration fills in a script from the plain part of what it exports.
type declaration struct{ s *version }

// UnmarshalJSON implements json.Unmarshaler.
func (d *declaration) UnmarshalJSON(data []byte) error {
	var form struct {
		API      int         `json:"api"`
		Name     string      `json:"name"`
		Params   hook.Params `json:"params"`
		Priority int         `json:"priority"`
		Lag      int         `json:"lag"`
		Budget   float64     `json:"budget"`
		Capture  string      `json:"capture"`
		Top      int         `json:"top"`
		Hold     int         `json:"hold"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	switch {
	case form.API != 1:
		return fmt.Errorf("it is written for api %d: this version of Roundhouse has api 1, and runs scripts that say api: 1", form.API)
	case form.Lag < 0 || form.Lag > hook.DefaultLag:
		return fmt.Errorf("lag is %d: it is %d or %d", form.Lag, hook.MinLag, hook.DefaultLag)
	case form.Budget < 0 || form.Budget > 1000*maxCeiling.Seconds():
		return fmt.Errorf("budget is %v ms: it lies in 0 to %v", form.Budget, 1000*maxCeiling.Seconds())
	case form.Capture != "" && form.Capture != "decode" && form.Capture != "all":
		return fmt.Errorf("capture is %q: it is decode or all", form.Capture)
	case form.Top < 0 || form.Top > hook.MaxCandidates:
		return fmt.Errorf("top is %d: it lies in 0 to %d", form.Top, hook.MaxCandidates)
	case form.Hold < 0 || form.Hold > hook.MaxHold:
		return fmt.Errorf("hold is %d: it lies in 0 to %d", form.Hold, hook.MaxHold)
	case len(form.Name) > 64:
		return fmt.Errorf("a name of %d bytes: 64 at most", len(form.Name))
	}
	if form.Name != "" {
		d.s.name = form.Name
	}
	d.s.params = form.Params
	d.s.spec = hook.Spec{Name: d.s.name, Priority: form.Priority, Lag: form.Lag, CaptureAll: form.Capture == "all",
		Top: form.Top, Hold: form.Hold, Budget: time.Duration(form.Budget * float64(time.Millisecond))}
	return nil
}
