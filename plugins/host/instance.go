package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// Env is what a choice of a plugin sees of the world.
type Env struct {
	Params    map[string]any // as the request gives them
	Model     hook.Model
	Request   hook.Request
	Tokenizer hook.Tokenizer // nil where the model has none
	// Token returns the bytes of a token, which may be part of a character; nil where the
	// model has no tokenizer.
	Token func(id int32) []byte
	// Vectors finds steering vectors by name; nil where there are none.
	Vectors func(name string) ([]float32, error)
}

// Instance is a plugin at work for one choice: a hook.
type Instance struct {
	plugin   *Plugin
	launched *launched
	env      Env
	params   string
	spec     wire.Spec
	stream   pb.PluginService_SequenceClient
	cancel   context.CancelFunc

	out      chan *pb.SequenceRequest  // to the goroutine that sends
	answers  chan *pb.SequenceRequest  // likewise, of one place: who asks without end waits for it
	in       chan *pb.SequenceResponse // from the one that receives
	gone     chan struct{}             // closed when nothing comes any more
	why      error                     // then
	closed   chan struct{}             // by Close
	observer atomic.Bool               // spec.Observer, for the goroutine that receives
	running  sync.WaitGroup

	step      uint64         // of the last Step
	unreplied []uint64       // steps that were given up, and whose replies are still to come
	steer     *hook.Steering // as the plugin has it; nil for neutral
	astray    bool           // what it has is not known
	rewound   bool
	sequences []int // its own, by the chain's index
	missed    uint64
}

// waiting is how many steps of an observer may wait to be sent.
const waiting = 256

// Start begins a choice with the plugin, and waits while the plugin starts. Errors are
// *UnavailableError, *hook.ParamError, or the context's. Close it where no chain does.
func (p *Plugin) Start(ctx context.Context, e Env) (*Instance, error) {
	// The choice outlives the request's context by its last events; Close ends it.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l, stream, err := p.sequence(ctx, inner)
	if err != nil {
		cancel()
		return nil, err
	}
	params, err := l.about.fill(e.Params)
	if err != nil {
		cancel() // and the stream with it
		return nil, err
	}
	i := &Instance{plugin: p, launched: l, env: e, params: params, spec: l.about.Spec, stream: stream, cancel: cancel,
		out: make(chan *pb.SequenceRequest, waiting), answers: make(chan *pb.SequenceRequest, 1), in: make(chan *pb.SequenceResponse), gone: make(chan struct{}), closed: make(chan struct{})}
	i.running.Go(i.send)
	i.running.Go(func() { i.receive(inner) })
	p.choices.Add(1)
	return i, nil
}

// sequence opens a stream of a context. One that cannot be opened is a plugin's that has
// just ended: the next process is waited for.
func (p *Plugin) sequence(ctx, inner context.Context) (*launched, pb.PluginService_SequenceClient, error) {
	for {
		l, err := p.await(ctx)
		if err != nil {
			return nil, nil, err
		}
		stream, err := l.service.Sequence(inner)
		if err == nil {
			return l, stream, nil
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-l.process.ended:
			timer.Stop()
		case <-timer.C:
			return nil, nil, &UnavailableError{Name: p.Name(), After: time.Second, Err: err}
		}
	}
}

// fill makes the parameters of a choice, as JSON. The error is a *hook.ParamError.
func (a *About) fill(params map[string]any) (string, error) {
	filled, err := a.Params.Fill(params)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(filled)
	return string(text), err
}

// send sends what is to be sent: the stream makes who sends wait while the plugin does not
// read.
func (i *Instance) send() {
	defer func() { _ = i.stream.CloseSend() }() // receive knows what became of it
	for open := true; open || len(i.out) > 0; {
		var m *pb.SequenceRequest
		select {
		case m = <-i.answers:
		case m = <-i.out:
		case <-i.closed:
			open = false
			continue
		}
		if i.stream.Send(m) != nil {
			return
		}
	}
}

