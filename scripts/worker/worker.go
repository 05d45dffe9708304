// Package worker runs scripts that nobody vouches for, such as those that come with a
// request: each in a child process that ends when it takes too much memory, and is
// killed when it does not answer. The child is the program itself, with the hidden
// command Verb, and speaks of the same calls and edits as a script in process:
//
//	host := worker.New(worker.Options{})
//	script, err := host.Load(ctx, "inline.ts", source)
//	instance, err := script.Start(ctx, env)
//	chain, err := hook.NewChain(options, instance)
//
// What is lost with a child is one choice's hook, a fault like any other.
package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// Options of a Host. Zeros stand for the defaults.
type Options struct {
	// Command starts a child; what it is told comes behind. The program itself with
	// Verb.
	Command []string
	// Memory is the most that a child may take, in bytes; 192 MiB.
	Memory int
	// Workers is the most children at a time; 16.
	Workers int
}

const (
	defaultMemory  = 192 << 20
	defaultWorkers = 16
	// overhead is what a child has mapped, and does not use, beside its memory.
	overhead = 128 << 20
)

// Host starts workers. It is safe for concurrent use.
type Host struct {
	options Options
	running sync.WaitGroup
	count   atomic.Int64
	peak    atomic.Int64
}

// New returns a host.
func New(o Options) *Host {
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	return &Host{options: o}
}

// Close waits for the workers, whose instances are to be closed before.
func (h *Host) Close() { h.running.Wait() }

// Running is how many workers there are.
func (h *Host) Running() int { return int(h.count.Load()) }

// Peak is the most memory that a worker which has ended took, in bytes; 0 where the
// system does not say.
func (h *Host) Peak() int64 { return h.peak.Load() }

// Times of a worker.
const (
	startTime = 10 * time.Second // to come up and read the script
	slack     = 250 * time.Millisecond
	callTime  = 5 * time.Second // where a call has no budget
)

// process is a worker. One goroutine uses it at a time.
type process struct {
	wire
	host  *Host
	cmd   *exec.Cmd
	read  *os.File
	write *os.File
	err   tail
	gone  error // why it is no more
}

// start starts a worker that has read a script.
func (h *Host) start(ctx context.Context, file, source string) (*process, *scripts.Info, error) {
	if n := h.count.Add(1); n > int64(h.options.Workers) {
		h.count.Add(-1)
		return nil, nil, &scripts.BusyError{Reason: fmt.Sprintf("%d scripts run in workers, the most there may be", h.options.Workers)}
	}
	p, err := h.spawn()
	if err != nil {
		h.count.Add(-1)
		return nil, nil, fmt.Errorf("start a script worker: %w", err)
	}
	deadline := time.Now().Add(startTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	stop := context.AfterFunc(ctx, func() { _ = p.read.SetReadDeadline(time.Now()) })
	defer stop()
	reply, err := p.ask(down{Op: opLoad, File: file, Source: source}, func() time.Time { return deadline }, nil)
	if err == nil && reply.Info == nil {
		err = p.lose(errors.New("it did not say what it read"))
	}
	if err != nil {
		p.close()
		return nil, nil, unusable(file, reply, err)
	}
	return p, reply.Info, nil
}

// unusable is the error of a script that cannot be used.
func unusable(file string, reply *up, err error) error {
	if reply != nil && len(reply.Lines) > 0 {
		return &scripts.LoadError{File: file, Lines: reply.Lines}
	}
	var f *hook.Fault
	if errors.As(err, &f) {
		return &scripts.LoadError{File: file, Lines: []string{f.Err.Error()}}
	}
	return err
}

// spawn starts the process.
func (h *Host) spawn() (*process, error) {
	command := h.options.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self, Verb}
	}
	in, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	read, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close(), write.Close())
	}
	p := &process{wire: wire{bufio.NewReader(read), write}, host: h, read: read, write: write}
	p.cmd = exec.Command(command[0], append(command[1:len(command):len(command)], strconv.Itoa(h.options.Memory))...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, &p.err
	p.cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	err = p.cmd.Start()
	_, _ = in.Close(), out.Close() // the child has its own
	if err != nil {
		return nil, errors.Join(err, read.Close(), write.Close())
	}
	h.running.Add(1)
	return p, nil
}

