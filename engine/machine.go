package engine

import (
	"context"

	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// machine is the device as the scheduler sees it. Whoever holds the device
// token, here between Lock and Unlock, uses programs, buffers and backend.
type machine struct {
	m     *Model
	ahead bool
}

func (d *machine) Lock()   { <-d.m.device }
func (d *machine) Unlock() { d.m.release() }

// hold takes the device for somebody beside the scheduler, which queues nothing
// ahead while it waits. Whoever holds it releases it.
func (m *Model) hold(ctx context.Context) error {
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	select {
	case <-m.device:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *Model) release() { m.device <- struct{}{} }

// Forward implements sched.Machine.
func (d *machine) Forward(step *ops.Step) (ops.Ticket, error) { return d.m.main.forward.Submit(step) }

// Sample implements sched.Machine.
func (d *machine) Sample(step *ops.Step) (ops.Ticket, error) { return d.m.sample.Submit(step) }

// Ahead implements sched.Machine.
func (d *machine) Ahead() bool { return d.ahead }

// Wanted implements sched.Machine.
func (d *machine) Wanted() bool { return d.m.waiting.Load() > 0 }

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
