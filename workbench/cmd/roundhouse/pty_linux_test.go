package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the program on a terminal, and a person at it.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu     sync.Mutex
	screen bytes.Buffer
	read   chan struct{}
	seen   int // of screen, by await
}

// openTerminal runs the program on a new pseudo-terminal.
func openTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("roundhouse", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(append(os.Environ(), "TERM=xterm"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, cmd: cmd, read: make(chan struct{})}
	go term.watch()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		<-term.read
		_ = master.Close()
	})
	return term
}

// watch copies what appears on the screen until the program has gone.
func (p *terminal) watch() {
	defer close(p.read)
	piece := make([]byte, 4096)
	for {
		n, err := p.master.Read(piece)
		p.mu.Lock()
		p.screen.Write(piece[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until text appears after what was awaited before.
func (p *terminal) await(text string) {
	p.t.Helper()
	for range 600 {
		p.mu.Lock()
		rest := p.screen.String()[p.seen:]
		at := strings.Index(rest, text)
		if at >= 0 {
			p.seen += at + len(text)
		}
		p.mu.Unlock()
		if at >= 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.Fatalf("no %q on the screen after 30 s:\n%q", text, p.screen.String()[p.seen:])
}

func (p *terminal) keys(text string) {
	p.t.Helper()
	if _, err := p.master.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) exitCode() int {
	p.t.Helper()
	_ = p.cmd.Wait() // the code tells
	return p.cmd.ProcessState.ExitCode()
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	up    = "\x1b[A"
)

// ctrl-C stops the answer and not the program, ctrl-D leaves, and lines are
// remembered for the next time.
func TestChatOnTerminal(t *testing.T) {
	state := t.TempDir()
	env := []string{"XDG_STATE_HOME=" + state, "NO_COLOR=1"}
	p := openTerminal(t, env, "chat", "--temperature", "0")
	p.await("talking with demo")
	p.await("> ")
	p.keys("What is seven plus five?\r")
	p.await("Seven plus five is twelve.")
	p.await("tokens/s")
	p.keys(ctrlC)
	p.await("ctrl-D or /quit leaves")
	p.await("> ")
	p.keys("Tell me a story about a brave rabbit and a lantern.\r")
	p.await("\n")
	time.Sleep(10 * time.Millisecond) // into the answer, which takes 130 ms on two cores, or its prompt
	p.keys(ctrlC)
	p.await("stopped")
	p.keys(ctrlC) // a second one is too late to stop anything
	p.keys("/params\r")
	p.await("temperature")
	p.keys(ctrlD)
	if code := p.exitCode(); code != 0 {
		t.Errorf("ctrl-D ends with %d", code)
	}

	info, err := os.Stat(filepath.Join(state, "roundhouse", "history"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history: %v, %v", info, err)
	}
	again := openTerminal(t, env, "chat", "--temperature", "0")
	again.await("> ")
	again.keys(up + up + up)
	again.await("What is seven plus five?")
	again.keys("\r")
	again.await("Seven plus five is twelve.")
	again.keys("/quit\r")
	if code := again.exitCode(); code != 0 {
		t.Errorf("/quit ends with %d", code)
	}
}

// With a terminal, run serves and talks; the end of the talk ends the server.
func TestRunOnTerminal(t *testing.T) {
	p := openTerminal(t, []string{"XDG_STATE_HOME=" + t.TempDir()}, "run", "--listen", ":0")
	p.await("http://127.0.0.1:")
	p.await("curl http://127.0.0.1:")
	p.await("talking with demo")
	p.await("> ")
	p.keys("What is seven plus five?\r")
	p.await("twelve")
	p.await("tokens/s")
	p.await("> ")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exitCode(); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
}
