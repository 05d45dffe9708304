package openai

import (
	"net/http"
	"strconv"
)

// Plugins are the plugins of the server, as their owner sees them. Errors may be refusals.
type Plugins interface {
	// List says of each how it fares.
	List() any
	// Logs returns the newest n lines of its log.
	Logs(name string, n int) (any, error)
	// Restart ends its process and starts another.
	Restart(name string) error
}

// listPlugins is GET /roundhouse/v1/plugins.
func (s *Server) listPlugins(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]any{"plugins": s.cfg.Plugins.List()})
	return nil
}

// maxLogLines is how many lines a plugin's log can have.
const maxLogLines = 1000

// pluginLogs is GET /roundhouse/v1/plugins/NAME/logs.
func (s *Server) pluginLogs(w http.ResponseWriter, r *http.Request) error {
	n := maxLogLines
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxLogLines {
			return invalid("n", "is %.20q: 1 to %d lines are possible", text, maxLogLines)
		}
	}
	lines, err := s.cfg.Plugins.Logs(r.PathValue("name"), n)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"lines": lines})
	return nil
}

// restartPlugin is POST /roundhouse/v1/plugins/NAME/restart.
func (s *Server) restartPlugin(w http.ResponseWriter, r *http.Request) error {
	if err := s.cfg.Plugins.Restart(r.PathValue("name")); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"restarting": r.PathValue("name")})
	return nil
}
