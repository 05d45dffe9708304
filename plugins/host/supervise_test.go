package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// supervised are plugins of the tests of this file.
var supervised = map[string]func(){
	"mending": func() { // ends before its handshake, until it is mended
		if _, err := os.Stat("mended"); err != nil {
			os.Exit(6)
		}
		serveDoing(func() error { return nil })()
	},
	"environment": func() {
		plugins.Serve(&plugins.Plugin{Name: "environment", New: func(*plugins.Sequence) (any, error) {
			return &handling{func(c *plugins.Call, _ *plugins.Logits) error {
				return c.Emit("environment", strings.Join(os.Environ(), "\n"))
			}}, nil
		}})
	},
	"slow-observer": func() { // slow, and tells at the end what it has seen
		seen, lost := 0.0, 0.0
		(&raw{
			describe: func(m *pb.DescribeResponse) {
				m.Spec = &pb.Spec{Events: []pb.Event{pb.Event_EVENT_TOKEN, pb.Event_EVENT_FINISH}, Observer: true}
			},
			observe: func(m *pb.Step) {
				seen, lost = seen+1, lost+float64(m.GetLost())
				time.Sleep(time.Millisecond)
			},
			every: true,
			reply: func(m *pb.Step, r *pb.Reply) {
				for name, v := range map[string]float64{"seen": seen, "lost": lost + float64(m.GetLost())} {
					r.Notices = append(r.Notices, &pb.Notice{Name: name, Value: &pb.Notice_Number{Number: v}})
				}
			},
		}).serve()
	},
	"rewrite-hangs": func() {
		(&raw{rewrite: func(ctx context.Context) (*pb.RewriteResponse, error) { <-ctx.Done(); select {} }}).serve()
	},
	"rewrite-garbles": func() {
		(&raw{rewrite: func(context.Context) (*pb.RewriteResponse, error) {
			return &pb.RewriteResponse{BodyJson: `{"prompt": `}, nil
		}}).serve()
	},
	"rewrite-floods": func() {
		(&raw{rewrite: func(context.Context) (*pb.RewriteResponse, error) {
			return &pb.RewriteResponse{BodyJson: strings.Repeat(" ", 40<<20)}, nil
		}}).serve()
	},
	"rewrite-exits": func() {
		(&raw{rewrite: func(context.Context) (*pb.RewriteResponse, error) { os.Exit(8); return nil, nil }}).serve() //nolint:nilnil // it exits
	},
	"context": func() { // waits for the end of its choice
		servePlugin(func(s *plugins.Sequence) (any, error) {
			return &handling{func(*plugins.Call, *plugins.Logits) error {
				<-s.Context.Done()
				return plugins.Event("ended", "by its context")
			}}, nil
		})
	},
}

// told keeps what a host publishes.
type told struct {
	mu   sync.Mutex
	list []any
}

func (k *told) publish(_ string, data any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, data)
}

// states are the changes to some states.
func (k *told) states(which ...State) (list []Changed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.list {
		if c, ok := d.(Changed); ok && slices.Contains(which, c.State) {
			list = append(list, c)
		}
	}
	return list
}

