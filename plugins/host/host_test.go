package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// TestMain is also the plugins that tests start: the program is this test, and its last
// argument says which.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) == "" {
		os.Exit(m.Run())
	}
	serve(os.Args[len(os.Args)-1])
}

var small = hook.Model{Name: "small", Shape: hook.Shape{Layers: 4, Experts: 8, K: 2, MaxK: 4, Hidden: 4}, Tokens: 16, EOS: []int32{1}}

// install writes a plugin of this test's into a folder of plugins.
func install(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := fmt.Sprintf("command = [%q", program)
	for _, a := range append(args, name) {
		command += fmt.Sprintf(", %q", a)
	}
	folder := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "plugin.toml"), []byte(command+"]\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// open opens a host with plugins of this test's.
func open(t testing.TB, o Options, names ...string) *Host {
	t.Helper()
	o.Dir, o.Allow = t.TempDir(), names
	for _, name := range names {
		install(t, o.Dir, name)
	}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// begin starts a choice of a plugin in a chain.
func begin(t testing.TB, h *Host, name string, env Env, o hook.Options) (*hook.Chain, *Instance) {
	t.Helper()
	env.Model = small
	return beginOf(t, h, name, env, o)
}

// beginOf is begin with the model of env.
func beginOf(t testing.TB, h *Host, name string, env Env, o hook.Options) (*hook.Chain, *Instance) {
	t.Helper()
	p, err := h.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i, err := p.Start(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	o.Shape, o.Tokens = env.Model.Shape, env.Model.Tokens
	c, err := hook.NewChain(o, i)
	if err != nil {
		i.Close()
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, i
}

// all edits, reads, steers, emits and draws random numbers.
type all struct {
	plugins.Sequence
	drawn float64
}

func (a *all) Start(c *plugins.Call) error { return c.Steer.Ban([]int{1}, []int32{2}) }

func (a *all) Logits(c *plugins.Call, l *plugins.Logits) error {
	h, err := l.Entropy()
	p, err2 := l.Prob(3)
	row, err3 := l.Full()
	top, err4 := l.Model().Top(2)
	a.drawn = c.Random()
	if len(row) != small.Tokens || len(top) != 2 {
		return fmt.Errorf("%d logits, %d on top", len(row), len(top))
	}
	return errors.Join(err, err2, err3, err4, l.Bias([]int32{top[0].ID}, -h), l.Bias([]int32{3}, p), l.Ban([]int32{4, 5}), l.Scale(1.5),
		l.Set(plugins.Temperature, a.Params["heat"].(float64)), c.Steer.Bias([]int{2}, []int32{1}, float32(c.Position)), c.Emit("drawn", a.drawn))
}

func (a *all) Token(c *plugins.Call, t *plugins.Token) error {
	if t.ID == 7 {
		return c.Stop("seven")
	}
	return c.Emit("token", t.Text)
}

func (a *all) Routing(c *plugins.Call, r *plugins.Routing) error {
	counts, err := r.Counts(1)
	if err != nil {
		return err
	}
	return errors.Join(c.Emit("counts", float64(counts[3])), c.Steer.Gate([]int{0}, 1+float32(counts[3])))
}

func allPlugin() *plugins.Plugin {
	return &plugins.Plugin{
		Name: "all", Version: "1.2", Description: "does everything",
		Params: plugins.Params{"heat": {Type: "number", Default: .5}},
		Spec:   plugins.Spec{Lag: 1}, Riding: plugins.Riding{Top: 4, ModelTop: 2},
		New: func(s *plugins.Sequence) (any, error) { return &all{Sequence: *s}, nil },
	}
}

// play plays three tokens to a chain, and tells all that came of it.
func play(t *testing.T, c *hook.Chain) string {
	t.Helper()
	var told strings.Builder
	ids, err := c.Prompt([]int32{1, 2, 3})
	fmt.Fprintln(&told, ids, err)
	row := make(hook.Plain, small.Tokens)
	for n := range row {
		row[n] = float32(n%5) / 3
	}
	for position := 3; position < 7; position++ {
		s, err := c.Steer(position - 1)
		fmt.Fprintln(&told, s.Digest(), err)
		v, err := c.Logits(hook.At{Position: position}, row, row)
		if v.Edits != nil {
			fmt.Fprintf(&told, "%+v\n", *v.Edits)
			v.Edits = nil // an address
		}
		fmt.Fprintf(&told, "%+v %v\n", v, err)
		if v.Stop != "" {
			break
		}
		c.Token(hook.Token{Position: position, ID: int32(position + 2), Text: "é", Logprob: -1})
		c.Routing(hook.Record{Position: position, Layers: 4, K: 2, IDs: []uint16{0, 1, 3, 2, 4, 5, 6, 7}, Weights: []float32{.5, .5, .75, .25, 1, 0, .5, .5}})
	}
	return told.String()
}

// A plugin in a process of its own does what it does in this one.
func TestPluginIsAsInProcess(t *testing.T) {
	h := open(t, Options{}, "all")
	var near, far []hook.Notice
	keep := func(list *[]hook.Notice) hook.Options {
		return hook.Options{Seed: 7, Choice: 2, OnError: hook.Fail, Notify: func(n hook.Notice) { *list = append(*list, n) }}
	}
	params := map[string]any{"heat": 2.0}
	c, _ := begin(t, h, "all", Env{Params: params}, keep(&far))
	got := play(t, c)

	own, err := allPlugin().Hook(&plugins.Sequence{Params: params, Model: small})
	if err != nil {
		t.Fatal(err)
	}
	o := keep(&near)
	o.Shape, o.Tokens = small.Shape, small.Tokens
	inProcess, err := hook.NewChain(o, own)
	if err != nil {
		t.Fatal(err)
	}
	want := play(t, inProcess)
	inProcess.Close()
	if got != want || !strings.Contains(want, "seven") {
		t.Errorf("in a process of its own:\n%s\nin this one:\n%s", got, want)
	}
	if fmt.Sprint(near) != fmt.Sprint(far) || len(near) < 8 {
		t.Errorf("told:\n%v\n%v", far, near)
	}
	if r := c.Report(); r.Degraded > 0 {
		t.Errorf("%+v", r)
	}
}
