package scripts

import (
	"encoding/json"
	"strings"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// misuse is short for the fault of what has no meaning where it stands.
const misuse = hook.Misuse

var scriptKind = &kind{name: "Script", doc: "A script: what it is called with, and its hooks.", members: []member{
	{sig: "api: 1", doc: "The version of this interface.", theirs: true},
	{sig: "name?: string", doc: "For reports; the name of the file where there is none.", theirs: true},
	{sig: "params?: P", doc: "Parameters that a request may give.", theirs: true},
	{sig: "priority?: number", doc: "Scripts with higher ones are called first, and win where one must; 0.", theirs: true},
	{sig: "lag?: 1 | 2", doc: "How many positions behind token and routing events their effects come into force. 1 makes the stream wait at every token; 2.", theirs: true},
	{sig: "budget?: number", doc: "Milliseconds that a call may take; 2.", theirs: true},
	{sig: "capture?: \"decode\" | \"all\"", doc: "Which routing to tell of: of drawn tokens, or of the prompt too.", theirs: true},
	{sig: "hold?: number", doc: "How many tokens are kept from the client, so that rewind can take them back, 0 to 128; 0.", theirs: true},
	{sig: "top?: number", doc: "How many of the most likely tokens to bring along with every step, 0 to 256.", theirs: true},
	{sig: "request?(request: any, context: { params: Values<P>; log(...x: unknown[]): void }): void", doc: "Called once for a request, which it may change: the fields are the API's.", theirs: true},
	{sig: "hooks(context: Context<P>): Hooks", doc: "Called once for a choice: returns its handlers.", theirs: true},
	{sig: "migrate?(state: any): any", doc: "Makes state of this version of what another one kept, while the script runs; without it, state begins anew.", theirs: true},
}}

var paramKind = &kind{name: "Param", doc: "A parameter, in a subset of JSON Schema. Without a default it must be given.", members: []member{
	{sig: "type: \"number\" | \"integer\" | \"boolean\" | \"string\"", theirs: true},
	{sig: "default?: number | boolean | string", theirs: true},
	{sig: "description?: string", theirs: true},
	{sig: "minimum?: number", theirs: true},
	{sig: "maximum?: number", theirs: true},
	{sig: "maxLength?: number", theirs: true},
	{sig: "enum?: (number | string)[]", theirs: true},
}}

var hooksKind = &kind{name: "Hooks", doc: "The handlers of a choice. A handler that throws leaves its token to the default.", members: []member{
	{sig: "prompt?(p: PromptEdit): void", doc: "Before the prompt is read.", theirs: true},
	{sig: "logits?(l: Logits, at: At): void", doc: "Before a token is drawn. Edits cost nothing; reads have their price.", theirs: true},
	{sig: "sample?(c: Candidates, at: At): number | void", doc: "Returns an id to choose it. The stream waits at every token.", theirs: true},
	{sig: "token?(t: TokenEvent): void", doc: "A token was chosen.", theirs: true},
	{sig: "routing?(r: Routing): void", doc: "A row was routed.", theirs: true},
	{sig: "route?: { layers: number[]; at(r: Router, at: At): void }", doc: "Within the forward pass, before experts are chosen: everybody in the step waits, and a GPU runs it phase by phase. Eight layers at most.", theirs: true},
	{sig: "hidden?: { layers: number[]; write?: boolean; at(h: Hidden, at: At): void }", doc: "The residual behind layers, told like routing; eight layers at most. With write, within the forward pass, as route.", theirs: true},
	{sig: "finish?(f: Finish): void", doc: "The choice has ended.", theirs: true},
}}

var contextKind = &kind{name: "Context", doc: "What a choice's handlers work with.", members: []member{
	{sig: "readonly params: Values<P>", of: func(v *vm, what any) any { return v.plain(what.(*Instance).params) }},
	{sig: "readonly request: RequestInfo", of: func(v *vm, what any) any { return v.object(requestKind, &what.(*Instance).env.Request) }},
	{sig: "readonly model: ModelInfo", of: func(v *vm, what any) any { return v.object(modelKind, &what.(*Instance).env.Model) }},
	{sig: "readonly steer: Steering", of: func(v *vm, what any) any { return v.object(steeringKind, what) }},
	{sig: "readonly tokens: Tokens", of: func(v *vm, what any) any { return v.object(tokensKind, what) }},
	{sig: "state<T>(init: () => T): T", doc: "Plain data that outlives a change of the script; init makes it.", do: doState},
	{sig: "random(): number", doc: "In [0, 1): the same for the same seed, choice and position.", do: func(v *vm, _ goja.FunctionCall) (out goja.Value) {
		v.during(func(call *hook.Call) error { out = v.rt.ToValue(call.Random()); return nil })
		return out
	}},
	{sig: "log(...x: unknown[]): void", doc: "Writes to the request's log.", do: doLog},
	{sig: "emit(name: string, value: number | string | object): void", doc: "Tells the dashboard and the run's record.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		name, value := v.text("the name", c.Argument(0)), c.Argument(1)
		var data any
		switch value.(type) {
		case *goja.Object:
			data = json.RawMessage(v.json(value))
		case goja.String:
			data = value.String()
		default:
			data = v.number("the value", value)
		}
		v.during(func(call *hook.Call) error { return call.Emit(name, data) })
		return goja.Undefined()
	}},
	{sig: "stop(reason: string): void", doc: "Ends the choice: in sample, or in token with lag 1.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		reason := v.text("the reason", c.Argument(0))
		v.during(func(call *hook.Call) error { return call.Stop(reason) })
		return goja.Undefined()
	}},
	{sig: "inject(what: string | Ids): void", doc: "Makes these the next tokens, likewise; in sample, from the one to be chosen on.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		ids := v.textOrIDs(c.Argument(0))
		v.during(func(call *hook.Call) error { return call.Inject(ids) })
		return goja.Undefined()
	}},
	{sig: "snapshot(): Snapshot", doc: "Where the choice is, for rewind: in sample, or in token with lag 1.", do: func(v *vm, _ goja.FunctionCall) (out goja.Value) {
		v.during(func(call *hook.Call) error {
			position, err := call.Mark()
			out = v.object(snapshotKind, position)
			return err
		})
		return out
	}},
	{sig: "rewind(to: Snapshot | number, options?: { attempt?: \"same\" }): void", doc: "Takes the tokens from there on back, which must be held, and draws again; likewise. State goes back with them. Random numbers are new ones, unless the same are asked for.", do: doRewind},
	{sig: "sequence(prompt: string | Ids): Sequence", doc: "Begins a second prompt that reads what is chosen, in the same steps: in hooks() and prompt, two at most. It takes the place of a stream.", do: func(v *vm, c goja.FunctionCall) (out goja.Value) {
		ids := v.textOrIDs(c.Argument(0))
		v.during(func(call *hook.Call) error {
			number, err := call.Sequence(ids)
			out = v.object(sequenceKind, sequence(number))
			return err
		})
		return out
	}},
}}

