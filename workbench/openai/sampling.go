package openai

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

const (
	maxBias     = 1024 // entries of logit_bias; OpenAI allows 300
	maxBadWords = 256
	maxBreakers = 32 // dry_sequence_breakers
	maxWord     = 64 // bytes of a bad word or a breaker

	// Defaults of llama.cpp, where these samplers come from.
	defaultXTCThreshold = 0.1
	defaultMirostatTau  = 5
)

// defaultBreakers are those of DRY's author.
var defaultBreakers = []string{"\n", ":", `"`, "*"}

// sampling takes every parameter of the draws. Values not given are the
// model's; a field that another one makes idle is warned of.
func (f *fields) sampling(info engine.Info, t *tokenizer.Tokenizer) engine.Sampling {
	s := info.Defaults
	given := map[string]bool{} // fields that a sampler order or mirostat can make idle
	note := func(name string, ok bool) bool {
		given[name] = given[name] || ok
		return ok
	}
	note("temperature", f.number("temperature", &s.Temperature, 0, 2))
	if note("top_k", f.whole("top_k", &s.TopK, -1, math.MaxInt32)) {
		s.TopK = max(s.TopK, 0) // -1 is vLLM's "off"
	}
	if note("top_p", f.number("top_p", &s.TopP, 0, 1)) {
		s.TopP = fewest(s.TopP)
	}
	note("min_p", f.number("min_p", &s.MinP, 0, 1))
	if note("typical_p", f.number("typical_p", &s.Typical, 0, 1)) {
		s.Typical = fewest(s.Typical)
	}
	if note("top_n_sigma", f.number("top_n_sigma", &s.TopNSigma, -1, 100)) {
		s.TopNSigma = max(s.TopNSigma, 0) // -1 is llama.cpp's "off"
	}
	f.xtc(&s, note)
	f.penalties(&s)
	f.dry(&s, t, note)
	f.look(&s)
	f.dynamic(&s, note)
	f.mirostat(&s, given)
	f.order(&s, given)
	f.edits(&s, info, t)
	f.seed(&s)
	if f.err == nil {
		Complete(&s, t)
	}
	return s
}

// Complete fills in what samplers that are on need beside: DRY's usual breakers,
// and XTC's usual threshold.
func Complete(s *engine.Sampling, t *tokenizer.Tokenizer) {
	if s.XTCProbability > 0 && s.XTCThreshold == 0 {
		s.XTCThreshold = defaultXTCThreshold
	}
	if s.DRY.Multiplier > 0 && s.DRY.Breakers == nil && t != nil {
		s.DRY.Breakers = breakers(t, defaultBreakers)
	}
}

// fewest is a share of probability of which 0 means "as few tokens as possible",
// as OpenAI has it; to the engine 0 is "off".
func fewest(p float32) float32 { return max(p, math.SmallestNonzeroFloat32) }

func (f *fields) seed(s *engine.Sampling) {
	var seed int64
	if f.take("seed", &seed) {
		s.Seed = uint64(seed)
	} else {
		s.Seed = rand.Uint64N(1 << 53) // JavaScript reads it exactly
	}
}

func (f *fields) xtc(s *engine.Sampling, note func(string, bool) bool) {
	note("xtc_probability", f.number("xtc_probability", &s.XTCProbability, 0, 1))
	if f.number("xtc_threshold", &s.XTCThreshold, 0, 1) {
		s.XTCThreshold = fewest(s.XTCThreshold)
	}
}

// penalties takes those of repeated tokens. llama.cpp and Ollama call
// repetition_penalty repeat_penalty.
func (f *fields) penalties(s *engine.Sampling) {
	f.number("presence_penalty", &s.Presence, -2, 2)
	f.number("frequency_penalty", &s.Frequency, -2, 2)
	var other float32
	ours := f.number("repetition_penalty", &s.Repetition, 0.01, 10)
	if f.number("repeat_penalty", &other, 0.01, 10) {
		if ours && other != s.Repetition {
			f.fail("and repetition_penalty differ: send one of them", "repeat_penalty")
		}
		s.Repetition = other
	}
}

func (f *fields) dry(s *engine.Sampling, t *tokenizer.Tokenizer, note func(string, bool) bool) {
	note("dry_multiplier", f.number("dry_multiplier", &s.DRY.Multiplier, 0, 100))
	f.number("dry_base", &s.DRY.Base, 1, 100)
	f.whole("dry_allowed_length", &s.DRY.AllowedLength, 1, 1024)
	var words texts
	given := f.take("dry_sequence_breakers", &words)
	f.words("dry_sequence_breakers", words, maxBreakers)
	switch {
	case f.err != nil || s.DRY.Multiplier == 0 || !given:
	case t == nil:
		f.fail("cannot be used: this model has no tokenizer", "dry_sequence_breakers")
	default:
		s.DRY.Breakers = append([]int32{}, breakers(t, words)...) // an empty list is none, not the usual ones
	}
}