// Each wait is twice the one before, the breaker opens and lets one launch through after a
// while, and a plugin that is mended comes back.
func TestBreaker(t *testing.T) {
	var events told
	h := open(t, Options{Back: 10 * time.Millisecond, Break: 4, BreakFor: 300 * time.Millisecond, Publish: events.publish}, "mending")
	p := h.Plugins()[0]
	within(t, "an open breaker", func() bool { return p.Stat().State == Broken })
	var waits []float64
	for _, c := range events.states(Waiting, Broken) {
		waits = append(waits, c.Again)
	}
	if !slices.Equal(waits, []float64{.01, .02, .04, .3}) {
		t.Errorf("it waited %v s", waits)
	}
	began := time.Now()
	_, err := p.Start(t.Context(), Env{Model: small})
	var u *UnavailableError
	if !errors.As(err, &u) || time.Since(began) > 100*time.Millisecond || u.After > 300*time.Millisecond || !strings.Contains(err.Error(), "ended before its handshake: exit status 6") {
		t.Errorf("behind an open breaker: %v, after %v", err, time.Since(began))
	}
	within(t, "a breaker that opens again", func() bool { return len(events.states(Broken)) == 2 })
	if n := len(events.states(Starting)); n != 5 {
		t.Errorf("%d launches: one more is tried after a while", n)
	}

	p.Restart() // closes it
	within(t, "a launch that was asked for", func() bool { return len(events.states(Waiting)) > 3 })
	if c := events.states(Waiting)[3]; c.Again != .01 {
		t.Errorf("behind a restart it waits %v s", c.Again)
	}
	within(t, "an open breaker", func() bool { return p.Stat().State == Broken })
	if err := os.WriteFile(filepath.Join(h.options.Dir, "mending", "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, "a plugin that is mended", func() bool { return p.Stat().State == Ready })
	c, _ := begin(t, h, "mending", Env{}, hook.Options{OnError: hook.Fail})
	c.Close()
}

// A choice of another plugin does not notice a restart.
func TestRestartLeavesOthersAlone(t *testing.T) {
	h := open(t, Options{Budget: 2 * time.Second, Back: 10 * time.Millisecond}, "all", "edits")
	c, _ := begin(t, h, "edits", Env{}, hook.Options{OnError: hook.Fail})
	lost, _ := begin(t, h, "all", Env{}, hook.Options{})
	all, err := h.Get("all")
	if err != nil {
		t.Fatal(err)
	}
	row := make(hook.Plain, small.Tokens)
	all.Restart()
	for position := 3; all.Stat().Launches < 2 || all.Stat().State != Ready; position++ {
		if _, err := c.Logits(hook.At{Position: position}, row, row); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lost.Logits(hook.At{Position: 3}, row, row); err != nil {
		t.Fatal(err)
	}
	if u := lost.Report().Hooks[0]; u.Faults["lost"] != 1 || !u.Off {
		t.Errorf("the choice of the plugin that was restarted: %+v", u)
	}
	again, _ := begin(t, h, "all", Env{}, hook.Options{OnError: hook.Fail})
	again.Close()
	if s := h.Plugins()[1].Stat(); s.Name != "edits" || s.Launches != 1 || s.Faults != 0 {
		t.Errorf("%+v", s)
	}
}

// A host that is closed while a plugin starts does not wait for it.
func TestCloseWhileStarting(t *testing.T) {
	before := count(t)
	for n := range 12 {
		o := Options{Dir: t.TempDir(), Allow: []string{"silent", "all"}}
		install(t, o.Dir, "silent")
		install(t, o.Dir, "all")
		h, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		p := h.Plugins()[1]
		time.Sleep(time.Duration(n) * 5 * time.Millisecond)
		began := time.Now()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("closed within %v", took)
		}
		var u *UnavailableError
		if _, err := p.Start(t.Context(), Env{Model: small}); !errors.As(err, &u) {
			t.Errorf("a choice of a host that is closed: %v", err)
		}
	}
	before.compare(t)
}

// Plugins see nothing of the host's environment but what is named.
func TestEnvironment(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "sk-secret")
	t.Setenv("NAMED", "seen")
	h := open(t, Options{Env: []string{"NAMED"}}, "environment")
	text := ""
	c, _ := begin(t, h, "environment", Env{}, hook.Options{OnError: hook.Fail, Notify: func(n hook.Notice) { text, _ = n.Value.(string) }})
	row := make(hook.Plain, small.Tokens)
	if _, err := c.Logits(hook.At{Position: 3}, row, row); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "NAMED=seen") || !strings.Contains(text, "PATH=") {
		t.Errorf("it lacks what it may see: %q", text)
	}
	for _, secret := range []string{"OPENAI_API_KEY", "sk-secret", "ROUNDHOUSE_PLUGIN_TOKEN"} {
		if strings.Contains(text, secret) {
			t.Errorf("it sees %s: %q", secret, text)
		}
	}
}

// An observer that is too slow loses events, which are counted; its choice never waits.
func TestSlowObserver(t *testing.T) {
	h := open(t, Options{Budget: 20 * time.Second}, "slow-observer")
	values := map[string]float64{}
	c, _ := begin(t, h, "slow-observer", Env{}, hook.Options{Notify: func(n hook.Notice) { values[n.Name], _ = n.Value.(float64) }})
	row := make(hook.Plain, small.Tokens)
	const tokens = 4000
	longest := time.Duration(0)
	for position := 3; position < 3+tokens; position++ {
		began := time.Now()
		c.Token(hook.Token{Position: position, ID: 1, Text: strings.Repeat("x", 500)})
		if _, err := c.Logits(hook.At{Position: position + 1}, row, row); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
	}
	r := c.Finish(hook.Finish{Reason: "stop"})
	if u := r.Hooks[0]; len(u.Faults) > 0 {
		t.Errorf("%+v", u)
	}
	if longest > 250*time.Millisecond {
		t.Errorf("a token waited %v", longest)
	}
	if s := h.Plugins()[0].Stat(); values["lost"] < tokens/4 || values["seen"]+values["lost"] != tokens || float64(s.Lost) != values["lost"] {
		t.Errorf("it has seen %v of %d, and was told of %v that it lost; the host counts %d", values["seen"], tokens, values["lost"], s.Lost)
	}
}

