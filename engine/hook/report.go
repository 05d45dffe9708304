package hook

import "time"

// ReadClass is what a read costs.
type ReadClass uint8

// Read classes, cheapest first.
const (
	// ReadTop rides in the result of the step: the most likely tokens, 256 at most.
	ReadTop ReadClass = iota
	// ReadSum needs a pass over the row on the device: entropy, log-probability.
	ReadSum
	// ReadRow brings a whole row to the host: ranks, full.
	ReadRow
	readClasses
)

var readNames = [...]string{"top", "sum", "row"}

func (c ReadClass) String() string { return readNames[c] }

// Usage is what one hook cost and did.
type Usage struct {
	Name    string         `json:"name"`
	Calls   int            `json:"calls"`
	Time    time.Duration  `json:"-"` // without reads
	Begun   time.Duration  `json:"-"` // of it, what Start took
	Waited  time.Duration  `json:"-"` // in reads
	Micros  int64          `json:"us"`
	Reads   map[string]int `json:"reads,omitempty"` // made, by class; a memoised one counts once
	Edits   int            `json:"edits,omitempty"` // recorded in logits
	Steered []int          `json:"steered_at,omitempty"`
	Chosen  int            `json:"chosen,omitempty"`  // tokens chosen by its sample
	Changed int            `json:"changed,omitempty"` // tokens that would have been others without it, as far as known
	Notices int            `json:"notices,omitempty"`
	Dropped int            `json:"notices_dropped,omitempty"`
	Faults  map[string]int `json:"faults,omitempty"` // by kind
	Last    string         `json:"last_fault,omitempty"`
	Off     bool           `json:"off,omitempty"` // switched off
}

// Report is what the hooks of a choice cost and did.
type Report struct {
	Hooks []Usage `json:"hooks"`
	// Degraded counts tokens that took the default because a hook failed. A run
	// with any is not exact.
	Degraded int `json:"degraded_tokens"`
	// Synchronous says that the stream waited for a hook at every token.
	Synchronous bool `json:"synchronous,omitempty"`
	// Undrafted says that hooks kept drafts off.
	Undrafted bool `json:"undrafted,omitempty"`
}

// maxSteered bounds the positions that a report lists.
const maxSteered = 256
