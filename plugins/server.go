package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// server serves a plugin.
type server struct {
	pb.UnimplementedPluginServiceServer
	plugin *Plugin
	side   *side

	mu         sync.Mutex
	vocabulary map[string][][]byte // by model
}

// Describe implements the service.
func (s *server) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	p := s.plugin
	params, err := json.Marshal(p.Params)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "parameters of the plugin %s: %v", p.Name, err)
	}
	spec := wire.Spec{Spec: p.Spec, Request: p.Request != nil, Observer: p.Observer, Riding: p.Riding}
	return &pb.DescribeResponse{Api: wire.API, Name: p.Name, Version: p.Version, Description: p.Description, ParamsJson: string(params), Spec: wire.FromSpec(spec)}, nil
}

// Rewrite implements the service.
func (s *server) Rewrite(ctx context.Context, m *pb.RewriteRequest) (*pb.RewriteResponse, error) {
	if s.plugin.Request == nil {
		return nil, status.Errorf(codes.Unimplemented, "the plugin %s does not look at requests", s.plugin.Name)
	}
	var params map[string]any
	if err := json.Unmarshal([]byte(m.GetParamsJson()), &params); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "parameters: %v", err)
	}
	var body json.RawMessage
	err := guard(func() (err error) {
		body, err = s.plugin.Request(ctx, json.RawMessage(m.GetBodyJson()), params)
		return err
	})
	if err != nil {
		return &pb.RewriteResponse{Fault: wire.Fault(err)}, nil
	}
	return &pb.RewriteResponse{BodyJson: string(body)}, nil
}

// guard makes an error of a panic: one choice fails then, and not the plugin.
func guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return do()
}

