// Command cheer makes the steering vector of that name for the demo model:
//
//	go run ./workbench/library/cheer MODEL-FOLDER FILE.safetensors
//
// It is the direction that the output matrix reads cheerful words from, less the one
// of sad words: a residual with it in makes the first more likely, and the second less.
// The final norm's weights are part of the direction. Its values have a mean square of
// 1; they are rounded, so that every machine makes the same file.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

var (
	cheerful = []string{" happy", " glad", " smiled", " laughed", " joy", " cheerful", " wonderful", " merry", " bright", " delighted"}
	sad      = []string{" sad", " cried", " crying", " angry", " afraid", " tears", " lonely", " terrible", " worried", " sorrow"}
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cheer MODEL-FOLDER FILE.safetensors")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "cheer:", err)
		os.Exit(1)
	}
}

func write(model, file string) error {
	values, err := direction(model)
	if err != nil {
		return err
	}
	header, err := json.Marshal(map[string]any{
		"__metadata__": map[string]string{"model": "demo", "about": "cheerful words less sad ones, in the output matrix"},
		"vector":       map[string]any{"dtype": "F32", "shape": []int{len(values)}, "data_offsets": []int{0, 4 * len(values)}},
	})
	if err != nil {
		return err
	}
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	data = append(data, header...)
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
	}
	return os.WriteFile(file, data, 0o644)
}

// direction computes the vector.
func direction(model string) (values []float64, err error) {
	words, err := tokenizer.Load(filepath.Join(model, "tokenizer.json"))
	if err != nil {
		return nil, err
	}
	weights, err := safetensors.Open(os.DirFS(model))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, weights.Close()) }()
	norm, err := tensor(weights, "model.norm.weight")
	if err != nil {
		return nil, err
	}
	head, err := tensor(weights, "lm_head.weight")
	if err != nil {
		return nil, err
	}
	sum := make([]float64, len(norm))
	add := func(list []string, sign float64) error {
		for _, word := range list {
			ids := words.Encode(word, tokenizer.Default)
			if len(ids) != 1 {
				return fmt.Errorf("%q is %d tokens, not one", word, len(ids))
			}
			for i, x := range head[int(ids[0])*len(norm):][:len(norm)] {
				sum[i] += sign * float64(x*(1+norm[i]))
			}
		}
		return nil
	}
	if err := add(cheerful, 1); err != nil {
		return nil, err
	}
	if err := add(sad, -1); err != nil {
		return nil, err
	}
	square := 0.0
	for _, v := range sum {
		square += float64(v * v)
	}
	for i := range sum {
		sum[i] = math.Round(sum[i]/math.Sqrt(square/float64(len(sum)))*1024) / 1024
	}
	return sum, nil
}

// tensor reads one of bfloat16.
func tensor(c *safetensors.Checkpoint, name string) ([]float64, error) {
	t, ok := c.Lookup(name)
	if !ok || t.DType != safetensors.BF16 {
		return nil, fmt.Errorf("the model has no %s in BF16", name)
	}
	data := t.Data()
	values := make([]float64, len(data)/2)
	for i := range values {
		values[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16))
	}
	return values, nil
}
