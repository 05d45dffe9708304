package hooks

import (
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// Error says why a request cannot have its hooks, and what its client is to be told.
type Error struct {
	Status int    // of HTTP
	Code   string // for programs
	Field  string // of the request's hooks: "params.floor"; "" for none
	Retry  time.Duration
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Refusal is what the client is to be told, beside the text of the error.
func (e *Error) Refusal() (status int, code, field string, retry time.Duration) {
	return e.Status, e.Code, e.Field, e.Retry
}

// retry is how long a client should wait where too many scripts run.
const retry = 5 * time.Second

// refuse makes an *Error of an error about a field.
func refuse(err error, field string) *Error {
	var (
		known *Error
		busy  *scripts.BusyError
		load  *scripts.LoadError
		param *hook.ParamError
		steer *hook.SteerError
		fault *hook.Fault
		away  *host.UnavailableError
		shut  *host.NotAllowedError
	)
	e := &Error{Status: http.StatusBadRequest, Code: "invalid_value", Field: field, Err: err}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &away):
		e.Status, e.Code, e.Retry = http.StatusServiceUnavailable, "plugin_unavailable", max(away.After, time.Second)
	case errors.As(err, &shut):
		e.Status, e.Code = http.StatusNotFound, "plugin_not_found"
		if shut.Installed {
			e.Status, e.Code = http.StatusForbidden, "plugin_not_allowed"
		}
	case errors.As(err, &busy):
		e.Status, e.Code, e.Field, e.Retry = http.StatusServiceUnavailable, "scripts_busy", "", retry
	case errors.As(err, &param):
		e.Field += "." + param.Name
	case errors.As(err, &steer):
		if e.Err = steer.Err; steer.Field != "" {
			e.Field += "." + steer.Field
		}
		if errors.As(steer.Err, &fault) {
			e.Err = fault.Err // its kind is said by the status
		}
	case errors.As(err, &load):
		e.Code = "script_broken"
		if field != "source" { // it is the server's
			e.Status = http.StatusInternalServerError
		}
	case errors.Is(err, fs.ErrNotExist):
		e.Status, e.Code = http.StatusNotFound, "script_not_found"
	default:
		e.Status, e.Code, e.Field = http.StatusInternalServerError, "hooks_unavailable", ""
	}
	return e
}

// failed is refuse for the request handler of a script that runs: what goes wrong there
// is nobody's server, and no reason to send the request again.
func failed(err error, field string) *Error {
	e := refuse(err, field)
	if e.Code == "script_broken" {
		e.Status, e.Code = http.StatusUnprocessableEntity, "hook_failed"
	}
	return e
}
