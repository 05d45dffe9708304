package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launcher starts processes from one thread that lives as long as it does: the system
// sends a child's parent-death signal when the thread ends that started it, and Go ends
// threads as it likes.
type launcher struct {
	start chan func()
	ended chan struct{}
	once  sync.Once
}

func newLauncher() *launcher {
	l := &launcher{start: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		for do := range l.start {
			do()
		}
	}()
	return l
}

// do runs something on the thread.
func (l *launcher) do(f func() error) (err error) {
	done := make(chan struct{})
	l.start <- func() { err = f(); close(done) }
	<-done
	return err
}

func (l *launcher) close() {
	l.once.Do(func() { close(l.start) })
	<-l.ended
}

// process is a plugin's process with all that it starts: go-plugin's runner.Runner.
type process struct {
	name     string
	cmd      *exec.Cmd
	launcher *launcher
	sockets  string    // folder of its socket
	noise    io.Writer // what it prints behind its handshake
	stdout   *capture
	stderr   pipe
	address  string // of its socket, once it has said so

	ended chan struct{} // once it is gone

	mu     sync.Mutex
	pid    int  // 0 before it is started
	killed bool // it must not be started any more
	reaped bool
}

// prepare takes the command: it is go-plugin's, with its environment only.
func (p *process) prepare(cmd *exec.Cmd, sockets string) {
	cmd.Stdin = nil
	cmd.SysProcAttr = attributes()
	p.cmd, p.sockets = cmd, sockets
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return fmt.Errorf("start the plugin %s: it was to end before it had started", p.name)
	}
	outRead, out, err := os.Pipe()
	if err != nil {
		return err
	}
	errRead, stderr, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outRead.Close(), out.Close())
	}
	p.cmd.Stdout, p.cmd.Stderr = out, stderr
	err = p.launcher.do(p.cmd.Start)
	_, _ = out.Close(), stderr.Close() // the child has its own
	if err != nil {
		return errors.Join(fmt.Errorf("start the plugin %s: %w", p.name, err), outRead.Close(), errRead.Close())
	}
	p.pid, p.stdout, p.stderr = p.cmd.Process.Pid, &capture{from: pipe{outRead}, rest: p.noise}, pipe{errRead}
	go p.reap()
	return nil
}

// pipeGrace is how long what a plugin wrote last is still read.
const pipeGrace = 100 * time.Millisecond

// reap waits for the process and takes what it started with it: a child that holds the
// pipes would keep go-plugin from noticing.
func (p *process) reap() {
	awaitExit(p.cmd) // its number stays taken until Wait
	p.killGroup()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	_ = p.cmd.Wait() // how it ended is in its state
	close(p.ended)
	time.AfterFunc(pipeGrace, func() { _, _ = p.stdout.Close(), p.stderr.Close() })
}

// killGroup kills the process and those of its group, unless it has ended: its number may
// be another's then. One that has not started never does.
func (p *process) killGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.pid != 0 && !p.reaped {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // there may be none left
	}
}

// started returns the process's number; 0 where there was none.
func (p *process) started() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Kill implements runner.Runner.
func (p *process) Kill(context.Context) error {
	p.killGroup()
	return nil
}

// Wait implements runner.Runner.
func (p *process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Diagnose implements runner.Runner; the host makes the message itself.
func (p *process) Diagnose(context.Context) string { return "" }

// Stdout implements runner.Runner.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr implements runner.Runner.
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Name implements runner.Runner.
func (p *process) Name() string { return p.name }

// ID implements runner.Runner.
func (p *process) ID() string {
	if pid := p.started(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// PluginToHost implements runner.Runner: only a socket of the folder made for this launch
// is good.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("it listens on %.20q: only a unix socket is taken", network)
	}
	dir, err := filepath.EvalSymlinks(p.sockets)
	if err != nil {
		return "", "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Dir(address))
	if err != nil || real != dir {
		return "", "", fmt.Errorf("its socket %.200q is not in the folder PLUGIN_UNIX_SOCKET_DIR", address)
	}
	info, err := os.Lstat(address)
	if err != nil {
		return "", "", fmt.Errorf("its socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return "", "", fmt.Errorf("%.200q is no socket", address)
	}
	p.address = address
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// pipe is read to its end, and closed there.
type pipe struct{ *os.File }

// Read implements io.Reader.
func (p pipe) Read(into []byte) (int, error) {
	n, err := p.File.Read(into)
	if err != nil {
		_ = p.File.Close()
	}
	return n, err
}

// capture keeps the beginning of what passes: the handshake, or what stands in its place.
// go-plugin gets the first line. It would stop to read at a long one behind it, and who
// prints would wait for ever: the rest goes elsewhere.
type capture struct {
	from   pipe
	rest   io.Writer
	behind bool // the first line

	mu   sync.Mutex
	text []byte
}

// maxCapture is how much of it.
const maxCapture = 2000

// Read implements io.Reader.
func (c *capture) Read(into []byte) (int, error) {
	for {
		n, err := c.from.Read(into)
		c.mu.Lock()
		c.text = append(c.text, into[:min(n, maxCapture-len(c.text))]...)
		c.mu.Unlock()
		line := n
		if at := bytes.IndexByte(into[:n], '\n'); c.behind {
			line = 0
		} else if at >= 0 {
			c.behind, line = true, at+1
		}
		_, _ = c.rest.Write(into[line:n]) // of the log, which takes all
		if line > 0 || err != nil {
			return line, err
		}
	}
}

// Close implements io.Closer.
func (c *capture) Close() error { return c.from.Close() }

func (c *capture) said() string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(c.text)), "?")
}
