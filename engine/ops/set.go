package ops

// Set is the ten phases of the model, plus the entry of the draft (MTP) layer.
// Recording calls the methods in order; a backend may fuse neighbours as long
// as the bits stay the same. Buffers hold fp32 unless said otherwise; T is the
// number of rows of a step.
type Set interface {
	// Embed looks up the rows of the step's ids: X = Table[ids].
	Embed(EmbedArgs)
	// MixerIn norms the residual and projects it to all inputs of the mixer.
	MixerIn(MixerInArgs)
	// DeltaNet is conv, SiLU, L2 norms, gates, delta rule, gated RMSNorm.
	DeltaNet(DeltaNetArgs)
	// Attention is q/k norms, partial RoPE, KV append, causal attention and
	// the output gate.
	Attention(AttentionArgs)
	// MixerOut projects the heads back and adds them to the residual.
	MixerOut(MixerOutArgs)
	// Router norms the residual and computes router logits and the shared
	// expert's gate.
	Router(RouterArgs)
	// Select turns router logits into expert ids and weights.
	Select(SelectArgs)
	// Experts runs the chosen experts and the shared one and adds them to the
	// residual.
	Experts(ExpertsArgs)
	// Logits is the final norm and lm_head for the rows that want it.
	Logits(LogitsArgs)
	// Sample draws a token for each row of logits.
	Sample(SampleArgs)
	// DraftIn joins the embedding of the next token with the main model's
	// hidden state: the entry of the MTP layer.
	DraftIn(DraftInArgs)
}

// EmbedArgs: X [T, hidden].
type EmbedArgs struct {
	Table *Matrix // dense [vocabulary, hidden]: N = vocabulary, K = hidden
	X     Buf
}

// MixerInArgs: X [T, hidden] -> Out [T, sum of N]. The outputs of Weights
// follow one another in a row: qkvz, ba; or q+gate, k, v. The norm is
// zero-centred: y = x * rsqrt(mean(x^2) + Eps) * (1 + w).
type MixerInArgs struct {
	Layer   int
	X       Buf
	Norm    *Vector
	Eps     float32
	Weights []*Matrix
	Out     Buf
}

// DeltaNetShape are the dimensions of a gated delta net layer. Value head n
// uses the query and key of key head n / (ValueHeads/KeyHeads).
type DeltaNetShape struct {
	KeyHeads, ValueHeads int
	KeyDim, ValueDim     int
	Kernel               int // taps of the causal convolution
}

// Channels returns the width of the convolution: q, k and v, flat.
func (s DeltaNetShape) Channels() int {
	return 2*s.KeyHeads*s.KeyDim + s.ValueHeads*s.ValueDim
}

// DeltaNetArgs: In [T, qkvz + ba], in file order (grouped by key head) ->
// Out [T, ValueHeads*ValueDim]. State [slots, ValueHeads, KeyDim, ValueDim],
// Window [slots, Channels, Kernel-1] (raw inputs, oldest first). A segment that
// starts at position 0 starts from zeros whatever its slot holds.
type DeltaNetArgs struct {
	Layer  int
	Shape  DeltaNetShape
	In     Buf
	Conv   *Vector // [Channels, Kernel], last tap is the current token
	ALog   *Vector // [ValueHeads]
	DTBias *Vector // [ValueHeads]
	Norm   *Vector // [ValueDim]: plain, not zero-centred
	Eps    float32
	State  Buf
	Window Buf
	Out    Buf
}

// Rope is partial rotary embedding in the half-split form: of each head the
// first 2*len(InvFreq) values turn, pairs (i, i+len(InvFreq)).
type Rope struct {
	InvFreq []float32 // radians per position
	Scale   float32   // factor of cos and sin; 1 without YaRN
}

// AttentionShape are the dimensions of a gated attention layer.
type AttentionShape struct {
	Heads, KVHeads, HeadDim int
	Rope                    Rope
}

// AttentionArgs: In [T, Heads*2*HeadDim (per head query then gate), keys,
// values] -> Out [T, Heads*HeadDim]. Keys and Values are page pools [pages,
// KVHeads, PageTokens, HeadDim]; keys are kept after norm and rotation.
type AttentionArgs struct {
	Layer        int
	Shape        AttentionShape
	In           Buf
	QNorm, KNorm *Vector // [HeadDim], zero-centred
	Eps          float32
	Keys, Values Buf
	Out          Buf
}

// MixerOutArgs: X += In W.
type MixerOutArgs struct {
	Layer int
	In    Buf
	W     *Matrix
	X     Buf
}

// RouterArgs: X [T, hidden] -> Normed [T, hidden], Logits [T, experts],
// Gate [T] (of the shared expert, before its sigmoid).
type RouterArgs struct {
	Layer  int
	X      Buf
	Norm   *Vector
	Eps    float32
	Router *Matrix
	Shared *Matrix // [hidden, 1]
	Normed Buf
	Logits Buf
	Gate   Buf
}

// SelectArgs: Logits [T, experts] -> IDs I32 [T, K], Weights [T, K], best
// first; among equal logits the lower id wins. Weights are the softmax over all
// experts, divided by their sum when Renormalise.
type SelectArgs struct {
	Layer       int
	Logits      Buf
	Experts, K  int
	Renormalise bool
	IDs         Buf
	Weights     Buf
}

// Expert is one SwiGLU: down(silu(gate x) * up x).
type Expert struct {
	Gate, Up, Down *Matrix
}

// ExpertsArgs: X += sum over ranks of weight * expert(Normed), in rank order,
// + sigmoid(Gate) * shared(Normed).
type ExpertsArgs struct {
	Layer   int
	Normed  Buf
	IDs     Buf
	Weights Buf
	K       int
	Experts []Expert
	Gate    Buf
	Shared  Expert
	X       Buf
}

// LogitsArgs: Hidden [T, hidden] = norm(X); Logits [rows that want them,
// vocabulary].
type LogitsArgs struct {
	X      Buf
	Norm   *Vector
	Eps    float32
	Head   *Matrix
	Hidden Buf
	Logits Buf
}

// SampleArgs: Logits [rows, Vocabulary] -> Step.Samples. Only ids below Tokens
// can be chosen: rows beyond the tokenizer's range are padding.
type SampleArgs struct {
	Logits             Buf
	Vocabulary, Tokens int
}

// DraftInArgs: X = fc([norm(Table[ids]), norm(Step.Hidden)]), embedding first.
type DraftInArgs struct {
	Table                 *Matrix
	EmbedNorm, HiddenNorm *Vector
	Eps                   float32
	FC                    *Matrix // [2*hidden, hidden]
	X                     Buf
}
