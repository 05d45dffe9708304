package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Instance is a script at work for one choice: a hook. Where its script follows files,
// it changes into newer versions between tokens (see hook.Renewer).
type Instance struct {
	script *Script
	env    Env
	running
	tried *version // the newest that it changed into, or could not
	past  []Change
}

// running is a version at work.
type running struct {
	version  *version
	vm       *vm
	params   map[string]any
	spec     hook.Spec
	handlers map[hook.Events]goja.Callable
	states   []goja.Value
	carried  saved // of the version before
	migrate  goja.Callable
}

// saved is the form of State.
type saved struct {
	Digest string            `json:"digest"` // of the version
	States []json.RawMessage `json:"states"`
}

// Change says which version decides the tokens from a position on.
type Change struct {
	From   int
	Digest string
}

// Start begins a choice. The error is a *BusyError or a *hook.ParamError; what goes
// wrong in the script itself comes from Instance.Start, which a chain calls. Close it
// where no chain does.
func (s *Script) Start(env Env) (*Instance, error) {
	version := s.current.Load()
	params, err := version.params.Fill(env.Params)
	if err != nil {
		return nil, err
	}
	i := &Instance{script: s, env: env, running: running{version: version, params: params}, tried: version}
	if env.State != nil {
		if err := json.Unmarshal(env.State, &i.carried); err != nil {
			return nil, fmt.Errorf("scripts: state that %s is to take over: %w", s.name, err)
		}
	}
	if i.vm, err = s.host.machine(); err != nil {
		return nil, err
	}
	return i, nil
}

// Start implements hook.Hook.
func (i *Instance) Start(call *hook.Call) error { return i.begin(call, 0) }

