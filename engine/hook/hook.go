// Package hook is the contract between the token loop and what may look into it
// and change it: scripts, plugins, the dashboard, the API's steer field. It names
// what a hook touches by meaning (a logit, an expert of a layer), never by kernel
// or tensor, and knows neither the engine nor any of its clients.
//
// A hook serves one choice of one request. A Chain holds the hooks of a choice:
// it calls them by priority, at the lags that they declare, and makes one answer
// of theirs, which the engine carries out:
//
//	chain, err := hook.NewChain(options, hooks...)
//	ids, err := chain.Prompt(ids)              // before the prompt is read
//	steering, err := chain.Steer(position)     // before the row at a position is read
//	verdict, err := chain.Logits(at, source)   // before the token at a position is drawn
//	verdict, err := chain.Sample(at, chooser)  // where a hook wants to choose
//	chain.Token(token); chain.Routing(record)  // what came of it, by position
//	chain.Hidden(record)                       // likewise
//	chain.Within(place, at, layer, values)     // in the midst of the forward pass
//	report := chain.Finish(finish)
//
// What a handler does at a token's position comes into force there: logits and sample
// edit the row that the token is drawn from, and steer from the row that reads it on.
// Token and routing events come Lag positions late, so that their effects are in force
// from their own position plus Lag on, whatever the clock says.
//
// Edits are recorded, not carried out: only reads need numbers of the device.
package hook

import "time"

// Phase says what part of a sequence a position belongs to.
type Phase uint8

// Phases.
const (
	InPrompt Phase = iota
	InDecode
)

func (p Phase) String() string { return [...]string{"prompt", "decode"}[p] }

// At is where a hook is called: the position of the token to be drawn (logits,
// sample), of the token that was (token), or of the row that was read (routing).
type At struct {
	Position int
	Choice   int // index of the choice within its request
	Attempt  int // counts redraws of the same position
	Phase    Phase
}

// Events is a set of events.
type Events uint8

// Events, in the order in which a position has them.
const (
	OnPrompt Events = 1 << iota
	OnLogits
	OnSample
	OnToken
	OnRouting
	OnFinish
	OnHidden // behind routing; or within the forward pass, see Spec.Write
	OnRoute  // within the forward pass
)

var eventNames = [...]string{"prompt", "logits", "sample", "token", "routing", "finish", "hidden", "route"}

// Has says whether all of some events are in the set.
func (e Events) Has(some Events) bool { return e&some == some }

// String names the first event of the set.
func (e Events) String() string {
	for i, name := range eventNames {
		if e.Has(1 << i) {
			return name
		}
	}
	return "none"
}

// Lags: how many positions behind an event its effects come into force.
const (
	// DefaultLag lets the device work ahead of the hook.
	DefaultLag = 2
	// MinLag makes the hook's stream wait for it at every token.
	MinLag = 1
)

// Spec is what a hook declares of itself, once.
type Spec struct {
	Name     string        // of the script or plugin, for reports and errors
	Events   Events        // those that it wants
	Priority int           // higher ones are called first, and win where one must
	Lag      int           // 0 stands for DefaultLag
	Budget   time.Duration // of one call; 0 stands for Options.Budget
	// CaptureAll asks for the routing of prompt rows too, and their hidden and route
	// events.
	CaptureAll bool
	// Hidden are the layers that hidden events are of, Route those of route events:
	// ascending, MaxInside of either at most. With Write, hidden events come within the
	// forward pass and may change the residual. A row that is read again, after a rewind
	// say, has the events within it again.
	Hidden, Route []int
	Write         bool
	// Hold is how many tokens are held back, so that the hook may take them back (see
	// Call.Rewind); 0 for none.
	Hold int
	// Top is how many of the most likely tokens each logits event should carry: a
	// hint, so that they need not be fetched one by one.
	Top int
	// Far says that it runs in another process, where the first call of a handler may
	// take four budgets.
	Far bool
	// Swift says that its handlers neither read a row nor wait for anything: they are called
	// where their event is, without a goroutine that could be left behind.
	Swift bool
}

// Hook is one script or plugin, for one choice. One goroutine calls it at a time.
// It gets the events of its Spec only.
//
// An error drops what the call wanted and leaves the token to the default. It
// should be a *Fault; others count as exceptions.
type Hook interface {
	// Start is called once, before anything else: steering set here is in force from
	// prompt token 0 on. An error refuses the request.
	Start(*Call) error
	// Spec is asked for after Start; a Far hook's also before, for what holds of every choice.
	Spec() Spec
	// Prompt may replace the ids before they are read.
	Prompt(*Call, *Prompt) error
	// Logits may edit the logits of a token to be drawn.
	Logits(*Call, *Logits) error
	// Sample may choose the token: chosen says whether it did.
	Sample(*Call, *Candidates) (id int32, chosen bool, err error)
	Token(*Call, *Token) error
	Routing(*Call, *Routing) error
	// Hidden is told the residual behind a layer, and Route the logits of its router
	// before experts are chosen.
	Hidden(*Call, *Hidden) error
	Route(*Call, *Router) error
	Finish(*Call, *Finish) error
	// Close lets go of the hook, whatever became of it.
	Close()
}

// None is a hook that wants nothing: embed it to serve some events only.
type None struct{}

// Start implements Hook.
func (None) Start(*Call) error { return nil }

// Prompt implements Hook.
func (None) Prompt(*Call, *Prompt) error { return nil }

// Logits implements Hook.
func (None) Logits(*Call, *Logits) error { return nil }

// Sample implements Hook.
func (None) Sample(*Call, *Candidates) (int32, bool, error) { return 0, false, nil }

// Token implements Hook.
func (None) Token(*Call, *Token) error { return nil }

// Routing implements Hook.
func (None) Routing(*Call, *Routing) error { return nil }

// Hidden implements Hook.
func (None) Hidden(*Call, *Hidden) error { return nil }

// Route implements Hook.
func (None) Route(*Call, *Router) error { return nil }

// Finish implements Hook.
func (None) Finish(*Call, *Finish) error { return nil }

// Close implements Hook.
func (None) Close() {}
