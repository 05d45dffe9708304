package live

//go:generate go run ./gen

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Protocol is the version of the live protocol: the subprotocol of the WebSocket is
// "roundhouse.live.v1". It only grows.
const Protocol = 1

// Subprotocol names the protocol in the handshake of a WebSocket.
const Subprotocol = "roundhouse.live.v1"

// Hello is the first message of a connection.
type Hello struct {
	Op       string   `json:"op"` // "hello"
	Protocol int      `json:"protocol"`
	Session  string   `json:"session"` // to come back with: ?session=...&seq=...
	Resumed  bool     `json:"resumed"` // the session was there; what was missed follows
	Model    *Model   `json:"model"`   // null while it loads
	Streams  []Stream `json:"streams"` // that run now
}

// Model is what runs.
type Model struct {
	Name    string `json:"name"`
	Layers  int    `json:"layers"`
	Experts int    `json:"experts"` // of a layer
	TopK    int    `json:"top_k"`   // experts that a token chooses
	Tokens  int    `json:"tokens"`
}

// Stream is one choice of one request.
type Stream struct {
	Op      string `json:"op"`     // "stream", as a message of its own
	Handle  uint32 `json:"handle"` // in frames of tokens
	Request string `json:"request"`
	Choice  int    `json:"choice"`
	State   string `json:"state"` // "running", or "ended"
	Prompt  int    `json:"prompt_tokens"`
	Made    int    `json:"completion_tokens"`
	Reason  string `json:"reason"` // why it ended; "" while it runs
	Steer   any    `json:"steer"`  // what was last set from here, as the API's field steer has it; null for nothing
	Routed  bool   `json:"routed"` // frames have its routing: it began while somebody watched
	// Pace is how many tokens a second it may make, 0 where it stands still, null where nothing
	// slows it down.
	Pace *float64 `json:"pace"`
}

// Event is one event of the server, as GET /roundhouse/v1/events has it.
type Event struct {
	Op    string          `json:"op"` // "event"
	Event json.RawMessage `json:"event"`
}

// Stats are counters of the engine since it began, and how full it is, twice a second where
// they are subscribed to.
type Stats struct {
	Op          string     `json:"op"`      // "stats"
	Seconds     float64    `json:"seconds"` // since the hub began, to make rates of
	Queued      int        `json:"queued"`  // streams that wait
	Running     int        `json:"running"`
	Swapped     int        `json:"swapped"` // put aside
	PagesUsed   int        `json:"pages_used"`
	PagesTotal  int        `json:"pages_total"`
	SlotsUsed   int        `json:"slots_used"`
	SlotsTotal  int        `json:"slots_total"`
	Prompt      uint64     `json:"prompt_tokens"`
	Made        uint64     `json:"generated_tokens"`
	Decode      uint64     `json:"decode_steps"`
	Prefill     uint64     `json:"prefill_steps"`
	Mixed       uint64     `json:"mixed_steps"`
	StepSeconds float64    `json:"step_seconds"` // of all steps
	Rows        uint64     `json:"batch_rows"`   // decoded in all steps
	Phases      []Phase    `json:"phases"`       // of the forward pass, in their order
	Watchers    int        `json:"watchers"`
	Memory      []Memory   `json:"memory"`
	Hooks       []HookCost `json:"hooks"` // of choices that have ended, since the hub began
}

// Phase is how long a phase of the forward pass has taken in all steps.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Memory is what the model has taken of memory for one purpose.
type Memory struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// HookCost is what the hooks of a name have cost and done, in all choices.
type HookCost struct {
	Name    string  `json:"name"`
	Choices int     `json:"choices"`
	Calls   int     `json:"calls"`
	Seconds float64 `json:"seconds"` // without reads
	Waited  float64 `json:"waited"`  // in reads, seconds
	Edits   int     `json:"edits"`
	Changed int     `json:"changed"` // tokens that would have been others, as far as known
	Faults  int     `json:"faults"`
	Tokens  int     `json:"tokens"` // of the choices
}

// Dropped says that frames are missing before the next one.
type Dropped struct {
	Op     string `json:"op"`     // "dropped"
	Frames uint64 `json:"frames"` // since the last one that was sent
	Total  uint64 `json:"total"`  // of this session
}

// Paced answers Command of op "pace".
type Paced struct {
	Op     string `json:"op"` // "paced"
	ID     int    `json:"id"` // of the command
	Handle uint32 `json:"handle"`
}

// Steered answers Command of op "steer".
type Steered struct {
	Op     string `json:"op"` // "steered"
	ID     int    `json:"id"` // of the command
	Handle uint32 `json:"handle"`
	From   int    `json:"from"` // position of the first row that it is in force for
}

// Failed answers a command that cannot be carried out.
type Failed struct {
	Op      string `json:"op"` // "error"
	ID      int    `json:"id"` // of the command; 0 where it could not be read
	Message string `json:"message"`
}

// Command is a message of a client. Op is "subscribe", "steer" or "pace".
type Command struct {
	Op string `json:"op"`
	ID int    `json:"id"` // comes back with the answer
	// Of subscribe, which replaces what was subscribed to. Streams are requests' ids, null for
	// all; Layers are those whose routing frames have, null for all; Candidates is how many
	// of the likeliest tokens they have, 20 at most.
	Streams    []string `json:"streams"`
	Layers     []int    `json:"layers"`
	Candidates int      `json:"candidates"`
	Events     bool     `json:"events"` // those of the server too
	Stats      bool     `json:"stats"`  // likewise the engine's
	// Of steer: the stream, and its steering from now on, as the API's field steer has it.
	Handle uint32          `json:"handle"`
	Steer  json.RawMessage `json:"steer"`
	// Of pace: the stream above, and how many tokens a second it may make from now on; 0 to
	// stand still, null for as fast as it goes.
	PerSecond *float64 `json:"per_second"`
}

