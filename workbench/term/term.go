// Package term is everything that a terminal needs: tables, progress lines,
// the decision for or against colour, and line editing with history.
//
// Nothing in it writes to a place it was not given.
package term

import (
	"os"

	"golang.org/x/term"
)

// IsTerminal says whether a file is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// Style wraps text in colours, or leaves it as it is.
type Style struct{ on bool }

// NewStyle decides for a file: colour needs a terminal that is not dumb, and
// neither --no-color nor NO_COLOR (https://no-color.org: set and not empty).
func NewStyle(f *os.File, noColour bool) Style {
	return Style{on: !noColour && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(f)}
}

func (s Style) wrap(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold is for what matters most.
func (s Style) Bold(text string) string { return s.wrap("1", text) }

// Dim is for what matters less: thinking, hints.
func (s Style) Dim(text string) string { return s.wrap("2", text) }

// Red is for failures.
func (s Style) Red(text string) string { return s.wrap("31", text) }

// Green is for successes.
func (s Style) Green(text string) string { return s.wrap("32", text) }

// Yellow is for warnings.
func (s Style) Yellow(text string) string { return s.wrap("33", text) }
