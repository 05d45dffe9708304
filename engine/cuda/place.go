package cuda

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Place implements ops.Backend: it lays the weights out in one arena and reads,
// copies and repacks them, all at the same time. The error is the context's when it
// ended first, matches driver.ErrOutOfMemory where they do not fit, or names the
// tensor that cannot be kept.
func (b *Backend) Place(ctx context.Context, w ops.Weights, report func(done, total int64)) error {
	return b.place(w, func(l *layout) error { return b.load(ctx, l, standardLoading, report) })
}

// place makes an arena for the weights and fills it by way of fill, in which the
// context is current. As every arena it starts as zeros, which is what slabs hold
// behind the last output of a matrix.
func (b *Backend) place(w ops.Weights, fill func(*layout) error) error {
	a, err := b.newArena("weights", lay(w, b.fast, 0).size())
	if err != nil {
		return err
	}
	l := lay(w, b.fast, a.base)
	err = b.on(func() error { return fill(l) })
	if err != nil {
		// What was queued before the failure ends first: it writes to the arena.
		settled := b.on(func() error { return b.driver.Synchronise(b.stream) })
		return errors.Join(fmt.Errorf("place weights: %w", err), settled, a.Close())
	}
	a.used = l.size()
	b.weights = append(b.weights, a)
	maps.Copy(b.vectors, l.vectors)
	maps.Copy(b.matrices, l.matrices)
	maps.Copy(b.mixtures, l.mixtures)
	return nil
}
