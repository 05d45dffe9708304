package scripts

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// vm is one JavaScript machine with a goroutine of its own, so that it can be left
// behind when it neither answers nor lets itself be interrupted.
type vm struct {
	host  *Host
	rt    *goja.Runtime
	jobs  chan func() error
	done  chan error
	timer *time.Timer
	scale scale // weighs what the machine holds

	stopping atomic.Bool // it was interrupted

	// gate is held by whoever touches what lies outside the machine; dead says that
	// the machine was left behind, and must not.
	gate  sync.Mutex
	dead  bool
	ended bool // no jobs any more

	serves  *Instance    // nil while a script is loaded
	tester  *tester      // of a test; nil in others
	call    *hook.Call   // of the moment; nil outside handlers
	row     *hook.Logits // of a call of logits; else nil
	clock   *hook.Clock  // of what is at work without a call
	thrown  *goja.Object
	fault   *hook.Fault // that thrown stands for
	protos  map[string]*goja.Object
	natives natives
	depth   int // of nested joins
	buffers int // bytes of those that the call made
}

// maxCalls bounds the depth of calls.
const maxCalls = 500

func newVM(h *Host) *vm {
	v := &vm{host: h, rt: goja.New(), jobs: make(chan func() error), done: make(chan error, 1), protos: map[string]*goja.Object{}}
	v.timer = time.NewTimer(time.Hour)
	v.timer.Stop()
	v.scale.most = h.options.Memory
	return v
}

// loop is the machine's goroutine, which the host waits for.
func (v *vm) loop() {
	for job := range v.jobs {
		began := time.Now()
		err := v.guarded(job)
		took := time.Since(began)
		v.done <- err
		v.scale.check(v.rt, took)
	}
	v.gate.Lock()
	defer v.gate.Unlock()
	if v.dead {
		v.host.abandoned.Add(-1)
	}
}

// guarded runs a job and makes faults of whatever it throws.
func (v *vm) guarded(job func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error: // ours, or the machine's: who knows in what state it is
			err = faultf(hook.Lost, "the script's machine broke: %v", r)
			v.scale.heavy = "a broken machine"
		case error:
			err = v.explain(r)
		default:
			err = &hook.Fault{Kind: hook.Exception, Err: fmt.Errorf("panic in the script's machine: %v", r)}
		}
	}()
	if thrown := v.rt.Try(func() { err = job() }); thrown != nil {
		err = thrown
	}
	if err != nil {
		err = v.explain(err)
	}
	return err
}

// watch is how often a machine is looked after that runs for long.
const watch = 250 * time.Microsecond

// do runs a job for a call, for no longer than its budget. A nil call has the time
// that is given.
func (v *vm) do(call *hook.Call, budget time.Duration, job func() error) error {
	if call != nil {
		budget = call.Budget()
	}
	most := swell
	if budget <= 0 || budget > v.host.options.Ceiling {
		budget, most = v.host.options.Ceiling, func(time.Duration) uint64 { return swellAtAll }
	}
	busy, paused := call.Busy, func() bool { return false }
	if call == nil {
		clock := hook.NewClock()
		busy, paused = clock.Busy, clock.Paused
		own := job
		job = func() error { v.clock = clock; return own() }
	}
	if err := v.give(call, job); err != nil {
		return err
	}
	v.timer.Reset(min(watch, budget-busy()))
	defer v.timer.Stop()
	var stopped *hook.Fault
	var heap uint64
	for {
		select {
		case err := <-v.done:
			if stopped != nil && err != nil {
				stopped.Line = lineOf(err)
				return stopped
			}
			return err
		case <-v.timer.C:
		}
		spent, now := busy(), heapBytes()
		if heap == 0 || paused() { // what others do meanwhile is not the machine's
			heap = now
		}
		switch {
		case stopped != nil:
			v.abandon()
			return &hook.Fault{Kind: hook.Abandoned, Err: fmt.Errorf("it did not stop %v after it was to (%w), and was left behind", v.host.options.Grace, stopped.Err)}
		case spent >= budget:
			stopped = faultf(hook.OverBudget, "it was stopped after %v", budget)
		case now > heap+most(spent):
			stopped = faultf(hook.OverBudget, "it was stopped: the memory of the process grew by more than %d MiB while it ran", most(spent)>>20)
		default: // it has been reading, or may take long
			v.timer.Reset(min(watch, budget-spent))
			continue
		}
		v.stopping.Store(true)
		v.rt.Interrupt("stopped")
		v.timer.Reset(v.host.options.Grace)
	}
}

