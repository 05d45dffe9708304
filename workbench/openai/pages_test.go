package openai

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// The pages are for everybody who may reach the server, but nothing else is; a browser at the
// root is led to them, a program gets what it always got.
func TestPages(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("page " + r.URL.Path)) })
	s, web := newTest(t, newFake(t, plainTemplate), Config{Key: "secret", Pages: pages})
	if status, body := get(t, web.URL+"/ui/experts", nil); status != http.StatusOK || string(body) != "page /ui/experts" {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := send(t, http.MethodPost, web.URL+"/ui/", "", func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer secret")
	}); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	ask := func(path, accept, host string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		path, accept, host string
		status             int
	}{
		{"/", "text/html,*/*", "127.0.0.1", http.StatusSeeOther},
		{"/", "*/*", "127.0.0.1", http.StatusUnauthorized},
		{"/v1/models", "text/html", "127.0.0.1", http.StatusUnauthorized},
		{"/ui", "text/html", "127.0.0.1", http.StatusUnauthorized},
		{"/ui/", "text/html", "evil.example", http.StatusForbidden},
		{"/", "text/html", "evil.example", http.StatusForbidden},
	} {
		w := ask(c.path, c.accept, c.host)
		if w.Code != c.status || c.status == http.StatusSeeOther && w.Header().Get("Location") != PagesAt {
			t.Errorf("%s for %s at %s: %d %v", c.path, c.accept, c.host, w.Code, w.Header())
		}
	}
}
