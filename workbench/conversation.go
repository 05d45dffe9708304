package workbench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
	"github.com/roundhouse-ai/roundhouse/workbench/openai"
)

// Conversation is a dialogue with a model: the turns so far and how the next
// answer is drawn. It has one user at a time.
type Conversation struct {
	System string
	Params Params
	// Hooks attaches hooks to the request of an answer; nil for none.
	Hooks func(context.Context, *engine.Request) error

	model        Talker
	allowSpecial bool // control tokens in messages count, as config's chat.special_tokens allows
	turns        []turn
	retries      uint32 // of the last answer: with a fixed seed each draws anew
}

// Talker is what a conversation needs of a model; *engine.Model is one.
type Talker interface {
	Info() engine.Info
	Tokenizer() *tokenizer.Tokenizer // nil if there is none
	Template() *chat.Template        // nil if there is none
	SpecialTokens() *chat.Map
	Generate(ctx context.Context, req engine.Request, emit func(engine.Token) error) (engine.Result, error)
}

// turn is a message.
type turn struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
}

// Params are what a person may set about an answer.
type Params struct {
	engine.Sampling
	Seed      *uint64 // nil draws another seed for every answer
	MaxTokens int     // 0 for as many as the context holds
	Stop      []string
	Thinking  *bool // enable_thinking of the template; nil leaves it alone
}

// NewConversation begins a dialogue with the model's own sampling parameters.
func NewConversation(model Talker, allowSpecial bool) (*Conversation, error) {
	if model.Tokenizer() == nil || model.Template() == nil {
		return nil, fmt.Errorf("model %s has no tokenizer.json or no chat template: it can only complete text and token ids (/v1/completions)", model.Info().Name)
	}
	return &Conversation{model: model, allowSpecial: allowSpecial, Params: Params{Sampling: model.Info().Defaults}}, nil
}

// errNothing is returned when there is no turn to go back to.
var errNothing = errors.New("nothing was said yet")

// Say adds a message and makes the answer. show is told the answer as it comes,
// thoughts apart; its error ends the answer. What was made before ctx ended
// stays part of the dialogue; after any other error the message is taken back.
func (c *Conversation) Say(ctx context.Context, text string, show func(text string, thought bool) error) (engine.Result, error) {
	c.turns = append(c.turns, turn{Role: "user", Content: text})
	c.retries = 0
	return c.answer(ctx, show)
}

// Retry makes the last answer anew.
func (c *Conversation) Retry(ctx context.Context, show func(text string, thought bool) error) (engine.Result, error) {
	if len(c.turns) == 0 {
		return engine.Result{}, errNothing
	}
	if last := len(c.turns) - 1; c.turns[last].Role == "assistant" {
		c.turns = c.turns[:last]
	}
	c.retries++
	return c.answer(ctx, show)
}

// Undo takes back the last message and its answer.
func (c *Conversation) Undo() error {
	for i := len(c.turns) - 1; i >= 0; i-- {
		if c.turns[i].Role == "user" {
			c.turns = c.turns[:i]
			return nil
		}
	}
	return errNothing
}

// Reset forgets all turns; system text and parameters stay.
func (c *Conversation) Reset() { c.turns = nil }

func (c *Conversation) answer(ctx context.Context, show func(text string, thought bool) error) (engine.Result, error) {
	prompt, thinking, err := c.prompt(ctx)
	if err != nil {
		c.turns = c.turns[:len(c.turns)-1]
		return engine.Result{}, err
	}
	request := engine.Request{
		Prompt: prompt, MaxTokens: c.Params.MaxTokens, Sampling: c.Params.Sampling, Stop: c.Params.Stop, Choice: c.retries,
	}
	openai.Complete(&request.Sampling, c.model.Tokenizer())
	request.Sampling.Seed = rand.Uint64()
	if c.Params.Seed != nil {
		request.Sampling.Seed = *c.Params.Seed
	}
	if c.Hooks != nil {
		if err := c.Hooks(ctx, &request); err != nil {
			c.turns = c.turns[:len(c.turns)-1]
			return engine.Result{}, err
		}
	}
	answer := turn{Role: "assistant"}
	output := chat.NewParser(chat.OutputOptions{InReasoning: thinking})
	take := func(deltas []chat.Delta) error {
		for _, d := range deltas {
			answer.Reasoning += d.Reasoning
			answer.Content += d.Content
			if err := show(d.Reasoning+d.Content, d.Reasoning != ""); err != nil {
				return err
			}
		}
		return nil
	}
	result, err := c.model.Generate(ctx, request, func(t engine.Token) error { return take(output.Push(t.Text)) })
	if err == nil {
		err = take(append(output.Push(result.Tail), output.Finish()...))
	}
	if err != nil && ctx.Err() == nil {
		c.turns = c.turns[:len(c.turns)-1]
		return result, err
	}
	c.turns = append(c.turns, answer)
	return result, err
}

