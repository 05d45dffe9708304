package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
)

// Error is what a client is told when a request fails, in OpenAI's form: the
// body is {"error": Error}. The official clients choose their exception by
// Status.
type Error struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
	// Type is the family: invalid_request_error, authentication_error,
	// rate_limit_error or server_error.
	Type string `json:"type"`
	// Param names the field at fault, "messages[1].role" style; nil for none.
	Param *string `json:"param"`
	// Code is the word that programs switch on; nil for none.
	Code *string `json:"code"`
	// Prompt and Context are the counts of a context_length_exceeded.
	Prompt  int `json:"n_prompt,omitempty"`
	Context int `json:"n_ctx,omitempty"`

	retry time.Duration // sent as Retry-After
}

func (e *Error) Error() string {
	if e.Param != nil {
		return *e.Param + ": " + e.Message
	}
	return e.Message
}

// invalid is a 400 about one field.
func invalid(param, format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "invalid_value", param, format, args...)
}

// unsupported is a 400 about a field that would change the result and that we
// do not act on.
func unsupported(param, format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "unsupported_parameter", param, format, args...)
}

// refuse is an error the client can mend. param may be empty.
func refuse(status int, code, param, format string, args ...any) *Error {
	e := &Error{Status: status, Message: fmt.Sprintf(format, args...), Type: "invalid_request_error"}
	if param != "" {
		e.Param = &param
	}
	if code != "" {
		e.Code = &code
	}
	return e
}

// failure is an error the client cannot mend.
func failure(status int, code, format string, args ...any) *Error {
	e := refuse(status, code, "", format, args...)
	e.Type = "server_error"
	return e
}

// busy is a 503 or 429: the same request may succeed after retry.
func busy(status int, code string, retry time.Duration, format string, args ...any) *Error {
	e := failure(status, code, format, args...)
	if status == http.StatusTooManyRequests {
		e.Type = "rate_limit_error"
	}
	e.retry = retry
	return e
}

// Ends of all work, told to streams that are cut off by them.
var (
	errShutdown = busy(http.StatusServiceUnavailable, "shutting_down", 10*time.Second,
		"the server is shutting down: send the request again in a moment")
	errLost = busy(http.StatusServiceUnavailable, "device_lost", 10*time.Second,
		"the GPU was lost, and with it all answers in the making; the server ends: send the request again when it is back")
	errGone = failure(499, "client_closed_request", "the client closed the connection")
)

// toError turns any error of the layers below into what the client is told.
func toError(ctx context.Context, err error) *Error {
	var (
		known  *Error
		length *engine.ContextError
		render *chat.Error
		large  *http.MaxBytesError
		full   *engine.QueueError
		wrong  *sample.ParamError
		hooks  refusal
		fault  *hook.Fault
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, engine.ErrDeviceLost):
		return errLost
	case errors.As(context.Cause(ctx), &known): // shutdown
		return known
	case ctx.Err() != nil:
		return errGone
	case errors.As(err, &hooks):
		return refused(hooks)
	case errors.As(err, &fault):
		// Not a 500, which clients would send again.
		return refuse(http.StatusUnprocessableEntity, "hook_failed", "", "%s", fault)
	case errors.As(err, &full):
		return busy(http.StatusTooManyRequests, "queue_full", full.RetryAfter,
			"%d requests are waiting, the limit (engine.queue): try again in %.0f s", full.Limit, math.Ceil(full.RetryAfter.Seconds()))
	case errors.As(err, &wrong):
		return refuse(http.StatusBadRequest, "invalid_value", "", "%s", wrong.Error()) // its name is the engine's, not the field's
	case errors.Is(err, sample.ErrBanned):
		return refuse(http.StatusBadRequest, "invalid_value", "", "%s", err)
	case errors.Is(err, context.DeadlineExceeded):
		return failure(http.StatusRequestTimeout, "timeout", "the answer was not complete within the request's timeout: ask for fewer tokens, or for more time")
	case errors.As(err, &length):
		e := refuse(http.StatusBadRequest, "context_length_exceeded", "", "%s", length.Error())
		e.Prompt, e.Context = length.Prompt, length.Limit
		return e
	case errors.As(err, &render):
		return refuse(http.StatusBadRequest, "chat_template_error", "messages", "the model's chat template refused the messages: %s", render.Error())
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "request_too_large", "", "the request body is larger than the limit of %d bytes", large.Limit)
	case errors.Is(err, engine.ErrClosed):
		return errShutdown
	default:
		return failure(http.StatusInternalServerError, "engine_error", "the engine failed: %s", err)
	}
}

// write sends the error as a whole response.
func (e *Error) write(w http.ResponseWriter) {
	if e.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retry.Seconds()))))
	}
	writeJSON(w, e.Status, map[string]*Error{"error": e})
}

// writeJSON sends one JSON document. An error of writing means the client is
// gone: there is nobody to tell.
func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := marshal(body)
	if err != nil {
		panic(err) // our own types always marshal
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not possible on test recorders
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// marshal is json.Marshal without the escapes meant for HTML, as OpenAI sends
// it.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// code is the word for the log, which must not repeat parts of a request.
func (e *Error) code() string {
	if e.Code == nil {
		return e.Type
	}
	return *e.Code
}