// sequence is the number of one beside the choice.
type sequence int

var sequenceKind = &kind{name: "Sequence", doc: "A second prompt of the choice, and what was chosen behind it.", members: []member{
	{sig: "readonly logits: SequenceLogits", doc: "Its logits for the token to be drawn: in logits.", get: func(v *vm, c goja.FunctionCall) (out goja.Value) {
		number := receiver[sequence](v, c)
		v.during(func(call *hook.Call) error {
			if v.row == nil || call.Event != hook.OnLogits {
				return faultf(hook.Misuse, "the logits of a sequence in %s: they are there in logits", call.Event)
			}
			reads, err := v.row.Beside(int(number))
			out = v.object(sequenceLogitsKind, besideReads{reads, int(number)})
			return err
		})
		return out
	}},
}}

var snapshotKind = &kind{name: "Snapshot", doc: "A place that rewind can come back to as long as its tokens are held.", members: []member{
	{sig: "readonly position: number", of: func(_ *vm, what any) any { return what.(int) }},
}}

func doRewind(v *vm, c goja.FunctionCall) goja.Value {
	to := 0
	if h := v.holds(c.Argument(0)); h != nil && h.kind == snapshotKind {
		to = h.what.(int)
	} else {
		to = v.integer("the position", c.Argument(0))
	}
	same := false
	if o, ok := c.Argument(1).(*goja.Object); ok {
		if attempt := o.Get("attempt"); attempt != nil && !goja.IsUndefined(attempt) {
			if attempt.String() != "same" {
				v.throw(faultf(hook.BadValue, "rewind with attempt %q: it is \"same\", or left out", short(attempt)))
			}
			same = true
		}
	}
	v.during(func(call *hook.Call) error { return call.Rewind(to, same) })
	return goja.Undefined()
}

// maxStates bounds the pieces of state of a script.
const maxStates = 64

func doState(v *vm, c goja.FunctionCall) goja.Value {
	i := v.serves
	if v.call == nil || v.call.Event != 0 {
		v.throw(faultf(misuse, "state is made in hooks(), not in a handler"))
	}
	if len(i.states) == maxStates {
		v.throw(faultf(hook.BadValue, "%d pieces of state at most", maxStates))
	}
	value := i.inherited(len(i.states))
	if value == nil {
		init, ok := goja.AssertFunction(c.Argument(0))
		if !ok {
			v.throw(faultf(hook.BadValue, "state takes a function that makes it"))
		}
		value = call(init, goja.Undefined())
	}
	v.json(value) // it is plain data
	i.states = append(i.states, value)
	if o, ok := value.(*goja.Object); ok {
		v.scale.roots = append(v.scale.roots, o)
	}
	return value
}

// maxLog bounds a line of the log, in bytes.
const maxLog = 4 << 10

