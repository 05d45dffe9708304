package chat

import (
	"errors"
	"fmt"
)

// Kind says who is to blame for an [Error].
type Kind uint8

// Kinds of errors.
const (
	Syntax   Kind = iota + 1 // the template's source is wrong or uses something unsupported
	Raised                   // the template called raise_exception; Message is its words
	Argument                 // refused before or after the template ran
	Runtime                  // a wrong type, a missing value or a limit inside the template
)

func (k Kind) String() string {
	switch k {
	case Syntax:
		return "syntax"
	case Raised:
		return "raised"
	case Argument:
		return "argument"
	case Runtime:
		return "runtime"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Error is what parsing or rendering a template fails with. Only the end of
// the context is reported otherwise, as the context's own error.
type Error struct {
	Kind    Kind
	Message string
	Line    int // of the template's source, from 1; 0 when no line is to blame
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("chat template line %d: %s", e.Line, e.Message)
	}
	return "chat template: " + e.Message
}

// fail makes a runtime error; the evaluator adds the line.
func fail(format string, args ...any) error {
	return &Error{Kind: Runtime, Message: fmt.Sprintf(format, args...)}
}

func refuse(format string, args ...any) error {
	return &Error{Kind: Argument, Message: fmt.Sprintf(format, args...)}
}

// atLine names the line of an error that has none yet.
func atLine(err error, line int) error {
	var e *Error
	if errors.As(err, &e) && e.Line == 0 && e.Kind != Argument {
		e.Line = line
	}
	return err
}
