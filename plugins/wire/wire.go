// Package wire makes messages of protocol v1 of what engine/hook has, and back. Both ends
// use it; what comes from the other end is checked here or by the hooks' own types.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// API is the newest contract that there is.
const API = 1

// MaxMessage bounds a message in bytes. The largest that are meant are a row of logits
// (608 KB) and a quarter of a vocabulary.
const MaxMessage = 32 << 20

// Spec is what a plugin wants of a sequence.
type Spec struct {
	hook.Spec
	Request  bool // the bodies of requests
	Observer bool // it changes nothing, and may lose events
	Riding   Riding
}

// Riding are the reads that every logits event carries.
type Riding struct {
	Top, ModelTop            int
	Entropy, Full, ModelFull bool
}

// events pairs the protocol's events with the hooks' own.
var events = map[pb.Event]hook.Events{
	pb.Event_EVENT_PROMPT: hook.OnPrompt, pb.Event_EVENT_LOGITS: hook.OnLogits, pb.Event_EVENT_SAMPLE: hook.OnSample,
	pb.Event_EVENT_TOKEN: hook.OnToken, pb.Event_EVENT_ROUTING: hook.OnRouting, pb.Event_EVENT_FINISH: hook.OnFinish,
	pb.Event_EVENT_HIDDEN: hook.OnHidden, pb.Event_EVENT_ROUTE: hook.OnRoute,
}

// Event returns the protocol's name of an event.
func Event(e hook.Events) pb.Event {
	for name, bit := range events {
		if bit == e {
			return name
		}
	}
	return pb.Event_EVENT_UNSPECIFIED
}

// ToEvent is its counterpart: 0 for what is no event of sequences.
func ToEvent(e pb.Event) hook.Events { return events[e] }

// FromSpec makes a message of a spec.
func FromSpec(s Spec) *pb.Spec {
	m := &pb.Spec{Priority: int32(s.Priority), Lag: uint32(s.Lag), BudgetMs: Millis(s.Budget), CaptureAll: s.CaptureAll, HiddenLayers: unsigned(s.Hidden),
		HiddenWrite: s.Write, RouteLayers: unsigned(s.Route), Hold: uint32(s.Hold), Observer: s.Observer,
		Riding: &pb.Riding{Top: uint32(s.Riding.Top), Entropy: s.Riding.Entropy, Full: s.Riding.Full, ModelTop: uint32(s.Riding.ModelTop), ModelFull: s.Riding.ModelFull}}
	if s.Request {
		m.Events = append(m.Events, pb.Event_EVENT_REQUEST)
	}
	for e := pb.Event_EVENT_PROMPT; e <= pb.Event_EVENT_ROUTE; e++ {
		if s.Events.Has(events[e]) {
			m.Events = append(m.Events, e)
		}
	}
	return m
}

// MaxBudget bounds what a plugin may declare as the budget of a call.
const MaxBudget = 10 * time.Second

// ToSpec reads a spec of a plugin of a name. Layers and lags are the chain's to check.
func ToSpec(name string, m *pb.Spec) (Spec, error) {
	s := Spec{Spec: hook.Spec{Name: name, Priority: int(m.GetPriority()), Lag: int(m.GetLag()), CaptureAll: m.GetCaptureAll(), Hidden: signed(m.GetHiddenLayers()),
		Write: m.GetHiddenWrite(), Route: signed(m.GetRouteLayers()), Hold: int(m.GetHold()), Top: int(m.GetRiding().GetTop()), Far: true}, Observer: m.GetObserver()}
	r := m.GetRiding()
	s.Riding = Riding{Top: int(r.GetTop()), ModelTop: int(r.GetModelTop()), Entropy: r.GetEntropy(), Full: r.GetFull(), ModelFull: r.GetModelFull()}
	for _, e := range m.GetEvents() {
		s.Request = s.Request || e == pb.Event_EVENT_REQUEST
		if e != pb.Event_EVENT_REQUEST && events[e] == 0 {
			return s, fmt.Errorf("event %v: this version of the host has none", e)
		}
		s.Events |= events[e]
	}
	var err error
	if s.Budget, err = Duration(m.GetBudgetMs()); err != nil {
		return s, fmt.Errorf("budget_ms: %w", err)
	}
	switch {
	case s.Budget > MaxBudget:
		err = fmt.Errorf("a budget of %v: %v at most", s.Budget, MaxBudget)
	case s.Lag < 0 || s.Lag > hook.DefaultLag:
		err = fmt.Errorf("a lag of %d: it is %d or %d", s.Lag, hook.MinLag, hook.DefaultLag)
	case s.Hold < 0 || s.Hold > hook.MaxHold:
		err = fmt.Errorf("hold of %d tokens: %d at most", s.Hold, hook.MaxHold)
	case s.Riding.Top > hook.MaxCandidates || s.Riding.ModelTop > hook.MaxCandidates:
		err = fmt.Errorf("top of %d and model_top of %d tokens: %d at most", s.Riding.Top, s.Riding.ModelTop, hook.MaxCandidates)
	case s.Observer && (s.Lag == hook.MinLag || s.Write || s.Hold > 0 || s.Events&(hook.OnPrompt|hook.OnLogits|hook.OnSample|hook.OnRoute) != 0):
		err = errors.New("an observer changes nothing: it has token, routing, hidden and finish, a lag of 2, and neither write nor hold")
	}
	return s, err
}

