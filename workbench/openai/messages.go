package openai

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/chat"
)

// Templates drop messages they do not know without a word, so everything is
// checked here, before one is rendered.

const (
	maxMessages = 10_000
	maxTools    = 1024
)

// messages takes the conversation and returns it in the form that templates
// read: system in place of developer, text in place of content parts, the
// arguments of calls as objects.
func (f *fields) messages() *chat.List {
	var raw []json.RawMessage
	if !f.take("messages", &raw) || len(raw) == 0 || len(raw) > maxMessages {
		f.fail(fmt.Sprintf("must be a list of 1 to %d messages", maxMessages), "messages")
		return nil
	}
	list := make([]chat.Value, len(raw))
	for i := range raw {
		m, err := f.object(fmt.Sprintf("messages[%d]", i), raw[i])
		if err == nil {
			list[i], err = m.message()
		}
		if err != nil {
			f.err = err
			return nil
		}
	}
	return chat.NewList(list...)
}

// message reads one message.
func (f *fields) message() (chat.Value, *Error) {
	var role string
	if !f.take("role", &role) && f.err == nil {
		f.fail("is missing", "role")
	}
	out := chat.NewMap()
	switch role {
	case "developer":
		out.Set("role", chat.NewString("system"))
	case "system", "user", "assistant", "tool":
		out.Set("role", chat.NewString(role))
	case "function":
		f.fail("function messages are not supported: use tool messages", "role")
	default:
		f.fail(fmt.Sprintf("%.32q is no role: use system, developer, user, assistant or tool", role), "role")
	}
	var calls []json.RawMessage
	if role == "assistant" {
		f.take("tool_calls", &calls)
	}
	text, given := f.content()
	if !given && len(calls) == 0 {
		f.fail("is missing", "content")
	}
	if given {
		out.Set("content", chat.NewString(text))
	}
	switch role {
	case "assistant":
		f.assistant(out, calls)
	case "tool":
		var id string
		if f.take("tool_call_id", &id) {
			out.Set("tool_call_id", chat.NewString(id))
		}
		if f.take("name", &id) {
			out.Set("name", chat.NewString(id))
		}
	}
	return out, f.rest()
}

// content takes a text, null, or a list of text parts. Parts are joined by a
// line break, as vLLM joins them.
func (f *fields) content() (text string, given bool) {
	raw := f.raw["content"]
	if kindOf(raw) != "array" {
		given = f.take("content", &text)
		return text, given
	}
	var parts []json.RawMessage
	f.take("content", &parts)
	var lines []string
	for i, raw := range parts {
		p, err := f.object(fmt.Sprintf("%s[%d]", f.param("content"), i), raw)
		if err != nil {
			f.err = err
			return "", true
		}
		lines = append(lines, p.part())
		if p.err != nil {
			f.err = p.err
			return "", true
		}
	}
	return strings.Join(lines, "\n"), true
}

// part reads one content part.
func (f *fields) part() (text string) {
	var kind string
	f.take("type", &kind)
	switch kind {
	case "text", "refusal":
		if !f.take(kind, &text) {
			f.fail("is missing", kind)
		}
	case "":
		f.fail("is missing", "type")
	default:
		f.err = unsupported(f.param("type"), "content of type %.32q is not supported: this model reads text only", kind)
	}
	return text
}

// assistant takes what only our own answers have.
func (f *fields) assistant(out *chat.Map, calls []json.RawMessage) {
	for _, name := range []string{"reasoning_content", "reasoning"} {
		var thought string
		if f.take(name, &thought) {
			out.Set("reasoning_content", chat.NewString(thought))
			break
		}
	}
	for _, own := range []string{"refusal", "annotations", "audio", "reasoning", "thinking"} {
		delete(f.raw, own) // sent back by clients that keep whole messages
	}
	if len(calls) == 0 {
		return
	}
	list := make([]chat.Value, len(calls))
	for i, raw := range calls {
		c, err := f.object(fmt.Sprintf("%s[%d]", f.param("tool_calls"), i), raw)
		if err == nil {
			list[i], err = c.call()
		}
		if err != nil {
			f.err = err
			return
		}
	}
	out.Set("tool_calls", chat.NewList(list...))
}

