package chat

import (
	"context"
	"strings"
	"time"
)

// Input is what a conversation is rendered from. All of it but SpecialTokens
// is data: its bytes are marked in the Rendering.
type Input struct {
	Messages         Value // a list of maps
	Tools, Documents Value // lists of maps; nil when absent

	// AddGenerationPrompt ends the text where the assistant's answer begins.
	AddGenerationPrompt bool
	// ContinueFinalMessage ends the text inside the last message, for the model
	// to write on. ContinueField is the key of the message that is continued,
	// "" for content.
	ContinueFinalMessage bool
	ContinueField        string

	// Kwargs are further variables of the template (enable_thinking, ...).
	Kwargs *Map
	// SpecialTokens are bos_token and its like, from LoadSpecialTokens. They are
	// the model's own words, not data. Kwargs overwrite them.
	SpecialTokens *Map
	// Now is the time that strftime_now tells; zero for the clock.
	Now time.Time
}

// Rendering is the text of a conversation. Plain are the byte ranges that came
// from input data, sorted, apart and not empty: in them, or across their
// borders, no control token may be recognised.
type Rendering struct {
	Text  string
	Plain []Span
}

// continueTag marks the end of the message to continue while the template
// runs. The space shows whether the template trims the message.
const continueTag = "CONTINUE_FINAL_MESSAGE_TAG "

// reasoningFields are the keys under which reasoning is known, best first.
var reasoningFields = []string{"reasoning_content", "thinking", "reasoning"}

// Render writes the conversation as transformers 5 does: keys of messages whose
// value is null are dropped, reasoning is known under all its names, and
// absent tools and documents are none. Errors are *Error or ctx's.
func (t *Template) Render(ctx context.Context, in Input) (Rendering, error) {
	if t.toolUse != nil && in.Tools != nil && !is[Null](in.Tools) {
		return t.toolUse.Render(ctx, in)
	}
	messages, err := prepare(in.Messages)
	if err != nil {
		return Rendering{}, err
	}
	var final String
	if in.ContinueFinalMessage {
		if in.AddGenerationPrompt {
			return Rendering{}, refuse("continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want the model to continue the final message, and add_generation_prompt when you want to add a header that will prompt it to start a new assistant message instead.")
		}
		if final, err = t.markFinal(messages, in.ContinueField); err != nil {
			return Rendering{}, err
		}
	}
	text, err := t.run(ctx, in, messages)
	if err != nil {
		return Rendering{}, err
	}
	if in.ContinueFinalMessage {
		if text, err = cutAtTag(text, final); err != nil {
			return Rendering{}, err
		}
	}
	if text.whole && text.text != "" {
		return Rendering{text.text, []Span{{0, len(text.text)}}}, nil
	}
	return Rendering{text.text, text.plain}, nil
}

// prepare copies the messages, without null keys and with reasoning under all
// its names. The copies may be changed, what is in them may not.
func prepare(v Value) ([]*Map, error) {
	list, ok := v.(*List)
	if !ok || len(list.items) == 0 {
		if v != nil && !ok {
			return nil, refuse("messages must be a list, not %s", v.typeName())
		}
		return nil, refuse("Cannot apply chat template to an empty conversation. Provide at least one message.")
	}
	messages := make([]*Map, len(list.items))
	for i, item := range list.items {
		from, ok := item.(*Map)
		if !ok {
			return nil, fail("message %d must be an object, not %s", i+1, typeOf(item))
		}
		present := NewMap()
		for _, e := range from.entries {
			if e.value != nil && !is[Null](e.value) {
				present.put(e.id, e.key, e.value)
			}
		}
		messages[i] = aliasReasoning(present)
	}
	return messages, nil
}

func aliasReasoning(m *Map) *Map {
	for _, field := range reasoningFields {
		reasoning, ok := m.Get(field)
		if !ok {
			continue
		}
		aliased := NewMap()
		aliased.Set("thinking", reasoning) // first, unless the message has its own
		for _, e := range m.entries {
			aliased.put(e.id, e.key, e.value)
		}
		aliased.Set("reasoning_content", reasoning)
		return aliased
	}
	return m
}

