package scripts

import (
	"math"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

var atKind = &kind{name: "At", doc: "Where a handler is called.", members: []member{
	{sig: "readonly position: number", doc: "Of the token that is to be drawn.", of: func(_ *vm, what any) any { return what.(hook.At).Position }},
	{sig: "readonly choice: number", of: func(_ *vm, what any) any { return what.(hook.At).Choice }},
	{sig: "readonly attempt: number", doc: "Counts draws at this position.", of: func(_ *vm, what any) any { return what.(hook.At).Attempt }},
	{sig: "readonly phase: \"prompt\" | \"decode\"", of: func(_ *vm, what any) any { return what.(hook.At).Phase.String() }},
}}

// reader is a handle that reads: logits, or the model's own.
type reader interface{ reads() *hook.Reads }

type logits struct{ *hook.Logits }

func (l logits) reads() *hook.Reads { return l.Reads }

type modelReads struct{ *hook.Reads }

func (m modelReads) reads() *hook.Reads { return m.Reads }

// besideReads are those of a sequence's row.
type besideReads struct {
	*hook.Reads
	number int
}

func (b besideReads) reads() *hook.Reads { return b.Reads }

var sequenceLogitsKind = &kind{name: "SequenceLogits", extends: readsKind, doc: "The logits that a sequence gives for the token to be drawn."}

// read makes a method of a read.
func read[T any](do func(r *hook.Reads, v *vm, c goja.FunctionCall) func() (T, error)) func(*vm, goja.FunctionCall) goja.Value {
	return func(v *vm, c goja.FunctionCall) goja.Value {
		fetch := do(receiver[reader](v, c).reads(), v, c)
		var out T
		v.during(func(*hook.Call) (err error) { out, err = fetch(); return err })
		return v.value(out)
	}
}

var readsKind = &kind{name: "Reads", doc: "Reads of a distribution. Each fetches once, and is in the report.", members: []member{
	{sig: "top(k: number): Candidates", doc: "The k most likely tokens, best first. Up to 256 ride in the step's result.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r, k := receiver[reader](v, c).reads(), v.integer("k", c.Argument(0))
		var list []hook.Candidate
		v.during(func(*hook.Call) (err error) { list, err = r.Top(k); return err })
		return v.object(candidatesKind, &candidates{list: list})
	}},
	{sig: "prob(id: number): number", doc: "A sum on the device, unless the token is among those read.", do: read(func(r *hook.Reads, v *vm, c goja.FunctionCall) func() (float32, error) {
		id := v.id("the id", v.number("the id", c.Argument(0)))
		return func() (float32, error) { return r.Prob(id) }
	})},
	{sig: "logprob(id: number): number", doc: "Likewise.", do: read(func(r *hook.Reads, v *vm, c goja.FunctionCall) func() (float32, error) {
		id := v.id("the id", v.number("the id", c.Argument(0)))
		return func() (float32, error) { return r.Logprob(id) }
	})},
	{sig: "rank(id: number): number", doc: "How many tokens are more likely. Fetches the whole row, unless the token is among those read.", do: read(func(r *hook.Reads, v *vm, c goja.FunctionCall) func() (int, error) {
		id := v.id("the id", v.number("the id", c.Argument(0)))
		return func() (int, error) { return r.Rank(id) }
	})},
	{sig: "entropy(): number", doc: "In nats. A sum on the device.", do: read(func(r *hook.Reads, _ *vm, _ goja.FunctionCall) func() (float32, error) {
		return r.Entropy
	})},
	{sig: "full(): Float32Array", doc: "A copy of all logits: the dearest read.", do: read(func(r *hook.Reads, _ *vm, _ goja.FunctionCall) func() ([]float32, error) {
		return r.Full
	})},
}}

// edit makes a method of an edit, which returns its object.
func edit(do func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error) func(*vm, goja.FunctionCall) goja.Value {
	return func(v *vm, c goja.FunctionCall) goja.Value {
		change := do(receiver[logits](v, c).Logits, v, c)
		v.during(func(*hook.Call) error { return change() })
		return c.This
	}
}

// setting makes a method that sets a value of the sampling chain.
func setting(s hook.Setting) func(*vm, goja.FunctionCall) goja.Value {
	return edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
		x := v.number(s.String(), c.Argument(0))
		return func() error { return l.Set(s, x) }
	})
}

