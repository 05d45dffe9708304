package hook

import (
	"math"
	"slices"
	"time"
)

// Recording is what one hook of one choice saw, so that it can be run again without the
// model. Recorder writes it and ReadRecording reads it, as JSON lines:
//
//	{"version":1,"hook":"sampler","model":"demo","tokens":4096,"eos":[0],"shape":{"layers":8,"experts":64,"k":10,"hidden":256},"seed":5,"choice":0,"params":{}}
//	{"prompt":[1,2,3]}
//	{"decoded":{"ids":[2],"text":" two"}}
//	{"position":3,"entry":{"top":{...},"entropy":1.5},"model":{...},"token":{...},"routing":{...}}
//	{"finish":{"reason":"stop","prompt":3,"completion":1}}
//
// The first line says which choice of which model it is. A line with a position holds
// what became of it: reads of the row that its token was drawn from, as it came to the
// hook (entry) and as the model had it; for a hook that chooses, what was left to choose
// from; the token; and what the row that read the token was routed to. Lines are in the
// order of the events; a position that was drawn again has a line for each attempt. Lines
// between them, encoded and decoded, hold what the tokenizer answered, each question once.
// Versions of the format only grow: fields that a reader does not know are passed over.
type Recording struct {
	Hook   string // its name
	Model  Model
	Seed   uint64
	Choice int
	Params map[string]any // as the request gave them
	// Request is what the hook knew of it; Seed and Choice are those above.
	Request Request
	Now     time.Time // that the hook saw
	Prompt  []int32   // as it came to the hook
	Spelled []Spelled
	Steps   []RecordedStep
	Finish  *Finish // nil where the choice did not come to its end
}

// RecordedStep is what became of a position. What the hook was not told is nil.
type RecordedStep struct {
	Position, Attempt int
	Entry, Model      *RecordedRow
	Left              *RecordedChoice
	Token             *Token
	Routing           *Record // of the row at this position
}

// RecordedRow is what is known of a row of logits.
type RecordedRow struct {
	Top      []Candidate       // the most likely tokens, MaxCandidates at most
	Entropy  *float32          // nil where nobody read it, as the next ones
	Logprobs map[int32]float32 // of single tokens
	Row      []float32         // all logits
}

// RecordedChoice is what a hook that chooses had to choose from.
type RecordedChoice struct {
	List  []Candidate
	Drawn *int32 // what the chain would have chosen, where the hook asked
}

// Bounds of a recording.
const (
	recordingVersion = 1
	MaxRecording     = 64 << 20 // bytes
	maxRecordLine    = 8 << 20  // bytes of a line
	maxRecordSteps   = 1 << 16
	maxRecordPrompt  = 1 << 20 // tokens
	maxRecordTokens  = 1 << 22 // of a vocabulary
	maxRecordLayers  = 1 << 10
	maxRecordHidden  = 1 << 20
	maxRecordReads   = 1 << 12 // single log-probabilities of a row
	maxRecordSpelled = 1 << 17 // questions to the tokenizer
)

// Source returns the reads of the row. Those that were not recorded, and do not follow
// from what was, are errors: a Fault of kind Unsupported.
func (r *RecordedRow) Source(tokens int) Source { return recordedSource{r, tokens} }

type recordedSource struct {
	*RecordedRow
	tokens int
}

// unread is the fault of a read that nobody made when the recording was.
func unread(what string, args ...any) error {
	return faultf(Unsupported, "the recording does not hold "+what+": record again with a hook that reads it", args...)
}

// Top implements Source.
func (s recordedSource) Top(k int) ([]Candidate, error) {
	if k <= len(s.RecordedRow.Top) || s.complete() {
		return slices.Clone(s.RecordedRow.Top[:min(k, len(s.RecordedRow.Top))]), nil
	}
	row, err := s.Row()
	if err != nil {
		return nil, unread("the %d most likely tokens, but %d", k, len(s.RecordedRow.Top))
	}
	return Plain(row).Top(k)
}

// Logprob implements Source.
func (s recordedSource) Logprob(id int32) (float32, error) {
	if v, ok := s.Logprobs[id]; ok {
		return v, nil
	}
	for _, c := range s.RecordedRow.Top {
		if c.ID == id {
			return c.Logprob, nil
		}
	}
	row, err := s.Row()
	if err != nil || int(id) >= len(row) {
		return 0, unread("the log-probability of token %d", id)
	}
	return Plain(row).Logprob(id)
}

// Entropy implements Source.
func (s recordedSource) Entropy() (float32, error) {
	if s.RecordedRow.Entropy != nil {
		return *s.RecordedRow.Entropy, nil
	}
	row, err := s.Row()
	if err != nil {
		return 0, unread("the entropy")
	}
	return Plain(row).Entropy()
}

// Row implements Source.
func (s recordedSource) Row() ([]float32, error) {
	switch {
	case s.RecordedRow.Row != nil:
		return s.RecordedRow.Row, nil
	case !s.complete():
		return nil, unread("all logits of the row")
	}
	row := make([]float32, s.tokens)
	for i := range row {
		row[i] = float32(math.Inf(-1))
	}
	for _, c := range s.RecordedRow.Top {
		row[c.ID] = c.Logit
	}
	return row, nil
}

// complete says that all tokens that can be drawn are among the most likely ones.
func (s recordedSource) complete() bool {
	n := len(s.RecordedRow.Top)
	return n > 0 && (n < MaxCandidates || n == s.tokens)
}
