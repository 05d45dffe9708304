package ops

import "time"

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
	// Logits are the offsets in the segment, ascending, whose logits are wanted;
	// one that several choices draw from stands there as often. Rows of the logits
	// buffer follow in segment order.
	Logits []int
	// Steer changes how the segment's rows are routed; nil leaves all as it is. It
	// must not be written to once a step with it was submitted.
	Steer *Steering
}

// Step is everything that changes from one replay to the next.
type Step struct {
	// IDs are the token ids of all segments, one after another; Drawn stands for a
	// token that is not known yet.
	IDs      []int32
	Segments []Segment
	// Hidden holds a draft program's input: per row, the main model's hidden
	// state after its final norm [rows, hidden]. Nil for other programs.
	Hidden []float32

	Sampling []Sampling // one for each logits row, for programs that sample
	Samples  []Sample   // results, as long as Sampling

	// Routes, when set, gets the experts that each row chose.
	Routes *Routes

	// Residual, when set, gets the residual behind some layers, and Between changes
	// values between phases. A step without them pays nothing for either.
	Residual *Residual
	Between  *Between

	// Times, when set, gets the wall time of each phase added.
	Times *Times

	// Tap, when set on a backend with Caps.Taps, sees values as they are made:
	// layer is -1 outside layers, rows*width = len(data). It must copy what it
	// keeps.
	Tap func(layer int, what string, width int, data []float32)
}

// Drawn stands in Step.IDs for the token that row of the Sample submitted last
// draws, so that a backend with Caps.Ahead can be given a step before that draw
// is done.
func Drawn(row int) int32 { return ^int32(row) }

// Routes is the routing record of a step: for each row the experts of every
// layer, best first, with their weights as applied.
type Routes struct {
	Layers, K int
	IDs       []uint16  // [rows, Layers, K]; NoExpert where fewer were chosen
	Weights   []float32 // likewise
}

// NoExpert fills the ranks of Routes.IDs that no expert has.
const NoExpert = 1<<16 - 1

// Phase names a phase of Set, for timing.
type Phase uint8

// Phases, in the order of a step.
const (
	PhaseEmbed Phase = iota
	PhaseMixerIn
	PhaseDeltaNet
	PhaseAttention
	PhaseMixerOut
	PhaseRouter
	PhaseSelect
	PhaseExperts
	PhaseLogits
	PhaseSample
	PhaseDraftIn
	Phases int = iota
)

func (p Phase) String() string {
	return [...]string{"embed", "mixer_in", "delta_net", "attention", "mixer_out", "router", "select", "experts", "logits", "sample", "draft_in"}[p]
}

// Times is the wall time spent in each phase.
type Times [Phases]time.Duration

// Rows returns the number of token rows of the step.
func (s *Step) Rows() int { return len(s.IDs) }

// LogitsRows returns how many rows want logits.
func (s *Step) LogitsRows() (n int) {
	for i := range s.Segments {
		n += len(s.Segments[i].Logits)
	}
	return n
}

// Sampling are the parameters of one draw: what a device does with a row of
// logits (its "device set"). In this order: penalties, bias, mask; temperature,
// top-k, top-p, min-p; the draw. The draw is keyed by Seed, Choice, Position,
// Attempt and the token id (see Uniform), so neither batching nor the device
// changes it. What a device cannot do is done by its caller on a Window.
type Sampling struct {
	Repetition float32 // divides logits above 0 and multiplies those below, of every token in Seen; 1 (or 0) is off
	Presence   float32 // subtracted from the logits of tokens with output in Seen; 0 is off
	Frequency  float32 // subtracted once for each time
	Seen       []Count // ids ascending, each once
	Bias       []Bias  // added after penalties; ids ascending, each once; -Inf bans
	// Mask has a bit for each id, lowest first: those that may be drawn. Nil
	// allows all; ids beyond its end are not allowed.
	Mask []uint32

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
	// Window, when positive, asks for so many tokens with the largest logits
	// after penalties, bias and mask, and for no draw: the caller goes on.
	Window int
}

// Bias is an edit of one logit.
type Bias struct {
	ID    int32
	Value float32
}

// Count is how often a token was seen.
type Count struct {
	ID             int32
	Prompt, Output uint32
}

// Candidate is a token with its place in the unmodified distribution.
type Candidate struct {
	ID      int32
	Logit   float32
	Logprob float32 // natural log, over all rows of the vocabulary
}

// Sample is the outcome of one draw. Logits with a NaN, a +Inf or nothing above
// -Inf have no distribution: LogSumExp is NaN. There, and where bias and mask
// leave no token, Token.ID is -1 and Window is empty.
type Sample struct {
	Token      Candidate
	Candidates []Candidate // most likely first
	Watched    Candidate   // of Sampling.Watch
	// LogSumExp of the unmodified logits over the whole vocabulary.
	LogSumExp float32
	// Chosen is the log-probability of Token in the distribution that it was
	// drawn from, after the whole chain.
	Chosen float32

	// Window holds the tokens that Sampling.Window asked for, best first; fewer
	// only where no more may be drawn. Logit is after penalties, bias and mask,
	// Logprob is of the unmodified distribution.
	Window []Candidate
	// WindowSumExp is the log of the sum of exp(logit) over all tokens that may
	// be drawn, after penalties, bias and mask: what the window leaves out is
	// the difference to it. It is good to 1e-6 and the rounding of a float32.
	WindowSumExp float32

	// Drawn is when the token was added to its stream: the scheduler notes it.
	Drawn time.Time
}