var logitsKind = &kind{name: "Logits", extends: readsKind,
	doc: "The logits that a token is drawn from. Reads are of the row as it comes to the hooks: after grammar, penalties and bias of the request, before any edit.", members: []member{
		{sig: "bias(ids: Ids, value: number): this", doc: "Adds to the logits of tokens.", do: edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
			ids, x := v.ids("the ids", c.Argument(0)), v.number("the value", c.Argument(1))
			return func() error { return l.Bias(ids, float32(x)) }
		})},
		{sig: "scale(x: number): this", doc: "Multiplies all logits.", do: edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
			x := v.number("the factor", c.Argument(0))
			return func() error { return l.Scale(float32(x)) }
		})},
		{sig: "ban(ids: Ids): this", doc: "Keeps tokens from being drawn.", do: edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
			ids := v.ids("the ids", c.Argument(0))
			return func() error { return l.Ban(ids) }
		})},
		{sig: "only(ids: Ids): this", doc: "Keeps all other tokens from being drawn.", do: edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
			ids := v.ids("the ids", c.Argument(0))
			return func() error { return l.Only(ids) }
		})},
		{sig: "add(other: SequenceLogits, weight: number): this", doc: "Adds the logits of a sequence, times a weight.", do: edit(func(l *hook.Logits, v *vm, c goja.FunctionCall) func() error {
			h, x := v.holds(c.Argument(0)), v.number("the weight", c.Argument(1))
			if h == nil || h.kind != sequenceLogitsKind {
				v.throw(faultf(hook.BadValue, "add takes the logits of a sequence, as sequence(...).logits"))
			}
			other := h.what.(besideReads).number
			return func() error { return l.Add(other, float32(x)) }
		})},
		{sig: "temperature(t: number): this", doc: "Sets the temperature of this token.", do: setting(hook.Temperature)},
		{sig: "topK(k: number): this", do: setting(hook.TopK)},
		{sig: "topP(p: number): this", do: setting(hook.TopP)},
		{sig: "minP(p: number): this", do: setting(hook.MinP)},
		{sig: "typical(p: number): this", do: setting(hook.Typical)},
		{sig: "readonly model: Reads", doc: "The same reads of the model's own distribution.", get: func(v *vm, c goja.FunctionCall) goja.Value {
			return v.object(readsKind, modelReads{receiver[logits](v, c).Model()})
		}},
	}}

// candidates is a list of tokens; chosen from, where it is the sampling chain's.
type candidates struct {
	list []hook.Candidate
	from *hook.Candidates
}

// draw draws one of the list, with the random number of the call.
func (c *candidates) draw(call *hook.Call) (int32, error) {
	if c.from != nil {
		return c.from.Draw()
	}
	if len(c.list) == 0 {
		return 0, faultf(hook.NothingLeft, "draw of an empty list")
	}
	sum := 0.0
	for _, t := range c.list {
		sum += math.Exp(float64(t.Logprob))
	}
	left := call.Random() * sum
	for _, t := range c.list {
		if left -= math.Exp(float64(t.Logprob)); left < 0 {
			return t.ID, nil
		}
	}
	return c.list[len(c.list)-1].ID, nil
}

func column[T any](what any, of func(hook.Candidate) T) []T {
	list := what.(*candidates).list
	out := make([]T, len(list))
	for i, c := range list {
		out[i] = of(c)
	}
	return out
}

var candidatesKind = &kind{name: "Candidates", doc: "Tokens, most likely first.", members: []member{
	{sig: "readonly n: number", of: func(_ *vm, what any) any { return len(what.(*candidates).list) }},
	{sig: "readonly ids: Int32Array", of: func(_ *vm, what any) any {
		return column(what, func(c hook.Candidate) int32 { return c.ID })
	}},
	{sig: "readonly logits: Float32Array", of: func(_ *vm, what any) any {
		return column(what, func(c hook.Candidate) float32 { return c.Logit })
	}},
	{sig: "readonly logprobs: Float32Array", of: func(_ *vm, what any) any {
		return column(what, func(c hook.Candidate) float32 { return c.Logprob })
	}},
	{sig: "draw(): number", doc: "One of them by chance: in sample the token that the chain would choose, else by their logits.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		list := receiver[*candidates](v, c)
		var id int32
		v.during(func(call *hook.Call) (err error) {
			id, err = list.draw(call)
			return err
		})
		return v.rt.ToValue(id)
	}},
}}

