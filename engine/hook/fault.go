package hook

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// FaultKind says in which way a hook failed.
type FaultKind uint8

// Kinds of faults.
const (
	Exception   FaultKind = iota // it threw, or returned an error
	OverBudget                   // it took too long, and was stopped
	Abandoned                    // it took too long, could not be stopped, and was left behind
	NotANumber                   // NaN, or infinite where that means nothing
	BadID                        // a token, layer or expert that does not exist
	BadValue                     // a value outside its range, or too many of them
	NothingLeft                  // no token, or too few experts, would be left to choose from
	Misuse                       // a handle used after return, a promise returned, a verb that has no meaning there
	Lost                         // the plugin or VM behind it is gone
	OutOfMemory                  // it holds more than it may
	Unsupported                  // part of the contract that this engine does not have
)

var faultNames = [...]string{"exception", "over_budget", "abandoned", "not_a_number", "bad_id", "bad_value",
	"nothing_left", "misuse", "lost", "out_of_memory", "unsupported"}

func (k FaultKind) String() string { return faultNames[k] }

// ParseFaultKind returns the kind of a name; what has none is an exception.
func ParseFaultKind(name string) FaultKind {
	return FaultKind(max(0, slices.Index(faultNames[:], name)))
}

// Fault is one failure of one hook.
type Fault struct {
	Kind     FaultKind
	Hook     string // its Spec.Name
	Event    string // the handler, for example "logits"
	Position int
	Line     string // where in its source, "sampler.ts:12:5"; "" where unknown
	Err      error
}

func (f *Fault) Error() string {
	where := ""
	if f.Line != "" {
		where = " (" + f.Line + ")"
	}
	if f.Hook == "" {
		return fmt.Sprintf("%v%s: %s", f.Err, where, f.Kind)
	}
	return fmt.Sprintf("hook %s, %s of position %d%s: %s: %v", f.Hook, f.Event, f.Position, where, f.Kind, f.Err)
}

func (f *Fault) Unwrap() error { return f.Err }

// faultf makes a fault that does not know its hook yet.
func faultf(kind FaultKind, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// asFault makes a fault of any error.
func asFault(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		c := *f
		return &c
	}
	return &Fault{Kind: Exception, Err: err}
}

// OnError says what a fault leads to beside the default for its token.
type OnError uint8

const (
	// Disable switches a hook off after Strikes tokens in a row with a fault.
	Disable OnError = iota
	// Fail ends the choice with the first fault.
	Fail
)

func (p OnError) String() string { return [...]string{"disable", "fail"}[p] }

// Strikes is how many tokens in a row a hook may spoil before it is switched off.
const Strikes = 3

// Notice is something to tell about a hook while it runs.
type Notice struct {
	Hook     string
	Position int
	Name     string // "log", "fault", "off", or a name given to emit
	Value    any    // a number, a text or plain data
	Fault    *Fault // of "fault" and "off"
}

// overBudget is the fault of a call that took too long.
func overBudget(took, budget time.Duration) *Fault {
	return faultf(OverBudget, "the call took %v of a budget of %v", took.Round(10*time.Microsecond), budget)
}
