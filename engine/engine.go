// Package engine is what a Go program imports to run a model: Open a folder,
// Generate tokens, or drive a Sequence step by step.
//
//	m, err := engine.Open(ctx, os.DirFS("models/qwen3-next"), engine.Options{})
//	result, err := m.Generate(ctx, engine.Request{Prompt: ids, MaxTokens: 64}, print)
package engine

import (
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
)

// Options of Open. The zero value runs on every core with the model's context.
type Options struct {
	// Name is the id the model answers to; it appears in errors and results.
	Name string
	// Device is "cpu", "cuda" or "cuda:N"; "" or "auto" for the first NVIDIA device,
	// or the CPU where there is none.
	Device string
	// Driver of CUDA; nil for the machine's own. Package drivertest has one that needs
	// no GPU.
	Driver driver.Driver
	// Threads of the CPU engine; 0 for one a core.
	Threads int
	// Kernels of the CPU engine: "portable", "avx2" or "avx512"; of the CUDA engine:
	// "generic". "" for the best that the machine runs.
	Kernels string
	// Numerics is "exact", "fast" or, on a CPU, "int8" (see cpu.Numerics and
	// cuda.Numerics); "" for the default of the backend.
	Numerics string
	// KV is the type that keys and values are kept in: "f32", "f16" or "bf16"; ""
	// for f16 with fast numerics on a GPU, f32 elsewhere.
	KV string
	// Context limits prompt plus completion, in tokens; 0 for the model's own limit
	// (max_position_embeddings), 32768 at most. Where a GPU has not the memory,
	// PrefillChunk, Streams and Context are lowered in this order, but none that is
	// given (see cuda.MakePlan).
	Context int
	// Streams is how many sequences can run at once; 0 for 4. Each costs
	// recurrent state, and KV pages as it grows.
	Streams int
	// CacheTokens is how many positions the KV pages of all streams hold; 0 for
	// Context times Streams. A smaller pool is shared by what requests may need
	// (prompt plus MaxTokens); it holds one stream of full length at least.
	CacheTokens int
	// Queue is how many requests may wait for a stream; 0 for 256. One more gets
	// a QueueError.
	Queue int
	// Overcommit admits streams before all that they may need is free. When
	// memory runs out, the newest is put aside and goes on later with the same
	// bits: "" is off, "swap" copies its state to host memory, "rebuild" reads
	// prompt and tokens again.
	Overcommit string
	// PrefillChunk is the most prompt tokens of one step, a multiple of 64; 0 for
	// 512 on a CPU and 2048 on a GPU, and no more than Context. Splits change no bit.
	PrefillChunk int
	// Synthetic fills the weights with random numbers where they are placed and reads
	// no tensor of the folder: for measuring on a GPU.
	Synthetic bool
	// IgnoreMemory loads even when the weights do not fit in free memory.
	IgnoreMemory bool
	// Progress, when set, is told how loading goes. It must return quickly.
	Progress func(Progress)
}

// Progress of loading.
type Progress struct {
	Stage       string // "headers", "tokenizer", "memory", "weights", "ready"
	Done, Total int64  // bytes, where the stage has bytes
	Plan        string // at "memory", which only a GPU has: the memory plan, a table
}

// Sampling says how the tokens of a request are drawn.
type Sampling = sample.Params

// Request asks for one completion.
type Request struct {
	Prompt    []int32
	Priority  int       // higher goes first in the queue: each step of it is worth ten seconds of waiting
	Deadline  time.Time // when not zero: the request ends then, with context.DeadlineExceeded
	MaxTokens int       // 0: as many as the context holds
	Sampling  Sampling
	// Logprobs says which distribution Token.Logprob is of.
	Logprobs  LogprobsOf
	Choice    uint32   // index of this completion within its request; keys the draws
	Stop      []string // texts that end the completion and are left out of it
	StopIDs   []int32  // ids that end it, beside the model's own end tokens
	IgnoreEOS bool     // the model's end tokens do not end it
	// Candidates is how many of the most likely tokens to report for each
	// token, 0 to 256.
	Candidates int
	// PromptCandidates, when not nil, asks for the log-probability of every
	// prompt token but the first, with so many candidates each.
	PromptCandidates *int
	// Hooks see and change how tokens are made; nil for none.
	Hooks *Hooking
	// Routing asks for Token.Routing, and PromptRouting for Result.PromptRouting.
	Routing, PromptRouting bool
}

// LogprobsOf names a distribution.
type LogprobsOf uint8

const (
	// OfModel is the model's own, before penalties, filters and temperature.
	OfModel LogprobsOf = iota
	// OfChain is the one that the token was drawn from.
	OfChain
)

// Token is one step of a completion.
type Token struct {
	ID int32
	// Text may be shown now. It lags behind the ids while a character is
	// incomplete or a stop text may be beginning; Result.Tail has the rest.
	Text       string
	Logprob    float32 // natural log, of the distribution that Request.Logprobs names
	Candidates []ops.Candidate
	// Routing is of the row that the token was drawn from, where asked for.
	Routing *hook.Record
	// Forced says that a hook put the token there: it was not drawn.
	Forced bool
	// Changes is what hooks did to it; nil where they left it alone.
	Changes []hook.Change
	// Drawn is when the engine had the token; it is handed out as soon as whoever
	// takes the tokens is there.
	Drawn time.Time
}

// Reason says why a completion ended.
type Reason string

// Reasons.
const (
	Stopped   Reason = "stop"   // an end token or a stop text
	OutOfRoom Reason = "length" // MaxTokens, or the context is full
)

// Result of a completion.
type Result struct {
	Reason     Reason
	StopID     int32  // the id that ended it, -1 for none
	StopText   string // the stop text that ended it
	StopHook   string // why a hook ended it; "" where none did
	Tail       string // text held back until the end
	Prompt     int    // prompt tokens
	Completion int    // tokens made, the end token included
	// PromptTokens are as asked for by Request.PromptCandidates.
	PromptTokens []Token
	// PromptRouting has a record of every prompt row that was read, where asked for.
	PromptRouting []hook.Record
	// Hooks is what the request's hooks cost and did.
	Hooks   hook.Report
	Queued  time.Duration // until the first step of this request
	Prefill time.Duration // until the prompt was read
	Decode  time.Duration // from there to the end
}

// Outcome is how one choice of GenerateChoices ended.
type Outcome struct {
	Result Result
	Err    error
}

// ContextError refuses a request that does not fit in the context.
type ContextError struct {
	Prompt, MaxTokens, Limit int
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("prompt of %d tokens and max_tokens %d do not fit in the context of %d tokens: shorten the prompt or lower max_tokens",
		e.Prompt, e.MaxTokens, e.Limit)
}

// Info describes an open model.
type Info struct {
	Name        string
	Fingerprint string // weights, config, backend, kernels and numerics
	Backend     ops.Caps
	Note        string // why the CPU runs the model although no device was named; "" otherwise
	Context     int    // the limit in force
	Vocab       int    // rows of the embedding
	Tokens      int    // ids the tokenizer knows; the rest are never drawn
	Layers      int
	Experts     int
	TopK        int
	WeightBytes int64
	EOS         []int32
	// Defaults are the sampling parameters of generation_config.json.
	Defaults Sampling
}
