package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
)

// lens is the recorded lens of a model: see qwen3next.Lens.
type lens struct {
	*qwen3next.Lens
	program ops.Program
}

// recordLens records the lens on a backend.
func (m *Model) recordLens(b ops.Backend, r *recording) (*lens, error) {
	memory, err := r.arena(b, "lens", m.cfg.LensBytes())
	if err != nil {
		return nil, err
	}
	l := &lens{}
	if l.Lens, err = qwen3next.NewLens(memory, m.cfg); err != nil {
		return nil, err
	}
	l.program, err = b.Record(qwen3next.LensRows, func(set ops.Set) error {
		l.Record(set, m.cfg, m.weights)
		return nil
	})
	return l, err
}

// Lens returns the logits [n, vocabulary] that the model's final norm and head make of
// residuals x [n, hidden] of whatever layers. Those behind the last layer give the bits
// of the step that made them. It waits for what was submitted before, and leaves the
// rows of logits of steps alone. It is called between Lock and Unlock, or by
// ops.Between.Do of a step that is.
func (d *machine) Lens(x []float32) ([]float32, error) {
	m := d.m
	hidden, vocab := m.cfg.Hidden, m.cfg.Vocab
	if len(x)%hidden != 0 {
		return nil, fmt.Errorf("lens of %d values: rows have %d", len(x), hidden)
	}
	var logits []float32
	for ; len(x) > 0; x = x[min(len(x), qwen3next.LensRows*hidden):] {
		some := x[:min(len(x), qwen3next.LensRows*hidden)]
		rows := len(some) / hidden
		raw := make([]byte, 0, 4*len(some))
		for _, v := range some {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		if err := m.backend.Write(m.lens.X.Slice(0, int64(len(some))), raw); err != nil {
			return nil, err
		}
		if err := replay(context.Background(), m.lens.program, m.lens.Step(rows)); err != nil {
			return nil, err
		}
		out := make([]float32, rows*vocab)
		if err := m.read(out, m.lens.Logits.Slice(0, int64(len(out)))); err != nil {
			return nil, err
		}
		logits = append(logits, out...)
	}
	return logits, nil
}