// markFinal puts the tag after the text to continue and gives that text.
func (t *Template) markFinal(messages []*Map, field string) (String, error) {
	if field == "" {
		field = "content"
	}
	last := messages[len(messages)-1]
	value, ok := last.Get(field)
	if !ok {
		return String{}, refuse(`continue_final_message is set but the final message has no "%s" to continue!`, field)
	}
	fields := []string{field}
	for _, f := range reasoningFields {
		if f == field {
			fields = sameText(last, value)
		}
	}
	accepted := false
	for _, f := range fields {
		accepted = accepted || strings.Contains(t.source, f)
	}
	if !accepted {
		return String{}, refuse(`continue_final_message is set to "%s" but this is not an accepted field in the chat_template`, field)
	}
	switch value := value.(type) {
	case String:
		for _, f := range fields {
			last.Set(f, tagged(value))
		}
		return value, nil
	case *List:
		parts := append([]Value(nil), value.items...)
		for i := len(parts) - 1; i >= 0; i-- {
			part, ok := parts[i].(*Map)
			if !ok {
				continue
			}
			text, ok := part.Get("text")
			s, isText := text.(String)
			if ok && !isText {
				return String{}, fail("the text of a content part must be a string, not %s", typeOf(text))
			}
			if ok {
				part = part.clone()
				part.Set("text", tagged(s))
				parts[i] = part
				last.Set(field, NewList(parts...))
				return s, nil
			}
		}
		return String{}, refuse("continue_final_message is set but we could not find any text to continue in the final message!")
	}
	return String{}, fail("the message to continue must be a text, not %s", value.typeName())
}

// sameText are the reasoning fields that hold a value.
func sameText(m *Map, value Value) (fields []string) {
	for _, f := range reasoningFields {
		v, ok := m.Get(f)
		if !ok {
			continue
		}
		a, isText := v.(String)
		b, wantText := value.(String)
		if isText && wantText && a.text == b.text || !isText && v == value {
			fields = append(fields, f)
		}
	}
	return fields
}

func tagged(s String) String {
	var b builder
	b.add(s)
	b.write(continueTag, false)
	return b.string()
}

// cutAtTag ends the text where the message to continue ends.
func cutAtTag(text, final String) (String, error) {
	tag := strings.TrimSpace(continueTag)
	at := strings.LastIndex(text.text, tag)
	if at < 0 || !strings.Contains(text.text, final.trim(true, true, nil).text) {
		return String{}, refuse("continue_final_message is set but the final message does not appear in the chat after applying the chat template! This can happen if the chat template deletes portions of the final message. Please verify the chat template and final message in your chat to ensure they are compatible.")
	}
	cut := text.cut(0, at)
	if !strings.HasPrefix(text.text[at:], continueTag) {
		cut = cut.trim(false, true, nil)
	}
	return cut, nil
}

// variables are the names a template starts with.
func variables(in Input, messages []*Map) (map[string]Value, error) {
	vars := globals()
	for _, tokens := range []*Map{in.SpecialTokens, in.Kwargs} {
		if tokens == nil {
			continue
		}
		for name, v := range tokens.All() {
			if s, ok := v.(String); ok && tokens == in.SpecialTokens {
				v = trusted(s.text)
			}
			vars[name] = v
		}
	}
	if in.Kwargs != nil {
		for _, name := range []string{"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"} {
			if _, ok := in.Kwargs.Get(name); ok {
				return nil, refuse("'%s' cannot be set as a variable of the template", name)
			}
		}
	}
	list := NewList()
	for _, m := range messages {
		list.items = append(list.items, m)
	}
	vars["messages"] = list
	vars["add_generation_prompt"] = Bool(in.AddGenerationPrompt)
	for name, v := range map[string]Value{"tools": in.Tools, "documents": in.Documents} {
		if v == nil {
			v = Null{}
		}
		if l, ok := v.(*List); ok {
			for i, item := range l.items {
				if !is[*Map](item) {
					return nil, refuse("%s must be a list of objects, but item %d is %s", name, i+1, typeOf(item))
				}
			}
		} else if !is[Null](v) {
			return nil, refuse("%s must be a list of objects, not %s", name, v.typeName())
		}
		vars[name] = v
	}
	return vars, nil
}

func (t *Template) run(ctx context.Context, in Input, messages []*Map) (String, error) {
	if err := ctx.Err(); err != nil {
		return String{}, err
	}
	vars, err := variables(in, messages)
	if err != nil {
		return String{}, err
	}
	ev := &evaluator{ctx: ctx, steps: maxSteps, scope: &scope{root: vars}, now: time.Now}
	if !in.Now.IsZero() {
		ev.now = func() time.Time { return in.Now }
	}
	out := ev.builder()
	if err := ev.run(t.body, out); err != nil {
		return String{}, err
	}
	return out.string(), nil
}