// ask sends a message and answers questions until the reply is there. The fault of a
// reply is the error.
func (p *process) ask(m down, deadline func() time.Time, answer func(*up) (down, error)) (*up, error) {
	if p.gone != nil {
		return nil, p.gone
	}
	for {
		limit := deadline()
		if err := errors.Join(p.read.SetReadDeadline(limit), p.write.SetWriteDeadline(limit)); err != nil {
			return nil, p.lose(err)
		}
		if err := p.send(m); err != nil {
			return nil, p.lose(err)
		}
		var u up
		if err := p.receive(&u); err != nil {
			return nil, p.lose(err)
		}
		switch {
		case u.Ask == "" && u.Fault != nil:
			return &u, p.judge(u.Fault.error())
		case u.Ask == "":
			return &u, nil
		case answer == nil:
			return nil, p.lose(fmt.Errorf("it asks for %.20q where nobody answers", u.Ask))
		}
		a, err := answer(&u)
		a.Op = opAnswer
		if err != nil {
			a = down{Op: opAnswer, Fault: toFault(err)}
		}
		m = a
	}
}

// judge ends a worker whose script cannot go on.
func (p *process) judge(err error) error {
	var f *hook.Fault
	if errors.As(err, &f) && (f.Kind == hook.Abandoned || f.Kind == hook.OutOfMemory || f.Kind == hook.Lost) {
		p.gone = err
		p.kill()
	}
	return err
}

// lose ends a worker that is lost, or has to be, and returns the fault.
func (p *process) lose(err error) error {
	p.kill()
	kind, said := hook.Lost, p.err.last()
	switch {
	case p.cmd.ProcessState.ExitCode() == exitMemory || strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"):
		kind, err = hook.OutOfMemory, fmt.Errorf("the script's worker took more than %d MiB, and was ended", p.host.options.Memory>>20)
	case errors.Is(err, os.ErrDeadlineExceeded):
		kind, err = hook.Abandoned, errors.New("the script's worker did not answer in time, and was killed")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the script's worker ended: %v %s", p.cmd.ProcessState, said)
	default:
		err = fmt.Errorf("the script's worker: %w", err)
	}
	p.gone = &hook.Fault{Kind: kind, Err: err}
	return p.gone
}

// kill ends the process and waits for it.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	peak := peakOf(p.cmd.Process)
	// One that ends by itself says why: it has a moment to.
	if err := p.write.Close(); err != nil {
		_ = p.cmd.Process.Kill()
	}
	timer := time.AfterFunc(killAfter, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // how it ended is in its state
	timer.Stop()
	_ = p.read.Close()
	if peak == 0 && p.cmd.ProcessState.ExitCode() == exitMemory {
		peak = int64(p.host.options.Memory) // where it was ended
	}
	for {
		highest := p.host.peak.Load()
		if peak <= highest || p.host.peak.CompareAndSwap(highest, peak) {
			break
		}
	}
	p.host.count.Add(-1)
	p.host.running.Done()
}

// killAfter is how long a worker may take to end by itself.
const killAfter = 20 * time.Millisecond

func (p *process) close() {
	if p.gone == nil {
		p.gone = &hook.Fault{Kind: hook.Lost, Err: errors.New("the script was closed before")}
	}
	p.kill()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// maxTail is how much of it.
const maxTail = 2000

// Write implements io.Writer.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, data...)
	if over := len(t.text) - maxTail; over > 0 {
		t.text = append([]byte(nil), t.text[over:]...)
	}
	return len(data), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.text)), "")
}
