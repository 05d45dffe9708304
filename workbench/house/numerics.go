package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/ulikunitz/xz"
)

// divergence is what `roundhouse numerics --json` says.
type divergence struct {
	MeanKL         float64 `json:"mean_kl"`
	Top1           float64 `json:"top1"`
	Perplexity     float64 `json:"perplexity"`
	PerplexityThen float64 `json:"perplexity_then"`
}

// fastNumerics reads the beginning of the shared corpus with the demo model,
// once for all promises about it.
var fastNumerics = sync.OnceValues(func() (d divergence, err error) {
	dir, err := sharedDir()
	if err != nil {
		return d, err
	}
	text, err := os.CreateTemp("", "roundhouse-text-")
	if err != nil {
		return d, err
	}
	defer os.Remove(text.Name()) //nolint:errcheck // a temporary file
	if err := corpus(text, filepath.Join(dir, "corpus", "real.txt.xz"), 60_000); err != nil {
		return d, err
	}
	output, err := exec.Command(program, "numerics", "--text", text.Name(), "--tokens", "4096", "--window", "1024", "--json").Output()
	if jsonErr := json.Unmarshal(output, &d); jsonErr != nil { // exit code 1 only says that a bound is missed
		return d, fmt.Errorf("%s numerics: %w, %w", program, err, jsonErr)
	}
	return d, nil
})

// corpus writes the first bytes of a compressed text.
func corpus(to *os.File, name string, bytes int64) error {
	defer to.Close()
	packed, err := os.Open(name)
	if err != nil {
		return err
	}
	defer packed.Close() // read only
	text, err := xz.NewReader(packed)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = io.CopyN(to, text, bytes)
	return err
}

// numerics takes one figure of the comparison.
func numerics(bound float64, figure func(divergence) float64) func(context.Context) (float64, float64, error) {
	return func(context.Context) (float64, float64, error) {
		d, err := fastNumerics()
		return figure(d), bound, err
	}
}
