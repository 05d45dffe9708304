package worker

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// maxFrame bounds a message, in bytes. The largest that is meant is a row of logits.
const maxFrame = 8 << 20

// wire carries messages: four bytes of length, big end first, and as much JSON.
type wire struct {
	from *bufio.Reader
	to   io.Writer
}

func (w *wire) send(message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	if len(data) > maxFrame {
		return fmt.Errorf("a message of %d bytes: %d at most", len(data), maxFrame)
	}
	_, err = w.to.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data))), data...))
	return err
}

func (w *wire) receive(message any) error {
	var head [4]byte
	if _, err := io.ReadFull(w.from, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("a message of %d bytes: %d at most", n, maxFrame)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(w.from, data); err != nil {
		return err
	}
	return json.Unmarshal(data, message)
}

// What the child is asked to do.
const (
	opLoad    = "load"    // first: read a script
	opRequest = "request" // change a request
	opStart   = "start"   // begin a choice
	opCall    = "call"    // call a handler
	opAnswer  = "answer"  // to what the child asked
)

// down is a message to the child.
type down struct {
	Op string `json:"op"`

	File   string `json:"file,omitempty"` // of opLoad
	Source string `json:"source,omitempty"`

	Body   json.RawMessage `json:"body,omitempty"` // of opRequest
	Params map[string]any  `json:"params,omitempty"`

	Env  *env   `json:"env,omitempty"` // of opStart
	Seed uint64 `json:"seed,omitempty"`

	Event  hook.Events   `json:"event,omitempty"` // of opStart and opCall
	At     hook.At       `json:"at"`
	Budget time.Duration `json:"budget,omitempty"`
	// Steer is the steering of the hook, where it is not what the child last said it is.
	Steer  json.RawMessage `json:"steer,omitempty"`
	IDs    []int32         `json:"ids,omitempty"` // of a prompt; of opAnswer
	Token  *token          `json:"token,omitempty"`
	Record *record         `json:"record,omitempty"`
	Finish *hook.Finish    `json:"finish,omitempty"`

	Top    []candidate `json:"top,omitempty"` // of opAnswer
	Floats floats      `json:"floats,omitempty"`
	Text   string      `json:"text,omitempty"`
	Fault  *fault      `json:"fault,omitempty"`
}

// What the child may ask while it is called.
const (
	askTop        = "top"
	askLogprob    = "logprob"
	askEntropy    = "entropy"
	askRow        = "row"
	askCandidates = "candidates"
	askDraw       = "draw"
	askEncode     = "encode"
	askDecode     = "decode"
	askVector     = "vector"
)

// up is a message of the child: a question, or the reply to what it was asked to do.
type up struct {
	Ask   string  `json:"ask,omitempty"`
	Model bool    `json:"model,omitempty"` // the model's own distribution
	K     int     `json:"k,omitempty"`
	Text  string  `json:"text,omitempty"`
	IDs   []int32 `json:"ids,omitempty"` // of a question; of a prompt; one that was chosen

	Info    *scripts.Info            `json:"info,omitempty"`
	Body    json.RawMessage          `json:"body,omitempty"`
	Logs    []string                 `json:"logs,omitempty"`
	Spec    *hook.Spec               `json:"spec,omitempty"`
	Edits   []edit                   `json:"edits,omitempty"`
	Values  map[hook.Setting]float64 `json:"values,omitempty"`
	Steer   json.RawMessage          `json:"steer,omitempty"`
	Stop    string                   `json:"stop,omitempty"`
	Inject  []int32                  `json:"inject,omitempty"`
	Notices []notice                 `json:"notices,omitempty"`
	Chosen  bool                     `json:"chosen,omitempty"`
	State   []byte                   `json:"state,omitempty"`
	Fault   *fault                   `json:"fault,omitempty"`
	Lines   []string                 `json:"lines,omitempty"` // of a script that cannot be used
}

// floats travel as their bytes, so that what is no number arrives too.
type floats []float32

// MarshalJSON implements json.Marshaler.
func (f floats) MarshalJSON() ([]byte, error) {
	data := make([]byte, 0, 4*len(f))
	for _, x := range f {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return json.Marshal(data)
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *floats) UnmarshalJSON(text []byte) error {
	var data []byte
	if err := json.Unmarshal(text, &data); err != nil {
		return err
	}
	if len(data)%4 != 0 {
		return fmt.Errorf("%d bytes are no floats", len(data))
	}
	*f = make(floats, len(data)/4)
	for i := range *f {
		(*f)[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return nil
}

type env struct {
	Params  map[string]any `json:"params"`
	Model   hook.Model     `json:"model"`
	Request hook.Request   `json:"request"`
	Tokens  bool           `json:"tokens"` // there is a tokenizer
	Now     time.Time      `json:"now"`
	State   []byte         `json:"state,omitempty"`
}

type token struct {
	Position int    `json:"position"`
	ID       int32  `json:"id"`
	Text     string `json:"text"`
	Logprob  floats `json:"logprob"`
	Forced   bool   `json:"forced"`
}

type record struct {
	Position int      `json:"position"`
	Prompt   bool     `json:"prompt"`
	Layers   int      `json:"layers"`
	K        int      `json:"k"`
	IDs      []uint16 `json:"ids"`
	Weights  floats   `json:"weights"`
}

type candidate struct {
	ID     int32  `json:"id"`
	Values floats `json:"values"` // logit, logprob
}

func toCandidates(list []hook.Candidate) []candidate {
	out := make([]candidate, len(list))
	for i, c := range list {
		out[i] = candidate{c.ID, floats{c.Logit, c.Logprob}}
	}
	return out
}

func fromCandidates(list []candidate) ([]hook.Candidate, error) {
	out := make([]hook.Candidate, len(list))
	for i, c := range list {
		if len(c.Values) != 2 {
			return nil, errors.New("a candidate without its values")
		}
		out[i] = hook.Candidate{ID: c.ID, Logit: c.Values[0], Logprob: c.Values[1]}
	}
	return out, nil
}

type edit struct {
	Op    hook.Op `json:"op"`
	IDs   []int32 `json:"ids,omitempty"`
	Value floats  `json:"value"`
}

type notice struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// plain is the value of a notice as the child had it: a number, a text or plain data.
func (n notice) plain() any {
	var number float64
	var text string
	switch {
	case json.Unmarshal(n.Value, &text) == nil:
		return text
	case json.Unmarshal(n.Value, &number) == nil:
		return number
	}
	return n.Value
}

type fault struct {
	Kind    string `json:"kind"`
	Line    string `json:"line,omitempty"`
	Message string `json:"message"`
}

func toFault(err error) *fault {
	var f *hook.Fault
	if !errors.As(err, &f) {
		return &fault{Kind: hook.Exception.String(), Message: err.Error()}
	}
	return &fault{f.Kind.String(), f.Line, f.Err.Error()}
}

func (f *fault) error() error {
	return &hook.Fault{Kind: hook.ParseFaultKind(f.Kind), Line: f.Line, Err: errors.New(f.Message)}
}
