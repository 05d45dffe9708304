package workbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// The debug verbs put text through one part of the program and show what it
// makes of it: JSON lines in, JSON lines out, one for one.

var modes = map[string]tokenizer.Mode{
	"": tokenizer.Default, "default": tokenizer.Default,
	"special_as_text": tokenizer.SpecialAsText, "all_as_text": tokenizer.AllAsText,
}

// DebugTokenize answers {"text", "mode"} with {"ids"}. file is a
// tokenizer.json; "" takes the model's.
func (a *App) DebugTokenize(ctx context.Context, file string) error {
	tok, err := a.tokenizer(file)
	if err != nil {
		return err
	}
	return eachLine(ctx, a.In, a.Out, func(line []byte) (any, error) { return tokenize(tok, line) })
}

func tokenize(tok *tokenizer.Tokenizer, line []byte) (any, error) {
	var in struct {
		Text *string `json:"text"`
		Mode string  `json:"mode"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, fmt.Errorf("not a line of this form: %w", err)
	}
	mode, known := modes[in.Mode]
	switch {
	case in.Text == nil:
		return nil, errors.New(`the line has no "text"`)
	case !known:
		return nil, fmt.Errorf("mode is %.64q: use default, special_as_text or all_as_text", in.Mode)
	}
	ids := tok.Encode(*in.Text, mode)
	if ids == nil {
		ids = []int32{}
	}
	return struct {
		IDs []int32 `json:"ids"`
	}{ids}, nil
}

// DebugDetokenize answers {"ids", "skip_special"} with {"text"}.
func (a *App) DebugDetokenize(ctx context.Context, file string) error {
	tok, err := a.tokenizer(file)
	if err != nil {
		return err
	}
	return eachLine(ctx, a.In, a.Out, func(line []byte) (any, error) { return detokenize(tok, line) })
}

type textLine struct {
	Text string `json:"text"`
}

func detokenize(tok *tokenizer.Tokenizer, line []byte) (any, error) {
	var in struct {
		IDs         *[]int32 `json:"ids"`
		SkipSpecial bool     `json:"skip_special"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, fmt.Errorf("not a line of this form: %w", err)
	}
	if in.IDs == nil {
		return nil, errors.New(`the line has no "ids"`)
	}
	for i, id := range *in.IDs {
		if id < 0 {
			return nil, fmt.Errorf("id %d of the line is %d: ids are not negative", i, id)
		}
	}
	return textLine{tok.Decode(*in.IDs, in.SkipSpecial)}, nil
}

// tokenizer loads a tokenizer.json, or that of the model.
func (a *App) tokenizer(file string) (*tokenizer.Tokenizer, error) {
	if file != "" {
		return tokenizer.Load(file)
	}
	folder, err := a.Folder()
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(folder.FS, "tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", folder.Name, err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("model %s: tokenizer.json: %w", folder.Name, err)
	}
	return tok, nil
}

// DebugTemplate renders a conversation a line: messages, tools, documents, and
// in kwargs everything else that apply_chat_template takes. The text is that of
// transformers; control tokens in messages come through, as they do there. file
// is a template; "" takes the model's, with its special tokens.
func (a *App) DebugTemplate(ctx context.Context, file string) error {
	template, special, err := a.template(file)
	if err != nil {
		return err
	}
	return eachLine(ctx, a.In, a.Out, func(line []byte) (any, error) { return render(ctx, template, special, line) })
}

// maxTemplate bounds a template file in bytes; the longest known has 20 KB.
const maxTemplate = 1 << 20

func (a *App) template(file string) (*chat.Template, *chat.Map, error) {
	if file != "" {
		if info, err := os.Stat(file); err != nil || info.Size() > maxTemplate {
			return nil, nil, errors.Join(fmt.Errorf("template %s cannot be read or is larger than %d bytes", file, maxTemplate), err)
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("template: %w", err)
		}
		template, err := chat.Parse(string(source))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		return template, nil, nil
	}
	folder, err := a.Folder()
	if err != nil {
		return nil, nil, err
	}
	template, err := chat.Load(folder.FS)
	if err != nil {
		return nil, nil, fmt.Errorf("model %s: %w", folder.Name, err)
	}
	special, err := chat.LoadSpecialTokens(folder.FS)
	if err != nil {
		return nil, nil, fmt.Errorf("model %s: %w", folder.Name, err)
	}
	return template, special, nil
}

func render(ctx context.Context, template *chat.Template, special *chat.Map, line []byte) (any, error) {
	input, err := chatInput(line)
	if err != nil {
		return nil, err
	}
	input.SpecialTokens = special
	rendering, err := template.Render(ctx, input)
	if wrong, ok := errors.AsType[*chat.Error](err); ok {
		return newLineError(wrong.Kind.String(), wrong.Message), nil
	}
	if err != nil {
		return nil, err
	}
	return textLine{rendering.Text}, nil
}

// chatInput reads a line of the form {"messages", "tools", "documents",
// "kwargs"}. Objects keep their order and numbers their digits.
func chatInput(line []byte) (chat.Input, error) {
	value, err := chat.DecodeJSON(line)
	if err != nil {
		return chat.Input{}, fmt.Errorf("not a line of JSON: %w", err)
	}
	fields, ok := value.(*chat.Map)
	if !ok {
		return chat.Input{}, errors.New("the line is not an object")
	}
	input := chat.Input{Kwargs: chat.NewMap()}
	input.Messages, _ = fields.Get("messages")
	input.Tools, _ = fields.Get("tools")
	input.Documents, _ = fields.Get("documents")
	given, _ := fields.Get("kwargs")
	kwargs, ok := given.(*chat.Map)
	if !ok {
		if _, null := given.(chat.Null); given == nil || null {
			return input, nil
		}
		return chat.Input{}, errors.New("kwargs is not an object")
	}
	for name, v := range kwargs.All() {
		switch name {
		case "add_generation_prompt":
			on, ok := v.(chat.Bool)
			if !ok {
				return chat.Input{}, errors.New("add_generation_prompt is not true or false")
			}
			input.AddGenerationPrompt = bool(on)
		case "continue_final_message":
			switch v := v.(type) {
			case chat.Bool:
				input.ContinueFinalMessage = bool(v)
			case chat.String:
				input.ContinueFinalMessage, input.ContinueField = true, v.Text()
			default:
				return chat.Input{}, errors.New("continue_final_message is not true, false or the name of a field")
			}
		default:
			input.Kwargs.Set(name, v)
		}
	}
	return input, nil
}
