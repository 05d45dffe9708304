// Package openai serves a model over HTTP as OpenAI's API does: models, chat
// completions and completions, streamed or not, with vLLM's names for what
// OpenAI does not have (token ids, tokenize), and vLLM's or llama.cpp's for
// further samplers. api.md of the handbook lists every field.
//
// A field that would change the answer and that we do not act on is refused
// with a 400 naming it; a harmless one is listed under roundhouse.warnings in
// the answer. Nothing is ignored without a word.
//
// Where to look: server.go starts, stops and routes; guard.go is what every
// request goes through (Host, Origin, key, log); fields.go takes requests
// apart; params.go has the parameters both endpoints share, sampling.go those of
// the draws; messages.go and prompt.go turn a conversation into token ids; chat.go and completions.go are
// the endpoints; run.go runs choices; hooks.go and
// hooks_reply.go have the field of hooks and what comes of it; events.go tells of requests; stream.go writes server-sent events;
// errors.go is what clients are told when something fails.
package openai

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// Model is what the server needs of a model; *engine.Model is one. All methods
// may be called at once.
type Model interface {
	Info() engine.Info
	// GenerateChoices makes n completions of a prompt; each may call emit on a
	// goroutine of its own, and an error of emit ends that choice. All must end
	// soon after ctx does. It may refuse at once with an *engine.QueueError.
	GenerateChoices(ctx context.Context, req engine.Request, n int, emit func(choice int, t engine.Token) error) []engine.Outcome
	Tokenizer() *tokenizer.Tokenizer // nil if there is none
	Template() *chat.Template        // nil if there is none
	SpecialTokens() *chat.Map        // bos_token and its kin, for the template
	Err() error                      // why it makes nothing any more: engine.ErrDeviceLost, or nil
}

// Config of a Server. The zero value serves with the defaults named here.
type Config struct {
	Key     string   // API key; "" for none
	Hosts   []string // allowed in the Host header beside loopback names and the listen address
	Origins []string // web origins ("https://example.org") whose pages may use the server

	MaxBody   int64         // bytes of a request; 0 for 16 MiB
	KeepAlive time.Duration // a silent stream sends a comment this often; 0 for 10 s
	Grace     time.Duration // running generations may end within it at shutdown; 0 for 10 s

	// SpecialTokens says how message content is read: "text" (or "") keeps
	// users from writing control tokens, "allow" reads them as transformers does.
	SpecialTokens string
	Metrics       http.Handler // answers GET /metrics, behind the key; nil for none
	Hooks         Hooks        // of requests; nil for none
	Scripts       Scripts      // answers /roundhouse/v1/scripts; nil for none
	Plugins       Plugins      // answers /roundhouse/v1/plugins; nil for none
	Events        Feed         // what GET /roundhouse/v1/events tells, and is told of requests; nil for none
	Live          Live         // answers /roundhouse/v1/live, and is told of tokens; nil for none
	Pages         http.Handler // answers everything below PagesAt, without a key; nil for none
	Version       any          // answer of /version; a *struct or map; nil for {}
	Log           *slog.Logger // nil for none
}

// Server answers requests. It may serve before there is a model: until
// SetModel it answers 503 with the progress of loading.
type Server struct {
	cfg     Config
	handler http.Handler
	started time.Time

	mu       sync.RWMutex
	model    Model
	progress engine.Progress
	stopping bool
}

