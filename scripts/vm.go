package scripts

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// vm is one JavaScript machine with a goroutine of its own, so that it can be left
// behind when it neither answers nor lets itself be interrupted.
type vm struct {
	host *Host
	rt   *goja.Runtime
	jobs chan func() error
	done chan error

	// gate is held by whoever touches what lies outside the machine; dead says that
	// the machine was left behind, and must not.
	gate sync.Mutex
	dead bool

	serves  *instance  // nil while a script is loaded
	call    *hook.Call // of the moment; nil outside handlers
	thrown  *goja.Object
	fault   *hook.Fault // that thrown stands for
	protos  map[string]*goja.Object
	natives natives
	depth   int // of nested joins
}

// maxCalls bounds the depth of calls.
const maxCalls = 500

func newVM(h *Host) *vm {
	v := &vm{host: h, rt: goja.New(), jobs: make(chan func() error), done: make(chan error, 1), protos: map[string]*goja.Object{}}
	go v.loop()
	return v
}

func (v *vm) loop() {
	for job := range v.jobs {
		v.done <- v.guarded(job)
	}
}

// guarded runs a job and makes faults of whatever it throws.
func (v *vm) guarded(job func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *goja.Object: // thrown by us, outside any function of the script
			if err = v.fault; r != v.thrown {
				err = &hook.Fault{Kind: hook.Exception, Err: errors.New("it threw an object")}
			}
		case error:
			err = v.explain(r)
		default:
			err = &hook.Fault{Kind: hook.Exception, Err: fmt.Errorf("panic in the script's machine: %v", r)}
		}
	}()
	if err := job(); err != nil {
		return v.explain(err)
	}
	return nil
}

// do runs a job for a call, for no longer than its budget. A nil call has the time
// that is given.
func (v *vm) do(call *hook.Call, budget time.Duration, job func() error) error {
	if v.dead {
		return &hook.Fault{Kind: hook.Abandoned, Err: errors.New("the script was left behind before")}
	}
	busy := func() time.Duration { return 0 }
	if call != nil {
		busy, budget = call.Busy, call.Budget()
	}
	if budget <= 0 || budget > v.host.options.Ceiling {
		budget = v.host.options.Ceiling
	}
	v.jobs <- func() error {
		v.rt.ClearInterrupt()
		v.call = call
		defer func() { v.call = nil }()
		return job()
	}
	timer := time.NewTimer(budget - busy())
	defer timer.Stop()
	began, stopped := time.Now(), false
	for {
		select {
		case err := <-v.done:
			if stopped && err != nil {
				return &hook.Fault{Kind: hook.OverBudget, Line: lineOf(err), Err: fmt.Errorf("it was stopped after %v", budget)}
			}
			return err
		case <-timer.C:
		}
		spent := time.Since(began)
		if call != nil {
			spent = busy()
		}
		switch {
		case spent < budget: // it has been reading
			timer.Reset(budget - spent)
		case !stopped:
			v.rt.Interrupt("over budget")
			stopped = true
			timer.Reset(v.host.options.Grace)
		default:
			v.abandon()
			return &hook.Fault{Kind: hook.Abandoned, Err: fmt.Errorf("it did not stop %v after its budget of %v", v.host.options.Grace, budget)}
		}
	}
}

// abandon leaves the machine behind: from here on it reaches nothing outside itself.
func (v *vm) abandon() {
	v.gate.Lock()
	v.dead = true
	v.gate.Unlock()
	v.host.abandoned.Add(1)
	go func() {
		<-v.done
		v.host.abandoned.Add(-1)
		close(v.jobs)
	}()
}

// close ends the machine.
func (v *vm) close() {
	if !v.dead {
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
		message := thrown.Value().String()
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
		}
		return &hook.Fault{Kind: hook.Exception, Line: line(thrown.Stack()), Err: errors.New(message)}
	case errors.As(err, &f):
		return f
	}
	return &hook.Fault{Kind: hook.Exception, Err: err}
}

// line is the innermost place of a stack that lies in a source file.
func line(stack []goja.StackFrame) string {
	for _, frame := range stack {
		at := frame.Position()
		if at.Filename != "" && at.Filename != bundleName && at.Line > 0 {
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
