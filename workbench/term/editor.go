package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrInterrupt is returned by ReadLine when ctrl-C was typed.
var ErrInterrupt = errors.New("interrupted")

// Editor reads lines from a terminal with editing keys and history. Between
// calls of ReadLine the terminal is in its usual mode, so that ctrl-C is a
// signal there.
type Editor struct {
	in      *os.File // nil in tests: no mode to set
	waiting *Reader
	keys    *keyReader
	out     io.Writer
	prompt  string
	history *History
	line    *term.Terminal
}

// NewEditor edits lines on the terminal of in and out.
func NewEditor(in, out *os.File, prompt string, history *History) *Editor {
	waiting := NewReader(in)
	e := newEditor(waiting, out, prompt, history)
	e.in, e.waiting = in, waiting
	return e
}

func newEditor(in io.Reader, out io.Writer, prompt string, history *History) *Editor {
	e := &Editor{keys: &keyReader{Reader: in}, out: out, prompt: prompt, history: history}
	e.reset()
	return e
}

// reset forgets a line that was begun.
func (e *Editor) reset() {
	e.line = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.out}, e.prompt)
	e.line.History = noHistory{e.history}
}

// ReadLine returns the next input without its line break. Pasted lines, and
// lines that end in a backslash, are joined with the one that follows. It
// returns io.EOF for ctrl-D on an empty line, ErrInterrupt for ctrl-C, and
// ctx's error when it ends.
func (e *Editor) ReadLine(ctx context.Context) (text string, err error) {
	if e.in != nil {
		e.waiting.Until(ctx)
		restore, err := e.raw()
		if err != nil {
			return "", err
		}
		defer restore()
	}
	e.keys.interrupted = false
	var parts []string
	defer e.line.SetPrompt(e.prompt)
	for {
		line, err := e.line.ReadLine()
		pasted := errors.Is(err, term.ErrPasteIndicator)
		if err != nil && !pasted {
			if e.keys.interrupted {
				e.keys.interrupted = false
				fmt.Fprint(e.out, "^C\r\n")
				err = ErrInterrupt
			}
			e.reset()
			return "", err
		}
		if rest, more := strings.CutSuffix(line, `\`); more || pasted {
			if !pasted {
				line = rest
			}
			parts = append(parts, line)
			e.line.SetPrompt("... ")
			continue
		}
		text = strings.Join(append(parts, line), "\n")
		e.history.Add(text)
		return text, nil
	}
}

// raw gives the keys to the editor until the returned function is called.
func (e *Editor) raw() (restore func(), err error) {
	fd := int(e.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		// A size that is refused only changes where long lines break.
		_ = e.line.SetSize(width, height)
	}
	e.line.SetBracketedPasteMode(true)
	return func() {
		e.line.SetBracketedPasteMode(false)
		// Nothing can be done about a terminal that is gone.
		_ = term.Restore(fd, before)
	}, nil
}

// keyReader notices ctrl-C, which the line editor reports as the end of input.
// What was typed after it is kept for the next line.
type keyReader struct {
	io.Reader
	interrupted bool
	ahead       []byte
}

const ctrlC = 3

func (k *keyReader) Read(p []byte) (n int, err error) {
	if len(k.ahead) > 0 {
		n = copy(p, k.ahead)
		k.ahead = k.ahead[n:]
	} else {
		n, err = k.Reader.Read(p)
	}
	if at := bytes.IndexByte(p[:n], ctrlC); at >= 0 {
		k.interrupted = true
		k.ahead = append(bytes.Clone(p[at+1:n]), k.ahead...)
		n = at + 1
	}
	return n, err
}

// noHistory shows lines to the line editor and leaves adding them to the
// Editor, which knows which lines belong together.
type noHistory struct{ *History }

func (noHistory) Add(string) {}
