//go:build !nodemo

package twin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
)

// TestMain is the Go plugin too: the program is this test.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) != "" {
		plugins.Serve(Plugin())
		return
	}
	if len(os.Args) > 1 && os.Args[1] == worker.Verb { // the process of a script that comes along
		if err := worker.Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// python is a Python that has the plugins' package: the one that ROUNDHOUSE_PYTHON names, or
// one that make conformance has made; "" where there is none.
func python(t testing.TB) string {
	t.Helper()
	if named := os.Getenv("ROUNDHOUSE_PYTHON"); named != "" {
		return named
	}
	for _, program := range []string{"../../bin/venvs/newest/bin/python", "../../.cache/conformance/plugins/newest/bin/python"} {
		if exec.Command(program, "-c", "import roundhouse_plugin").Run() == nil {
			path, err := filepath.Abs(program)
			if err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	return ""
}

// form is one form of the hook.
type form struct {
	name string
	ask  func(lag int) hooks.Ask
}

var forms = []form{
	{"script", func(lag int) hooks.Ask { return hooks.Ask{Scripts: []string{fmt.Sprint("twin", lag)}} }},
	{"go", func(lag int) hooks.Ask { return hooks.Ask{Plugins: []string{"go"}, Params: map[string]any{"lag": lag}} }},
	{"python", func(lag int) hooks.Ask {
		return hooks.Ask{Plugins: []string{"python"}, Params: map[string]any{"lag": lag}}
	}},
}

// bed is the demo model with all forms.
type bed struct {
	*engine.Model
	owner *hooks.Owner
}

// open makes a bed: program is a Python, "" for none.
func open(t testing.TB, program string, streams int) *bed {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "go"))
	}
	if err != nil {
		t.Fatal(err)
	}
	allow := []string{"go"}
	if program != "" {
		main, err := filepath.Abs("forms/python/main.py")
		folder := filepath.Join(dir, "python")
		text := fmt.Sprintf("command = [%q, %q]\nmtls = false\n", program, main)
		if err := errors.Join(err, os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "plugin.toml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		allow = append(allow, "python")
	}
	run, err := host.Open(host.Options{Dir: dir, Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{owner: hooks.New(hooks.Options{Dir: "forms", Plugins: run, Inline: true, OnError: hook.Fail})}
	fsys, _ := demo.FS()
	if b.Model, err = engine.Open(t.Context(), fsys, engine.Options{Name: demo.Name, Streams: streams, Context: 1024, Numerics: "exact"}); err != nil {
		t.Fatal(err)
	}
	b.owner.SetModel(b.HookModel(), b.HookTokenizer())
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), b.owner.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// course is the tokens of a stream with what each was routed to.
type course struct {
	ids    []int32
	routes []hook.Record
	took   []time.Duration // between tokens
	use    hook.Usage
}

// stream draws tokens with one form; "" for none.
func (b *bed) stream(ctx context.Context, ask hooks.Ask, seed uint64, tokens int) (c course, err error) {
	ids, err := b.HookTokenizer().Encode("Once upon a time")
	if err != nil {
		return c, err
	}
	req := engine.Request{Prompt: ids, MaxTokens: tokens, Routing: true, IgnoreEOS: true}
	req.Sampling.Temperature, req.Sampling.Seed = 1, seed
	set, err := b.owner.Prepare(ctx, ask)
	if err != nil {
		return c, err
	}
	if set != nil {
		req.Hooks = set.Hooking(ctx, hook.Request{ID: "twin", MaxTokens: tokens, Seed: seed, Choices: 1}, 0)
	}
	last := time.Now()
	result, err := b.Generate(ctx, req, func(t engine.Token) error {
		c.ids, c.routes = append(c.ids, t.ID), append(c.routes, *t.Routing)
		c.took, last = append(c.took, time.Since(last)), time.Now()
		return nil
	})
	if len(result.Hooks.Hooks) > 0 {
		c.use = result.Hooks.Hooks[0]
	}
	return c, err
}

// streams draws from several seeds at once.
func (b *bed) streams(ctx context.Context, ask hooks.Ask, count, tokens int) ([]course, error) {
	out, errs := make([]course, count), make([]error, count)
	var all sync.WaitGroup
	for n := range count {
		all.Go(func() { out[n], errs[n] = b.stream(ctx, ask, uint64(n+1), tokens) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

// The three forms draw the same tokens, and route them the same, alone and among others,
// with both lags.
func TestTwins(t *testing.T) {
	for _, form := range forms[1:] {
		t.Run(form.name, func(t *testing.T) {
			program := ""
			if form.name == "python" {
				if program = python(t); program == "" {
					t.Skip("no Python has the plugins' package: make conformance makes one")
				}
			}
			b := open(t, program, 4)
			different, differ := map[string]bool{}, 0
			for _, lag := range []int{1, 2} {
				for _, count := range []int{1, 4} {
					want, err := b.streams(t.Context(), forms[0].ask(lag), count, 60)
					if err != nil {
						t.Fatal(err)
					}
					got, err := b.streams(t.Context(), form.ask(lag), count, 60)
					if err != nil {
						t.Fatal(err)
					}
					for n := range want {
						if err := same(want[n], got[n]); err != nil {
							differ++
							t.Errorf("lag %d, stream %d of %d: %v", lag, n+1, count, err)
						}
						different[fmt.Sprint(lag, want[n].ids)] = true
					}
				}
			}
			if len(different) != 8 {
				t.Errorf("%d different texts: 4 seeds with 2 lags make 8", len(different))
			}
			t.Logf("evidence: plugin twin, %s, streams that differ from the script's, of 10: %d streams <= 0", form.name, differ)
		})
	}
}

// same says where two courses part.
func same(a, b course) error {
	if len(a.ids) != 60 || !slices.Equal(a.ids, b.ids) {
		return fmt.Errorf("tokens of the script %v, of the plugin %v", a.ids, b.ids)
	}
	for i := range a.routes {
		x, y := a.routes[i], b.routes[i]
		if x.Position != y.Position || !slices.Equal(x.IDs, y.IDs) || !slices.Equal(x.Weights, y.Weights) {
			return fmt.Errorf("position %d is routed to %v %v with the script, %v %v with the plugin", x.Position, x.IDs, x.Weights, y.IDs, y.Weights)
		}
	}
	return nil
}
