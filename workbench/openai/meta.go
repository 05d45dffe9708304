package openai

import (
	"net/http"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// ModelObject describes a model in /v1/models.
type ModelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int    `json:"max_model_len"` // as vLLM names it
}

func (s *Server) modelObject(info engine.Info) ModelObject {
	return ModelObject{ID: info.Name, Object: "model", Created: s.started.Unix(), OwnedBy: "roundhouse", Context: info.Context}
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) error {
	m, err := s.current()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []ModelObject{s.modelObject(m.Info())}})
	return nil
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) error {
	m, err := s.current()
	if err != nil {
		return err
	}
	info := m.Info()
	if id := r.PathValue("id"); id != info.Name {
		return refuse(http.StatusNotFound, "model_not_found", "model", "there is no model %.128q here; this server has: %s", id, info.Name)
	}
	writeJSON(w, http.StatusOK, s.modelObject(info))
	return nil
}

// root says what this is.
func (s *Server) root(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Pages != nil && browses(r) {
		w.Header().Set("Vary", "Accept")
		http.Redirect(w, r, PagesAt, http.StatusSeeOther)
		return nil
	}
	endpoints := []string{
		"GET /v1/models", "POST /v1/chat/completions", "POST /v1/completions",
		"POST /tokenize", "POST /detokenize", "GET /health", "GET /version",
	}
	if s.cfg.Events != nil {
		endpoints = append(endpoints, "GET /roundhouse/v1/events")
	}
	if s.cfg.Metrics != nil {
		endpoints = append(endpoints, "GET /metrics")
	}
	if s.cfg.Pages != nil {
		endpoints = append(endpoints, "GET "+PagesAt)
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": "roundhouse", "about": "an inference workbench with an OpenAI-compatible API", "endpoints": endpoints,
	})
	return nil
}

// health is 200 while requests are served.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	s.mu.RLock()
	model, progress, stopping := s.model, s.progress, s.stopping
	s.mu.RUnlock()
	switch {
	case model != nil && model.Err() != nil:
		w.Header().Set("Retry-After", "10")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "device_lost"})
	case stopping:
		w.Header().Set("Retry-After", "10")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "stopping"})
	case model == nil:
		w.Header().Set("Retry-After", "2")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{
			"status": "loading", "stage": progress.Stage, "done": progress.Done, "total": progress.Total,
		})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	}
	return nil
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, s.cfg.Version)
	return nil
}

// tokenize is vLLM's POST /tokenize: a prompt, or messages as chat has them.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) error {
	m, f, err := s.text(w, r)
	if err != nil {
		return err
	}
	var ids []int32
	if _, isChat := f.raw["messages"]; isChat {
		conversation := f.conversation()
		if err := f.rest(); err != nil {
			return err
		}
		if ids, _, err = s.encode(r.Context(), m, conversation); err != nil {
			return err
		}
	} else {
		var prompt string
		if !f.take("prompt", &prompt) {
			f.fail("is missing: send prompt or messages", "prompt")
		}
		if err := f.rest(); err != nil {
			return err
		}
		ids = m.Tokenizer().Encode(prompt, tokenizer.Default)
	}
	if ids == nil {
		ids = []int32{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"count": len(ids), "max_model_len": m.Info().Context, "tokens": ids})
	return nil
}

// detokenize is vLLM's POST /detokenize.
func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) error {
	m, f, err := s.text(w, r)
	if err != nil {
		return err
	}
	var ids []int32
	if !f.take("tokens", &ids) {
		f.fail("is missing", "tokens")
	}
	if err := f.rest(); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"prompt": m.Tokenizer().Decode(ids, false)})
	return nil
}

// text reads a request that needs the tokenizer only.
func (s *Server) text(w http.ResponseWriter, r *http.Request) (Model, *fields, error) {
	m, err := s.current()
	if err != nil {
		return nil, nil, err
	}
	body, err := s.body(w, r)
	if err != nil {
		return nil, nil, err
	}
	f, bad := parse(body)
	if bad != nil {
		return nil, nil, bad
	}
	if _, named := f.raw["model"]; named {
		if err := f.model(m.Info()); err != nil {
			return nil, nil, err
		}
	}
	if m.Tokenizer() == nil {
		return nil, nil, refuse(http.StatusBadRequest, "no_tokenizer", "", "this model has no tokenizer")
	}
	return m, f, nil
}
