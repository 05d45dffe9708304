package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every address of the pages gets the one page, which names only files that are there.
func TestPages(t *testing.T) {
	for _, path := range []string{"/", "/chat", "/experts", "/a/b/../../engine"} {
		w := get(t, path)
		body := read(t, w.Body)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(body, `id="page"`) {
			t.Fatalf("%s: %d %s", path, w.Code, body)
		}
		if w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s may be kept: a new version would not be seen", path)
		}
		named := regexp.MustCompile(`(?:src|href)="/ui(/[^"]+)"`).FindAllStringSubmatch(body, -1)
		if len(named) < 3 {
			t.Fatalf("the page names %v", named)
		}
		for _, m := range named {
			file := get(t, m[1])
			if file.Code != http.StatusOK || !strings.Contains(file.Header().Get("Cache-Control"), "immutable") || len(read(t, file.Body)) == 0 {
				t.Errorf("%s: %d %v", m[1], file.Code, file.Header())
			}
		}
	}
	for _, path := range []string{"/assets/none.js", "/../web.go", "/assets/../../web.go", "/dist/index.html"} {
		if w := get(t, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// Nothing in the pages needs what the policy forbids, and all of them together are small.
func TestPolicyAndSize(t *testing.T) {
	for _, never := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(Policy, never) {
			t.Errorf("the policy allows %s", never)
		}
	}
	sum := 0
	for name, p := range load() {
		if w := get(t, "/"+name); w.Header().Get("Content-Security-Policy") != Policy || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name, w.Header())
		}
		zipped := get(t, "/"+name, "Accept-Encoding", "br, gzip")
		body := []byte(read(t, zipped.Body))
		if sum += len(body); p.zipped != nil {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			body = []byte(read(t, z))
		}
		if !bytes.Equal(body, p.data) {
			t.Errorf("%s is another thing when compressed", name)
		}
		if strings.HasSuffix(name, ".html") && regexp.MustCompile(`<script[^>]*>[^<]|style="|\son\w+=`).Match(p.data) {
			t.Errorf("%s has scripts or styles within", name)
		}
	}
	const most = 300_000
	t.Logf("evidence: pages compressed: %d bytes <= %d", sum, most)
	if sum > most {
		t.Errorf("the pages have %d bytes compressed: %d at most", sum, most)
	}
}
