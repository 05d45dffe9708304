package kernels

// AttentionRotateArgs is the argument of rh_attention_rotate: queries and keys are
// normed and rotated, keys and values appended to their pages. Rows without a slot
// are left out. Pages are [page][KVHeads][64][HeadDim] of Type.
type AttentionRotateArgs struct {
	In           uint64 // float32[rows]: [Heads][query, gate][HeadDim], keys, values
	QNorm, KNorm uint64 // float32[HeadDim], zero-centred
	InvFreq      uint64 // float32[Half]
	Row          uint64 // Row[rows]
	Pages        uint64 // int32, where Row.page points into
	Keys, Values uint64
	Q            uint64 // float32[rows][Heads][HeadDim]; 0 for none
	HalfQ        uint64 // the same in Type; 0 for none
	K            uint64 // float32[rows][KVHeads][HeadDim], what a tap sees; 0 for none

	Heads, KVHeads, HeadDim uint32
	Half                    uint32  // pairs that turn
	Type                    uint32  // ops.Type: F32, F16 or BF16
	Scale                   float32 // of sines and cosines
	Eps                     float32
	Pad                     uint32
}

// AttentionGenericArgs is the argument of rh_attention_generic: causal attention of
// each row and head, of any size.
type AttentionGenericArgs struct {
	Out          uint64 // float32[rows][Heads][HeadDim]: queries before, outputs after
	HalfOut      uint64 // half[rows][Heads][HeadDim]; 0 for none
	Gate         uint64 // as AttentionRotateArgs.In; 0: the output is not gated
	Row          uint64
	Pages        uint64
	Keys, Values uint64

	Heads, KVHeads, HeadDim uint32
	Type                    uint32
	Scale                   float32 // of scores
	Pad                     uint32
}

// AttentionGateArgs is the argument of rh_attention_gate, for outputs that a tap saw
// before their gate: Out *= sigmoid(gate).
type AttentionGateArgs struct {
	Out     uint64 // float32[rows][Heads][HeadDim]
	HalfOut uint64 // half[rows][Heads][HeadDim]; 0 for none
	Gate    uint64 // as AttentionRotateArgs.In
	Row     uint64

	Heads, KVHeads, HeadDim, Pad uint32
}

// AttentionDecodeArgs is the argument of rh_attention_decode: heads of 256 values, up
// to eight to a KV head, over splits of each row's positions. A row of length n has
// splits of 32 * ceil(n/2048) positions.
type AttentionDecodeArgs struct {
	Q            uint64 // [rows][Heads][256] of Type
	Row          uint64
	Pages        uint64
	Keys, Values uint64
	Sums         uint64 // float32[rows][KVHeads][Splits][8][256]: weighted values of a split
	Weights      uint64 // float32[rows][KVHeads][Splits][8][2]: largest score times Scale, sum of weights

	Heads, KVHeads uint32
	Splits         uint32  // the most that a row has
	Type           uint32  // ops.Type: F16 or BF16
	Scale          float32 // of scores, times log2(e)
	Pad            uint32
}

// AttentionMergeArgs is the argument of rh_attention_merge, which puts the splits of
// rh_attention_decode together.
type AttentionMergeArgs struct {
	Out           uint64 // float32[rows][Heads][256]
	HalfOut       uint64 // half[rows][Heads][256]; 0 for none
	Gate          uint64 // as AttentionRotateArgs.In; 0: the output is not gated
	Row           uint64
	Sums, Weights uint64

	Heads, KVHeads uint32
	HeadDim        uint32 // 256
	Splits         uint32
}

// AttentionPrefillArgs is the argument of rh_attention_prefill: heads of 256 values,
// rows of one segment.
type AttentionPrefillArgs struct {
	Out          uint64 // float32[Rows][Heads][256]
	Q            uint64 // [Rows][Heads][256] of Type
	HalfOut      uint64 // half[Rows][Heads][256], may be Q; 0 for none
	Gate         uint64 // as AttentionRotateArgs.In; 0: the output is not gated
	Row          uint64
	Pages        uint64
	Keys, Values uint64

	Heads, KVHeads uint32
	HeadDim        uint32 // 256
	Rows           uint32
	Type           uint32  // ops.Type: F16 or BF16
	Scale          float32 // of scores, times log2(e)
}