// words bounds a list of texts.
func (f *fields) words(name string, list []string, most int) {
	if len(list) > most {
		f.fail(fmt.Sprintf("has %d texts, at most %d are possible", len(list), most), name)
	}
	for _, word := range list {
		if word == "" || len(word) > maxWord {
			f.fail(fmt.Sprintf("has a text of %d bytes: each must have 1 to %d", len(word), maxWord), name)
		}
	}
}

// breakers are the ids of all tokens that contain one of the texts, ascending:
// llama.cpp's reading, for texts that lie within a token.
func breakers(t *tokenizer.Tokenizer, words []string) []int32 {
	var ids []int32
	for id := range int32(t.Size()) {
		text := string(t.Bytes(id))
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// look takes how far back the penalties and DRY look. llama.cpp has a number
// for each, and 0 for "not at all"; the engine has one window.
func (f *fields) look(s *engine.Sampling) {
	const most = 1 << 24
	repeat, dry := -1, -1
	repeatGiven := f.whole("repeat_last_n", &repeat, -1, most)
	dryGiven := f.whole("dry_penalty_last_n", &dry, -1, most)
	if repeat == 0 {
		s.Repetition, s.Presence, s.Frequency = 0, 0, 0
	}
	if dry == 0 {
		s.DRY.Multiplier = 0
	}
	repeats := s.Repetition != 0 && s.Repetition != 1 || s.Presence != 0 || s.Frequency != 0
	dries := s.DRY.Multiplier != 0
	switch {
	case repeats && dries && repeatGiven && dryGiven && repeat != dry:
		f.fail("and repeat_last_n differ: both penalties look equally far back", "dry_penalty_last_n")
	case dries && dryGiven && !(repeats && repeatGiven):
		s.PenaltyLastN = max(dry, 0)
	case repeatGiven:
		s.PenaltyLastN = max(repeat, 0)
	}
}

func (f *fields) dynamic(s *engine.Sampling, note func(string, bool) bool) {
	note("dynatemp_range", f.number("dynatemp_range", &s.DynamicRange, 0, 2))
	f.number("dynatemp_exponent", &s.DynamicExponent, 0.01, 10)
	if s.DynamicRange > s.Temperature {
		s.DynamicRange = s.Temperature // llama.cpp ends the range at 0 too
	}
}

// mirostat takes version 2; it takes the place of the filters in given.
func (f *fields) mirostat(s *engine.Sampling, given map[string]bool) {
	version := 0
	if s.Mirostat.Tau > 0 {
		version = 2
	}
	f.take("mirostat", &version)
	switch version {
	case 0, 2:
	case 1:
		f.fail("is 1: only version 2 is supported, which needs no estimate of the distribution's shape", "mirostat")
	default:
		f.fail(fmt.Sprintf("must be 0 or 2, not %d", version), "mirostat")
	}
	tau := s.Mirostat.Tau
	if tau == 0 {
		tau = defaultMirostatTau
	}
	tuned := f.number("mirostat_tau", &tau, 0.1, 20)
	tuned = f.number("mirostat_eta", &s.Mirostat.Eta, 0.001, 1) || tuned
	if version != 2 {
		if s.Mirostat = (sample.Mirostat{}); tuned {
			f.warn("mirostat", "mirostat_tau and mirostat_eta have no effect without mirostat: 2")
		}
		return
	}
	s.Mirostat.Tau = tau
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if stage := stageOf[name]; given[name] && stage != sample.StageTemperature && stage != sample.StageDRY {
			f.warn(f.param(name), "has no effect: mirostat takes the place of the filters")
		}
	}
}

// stageOf names the stage that a field is of.
var stageOf = map[string]sample.Stage{
	"temperature": sample.StageTemperature, "dynatemp_range": sample.StageTemperature, "top_k": sample.StageTopK,
	"top_p": sample.StageTopP, "min_p": sample.StageMinP, "typical_p": sample.StageTypical,
	"top_n_sigma": sample.StageTopNSigma, "xtc_probability": sample.StageXTC, "dry_multiplier": sample.StageDRY,
}

// penaltiesStage is llama.cpp's name for what always comes first.
const penaltiesStage = "penalties"

// order takes samplers, the stages of the chain in their order.
func (f *fields) order(s *engine.Sampling, given map[string]bool) {
	var names []string
	if !f.take("samplers", &names) {
		return
	}
	order := make([]sample.Stage, 0, len(sample.DefaultOrder))
	for i, name := range names {
		stage := sample.Stage(name)
		switch {
		case name == penaltiesStage && i == 0:
		case name == penaltiesStage:
			f.fail("has penalties not in the first place: they always come first", "samplers")
		case !slices.Contains(sample.DefaultOrder, stage):
			f.fail(fmt.Sprintf("has %.32q: stages are %s", name, stageNames()), "samplers")
		case slices.Contains(order, stage):
			f.fail(fmt.Sprintf("has %s twice", name), "samplers")
		default:
			order = append(order, stage)
		}
		if f.err != nil {
			return
		}
	}
	if len(order) == 0 {
		f.fail("names no stage: leave it out for the usual order", "samplers")
		return
	}
	s.Order = order
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] && !slices.Contains(order, stageOf[name]) {
			f.warn(f.param(name), fmt.Sprintf("has no effect: samplers leaves %s out", stageOf[name]))
		}
	}
}

