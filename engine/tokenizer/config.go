package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

const (
	// maxID bounds ids, so that a small file with a huge id cannot make a
	// huge table. The largest published vocabularies have 262,144 ids.
	maxID = 1<<20 - 1
	// maxAdded bounds the bytes of an added token, and with it the work at
	// each place of a text where one may begin.
	maxAdded = 256
	// pattern is the only pattern that split.go knows: that of Qwen2 to Qwen3-Next.
	pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// component is a normalizer, pre-tokenizer, post-processor or decoder, with
// the fields of those that Qwen's files use.
type component struct {
	Type           string      `json:"type"`
	Pretokenizers  []component `json:"pretokenizers"`
	Pattern        regex       `json:"pattern"`
	Behavior       string      `json:"behavior"`
	Invert         bool        `json:"invert"`
	AddPrefixSpace bool        `json:"add_prefix_space"`
	TrimOffsets    bool        `json:"trim_offsets"` // concerns offsets only
	UseRegex       *bool       `json:"use_regex"`    // absent means true
}

type regex struct {
	Regex string `json:"Regex"`
}

type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// Parse is Load for a file that is already in memory. It keeps nothing of data.
func Parse(data []byte) (*Tokenizer, error) {
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return t, nil
}

func parse(data []byte) (*Tokenizer, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, more than the %d that a tokenizer.json may have", len(data), maxFile)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the file is not UTF-8")
	}
	top, err := fieldsOf(data)
	if err != nil {
		return nil, err
	}
	if err := checkPipeline(top); err != nil {
		return nil, err
	}
	fields, err := fieldsOf(top["model"])
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := checkModel(fields); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	var extra []addedToken
	if err := unmarshal(top["added_tokens"], &extra); err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}

	b := builder{t: &Tokenizer{}}
	if err := b.vocabulary(fields["vocab"]); err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if err := b.addedTokens(extra); err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}
	if err := b.index(); err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if err := b.merges(fields["merges"]); err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	b.t.cache = newWordCache()
	return b.t, nil
}

// checkPipeline refuses every setting outside "model" that would make ids
// differ from what this package computes.
func checkPipeline(top map[string][]byte) error {
	for key, raw := range top {
		switch key {
		case "version":
			var version string
			if err := unmarshal(raw, &version); err != nil || version != "1.0" {
				return fmt.Errorf("version is %.20q; only \"1.0\" is supported", bytes.TrimSpace(raw))
			}
		case "added_tokens", "model":
		case "truncation", "padding":
			if string(bytes.TrimSpace(raw)) != "null" {
				return fmt.Errorf("%s is set, which is not supported; set it to null", key)
			}
		case "normalizer", "pre_tokenizer", "post_processor", "decoder":
		default:
			return fmt.Errorf("unknown key %q", key)
		}
	}
	for _, part := range []struct {
		key   string
		check func(*component) error
	}{
		{"normalizer", checkNormalizer},
		{"pre_tokenizer", checkPreTokenizer},
		{"post_processor", checkPostProcessor},
		{"decoder", checkDecoder},
	} {
		var c *component
		if err := unmarshal(top[part.key], &c); err != nil {
			return fmt.Errorf("%s: %w; only the pipeline of Qwen2 and Qwen3 is supported", part.key, err)
		}
		if err := part.check(c); err != nil {
			return fmt.Errorf("%s: %w", part.key, err)
		}
	}
	return nil
}

// typeOf names a component's type for checks and messages.
func typeOf(c *component) string {
	if c == nil {
		return "null"
	}
	return c.Type
}

func checkNormalizer(c *component) error {
	if got := typeOf(c); got != "NFC" {
		return fmt.Errorf("type is %q; only NFC is supported", got)
	}
	return nil
}

func checkPreTokenizer(c *component) error {
	if got := typeOf(c); got != "Sequence" || len(c.Pretokenizers) != 2 ||
		c.Pretokenizers[0].Type != "Split" || c.Pretokenizers[1].Type != "ByteLevel" {
		return fmt.Errorf("type is %q; only a Sequence of Split and ByteLevel is supported", got)
	}
	split, byteLevel := c.Pretokenizers[0], c.Pretokenizers[1]
	switch {
	case split.Pattern.Regex != pattern:
		return fmt.Errorf("its Split has the pattern %q; only that of Qwen2 and Qwen3 is supported", split.Pattern.Regex)
	case split.Behavior != "Isolated" || split.Invert:
		return fmt.Errorf("its Split has behavior %q and invert %t; only Isolated and false are supported", split.Behavior, split.Invert)
	case byteLevel.AddPrefixSpace:
		return errors.New("its ByteLevel has add_prefix_space, which is not supported")
	case byteLevel.UseRegex == nil || *byteLevel.UseRegex:
		return errors.New("its ByteLevel has use_regex, which is not supported behind a Split")
	}
	return nil
}

// checkPostProcessor takes those that add no token.
func checkPostProcessor(c *component) error {
	if got := typeOf(c); got != "null" && got != "ByteLevel" {
		return fmt.Errorf("type is %q; only ByteLevel and null are supported", got)
	}
	return nil
}

func checkDecoder(c *component) error {
	if got := typeOf(c); got != "ByteLevel" {
		return fmt.Errorf("type is %q; only ByteLevel is supported", got)
	}
	return nil
}

// checkModel refuses every setting of "model" that this package does not follow.
func checkModel(fields map[string][]byte) error {
	var (
		kind, prefix, suffix       string
		dropout                    float64
		byteFallback, ignoreMerges bool
		unused                     any // unk_token and fuse_unk: every byte has a token
	)
	targets := map[string]any{
		"type": &kind, "dropout": &dropout, "unk_token": &unused, "fuse_unk": &unused,
		"continuing_subword_prefix": &prefix, "end_of_word_suffix": &suffix,
		"byte_fallback": &byteFallback, "ignore_merges": &ignoreMerges,
	}
	for key, raw := range fields {
		if key == "vocab" || key == "merges" {
			continue
		}
		target, known := targets[key]
		if !known {
			return fmt.Errorf("unknown key %q", key)
		}
		if err := unmarshal(raw, target); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	switch {
	case kind != "BPE":
		return fmt.Errorf("type is %q; only BPE is supported", kind)
	case dropout != 0:
		return fmt.Errorf("dropout is %v; only null is supported", dropout)
	case prefix != "":
		return fmt.Errorf("continuing_subword_prefix is %q; only \"\" is supported", prefix)
	case suffix != "":
		return fmt.Errorf("end_of_word_suffix is %q; only \"\" is supported", suffix)
	case byteFallback:
		return fmt.Errorf("byte_fallback is true, which is not supported")
	case ignoreMerges:
		return fmt.Errorf("ignore_merges is true, which is not supported")
	}
	return nil
}
