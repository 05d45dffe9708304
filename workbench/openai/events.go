package openai

import (
	"context"
	"iter"
	"net/http"
)

// Feed carries events from whoever makes them to whoever watches.
type Feed interface {
	// Publish tells of something. It does not wait; data is not to be changed later.
	Publish(kind, request string, data any)
	// Subscribe has the events of one request, or of all for "", as JSON, until ctx or
	// the feed ends.
	Subscribe(ctx context.Context, request string) iter.Seq[[]byte]
}

// events is GET /roundhouse/v1/events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	request := r.URL.Query().Get("request")
	if len(request) > maxRequestID {
		return invalid("request", "has %d bytes: ids of requests have at most %d", len(request), maxRequestID)
	}
	out, ctx := openStream(r.Context(), w, s.cfg.KeepAlive)
	defer out.close()
	for event := range s.cfg.Events.Subscribe(ctx, request) {
		if err := out.sendJSON(event); err != nil {
			return nil // the client has left, and nobody else wants to know
		}
	}
	return nil
}

// started is what the feed is told when a request begins.
type started struct {
	Endpoint string `json:"endpoint"` // chat or text
	Model    string `json:"model"`
	Choices  int    `json:"choices"`
	Stream   bool   `json:"stream"`
}

// ended is what it is told when a request has ended.
type ended struct {
	Outcome    string `json:"outcome"` // "ok", or the error's code
	Prompt     int    `json:"prompt_tokens"`
	Completion int    `json:"completion_tokens"`
	*HookUse
	Choices []ChoiceUse `json:"choices,omitempty"`
}

// okay is the outcome of a request that was answered.
const okay = "ok"

// respond sends an answer, whole or as a stream, and tells the feed of it.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, about started, h *hooked,
	whole func(context.Context) (any, error), pieces func(context.Context, *stream) error,
) error {
	log, ctx := entryOf(r.Context()), r.Context()
	outcome := "internal_error" // what a panic leaves
	if s.cfg.Events != nil {
		s.cfg.Events.Publish("request_started", log.id, about)
		defer func() { s.cfg.Events.Publish("request_ended", log.id, h.outcome(outcome, log)) }()
	}
	if !about.Stream {
		body, err := whole(ctx)
		if err != nil {
			outcome = toError(ctx, err).code()
			return err
		}
		outcome = okay
		writeJSON(w, http.StatusOK, body)
		return nil
	}
	out, ctx := openStream(ctx, w, s.cfg.KeepAlive)
	defer out.close()
	if err := pieces(ctx, out); err != nil {
		e := toError(ctx, err)
		log.err, outcome = e.code(), e.code()
		out.fail(e)
		return nil
	}
	outcome = okay
	return nil
}

// outcome says how a request has ended.
func (h *hooked) outcome(outcome string, log *logEntry) ended {
	e := ended{Outcome: outcome, Prompt: log.prompt, Completion: log.completion}
	if h.set != nil {
		e.HookUse, e.Choices = h.use(true)
	}
	return e
}
