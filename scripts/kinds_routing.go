package scripts

import (
	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// look makes a method that looks at a layer of the routing.
func look[T any](do func(r *hook.Routing, layer int) (T, error), value func(*vm, T) goja.Value) func(*vm, goja.FunctionCall) goja.Value {
	return func(v *vm, c goja.FunctionCall) goja.Value {
		r, layer := receiver[*hook.Routing](v, c), v.integer("the layer", c.Argument(0))
		var out T
		v.during(func(*hook.Call) (err error) { out, err = do(r, layer); return err })
		return value(v, out)
	}
}

// window is how many tokens share looks at where nothing is said.
const window = 64

var routingKind = &kind{name: "Routing", doc: "What a row was routed to, and what the script was told before.", members: []member{
	{sig: "readonly position: number", of: func(_ *vm, what any) any { return what.(*hook.Routing).Position }},
	{sig: "readonly phase: \"prompt\" | \"decode\"", of: func(_ *vm, what any) any {
		if what.(*hook.Routing).Prompt {
			return hook.InPrompt.String()
		}
		return hook.InDecode.String()
	}},
	{sig: "ids(layer: number): Uint16Array", doc: "The experts that were chosen, best first.", do: look((*hook.Routing).Experts, typed[uint16])},
	{sig: "weights(layer: number): Float32Array", doc: "Their weights as applied.", do: look((*hook.Routing).Applied, typed[float32])},
	{sig: "counts(layer: number): Uint32Array", doc: "How often each expert was chosen so far.", do: look((*hook.Routing).Counts, typed[uint32])},
	{sig: "share(layer: number, expert: number, window?: number): number", doc: "The part of the last window tokens (64; 256 at most) that chose an expert.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r, layer, expert, n := receiver[*hook.Routing](v, c), v.integer("the layer", c.Argument(0)), v.integer("the expert", c.Argument(1)), window
		if w := c.Argument(2); !goja.IsUndefined(w) {
			n = v.integer("the window", w)
		}
		var share float64
		v.during(func(*hook.Call) (err error) { share, err = r.Share(layer, expert, n); return err })
		return v.rt.ToValue(share)
	}},
	{sig: "overlap(other: Routing): number", doc: "The part of the chosen experts that two rows have in common.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r, other := receiver[*hook.Routing](v, c), receiver[*hook.Routing](v, goja.FunctionCall{This: c.Argument(0)})
		var part float64
		v.during(func(*hook.Call) (err error) { part, err = r.Overlap(other); return err })
		return v.rt.ToValue(part)
	}},
	{sig: "back(n: number): Routing | undefined", doc: "What the script was told n rows ago.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r, n := receiver[*hook.Routing](v, c), v.integer("n", c.Argument(0))
		var back *hook.Routing
		v.during(func(*hook.Call) error { back = r.Back(n); return nil })
		if back == nil {
			return goja.Undefined()
		}
		return v.object(v.holds(c.This).kind, back)
	}},
}}

// layerRef is what LayerSteering stands for: some layers, nil for all.
type layerRef struct{ layers []int }

// steered makes a method that changes the steering of some layers.
func steered(do func(v *vm, c goja.FunctionCall) func(s *hook.Steering, layers []int) error) func(*vm, goja.FunctionCall) goja.Value {
	return func(v *vm, c goja.FunctionCall) goja.Value {
		layers, change := receiver[*layerRef](v, c).layers, do(v, c)
		v.during(func(call *hook.Call) error { return change(call.Steer, layers) })
		return c.This
	}
}

// experts makes a method that takes experts and a number.
func experts(do func(*hook.Steering, []int, []int32, float32) error) func(*vm, goja.FunctionCall) goja.Value {
	return steered(func(v *vm, c goja.FunctionCall) func(*hook.Steering, []int) error {
		ids, x := v.ids("the experts", c.Argument(0)), v.number("the value", c.Argument(1))
		return func(s *hook.Steering, layers []int) error { return do(s, layers, ids, float32(x)) }
	})
}

// listed makes a method that takes experts.
func listed(do func(*hook.Steering, []int, []int32) error) func(*vm, goja.FunctionCall) goja.Value {
	return steered(func(v *vm, c goja.FunctionCall) func(*hook.Steering, []int) error {
		ids := v.ids("the experts", c.Argument(0))
		return func(s *hook.Steering, layers []int) error { return do(s, layers, ids) }
	})
}