// prompt renders the dialogue and encodes it. What people wrote is encoded as
// text, so that a <|im_end|> in it closes nothing. thinking says that the
// prompt ends inside an opened thought.
func (c *Conversation) prompt(ctx context.Context) (ids []int32, thinking bool, err error) {
	messages := make([]chat.Value, 0, len(c.turns)+1)
	if c.System != "" {
		messages = append(messages, turn{Role: "system", Content: c.System}.value())
	}
	for _, t := range c.turns {
		messages = append(messages, t.value())
	}
	input := chat.Input{Messages: chat.NewList(messages...), AddGenerationPrompt: true, SpecialTokens: c.model.SpecialTokens()}
	if c.Params.Thinking != nil {
		input.Kwargs = chat.NewMap()
		input.Kwargs.Set("enable_thinking", chat.Bool(*c.Params.Thinking))
	}
	rendering, err := c.model.Template().Render(ctx, input)
	if err != nil {
		return nil, false, err
	}
	thinking = chat.StartsInReasoning(rendering.Text)
	if c.allowSpecial {
		return c.model.Tokenizer().Encode(rendering.Text, tokenizer.Default), thinking, nil
	}
	plain := make([]tokenizer.Span, len(rendering.Plain))
	for i, span := range rendering.Plain {
		plain[i] = tokenizer.Span(span)
	}
	return c.model.Tokenizer().EncodeSpans(rendering.Text, plain), thinking, nil
}

func (t turn) value() chat.Value {
	m := chat.NewMap()
	m.Set("role", chat.NewString(t.Role))
	m.Set("content", chat.NewString(t.Content))
	if t.Reasoning != "" {
		m.Set("reasoning_content", chat.NewString(t.Reasoning))
	}
	return m
}

// Set changes a parameter by name, as /set and files name them. "default"
// gives it back to the model.
func (p *Params) Set(name, value string, defaults engine.Sampling) error {
	if value == "default" {
		value = ""
	}
	if f, ok := p.float(name, &defaults); ok {
		return setFloat(f.target, value, f.otherwise, f.low, f.high)
	}
	switch name {
	case "top_k":
		return setInt(&p.TopK, value, defaults.TopK)
	case "dry_allowed_length":
		return setInt(&p.DRY.AllowedLength, value, defaults.DRY.AllowedLength)
	case "repeat_last_n":
		return setInt(&p.PenaltyLastN, value, defaults.PenaltyLastN)
	case "samplers":
		return setOrder(&p.Order, value, defaults.Order)
	case "max_tokens":
		return setInt(&p.MaxTokens, value, 0)
	case "seed":
		p.Seed = nil
		if value == "" {
			return nil
		}
		seed, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a seed: give a whole number from 0 on", value)
		}
		p.Seed = &seed
	case "stop":
		p.Stop = nil
		if value != "" {
			p.Stop = []string{value}
		}
	case "thinking":
		p.Thinking = nil
		if value == "" {
			return nil
		}
		on := value == "on"
		if !on && value != "off" {
			return fmt.Errorf("%q is neither on nor off", value)
		}
		p.Thinking = &on
	default:
		return fmt.Errorf("there is no parameter %q: use %s", name, strings.Join(paramNames, ", "))
	}
	return nil
}

// floatParam is a parameter that is a number.
type floatParam struct {
	target               *float32
	otherwise, low, high float32
}

