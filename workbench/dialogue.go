package workbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// dialogue is the interactive chat: lines in, commands, answers out.
type dialogue struct {
	c     *Conversation
	info  engine.Info
	lines interface {
		ReadLine(ctx context.Context) (string, error)
	}
	out   io.Writer
	style term.Style
	safe  bool // out is a terminal: control characters of answers are escaped
	greet bool
	done  bool

	pages  string // of the server; "" for none
	browse func(ctx context.Context, url string) error
}

// run takes lines until the input or ctx ends.
func (d *dialogue) run(ctx context.Context) error {
	if d.greet {
		d.note("talking with %s; /help lists the commands, ctrl-C stops an answer, ctrl-D leaves", d.info.Name)
		if d.pages != "" {
			d.note("/open shows the experts at work in your browser")
		}
	}
	for !d.done {
		line, err := d.lines.ReadLine(ctx)
		switch {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is how a dialogue is told to end
		case errors.Is(err, term.ErrInterrupt):
			d.note("ctrl-D or /quit leaves")
			continue
		case err != nil:
			return err
		}
		if err := d.take(ctx, line); errors.Is(err, engine.ErrDeviceLost) {
			return err
		} else if err != nil {
			d.note("%v", err)
		}
	}
	return nil
}

func (d *dialogue) note(format string, args ...any) {
	fmt.Fprintln(d.out, d.style.Dim(term.Prose(fmt.Sprintf(format, args...))))
}

// take answers a line, or does what it commands.
func (d *dialogue) take(ctx context.Context, line string) error {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	if !strings.HasPrefix(line, "/") {
		return d.answer(ctx, func(ctx context.Context) (engine.Result, error) { return d.c.Say(ctx, line, d.show) })
	}
	name, argument, _ := strings.Cut(line[1:], " ")
	for _, command := range commands() {
		if command.name == name {
			return command.do(ctx, d, strings.TrimSpace(argument))
		}
	}
	return fmt.Errorf("there is no command /%s: /help lists them", name)
}

// answer runs one answer; ctrl-C stops it and nothing else.
func (d *dialogue) answer(ctx context.Context, say func(context.Context) (engine.Result, error)) error {
	inner, stop := signal.NotifyContext(ctx, syscall.SIGINT)
	defer stop()
	start := time.Now()
	result, err := say(inner)
	fmt.Fprintln(d.out)
	if inner.Err() != nil {
		d.note("stopped")
		return ctx.Err()
	}
	if tooLong, ok := errors.AsType[*engine.ContextError](err); ok {
		return fmt.Errorf("the conversation has %d tokens with this message, the context holds %d, max_tokens is %d: /reset begins anew, /undo takes back the last turn",
			tooLong.Prompt, tooLong.Limit, tooLong.MaxTokens)
	}
	if err != nil {
		return err
	}
	if note := cutShort(d.info, d.c.Params, result); note != "" {
		d.note("%s; /reset begins anew", note)
	}
	if note := hookNote(result); note != "" {
		d.note("%s", note)
	}
	if d.greet {
		d.note("%d + %d tokens, %.1f s, %.1f tokens/s", result.Prompt, result.Completion, time.Since(start).Seconds(),
			float64(result.Completion)/max(result.Decode.Seconds(), 1e-9))
	}
	return nil
}

func (d *dialogue) show(text string, thought bool) error {
	if d.safe {
		text = term.Prose(text)
	}
	if thought {
		if !d.safe {
			return nil // a file or pipe gets the answer alone
		}
		text = d.style.Dim(text)
	}
	_, err := io.WriteString(d.out, text)
	return err
}

// command is what a line that starts with / does.
type command struct {
	name, usage, help string
	do                func(ctx context.Context, d *dialogue, argument string) error
}

// commands in the order of /help.
func commands() []command {
	return []command{
		{"help", "/help", "list the commands", help},
		{"reset", "/reset", "begin anew; the system text stays", func(_ context.Context, d *dialogue, _ string) error {
			d.c.Reset()
			d.note("a new conversation")
			return nil
		}},
		{"undo", "/undo", "take back the last message and its answer", func(_ context.Context, d *dialogue, _ string) error {
			return d.c.Undo()
		}},
		{"retry", "/retry", "make the last answer anew", func(ctx context.Context, d *dialogue, _ string) error {
			return d.answer(ctx, func(ctx context.Context) (engine.Result, error) { return d.c.Retry(ctx, d.show) })
		}},
		{"system", "/system TEXT", "set the system text and begin anew; without TEXT show it", system},
		{"set", "/set NAME VALUE", "set a parameter; VALUE default gives it back to the model", set},
		{"params", "/params", "show the parameters", params},
		{"save", "/save FILE", "write the conversation as a chat completion request", save},
		{"open", "/open", "show the server's pages in a browser", open},
		{"quit", "/quit", "leave", func(_ context.Context, d *dialogue, _ string) error {
			d.done = true
			return nil
		}},
	}
}