// begin runs the script up to its handlers, which serve from a position on.
func (i *Instance) begin(call *hook.Call, from int) error {
	i.spec, i.handlers = i.version.spec, map[hook.Events]goja.Callable{}
	i.vm.serves = i
	err := i.vm.do(call, 0, func() error {
		exported, err := i.vm.open(i.version.program, i.env.Now)
		if err != nil {
			return err
		}
		i.migrate, _ = goja.AssertFunction(exported.Get("migrate"))
		hooks, ok := goja.AssertFunction(exported.Get("hooks"))
		if !ok {
			return faultf(hook.BadValue, "script({ hooks }) is no function")
		}
		out, err := hooks(exported, i.vm.object(contextKind, i))
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
	if err == nil {
		i.past = append(i.past, Change{from, i.version.digest})
	}
	return err
}

// Stale implements hook.Renewer: it says whether a newer version was compiled, and has
// the files looked at in the background.
func (i *Instance) Stale() bool {
	if f := i.script.follow; f != nil {
		f.look()
	}
	return i.script.current.Load() != i.tried
}

// Renew implements hook.Renewer. State is carried over; the old version stays where
// the new one does not start.
func (i *Instance) Renew(call *hook.Call) error {
	next := i.script.current.Load()
	i.tried = next
	params, err := next.params.Fill(i.env.Params)
	if err != nil {
		return err
	}
	state, err := i.State()
	if err != nil {
		return err
	}
	machine, err := i.script.host.machine()
	if err != nil {
		return err
	}
	old := i.running
	i.running = running{version: next, vm: machine, params: params}
	if err = json.Unmarshal(state, &i.carried); err == nil {
		err = i.begin(call, call.Position)
	}
	if err != nil {
		machine.close()
		i.running = old
		return err
	}
	old.vm.close()
	return nil
}

// Digest names the version that decided the token at a position.
func (i *Instance) Digest(position int) string {
	for _, c := range slices.Backward(i.past) {
		if c.From <= position {
			return c.Digest
		}
	}
	return i.version.digest
}

// Changes are the versions that were at work, by position.
func (i *Instance) Changes() []Change { return slices.Clone(i.past) }

// events are the handlers' names.
var events = map[string]hook.Events{"prompt": hook.OnPrompt, "logits": hook.OnLogits, "sample": hook.OnSample,
	"token": hook.OnToken, "routing": hook.OnRouting, "finish": hook.OnFinish, "hidden": hook.OnHidden, "route": hook.OnRoute}

const handlerNames = "prompt, logits, sample, token, routing, hidden, route and finish"

// take keeps the handlers that hooks() returned.
func (i *Instance) take(handlers *goja.Object) error {
	i.vm.scale.roots = append(i.vm.scale.roots, handlers)
	for _, name := range handlers.Keys() {
		event, known := events[name]
		if !known {
			return faultf(hook.BadValue, "hooks() returned a handler %q: there is no such event; there are %s", name, handlerNames)
		}
		this := goja.Value(handlers)
		handler := handlers.Get(name)
		if event&(hook.OnHidden|hook.OnRoute) != 0 {
			this, handler = i.takeInside(name, event, handler)
		}
		f, ok := goja.AssertFunction(handler)
		if !ok {
			return faultf(hook.BadValue, "the handler %s is no function", name)
		}
		i.handlers[event] = func(_ goja.Value, args ...goja.Value) (goja.Value, error) { return f(this, args...) }
		i.spec.Events |= event
	}
	return nil
}

// takeInside keeps the layers of a handler that looks into the forward pass, and returns
// the object that it is of, and the handler.
func (i *Instance) takeInside(name string, event hook.Events, value goja.Value) (this, handler goja.Value) {
	o, ok := value.(*goja.Object)
	if !ok {
		i.vm.throw(faultf(hook.BadValue, "%s is %s: it is { layers, at }", name, kindOf(value)))
	}
	layers := i.vm.layers(o.Get("layers"))
	if event == hook.OnRoute {
		i.spec.Route = layers
		return o, o.Get("at")
	}
	i.spec.Hidden, i.spec.Write = layers, false
	if write := o.Get("write"); write != nil {
		i.spec.Write = write.ToBoolean()
	}
	return o, o.Get("at")
}

// inherited is the n-th state of the script before; nil for none.
func (i *Instance) inherited(n int) goja.Value {
	other := i.carried.Digest != i.version.digest
	if n >= len(i.carried.States) || other && i.migrate == nil {
		return nil
	}
	value := i.vm.parsed(string(i.carried.States[n]))
	if other {
		value = call(i.migrate, goja.Undefined(), value)
	}
	return value
}

// State is what the script keeps (see Env.State). Another version of the script takes
// it over by its migrate, or begins anew where it has none.
func (i *Instance) State() ([]byte, error) {
	kept := saved{Digest: i.version.digest}
	err := i.vm.do(nil, loadTime, func() error {
		for _, state := range i.states {
			kept.States = append(kept.States, json.RawMessage(i.vm.json(state)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept)
}

// Restore implements hook.Rewinder: what state() returned becomes what it was, in place,
// since handlers hold on to it. A version that came since keeps its own.
func (i *Instance) Restore(state []byte) error {
	var kept saved
	if err := json.Unmarshal(state, &kept); err != nil {
		return err
	}
	if kept.Digest != i.version.digest || len(kept.States) != len(i.states) {
		return nil
	}
	return i.vm.do(nil, loadTime, func() error {
		for n, state := range i.states {
			if o, ok := state.(*goja.Object); ok {
				i.vm.assign(o, i.vm.parsed(string(kept.States[n])).(*goja.Object))
			}
		}
		return nil
	})
}

// assign makes an object the same as another.
func (v *vm) assign(to, from *goja.Object) {
	for _, name := range to.Keys() {
		_ = to.Delete(name)
	}
	if to.ClassName() == "Array" {
		_ = to.Set("length", from.Get("length"))
	}
	for _, name := range from.Keys() {
		_ = to.Set(name, from.Get(name))
	}
}

// Spec implements hook.Hook.
func (i *Instance) Spec() hook.Spec { return i.spec }

// Close implements hook.Hook.
func (i *Instance) Close() { i.vm.close() }

// handle calls a handler with arguments that are made in the machine.
func (i *Instance) handle(call *hook.Call, args func(v *vm) []goja.Value, result func(goja.Value) error) error {
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
func (i *Instance) Prompt(call *hook.Call, p *hook.Prompt) error {
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
func (i *Instance) Logits(call *hook.Call, l *hook.Logits) error {
	return i.handle(call, func(v *vm) []goja.Value {
		v.row = l
		return []goja.Value{v.object(logitsKind, logits{l}), v.object(atKind, call.At)}
	}, nil)
}

// Sample implements hook.Hook.
func (i *Instance) Sample(call *hook.Call, c *hook.Candidates) (id int32, chosen bool, err error) {
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
func (i *Instance) Token(call *hook.Call, t *hook.Token) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(tokenKind, t)} }, nil)
}

// Routing implements hook.Hook.
func (i *Instance) Routing(call *hook.Call, r *hook.Routing) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(routingKind, r)} }, nil)
}

// Hidden implements hook.Hook.
func (i *Instance) Hidden(call *hook.Call, h *hook.Hidden) error {
	return i.handle(call, func(v *vm) []goja.Value {
		return []goja.Value{v.object(hiddenKind, h), v.object(atKind, call.At)}
	}, nil)
}

// Route implements hook.Hook.
func (i *Instance) Route(call *hook.Call, r *hook.Router) error {
	return i.handle(call, func(v *vm) []goja.Value {
		return []goja.Value{v.object(routerKind, r), v.object(atKind, call.At)}
	}, nil)
}

// Finish implements hook.Hook.
func (i *Instance) Finish(call *hook.Call, f *hook.Finish) error {
	return i.handle(call, func(v *vm) []goja.Value { return []goja.Value{v.object(finishKind, f)} }, nil)
}
