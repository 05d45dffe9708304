// Package qwen3next is the model: its configuration, the names of its tensors,
// the binding of a checkpoint's weights, and forward.go, which records the
// forward pass from top to bottom.
package qwen3next

import "github.com/roundhouse-ai/roundhouse/engine/ops"

// Config holds the dimensions of config.json, validated (see ParseConfig).
type Config struct {
	Hidden    int // hidden_size
	Layers    int // num_hidden_layers
	Vocab     int // vocab_size: rows of the embedding
	Context   int // max_position_embeddings
	Eps       float32
	Tied      bool   // lm_head is the embedding
	Attention []bool // per layer: full attention, else gated delta net

	Attn  ops.AttentionShape
	Delta ops.DeltaNetShape

	Experts     int  // num_experts
	TopK        int  // num_experts_per_tok
	ExpertWidth int  // moe_intermediate_size
	SharedWidth int  // shared_expert_intermediate_size
	Renormalise bool // norm_topk_prob
	DraftLayers int  // MTP layers in the checkpoint, 0 or 1; found by tensors

	BOS int32
	EOS []int32 // config.json and generation_config.json together
	// Defaults of generation_config.json.
	Temperature, TopP float32
	DefaultTopK       int
}
