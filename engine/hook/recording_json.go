package hook

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// headerJSON is the first line of a recording.
type headerJSON struct {
	Version int            `json:"version"`
	Hook    string         `json:"hook"`
	Model   string         `json:"model"`
	Tokens  int            `json:"tokens"`
	EOS     []int32        `json:"eos"`
	Shape   shapeJSON      `json:"shape"`
	Seed    uint64         `json:"seed"`
	Choice  int            `json:"choice"`
	Params  map[string]any `json:"params,omitempty"`
	Request requestJSON    `json:"request"`
	Now     time.Time      `json:"now,omitzero"`
}

type requestJSON struct {
	ID        string `json:"id"`
	MaxTokens int    `json:"max_tokens"`
	Choices   int    `json:"choices"`
	Body      any    `json:"body,omitempty"`
}

type shapeJSON struct {
	Layers  int `json:"layers"`
	Experts int `json:"experts"`
	K       int `json:"k"`
	MaxK    int `json:"max_k,omitempty"`
	Hidden  int `json:"hidden"`
}

// lineJSON is any other line: it has a prompt, an answer of the tokenizer, an end, or a
// position.
type lineJSON struct {
	Prompt   []int32      `json:"prompt,omitempty"`
	Encoded  *spelledJSON `json:"encoded,omitempty"`
	Decoded  *spelledJSON `json:"decoded,omitempty"`
	Finish   *finishJSON  `json:"finish,omitempty"`
	Position *int         `json:"position,omitempty"`
	Attempt  int          `json:"attempt,omitempty"`
	Entry    *rowJSON     `json:"entry,omitempty"`
	Model    *rowJSON     `json:"model,omitempty"`
	Left     *choiceJSON  `json:"left,omitempty"`
	Token    *tokenJSON   `json:"token,omitempty"`
	Routing  *routingJSON `json:"routing,omitempty"`
}

type finishJSON struct {
	Reason     string `json:"reason"`
	Prompt     int    `json:"prompt"`
	Completion int    `json:"completion"`
}

type spelledJSON struct {
	IDs  []int32 `json:"ids"`
	Text string  `json:"text"`
}

type rowJSON struct {
	Top      listJSON        `json:"top"`
	Entropy  *float          `json:"entropy,omitempty"`
	Logprobs map[int32]float `json:"logprobs,omitempty"`
	Row      []byte          `json:"row,omitempty"` // float32, little-endian
}

type listJSON struct {
	IDs      []int32 `json:"ids"`
	Logits   []float `json:"logits"`
	Logprobs []float `json:"logprobs"`
}

type choiceJSON struct {
	List  listJSON `json:"list"`
	Drawn *int32   `json:"drawn,omitempty"`
}

type tokenJSON struct {
	ID      int32  `json:"id"`
	Text    string `json:"text"`
	Logprob float  `json:"logprob"`
	Forced  bool   `json:"forced,omitempty"`
}

type routingJSON struct {
	Prompt  bool     `json:"prompt,omitempty"`
	K       int      `json:"k"`
	IDs     []uint16 `json:"ids"`
	Weights []float  `json:"weights"`
}

// float is a number that may be infinite, which JSON has as a text.
type float float32

// MarshalJSON implements json.Marshaler.
func (f float) MarshalJSON() ([]byte, error) {
	if x := float64(f); math.IsInf(x, 0) || math.IsNaN(x) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(x, 'g', -1, 32)), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'g', -1, 32), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *float) UnmarshalJSON(text []byte) error {
	x, err := strconv.ParseFloat(string(bytes.Trim(text, `"`)), 32)
	if err != nil || x != x {
		return fmt.Errorf("%.40s is no number", text)
	}
	*f = float(x)
	return nil
}

func toListJSON(list []Candidate) (out listJSON) {
	for _, c := range list {
		out.IDs, out.Logits, out.Logprobs = append(out.IDs, c.ID), append(out.Logits, float(c.Logit)), append(out.Logprobs, float(c.Logprob))
	}
	return out
}

func toRowJSON(r *RecordedRow) *rowJSON {
	if r == nil {
		return nil
	}
	out := &rowJSON{Top: toListJSON(r.Top), Entropy: (*float)(r.Entropy)}
	if len(r.Logprobs) > 0 {
		out.Logprobs = map[int32]float{}
		for id, v := range r.Logprobs {
			out.Logprobs[id] = float(v)
		}
	}
	for _, v := range r.Row {
		out.Row = binary.LittleEndian.AppendUint32(out.Row, math.Float32bits(v))
	}
	return out
}

func toLineJSON(s *RecordedStep) lineJSON {
	out := lineJSON{Position: &s.Position, Attempt: s.Attempt, Entry: toRowJSON(s.Entry), Model: toRowJSON(s.Model)}
	if l := s.Left; l != nil {
		out.Left = &choiceJSON{toListJSON(l.List), l.Drawn}
	}
	if t := s.Token; t != nil {
		out.Token = &tokenJSON{t.ID, t.Text, float(t.Logprob), t.Forced}
	}
	if r := s.Routing; r != nil {
		weights := make([]float, len(r.Weights))
		for i, w := range r.Weights {
			weights[i] = float(w)
		}
		out.Routing = &routingJSON{r.Prompt, r.K, r.IDs, weights}
	}
	return out
}