func help(_ context.Context, d *dialogue, _ string) error {
	var rows [][]string
	for _, c := range commands() {
		rows = append(rows, []string{c.usage, c.help})
	}
	if err := term.Table(d.out, []term.Column{{Name: "command"}, {Name: "what it does"}}, rows); err != nil {
		return err
	}
	d.note("parameters of /set: %s\na line that ends in \\ goes on in the next", strings.Join(paramNames, ", "))
	return nil
}

func open(ctx context.Context, d *dialogue, _ string) error {
	if d.pages == "" {
		return errors.New("there is no server here: `roundhouse run` has one")
	}
	if err := d.browse(ctx, d.pages); err != nil {
		return fmt.Errorf("%w: open %s yourself", err, d.pages)
	}
	d.note("opened %s", d.pages)
	return nil
}

func system(_ context.Context, d *dialogue, text string) error {
	if text == "" {
		d.note("system text: %q", d.c.System)
		return nil
	}
	d.c.System = text
	d.c.Reset()
	d.note("a new conversation with this system text")
	return nil
}

func set(_ context.Context, d *dialogue, argument string) error {
	name, value, ok := strings.Cut(argument, " ")
	if !ok || strings.TrimSpace(value) == "" {
		return fmt.Errorf("write /set NAME VALUE, such as /set temperature 0.7; names are %s", strings.Join(paramNames, ", "))
	}
	return d.c.Params.Set(name, strings.TrimSpace(value), d.info.Defaults)
}

func params(_ context.Context, d *dialogue, _ string) error {
	return term.Table(d.out, []term.Column{{Name: "parameter"}, {Name: "value"}}, d.c.Params.rows())
}

// save writes a new file that can be sent to /v1/chat/completions as it is.
func save(_ context.Context, d *dialogue, path string) (err error) {
	if path == "" {
		return errors.New("write /save FILE")
	}
	data, err := json.MarshalIndent(d.c.request(), "", "  ")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	_, err = file.Write(append(data, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		d.note("saved to %s", path)
	}
	return err
}

// request is the conversation in the form of the OpenAI API.
func (c *Conversation) request() any {
	messages := c.turns
	if c.System != "" {
		messages = append([]turn{{Role: "system", Content: c.System}}, messages...)
	}
	kwargs := map[string]any{}
	if c.Params.Thinking != nil {
		kwargs["enable_thinking"] = *c.Params.Thinking
	}
	p := &c.Params
	mirostat := 0
	if p.Mirostat.Tau > 0 {
		mirostat = 2
	}
	return struct {
		Model       string         `json:"model"`
		Messages    []turn         `json:"messages"`
		Temperature float32        `json:"temperature"`
		TopK        int            `json:"top_k,omitempty"`
		TopP        float32        `json:"top_p,omitempty"`
		MinP        float32        `json:"min_p,omitempty"`
		Typical     float32        `json:"typical_p,omitempty"`
		TopNSigma   float32        `json:"top_n_sigma,omitempty"`
		XTC         float32        `json:"xtc_probability,omitempty"`
		XTCFrom     float32        `json:"xtc_threshold,omitempty"`
		Range       float32        `json:"dynatemp_range,omitempty"`
		Exponent    float32        `json:"dynatemp_exponent,omitempty"`
		Mirostat    int            `json:"mirostat,omitempty"`
		Tau         float32        `json:"mirostat_tau,omitempty"`
		Eta         float32        `json:"mirostat_eta,omitempty"`
		Repetition  float32        `json:"repetition_penalty,omitempty"`
		Presence    float32        `json:"presence_penalty,omitempty"`
		Frequency   float32        `json:"frequency_penalty,omitempty"`
		DRY         float32        `json:"dry_multiplier,omitempty"`
		DRYBase     float32        `json:"dry_base,omitempty"`
		DRYLength   int            `json:"dry_allowed_length,omitempty"`
		LastN       int            `json:"repeat_last_n,omitempty"`
		Order       []sample.Stage `json:"samplers,omitempty"`
		Seed        *uint64        `json:"seed,omitempty"`
		MaxTokens   int            `json:"max_tokens,omitempty"`
		Stop        []string       `json:"stop,omitempty"`
		Kwargs      map[string]any `json:"chat_template_kwargs,omitempty"`
	}{
		c.model.Info().Name, messages, p.Temperature, p.TopK, p.TopP, p.MinP, p.Typical, p.TopNSigma, p.XTCProbability, p.XTCThreshold,
		p.DynamicRange, p.DynamicExponent, mirostat, p.Mirostat.Tau, p.Mirostat.Eta, p.Repetition, p.Presence, p.Frequency,
		p.DRY.Multiplier, p.DRY.Base, p.DRY.AllowedLength, p.PenaltyLastN, p.Order, p.Seed, p.MaxTokens, p.Stop, kwargs,
	}
}
