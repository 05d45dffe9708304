// Package workbench wires model, server, chat and reports together, and owns
// the order in which they start and stop: the listener opens, the model loads,
// requests are served; at the end the server drains, then the model closes.
//
// The verbs of the command line are methods of App, each in the file of its
// name. Package cmd/roundhouse only parses arguments.
package workbench

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// App is what every verb works with.
type App struct {
	In  *os.File
	Out *os.File // results alone
	Err *os.File // log, progress, prompts

	Config  *config.Effective
	Driver  driver.Driver // of CUDA; nil for the machine's own
	Version Version
	Log     *slog.Logger
	NoColor bool
}

// NewLog makes the log that the settings ask for.
func NewLog(w io.Writer, settings config.Log) *slog.Logger {
	level := slog.LevelInfo
	// Settings are validated; an unknown level stays at info.
	_ = level.UnmarshalText([]byte(settings.Level))
	options := &slog.HandlerOptions{Level: level}
	if settings.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// UsageError is a mistake in how the program was called.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e UsageError) Unwrap() error { return e.Err }

// ErrFindings ends a verb that ran to its end and found something wrong; the
// findings are printed already.
var ErrFindings = errors.New("there are findings")

// printJSON writes one value for programs.
func (a *App) printJSON(v any) error {
	encoder := json.NewEncoder(a.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (a *App) style(f *os.File) term.Style { return term.NewStyle(f, a.NoColor) }
