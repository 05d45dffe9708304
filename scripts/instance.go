package scripts

import (
	"encoding/json"
	"errors"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// instance is a script for one choice.
type instance struct {
	script   *Script
	vm       *vm
	env      Env
	params   map[string]any
	spec     hook.Spec
	handlers map[hook.Events]goja.Callable
	states   []goja.Value
	carried  []json.RawMessage // states of the script before
	migrate  goja.Callable
}

// Instance is a hook that can hand its state on.
type Instance interface {
	hook.Hook
	// State is what the script keeps, for a newer version of it (see Env.State).
	State() ([]byte, error)
}

// New starts a script for a choice. The error is a *BusyError or a *hook.ParamError;
// what goes wrong in the script itself comes from Start.
func (h *Host) New(s *Script, env Env) (Instance, error) {
	if err := h.admit(); err != nil {
		return nil, err
	}
	params, err := s.Params.Fill(env.Params)
	if err != nil {
		return nil, err
	}
	i := &instance{script: s, vm: newVM(h), env: env, params: params, spec: s.Spec, handlers: map[hook.Events]goja.Callable{}}
	i.vm.serves = i
	if env.State != nil {
		if err := json.Unmarshal(env.State, &i.carried); err != nil {
			i.vm.close()
			return nil, err
		}
	}
	return i, nil
}

// Start implements hook.Hook.
func (i *instance) Start(call *hook.Call) error {
	return i.vm.do(call, 0, func() error {
		exported, err := i.vm.open(i.script.program, i.env.Now)
		if err != nil {
			return err
		}
		i.migrate, _ = goja.AssertFunction(exported.Get("migrate"))
		make, ok := goja.AssertFunction(exported.Get("hooks"))
		if !ok {
			return faultf(hook.BadValue, "script({ hooks }) is no function")
		}
		out, err := make(exported, i.vm.object(contextKind, i))
		if err != nil {
			return err
		}
		if err := settled(out); err != nil {
			return err
		}
		handlers, ok := out.(*goja.Object)
		if !ok {
			return faultf(hook.BadValue, "hooks() returned %s: it returns an object with the handlers", kindOf(out))
		}
		return i.take(handlers)
	})
}

// events are the handlers' names.
var events = map[string]hook.Events{"prompt": hook.OnPrompt, "logits": hook.OnLogits, "sample": hook.OnSample,
	"token": hook.OnToken, "routing": hook.OnRouting, "finish": hook.OnFinish}

// take keeps the handlers that hooks() returned.
func (i *instance) take(handlers *goja.Object) error {
	for _, name := range handlers.Keys() {
		event, known := events[name]
		if !known {
			if name == "route" || name == "hidden" {
				return faultf(hook.Unsupported, "the handler %s is not in this version", name)
			}
			return faultf(hook.BadValue, "hooks() returned a handler %q: there is no such event", name)
		}
		f, ok := goja.AssertFunction(handlers.Get(name))
		if !ok {
			return faultf(hook.BadValue, "the handler %s is no function", name)
		}
		this := goja.Value(handlers)
		i.handlers[event] = func(_ goja.Value, args ...goja.Value) (goja.Value, error) { return f(this, args...) }
		i.spec.Events |= event
	}
	return nil
}

// inherited is the n-th state of the script before; nil for none.
func (i *instance) inherited(n int) goja.Value {
	if n >= len(i.carried) {
		return nil
	}
	value := i.vm.parsed(string(i.carried[n]))
	if i.migrate != nil {
		value = call(i.migrate, goja.Undefined(), value)
	}
	return value
}

// State implements Instance.
func (i *instance) State() ([]byte, error) {
	text := []byte("[]")
	err := i.vm.do(nil, loadTime, func() error {
		list := make([]json.RawMessage, 0, len(i.states))
		for _, state := range i.states {
			list = append(list, json.RawMessage(i.vm.json(state)))
		}
		var err error
		text, err = json.Marshal(list)
		return err
	})
	return text, err
}

// Spec implements hook.Hook.
func (i *instance) Spec() hook.Spec { return i.spec }

// Close implements hook.Hook.
func (i *instance) Close() { i.vm.close() }

// handle calls a handler with arguments that are made in the machine.
func (i *instance) handle(call *hook.Call, args func(v *vm) []goja.Value, result func(goja.Value) error) error {
	f := i.handlers[call.Event]
	if f == nil {
		return errors.New("the script has no such handler")
	}
	return i.vm.do(call, 0, func() error {
		out, err := f(nil, args(i.vm)...)
		if err != nil {
			return err
		}
		if err := settled(out); err != nil {
			return err
		}
		if result != nil {
			return result(out)
		}
		return nil
	})
}

// Prompt implements hook.Hook.
func (i *instance) Prompt(call *hook.Call, p *hook.Prompt) error {
	var edit *goja.Object
	return i.handle(call, func(v *vm) []goja.Value {
		edit = v.object(promptKind, p)
		return []goja.Value{edit}
	}, func(goja.Value) error {
		ids := i.vm.ids("the ids of the prompt", edit.Get("ids"))
		p.IDs = ids
		return nil
	})
}

// Logits implements hook.Hook.
func (i *instance) Logits(call *hook.Call, l *hook.Logits) error {
	return i.handle(call, func(v *vm) []goja.Value {
		return []goja.Value{v.object(logitsKind, logits{l}), v.object(atKind, call.At)}
	}, nil)
}

// Sample implements hook.Hook.
func (i *instance) Sample(call *hook.Call, c *hook.Candidates) (id int32, chosen bool, err error) {
	list, err := c.Top()
	if err != nil {
		return 0, false, err
	}
	err = i.handle(call, func(v *vm) []goja.Value {
		return []goja.Value{v.object(candidatesKind, &candidates{list, c}), v.object(atKind, call.At)}
	}, func(out goja.Value) error {
		if chosen = out != nil && !goja.IsUndefined(out) && !goja.IsNull(out); chosen {
			id = i.vm.id("sample", i.vm.number("what sample returned", out))
		}
		return nil
	})
	return id, chosen, err
}

// Token implements hook.Hook.
func (i *instance) Token(call *hook.Call, t *hook.Token) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(tokenKind, t)} }, nil)
}

// Routing implements hook.Hook.
func (i *instance) Routing(call *hook.Call, r *hook.Routing) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(routingKind, r)} }, nil)
}

// Finish implements hook.Hook.
func (i *instance) Finish(call *hook.Call, f *hook.Finish) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(finishKind, f)} }, nil)
}
