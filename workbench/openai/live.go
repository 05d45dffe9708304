package openai

import (
	"net/http"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Live shows tokens to whoever watches, and lets them change what runs.
type Live interface {
	http.Handler // a WebSocket
	// Watch is told of the choices of a request, which have indices from first on, before the
	// engine gets it, and may ask the engine for more.
	Watch(request string, first, n int, r *engine.Request) Watch
}

// Watch is told what becomes of choices.
type Watch interface {
	Token(k int, t engine.Token)
	End(k int, reason string, completion int)
}