func toHeaderJSON(r *Recording) headerJSON {
	return headerJSON{recordingVersion, r.Hook, r.Model.Name, r.Model.Tokens, r.Model.EOS, shapeJSON(r.Model.Shape), r.Seed, r.Choice, r.Params,
		requestJSON{r.Request.ID, r.Request.MaxTokens, r.Request.Choices, r.Request.Body}, r.Now}
}

func toSpelledJSON(s Spelled) lineJSON {
	line := &spelledJSON{s.IDs, s.Text}
	if s.Decoded {
		return lineJSON{Decoded: line}
	}
	return lineJSON{Encoded: line}
}

// ReadRecording reads what a Recorder wrote. Sizes are bounded and everything is checked:
// the text may come from anywhere. Errors name the line.
func ReadRecording(from io.Reader) (*Recording, error) {
	bounded := &io.LimitedReader{R: from, N: MaxRecording + 1}
	lines := bufio.NewScanner(bounded)
	lines.Buffer(nil, maxRecordLine)
	var r *Recording
	n := 0
	for lines.Scan() {
		n++
		var err error
		if r == nil {
			r, err = readHeader(lines.Bytes())
		} else if len(bytes.TrimSpace(lines.Bytes())) > 0 {
			err = r.readLine(lines.Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("recording of hooks, line %d: %w", n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("recording of hooks, line %d: more than %d MiB", n+1, maxRecordLine>>20)
	case err != nil:
		return nil, fmt.Errorf("recording of hooks, line %d: %w", n+1, err)
	case bounded.N == 0:
		return nil, fmt.Errorf("recording of hooks: more than %d MiB", MaxRecording>>20)
	case r == nil:
		return nil, errors.New("recording of hooks: it is empty; --record-hooks writes one")
	}
	return r, nil
}

func readHeader(text []byte) (*Recording, error) {
	var h headerJSON
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("it is no header: %w", err)
	}
	s := h.Shape
	switch {
	case h.Version != recordingVersion:
		return nil, fmt.Errorf("version %d: this program reads version %d", h.Version, recordingVersion)
	case h.Tokens < 1 || h.Tokens > maxRecordTokens:
		return nil, fmt.Errorf("%d tokens: 1 to %d are possible", h.Tokens, maxRecordTokens)
	case s.Layers < 0 || s.Layers > maxRecordLayers, s.Experts < 0 || s.Experts > NoExpert, s.Hidden < 0 || s.Hidden > maxRecordHidden,
		s.K < 0 || s.K > MaxK || s.K > s.Experts, s.MaxK < 0 || s.MaxK > MaxK:
		return nil, fmt.Errorf("a model of %d layers, %d of %d experts and %d hidden values: no model is like that", s.Layers, s.K, s.Experts, s.Hidden)
	case h.Choice < 0 || h.Choice > math.MaxInt32:
		return nil, fmt.Errorf("choice %d: there is none", h.Choice)
	}
	r := &Recording{Hook: h.Hook, Seed: h.Seed, Choice: h.Choice, Params: h.Params, Now: h.Now,
		Request: Request{ID: h.Request.ID, MaxTokens: h.Request.MaxTokens, Seed: h.Seed, Choice: h.Choice, Choices: h.Request.Choices, Body: h.Request.Body},
		Model:   Model{Name: h.Model, Tokens: h.Tokens, EOS: h.EOS, Shape: Shape(s)}}
	return r, r.checkIDs("eos", h.EOS, MaxCandidates)
}

// checkIDs refuses ids that there are not, and too many.
func (r *Recording) checkIDs(what string, ids []int32, most int) error {
	if len(ids) > most {
		return fmt.Errorf("%s: %d tokens, where there are %d at most", what, len(ids), most)
	}
	if i := slices.IndexFunc(ids, func(id int32) bool { return id < 0 || int(id) >= r.Model.Tokens }); i >= 0 {
		return fmt.Errorf("%s: token %d: ids lie in 0 to %d", what, ids[i], r.Model.Tokens-1)
	}
	return nil
}

func (r *Recording) readLine(text []byte) (err error) {
	var l lineJSON
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	switch {
	case l.Finish != nil:
		if r.Finish != nil {
			return errors.New("it ends a second time")
		}
		f := Finish(*l.Finish)
		r.Finish = &f
		return nil
	case l.Encoded != nil:
		return r.spelled(Spelled{IDs: l.Encoded.IDs, Text: l.Encoded.Text})
	case l.Decoded != nil:
		return r.spelled(Spelled{IDs: l.Decoded.IDs, Text: l.Decoded.Text, Decoded: true})
	case l.Position == nil:
		r.Prompt = l.Prompt
		return r.checkIDs("prompt", l.Prompt, maxRecordPrompt)
	case *l.Position < 0 || *l.Position > math.MaxInt32 || l.Attempt < 0 || l.Attempt > math.MaxInt32:
		return fmt.Errorf("position %d, attempt %d: there is none", *l.Position, l.Attempt)
	case len(r.Steps) == maxRecordSteps:
		return fmt.Errorf("more than %d positions", maxRecordSteps)
	}
	s := RecordedStep{Position: *l.Position, Attempt: l.Attempt}
	if s.Entry, err = r.row("entry", l.Entry); err != nil {
		return err
	}
	if s.Model, err = r.row("model", l.Model); err != nil {
		return err
	}
	if l.Left != nil {
		s.Left = &RecordedChoice{Drawn: l.Left.Drawn}
		if s.Left.List, err = r.list("left", l.Left.List); err != nil {
			return err
		}
		if d := l.Left.Drawn; d != nil {
			if err := r.checkIDs("drawn", []int32{*d}, 1); err != nil {
				return err
			}
		}
	}
	if t := l.Token; t != nil {
		s.Token = &Token{s.Position, t.ID, t.Text, float32(t.Logprob), t.Forced}
		if err := r.checkIDs("token", []int32{t.ID}, 1); err != nil {
			return err
		}
	}
	if s.Routing, err = r.routing(s.Position, l.Routing); err != nil {
		return err
	}
	r.Steps = append(r.Steps, s)
	return nil
}

func (r *Recording) spelled(s Spelled) error {
	if len(r.Spelled) == maxRecordSpelled {
		return fmt.Errorf("more than %d answers of the tokenizer", maxRecordSpelled)
	}
	r.Spelled = append(r.Spelled, s)
	return r.checkIDs("answer of the tokenizer", s.IDs, maxRecordPrompt)
}

// list reads candidates, which are in their order.
func (r *Recording) list(what string, l listJSON) ([]Candidate, error) {
	if len(l.Logits) != len(l.IDs) || len(l.Logprobs) != len(l.IDs) {
		return nil, fmt.Errorf("%s: %d ids, %d logits and %d log-probabilities: there are as many of each", what, len(l.IDs), len(l.Logits), len(l.Logprobs))
	}
	if err := r.checkIDs(what, l.IDs, MaxCandidates); err != nil {
		return nil, err
	}
	var out []Candidate
	for i, id := range l.IDs {
		c := Candidate{id, float32(l.Logits[i]), float32(l.Logprobs[i])}
		if math.IsInf(float64(c.Logit), 0) || i > 0 && c.Logit > out[i-1].Logit || slices.Contains(l.IDs[:i], id) {
			return nil, fmt.Errorf("%s: token %d with the logit %v: each token stands there once, the most likely first", what, id, c.Logit)
		}
		out = append(out, c)
	}
	return out, nil
}

func (r *Recording) row(what string, from *rowJSON) (*RecordedRow, error) {
	if from == nil {
		return nil, nil
	}
	out := &RecordedRow{Entropy: (*float32)(from.Entropy)}
	var err error
	if out.Top, err = r.list(what, from.Top); err != nil {
		return nil, err
	}
	if len(from.Logprobs) > maxRecordReads {
		return nil, fmt.Errorf("%s: %d log-probabilities: %d at most", what, len(from.Logprobs), maxRecordReads)
	}
	for id, v := range from.Logprobs {
		if err := r.checkIDs(what, []int32{id}, 1); err != nil {
			return nil, err
		}
		if out.Logprobs == nil {
			out.Logprobs = map[int32]float32{}
		}
		out.Logprobs[id] = float32(v)
	}
	if len(from.Row) == 0 {
		return out, nil
	}
	if len(from.Row) != 4*r.Model.Tokens {
		return nil, fmt.Errorf("%s: a row of %d bytes: %d tokens have %d", what, len(from.Row), r.Model.Tokens, 4*r.Model.Tokens)
	}
	out.Row = make([]float32, r.Model.Tokens)
	for i := range out.Row {
		out.Row[i] = math.Float32frombits(binary.LittleEndian.Uint32(from.Row[4*i:]))
		if v := float64(out.Row[i]); math.IsNaN(v) || math.IsInf(v, 1) {
			return nil, fmt.Errorf("%s: the logit of token %d is %v", what, i, v)
		}
	}
	return out, nil
}

func (r *Recording) routing(position int, from *routingJSON) (*Record, error) {
	if from == nil {
		return nil, nil
	}
	layers := r.Model.Shape.Layers
	if from.K < 0 || from.K > MaxK || len(from.IDs) != layers*from.K || len(from.Weights) != len(from.IDs) {
		return nil, fmt.Errorf("routing of %d ids and %d weights: %d layers of %d experts have %d", len(from.IDs), len(from.Weights), layers, from.K, layers*from.K)
	}
	out := &Record{Position: position, Prompt: from.Prompt, Layers: layers, K: from.K, IDs: from.IDs, Weights: make([]float32, len(from.Weights))}
	for i, id := range from.IDs {
		if id != NoExpert && int(id) >= r.Model.Shape.Experts {
			return nil, fmt.Errorf("routing to expert %d: ids lie in 0 to %d", id, r.Model.Shape.Experts-1)
		}
		out.Weights[i] = float32(from.Weights[i])
	}
	return out, nil
}
