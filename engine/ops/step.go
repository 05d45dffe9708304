package ops

// SegmentKind decides the arithmetic form of a segment; its length never does.
type SegmentKind uint8

const (
	// Prefill runs the delta rule in chunks of ChunkTokens at absolute borders.
	Prefill SegmentKind = iota
	// Decode is one token in step form.
	Decode
	// Replay is several tokens in step form: the bits of as many decode steps.
	Replay
)

func (k SegmentKind) String() string { return [...]string{"prefill", "decode", "replay"}[k] }

// ChunkTokens is the chunk of the delta rule's prefill form. Chunks begin at
// multiples of it in the sequence, so that no split of a prompt changes a bit.
const ChunkTokens = 64

// PageTokens is the number of positions one KV page holds.
const PageTokens = 64

// Segment is a run of consecutive tokens of one sequence. A prefill segment
// starts on a chunk border, except right after decoded tokens.
type Segment struct {
	Kind  SegmentKind
	Slot  int     // recurrent-state slot
	Start int     // position of the first token
	Len   int     // tokens
	Pages []int32 // KV page of positions 0, PageTokens, 2*PageTokens, ...
	// Logits are the offsets in the segment, ascending, whose logits are
	// wanted. Rows of the logits buffer follow in segment order.
	Logits []int
}

// Step is everything that changes from one replay to the next.
type Step struct {
	IDs      []int32 // token ids of all segments, one after another
	Segments []Segment
	// Hidden holds a draft program's input: per row, the main model's hidden
	// state after its final norm [rows, hidden]. Nil for other programs.
	Hidden []float32

	Sampling []Sampling // one for each logits row, for programs that sample
	Samples  []Sample   // results, as long as Sampling

	// Tap, when set on a backend with Caps.Taps, sees values as they are made:
	// layer is -1 outside layers, rows*width = len(data). It must copy what it
	// keeps.
	Tap func(layer int, what string, width int, data []float32)
}

// Rows returns the number of token rows of the step.
func (s *Step) Rows() int { return len(s.IDs) }

// LogitsRows returns how many rows want logits.
func (s *Step) LogitsRows() (n int) {
	for i := range s.Segments {
		n += len(s.Segments[i].Logits)
	}
	return n
}

// Sampling are the parameters of one draw. The chain is temperature, top-k,
// top-p, min-p; the draw is keyed by Seed, Choice, Position and the token id
// (see Uniform), so neither batching nor the device changes it.
type Sampling struct {
	Temperature float32 // 0 picks the most likely token
	TopK        int     // 0 keeps all
	TopP        float32 // 1 keeps all
	MinP        float32 // 0 keeps all
	Seed        uint64
	Choice      uint32 // index of the choice within its request
	Position    uint32 // position of the token to be drawn
	Attempt     uint32 // redraws at the same position count up
	Candidates  int    // how many of the most likely tokens to report
	Watch       int32  // an id whose log-probability to report too; -1 for none
}

// Candidate is a token with its place in the unmodified distribution.
type Candidate struct {
	ID      int32
	Logit   float32
	Logprob float32 // natural log, over all rows of the vocabulary
}

// Sample is the outcome of one draw.
type Sample struct {
	Token      Candidate
	Candidates []Candidate // most likely first
	Watched    Candidate   // of Sampling.Watch
	// LogSumExp of the unmodified logits over the whole vocabulary.
	LogSumExp float32
}