// Millis is a duration as the protocol has it.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Duration reads one.
func Duration(ms float64) (time.Duration, error) {
	if !(ms >= 0 && ms <= 1e9) {
		return 0, fmt.Errorf("%v ms: it lies in 0 to 1e9", ms)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

func unsigned(list []int) (out []uint32) {
	for _, v := range list {
		out = append(out, uint32(v))
	}
	return out
}

func signed(list []uint32) (out []int) {
	for _, v := range list {
		out = append(out, int(v&math.MaxInt32))
	}
	return out
}

// Floats makes bytes of numbers.
func Floats(values []float32) []byte {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return data
}

// ToFloats makes numbers of bytes; n of them, or as many as there are where n is negative.
func ToFloats(data []byte, n int) ([]float32, error) {
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("%d bytes are no floats: each has 4", len(data))
	}
	if n >= 0 && len(data) != 4*n {
		return nil, fmt.Errorf("%d bytes where %d floats belong", len(data), n)
	}
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values, nil
}

// Candidates makes a message of tokens.
func Candidates(list []hook.Candidate) *pb.Candidates {
	m := &pb.Candidates{Ids: make([]int32, len(list)), Logits: make([]byte, 4*len(list)), Logprobs: make([]byte, 4*len(list))}
	for i, c := range list {
		m.Ids[i] = c.ID
		binary.LittleEndian.PutUint32(m.Logits[4*i:], math.Float32bits(c.Logit))
		binary.LittleEndian.PutUint32(m.Logprobs[4*i:], math.Float32bits(c.Logprob))
	}
	return m
}

// ToCandidates reads them.
func ToCandidates(m *pb.Candidates) ([]hook.Candidate, error) {
	logits, err := ToFloats(m.GetLogits(), len(m.GetIds()))
	if err != nil {
		return nil, fmt.Errorf("logits of candidates: %w", err)
	}
	logprobs, err := ToFloats(m.GetLogprobs(), len(m.GetIds()))
	if err != nil {
		return nil, fmt.Errorf("logprobs of candidates: %w", err)
	}
	list := make([]hook.Candidate, len(logits))
	for i, id := range m.GetIds() {
		list[i] = hook.Candidate{ID: id, Logit: logits[i], Logprob: logprobs[i]}
	}
	return list, nil
}

// Routing makes a message of a record.
func Routing(r *hook.Record) *pb.Routing {
	ids := make([]byte, 2*len(r.IDs))
	for i, id := range r.IDs {
		binary.LittleEndian.PutUint16(ids[2*i:], id)
	}
	return &pb.Routing{Layers: uint32(r.Layers), TopK: uint32(r.K), Ids: ids, Weights: Floats(r.Weights)}
}

// ToRouting reads one for a model.
func ToRouting(m *pb.Routing, position int, prompt bool, shape hook.Shape) (*hook.Record, error) {
	r := &hook.Record{Position: position, Prompt: prompt, Layers: int(m.GetLayers()), K: int(m.GetTopK())}
	if r.Layers != shape.Layers || r.K < 1 || r.K > max(hook.MaxK, shape.K) || len(m.GetIds()) != 2*r.Layers*r.K {
		return nil, fmt.Errorf("routing of %d layers and %d experts in %d bytes: the model has %d layers", r.Layers, r.K, len(m.GetIds()), shape.Layers)
	}
	r.IDs = make([]uint16, r.Layers*r.K)
	for i := range r.IDs {
		r.IDs[i] = binary.LittleEndian.Uint16(m.GetIds()[2*i:])
	}
	var err error
	r.Weights, err = ToFloats(m.GetWeights(), len(r.IDs))
	return r, err
}

// Fault makes a message of an error.
func Fault(err error) *pb.Fault {
	var f *hook.Fault
	if !errors.As(err, &f) {
		return &pb.Fault{Kind: hook.Exception.String(), Message: err.Error()}
	}
	return &pb.Fault{Kind: f.Kind.String(), Message: f.Err.Error(), Line: f.Line}
}

// maxText bounds texts of errors.
const maxText = 2000

// ToFault reads one. Kinds that end a hook for good are the host's to tell, and count as
// exceptions.
func ToFault(m *pb.Fault) error {
	kind := hook.ParseFaultKind(m.GetKind())
	if kind == hook.Lost || kind == hook.Abandoned || kind == hook.OutOfMemory {
		kind = hook.Exception
	}
	return &hook.Fault{Kind: kind, Line: clip(m.GetLine(), 200), Err: errors.New(clip(m.GetMessage(), maxText))}
}

// clip bounds a text.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// Notices makes messages of what a call told.
func Notices(list []hook.Notice) (out []*pb.Notice) {
	for _, n := range list {
		m := &pb.Notice{Name: n.Name}
		switch v := n.Value.(type) {
		case float64:
			m.Value = &pb.Notice_Number{Number: v}
		case string:
			if m.Value = (&pb.Notice_Text{Text: v}); n.Name == "log" {
				m.Value = &pb.Notice_Log{Log: v}
			}
		default:
			text, err := json.Marshal(v)
			if err != nil {
				continue // Emit takes plain data only
			}
			m.Value = &pb.Notice_Json{Json: string(text)}
		}
		out = append(out, m)
	}
	return out
}

// reserved are the names of notices that the host gives.
var reserved = map[string]bool{"log": true, "fault": true, "off": true, "reload": true}

// ToNotices reads them.
func ToNotices(list []*pb.Notice) (out []hook.Notice, err error) {
	for _, m := range list {
		n := hook.Notice{Name: m.GetName()}
		switch v := m.GetValue().(type) {
		case *pb.Notice_Number:
			n.Value = v.Number
		case *pb.Notice_Text:
			n.Value = v.Text
		case *pb.Notice_Log:
			n.Name, n.Value = "log", v.Log
		case *pb.Notice_Json:
			if !json.Valid([]byte(v.Json)) {
				return nil, &hook.Fault{Kind: hook.BadValue, Err: fmt.Errorf("the notice %.64q is no JSON: %.80q", n.Name, v.Json)}
			}
			n.Value = json.RawMessage(v.Json)
		default:
			return nil, &hook.Fault{Kind: hook.BadValue, Err: fmt.Errorf("the notice %.64q has no value", n.Name)}
		}
		if _, isLog := m.GetValue().(*pb.Notice_Log); !isLog && reserved[n.Name] {
			return nil, &hook.Fault{Kind: hook.BadValue, Err: fmt.Errorf("the notice %q: the host gives this name", n.Name)}
		}
		out = append(out, n)
	}
	return out, nil
}

// Model makes a message of what hooks know of the model.
func Model(m hook.Model, tokenizer bool) *pb.Model {
	s := m.Shape
	return &pb.Model{Name: m.Name, Layers: uint32(s.Layers), Experts: uint32(s.Experts), TopK: uint32(s.K), MaxK: uint32(s.MaxK), Hidden: uint32(s.Hidden),
		Tokens: uint32(m.Tokens), Eos: m.EOS, Tokenizer: tokenizer}
}

// ToModel reads it.
func ToModel(m *pb.Model) hook.Model {
	return hook.Model{Name: m.GetName(), Tokens: int(m.GetTokens()), EOS: m.GetEos(), Shape: hook.Shape{Layers: int(m.GetLayers()), Experts: int(m.GetExperts()),
		K: int(m.GetTopK()), MaxK: int(m.GetMaxK()), Hidden: int(m.GetHidden())}}
}
