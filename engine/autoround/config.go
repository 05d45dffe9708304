// Package autoround reads how a checkpoint was quantised, and binds a module's
// tensors to the matrix they mean. Formats: auto-round's gptq and awq packings
// and their relatives (workbench/docs/autoround-format.md).
//
// Bits and groups come from the shapes of the tensors. The configuration only
// decides what shapes cannot tell: whether stored zeros count, and how.
package autoround

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Bounds of the quantisation config. The real one has 36 KB and no pattern.
const (
	maxConfig   = 16 << 20
	maxPatterns = 256
	maxPattern  = 1024 // bytes
)

// Config is a quantization_config.
type Config struct {
	Method    string `json:"quant_method"`
	Packing   string `json:"packing_format"`
	Backend   string `json:"backend"` // what older versions called the packing
	Bits      int    `json:"bits"`
	GroupSize int    `json:"group_size"`
	Symmetric *bool  `json:"sym"`
	DataType  string `json:"data_type"`
	ActBits   int    `json:"act_bits"`
	SuperBits int    `json:"super_bits"`
	DescAct   bool   `json:"desc_act"`
	Version   string `json:"autoround_version"`
	ZeroPoint *bool  `json:"zero_point"` // awq's word for asymmetric
	AWQ       string `json:"version"`    // awq: gemm, gemv ...
	// Checkpoint tells plain gptq files whose zeros are stored as they are.
	Checkpoint string `json:"checkpoint_format"`
	// Extra overrides the above by module name, or by a pattern of names.
	Extra map[string]Override `json:"extra_config"`

	patterns []pattern // those keys of Extra that are patterns, longest first
}

// Override is what extra_config says about some modules; what it leaves out
// is as in the Config.
type Override struct {
	Bits      *int    `json:"bits"`
	GroupSize *int    `json:"group_size"`
	Symmetric *bool   `json:"sym"`
	DataType  *string `json:"data_type"`
	ActBits   *int    `json:"act_bits"`
}

type pattern struct {
	text string
	re   *regexp.Regexp
}

// ReadConfig finds the configuration in config.json (preferred: only this copy
// covers mtp tensors), else in quantization_config.json. Nil means that the
// model is not quantised.
func ReadConfig(fsys fs.FS, config []byte) (*Config, error) {
	var outer struct {
		Quant json.RawMessage `json:"quantization_config"`
	}
	if err := json.Unmarshal(config, &outer); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if len(outer.Quant) > 0 && string(outer.Quant) != "null" {
		return ParseConfig(outer.Quant)
	}
	file, err := fsys.Open("quantization_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close() // read only
	data, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("quantization_config.json: %w", err)
	}
	return ParseConfig(data)
}

// ParseConfig reads a quantization_config and refuses what cannot be run. All
// problems come in one error.
func ParseConfig(data []byte) (*Config, error) {
	if len(data) > maxConfig {
		return nil, fmt.Errorf("quantization_config of more than %d bytes: the real ones have a few KB", maxConfig)
	}
	c := &Config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("quantization_config: %w", err)
	}
	if err := errors.Join(c.supported(), c.overrides()); err != nil {
		return nil, err
	}
	return c, nil
}

// packings are the names whose layout is known; a third part (the back end an
// older version preferred, auto_round:gptq:exllamav2) does not matter.
var packings = []string{"gptq", "awq", "auto_round", "auto_round:auto_gptq", "auto_round:gptq", "auto_round:gptqmodel",
	"auto_round:exllamav2", "auto_round:tritonv2", "auto_round:auto_awq", "auto_round:awq"}

func (c *Config) supported() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("quantization_config: "+format, args...))
		}
	}
	methods := []string{"auto-round", "auto_round", "gptq", "awq", ""}
	refuse(!slices.Contains(methods, strings.TrimPrefix(c.Method, "intel/")), "quant_method %q is not supported: use auto-round, gptq or awq", c.Method)
	packing := c.packing()
	refuse(!slices.Contains(packings, packing),
		"packing_format %q is not supported: use auto_round:auto_gptq, auto_round:gptqmodel or auto_round:auto_awq", packing)
	refuse(c.SuperBits != 0, "super_bits %d (double quantisation) is not supported", c.SuperBits)
	refuse(c.ActBits != 0 && c.ActBits < 16, "act_bits %d: activations of fewer than 16 bits are not supported", c.ActBits)
	refuse(c.DataType != "" && c.DataType != "int", "data_type %q is not supported: use int", c.DataType)
	refuse(!bitsPossible(c.Bits), "%d bits are not supported: use 2, 3, 4 or 8", c.Bits)
	refuse(!groupPossible(c.GroupSize), "group_size %d: -1 or 1 to 1048576 are possible", c.GroupSize)
	refuse(c.Method == "awq" && c.AWQ != "" && !strings.EqualFold(c.AWQ, "gemm"), "awq version %q is not supported: use gemm", c.AWQ)
	formats := []string{"", "gptq", "gptq_v2", "gemm"}
	refuse(!slices.Contains(formats, c.Checkpoint), "checkpoint_format %q is not supported: use gptq or gptq_v2", c.Checkpoint)
	return errors.Join(errs...)
}