// receive takes what comes. An observer's questions it answers itself: nobody else waits.
func (i *Instance) receive(ctx context.Context) {
	defer close(i.gone)
	for {
		m, err := i.stream.Recv()
		if err != nil {
			i.why = err
			return
		}
		if m.GetRead() != nil && i.observer.Load() {
			result, err := i.lookUp(m.GetRead())
			select {
			case i.answers <- answer(result, err):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case i.in <- m:
		case <-ctx.Done():
			i.why = ctx.Err()
			return
		}
	}
}

// Digest names the plugin's program.
func (i *Instance) Digest(int) string { return i.launched.about.Digest }

// Spec implements hook.Hook.
func (i *Instance) Spec() hook.Spec { return i.plugin.host.budgeted(i.spec.Spec) }

// Observer says whether the plugin only looks: nobody waits for what it is told.
func (i *Instance) Observer() bool { return i.spec.Observer }

// lingerFor is how long a plugin may take to see the end of a choice before its stream is
// cut.
const lingerFor = time.Second

// Close implements hook.Hook. What the plugin does of its own afterwards, nobody waits for
// but the host's Close.
func (i *Instance) Close() {
	close(i.closed)
	i.plugin.choices.Add(-1)
	i.plugin.linger(func() {
		timer := time.NewTimer(lingerFor)
		defer timer.Stop()
		for open := true; open; {
			select {
			case <-i.in: // too late
			case <-i.gone:
				open = false
			case <-timer.C:
				open = false
			}
		}
		i.cancel()
		i.running.Wait()
	})
}

// callTime is how long a call without a budget may take, and any with all its reads.
const callTime = 30 * time.Second

// fault makes the fault of a call of what went wrong with it.
func (i *Instance) fault(kind hook.FaultKind, format string, args ...any) error {
	return &hook.Fault{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// lost is the fault of a plugin that is gone.
func (i *Instance) lost() error {
	select {
	case <-i.launched.process.ended:
		return i.fault(hook.Lost, "the plugin %s ended: %v", i.plugin.Name(), i.launched.process.cmd.ProcessState)
	default:
	}
	return i.fault(hook.Lost, "the plugin %s ended its stream: %w", i.plugin.Name(), i.why)
}

// ask sends a message and answers what the plugin asks until its reply is there. Reads do not count
// against the budget.
func (i *Instance) ask(call *hook.Call, m *pb.SequenceRequest, read func(*pb.Read) (*pb.ReadResult, error)) (*pb.Reply, error) {
	i.plugin.calls.Add(1)
	budget := call.Budget()
	if budget == 0 {
		budget = callTime
	}
	timer := time.NewTimer(budget - call.Busy())
	defer timer.Stop()
	latest := time.Now().Add(callTime)
	give := func() error {
		i.unreplied, i.astray = append(i.unreplied, i.step), true
		return i.fault(hook.OverBudget, "the plugin %s took more than its %v", i.plugin.Name(), budget)
	}
	select {
	case i.out <- m:
	case <-i.gone:
		return nil, i.lost()
	case <-timer.C:
		return nil, give()
	}
	for {
		var r *pb.SequenceResponse
		select {
		case r = <-i.in:
		case <-i.gone:
			return nil, i.lost()
		case <-timer.C:
			return nil, give()
		}
		switch {
		case r.GetRead() != nil:
			m := i.look(call, r.GetRead(), read)
			timer.Reset(max(min(budget-call.Busy(), time.Until(latest)), 0))
			select {
			case i.answers <- m:
			case <-i.gone:
				return nil, i.lost()
			case <-timer.C: // it asks, and does not take the answers
				return nil, give()
			}
		case r.GetReply() != nil && len(i.unreplied) > 0 && r.GetReply().GetStep() == i.unreplied[0]:
			i.unreplied = i.unreplied[1:]
			i.plugin.late.Add(1)
		case r.GetReply() != nil && len(i.unreplied) == 0 && r.GetReply().GetStep() == i.step:
			return r.GetReply(), nil
		default:
			i.cancel()
			return nil, i.fault(hook.Lost, "the plugin %s answers step %d where step %d was asked: its stream is cut", i.plugin.Name(), r.GetReply().GetStep(), i.step)
		}
	}
}

// look answers a read within a call.
func (i *Instance) look(call *hook.Call, r *pb.Read, read func(*pb.Read) (*pb.ReadResult, error)) *pb.SequenceRequest {
	if len(i.unreplied) > 0 {
		return answer(nil, i.fault(hook.OverBudget, "the host has gone on: the answer to this step comes too late"))
	}
	defer call.Aside()()
	return answer(read(r))
}

// answer makes the answer to a read.
func answer(result *pb.ReadResult, err error) *pb.SequenceRequest {
	if err != nil {
		result = &pb.ReadResult{Fault: wire.Fault(err)}
	}
	return &pb.SequenceRequest{Message: &pb.SequenceRequest_ReadResult{ReadResult: result}}
}

// adopt takes over what a reply wants, whatever its event.
func (i *Instance) adopt(call *hook.Call, r *pb.Reply) error {
	notices, err := wire.ToNotices(r.GetNotices())
	if err != nil {
		return err
	}
	out := hook.Outcome{Notices: notices}
	if f := r.GetFault(); f != nil {
		_ = call.Adopt(out)
		i.astray = true
		return wire.ToFault(f)
	}
	out.Stop, out.Inject = r.GetStop(), r.GetInject()
	if b := r.GetRewind(); b != nil {
		out.Rewind = &hook.Rewind{To: int(b.GetPosition()), Same: b.GetSameAttempt()}
	}
	if r.GetSteering() != nil {
		if out.Steer, err = wire.ToSteering(r.GetSteering(), i.env.Model.Shape, i.env.Vectors); err != nil {
			i.astray = true
			return err
		}
	}
	sequences := i.sequences[:len(i.sequences):len(i.sequences)]
	for _, ids := range r.GetSequences() {
		n, err := call.Sequence(ids.GetIds())
		if err != nil {
			return err
		}
		sequences = append(sequences, n)
	}
	if err := call.Adopt(out); err != nil {
		i.astray = true
		return err
	}
	i.steer, i.sequences = call.Steer.Clone(), sequences
	return nil
}

// Start implements hook.Hook.
func (i *Instance) Start(call *hook.Call) error {
	r := i.env.Request
	body := ""
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return fmt.Errorf("the body of the request: %w", err)
		}
		body = string(text)
	}
	begin := &pb.Begin{Model: wire.Model(i.env.Model, i.env.Tokenizer != nil), ParamsJson: i.params, Seed: call.Seed(), BudgetMs: wire.Millis(call.Budget()),
		Request: &pb.Request{Id: r.ID, MaxTokens: uint32(r.MaxTokens), Choice: uint32(call.Choice), Choices: uint32(r.Choices), BodyJson: body}}
	reply, err := i.ask(call, &pb.SequenceRequest{Message: &pb.SequenceRequest_Begin{Begin: begin}}, i.lookUp)
	if err != nil {
		i.plugin.faults.Add(1)
		return err
	}
	if reply.GetSpec() != nil {
		spec, err := wire.ToSpec(i.plugin.Name(), reply.GetSpec())
		if err != nil {
			return i.fault(hook.BadValue, "what the plugin %s wants: %w", i.plugin.Name(), err)
		}
		i.spec = spec
	}
	i.observer.Store(i.spec.Observer)
	return i.adopt(call, reply)
}

// State implements hook.Rewinder: the plugin keeps its own, and is told.
func (i *Instance) State() ([]byte, error) { return []byte{}, nil }

// Restore implements hook.Rewinder.
func (i *Instance) Restore([]byte) error {
	i.rewound, i.astray = true, true
	return nil
}

// next makes the next step of a call.
func (i *Instance) next(call *hook.Call) *pb.Step {
	i.step++
	m := &pb.Step{Id: i.step, Event: wire.Event(call.Event), Position: int64(call.Position), Attempt: uint32(call.Attempt), Phase: pb.Phase_PHASE_DECODE,
		BudgetMs: wire.Millis(call.Budget()), Sequences: uint32(len(i.sequences)), NextPosition: int64(call.Next()), Lost: i.missed}
	if call.Phase == hook.InPrompt {
		m.Phase = pb.Phase_PHASE_PROMPT
	}
	if i.astray || !call.Steer.Equal(i.steer) {
		m.Steering = wire.Steering(call.Steer, i.env.Model.Shape.Layers)
		i.astray, i.steer = false, call.Steer.Clone()
	}
	if i.rewound {
		to := int64(call.Next())
		m.RewoundTo, i.rewound = &to, false
	}
	i.missed = 0
	return m
}

// call has the plugin serve a step, and adopts what came of it.
func (i *Instance) call(call *hook.Call, m *pb.Step, read func(*pb.Read) (*pb.ReadResult, error), take func(*pb.Reply) error) error {
	answer := func(r *pb.Read) (*pb.ReadResult, error) {
		if read != nil {
			if result, err := read(r); result != nil || err != nil {
				return result, err
			}
		}
		return i.lookUp(r)
	}
	r, err := i.ask(call, &pb.SequenceRequest{Message: &pb.SequenceRequest_Step{Step: m}}, answer)
	if err == nil {
		err = i.adopt(call, r)
	}
	if err == nil && take != nil {
		err = take(r)
	}
	if err != nil {
		i.plugin.faults.Add(1)
	}
	return err
}

// tell sends a step that nobody waits for.
func (i *Instance) tell(m *pb.Step) error {
	select {
	case <-i.gone:
		return i.lost()
	default:
	}
	i.plugin.calls.Add(1)
	select {
	case i.out <- &pb.SequenceRequest{Message: &pb.SequenceRequest_Step{Step: m}}:
	default:
		i.missed += m.Lost + 1
		i.plugin.lost.Add(1)
	}
	return nil
}

// lookUp answers what a plugin may ask at any time.
func (i *Instance) lookUp(r *pb.Read) (*pb.ReadResult, error) {
	e := &i.env
	none := errors.New("this model has no tokenizer")
	switch what := r.GetWhat().(type) {
	case *pb.Read_Encode:
		if e.Tokenizer == nil {
			return nil, none
		}
		if len(what.Encode.GetText()) > maxText {
			return nil, fmt.Errorf("encode of %d bytes: %d at most", len(what.Encode.GetText()), maxText)
		}
		ids, err := e.Tokenizer.Encode(what.Encode.GetText())
		return &pb.ReadResult{Ids: ids}, err
	case *pb.Read_Decode:
		if e.Tokenizer == nil {
			return nil, none
		}
		for _, id := range what.Decode.GetIds() {
			if id < 0 || int(id) >= e.Model.Tokens {
				return nil, i.fault(hook.BadID, "decode of token %d: ids lie in 0 to %d", id, e.Model.Tokens-1)
			}
		}
		return &pb.ReadResult{Text: e.Tokenizer.Decode(what.Decode.GetIds())}, nil
	case *pb.Read_Vocabulary:
		v := what.Vocabulary
		if e.Token == nil {
			return nil, none
		}
		if v.GetFirst() < 0 || v.GetCount() > maxVocabulary || int(v.GetFirst())+int(v.GetCount()) > e.Model.Tokens {
			return nil, i.fault(hook.BadValue, "the texts of %d tokens from %d on: the model has %d, and %d are sent at most", v.GetCount(), v.GetFirst(), e.Model.Tokens, maxVocabulary)
		}
		result := &pb.ReadResult{}
		for n := range int32(v.GetCount()) {
			result.Texts = append(result.Texts, e.Token(v.GetFirst()+n))
		}
		return result, nil
	case *pb.Read_Vector:
		if e.Vectors == nil {
			return nil, errors.New("the host knows no vectors")
		}
		values, err := e.Vectors(what.Vector.GetName())
		return &pb.ReadResult{Floats: wire.Floats(values)}, err
	}
	return nil, i.fault(hook.Unsupported, "%T cannot be read here", r.GetWhat())
}

// Bounds of what is read at a time.
const (
	maxText       = 1 << 20
	maxVocabulary = 32768
)
