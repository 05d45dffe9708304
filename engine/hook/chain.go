package hook

import (
	"cmp"
	"slices"
	"time"
)

// Options of a chain: what its hooks may know and do.
type Options struct {
	Shape  Shape
	Tokens int // ids that may be drawn: 0 to Tokens-1
	Seed   uint64
	Choice int
	// Budget of a call where the hook declares none; 0 for none at all, as in tests
	// and replay: then declared budgets do not count either.
	Budget  time.Duration
	OnError OnError
	// Steer is in force with the highest priority; nil for none.
	Steer *Steering
	// Notify is told what hooks log and emit, and how they fail; it must return
	// quickly. nil for nobody.
	Notify func(Notice)
	// Lens makes a row of logits of a residual, which it does not keep: what the last
	// norm and the head make of it. Nil where there is no model.
	Lens func(residual []float32) (Source, error)
}

// MaxHooks bounds the hooks of a choice.
const MaxHooks = 8

// Chain holds the hooks of one choice. One goroutine uses it at a time. A nil Chain
// is one without hooks.
type Chain struct {
	options Options
	links   []*link // by priority
	wants   Events
	prompt  int // tokens
	turn    int // position that the calls of the moment count for
	queue   []event

	forced   []injected // to come
	stop     string
	rewind   *rewind
	kept     []states // of the positions that can be rewound to
	attempt  int
	redraws  int    // rewinds since a new position was reached
	farthest int    // the newest
	solo     *Reach // of the far end; nil for a chain
	degraded map[int]bool
	merged   merged
	beside   []beside
	began    bool // the prompt is being read
	closed   bool
}

// injected is a token that a hook puts there.
type injected struct {
	id int32
	by string
}

// link is a hook in its chain.
type link struct {
	Hook
	spec    Spec
	lag     int
	budget  time.Duration
	warm    Events // those that it has been called for
	steer   *Steering
	seen    int       // changes of steer that versions have
	version []version // by position
	history history

	usage  Usage
	reads  [readClasses]int
	faults map[FaultKind]int
	edited int // the last turn with edits
	struck int // the last turn with a fault
	row    int // turns in a row
	off    bool
}

// event is something that hooks are told when it is due.
type event struct {
	position int
	token    *Token
	record   *Record
	hidden   *HiddenRecord
	told     int // of the links, as bits
}

// NewChain starts the hooks. An error closes all of them; it is a *Fault.
func NewChain(o Options, hooks ...Hook) (*Chain, error) {
	c := &Chain{options: o, degraded: map[int]bool{}}
	if len(hooks) > MaxHooks {
		closeAll(hooks)
		return nil, faultf(BadValue, "%d hooks on one request: %d at most", len(hooks), MaxHooks)
	}
	for _, h := range hooks {
		l := &link{Hook: h, steer: NewSteering(o.Shape), faults: map[FaultKind]int{}, struck: -2, edited: -1, lag: DefaultLag, budget: o.Budget}
		if err := c.begin(l); err != nil {
			closeAll(hooks)
			return nil, err
		}
		c.links = append(c.links, l)
		c.wants |= l.spec.Events
	}
	slices.SortStableFunc(c.links, func(a, b *link) int { return cmp.Compare(b.spec.Priority, a.spec.Priority) })
	return c, nil
}

func closeAll(hooks []Hook) {
	for _, h := range hooks {
		h.Close()
	}
}

// begin calls Start and takes over what the hook declares.
func (c *Chain) begin(l *link) error {
	if spec := l.Spec(); spec.Far { // what it declares of all choices: its Start too may take longer
		l.adopt(spec, c.options.Budget)
	}
	call := c.open(l, 0, At{Choice: c.options.Choice})
	err := c.close(call, guarded(func() error { return l.Start(call) }))
	l.mark(0)
	l.spec = l.Spec()
	if l.usage.Name = l.spec.Name; err == nil && (l.spec.Lag < 0 || l.spec.Lag > DefaultLag) {
		err = faultf(BadValue, "a lag of %d: it is %d or %d", l.spec.Lag, MinLag, DefaultLag)
	}
	if err == nil && (l.spec.Hold < 0 || l.spec.Hold > MaxHold) {
		err = faultf(BadValue, "%d tokens to hold back: 0 to %d are possible", l.spec.Hold, MaxHold)
	}
	if err == nil {
		err = c.checkInside(&l.spec)
	}
	if err != nil {
		f := asFault(err)
		f.Hook, f.Event = l.spec.Name, "start"
		return f
	}
	l.adopt(l.spec, c.options.Budget)
	return nil
}

