package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// stream is a sequence without a choice: messages of any kind can be sent.
type stream struct {
	pb.PluginService_SequenceClient
	scene     *scene
	sequences uint32 // beside it, that the plugin began
	cancel    context.CancelFunc
}

// dial opens a sequence.
func (c *checker) dial(ctx context.Context) (*stream, error) {
	service, err := c.plugin.Service(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	s, err := service.Sequence(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &stream{PluginService_SequenceClient: s, scene: scenes()[0], cancel: cancel}, nil
}

// begun opens a sequence, and begins it.
func (c *checker) begun(ctx context.Context) (*stream, error) {
	s, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	m, err := c.first(s.scene)
	if err == nil {
		err = s.Send(m)
	}
	var r *pb.Reply
	if err == nil {
		r, err = s.reply()
	}
	if err == nil && r.GetFault() != nil {
		err = fmt.Errorf("begin: %w", wire.ToFault(r.GetFault()))
	}
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.sequences = uint32(len(r.GetSequences()))
	return s, nil
}

// first is the Begin of a choice.
func (c *checker) first(s *scene) (*pb.SequenceRequest, error) {
	filled, err := c.about.Params.Fill(c.Params)
	if err != nil {
		return nil, err
	}
	params, err := json.Marshal(filled)
	return &pb.SequenceRequest{Message: &pb.SequenceRequest_Begin{Begin: &pb.Begin{Model: wire.Model(s.model, true), ParamsJson: string(params), Seed: 7,
		Request: &pb.Request{Id: "check", MaxTokens: 64, Choices: 1, BodyJson: `{"model": "small", "prompt": "Once upon a time"}`}}}}, err
}

// reply waits for one, and answers what is asked until then. io.EOF where the stream ended.
func (s *stream) reply() (*pb.Reply, error) {
	for {
		m, err := s.Recv()
		if err != nil {
			return nil, err
		}
		if r := m.GetReply(); r != nil {
			return r, nil
		}
		if m.GetRead() == nil {
			return nil, errors.New("it sent a message that is neither a Read nor a Reply")
		}
		result, err := s.answer(m.GetRead())
		if err != nil {
			result = &pb.ReadResult{Fault: wire.Fault(err)}
		}
		if err := s.Send(&pb.SequenceRequest{Message: &pb.SequenceRequest_ReadResult{ReadResult: result}}); err != nil {
			return nil, err
		}
	}
}

// answer answers a read.
func (s *stream) answer(r *pb.Read) (*pb.ReadResult, error) {
	row, tokens := s.scene.rows[0], s.scene.model.Tokens
	switch what := r.GetWhat().(type) {
	case *pb.Read_Top:
		top, err := row.Top(int(min(what.Top.GetK(), uint32(tokens))))
		return &pb.ReadResult{Candidates: wire.Candidates(top)}, err
	case *pb.Read_Logprobs:
		return &pb.ReadResult{Floats: wire.Floats(make([]float32, len(what.Logprobs.GetIds())))}, nil
	case *pb.Read_Entropy:
		h, err := row.Entropy()
		return &pb.ReadResult{Floats: wire.Floats([]float32{h})}, err
	case *pb.Read_Full:
		return &pb.ReadResult{Floats: wire.Floats(row.Plain)}, nil
	case *pb.Read_Draw:
		return &pb.ReadResult{Ids: []int32{3}}, nil
	case *pb.Read_Encode:
		ids, err := letters{tokens}.Encode(what.Encode.GetText())
		return &pb.ReadResult{Ids: ids}, err
	case *pb.Read_Decode:
		return &pb.ReadResult{Text: letters{tokens}.Decode(what.Decode.GetIds())}, nil
	case *pb.Read_Vocabulary:
		result := &pb.ReadResult{}
		for n := range min(int32(what.Vocabulary.GetCount()), int32(tokens)) {
			result.Texts = append(result.Texts, token(what.Vocabulary.GetFirst()+n))
		}
		return result, nil
	case *pb.Read_Vector:
		return &pb.ReadResult{Floats: wire.Floats(make([]float32, s.scene.model.Shape.Hidden))}, nil
	}
	return nil, &hook.Fault{Kind: hook.Unsupported, Err: fmt.Errorf("%T cannot be read here", r.GetWhat())}
}

// step is a good step of an event that the plugin has, which has a reply; nil where it has
// none.
func (c *checker) step(s *stream) *pb.Step {
	m := &pb.Step{Id: 1, Position: 4, NextPosition: 4, Phase: pb.Phase_PHASE_DECODE, Sequences: s.sequences}
	top, _ := s.scene.rows[0].Top(4) // of a row that was made
	events := c.spec.Events
	switch {
	case events.Has(hook.OnLogits):
		m.Event, m.Payload = pb.Event_EVENT_LOGITS, &pb.Step_Logits{Logits: &pb.Logits{}}
	case events.Has(hook.OnSample):
		m.Event, m.Payload = pb.Event_EVENT_SAMPLE, &pb.Step_Candidates{Candidates: wire.Candidates(top)}
	case events.Has(hook.OnPrompt):
		m.Event, m.Payload = pb.Event_EVENT_PROMPT, &pb.Step_Prompt{Prompt: &pb.Prompt{Ids: []int32{5, 6, 7, 8}}}
	case events.Has(hook.OnToken) && !c.spec.Observer:
		m.Event, m.Payload = pb.Event_EVENT_TOKEN, &pb.Step_Token{Token: &pb.Token{Id: 3, Text: "c", Logprob: -1}}
	case events.Has(hook.OnFinish):
		m.Event, m.Payload = pb.Event_EVENT_FINISH, &pb.Step_Finish{Finish: &pb.Finish{Reason: "stop", PromptTokens: 4}}
	default:
		return nil
	}
	return m
}

func stepped(m *pb.Step) *pb.SequenceRequest {
	return &pb.SequenceRequest{Message: &pb.SequenceRequest_Step{Step: m}}
}

// lives begins another choice.
func (c *checker) lives(ctx context.Context) error {
	s, err := c.begun(ctx)
	if err != nil {
		return fmt.Errorf("the next choice: %w", err)
	}
	defer s.cancel()
	return s.CloseSend()
}

// cancelled cuts a sequence while its step is served.
func (c *checker) cancelled(ctx context.Context) (string, error) {
	for range 8 {
		s, err := c.begun(ctx)
		if err != nil {
			return "", err
		}
		if m := c.step(s); m != nil {
			err = s.Send(stepped(m))
		}
		s.cancel()
		if err != nil {
			return "", err
		}
	}
	return "", c.lives(ctx)
}

// closed closes a sequence while its step is served: the plugin is to end its stream.
func (c *checker) closed(ctx context.Context) (string, error) {
	s, err := c.begun(ctx)
	if err != nil {
		return "", err
	}
	defer s.cancel()
	if m := c.step(s); m != nil {
		if err := s.Send(stepped(m)); err != nil {
			return "", err
		}
	}
	if err := s.CloseSend(); err != nil {
		return "", err
	}
	began := time.Now()
	for err == nil {
		_, err = s.Recv()
	}
	if code := status.Code(err); code == codes.DeadlineExceeded {
		return "", fmt.Errorf("it has not ended its stream %v after the host closed its side", patience)
	}
	return fmt.Sprintf("ended within %v", time.Since(began).Round(time.Millisecond)), c.lives(ctx)
}

// malformed is what no host sends.
type malformed struct {
	name   string
	before bool // Begin
	make   func(*stream) []*pb.SequenceRequest
	// lenient says that an answer as if nothing were wrong will do.
	lenient bool
}

// malformed lists them.
func (c *checker) malformed() []malformed {
	strange := &pb.SequenceRequest{}
	strange.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 0}) // a field 15, of one byte
	one := func(list ...*pb.SequenceRequest) func(*stream) []*pb.SequenceRequest {
		return func(*stream) []*pb.SequenceRequest { return list }
	}
	list := []malformed{
		{name: "a step before Begin", before: true, make: one(stepped(&pb.Step{Id: 1, Event: pb.Event_EVENT_FINISH}))},
		{name: "a message that holds nothing", make: one(&pb.SequenceRequest{})},
		{name: "a message of a kind that nobody knows", make: one(strange)},
		{name: "an event that nobody knows", make: one(stepped(&pb.Step{Id: 1, Event: 99, Position: 4, NextPosition: 4}))},
		{name: "parameters that are no JSON", before: true, make: func(s *stream) []*pb.SequenceRequest {
			return []*pb.SequenceRequest{{Message: &pb.SequenceRequest_Begin{Begin: &pb.Begin{Model: wire.Model(s.scene.model, true), ParamsJson: "{"}}}}
		}},
		{name: "Begin twice", make: func(s *stream) []*pb.SequenceRequest {
			m, _ := c.first(s.scene) // as it was before
			return []*pb.SequenceRequest{m}
		}},
	}
	if m := c.wrongSize(scenes()[0]); m != nil {
		list = append(list, malformed{name: "numbers of the wrong size", make: one(stepped(m)), lenient: true})
	}
	if c.step(&stream{scene: scenes()[0]}) != nil {
		list = append(list, malformed{name: "an answer that nobody asked for", lenient: true, make: func(s *stream) []*pb.SequenceRequest {
			return []*pb.SequenceRequest{{Message: &pb.SequenceRequest_ReadResult{ReadResult: &pb.ReadResult{Text: "42"}}}, stepped(c.step(s))}
		}})
	}
	return list
}

