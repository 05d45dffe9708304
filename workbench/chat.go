package workbench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// ChatOptions are what `chat` is called with.
type ChatOptions struct {
	Once   *string // one message; "-" reads it from standard input, nil talks
	System string
	Set    map[string]string // parameters by name, as Params.Set takes them
	Pages  string            // where the server's pages are, to be opened on demand; "" for none
}

// maxMessage bounds one message in bytes, from a pipe or a file.
const maxMessage = 16 << 20

// Chat loads the model and talks with it.
func (a *App) Chat(ctx context.Context, opts ChatOptions) error {
	loading, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	message, err := a.message(loading, opts.Once)
	if err != nil {
		return err
	}
	folder, err := a.checkedFolder()
	if err != nil {
		return err
	}
	owner, err := a.hooks(events.New(a.Log))
	if err != nil {
		return err
	}
	model, err := a.open(loading, folder, nil)
	if err != nil {
		return errors.Join(err, owner.Close())
	}
	owner.SetModel(model.HookModel(), model.HookTokenizer())
	if opts.Once != nil {
		err = a.once(loading, model, owner, opts, message)
	} else {
		stop() // from here on ctrl-C stops an answer
		err = a.talk(ctx, model, owner, opts)
	}
	return errors.Join(err, model.Close(), owner.Close())
}

// message returns the text of --once.
func (a *App) message(ctx context.Context, once *string) (string, error) {
	if once == nil {
		return "", nil
	}
	if *once != "-" {
		return *once, nil
	}
	in := term.NewReader(a.In)
	in.Until(ctx)
	data, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
	if err != nil {
		return "", fmt.Errorf("read the message: %w", err)
	}
	if len(data) > maxMessage {
		return "", fmt.Errorf("the message is longer than %d MiB", maxMessage>>20)
	}
	return string(data), nil
}

func (a *App) conversation(model Talker, owner *hooks.Owner, opts ChatOptions) (*Conversation, error) {
	c, err := NewConversation(model, a.Config.Chat.SpecialTokens == "allow")
	if err != nil {
		return nil, err
	}
	c.System, c.Hooks = opts.System, a.chatHooks(owner)
	for name, value := range opts.Set {
		if err := c.Params.Set(name, value, model.Info().Defaults); err != nil {
			return nil, UsageError{fmt.Errorf("--%s: %w", strings.ReplaceAll(name, "_", "-"), err)}
		}
	}
	return c, nil
}

// once prints one answer and nothing else.
func (a *App) once(ctx context.Context, model Talker, owner *hooks.Owner, opts ChatOptions, message string) error {
	c, err := a.conversation(model, owner, opts)
	if err != nil {
		return err
	}
	tty := term.IsTerminal(a.Out)
	result, err := c.Say(ctx, message, func(text string, thought bool) error {
		if thought {
			return nil
		}
		if tty {
			text = term.Prose(text)
		}
		_, err := io.WriteString(a.Out, text)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.Out); err != nil {
		return err
	}
	if note := cutShort(model.Info(), c.Params, result); note != "" {
		fmt.Fprintln(a.Err, note)
	}
	if note := hookNote(result); note != "" {
		fmt.Fprintln(a.Err, note)
	}
	return nil
}

// cutShort explains an answer that ended for want of room; "" for others.
func cutShort(info engine.Info, p Params, r engine.Result) string {
	switch {
	case r.Reason != engine.OutOfRoom:
		return ""
	case r.Prompt+r.Completion >= info.Context:
		return fmt.Sprintf("the context of %d tokens is full: %d of the conversation and %d of this answer", info.Context, r.Prompt, r.Completion)
	default:
		return fmt.Sprintf("stopped after max_tokens %d", p.MaxTokens)
	}
}

// talk converses until the input ends, /quit, or a SIGTERM.
func (a *App) talk(ctx context.Context, model Talker, owner *hooks.Owner, opts ChatOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	c, err := a.conversation(model, owner, opts)
	if err != nil {
		return err
	}
	d := &dialogue{c: c, info: model.Info(), out: a.Out, style: a.style(a.Out), safe: term.IsTerminal(a.Out), pages: opts.Pages, browse: browse}
	if !term.IsTerminal(a.In) || !term.IsTerminal(a.Out) {
		d.lines = newPlainLines(a)
		return d.run(ctx)
	}
	history, err := term.LoadHistory(term.HistoryFile())
	if err != nil {
		a.Log.Warn("earlier conversations' lines are not available", "error", err)
	}
	// A second ctrl-C after an answer was stopped must not end the program.
	extra := make(chan os.Signal, 1)
	signal.Notify(extra, syscall.SIGINT)
	defer signal.Stop(extra)
	d.lines, d.greet = term.NewEditor(a.In, a.Out, "> ", history), true
	return errors.Join(d.run(ctx), history.Save())
}

// plainLines reads messages from a pipe, one a line.
type plainLines struct {
	wait *term.Reader
	in   *bufio.Reader
}

func newPlainLines(a *App) *plainLines {
	wait := term.NewReader(a.In)
	return &plainLines{wait: wait, in: bufio.NewReader(wait)}
}

func (p *plainLines) ReadLine(ctx context.Context) (string, error) {
	p.wait.Until(ctx)
	line, tooLong, err := readLine(p.in, nil)
	if err == nil && (tooLong || len(line) > maxMessage) {
		err = fmt.Errorf("a message is longer than %d MiB", maxMessage>>20)
	}
	return string(line), err
}