// Needs is what the hooks of a chain ask of the engine.
type Needs struct {
	Events      Events
	Slow        Events // those of hooks that may read a row or take their time
	Synchronous bool   // the next row waits for what became of the last
	CaptureAll  bool   // routing of prompt rows
	Top         int    // candidates that each step should bring along
	Hold        int    // tokens to hold back, for hooks may take them back
}

// Needs returns what the hooks that are still on ask for.
func (c *Chain) Needs() Needs {
	var n Needs
	if c == nil {
		return n
	}
	n.Hold = c.hold()
	for _, l := range c.links {
		if l.off {
			continue
		}
		n.Events |= l.spec.Events
		if !l.spec.Swift {
			n.Slow |= l.spec.Events
		}
		n.Synchronous = n.Synchronous || l.lag == MinLag || l.spec.Events&(OnSample|OnRoute) != 0 || l.spec.Write || len(c.beside) > 0
		n.CaptureAll = n.CaptureAll || l.spec.CaptureAll && l.spec.Events.Has(OnRouting)
		n.Top = max(n.Top, l.spec.Top)
	}
	return n
}

// Empty says that there is nothing to call and nothing to steer.
func (c *Chain) Empty() bool {
	return c == nil || len(c.links) == 0 && c.options.Steer.Neutral()
}

// open begins a call.
func (c *Chain) open(l *link, e Events, at At) *Call {
	return &Call{At: at, Event: e, Steer: l.steer, chain: c, link: l, clock: Clock{began: time.Now()}}
}

// close ends a call and sums up what it cost.
func (c *Chain) close(call *Call, err error) error {
	busy, l := call.Busy(), call.link
	call.over.Store(true)
	if call.Event != 0 {
		l.usage.Calls++
	} else {
		l.usage.Begun += busy
	}
	l.usage.Time += busy
	l.usage.Waited += call.clock.Waited()
	if budget := call.Budget(); err == nil && budget > 0 && busy > budget {
		err = overBudget(busy, budget) // its answer came late, and is ignored
	}
	l.warm |= call.Event
	return err
}

// call calls one handler of one hook. ok says that its answer counts; the error ends
// the choice.
func (c *Chain) call(l *link, e Events, at At, do func(*Call) error) (call *Call, ok bool, err error) {
	call = c.open(l, e, at)
	before, sequences := *l.steer, len(c.beside)
	fault := c.close(call, guarded(func() error { return do(call) }))
	if fault != nil {
		*l.steer, c.beside = before, c.beside[:sequences]
		return call, false, c.fail(l, e, at, fault)
	}
	l.mark(c.turn)
	return call, true, nil
}

// fail notes a fault: its token takes the default.
func (c *Chain) fail(l *link, e Events, at At, err error) error {
	f := asFault(err)
	f.Hook, f.Event, f.Position = l.spec.Name, e.String(), at.Position
	l.faults[f.Kind]++
	l.usage.Last = f.Error()
	c.degraded[c.turn] = true
	if l.struck != c.turn-1 && l.struck != c.turn {
		l.row = 0
	}
	if l.struck != c.turn {
		l.row, l.struck = l.row+1, c.turn
	}
	c.notify(Notice{Hook: f.Hook, Position: f.Position, Name: "fault", Fault: f})
	if c.options.OnError == Fail {
		return f
	}
	if gone := f.Kind == Lost || f.Kind == Abandoned || f.Kind == OutOfMemory; gone || l.row >= Strikes {
		l.off, l.usage.Off = true, true
		c.notify(Notice{Hook: f.Hook, Position: f.Position, Name: "off", Fault: f})
	}
	return nil
}

