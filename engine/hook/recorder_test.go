package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var recorded = Model{Name: "small", Shape: small, Tokens: 8, EOS: []int32{7}}

// reader is a hook that reads and edits, and takes its tokens back once.
func reader() *fake {
	back := false
	return &fake{spec: Spec{Name: "reader", Lag: 1, Hold: 4},
		start:  func(c *Call) error { return c.Steer.Ban([]int{0}, []int32{1}) },
		prompt: func(_ *Call, p *Prompt) error { p.IDs = append(p.IDs[:2], 5); return nil },
		logits: func(c *Call, l *Logits) error {
			if c.Position%2 == 0 {
				if _, err := l.Entropy(); err != nil {
					return err
				}
			}
			if _, err := l.Model().Logprob(3); err != nil {
				return err
			}
			return l.Bias([]int32{int32(c.Position % 8)}, float32(c.Random()))
		},
		sample: func(_ *Call, c *Candidates) (int32, bool, error) {
			id, err := c.Draw()
			return id, true, err
		},
		token: func(c *Call, t *Token) error {
			if t.Position == 5 && !back {
				back = true
				return c.Rewind(4, false)
			}
			return nil
		},
	}
}

// verdicts plays six draws to a hook.
func verdicts(t *testing.T, h Hook) (said string) {
	t.Helper()
	r := start(t, Options{OnError: Fail, Seed: 9}, h)
	position, told := 3, 0
	for range 7 {
		v, err := r.Logits(At{Position: position}, r.row, r.row)
		if err != nil {
			t.Fatal(err)
		}
		steering, err := r.Steer(position)
		if err != nil {
			t.Fatal(err)
		}
		said += fmt.Sprintf("%v %v %v %+v %s\n", v.Rewind, v.To, v.Attempt, v.Edits, must(json.Marshal(steering)))
		if v.Rewind {
			position = v.To
			continue
		}
		chosen, err := r.Sample(At{Position: position}, two{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		said += fmt.Sprintf("%+v\n", chosen)
		r.Token(Token{Position: position, ID: int32(position % 8)})
		if position > told {
			told = position
			r.Routing(record(position - 1))
		}
		position++
	}
	report := r.Finish(Finish{Reason: "stop", Prompt: 3, Completion: 5})
	r.Close()
	return said + fmt.Sprint(report.Degraded, report.Hooks[0].Edits, report.Hooks[0].Chosen)
}

// words is a tokenizer of digits that knows one word.
type words struct{}

func (words) Encode(string) ([]int32, error) { return []int32{1}, nil }
func (words) Decode(ids []int32) (text string) {
	for _, id := range ids {
		text += fmt.Sprint(id)
	}
	return text
}

// two leaves two tokens and draws the second.
type two struct{}

func (two) Candidates(int) ([]Candidate, error) { return []Candidate{{3, 1, -.5}, {4, 0, -1.5}}, nil }
func (two) Draw() (int32, error)                { return 4, nil }

// A hook does the same with a Recorder around it, and what it saw is read again.
func TestRecorder(t *testing.T) {
	var file bytes.Buffer
	inner := reader()
	head := Recording{Model: recorded, Params: map[string]any{"p": 2.0}, Now: time.Unix(5, 0).UTC(),
		Request: Request{ID: "r", MaxTokens: 7, Choices: 2, Body: map[string]any{"model": "small"}}}
	spelling := NewSpelling(words{})
	inner.finish = func(*Call, *Finish) error {
		spelling.Decode([]int32{1, 2})
		_, err := spelling.Encode("one")
		return err
	}
	recorder := NewRecorder(&file, head, spelling, inner)
	if with, without := verdicts(t, recorder), verdicts(t, reader()); with != without {
		t.Errorf("recording changes what the hook does:\n%s\nwithout:\n%s", with, without)
	}
	if recorder.Err() != nil || inner.closed != 1 {
		t.Errorf("%v, closed %d times", recorder.Err(), inner.closed)
	}
	r, err := ReadRecording(&file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hook != "reader" || r.Seed != 9 || !reflect.DeepEqual(r.Model, recorded) || !slices.Equal(r.Prompt, []int32{1, 2, 3}) || r.Params["p"] != 2.0 {
		t.Errorf("%+v", r)
	}
	head.Request.Seed = 9
	if !r.Now.Equal(head.Now) || !reflect.DeepEqual(r.Request, head.Request) {
		t.Errorf("%v, %+v", r.Now, r.Request)
	}
	spelled := r.Tokenizer()
	ids, err := spelled.Encode("one")
	if text, textErr := spelled.Text([]int32{1, 2}); err != nil || textErr != nil || text != "12" || !slices.Equal(ids, []int32{1}) {
		t.Errorf("%q %v, %v %v", text, textErr, ids, err)
	}
	if text, err := spelled.Text([]int32{3}); err != nil || text != "" {
		t.Errorf("a token that came: %q, %v", text, err)
	}
	var unknown *Fault
	if _, err := spelled.Text([]int32{2, 1}); !errors.As(err, &unknown) || unknown.Kind != Unsupported || !strings.Contains(err.Error(), "tokens [2 1]") {
		t.Errorf("a text that nobody asked for: %v", err)
	}
	if _, err := spelled.Encode("two"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), `ids of "two"`) {
		t.Errorf("ids that nobody asked for: %v", err)
	}
	if r.Finish == nil || *r.Finish != (Finish{"stop", 3, 5}) {
		t.Errorf("finish: %+v", r.Finish)
	}
	var order []string
	for _, s := range r.Steps {
		order = append(order, fmt.Sprintf("%d/%d", s.Position, s.Attempt))
		if s.Entry == nil {
			continue // routing of the prompt's last row
		}
		source := s.Entry.Source(r.Model.Tokens)
		plain := Plain{0, 1, 2, 3, 4, 5, 6, 7}
		for k := range 9 {
			got, err := source.Top(k)
			if want, _ := plain.Top(k); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("top %d of position %d: %v, %v", k, s.Position, got, err)
			}
		}
		entropy, err := source.Entropy()
		if want, _ := plain.Entropy(); err != nil || entropy != want {
			t.Errorf("entropy of position %d: %v, %v", s.Position, entropy, err)
		}
		if (s.Entry.Entropy != nil) != (s.Position%2 == 0) || len(s.Model.Logprobs) != 1 {
			t.Errorf("reads of position %d: %+v, %+v", s.Position, s.Entry, s.Model)
		}
		if s.Left == nil || len(s.Left.List) != 0 && s.Left.List[0].ID != 3 || s.Left.Drawn == nil || *s.Left.Drawn != 4 {
			t.Errorf("choice of position %d: %+v", s.Position, s.Left)
		}
		if s.Token == nil || s.Token.ID != int32(s.Position%8) {
			t.Errorf("token of position %d: %+v", s.Position, s.Token)
		}
	}
	if want := "2/0 3/0 4/0 5/0 4/1 5/1 6/1"; strings.Join(order, " ") != want {
		t.Errorf("steps %v, want %v", order, want)
	}
}

// What is not whole says which read is missing, and whole rows are kept.
func TestRecordedReads(t *testing.T) {
	tokens := 400
	row := make(Plain, tokens)
	for i := range row {
		row[i] = float32(i%97) / 8
	}
	record := func(read func(*Reads) error) Source {
		reads := NewReads(tokens, row, row)
		if err := read(reads); err != nil {
			t.Fatal(err)
		}
		r, err := reads.recorded()
		if err != nil {
			t.Fatal(err)
		}
		return r.Source(tokens)
	}
	source := record(func(r *Reads) error { _, err := r.Logprob(390); return err })
	if got, err := source.Logprob(390); err != nil || got != must(row.Logprob(390)) {
		t.Errorf("a log-probability that was read: %v, %v", got, err)
	}
	if got, err := source.Top(MaxCandidates); err != nil || len(got) != MaxCandidates {
		t.Errorf("%d candidates, %v", len(got), err)
	}
	for what, read := range map[string]func() error{
		"entropy":    func() error { _, err := source.Entropy(); return err },
		"token 0":    func() error { _, err := source.Logprob(0); return err },
		"257 most":   func() error { _, err := source.Top(MaxCandidates + 1); return err },
		"of the row": func() error { _, err := source.Row(); return err },
	} {
		var f *Fault
		if err := read(); !errors.As(err, &f) || f.Kind != Unsupported || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	source = record(func(r *Reads) error { _, err := r.Top(300); return err })
	if got, err := source.Row(); err != nil || !slices.Equal(got, row) {
		t.Errorf("a row: %v", err)
	}
}

// full is a writer that fails after some lines.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestRecorderGoesOnWithoutSpace(t *testing.T) {
	recorder := NewRecorder(&full{3}, Recording{Model: recorded}, nil, reader())
	if with, without := verdicts(t, recorder), verdicts(t, reader()); with != without {
		t.Error("a full disk changes what the hook does")
	}
	if err := recorder.Err(); err == nil || !strings.Contains(err.Error(), "record hook reader: no space left") {
		t.Errorf("%v", err)
	}
}

const recordingHead = `{"version":1,"hook":"h","model":"m","tokens":8,"eos":[7],"shape":{"layers":2,"experts":4,"k":1,"hidden":3},"seed":5,"choice":0}` + "\n"

func TestReadRecordingRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "it is empty",
		"x\n":                               "line 1: it is no header",
		`{"version":2}`:                     "version 2: this program reads version 1",
		`{"version":1,"tokens":-1}`:         "-1 tokens",
		`{"version":1,"tokens":4294967296}`: "4294967296 tokens",
		`{"version":1,"tokens":1,"shape":{"layers":99999}}`:                                              "no model is like that",
		`{"version":1,"tokens":1,"eos":[1]}`:                                                             "eos: token 1",
		recordingHead + `{"prompt":[8]}`:                                                                 "line 2: prompt: token 8",
		recordingHead + `{"decoded":{"ids":[8],"text":"x"}}`:                                             "answer of the tokenizer: token 8",
		recordingHead + "\n" + `{"position":-1}`:                                                         "line 3: position -1",
		recordingHead + `{"position":1,"entry":{"top":{"ids":[1]}}}`:                                     "entry: 1 ids, 0 logits",
		recordingHead + `{"position":1,"entry":{"top":{"ids":[1,2],"logits":[1,2],"logprobs":[-1,-2]}}}`: "the most likely first",
		recordingHead + `{"position":1,"entry":{"top":{"ids":[1,1],"logits":[1,1],"logprobs":[-1,-2]}}}`: "token 1 with the logit 1",
		recordingHead + `{"position":1,"entry":{"top":{"ids":[1],"logits":["+Inf"],"logprobs":[-1]}}}`:   "logit +Inf",
		recordingHead + `{"position":1,"entry":{"top":{},"entropy":"NaN"}}`:                              "is no number",
		recordingHead + `{"position":1,"entry":{"top":{},"row":"AAAA"}}`:                                 "a row of 3 bytes: 8 tokens have 32",
		recordingHead + `{"position":1,"entry":{"top":{},"logprobs":{"9":1}}}`:                           "token 9",
		recordingHead + `{"position":1,"token":{"id":8}}`:                                                "token: token 8",
		recordingHead + `{"position":1,"left":{"list":{},"drawn":8}}`:                                    "drawn: token 8",
		recordingHead + `{"position":1,"routing":{"k":1,"ids":[1],"weights":[1]}}`:                       "2 layers of 1 experts have 2",
		recordingHead + `{"position":1,"routing":{"k":1,"ids":[1,4],"weights":[1,1]}}`:                   "expert 4",
		recordingHead + "{\"finish\":{}}\n{\"finish\":{}}":                                               "a second time",
		recordingHead + `{"prompt":[` + strings.Repeat(" ", maxRecordLine):                               "line 2: more than 8 MiB",
	} {
		if _, err := ReadRecording(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s: %v, want %q", text, err, want)
		}
	}
}