func stageNames() string {
	names := make([]string, len(sample.DefaultOrder))
	for i, stage := range sample.DefaultOrder {
		names[i] = string(stage)
	}
	return strings.Join(names, ", ")
}

// edits takes what changes single tokens: bias, banned words, the only ids
// allowed.
func (f *fields) edits(s *engine.Sampling, info engine.Info, t *tokenizer.Tokenizer) {
	bias := f.bias(info)
	for _, id := range f.badWords(t) {
		bias[id] = float32(math.Inf(-1))
	}
	if len(bias) > 0 {
		s.Bias = make([]ops.Bias, 0, len(bias))
		for _, id := range slices.Sorted(maps.Keys(bias)) {
			s.Bias = append(s.Bias, ops.Bias{ID: id, Value: bias[id]})
		}
	}
	f.allowed(s, info, bias)
}

// bias takes logit_bias: ids, which JSON makes texts, and what to add.
func (f *fields) bias(info engine.Info) map[int32]float32 {
	out := map[int32]float32{}
	var values map[string]float64
	if !f.take("logit_bias", &values) {
		return out
	}
	if len(values) > maxBias {
		f.fail(fmt.Sprintf("has %d entries, at most %d are possible", len(values), maxBias), "logit_bias")
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		id, err := strconv.ParseUint(key, 10, 31)
		if err != nil || int(id) >= info.Vocab {
			f.fail(fmt.Sprintf("has the key %.16q: keys are token ids from 0 to %d", key, info.Vocab-1), "logit_bias")
			return out
		}
		if v := values[key]; v < -100 || v > 100 {
			f.fail(fmt.Sprintf("of token %d must be between -100 and 100, not %v", id, v), "logit_bias")
			return out
		}
		if _, twice := out[int32(id)]; twice { // "5" and "05"
			f.fail(fmt.Sprintf("has token %d twice", id), "logit_bias")
			return out
		}
		out[int32(id)] = float32(values[key])
	}
	return out
}

// badWords takes texts that must not be drawn. Only those of a single token can
// be banned one token at a time; each is also banned as the start of a word.
func (f *fields) badWords(t *tokenizer.Tokenizer) (ids []int32) {
	var words []string
	if !f.take("bad_words", &words) || len(words) == 0 {
		return nil
	}
	f.words("bad_words", words, maxBadWords)
	if t == nil {
		f.fail("cannot be used: this model has no tokenizer", "bad_words")
	}
	if f.err != nil {
		return nil
	}
	for i, word := range words {
		found := false
		for _, form := range []string{word, " " + word} {
			if tokens := t.Encode(form, tokenizer.AllAsText); len(tokens) == 1 {
				ids, found = append(ids, tokens[0]), true
			}
		}
		if !found {
			f.fail(fmt.Sprintf("cannot have text %d: it is several tokens, and only texts of one token can be banned", i), "bad_words")
			return nil
		}
	}
	return ids
}

// allowed takes allowed_token_ids. An empty list asks for nothing.
func (f *fields) allowed(s *engine.Sampling, info engine.Info, bias map[int32]float32) {
	var ids []int32
	if !f.take("allowed_token_ids", &ids) || len(ids) == 0 {
		return
	}
	if len(ids) > info.Vocab {
		f.fail(fmt.Sprintf("has %d ids, the vocabulary only %d", len(ids), info.Vocab), "allowed_token_ids")
		return
	}
	mask, left := make([]uint32, (info.Vocab+31)/32), false
	for _, id := range ids {
		if id < 0 || int(id) >= info.Tokens {
			f.fail(fmt.Sprintf("has id %d: ids that can be drawn lie in 0 to %d", id, info.Tokens-1), "allowed_token_ids")
			return
		}
		mask[id/32] |= 1 << (id % 32)
		left = left || !math.IsInf(float64(bias[id]), -1)
	}
	if !left {
		f.fail("are all banned by bad_words: nothing is left to draw", "allowed_token_ids")
		return
	}
	s.Mask = mask
}