func (c *Chain) notify(n Notice) {
	if c.options.Notify != nil {
		c.options.Notify(n)
	}
}

// on lists the hooks that want an event.
func (c *Chain) on(e Events) func(func(*link) bool) {
	return func(yield func(*link) bool) {
		for _, l := range c.links {
			if !l.off && l.spec.Events.Has(e) && !yield(l) {
				return
			}
		}
	}
}

// Prompt lets hooks replace the ids of the prompt. It is called once, before the
// prompt is read.
func (c *Chain) Prompt(ids []int32) ([]int32, error) {
	if c == nil {
		return ids, nil
	}
	for l := range c.on(OnPrompt) {
		p := &Prompt{IDs: slices.Clone(ids)}
		at := At{Choice: c.options.Choice, Phase: InPrompt}
		_, ok, err := c.call(l, OnPrompt, at, func(call *Call) error {
			if err := l.Prompt(call, p); err != nil {
				return err
			}
			if len(p.IDs) == 0 {
				return faultf(NothingLeft, "a prompt without tokens")
			}
			return c.checkIDs("prompt", p.IDs)
		})
		if err != nil {
			return nil, err
		}
		if ok {
			ids = p.IDs
		}
	}
	c.prompt, c.turn = len(ids), len(ids)
	return ids, nil
}

// Token tells what was chosen. Hooks get it when it is due: lag positions behind.
func (c *Chain) Token(t Token) {
	if c != nil && c.wants.Has(OnToken) {
		kept := t // here, so that it costs nothing where nobody wants it
		c.enqueue(event{position: t.Position, token: &kept})
	}
}

// Routing tells what a row was routed to, likewise. The record's slices are kept.
func (c *Chain) Routing(r Record) {
	if c != nil && c.wants.Has(OnRouting) {
		kept := r
		c.enqueue(event{position: r.Position, record: &kept})
	}
}

// enqueue keeps the queue by position, a token before its routing and that before its
// residuals, in whatever order a step gives them.
func (c *Chain) enqueue(e event) {
	at := len(c.queue)
	for at > 0 && (c.queue[at-1].position > e.position || c.queue[at-1].position == e.position && c.queue[at-1].rank() > e.rank()) {
		at--
	}
	c.queue = slices.Insert(c.queue, at, e)
}

// rank orders events of a position.
func (e *event) rank() int {
	switch {
	case e.token != nil:
		return 0
	case e.record != nil:
		return 1
	}
	return 2
}

// Verdict is what hooks have made of a token to be drawn.
type Verdict struct {
	Stop    string // not "": the choice ends here, for this reason, and nothing is drawn
	Decided bool   // the token is ID and is not drawn
	Forced  bool   // likewise: it was injected
	ID      int32  // of Decided
	By      string // likewise, the hook that decided
	// Instead is the token that would have been drawn, where that is known and another one.
	Instead *int32
	Edits   *Folded // nil where the row is left alone
	// Rewind takes tokens back: what is drawn next is that of position To.
	Rewind bool
	To     int
	// Attempt counts rewinds: draws are keyed by it.
	Attempt int
}

// Settle tells hooks what is due before a position, and returns what they have decided of
// it without its row. Logits does so too: Settle is for who may have no row for it.
func (c *Chain) Settle(position int) (Verdict, error) {
	if c == nil {
		return Verdict{}, nil
	}
	c.turn = position
	c.renew()
	if err := c.due(position); err != nil {
		return Verdict{}, err
	}
	if err := c.keep(); err != nil { // of injected tokens too: they can be taken back
		return Verdict{}, err
	}
	return c.decided()
}

