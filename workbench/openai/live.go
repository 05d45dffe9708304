package openai

import (
	"net/http"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Live shows tokens to whoever watches, and lets them change what runs.
type Live interface {
	http.Handler // a WebSocket
	// Watch is told of the choices of a request, which have indices from first on, before the
	// engine gets it, and may ask the engine for more. Each goes at pace, in tokens a second,
	// nil for as fast as it goes; setPace changes that of the k-th, and 0 lets it stand still.
	Watch(request string, first, n int, r *engine.Request, pace *float64, setPace func(k int, perSecond *float64) error) Watch
}

// Watch is told what becomes of choices.
type Watch interface {
	Token(k int, t engine.Token)
	End(k int, reason string, r engine.Result)
}