// float finds a number by its name in the API; bounds are wider than there.
func (p *Params) float(name string, d *engine.Sampling) (floatParam, bool) {
	s := &p.Sampling
	f, ok := map[string]floatParam{
		"temperature": {&s.Temperature, d.Temperature, 0, 100}, "top_p": {&s.TopP, d.TopP, 0, 1}, "min_p": {&s.MinP, d.MinP, 0, 1},
		"typical_p": {&s.Typical, d.Typical, 0, 1}, "top_n_sigma": {&s.TopNSigma, d.TopNSigma, 0, 100},
		"xtc_probability": {&s.XTCProbability, d.XTCProbability, 0, 1}, "xtc_threshold": {&s.XTCThreshold, d.XTCThreshold, 0, 1},
		"dynatemp_range": {&s.DynamicRange, d.DynamicRange, 0, 100}, "dynatemp_exponent": {&s.DynamicExponent, d.DynamicExponent, 0, 10},
		"mirostat_tau": {&s.Mirostat.Tau, d.Mirostat.Tau, 0, 20}, "mirostat_eta": {&s.Mirostat.Eta, d.Mirostat.Eta, 0, 1},
		"repetition_penalty": {&s.Repetition, d.Repetition, .01, 10},
		"presence_penalty":   {&s.Presence, d.Presence, -2, 2}, "frequency_penalty": {&s.Frequency, d.Frequency, -2, 2},
		"dry_multiplier": {&s.DRY.Multiplier, d.DRY.Multiplier, 0, 100}, "dry_base": {&s.DRY.Base, d.DRY.Base, 1, 100},
	}[name]
	return f, ok
}

var paramNames = []string{
	"temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold",
	"dynatemp_range", "dynatemp_exponent", "mirostat_tau", "mirostat_eta", "repetition_penalty", "presence_penalty", "frequency_penalty",
	"dry_multiplier", "dry_base", "dry_allowed_length", "repeat_last_n", "samplers", "seed", "max_tokens", "stop", "thinking",
}

// setOrder reads stages with commas between them.
func setOrder(target *[]sample.Stage, text string, otherwise []sample.Stage) error {
	if text == "" {
		*target = otherwise
		return nil
	}
	var order []sample.Stage
	for name := range strings.SplitSeq(text, ",") {
		stage := sample.Stage(strings.TrimSpace(name))
		if !slices.Contains(sample.DefaultOrder, stage) || slices.Contains(order, stage) {
			return fmt.Errorf("%q cannot be a sampler here: each once of %v, with commas between them", stage, sample.DefaultOrder)
		}
		order = append(order, stage)
	}
	*target = order
	return nil
}

func setFloat(target *float32, text string, otherwise, low, high float32) error {
	if text == "" {
		*target = otherwise
		return nil
	}
	v, err := strconv.ParseFloat(text, 32)
	if err != nil || !(float32(v) >= low && float32(v) <= high) {
		return fmt.Errorf("%q is not a number from %v to %v", text, low, high)
	}
	*target = float32(v)
	return nil
}

func setInt(target *int, text string, otherwise int) error {
	if text == "" {
		*target = otherwise
		return nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a whole number from 0 on", text)
	}
	*target = v
	return nil
}

// rows lists the parameters as they are set.
func (p *Params) rows() [][]string {
	text := func(v any, zero string) string {
		if s := fmt.Sprint(v); s != "0" {
			return s
		}
		return zero
	}
	seed, thinking, stop := "another for every answer", "as the model's template does", "none"
	if p.Seed != nil {
		seed = strconv.FormatUint(*p.Seed, 10)
	}
	if p.Thinking != nil {
		thinking = map[bool]string{true: "on", false: "off"}[*p.Thinking]
	}
	if len(p.Stop) > 0 {
		stop = strings.Join(p.Stop, " | ")
	}
	rows := [][]string{
		{"temperature", text(p.Temperature, "0 (always the most likely token)")}, {"top_k", text(p.TopK, "0 (all)")},
		{"top_p", text(p.TopP, "0 (all)")}, {"min_p", text(p.MinP, "0 (all)")},
	}
	for _, name := range paramNames[4:] { // of the others only what is set
		if f, ok := p.float(name, &engine.Sampling{}); ok && *f.target != 0 {
			rows = append(rows, []string{name, text(*f.target, "0")})
		}
	}
	if n := p.DRY.AllowedLength; n != 0 {
		rows = append(rows, []string{"dry_allowed_length", strconv.Itoa(n)})
	}
	if n := p.PenaltyLastN; n != 0 {
		rows = append(rows, []string{"repeat_last_n", strconv.Itoa(n)})
	}
	if p.Order != nil {
		rows = append(rows, []string{"samplers", fmt.Sprint(p.Order)})
	}
	return append(rows, [][]string{
		{"seed", seed}, {"max_tokens", text(p.MaxTokens, "as many as fit")}, {"stop", stop}, {"thinking", thinking},
	}...)
}
