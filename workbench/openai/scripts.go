package openai

import "net/http"

// Scripts are the scripts that requests may name, and what each says of itself.
type Scripts interface {
	List() (any, error)
}

// listScripts is GET /roundhouse/v1/scripts.
func (s *Server) listScripts(w http.ResponseWriter, _ *http.Request) error {
	list, err := s.cfg.Scripts.List()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"scripts": list})
	return nil
}
