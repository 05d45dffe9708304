package hook

import (
	"maps"
	"slices"
	"time"
)

// Solo calls one hook by itself, for who carries its calls from elsewhere: the far end
// of a chain, in another process. What belongs to a chain stays there: lags, policy,
// the order among hooks.
type Solo struct {
	chain *Chain
	link  *link
}

// Reach says what of the contract the way to a far hook carries. The rest is refused
// there.
type Reach struct {
	Inside    bool // hidden and route events
	Rewind    bool
	Sequences bool
}

// Outcome is what a call wanted, beside its answer.
type Outcome struct {
	Steer     *Steering // all that is set now; nil where nothing changed
	Stop      string
	Inject    []int32
	Rewind    *Rewind
	Sequences [][]int32 // prompts of sequences beside that it began
	Notices   []Notice
}

// Rewind is what Call.Rewind is asked for.
type Rewind struct {
	To   int  // position
	Same bool // the attempt stays
}

// NewSolo returns one that calls a hook. Of the options, Budget, OnError and Steer do
// not count.
func NewSolo(o Options, h Hook, reach Reach) *Solo {
	return &Solo{chain: &Chain{options: o, solo: &reach}, link: &link{Hook: h, steer: NewSteering(o.Shape), lag: DefaultLag, faults: map[FaultKind]int{}}}
}

// Call calls the hook: do is told the call, and calls the handler. budget is that of
// this call, 0 for none.
func (s *Solo) Call(e Events, at At, budget time.Duration, do func(*Call) error) (Outcome, error) {
	var out Outcome
	s.chain.options.Notify = func(n Notice) { out.Notices = append(out.Notices, n) }
	before, sequences := *s.link.steer, len(s.chain.beside)
	call := s.chain.open(s.link, e, at)
	call.limit = budget
	err := s.chain.close(call, guarded(func() error { return do(call) }))
	if err == nil && e == 0 {
		spec := s.link.Spec()
		if err = s.chain.checkInside(&spec); err == nil {
			s.link.adopt(spec, 0)
		}
	}
	if err != nil {
		*s.link.steer, s.chain.beside = before, s.chain.beside[:sequences]
		return Outcome{Notices: out.Notices}, asFault(err)
	}
	if s.link.steer.changes != before.changes {
		now := *s.link.steer
		out.Steer = &now
	}
	out.Stop, out.Inject = call.stop, call.inject
	if call.back != nil {
		out.Rewind = &Rewind{call.back.to, call.back.same}
	}
	for _, b := range s.chain.beside[sequences:] {
		out.Sequences = append(out.Sequences, b.ids)
	}
	return out, nil
}

// Place tells where the choice is: the position of the token to come, and how many
// sequences of the hook are beside it.
func (s *Solo) Place(next, sequences int) {
	s.chain.turn = next
	s.chain.beside = s.chain.beside[:min(sequences, len(s.chain.beside))]
}

// Back tells that tokens from a position on were taken back.
func (s *Solo) Back(to int) { s.link.history.back(to, s.chain.options.Shape.Experts) }

// Steer sets the steering that the hook has before its next call.
func (s *Solo) Steer(to *Steering) { s.link.steer.replace(to) }

// Logits returns edits, empty, and reads of a row as it enters the hooks, of the model's
// own, and of those of sequences beside, that are good for the call.
func (s *Solo) Logits(call *Call, entry, model Source, beside ...Source) *Logits {
	l := &Logits{NewEdits(s.chain.options.Tokens), NewReads(s.chain.options.Tokens, entry, model), s.chain.others(beside)}
	l.Edits.check, l.others = call.Usable, len(beside)
	for _, r := range append(l.beside, l.Reads) {
		r.bind(call)
	}
	return l
}

// Routing takes a record in and returns what the hook sees of it.
func (s *Solo) Routing(call *Call, r *Record) *Routing {
	s.link.history.add(r, s.chain.options.Shape.Experts)
	return &Routing{Record: r, call: call, history: &s.link.history, experts: s.chain.options.Shape.Experts}
}

