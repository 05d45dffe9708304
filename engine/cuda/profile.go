package cuda

import (
	"errors"
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Cost is what the phases of one name take in a decode step.
type Cost struct {
	Phase string        `json:"phase"`
	Count int           `json:"count"` // of them in a step
	Time  time.Duration `json:"time"`  // of all of them: the step's time less that of a step without them
	Bytes int64         `json:"bytes"` // of weights and recurrent state that they move for one row, by the layout on the device
}

// Profile measures decode steps of so many rows of a program that Record made:
// the time of a whole step, and of each kind of phase by leaving it out, which
// counts what a launch costs where it costs it. It replays the step block of the
// last decode step again and again: what sequences carry is lost. Only between
// steps, on the stream's own time.
func (b *Backend) Profile(program_ ops.Program, rows, replays int) (step time.Duration, costs []Cost, err error) {
	p, ok := program_.(*program)
	if !ok || p.b != b || !p.reads {
		return 0, nil, errors.New("cuda: only programs that read tokens, of this backend, can be measured")
	}
	if p.slots[0].busy || p.slots[1].busy {
		return 0, nil, errors.New("cuda: a step is on its way; measure between steps")
	}
	bucket := 0
	for _, g := range p.graphs {
		if g.rows >= rows && bucket == 0 {
			bucket = g.rows
		}
	}
	if bucket == 0 || rows < 1 {
		return 0, nil, fmt.Errorf("cuda: %d rows of a decode step: at most %d", rows, decodeRows)
	}
	err = b.on(func() (err error) {
		step, err = p.time(bucket, replays, func(ops.Phase) bool { return true })
		if err != nil {
			return err
		}
		for name := range ops.Phase(ops.Phases) {
			cost := Cost{Phase: name.String()}
			for _, phase := range p.phases {
				if phase.name == name {
					cost.Count++
					cost.Bytes += phase.bytes
				}
			}
			if cost.Count == 0 {
				continue
			}
			without, err := p.time(bucket, replays, func(other ops.Phase) bool { return other != name })
			if err != nil {
				return err
			}
			cost.Time = step - without
			costs = append(costs, cost)
		}
		return nil
	})
	return step, costs, err
}

// time captures a decode step of the wanted phases and measures its replays.
func (p *program) time(rows, replays int, wanted func(ops.Phase) bool) (_ time.Duration, err error) {
	d := p.b.driver
	pass := p.pass(decoding)
	pass.rows, pass.segments, pass.wanted = rows, rows, rows
	exec, err := p.graph(&pass, wanted)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.DestroyGraph(exec)) }()
	var events [2]driver.Event
	for i := range events {
		if events[i], err = d.NewEvent(); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, d.DestroyEvent(events[i])) }()
	}
	for i := range replays + 3 { // three to warm up
		if i == 3 {
			if err := d.Record(events[0], pass.stream); err != nil {
				return 0, err
			}
		}
		if err := d.Replay(exec, pass.stream); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(d.Record(events[1], pass.stream), d.SynchroniseEvent(events[1])); err != nil {
		return 0, err
	}
	took, err := d.Elapsed(events[0], events[1])
	return took / time.Duration(max(replays, 1)), err
}