// wrongSize is a step whose arrays do not fit; nil where the plugin has no event that can
// have one.
func (c *checker) wrongSize(s *scene) *pb.Step {
	m := &pb.Step{Id: 1, Position: 4, NextPosition: 4, Phase: pb.Phase_PHASE_DECODE}
	spec := c.spec
	short := &pb.Candidates{Ids: []int32{1, 2, 3}, Logits: make([]byte, 5), Logprobs: make([]byte, 1)}
	switch {
	case spec.Events.Has(hook.OnLogits):
		m.Event, m.Payload = pb.Event_EVENT_LOGITS, &pb.Step_Logits{Logits: &pb.Logits{Top: short, Full: make([]byte, 7), ModelTop: short}}
	case spec.Events.Has(hook.OnSample):
		m.Event, m.Payload = pb.Event_EVENT_SAMPLE, &pb.Step_Candidates{Candidates: short}
	case spec.Events.Has(hook.OnRouting) && !spec.Observer:
		m.Event, m.Payload = pb.Event_EVENT_ROUTING, &pb.Step_Routing{Routing: &pb.Routing{Layers: uint32(s.model.Shape.Layers), TopK: 10, Ids: make([]byte, 3)}}
	case spec.Events.Has(hook.OnRoute):
		m.Event, m.Payload = pb.Event_EVENT_ROUTE, &pb.Step_Router{Router: &pb.Router{Layer: uint32(spec.Route[0]), Logits: make([]byte, 6)}}
	default:
		return nil
	}
	return m
}

// survives sends what is malformed: the answer is a fault, or the end of the stream, and
// not that of the plugin.
func (c *checker) survives(ctx context.Context, m malformed) (detail string, err error) {
	open := c.begun
	if m.before {
		open = c.dial
	}
	s, err := open(ctx)
	if err != nil {
		return "", err
	}
	defer s.cancel()
	for _, one := range m.make(s) {
		if err := s.Send(one); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	r, err := s.reply()
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return "", fmt.Errorf("it says nothing within %v: a fault, or the end of the stream, is what the host can go on with", patience)
	case status.Code(err) == codes.Unavailable:
		return "", fmt.Errorf("it is gone: %w", err)
	case err != nil:
		detail = "it ended the stream"
	case r.GetFault() != nil:
		detail = "a fault: " + r.GetFault().GetMessage()
	case m.lenient:
		detail = "it went on"
	default:
		return "", errors.New("it answers as if nothing were wrong: a fault, or the end of the stream, is right")
	}
	return detail, c.lives(ctx)
}