// bitsPossible allows 0 for not given, and 16 or 32 for not quantised.
func bitsPossible(bits int) bool {
	return slices.Contains([]int{0, 2, 3, 4, 8, 16, 32}, bits)
}

func groupPossible(size int) bool { return size >= -1 && size <= 1<<20 }

// overrides checks extra_config and compiles its patterns: keys with more
// punctuation than a module name has. Plain names are never searched for,
// since mlp.gate would be found in mlp.gate_proj.
func (c *Config) overrides() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(c.Extra)) {
		o := c.Extra[key]
		refuse := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("quantization_config: extra_config of %q: %s", key, fmt.Sprintf(format, args...)))
		}
		if bits := or(o.Bits, 0); !bitsPossible(bits) {
			refuse("%d bits are not supported: use 2, 3, 4 or 8", bits)
		}
		if size := or(o.GroupSize, 0); !groupPossible(size) {
			refuse("group_size %d: -1 or 1 to 1048576 are possible", size)
		}
		if bits := or(o.ActBits, 16); bits < 16 {
			refuse("act_bits %d: activations of fewer than 16 bits are not supported", bits)
		}
		if !strings.ContainsAny(key, `\*+?[](){}|^$`) {
			continue
		}
		if len(key) > maxPattern || len(c.patterns) == maxPatterns {
			return errors.Join(append(errs, fmt.Errorf("quantization_config: extra_config has more than %d patterns, or one of more than %d bytes", maxPatterns, maxPattern))...)
		}
		re, err := regexp.Compile(key)
		if err != nil {
			refuse("the pattern is not understood: %v", err)
			continue
		}
		c.patterns = append(c.patterns, pattern{key, re})
	}
	slices.SortStableFunc(c.patterns, func(a, b pattern) int { return cmp.Compare(len(b.text), len(a.text)) })
	return errors.Join(errs...)
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// module returns the settings of one module: its entry in extra_config, else
// the longest pattern that is found in its name, else the common ones.
func (c *Config) module(name string) Config {
	o, listed := c.Extra[name]
	for i := 0; !listed && i < len(c.patterns); i++ {
		if c.patterns[i].re.MatchString(name) {
			o, listed = c.Extra[c.patterns[i].text], true
		}
	}
	m := *c
	m.Bits, m.GroupSize, m.DataType = or(o.Bits, c.Bits), or(o.GroupSize, c.GroupSize), or(o.DataType, c.DataType)
	if o.Symmetric != nil {
		m.Symmetric = o.Symmetric
	}
	return m
}

// lists says whether extra_config names the module itself.
func (c *Config) lists(name string) bool {
	_, ok := c.Extra[name]
	return ok
}

// quantised says whether a module of these settings is packed.
func (c *Config) quantised() bool {
	floats := []string{"fp", "float", "float16", "bfloat16", "float32"}
	return c.Bits < 16 && !slices.Contains(floats, c.DataType)
}

// packing returns the packing under the newest name it goes by.
func (c *Config) packing() string {
	switch {
	case c.Packing != "":
		return twoParts(c.Packing)
	case strings.HasPrefix(c.Backend, "auto_round"):
		return twoParts(c.Backend)
	case c.Method == "gptq" || c.Method == "awq":
		return c.Method
	}
	return "auto_round:auto_gptq"
}

// twoParts drops what follows a second colon.
func twoParts(name string) string {
	first, rest, _ := strings.Cut(name, ":")
	second, _, _ := strings.Cut(rest, ":")
	if second == "" {
		return first
	}
	return first + ":" + second
}

// symmetric says whether stored zeros are to be ignored.
func (c *Config) symmetric() bool {
	switch {
	case c.Symmetric != nil:
		return *c.Symmetric
	case c.ZeroPoint != nil:
		return !*c.ZeroPoint
	}
	return c.Method != "awq" // awq is asymmetric unless it says otherwise
}

// minusOne says whether asymmetric zeros in gptq layout are stored less one:
// auto_gptq packers do that; gptqmodel, gptq_v2 and plain auto_round ones do not.
func (c *Config) minusOne() bool {
	packing := c.packing()
	return strings.Contains(packing, "gptq") && !strings.Contains(packing, "gptqmodel") && c.Checkpoint != "gptq_v2"
}