// Logits tells hooks what is due and collects their edits of the row that the token
// at a position is drawn from. source may wait for the device: edits alone never
// call it. Both are called for every token of the choice, in order. beside has a source
// for each of Sequences.
func (c *Chain) Logits(at At, entry, model Source, beside ...Source) (Verdict, error) {
	if c == nil {
		return Verdict{}, nil
	}
	if v, err := c.Settle(at.Position); v.Stop != "" || v.Decided || v.Rewind || err != nil {
		return v, err
	}
	at.Choice, at.Phase, at.Attempt = c.options.Choice, InDecode, at.Attempt+c.attempt
	var reads *Reads
	var others []*Reads
	all := NewEdits(c.options.Tokens)
	for l := range c.on(OnLogits) {
		if reads == nil {
			reads, others = NewReads(c.options.Tokens, entry, model), c.others(beside)
		}
		own := NewEdits(c.options.Tokens)
		own.others = len(others)
		both := all
		_, ok, err := c.call(l, OnLogits, at, func(call *Call) error {
			reads.bind(call)
			for _, r := range others {
				r.bind(call)
			}
			own.check = call.Usable
			err := l.Logits(call, &Logits{own, reads, others})
			if err == nil {
				both, err = all.behind(own)
			}
			return err
		})
		if err != nil {
			return Verdict{}, err
		}
		if ok {
			all = both
			l.usage.Edits += len(own.list)
			if !own.Empty() {
				l.edited = c.turn
			}
		}
	}
	folded, err := all.Fold()
	if err != nil || folded.Neutral() {
		return Verdict{Attempt: c.attempt}, err
	}
	return Verdict{Edits: folded, Attempt: c.attempt}, nil
}

// decided carries out a rewind, or takes the end or the next injected token.
func (c *Chain) decided() (Verdict, error) {
	v := Verdict{Attempt: c.attempt}
	switch {
	case c.rewind != nil:
		to := *c.rewind
		c.rewind = nil
		err := c.back(to)
		return Verdict{Rewind: true, To: to.to, Attempt: c.attempt}, err
	case c.stop != "":
		v.Stop = c.stop
	case len(c.forced) > 0:
		v.Decided, v.Forced, v.ID, v.By = true, true, c.forced[0].id, c.forced[0].by
		c.forced = c.forced[1:]
	}
	return v, nil
}

// Sample lets hooks choose the token, by priority, until one has. allowed says
// whether a token may be chosen at all; nil for all.
func (c *Chain) Sample(at At, from Chooser, allowed func(int32) bool) (Verdict, error) {
	if c == nil {
		return Verdict{}, nil
	}
	at.Choice, at.Phase = c.options.Choice, InDecode
	at.Attempt += c.attempt
	seen := NewCandidates(nil, from)
	for l := range c.on(OnSample) {
		var id int32
		var chosen bool
		call, ok, err := c.call(l, OnSample, at, func(call *Call) (err error) {
			seen.call = call
			if id, chosen, err = l.Sample(call, seen); err != nil || !chosen {
				return err
			}
			if allowed != nil && id >= 0 && int(id) < c.options.Tokens && !allowed(id) {
				return faultf(BadID, "sample chose token %d, which the grammar or a ban does not allow", id)
			}
			return c.checkIDs("choice", []int32{id})
		})
		if err != nil {
			return Verdict{}, err
		}
		if !ok {
			continue
		}
		if c.take(call); c.stop != "" || len(c.forced) > 0 || c.rewind != nil {
			return c.decided()
		}
		if chosen {
			l.usage.Chosen++
			v := Verdict{Decided: true, ID: id, By: l.spec.Name, Attempt: c.attempt}
			if seen.drawn != nil && *seen.drawn != id {
				l.usage.Changed++
				v.Instead = seen.drawn
			}
			return v, nil
		}
	}
	return Verdict{}, nil
}

// take keeps what a call wants of the sequence's course.
func (c *Chain) take(call *Call) {
	for _, id := range call.inject {
		c.forced = append(c.forced, injected{id, call.link.spec.Name})
	}
	if call.back != nil {
		c.rewind = call.back
	}
	if c.stop == "" {
		c.stop = call.stop
	}
}

