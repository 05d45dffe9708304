package host

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

// doing is a plugin whose logits handler does something at the third token.
type doing struct{ do func() error }

func (d *doing) Logits(c *plugins.Call, _ *plugins.Logits) error {
	if c.Position == 5 {
		return d.do()
	}
	return nil
}

// serveDoing serves one.
func serveDoing(do func() error) func() {
	return func() { servePlugin(func(*plugins.Sequence) (any, error) { return &doing{do}, nil }) }
}

// servePlugin serves what serves a choice.
func servePlugin(begin func(*plugins.Sequence) (any, error)) {
	plugins.Serve(&plugins.Plugin{Name: "faulty", Version: "1", New: begin})
}

// kill sends a signal to the plugin itself, and waits for it: it may come to another
// thread, and a Go program goes on serving while it writes its dump.
func kill(s syscall.Signal) error {
	err := syscall.Kill(os.Getpid(), s)
	time.Sleep(time.Second)
	return err
}

// sleeper is what the argument of a plugin's child begins with.
const sleeper = "child-of-"

// bear starts a child of a plugin's own, which holds its pipes and sleeps.
func bear(own *syscall.SysProcAttr) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(program, sleeper+os.Args[len(os.Args)-1])
	child.Stdout, child.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr") // those of the process
	child.SysProcAttr = own
	return child.Start()
}

// dyingFaults end the process.
var dyingFaults = []fault{
	{name: "exit", what: "Exits in the midst of a step", kinds: []string{"lost"}, dies: true,
		serve: serveDoing(func() error { os.Exit(3); return nil })},
	{name: "panic", what: "Panics in a goroutine of its own", kinds: []string{"lost"}, dies: true,
		serve: serveDoing(func() error {
			go panic("nobody catches this")
			time.Sleep(time.Second)
			return nil
		}),
		check: func(t *testing.T, p *Plugin) {
			for _, l := range p.Logs(0) {
				if l.Level == "stderr" && strings.Contains(l.Text, "nobody catches this") {
					return
				}
			}
			t.Errorf("its log has no panic: %+v", p.Logs(0))
		}},
	{name: "panic-handler", what: "Panics in a handler", kinds: []string{"exception"},
		serve: serveDoing(func() error { panic("caught") })},
	{name: "panic-close", what: "Panics when its choice is closed", kinds: []string{"nothing"},
		serve: func() { servePlugin(func(*plugins.Sequence) (any, error) { return bomb{}, nil }) }},
	{name: "kill", what: "Is killed with SIGKILL in the midst of a step", kinds: []string{"lost"}, dies: true,
		serve: serveDoing(func() error { return kill(syscall.SIGKILL) })},
	{name: "abort", what: "Aborts, with a dump of all goroutines on stderr", kinds: []string{"lost"}, dies: true,
		serve: serveDoing(func() error { return kill(syscall.SIGABRT) })},
	{name: "exit-begin", what: "Exits when a choice begins", kinds: []string{"lost"}, dies: true,
		serve: func() {
			servePlugin(func(*plugins.Sequence) (any, error) {
				if os.Mkdir("began", 0o700) == nil { // once: the next process is well
					os.Exit(4)
				}
				return &doing{func() error { return nil }}, nil
			})
		}},
	{name: "fork", what: "Starts a child that holds its pipes, and exits", kinds: []string{"lost"}, dies: true,
		serve: serveDoing(func() error {
			if err := bear(nil); err != nil {
				return err
			}
			os.Exit(0)
			return nil
		}),
		check: func(t *testing.T, _ *Plugin) {
			within(t, "the end of its child", func() bool { return len(named(t, sleeper+"fork")) == 0 })
		}},
	{name: "fork-setsid", what: "The same, in a session of its own: the child survives, and holds nothing of the host's", kinds: []string{"lost"}, dies: true, survives: true,
		serve: serveDoing(func() error {
			if err := bear(&syscall.SysProcAttr{Setsid: true}); err != nil {
				return err
			}
			os.Exit(0)
			return nil
		})},
	{name: "stop", what: "Is stopped with SIGSTOP: the health check ends it", kinds: []string{"over_budget"}, dies: true,
		serve: serveDoing(func() error { return kill(syscall.SIGSTOP) })},
	{name: "not-serving", what: "Says that it is not well", kinds: []string{"nothing", "lost"}, dies: true,
		serve: func() { (&raw{sick: true}).serve() }},
}

// bomb panics at its end.
type bomb struct{}

func (bomb) Close() error { panic("at the end") }

func (bomb) Logits(*plugins.Call, *plugins.Logits) error { return nil }