// A choice that is cancelled in the midst of a call ends at the plugin too, and its request's
// context does not end it before.
func TestCancel(t *testing.T) {
	var events told
	h := open(t, Options{Publish: events.publish}, "context")
	p := h.Plugins()[0]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	i, err := p.Start(ctx, Env{Model: small})
	if err != nil {
		t.Fatal(err)
	}
	c, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens, Budget: budget}, i)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	row := make(hook.Plain, small.Tokens)
	if _, err := c.Logits(hook.At{Position: 3}, row, row); err != nil {
		t.Fatal(err)
	}
	if u := c.Report().Hooks[0]; u.Faults["over_budget"] != 1 || u.Faults["lost"] != 0 {
		t.Errorf("%+v", u)
	}
	began := time.Now()
	c.Close()
	if took := time.Since(began); took > 50*time.Millisecond {
		t.Errorf("closed within %v", took)
	}
	within(t, "the end at the plugin", func() bool {
		events.mu.Lock()
		defer events.mu.Unlock()
		return slices.ContainsFunc(events.list, func(data any) bool { e, ok := data.(Told); return ok && e.Name == "ended" })
	})
	if s := p.Stat(); s.Choices != 0 || s.Launches != 1 {
		t.Errorf("%+v", s)
	}
}

// Many more choices than cores, at once: each gets its own answers.
func TestManyChoices(t *testing.T) {
	h := open(t, Options{Budget: 10 * time.Second}, "all")
	const many = 64
	reports := make([]string, many)
	var running sync.WaitGroup
	for n := range many {
		running.Go(func() {
			p := h.Plugins()[0]
			i, err := p.Start(t.Context(), Env{Model: small, Params: map[string]any{"heat": 1 + float64(n)/64}})
			if err != nil {
				t.Error(err)
				return
			}
			c, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens, OnError: hook.Fail, Seed: uint64(n)}, i)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			reports[n] = play(t, c)
		})
	}
	running.Wait()
	for n, text := range reports {
		own, err := allPlugin().Hook(&plugins.Sequence{Params: map[string]any{"heat": 1 + float64(n)/64}, Model: small})
		if err != nil {
			t.Fatal(err)
		}
		c, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens, OnError: hook.Fail, Seed: uint64(n)}, own)
		if err != nil {
			t.Fatal(err)
		}
		if want := play(t, c); text != want {
			t.Fatalf("choice %d:\n%s\nwant\n%s", n, text, want)
		}
		c.Close()
	}
	within(t, "no open choice", func() bool { return h.Plugins()[0].Stat().Choices == 0 })
}

// A plugin that fails over the body of a request fails that request, and soon.
func TestRewriteFaults(t *testing.T) {
	for name, says := range map[string]string{
		"rewrite-hangs": "DeadlineExceeded", "rewrite-garbles": "it is no JSON", "rewrite-floods": "", "rewrite-exits": "does not run",
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{Back: time.Millisecond}, name)
			p := h.Plugins()[0]
			if _, err := p.About(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err := p.Request(t.Context(), []byte(`{"prompt": "x"}`), nil, func(string) {})
			if err == nil || !strings.Contains(err.Error(), says) || time.Since(began) > rewriteTime+2*time.Second { // on a busy machine
				t.Errorf("%v, after %v; want %q", err, time.Since(began), says)
			}
			if p.Stat().Faults != 1 {
				t.Errorf("%+v", p.Stat())
			}
			within(t, "a plugin that is ready", func() bool { return p.Stat().State == Ready })
		})
	}
}

// Pins hold for the program, wherever it was found, for what lies in the plugin's folder, and
// for no other plugin's.
func TestPins(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "calm")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(own, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	write("plugin.toml", `command = ["interpreter", "main.py"]`)
	write("main.py", "print(1)")
	write("interpreter", "#!/bin/sh")
	t.Setenv("PATH", own)
	p, err := find(dir, "calm")
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(p.command[0])
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Repeat("0", 64)
	for path, holds := range map[string]bool{
		program: false, "calm/main.py": false, filepath.Join(own, "main.py"): false, "calm/plugin.toml": false,
		"calmer/main.py": true, "other": true, "/etc/hostname": true,
	} {
		if err := p.verify(program, dir, []Pin{{Path: path, SHA256: wrong}}); (err == nil) != holds {
			t.Errorf("the pin of %s: %v", path, err)
		}
	}
	sum, err := digest(filepath.Join(own, "main.py"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := ParsePin("calm/main.py=" + sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.verify(program, dir, []Pin{pin}); err != nil {
		t.Error(err)
	}
}