// Token is what a frame has of one token. A binary message has one frame or more, one behind
// the other, as many as there were since the last message, 60 a second at most. Frames are
// little end first:
//
//	u64 seq        counts the frames of the session
//	u8  1          the kind: a token
//	u8  flags      1: forced; 2: it has routing
//	u16 k          experts of a layer
//	u32 handle     of the stream
//	u32 position
//	i32 id
//	f32 logprob    of the model's distribution
//	u16 layers     of the routing
//	u16 candidates
//	u32 bytes      of the text
//	u32 0
//	u16 [layers]      which ones
//	u16 [layers, k]   experts, best first; 65535 where fewer were chosen
//	f32 [layers, k]   weights, as applied
//	i32 [candidates]  ids, likeliest first
//	f32 [candidates]  log-probabilities
//	u8  [bytes]       the text
type Token struct {
	Seq        uint64
	Handle     uint32
	Position   int
	ID         int32
	Logprob    float32
	Forced     bool
	Layers     []int
	Routing    *hook.Record // nil where the frame has none; layers that it has not are left out
	Candidates []hook.Candidate
	Text       string
}

const (
	kindToken   = 1
	flagForced  = 1
	flagRouting = 2
	seqBytes    = 8
	headBytes   = seqBytes + 32
)

// Append appends the frame of a token behind its seq, which differs between sessions.
func (t *Token) Append(b []byte) []byte {
	le := binary.LittleEndian
	flags, k := byte(0), 0
	if t.Forced {
		flags |= flagForced
	}
	layers := t.Layers
	if t.Routing == nil {
		layers = nil
	} else {
		flags, k = flags|flagRouting, t.Routing.K
	}
	b = append(b, kindToken, flags)
	b = le.AppendUint16(b, uint16(k))
	b = le.AppendUint32(b, t.Handle)
	b = le.AppendUint32(b, uint32(t.Position))
	b = le.AppendUint32(b, uint32(t.ID))
	b = le.AppendUint32(b, math.Float32bits(t.Logprob))
	b = le.AppendUint16(b, uint16(len(layers)))
	b = le.AppendUint16(b, uint16(len(t.Candidates)))
	b = le.AppendUint32(b, uint32(len(t.Text)))
	b = le.AppendUint32(b, 0) // for later
	for _, layer := range layers {
		b = le.AppendUint16(b, uint16(layer))
	}
	for _, layer := range layers {
		for _, id := range t.Routing.IDs[layer*k:][:k] {
			b = le.AppendUint16(b, id)
		}
	}
	for _, layer := range layers {
		for _, w := range t.Routing.Weights[layer*k:][:k] {
			b = le.AppendUint32(b, math.Float32bits(w))
		}
	}
	for _, c := range t.Candidates {
		b = le.AppendUint32(b, uint32(c.ID))
	}
	for _, c := range t.Candidates {
		b = le.AppendUint32(b, math.Float32bits(c.Logprob))
	}
	return append(b, t.Text...)
}

// ParseTokens reads the frames of a message.
func ParseTokens(b []byte) (list []*Token, err error) {
	for len(b) > 0 {
		var t *Token
		if t, b, err = parseToken(b); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// parseToken reads the first frame, and returns what follows. Routing has the layers that the
// frame has, one behind the other.
func parseToken(b []byte) (t *Token, rest []byte, err error) {
	le := binary.LittleEndian
	if len(b) < headBytes || b[seqBytes] != kindToken {
		return nil, nil, fmt.Errorf("a frame of %d bytes is none of a token", len(b))
	}
	t = &Token{Seq: le.Uint64(b), Forced: b[9]&flagForced != 0, Handle: le.Uint32(b[12:]), Position: int(le.Uint32(b[16:])),
		ID: int32(le.Uint32(b[20:])), Logprob: math.Float32frombits(le.Uint32(b[24:]))}
	k, layers, candidates, text := int(le.Uint16(b[10:])), int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint32(b[32:]))
	if len(b) < headBytes+2*layers+6*layers*k+8*candidates+text {
		return nil, nil, fmt.Errorf("a frame of %d bytes: its head says %d layers of %d experts, %d candidates, %d bytes of text", len(b), layers, k, candidates, text)
	}
	b = b[headBytes:]
	take := func(n int) (part []byte) { part, b = b[:n], b[n:]; return part }
	for part := take(2 * layers); len(part) > 0; part = part[2:] {
		t.Layers = append(t.Layers, int(le.Uint16(part)))
	}
	ids, weights := take(2*layers*k), take(4*layers*k)
	if layers > 0 {
		t.Routing = &hook.Record{Position: t.Position, Layers: layers, K: k}
		for n := range layers * k {
			t.Routing.IDs = append(t.Routing.IDs, le.Uint16(ids[2*n:]))
			t.Routing.Weights = append(t.Routing.Weights, math.Float32frombits(le.Uint32(weights[4*n:])))
		}
	}
	tokens, logprobs := take(4*candidates), take(4*candidates)
	for n := range candidates {
		t.Candidates = append(t.Candidates, hook.Candidate{ID: int32(le.Uint32(tokens[4*n:])), Logprob: math.Float32frombits(le.Uint32(logprobs[4*n:]))})
	}
	t.Text = string(take(text))
	return t, b, nil
}