func doLog(v *vm, c goja.FunctionCall) goja.Value {
	text := v.logLine(c.Arguments)
	v.outside(func() error {
		if v.call == nil {
			return nil
		}
		return v.call.Emit("log", text)
	})
	return goja.Undefined()
}

// logLine is what arguments of log say.
func (v *vm) logLine(args []goja.Value) string {
	var line strings.Builder
	for n, arg := range args {
		if n > 0 {
			line.WriteByte(' ')
		}
		if o, ok := arg.(*goja.Object); ok && o.ClassName() != "Error" {
			line.WriteString(v.json(arg))
		} else {
			line.WriteString(short(arg))
		}
		if line.Len() > maxLog {
			return strings.ToValidUTF8(line.String()[:maxLog], "") + "…"
		}
	}
	return line.String()
}

// textOrIDs takes ids, or the text that stands for some.
func (v *vm) textOrIDs(value goja.Value) []int32 {
	if s, ok := value.(goja.String); ok {
		return v.encode(s.String())
	}
	return v.ids("the ids", value)
}

var tokensKind = &kind{name: "Tokens", doc: "The tokenizer.", members: []member{
	{sig: "encode(text: string): Int32Array", do: func(v *vm, c goja.FunctionCall) goja.Value {
		return typed(v, v.encode(v.text("the text", c.Argument(0))))
	}},
	{sig: "one(text: string): number", doc: "The id of a text that is a single token; throws where it is not.", do: func(v *vm, c goja.FunctionCall) goja.Value {
		text := v.text("the text", c.Argument(0))
		ids := v.encode(text)
		if len(ids) != 1 {
			v.throw(faultf(hook.BadValue, "%q is %d tokens, not one", text, len(ids)))
		}
		return v.rt.ToValue(ids[0])
	}},
	{sig: "decode(ids: Ids): string", do: func(v *vm, c goja.FunctionCall) goja.Value {
		i, ids := v.serves, v.ids("the ids", c.Argument(0))
		var text string
		v.outside(func() (err error) {
			for _, id := range ids {
				if id < 0 || int(id) >= i.env.Model.Tokens {
					return faultf(hook.BadID, "decode of token %d: ids lie in 0 to %d", id, i.env.Model.Tokens-1)
				}
			}
			if i.env.Tokenizer == nil {
				return faultf(hook.Unsupported, "this model has no tokenizer; a test gives its run a vocabulary")
			}
			if t, ok := i.env.Tokenizer.(forgetful); ok {
				text, err = t.Text(ids)
				return err
			}
			text = i.env.Tokenizer.Decode(ids)
			return nil
		})
		return v.rt.ToValue(text)
	}},
}}

// forgetful is a tokenizer that does not know the text of all ids: that of a recording.
type forgetful interface {
	Text(ids []int32) (string, error)
}

func (v *vm) encode(text string) (ids []int32) {
	v.atMost("characters", float64(len(text)), 1<<16)
	v.outside(func() (err error) {
		i := v.serves
		if i.env.Tokenizer == nil {
			return faultf(hook.Unsupported, "this model has no tokenizer; a test gives its run a vocabulary")
		}
		ids, err = i.env.Tokenizer.Encode(text)
		return err
	})
	return ids
}

var modelKind = &kind{name: "ModelInfo", doc: "The model.", members: []member{
	{sig: "readonly name: string", of: func(_ *vm, what any) any { return what.(*hook.Model).Name }},
	{sig: "readonly layers: number", of: func(_ *vm, what any) any { return what.(*hook.Model).Shape.Layers }},
	{sig: "readonly experts: number", doc: "Of a layer.", of: func(_ *vm, what any) any { return what.(*hook.Model).Shape.Experts }},
	{sig: "readonly topK: number", doc: "Experts that a token chooses.", of: func(_ *vm, what any) any { return what.(*hook.Model).Shape.K }},
	{sig: "readonly hidden: number", of: func(_ *vm, what any) any { return what.(*hook.Model).Shape.Hidden }},
	{sig: "readonly tokens: number", doc: "Ids that can be drawn: 0 to tokens - 1.", of: func(_ *vm, what any) any { return what.(*hook.Model).Tokens }},
	{sig: "readonly eos: Int32Array", doc: "Ids that end a text.", of: func(_ *vm, what any) any { return what.(*hook.Model).EOS }},
}}

var requestKind = &kind{name: "RequestInfo", doc: "The request.", members: []member{
	{sig: "readonly id: string", of: func(_ *vm, what any) any { return what.(*hook.Request).ID }},
	{sig: "readonly maxTokens: number", of: func(_ *vm, what any) any { return what.(*hook.Request).MaxTokens }},
	{sig: "readonly choice: number", of: func(_ *vm, what any) any { return what.(*hook.Request).Choice }},
	{sig: "readonly choices: number", of: func(_ *vm, what any) any { return what.(*hook.Request).Choices }},
	{sig: "readonly body: any", doc: "As the client sent it.", of: func(v *vm, what any) any { return v.plain(what.(*hook.Request).Body) }},
}}
