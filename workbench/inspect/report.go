package inspect

// Report is all that is known about a model folder. Byte counts are of the
// files; what a part could not be read for stands in Findings.
type Report struct {
	Config    *Config    `json:"config"` // nil when config.json cannot be used
	Layers    []Layers   `json:"layers"`
	Kinds     []Kind     `json:"kinds"`
	Files     []File     `json:"files"`
	Tensors   int        `json:"tensors"`
	Bytes     int64      `json:"bytes"` // of all tensors
	MTP       MTP        `json:"mtp"`
	Tokenizer *Tokenizer `json:"tokenizer"` // nil without a usable tokenizer.json
	Template  Template   `json:"template"`
	Memory    *Memory    `json:"memory"` // nil when config.json cannot be used
	Verified  bool       `json:"verified"`
	// Notes are unusual, but keep nothing from running.
	Notes []string `json:"notes"`
	// Findings are the problems. A folder without any is sound.
	Findings []string `json:"findings"`
}

// Config summarises config.json and its quantization_config.
type Config struct {
	ModelType    string `json:"model_type"`
	DType        string `json:"dtype"`
	Hidden       int    `json:"hidden_size"`
	Layers       int    `json:"layers"`
	Vocab        int    `json:"vocab_size"`
	Context      int    `json:"context"`
	Tied         bool   `json:"tied_embeddings"`
	Heads        int    `json:"attention_heads"`
	KVHeads      int    `json:"kv_heads"`
	HeadDim      int    `json:"head_dim"`
	RotaryDims   int    `json:"rotary_dims"`
	KeyHeads     int    `json:"delta_key_heads"`
	ValueHeads   int    `json:"delta_value_heads"`
	KeyDim       int    `json:"delta_key_dim"`
	ValueDim     int    `json:"delta_value_dim"`
	Experts      int    `json:"experts"`
	TopK         int    `json:"experts_per_token"`
	ExpertWidth  int    `json:"expert_width"`
	SharedWidth  int    `json:"shared_expert_width"`
	Quantisation *Quant `json:"quantisation"` // nil for an unquantised model
}

// Quant is what the quantization_config claims. The tensors decide.
type Quant struct {
	Method    string `json:"method"`
	Packing   string `json:"packing"`
	Bits      int    `json:"bits"`
	Group     int    `json:"group_size"`
	Symmetric bool   `json:"symmetric"`
	Version   string `json:"autoround_version,omitempty"`
}

// Layers are the layers of one kind.
type Layers struct {
	Kind    string `json:"kind"` // "gated delta net" or "gated attention"
	Count   int    `json:"count"`
	Indices []int  `json:"indices"`
}

// Kind are all modules of one name without their layer and expert numbers that
// are stored alike. A name has several rows when its modules differ.
type Kind struct {
	Name    string `json:"name"` // mlp.experts.gate_proj; mtp. in front for the draft layer
	Modules int    `json:"modules"`
	Layout  string `json:"layout"` // dense, gptq, awq; vector for anything but a matrix
	DType   string `json:"dtype"`  // of the weight, or of the packed words
	Inputs  int    `json:"inputs,omitempty"`
	Outputs int    `json:"outputs,omitempty"`
	Bits    int    `json:"bits"`            // a weight
	Group   int    `json:"group,omitempty"` // inputs that share a scale; 0 for unquantised
	Zeros   string `json:"zeros,omitempty"` // symmetric, stored, stored-1
	// StoredZeros says what lies in the zeros of symmetric matrices, which are not
	// read: "minus one", "as they are", "other", "mixed", or "" for none.
	StoredZeros string  `json:"stored_zeros,omitempty"`
	Kernel      string  `json:"kernel,omitempty"` // what will multiply with it, on this machine with these settings
	Bytes       int64   `json:"bytes"`            // with scales and zeros
	NaN         int64   `json:"nan"`              // in weights and scales; known when verified
	Inf         int64   `json:"inf"`
	Scales      *Scales `json:"scales,omitempty"` // nil for unquantised
}

// Scales describes the fp16 scales of a kind: all of them in a verified report,
// else those of a few modules.
type Scales struct {
	Count      int64   `json:"count"`    // read
	Negative   float64 `json:"negative"` // share of those read
	Min        float32 `json:"min"`
	Max        float32 `json:"max"`
	Zeros      int64   `json:"zeros"` // minus zeros too
	Subnormals int64   `json:"subnormals"`
}

// File is one *.safetensors file.
type File struct {
	Name         string `json:"name"`
	Size         int64  `json:"size"`
	Tensors      int    `json:"tensors"`
	HeaderSHA256 string `json:"header_sha256,omitempty"` // of the JSON; empty when damaged
	Unlisted     bool   `json:"unlisted,omitempty"`      // the index does not name it
	Damaged      bool   `json:"damaged,omitempty"`       // left out of the tables
}

// MTP is the multi-token-prediction layer, which drafts tokens.
type MTP struct {
	Present bool  `json:"present"`
	Tensors int   `json:"tensors"`
	Bytes   int64 `json:"bytes"`
	Bits    []int `json:"bits"` // of its matrices
}

// Tokenizer summarises tokenizer.json.
type Tokenizer struct {
	Size   int `json:"size"`
	Added  int `json:"added"`
	Unused int `json:"unused"` // rows of the embedding that it never produces
}

// Template says whether the folder has a chat template that can run.
type Template struct {
	Present bool `json:"present"`
	Parses  bool `json:"parses"`
}

// Memory estimates what running takes, in bytes, with an fp32 cache.
type Memory struct {
	Weights     int64 `json:"weights"`
	PerToken    int64 `json:"kv_per_token"`
	PerSequence int64 `json:"state_per_sequence"`
	Draft       int64 `json:"draft_kv_per_token,omitempty"`
	Available   int64 `json:"available,omitempty"` // on this machine, now
}
