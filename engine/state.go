package engine

import (
	"context"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// read copies a buffer of F32, F16 or BF16 off the device, widened.
func (m *Model) read(dst []float32, src ops.Buf) error {
	raw := make([]byte, src.Bytes())
	if err := m.backend.Read(raw, src); err != nil {
		return err
	}
	ops.Widen(dst, raw, src.Type)
	return nil
}

// State is what a layer carries for one sequence. Attention layers have Keys
// and Values [KVHeads, length, HeadDim]; delta net layers have Recurrent
// [ValueHeads, KeyDim, ValueDim] and Window [Channels, Kernel-1], newest last.
type State struct {
	Keys, Values, Recurrent, Window []float32
}

// State copies what the sequence carries in a layer.
func (s *Sequence) State(layer int) (State, error) {
	if layer < 0 || layer >= len(s.stack.cache.Layers) {
		return State{}, fmt.Errorf("layer %d of a stack of %d layers", layer, len(s.stack.cache.Layers))
	}
	if err := s.m.hold(context.Background()); err != nil {
		return State{}, err
	}
	defer s.m.release()
	l, slot := s.stack.cache.Layers[layer], int64(s.place.Slot)
	delta := s.m.cfg.Delta
	var state State
	var err error
	if s.stack.shape.Attention[layer] {
		if state.Keys, err = s.pages(l.Keys); err == nil {
			state.Values, err = s.pages(l.Values)
		}
		return state, err
	}
	state.Recurrent = make([]float32, delta.ValueHeads*delta.KeyDim*delta.ValueDim)
	state.Window = make([]float32, delta.Channels()*(delta.Kernel-1))
	if err = s.m.read(state.Recurrent, l.State.Slice(slot*int64(len(state.Recurrent)), int64(len(state.Recurrent)))); err != nil {
		return state, err
	}
	return state, s.m.read(state.Window, l.Window.Slice(slot*int64(len(state.Window)), int64(len(state.Window))))
}

// pages gathers [KVHeads, length, HeadDim] from a page pool.
func (s *Sequence) pages(pool ops.Buf) ([]float32, error) {
	a := s.m.cfg.Attn
	out := make([]float32, a.KVHeads*s.length*a.HeadDim)
	for first := 0; first < s.length; first += ops.PageTokens {
		n := min(ops.PageTokens, s.length-first)
		for head := range a.KVHeads {
			at := (int(s.place.Pages[first/ops.PageTokens])*a.KVHeads + head) * ops.PageTokens * a.HeadDim
			rows := out[(head*s.length+first)*a.HeadDim:][:n*a.HeadDim]
			if err := s.m.read(rows, pool.Slice(int64(at), int64(len(rows)))); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
