package engine

import (
	"context"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// machine is the device as the scheduler sees it. Whoever holds the device
// token, here between Lock and Unlock, uses programs, buffers and backend.
type machine struct{ m *Model }

func (d *machine) Lock()   { <-d.m.device }
func (d *machine) Unlock() { d.m.device <- struct{}{} }

// Step runs the forward pass, then the draws.
func (d *machine) Step(ctx context.Context, step *ops.Step) error {
	if err := replay(ctx, d.m.main.forward, step); err != nil || len(step.Sampling) == 0 {
		return err
	}
	return replay(ctx, d.m.sample, step)
}

func (d *machine) Row(dst []float32, i int) ([]float32, error) {
	vocab := d.m.cfg.Vocab
	if dst == nil {
		dst = make([]float32, vocab)
	}
	return dst, d.m.read(dst, d.m.buffers.Logits.Slice(int64(i*vocab), int64(vocab)))
}

func (d *machine) CopySlot(dst, src int) error {
	from, to := d.m.main.cache.Slot(src), d.m.main.cache.Slot(dst)
	return d.copy(to, from)
}

func (d *machine) CopyPage(dst, src int32) error {
	from, to := d.m.main.cache.Page(src), d.m.main.cache.Page(dst)
	return d.copy(to, from)
}

func (d *machine) copy(dst, src []ops.Buf) error {
	for i := range dst {
		if err := d.m.backend.Copy(dst[i], src[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *machine) Save(place *cache.Sequence, tokens int) ([]byte, error) {
	return d.m.save(d.m.main, place, tokens)
}

func (d *machine) Load(place *cache.Sequence, tokens int, saved []byte) error {
	return d.m.load(d.m.main, place, tokens, saved)
}