// What is read at all is read the same once it is written again, and its reads fail or
// answer.
func FuzzRecording(f *testing.F) {
	var file bytes.Buffer
	spelling := NewSpelling(words{})
	r := NewRecorder(&file, Recording{Model: recorded, Params: map[string]any{"p": "x"}}, spelling, reader())
	c, err := NewChain(Options{Shape: small, Tokens: 8, Seed: 1}, r)
	if err != nil {
		f.Fatal(err)
	}
	for position := 3; position < 6; position++ {
		row := Plain{0, 1, 2, 3, 4, 5, 6, 7}
		_, _ = c.Logits(At{Position: position}, row, row)
		c.Token(Token{Position: position, ID: 3, Text: "x"})
		c.Routing(record(position))
	}
	spelling.Decode([]int32{3, 4})
	c.Finish(Finish{Reason: "stop"})
	f.Add(file.Bytes())
	f.Add([]byte(recordingHead + `{"position":1,"entry":{"top":{"ids":[1],"logits":[2],"logprobs":["-Inf"]},"row":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := ReadRecording(bytes.NewReader(text))
		if err != nil || first.Model.Tokens > 1<<12 {
			return
		}
		var again bytes.Buffer
		w := Recorder{to: &again}
		w.write(toHeaderJSON(first))
		if len(first.Prompt) > 0 {
			w.write(lineJSON{Prompt: first.Prompt})
		}
		for _, s := range first.Spelled {
			w.write(toSpelledJSON(s))
		}
		for _, s := range first.Steps {
			w.write(toLineJSON(&s))
			for _, row := range []*RecordedRow{s.Entry, s.Model} {
				if row == nil {
					continue
				}
				source := row.Source(first.Model.Tokens)
				_, _ = source.Top(3)
				_, _ = source.Logprob(0)
				_, _ = source.Entropy()
			}
		}
		if first.Finish != nil {
			w.write(lineJSON{Finish: (*finishJSON)(first.Finish)})
		}
		second, err := ReadRecording(&again)
		if err != nil || w.err != nil {
			t.Fatalf("%v, %v\n%s", err, w.err, again.Bytes())
		}
		if a, b := fmt.Sprintf("%+v", toLines(first)), fmt.Sprintf("%+v", toLines(second)); a != b {
			t.Errorf("%s\nagain:\n%s", a, b)
		}
	})
}

// toLines is a recording without its pointers.
func toLines(r *Recording) (out []string) {
	w := bytes.Buffer{}
	one := Recorder{to: &w}
	for i := range r.Steps {
		one.write(toLineJSON(&r.Steps[i]))
	}
	return append(out, w.String(), fmt.Sprint(r.Prompt, r.Finish, r.Model, r.Spelled, r.Request, r.Now))
}
