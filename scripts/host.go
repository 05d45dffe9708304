package scripts

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dlclark/regexp2/v2"

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
	// Memory is the most that a machine may hold from call to call, in bytes, as far
	// as it can be seen; 64 MiB.
	Memory int
	// Library has scripts that a Store finds where its folder has none of the name, and
	// where there is no folder. Nil for none.
	Library fs.FS
	// Report is told by a Store what became of a script whose files changed. It must
	// return quickly, and not ask the store or the script. nil for nobody.
	Report func(Reload)
}

const (
	defaultGrace     = 40 * time.Millisecond
	maxCeiling       = 4 * time.Second
	defaultAbandoned = 4
	defaultMemory    = 64 << 20
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
	machines  sync.WaitGroup

	mu     sync.Mutex
	closed bool
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
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	return &Host{options: o}
}

// Close waits for all machines: of instances, which are to be closed before, and those
// that were left behind, which end within seconds. None starts after it.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.machines.Wait()
}

// errClosed refuses what comes too late.
var errClosed = errors.New("scripts: the host is closed: no script starts any more")

// machine starts a machine, unless too many were left behind.
func (h *Host) machine() (*vm, error) {
	if n := h.Abandoned(); n >= h.options.MaxAbandoned {
		return nil, &BusyError{fmt.Sprintf("%d scripts that could not be stopped still run, and no other is started before one of them ends", n)}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	v := newVM(h)
	h.machines.Go(v.loop)
	return v, nil
}

// Abandoned is how many machines run on after they were left behind.
func (h *Host) Abandoned() int { return int(h.abandoned.Load()) }

// BusyError refuses a script for now: whoever asked may try again in some seconds.
type BusyError struct{ Reason string }

func (e *BusyError) Error() string { return "busy: " + e.Reason + "; try again in some seconds" }

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