// New makes a server.
func New(cfg Config) (*Server, error) {
	cfg.MaxBody = orDefault(cfg.MaxBody, 16<<20)
	cfg.KeepAlive = orDefault(cfg.KeepAlive, 10*time.Second)
	cfg.Grace = orDefault(cfg.Grace, 10*time.Second)
	if cfg.MaxBody < 0 || cfg.KeepAlive < 0 || cfg.Grace < 0 {
		return nil, errors.New("openai: limits and times must not be negative")
	}
	switch cfg.SpecialTokens {
	case "":
		cfg.SpecialTokens = specialAsText
	case specialAsText, specialAllow:
	default:
		return nil, fmt.Errorf("openai: special_tokens is %q: it must be %q or %q", cfg.SpecialTokens, specialAsText, specialAllow)
	}
	if cfg.Version == nil {
		cfg.Version = struct{}{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, started: time.Now(), progress: engine.Progress{Stage: "starting"}}
	s.handler = s.guard(s.routes())
	return s, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// SetProgress tells how loading goes.
func (s *Server) SetProgress(p engine.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = p
}

// SetModel gives the server its model; requests are served from now on. The
// caller closes the model after Serve has returned.
func (s *Server) SetModel(m Model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model = m
}

// Handler answers requests outside of Serve, in tests or within another server.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers connections of l until ctx ends, then shuts down: it stops
// accepting, gives running generations Config.Grace to end, ends the rest with
// a typed error, and returns when every request has returned. The error is nil
// after an orderly shutdown.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	server := &http.Server{
		Handler:           s.handler,
		BaseContext:       func(net.Listener) context.Context { return work },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed: // only before Shutdown
		cut(errShutdown)
		return errors.Join(fmt.Errorf("serve %s: %w", l.Addr(), err), s.drain(server, cut))
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	err := s.drain(server, cut)
	return errors.Join(err, ignoreClosed(<-failed))
}

// ignoreClosed drops the error that Serve always returns after Shutdown.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain waits for the requests of a server: first in patience, then after
// cutting their work.
func (s *Server) drain(server *http.Server, cut context.CancelCauseFunc) error {
	patience, done := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer done()
	err := server.Shutdown(patience)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cut(errShutdown)
	last, done := context.WithTimeout(context.Background(), s.cfg.Grace+writeTimeout)
	defer done()
	if err := server.Shutdown(last); err != nil {
		return errors.Join(fmt.Errorf("requests did not end %s after their work was stopped: %w", s.cfg.Grace+writeTimeout, err), server.Close())
	}
	return nil
}

// routes maps paths to handlers; whatever is not here is a typed 404 or 405.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	paths := map[string]bool{}
	handle := func(method, path string, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(method+" "+path, s.answer(h))
		if !paths[path] {
			paths[path] = true
			mux.Handle(path, s.answer(func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Allow", method)
				return refuse(http.StatusMethodNotAllowed, "method_not_allowed", "", "%.16s is not possible on %s: use %s", r.Method, path, method)
			}))
		}
	}
	handle("GET", "/{$}", s.root)
	handle("GET", "/health", s.health)
	handle("GET", "/version", s.version)
	if s.cfg.Metrics != nil {
		handle("GET", "/metrics", func(w http.ResponseWriter, r *http.Request) error {
			s.cfg.Metrics.ServeHTTP(w, r)
			return nil
		})
	}
	handle("GET", "/v1/models", s.listModels)
	handle("GET", "/v1/models/{id...}", s.getModel)
	handle("POST", "/v1/chat/completions", s.chatCompletions)
	handle("POST", "/v1/completions", s.completions)
	if s.cfg.Events != nil {
		handle("GET", "/roundhouse/v1/events", s.events)
	}
	if s.cfg.Live != nil {
		handle("GET", "/roundhouse/v1/live", func(w http.ResponseWriter, r *http.Request) error {
			s.cfg.Live.ServeHTTP(w, r)
			return nil
		})
	}
	if s.cfg.Scripts != nil {
		handle("GET", "/roundhouse/v1/scripts", s.listScripts)
	}
	if s.cfg.Pages != nil {
		handle("GET", PagesAt, func(w http.ResponseWriter, r *http.Request) error {
			s.cfg.Pages.ServeHTTP(w, r)
			return nil
		})
	}
	if s.cfg.Plugins != nil {
		handle("GET", "/roundhouse/v1/plugins", s.listPlugins)
		handle("GET", "/roundhouse/v1/plugins/{name}/logs", s.pluginLogs)
		handle("POST", "/roundhouse/v1/plugins/{name}/restart", s.restartPlugin)
	}
	handle("POST", "/tokenize", s.tokenize)
	handle("POST", "/detokenize", s.detokenize)
	mux.Handle("/", s.answer(func(_ http.ResponseWriter, r *http.Request) error {
		return refuse(http.StatusNotFound, "unknown_url", "", "there is nothing at %s %.128s: GET / lists what is served", r.Method, r.URL.Path)
	}))
	return mux
}

// answer lets handlers return their errors.
func (s *Server) answer(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			e := toError(r.Context(), err)
			entryOf(r.Context()).err = e.code()
			e.write(w)
		}
	})
}

// current returns the model, or why there is none to use.
func (s *Server) current() (Model, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.model != nil && s.model.Err() != nil:
		return nil, errLost
	case s.stopping:
		return nil, errShutdown
	case s.model == nil:
		return nil, busy(http.StatusServiceUnavailable, "model_loading", 2*time.Second,
			"the model is still loading (%s): GET /health shows the progress", s.progress.Stage)
	}
	return s.model, nil
}
