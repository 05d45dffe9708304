package hook

import "time"

// ReadClass is what a read costs.
type ReadClass uint8

// Read classes.
const (
	// ReadTop rides in the result of the step: the most likely tokens, 256 at most.
	ReadTop ReadClass = iota
	// ReadSum needs a pass over the row on the device: entropy, log-probability.
	ReadSum
	// ReadRow brings a whole row to the host: ranks, full.
	ReadRow
	// ReadHidden copies a residual, or the logits of a router.
	ReadHidden
	// ReadLens runs the model's head on a residual, and is a row.
	ReadLens
	readClasses
)

var readNames = [...]string{"top", "sum", "row", "hidden", "lens"}

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
	Within  int            `json:"within,omitempty"`  // calls in the midst of the forward pass
	Written int            `json:"written,omitempty"` // of them, that changed values
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
	// Uncaptured says that hooks looked into the forward pass, which then runs phase by
	// phase on a GPU, and not as one graph.
	Uncaptured bool `json:"uncaptured,omitempty"`
	// Undrafted says that hooks kept drafts off.
	Undrafted bool `json:"undrafted,omitempty"`
}

// maxSteered bounds the positions that a report lists.
const maxSteered = 256
