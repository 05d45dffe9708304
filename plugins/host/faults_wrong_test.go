package host

import (
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// large has the real shape of a model.
var large = hook.Model{Name: "large", Shape: hook.Shape{Layers: 48, Experts: 512, K: 10, MaxK: 32, Hidden: 2048}, Tokens: 151936, EOS: []int32{151643}}

// editing replies with an edit of the logits.
func editing(kind pb.EditKind, value float32, ids ...int32) func() {
	return replying(func(r *pb.Reply) { r.Edits = []*pb.Edit{{Kind: kind, Ids: ids, Value: value}} })
}

// steering replies with steering of a layer.
func steering(layer uint32, s *pb.LayerSteering) func() {
	return replying(func(r *pb.Reply) { r.Steering = &pb.Steering{Layers: map[uint32]*pb.LayerSteering{layer: s}} })
}

var nan = float32(math.NaN())

// everything lists all tokens of the small model.
func everything() (ids []int32) {
	for n := range small.Tokens {
		ids = append(ids, int32(n))
	}
	return ids
}

// wrongFaults want what cannot be.
var wrongFaults = []fault{
	{name: "edit-nan", what: "Biases a token by NaN", kinds: []string{"not_a_number"}, serve: editing(pb.EditKind_EDIT_KIND_BIAS, nan, 1)},
	{name: "edit-scale", what: "Scales all logits by minus infinity", kinds: []string{"bad_value"}, serve: editing(pb.EditKind_EDIT_KIND_SCALE, float32(math.Inf(-1)))},
	{name: "edit-token", what: "Bans a token that there is not", kinds: []string{"bad_id"}, serve: editing(pb.EditKind_EDIT_KIND_BAN, 0, 1<<30)},
	{name: "edit-negative", what: "Bans token -1", kinds: []string{"bad_id"}, serve: editing(pb.EditKind_EDIT_KIND_BAN, 0, -1)},
	{name: "edit-all", what: "Bans everything", kinds: []string{"nothing_left"}, serve: func() { editing(pb.EditKind_EDIT_KIND_BAN, 0, everything()...)() }},
	{name: "edit-only-nothing", what: "Allows nothing", kinds: []string{"nothing_left"}, serve: editing(pb.EditKind_EDIT_KIND_ONLY, 0)},
	{name: "edit-many", what: "Makes a million edits of one token", kinds: []string{"bad_value", "over_budget"}, serve: replying(func(r *pb.Reply) {
		for range 1000000 {
			r.Edits = append(r.Edits, &pb.Edit{Kind: pb.EditKind_EDIT_KIND_BIAS, Ids: []int32{1}, Value: 1})
		}
	})},
	{name: "edit-sequence", what: "Adds a sequence that it has not", kinds: []string{"bad_id"}, serve: replying(func(r *pb.Reply) {
		r.Edits = []*pb.Edit{{Kind: pb.EditKind_EDIT_KIND_ADD, Sequence: math.MaxUint32, Value: 1}}
	})},
	{name: "set-nan", what: "Sets the temperature to NaN", kinds: []string{"not_a_number"}, serve: replying(func(r *pb.Reply) {
		v := math.NaN()
		r.Settings = &pb.Settings{Temperature: &v}
	})},
	{name: "steer-expert", what: "Bans an expert that there is not", kinds: []string{"bad_id"}, serve: steering(1, &pb.LayerSteering{Ban: []uint32{8}})},
	{name: "steer-wrap", what: "Forces expert 2^32 - 1", kinds: []string{"bad_id"}, serve: steering(1, &pb.LayerSteering{Force: []uint32{math.MaxUint32}})},
	{name: "steer-layer", what: "Steers a layer that there is not", kinds: []string{"bad_id"}, serve: steering(math.MaxUint32, &pb.LayerSteering{Ban: []uint32{1}})},
	{name: "steer-nan", what: "Biases an expert by NaN", kinds: []string{"not_a_number"}, serve: steering(1, &pb.LayerSteering{Bias: map[uint32]float32{1: nan}})},
	{name: "steer-all", what: "Bans all experts of a layer", kinds: []string{"nothing_left"}, serve: steering(1, &pb.LayerSteering{Ban: []uint32{0, 1, 2, 3, 4, 5, 6, 7}})},
	{name: "steer-vector", what: "Adds a vector of the wrong width", kinds: []string{"bad_value"}, serve: replying(func(r *pb.Reply) {
		r.Steering = &pb.Steering{Vectors: []*pb.Vector{{Name: "v", Values: make([]byte, 12), Layer: 1, Scale: 1}}}
	})},
	{name: "steer-vector-nan", what: "Adds a vector with NaN in it", kinds: []string{"not_a_number"}, serve: replying(func(r *pb.Reply) {
		r.Steering = &pb.Steering{Vectors: []*pb.Vector{{Name: "v", Values: wire.Floats([]float32{1, nan, 1, 1}), Layer: 1, Scale: 1}}}
	})},
	{name: "write-size", what: "Writes router logits of the wrong number", kinds: []string{"bad_value"}, serve: routing(make([]byte, 4))},
	{name: "write-bytes", what: "Writes bytes that are no numbers", kinds: []string{"bad_value"}, serve: routing(make([]byte, 7))},
	{name: "write-nan", what: "Writes router logits with NaN in them", kinds: []string{"not_a_number"}, serve: routing(wire.Floats([]float32{0, 0, 0, nan, 0, 0, 0, 0}))},
	{name: "choose", what: "Chooses a token that there is not", kinds: []string{"bad_id"}, serve: at(pb.Event_EVENT_SAMPLE, func(r *pb.Reply) {
		id := int32(math.MinInt32)
		r.Chosen = &id
	})},
	{name: "inject", what: "Injects five million tokens", kinds: []string{"bad_value", "over_budget"}, serve: at(pb.Event_EVENT_SAMPLE, func(r *pb.Reply) {
		r.Inject = make([]int32, 5000000)
	})},
	{name: "inject-misplaced", what: "Injects where that has no meaning", kinds: []string{"misuse"}, serve: replying(func(r *pb.Reply) { r.Inject = []int32{1} })},
	{name: "stop-reason", what: "Ends the choice for a reason of a megabyte", kinds: []string{"bad_value"}, serve: at(pb.Event_EVENT_SAMPLE, func(r *pb.Reply) {
		r.Stop = string(make([]byte, 1<<20))
	})},
	{name: "rewind", what: "Takes tokens back that are not held", kinds: []string{"misuse", "bad_value"}, serve: at(pb.Event_EVENT_SAMPLE, func(r *pb.Reply) {
		r.Rewind = &pb.Rewind{Position: -1 << 62}
	})},
	{name: "spec", what: "Wants a lag of 9 when a choice begins", kinds: []string{"bad_value"}, serve: func() {
		(&raw{begin: func(r *pb.Reply) { r.Spec = &pb.Spec{Events: []pb.Event{pb.Event_EVENT_TOKEN}, Lag: 9} }}).serve()
	}},
	{name: "spec-layers", what: "Wants layers that there are not when a choice begins", kinds: []string{"bad_id"}, serve: func() {
		(&raw{begin: func(r *pb.Reply) {
			r.Spec = &pb.Spec{Events: []pb.Event{pb.Event_EVENT_ROUTE}, RouteLayers: []uint32{math.MaxUint32}}
		}}).serve()
	}},
	{name: "sequences", what: "Begins a hundred sequences beside the choice", kinds: []string{"bad_value"}, serve: func() {
		(&raw{begin: func(r *pb.Reply) {
			for range 100 {
				r.Sequences = append(r.Sequences, &pb.TokenIDs{Ids: []int32{1}})
			}
		}}).serve()
	}},
}

// at replies to every step of an event.
func at(event pb.Event, change func(*pb.Reply)) func() {
	return func() {
		(&raw{every: true, reply: func(m *pb.Step, r *pb.Reply) {
			if m.GetEvent() == event {
				change(r)
			}
		}}).serve()
	}
}

// routing writes router logits.
func routing(data []byte) func() {
	return at(pb.Event_EVENT_ROUTE, func(r *pb.Reply) { r.Write = data })
}

// malformedFaults break the protocol.
var malformedFaults = []fault{
	{name: "reply-other", what: "Answers another step than it was asked", kinds: []string{"lost"}, serve: replying(func(r *pb.Reply) { r.Step += 7 })},
	{name: "reply-twice", what: "Answers every step twice", kinds: []string{"lost"}, serve: stepping(func(stream pb.PluginService_SequenceServer, m *pb.Step) error {
		return errorOf(stream.Send(answered(&pb.Reply{Step: m.GetId()})), stream.Send(answered(&pb.Reply{Step: m.GetId()})))
	})},
	{name: "reply-unasked", what: "Answers what nobody has asked yet", kinds: []string{"lost"}, serve: func() {
		(&raw{begin: func(*pb.Reply) {}, step: func(stream pb.PluginService_SequenceServer, m *pb.Step) error {
			for range 100000 {
				if err := stream.Send(answered(&pb.Reply{Step: m.GetId() + 100})); err != nil {
					return err
				}
			}
			return nil
		}}).serve()
	}},
	{name: "reply-empty", what: "Answers with a message that holds nothing", kinds: []string{"lost"}, serve: stepping(func(stream pb.PluginService_SequenceServer, _ *pb.Step) error {
		return stream.Send(&pb.SequenceResponse{})
	})},
	{name: "reply-large", what: "Answers with 40 MB", kinds: []string{"lost", "over_budget"}, serve: replying(func(r *pb.Reply) { r.Write = make([]byte, 40<<20) })},
	{name: "reply-enum", what: "Edits in a way that nobody knows", kinds: []string{"unsupported"}, serve: editing(99, 1, 1)},
	{name: "reply-fault", what: "Fails in a way that nobody knows", kinds: []string{"exception"}, serve: replying(func(r *pb.Reply) { r.Fault = &pb.Fault{Kind: "bored", Message: "no"} })},
	{name: "reply-lost", what: "Fails as if its process were gone", kinds: []string{"exception"}, serve: replying(func(r *pb.Reply) { r.Fault = &pb.Fault{Kind: "lost", Message: "no"} })},
	{name: "notice-empty", what: "Tells a notice without a value", kinds: []string{"bad_value"}, serve: replying(func(r *pb.Reply) { r.Notices = []*pb.Notice{{Name: "n"}} })},
	{name: "notice-reserved", what: "Tells a fault as if it were the host", kinds: []string{"bad_value"}, serve: replying(func(r *pb.Reply) {
		r.Notices = []*pb.Notice{{Name: "fault", Value: &pb.Notice_Text{Text: "no"}}}
	})},
	{name: "asks-unknown", what: "Asks for nothing, and replies", kinds: []string{"nothing"}, serve: stepping(func(stream pb.PluginService_SequenceServer, m *pb.Step) error {
		return errorOf(stream.Send(asked(&pb.Read{})), stream.Send(answered(&pb.Reply{Step: m.GetId()})))
	})},
	{name: "asks-wrong", what: "Asks for tokens, texts and vectors that there are not, and replies", kinds: []string{"nothing"}, serve: stepping(func(stream pb.PluginService_SequenceServer, m *pb.Step) error {
		for _, r := range []*pb.Read{
			{What: &pb.Read_Top{Top: &pb.Top{K: math.MaxUint32}}},
			{What: &pb.Read_Top{Top: &pb.Top{K: 1, Source: 77}}},
			{What: &pb.Read_Full{Full: &pb.Full{Source: pb.Source_SOURCE_SEQUENCE, Sequence: math.MaxUint32}}},
			{What: &pb.Read_Logprobs{Logprobs: &pb.Logprobs{Ids: []int32{-5, math.MaxInt32}}}},
			{What: &pb.Read_Vocabulary{Vocabulary: &pb.Vocabulary{First: -1, Count: math.MaxUint32}}},
			{What: &pb.Read_Decode{Decode: &pb.Decode{Ids: []int32{-1}}}},
			{What: &pb.Read_Vector{Vector: &pb.SteeringVector{Name: "../../etc/passwd"}}},
			{What: &pb.Read_Lens{Lens: &pb.Lens{K: 1}}},
			{What: &pb.Read_Draw{Draw: &pb.Draw{}}},
		} {
			if err := stream.Send(asked(r)); err != nil {
				return err
			}
		}
		return stream.Send(answered(&pb.Reply{Step: m.GetId()}))
	})},
	{name: "stream-ends", what: "Ends its stream in the midst of a step, and lives", kinds: []string{"lost"}, serve: stepping(func(pb.PluginService_SequenceServer, *pb.Step) error {
		return status.Error(codes.Internal, "enough")
	})},
}

// stepping serves a raw plugin that answers the third token's logits in its own way.
func stepping(step func(pb.PluginService_SequenceServer, *pb.Step) error) func() {
	return func() { (&raw{step: step}).serve() }
}

// errorOf is the first error.
func errorOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}