// call reads one tool call of an assistant message. Clients send the
// arguments as a string that holds JSON; templates want the object.
func (f *fields) call() (chat.Value, *Error) {
	var id string
	var kind = "function"
	var raw json.RawMessage
	f.take("id", &id)
	f.take("type", &kind)
	f.take("function", &raw)
	if f.err != nil {
		return nil, f.err
	}
	if kind != "function" {
		return nil, unsupported(f.param("type"), "tool calls of type %.32q are not supported: use function", kind)
	}
	fn, err := f.object(f.param("function"), raw)
	if err != nil {
		return nil, err
	}
	var name string
	if !fn.take("name", &name) || name == "" {
		fn.fail("must be the name of a function", "name")
	}
	arguments := fn.arguments()
	if fn.err != nil {
		return nil, fn.err
	}
	function := chat.NewMap()
	function.Set("name", chat.NewString(name))
	function.Set("arguments", arguments)
	out := chat.NewMap()
	out.Set("id", chat.NewString(id))
	out.Set("type", chat.NewString("function"))
	out.Set("function", function)
	return out, nil
}

// arguments reads an object, or a string that holds one; "" is a call
// without arguments.
func (f *fields) arguments() chat.Value {
	raw := f.raw["arguments"]
	delete(f.raw, "arguments")
	if kindOf(raw) == "string" {
		var text string
		_ = json.Unmarshal(raw, &text) // checked with the body
		raw = json.RawMessage(text)
	}
	if kind := kindOf(raw); kind == "null" || kind == "nothing" {
		return chat.NewMap()
	}
	if err := checkJSON(raw); err != nil {
		f.fail("must be a JSON object, or a string that holds one: "+err.Message, "arguments")
		return nil
	}
	return f.objectValue("arguments", raw)
}

// objectValue decodes an object for the template, in order and with numbers
// as they are written.
func (f *fields) objectValue(name string, raw json.RawMessage) chat.Value {
	v, err := chat.DecodeJSON(raw)
	if err != nil {
		f.fail(err.Error(), name)
		return nil
	}
	if _, ok := v.(*chat.Map); !ok {
		f.fail("must be an object, not "+describe(raw), name)
		return nil
	}
	return v
}

// tools takes the tools; nil without any, and when tool_choice is none: then
// the model is not told of them.
func (f *fields) tools() *chat.List {
	var raw []json.RawMessage
	f.take("tools", &raw)
	if len(raw) > maxTools {
		f.fail(fmt.Sprintf("has %d tools, at most %d are possible", len(raw), maxTools), "tools")
		return nil
	}
	list := make([]chat.Value, len(raw))
	for i := range raw {
		if list[i] = f.tool(fmt.Sprintf("tools[%d]", i), raw[i]); list[i] == nil {
			return nil
		}
	}
	if choice := f.toolChoice(); choice == "none" || len(list) == 0 {
		return nil
	}
	return chat.NewList(list...)
}

// tool checks one tool and returns it as it was sent.
func (f *fields) tool(path string, raw json.RawMessage) chat.Value {
	t, err := f.object(path, raw)
	if err != nil {
		f.err = err
		return nil
	}
	var kind, name string
	var function json.RawMessage
	t.take("type", &kind)
	if kind != "function" {
		f.err = unsupported(path+".type", "tools of type %.32q are not supported: use function", kind)
		return nil
	}
	t.take("function", &function)
	fn, err := t.object(path+".function", function)
	if err != nil {
		f.err = err
		return nil
	}
	if !fn.take("name", &name) || name == "" {
		f.err = invalid(path+".function.name", "must be the name of a function")
		return nil
	}
	var strict bool
	if fn.take("strict", &strict); strict {
		f.warn(path+".function.strict", "arguments are not forced to follow the schema")
	}
	return f.objectValue(path, raw)
}

func (f *fields) toolChoice() string {
	raw, ok := f.raw["tool_choice"]
	delete(f.raw, "tool_choice")
	choice := "auto"
	if !ok || string(raw) == "null" {
		return choice
	}
	if kindOf(raw) == "string" {
		_ = json.Unmarshal(raw, &choice) // checked with the body
		if choice == "none" || choice == "auto" {
			return choice
		}
	}
	if f.err == nil {
		f.err = unsupported("tool_choice", "forcing a call is not supported by this server: use auto or none")
	}
	return choice
}
