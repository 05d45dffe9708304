package engine

import (
	"errors"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// ErrDeviceLost is matched by what ends streams when the device is gone for good:
// only a new process can go on.
var ErrDeviceLost = driver.ErrDeviceLost

// lose is told once that the device is gone, by whoever holds it. The scheduler ends
// every stream: those of the step that met it, and all that wait.
func (m *Model) lose(err error) {
	m.mu.Lock()
	m.loss = err
	m.mu.Unlock()
	close(m.lost)
	if m.sched != nil { // nil while the model is opened
		m.sched.Fail(err)
	}
}

// Lost is closed when the device is gone for good. From then on every stream and
// sequence ends, and everything new is refused, with an error that matches
// ErrDeviceLost.
func (m *Model) Lost() <-chan struct{} { return m.lost }

// Err says how the device was lost; nil as long as it is there.
func (m *Model) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loss
}

// news leaves out of some errors of Close that a device known to be lost cannot be
// tidied up either.
func (m *Model) news(errs []error) error {
	if m.Err() != nil {
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrDeviceLost) })
	}
	return errors.Join(errs...)
}