// Hidden returns what the hook sees of a residual. written, which may be nil, is what the
// hook writes in its place.
func (s *Solo) Hidden(call *Call, layer int, values []float32, within bool) (h *Hidden, written func() []float32) {
	h, w := &Hidden{Position: call.Position, Layer: layer, values: values, call: call}, &writing{}
	if within {
		h.within = w
	}
	return h, func() []float32 { return w.written }
}

// Router returns what the hook sees of a router, likewise.
func (s *Solo) Router(call *Call, layer int, logits []float32) (r *Router, written func() []float32) {
	w := &writing{}
	return &Router{Position: call.Position, Layer: layer, logits: logits, call: call, within: w, k: s.chain.options.Shape.K},
		func() []float32 { return w.written }
}

// Adopt sets the steering of the call to what it is elsewhere, and keeps what was
// wanted beside, but for Sequences, which Call.Sequence begins. Errors are *Fault, and leave everything as it was.
func (c *Call) Adopt(o Outcome) error {
	if err := c.Usable(); err != nil {
		return err
	}
	for _, n := range o.Notices {
		if err := c.Emit(n.Name, n.Value); err != nil {
			return err
		}
	}
	if o.Stop != "" {
		if err := c.Stop(o.Stop); err != nil {
			return err
		}
	}
	if len(o.Inject) > 0 {
		if err := c.Inject(o.Inject); err != nil {
			return err
		}
	}
	if o.Rewind != nil {
		if err := c.Rewind(o.Rewind.To, o.Rewind.Same); err != nil {
			return err
		}
	}
	if o.Steer != nil {
		c.Steer.replace(o.Steer)
	}
	return nil
}

// replace takes other steering of the same shape over.
func (s *Steering) replace(o *Steering) {
	s.layers, s.vectors, s.decodeOnly = slices.Clone(o.layers), slices.Clone(o.vectors), o.decodeOnly
	s.changes++
}

// Clone returns steering that stays as s is now.
func (s *Steering) Clone() *Steering {
	now := *s
	return &now
}

// Equal says whether two do the same. Nil is neutral.
func (s *Steering) Equal(o *Steering) bool {
	if s == nil || o == nil {
		return s.Neutral() && o.Neutral() && !(s != nil && s.decodeOnly) && !(o != nil && o.decodeOnly)
	}
	return s.decodeOnly == o.decodeOnly && slices.EqualFunc(s.layers, o.layers, same) && slices.EqualFunc(s.vectors, o.vectors, func(a, b Vector) bool {
		return a.Name == b.Name && a.Layer == b.Layer && a.Scale == b.Scale && slices.Equal(a.Values, b.Values)
	})
}

// Seed is what random numbers of the call are keyed by.
func (c *Call) Seed() uint64 { return c.chain.options.Seed }

// Adopt records edits and settings that were recorded elsewhere, checking each.
func (e *Edits) Adopt(list []Edit, values map[Setting]float64) error {
	for _, edit := range list {
		var err error
		switch edit.Op {
		case Bias:
			err = e.Bias(edit.IDs, edit.Value)
		case Ban:
			err = e.Ban(edit.IDs)
		case Only:
			err = e.Only(edit.IDs)
		case Scale:
			err = e.Scale(edit.Value)
		default:
			err = e.Add(edit.Other, edit.Value)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range slices.Sorted(maps.Keys(values)) {
		if s >= settings {
			return faultf(BadValue, "setting %d: there is none", s)
		}
		if err := e.Set(s, values[s]); err != nil {
			return err
		}
	}
	return nil
}

// All returns the settings that were set.
func (v *Values) All() map[Setting]float64 {
	out := map[Setting]float64{}
	for s := range settings {
		if v.set[s] {
			out[s] = v.value[s]
		}
	}
	return out
}
