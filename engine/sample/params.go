// Package sample turns a row of logits into a token: penalties, filters,
// temperature and draw, in an order that a request may choose.
//
// Two sets do the work. The device set (ops.Sampling) runs where the logits
// are; its CPU form is Device. The host set has everything else (Sampler) and
// works on a window of the best tokens; where the window might not be enough,
// the whole row is fetched. Both give what a plain reference gives on the whole
// row.
package sample

import "github.com/roundhouse-ai/roundhouse/engine/ops"

// Params say how tokens are drawn. The zero value of a field is "off", but for
// Temperature, whose zero picks the most likely token.
type Params struct {
	Temperature float32
	TopK        int     // keep the K most likely; 0 keeps all
	TopP        float32 // keep the fewest tokens that hold so much probability; 1 (or 0) keeps all
	MinP        float32 // keep tokens with so much of the best one's probability; 0 keeps all
	// Seed of the draws. The same request with the same seed draws the same
	// tokens, alone or beside others, today and tomorrow.
	Seed uint64

	Typical   float32 // locally typical sampling (Meister et al. 2022): mass to keep; 1 (or 0) keeps all
	TopNSigma float32 // keep logits within so many standard deviations of the best (Tang et al. 2024); 0 keeps all

	XTCProbability float32 // chance that the best tokens are left out ("exclude top choices"); 0 is off
	XTCThreshold   float32 // probability above which a token counts as one of them; the last of them stays

	DRY      DRY
	Mirostat Mirostat

	// Dynamic temperature: between Temperature-DynamicRange and
	// Temperature+DynamicRange, by the entropy; 0 is off.
	DynamicRange    float32
	DynamicExponent float32 // 1 (or 0) is linear

	Repetition   float32 // of prompt and output (Keskar et al. 2019); 1 (or 0) is off
	Presence     float32 // of output, as OpenAI defines it; 0 is off
	Frequency    float32 // of output, as OpenAI defines it; 0 is off
	PenaltyLastN int     // how many tokens back the penalties and DRY look; 0 for all

	Bias []ops.Bias // added to logits; ids ascending, each once
	Mask []uint32   // ids that may be drawn, a bit each; nil for all

	// Order of the chain; nil is DefaultOrder. Stages left out are not run.
	Order []Stage
}

// DRY penalises the token that would go on repeating ("don't repeat yourself",
// p-e-w 2024): a repeat of n tokens costs Multiplier * Base^(n-AllowedLength).
type DRY struct {
	Multiplier    float32 // 0 is off
	Base          float32 // 0 stands for 1.75
	AllowedLength int     // 0 stands for 2
	Breakers      []int32 // ids that a repeat may not cross, ascending
}

// Mirostat is version 2 (Basu et al. 2021): it keeps the surprise of the drawn
// tokens near Tau. It takes the place of every filter.
type Mirostat struct {
	Tau float32 // target surprise in bits; 0 is off
	Eta float32 // learning rate; 0 stands for 0.1
}

// Stage is a step of the chain. Penalties, bias and mask always come first.
type Stage string

// Stages. StageTemperature is plain or dynamic.
const (
	StageDRY         Stage = "dry"
	StageTopNSigma   Stage = "top_n_sigma"
	StageTemperature Stage = "temperature"
	StageTopK        Stage = "top_k"
	StageTypical     Stage = "typical_p"
	StageTopP        Stage = "top_p"
	StageMinP        Stage = "min_p"
	StageXTC         Stage = "xtc"
)

// DefaultOrder is that of transformers and vLLM, temperature before the filters
// of probability, with the stages that they lack where their authors put them.
var DefaultOrder = []Stage{StageDRY, StageTopNSigma, StageTemperature, StageTopK, StageTypical, StageTopP, StageMinP, StageXTC}