// Sequence implements the service.
func (s *server) Sequence(stream pb.PluginService_SequenceServer) error {
	f := newFar(stream, s)
	// The stream's context ends when this returns: read then does too, and not before where
	// the stream was not at its end.
	go f.read()
	defer f.stop()
	q := &served{far: f, server: s}
	err := q.run(stream.Context())
	if q.hook != nil {
		if err := guard(func() error { q.hook.Close(); return nil }); err != nil {
			s.side.log(pb.Level_LEVEL_ERROR, fmt.Sprintf("the end of a choice: %v", err))
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// served is a choice that is served.
type served struct {
	*far
	server *server
	hook   *handlers
	solo   *hook.Solo
	choice int
	model  hook.Model
	spec   wire.Spec
}

func (q *served) run(ctx context.Context) error {
	for {
		m, err := q.next()
		if err != nil {
			return err
		}
		reply := &pb.Reply{}
		switch step := m.GetStep(); {
		case m.GetBegin() != nil && q.hook == nil:
			err = q.begin(ctx, m.GetBegin(), reply)
		case step != nil && q.hook != nil:
			reply.Step = step.GetId()
			err = q.step(step, reply)
			if q.quiet(step) {
				if err != nil {
					q.server.side.log(pb.Level_LEVEL_ERROR, fmt.Sprintf("%v of position %d: %v", step.GetEvent(), step.GetPosition(), err))
				}
				continue
			}
		default:
			return status.Error(codes.InvalidArgument, "a sequence begins with Begin, which comes once")
		}
		if err != nil {
			reply = &pb.Reply{Step: reply.GetStep(), Fault: wire.Fault(err), Notices: reply.GetNotices()}
		}
		if err := q.stream.Send(&pb.SequenceResponse{Message: &pb.SequenceResponse_Reply{Reply: reply}}); err != nil {
			return err
		}
	}
}

// quiet says that the host waits for no reply.
func (q *served) quiet(m *pb.Step) bool {
	switch m.GetEvent() {
	case pb.Event_EVENT_TOKEN, pb.Event_EVENT_ROUTING, pb.Event_EVENT_HIDDEN:
		return q.spec.Observer
	}
	return false
}

// Bounds of a model that makes sense: memory is made for each layer.
const (
	maxLayers  = 1 << 12
	maxExperts = 1 << 16
)

// begin makes the hook of the choice.
func (q *served) begin(ctx context.Context, m *pb.Begin, reply *pb.Reply) error {
	p := q.server.plugin
	r := m.GetRequest()
	if l, e := m.GetModel().GetLayers(), m.GetModel().GetExperts(); l > maxLayers || e > maxExperts {
		return fmt.Errorf("a model of %d layers of %d experts: %d of %d at most", l, e, maxLayers, maxExperts)
	}
	q.model, q.choice = wire.ToModel(m.GetModel()), int(r.GetChoice())
	s := &Sequence{Context: ctx, Model: q.model, far: q.far, Spec: p.Spec, Riding: p.Riding,
		Request: Request{ID: r.GetId(), MaxTokens: int(r.GetMaxTokens()), Seed: m.GetSeed(), Choice: int(r.GetChoice()), Choices: int(r.GetChoices())}}
	if err := json.Unmarshal([]byte(m.GetParamsJson()), &s.Params); err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	if text := r.GetBodyJson(); text != "" {
		if err := json.Unmarshal([]byte(text), &s.Request.Body); err != nil {
			return fmt.Errorf("the body of the request: %w", err)
		}
	}
	var own any
	if err := guard(func() (err error) { own, err = p.New(s); return err }); err != nil {
		return err
	}
	q.hook = p.handlers(s, own)
	q.spec = wire.Spec{Spec: q.hook.spec, Observer: p.Observer, Riding: s.Riding}
	options := hook.Options{Shape: q.model.Shape, Tokens: q.model.Tokens, Seed: m.GetSeed(),
		Lens: func([]float32) (hook.Source, error) { return lens{far: q.far}, nil }}
	q.solo = hook.NewSolo(options, q.hook, hook.Reach{Inside: true, Rewind: true, Sequences: true})
	out, err := q.solo.Call(0, hook.At{Choice: q.choice}, 0, q.hook.Start)
	if err == nil {
		reply.Spec = wire.FromSpec(q.spec)
	}
	q.outcome(reply, out)
	return err
}

// outcome puts into a reply what a call wanted beside its answer.
func (q *served) outcome(reply *pb.Reply, out hook.Outcome) {
	reply.Notices, reply.Stop, reply.Inject = wire.Notices(out.Notices), out.Stop, out.Inject
	if out.Steer != nil {
		reply.Steering = wire.Steering(out.Steer, q.model.Shape.Layers)
	}
	if out.Rewind != nil {
		reply.Rewind = &pb.Rewind{Position: int64(out.Rewind.To), SameAttempt: out.Rewind.Same}
	}
	for _, ids := range out.Sequences {
		reply.Sequences = append(reply.Sequences, &pb.TokenIDs{Ids: ids})
	}
}

// step serves a step.
func (q *served) step(m *pb.Step, reply *pb.Reply) error {
	if m.GetSequences() > hook.MaxSequences {
		return &hook.Fault{Kind: hook.BadValue, Err: fmt.Errorf("%d sequences beside the choice: there are %d at most", m.GetSequences(), hook.MaxSequences)}
	}
	q.solo.Place(int(m.GetNextPosition()), int(m.GetSequences()))
	if m.RewoundTo != nil {
		q.solo.Back(int(m.GetRewoundTo()))
		q.hook.rewound = true
	}
	if m.Steering != nil {
		s, err := wire.ToSteering(m.GetSteering(), q.model.Shape, nil)
		if err != nil {
			return err
		}
		q.solo.Steer(s)
	}
	event := wire.ToEvent(m.GetEvent())
	if event == 0 || !q.hook.spec.Events.Has(event) {
		return &hook.Fault{Kind: hook.Misuse, Err: fmt.Errorf("the plugin has no handler of %v", m.GetEvent())}
	}
	at := hook.At{Position: int(m.GetPosition()), Choice: q.choice, Attempt: int(m.GetAttempt()), Phase: hook.InDecode}
	if m.GetPhase() == pb.Phase_PHASE_PROMPT {
		at.Phase = hook.InPrompt
	}
	out, err := q.solo.Call(event, at, 0, func(call *hook.Call) error { return q.call(call, m, reply) })
	q.outcome(reply, out)
	return err
}

// call calls the handler of a step, and puts its answer into the reply.
func (q *served) call(call *hook.Call, m *pb.Step, reply *pb.Reply) error {
	switch call.Event {
	case hook.OnPrompt:
		p := &Prompt{IDs: m.GetPrompt().GetIds()}
		err := q.hook.Prompt(call, p)
		reply.Prompt = &pb.TokenIDs{Ids: p.IDs}
		return err
	case hook.OnLogits:
		return q.logits(call, m.GetLogits(), int(m.GetSequences()), reply)
	case hook.OnSample:
		list, err := wire.ToCandidates(m.GetCandidates())
		if err != nil {
			return err
		}
		id, chosen, err := q.hook.Sample(call, hook.NewCandidates(call, &chooser{q.far, list}))
		if chosen {
			reply.Chosen = &id
		}
		return err
	case hook.OnToken:
		t := m.GetToken()
		return q.hook.Token(call, &Token{Position: call.Position, ID: t.GetId(), Text: t.GetText(), Logprob: t.GetLogprob(), Forced: t.GetForced()})
	case hook.OnRouting:
		r, err := wire.ToRouting(m.GetRouting(), call.Position, call.Phase == hook.InPrompt, q.model.Shape)
		if err != nil {
			return err
		}
		return q.hook.Routing(call, q.solo.Routing(call, r))
	case hook.OnHidden:
		values, err := wire.ToFloats(m.GetHidden().GetValues(), q.model.Shape.Hidden)
		if err != nil {
			return err
		}
		h, written := q.solo.Hidden(call, int(m.GetHidden().GetLayer()), values, m.GetHidden().GetWithin())
		err = q.hook.Hidden(call, h)
		reply.Write = wire.Floats(written())
		return err
	case hook.OnRoute:
		logits, err := wire.ToFloats(m.GetRouter().GetLogits(), q.model.Shape.Experts)
		if err != nil {
			return err
		}
		r, written := q.solo.Router(call, int(m.GetRouter().GetLayer()), logits)
		err = q.hook.Route(call, r)
		reply.Write = wire.Floats(written())
		return err
	}
	f := m.GetFinish()
	return q.hook.Finish(call, &Finish{Reason: f.GetReason(), Prompt: int(f.GetPromptTokens()), Completion: int(f.GetCompletionTokens())})
}

// logits serves a logits event: what rode along need not be asked for.
func (q *served) logits(call *hook.Call, m *pb.Logits, sequences int, reply *pb.Reply) error {
	entry, model := &row{far: q.far, entropy: m.Entropy}, &row{far: q.far, source: pb.Source_SOURCE_MODEL}
	var err error
	read := func(list *[]hook.Candidate, m *pb.Candidates) {
		if err == nil && m != nil {
			*list, err = wire.ToCandidates(m)
		}
	}
	whole := func(full *[]float32, data []byte) {
		if err == nil && len(data) > 0 {
			*full, err = wire.ToFloats(data, q.model.Tokens)
		}
	}
	read(&entry.top, m.GetTop())
	read(&model.top, m.GetModelTop())
	whole(&entry.full, m.GetFull())
	whole(&model.full, m.GetModelFull())
	if err != nil {
		return err
	}
	var beside []hook.Source
	for i := range sequences {
		beside = append(beside, &row{far: q.far, source: pb.Source_SOURCE_SEQUENCE, sequence: uint32(i)})
	}
	l := q.solo.Logits(call, entry, model, beside...)
	err = q.hook.Logits(call, l)
	reply.Edits, reply.Settings = wire.Edits(l.Edits)
	return err
}

// Watch implements the service.
func (s *server) Watch(_ *pb.WatchRequest, stream pb.PluginService_WatchServer) error {
	return s.side.serve(stream)
}
