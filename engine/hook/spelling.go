package hook

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// Spelled is an answer of a tokenizer: the ids of a text, or, Decoded, the text of ids.
type Spelled struct {
	IDs     []int32
	Text    string
	Decoded bool
}

// Spelling is a tokenizer that keeps what the one behind it answers, each question once,
// for a Recorder to write: what a hook does may depend on it. It is safe for concurrent
// use.
type Spelling struct {
	inner Tokenizer

	mu    sync.Mutex
	asked map[string]bool
	fresh []Spelled // not taken yet
	bytes int       // kept, about
	err   error     // why it keeps no more
}

// NewSpelling returns a Spelling of a tokenizer.
func NewSpelling(of Tokenizer) *Spelling { return &Spelling{inner: of, asked: map[string]bool{}} }

// Encode implements Tokenizer.
func (s *Spelling) Encode(text string) ([]int32, error) {
	ids, err := s.inner.Encode(text)
	if err == nil {
		s.keep("e"+text, Spelled{IDs: slices.Clone(ids), Text: text})
	}
	return ids, err
}

// Decode implements Tokenizer.
func (s *Spelling) Decode(ids []int32) string {
	text := s.inner.Decode(ids)
	s.keep("d"+idKey(ids), Spelled{IDs: slices.Clone(ids), Text: text, Decoded: true})
	return text
}

// idKey is a text that stands for ids.
func idKey(ids []int32) string {
	key := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		key = binary.LittleEndian.AppendUint32(key, uint32(id))
	}
	return string(key)
}

func (s *Spelling) keep(key string, answer Spelled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.asked[key] {
		return
	}
	if s.bytes += len(answer.Text) + 4*len(answer.IDs); s.bytes > MaxRecording || len(s.asked) == maxRecordSpelled {
		s.err = fmt.Errorf("the tokenizer was asked %d different things, %d MiB in all: more are not recorded", len(s.asked)+1, s.bytes>>20)
		return
	}
	s.asked[key] = true
	s.fresh = append(s.fresh, answer)
}

// take returns the answers since it was last called. The error says that it keeps no more.
func (s *Spelling) take() ([]Spelled, error) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = nil
	return fresh, s.err
}

// Tokenizer answers what was asked when the recording was made.
func (r *Recording) Tokenizer() Respelling {
	t := Respelling{encoded: map[string][]int32{}, decoded: map[string]string{}}
	for _, s := range r.Steps {
		if s.Token != nil {
			t.decoded[idKey([]int32{s.Token.ID})] = s.Token.Text
		}
	}
	for _, s := range r.Spelled {
		if s.Decoded {
			t.decoded[idKey(s.IDs)] = s.Text
		} else {
			t.encoded[s.Text] = s.IDs
		}
	}
	return t
}

// Respelling is the tokenizer of a Recording. What was not asked then is an error: a Fault
// of kind Unsupported.
type Respelling struct {
	encoded map[string][]int32
	decoded map[string]string // by idKey
}

// Encode implements Tokenizer.
func (t Respelling) Encode(text string) ([]int32, error) {
	ids, ok := t.encoded[text]
	if !ok {
		return nil, unread("the ids of %.100q", text)
	}
	return slices.Clone(ids), nil
}

// Text is Decode, with an error.
func (t Respelling) Text(ids []int32) (string, error) {
	text, ok := t.decoded[idKey(ids)]
	if !ok {
		return "", unread("the text of the tokens %v", ids[:min(len(ids), 20)])
	}
	return text, nil
}

// Decode implements Tokenizer: "" for what is not known. Whoever can, asks Text.
func (t Respelling) Decode(ids []int32) string {
	text, _ := t.Text(ids)
	return text
}