// give hands a job to the machine's goroutine, which may be weighing what it holds.
func (v *vm) give(call *hook.Call, job func() error) error {
	if v.dead {
		return &hook.Fault{Kind: hook.Abandoned, Err: errors.New("the script was left behind before")}
	}
	if v.ended {
		return &hook.Fault{Kind: hook.Lost, Err: errors.New("the script was closed before")}
	}
	resume := call.Aside()
	v.jobs <- func() error {
		resume()
		if fault := v.scale.fault(); fault != nil {
			return fault
		}
		v.rt.ClearInterrupt()
		v.stopping.Store(false)
		v.call, v.depth, v.buffers = call, 0, 0
		defer func() { v.call, v.row = nil, nil }()
		return job()
	}
	return nil
}

// abandon leaves the machine behind: from here on it reaches nothing outside itself,
// and its goroutine ends when what it is at comes to its end.
func (v *vm) abandon() {
	v.gate.Lock()
	v.dead = true
	v.host.abandoned.Add(1)
	v.gate.Unlock()
	v.close()
}

// close ends the machine.
func (v *vm) close() {
	if !v.ended {
		v.ended = true
		close(v.jobs)
	}
}

// errLeft ends whatever an abandoned machine is doing.
var errLeft = errors.New("the machine was left behind")

// outside runs what touches the world outside the machine, and throws its error.
func (v *vm) outside(do func() error) {
	v.gate.Lock()
	if v.dead {
		v.gate.Unlock()
		panic(errLeft)
	}
	err := func() error {
		defer v.gate.Unlock()
		return do()
	}()
	if err != nil {
		v.throw(err)
	}
}

// during is outside, for what is possible in handlers only.
func (v *vm) during(do func(*hook.Call) error) {
	v.outside(func() error {
		if v.call == nil {
			return faultf(hook.Misuse, "this works in handlers only, not when the module is read")
		}
		return do(v.call)
	})
}

// throw throws an error into the script. What it does not catch is the handler's
// fault, of the kind of the error.
func (v *vm) throw(err error) {
	var f *hook.Fault
	if !errors.As(err, &f) {
		f = &hook.Fault{Kind: hook.Exception, Err: err}
	}
	e, newErr := v.rt.New(v.natives.Error, v.rt.ToValue(f.Err.Error()))
	if newErr != nil {
		panic(newErr)
	}
	_ = e.Set("name", "HookError")
	_ = e.Set("kind", f.Kind.String())
	v.thrown, v.fault = e, f
	panic(e)
}

func faultf(kind hook.FaultKind, format string, args ...any) *hook.Fault {
	return &hook.Fault{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// maxMessage bounds what a script can say in an exception.
const maxMessage = 500

// explain makes a fault of what a job threw, with the line of the source.
func (v *vm) explain(err error) error {
	var f *hook.Fault
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	var thrown *goja.Exception
	switch {
	case errors.As(err, &interrupted):
		return &hook.Fault{Kind: hook.OverBudget, Line: line(interrupted.Stack()), Err: errors.New("it was stopped")}
	case errors.As(err, &overflow):
		return &hook.Fault{Kind: hook.Exception, Line: line(overflow.Stack()), Err: fmt.Errorf("calls are nested deeper than %d", maxCalls)}
	case errors.As(err, &thrown):
		if thrown.Value() == goja.Value(v.thrown) && v.fault != nil {
			c := *v.fault
			c.Line = line(thrown.Stack())
			return &c
		}
		return &hook.Fault{Kind: hook.Exception, Line: line(thrown.Stack()), Err: errors.New(v.message(thrown.Value()))}
	case errors.As(err, &f):
		return f
	}
	return &hook.Fault{Kind: hook.Exception, Err: err}
}

// message is what a thrown value says: it may have to be asked, and throw again.
func (v *vm) message(value goja.Value) (text string) {
	text = "it threw something that does not become a text"
	defer func() {
		// Whatever asking leads to, the interrupt among it, the answer stays as it is.
		_ = recover()
	}()
	_ = v.rt.Try(func() { text = short(value) })
	return text
}

// short is the beginning of the text that a value becomes.
func short(value goja.Value) string {
	text := value.ToString() // once: it may ask the script
	if s, ok := text.(goja.String); ok && s.Length() > maxMessage {
		return s.Substring(0, maxMessage).String() + "…"
	}
	return text.String()
}

// line is the innermost place of a stack that lies in a source file.
func line(stack []goja.StackFrame) string {
	for _, frame := range stack {
		at := frame.Position()
		if at.Filename != "" && at.Filename != bundleName && at.Filename != preludeName && at.Line > 0 {
			return fmt.Sprintf("%s:%d:%d", strings.TrimPrefix(at.Filename, namespace+":"), at.Line, at.Column)
		}
	}
	return ""
}

func lineOf(err error) string {
	var f *hook.Fault
	if errors.As(err, &f) {
		return f.Line
	}
	return ""
}