var promptKind = &kind{name: "PromptEdit", doc: "The prompt before it is read.", members: []member{
	{sig: "ids: Int32Array | number[]", doc: "Set this to replace the prompt.", of: func(_ *vm, what any) any { return what.(*hook.Prompt).IDs }},
}}

var tokenKind = &kind{name: "TokenEvent", doc: "A token that was chosen.", members: []member{
	{sig: "readonly position: number", of: func(_ *vm, what any) any { return what.(*hook.Token).Position }},
	{sig: "readonly id: number", of: func(_ *vm, what any) any { return what.(*hook.Token).ID }},
	{sig: "readonly text: string", of: func(_ *vm, what any) any { return what.(*hook.Token).Text }},
	{sig: "readonly logprob: number", doc: "Of the model's distribution.", of: func(_ *vm, what any) any { return what.(*hook.Token).Logprob }},
	{sig: "readonly forced: boolean", doc: "It was injected, not drawn.", of: func(_ *vm, what any) any { return what.(*hook.Token).Forced }},
}}

var hiddenKind = &kind{name: "Hidden", doc: "The residual behind a layer, its steering vector added, of a row that was read.", members: []member{
	{sig: "readonly position: number", of: func(_ *vm, what any) any { return what.(*hook.Hidden).Position }},
	{sig: "readonly layer: number", of: func(_ *vm, what any) any { return what.(*hook.Hidden).Layer }},
	{sig: "read(): Float32Array", doc: "A copy.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		h := receiver[*hook.Hidden](v, c)
		var out []float32
		v.during(func(*hook.Call) (err error) { out, err = h.Read(); return err })
		return typed(v, out)
	}},
	{sig: "lens(k: number): Candidates", doc: "The k most likely tokens (256 at most), were it the residual behind the last layer. Runs the model's head; not with write.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		h, k := receiver[*hook.Hidden](v, c), v.integer("k", c.Argument(0))
		var list []hook.Candidate
		v.during(func(*hook.Call) (err error) { list, err = h.Lens(k); return err })
		return v.object(candidatesKind, &candidates{list: list})
	}},
	{sig: "write(values: Float32Array | number[]): void", doc: "Takes its place. Where hidden says write: true.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		h, values := receiver[*hook.Hidden](v, c), v.floats("the values", c.Argument(0))
		v.during(func(*hook.Call) error { return h.Write(values) })
		return goja.Undefined()
	}},
}}

var routerKind = &kind{name: "Router", doc: "The logits of a layer's router for a row, before biases and the choice of experts.", members: []member{
	{sig: "readonly position: number", of: func(_ *vm, what any) any { return what.(*hook.Router).Position }},
	{sig: "readonly layer: number", of: func(_ *vm, what any) any { return what.(*hook.Router).Layer }},
	{sig: "read(): Float32Array", doc: "A copy: a logit for each expert.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r := receiver[*hook.Router](v, c)
		var out []float32
		v.during(func(*hook.Call) (err error) { out, err = r.Read(); return err })
		return typed(v, out)
	}},
	{sig: "write(logits: Float32Array | number[]): void", doc: "Takes their place. -Infinity keeps an expert from being chosen.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		r, logits := receiver[*hook.Router](v, c), v.floats("the logits", c.Argument(0))
		v.during(func(*hook.Call) error { return r.Write(logits) })
		return goja.Undefined()
	}},
}}

var finishKind = &kind{name: "Finish", doc: "How a choice ended.", members: []member{
	{sig: "readonly reason: string", of: func(_ *vm, what any) any { return what.(*hook.Finish).Reason }},
	{sig: "readonly prompt: number", doc: "Tokens.", of: func(_ *vm, what any) any { return what.(*hook.Finish).Prompt }},
	{sig: "readonly completion: number", doc: "Tokens.", of: func(_ *vm, what any) any { return what.(*hook.Finish).Completion }},
}}