// due delivers the events that every hook is to know before a position: those lag
// positions behind it, in their order, and no later ones, whatever the clock says.
func (c *Chain) due(position int) error {
	done := 0
	for i := range c.queue {
		e := &c.queue[i]
		for n, l := range c.links {
			if e.told>>n&1 == 1 || e.position+l.lag > position {
				continue
			}
			e.told |= 1 << n
			if err := c.tell(l, e); err != nil {
				return err
			}
		}
		if e.told == 1<<len(c.links)-1 && done == i {
			done = i + 1
		}
	}
	c.queue = slices.Delete(c.queue, 0, done)
	return nil
}

// tell delivers one event to one hook.
func (c *Chain) tell(l *link, e *event) error {
	at := At{Position: e.position, Choice: c.options.Choice, Attempt: c.attempt, Phase: InDecode}
	if e.hidden != nil {
		return c.tellHidden(l, e.hidden, at)
	}
	kind, handle := OnToken, func(call *Call) error { t := *e.token; return l.Token(call, &t) }
	if e.record != nil {
		kind, handle = OnRouting, func(call *Call) error {
			l.history.add(e.record, c.options.Shape.Experts)
			return l.Routing(call, &Routing{Record: e.record, call: call, history: &l.history, experts: c.options.Shape.Experts})
		}
		if e.record.Prompt {
			if at.Phase = InPrompt; !l.spec.CaptureAll {
				return nil
			}
		}
	}
	if l.off || !l.spec.Events.Has(kind) {
		return nil
	}
	call, ok, err := c.call(l, kind, at, handle)
	if ok {
		c.take(call)
	}
	return err
}

// Credit tells what would have been drawn from the last row without the hooks, where
// the engine knows: if it is another token, those that edited the row changed it.
func (c *Chain) Credit(drawn, otherwise int32) {
	if c == nil || drawn == otherwise {
		return
	}
	for _, l := range c.links {
		if l.edited == c.turn {
			l.usage.Changed++
		}
	}
}

// Spoil notes that the edits of the last row could not be carried out (they ban what
// the grammar left, for example): the fault of every hook that made some. The token
// takes the default.
func (c *Chain) Spoil(at At, err error) error {
	for l := range c.on(OnLogits) {
		if l.edited == c.turn {
			if err := c.fail(l, OnLogits, at, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// Finish tells hooks what is left to tell, and how the choice ended. Their errors
// are in the report.
func (c *Chain) Finish(f Finish) Report {
	if c == nil {
		return Report{}
	}
	policy := c.options.OnError
	c.options.OnError = Disable // there is nothing left to fail
	_ = c.due(1 << 62)
	for l := range c.on(OnFinish) {
		end := f
		_, _, _ = c.call(l, OnFinish, At{Position: c.turn, Choice: c.options.Choice, Phase: InDecode},
			func(call *Call) error { return l.Finish(call, &end) })
	}
	c.options.OnError = policy
	return c.Report()
}

// Close lets go of the hooks.
func (c *Chain) Close() {
	if c == nil || c.closed {
		return
	}
	c.closed = true
	for _, l := range c.links {
		l.Close()
	}
}

// Report says what the hooks have cost and done so far.
func (c *Chain) Report() Report {
	var r Report
	if c == nil {
		return r
	}
	r.Degraded = len(c.degraded)
	for _, l := range c.links {
		u := l.usage
		u.Micros = u.Time.Microseconds()
		for class, n := range l.reads {
			if n > 0 {
				u.Reads = with(u.Reads, ReadClass(class).String(), n)
			}
		}
		for kind, n := range l.faults {
			u.Faults = with(u.Faults, kind.String(), n)
		}
		r.Hooks = append(r.Hooks, u)
		needs := l.lag == MinLag || l.spec.Events&(OnSample|OnRoute) != 0 || l.spec.Write || len(c.beside) > 0
		r.Synchronous = r.Synchronous || needs
		r.Uncaptured = r.Uncaptured || l.spec.Events&(OnRoute|OnHidden) != 0
		r.Undrafted = r.Undrafted || needs || len(l.version) > 1 || !l.steer.Neutral()
	}
	return r
}

func with(m map[string]int, key string, n int) map[string]int {
	if m == nil {
		m = map[string]int{}
	}
	m[key] = n
	return m
}
