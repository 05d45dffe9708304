package rehearse

import "github.com/roundhouse-ai/roundhouse/engine/hook"

// observed is a hook whose edits are kept as it made them: a chain tells what they come
// to.
type observed struct {
	hook.Hook
	p *play
}

// Logits implements hook.Hook.
func (o observed) Logits(call *hook.Call, l *hook.Logits) error {
	err := o.Hook.Logits(call, l)
	o.p.Steps[len(o.p.Steps)-1].List = l.List()
	return err
}

// State implements hook.Rewinder; nil where the hook has none.
func (o observed) State() ([]byte, error) {
	if inner, ok := o.Hook.(hook.Rewinder); ok {
		return inner.State()
	}
	return nil, nil
}

// Restore implements hook.Rewinder.
func (o observed) Restore(state []byte) error {
	if inner, ok := o.Hook.(hook.Rewinder); ok {
		return inner.Restore(state)
	}
	return nil
}
