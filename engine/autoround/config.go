// Package autoround reads how a checkpoint was quantised, and binds a module's
// tensors to the matrix they mean. Formats: auto-round's gptq and awq packings
// and their relatives (workbench/docs/autoround-format.md).
//
// Bits and groups come from the shapes of the tensors. The configuration only
// decides what shapes cannot tell: whether stored zeros count, and how.
package autoround

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// maxConfig bounds the quantisation config; the real one has 36 KB.
const maxConfig = 16 << 20

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
	DescAct   bool   `json:"desc_act"`
	Version   string `json:"autoround_version"`
	ZeroPoint *bool  `json:"zero_point"` // awq's word for asymmetric
	AWQ       string `json:"version"`    // awq: gemm, gemv ...
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
	data, err := fs.ReadFile(fsys, "quantization_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return ParseConfig(data)
}

// ParseConfig reads a quantization_config and refuses what cannot be run.
func ParseConfig(data []byte) (*Config, error) {
	if len(data) > maxConfig {
		return nil, fmt.Errorf("quantization_config of %d bytes: at most %d are read", len(data), maxConfig)
	}
	c := &Config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("quantization_config: %w", err)
	}
	switch method := strings.TrimPrefix(c.Method, "intel/"); method {
	case "auto-round", "auto_round", "gptq", "awq", "":
	default:
		return nil, fmt.Errorf("quantization_config: quant_method %q is not supported: use auto-round, gptq or awq", c.Method)
	}
	packing := c.packing()
	switch {
	case !strings.HasPrefix(packing, "auto_round") && packing != "gptq" && packing != "awq":
		return nil, fmt.Errorf("quantization_config: packing_format %q is not supported: use auto_round:auto_gptq, auto_round:gptqmodel or auto_round:auto_awq", packing)
	case c.ActBits != 0 && c.ActBits < 16:
		return nil, fmt.Errorf("quantization_config: act_bits %d: activations of fewer than 16 bits are not supported", c.ActBits)
	case c.DataType != "" && c.DataType != "int":
		return nil, fmt.Errorf("quantization_config: data_type %q is not supported: use int", c.DataType)
	case c.Bits != 0 && c.Bits != 2 && c.Bits != 3 && c.Bits != 4 && c.Bits != 8 && c.Bits < 16:
		return nil, fmt.Errorf("quantization_config: %d bits are not supported: use 2, 3, 4 or 8", c.Bits)
	case c.GroupSize < -1 || c.GroupSize > 1<<20:
		return nil, fmt.Errorf("quantization_config: group_size %d: -1 or 1 to 1048576 are possible", c.GroupSize)
	case c.AWQ != "" && strings.ToLower(c.AWQ) != "gemm" && c.Method == "awq":
		return nil, fmt.Errorf("quantization_config: awq version %q is not supported: use gemm", c.AWQ)
	}
	return c, nil
}

// packing returns the packing under the newest name it goes by.
func (c *Config) packing() string {
	switch {
	case c.Packing != "":
		return c.Packing
	case c.Backend != "" && strings.HasPrefix(c.Backend, "auto_round"):
		return c.Backend
	case c.Method == "gptq" || c.Method == "awq":
		return c.Method
	}
	return "auto_round:auto_gptq"
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

// minusOne says whether asymmetric gptq zeros are stored less one: auto_gptq
// packers do, gptqmodel and plain auto_round ones do not.
func (c *Config) minusOne() bool {
	switch c.packing() {
	case "auto_round", "auto_round:gptqmodel":
		return false
	}
	return true
}
