package scripts

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Options of a Host. Zeros stand for the defaults.
type Options struct {
	// Grace is how long a machine has, past its budget, to stop before it is left
	// behind; 40 ms.
	Grace time.Duration
	// Ceiling is the most that any call may take, also where there is no budget;
	// 4 s, and no more.
	Ceiling time.Duration
	// MaxAbandoned is how many machines may run on after they were left behind; 4.
	// Then no new ones are started.
	MaxAbandoned int
}

const (
	defaultGrace     = 40 * time.Millisecond
	maxCeiling       = 4 * time.Second
	defaultAbandoned = 4
)

func init() {
	// When a regular expression that backtracks takes longer than this, the machine
	// says that it does not match. No script gets to see that answer, for it was
	// interrupted at the ceiling; but a machine that was left behind ends then.
	regexp2.DefaultMatchTimeout = maxCeiling + time.Second
}

// Host starts the machines that scripts run in. It is safe for concurrent use.
type Host struct {
	options   Options
	abandoned atomic.Int64
	symbol    *goja.Symbol // of handles in objects
}

// NewHost returns a host.
func NewHost(o Options) *Host {
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	if o.Ceiling <= 0 || o.Ceiling > maxCeiling {
		o.Ceiling = maxCeiling
	}
	if o.MaxAbandoned <= 0 {
		o.MaxAbandoned = defaultAbandoned
	}
	return &Host{options: o, symbol: goja.NewSymbol("handle")}
}

// Abandoned is how many machines run on after they were left behind.
func (h *Host) Abandoned() int { return int(h.abandoned.Load()) }

// BusyError refuses a script while too many machines that were left behind still run.
type BusyError struct{ Abandoned int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%d scripts that could not be stopped still run: no other is started before one of them ends", e.Abandoned)
}

// admit refuses new machines where too many were left behind.
func (h *Host) admit() error {
	if n := h.Abandoned(); n >= h.options.MaxAbandoned {
		return &BusyError{n}
	}
	return nil
}

// Env is what a script may know of the choice that it serves.
type Env struct {
	Params    map[string]any // as the request gives them
	Model     hook.Model
	Request   hook.Request
	Tokenizer hook.Tokenizer // nil where the model has none
	// Vectors finds steering vectors by name; nil where there are none.
	Vectors func(name string) ([]float32, error)
	// Now is the time that the script sees: it stands still, so that a run can be
	// repeated.
	Now time.Time
	// State is what Instance.State saved of a script that this one takes over from;
	// nil for none.
	State []byte
}