var layerKind = &kind{name: "LayerSteering", doc: "The steering of some layers. What is set stays until it is set again.", members: []member{
	{sig: "bias(experts: Ids, value: number): this", doc: "Added to the router logits that experts are ranked by; 0 takes it back.", do: experts((*hook.Steering).Bias)},
	{sig: "ban(experts: Ids): this", do: listed((*hook.Steering).Ban)},
	{sig: "force(experts: Ids): this", doc: "They are chosen, in the place of the weakest.", do: listed((*hook.Steering).Force)},
	{sig: "scale(experts: Ids, factor: number): this", doc: "Factor of their weights, which are not renormalised again.", do: experts((*hook.Steering).Scale)},
	{sig: "gate(factor: number): this", doc: "Factor of the shared expert's gate.", do: steered(func(v *vm, c goja.FunctionCall) func(*hook.Steering, []int) error {
		x := v.number("the factor", c.Argument(0))
		return func(s *hook.Steering, layers []int) error { return s.Gate(layers, float32(x)) }
	})},
	{sig: "topK(k: number): this", doc: "How many experts a token chooses; 0 for the model's number.", do: steered(func(v *vm, c goja.FunctionCall) func(*hook.Steering, []int) error {
		k := v.integer("k", c.Argument(0))
		return func(s *hook.Steering, layers []int) error { return s.TopK(layers, k) }
	})},
	{sig: "clear(): this", do: steered(func(*vm, goja.FunctionCall) func(*hook.Steering, []int) error {
		return (*hook.Steering).Clear
	})},
}}

var steeringKind = &kind{name: "Steering", doc: "How rows are routed. Set in hooks() it acts from prompt token 0, in handlers from the row of their turn on.", members: []member{
	{sig: "layer(n: number): LayerSteering", do: func(v *vm, c goja.FunctionCall) goja.Value {
		return v.object(layerKind, &layerRef{[]int{v.integer("the layer", c.Argument(0))}})
	}},
	{sig: "layers(list: number[]): LayerSteering", do: func(v *vm, c goja.FunctionCall) goja.Value {
		return v.object(layerKind, &layerRef{append([]int{}, v.layers(c.Argument(0))...)})
	}},
	{sig: "readonly all: LayerSteering", of: func(v *vm, _ any) any { return v.object(layerKind, &layerRef{}) }},
	{sig: "vector(v: string | Float32Array, at: { layer: number; scale: number }): void", doc: "Added to the residual behind a layer; a name is that of one the server knows.", do: doVector},
	{sig: "decodeOnly(): void", doc: "Leaves the prompt alone.", do: func(v *vm, _ goja.FunctionCall) goja.Value {
		v.during(func(call *hook.Call) error { call.Steer.OnlyDecode(); return nil })
		return goja.Undefined()
	}},
	{sig: "clear(): void", doc: "Takes everything back.", do: func(v *vm, _ goja.FunctionCall) goja.Value {
		v.during(func(call *hook.Call) error { call.Steer.Reset(); return nil })
		return goja.Undefined()
	}},
}}

func doVector(v *vm, c goja.FunctionCall) goja.Value {
	i := v.serves
	at, ok := c.Argument(1).(*goja.Object)
	if !ok {
		v.throw(faultf(hook.BadValue, "vector takes where to add it: { layer, scale }"))
	}
	vector := hook.Vector{Layer: v.integer("the layer", at.Get("layer")), Scale: float32(v.number("the scale", at.Get("scale")))}
	if name, ok := c.Argument(0).(goja.String); ok {
		vector.Name = name.String()
	} else {
		vector.Values = v.floats("the vector", c.Argument(0))
	}
	v.during(func(call *hook.Call) (err error) {
		if vector.Values == nil {
			if i.env.Vectors == nil {
				return faultf(hook.BadValue, "there is no vector %q: the server knows none", vector.Name)
			}
			if vector.Values, err = i.env.Vectors(vector.Name); err != nil {
				return err
			}
		}
		return call.Steer.AddVector(vector)
	})
	return goja.Undefined()
}
