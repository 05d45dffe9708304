// Package web has the pages for people: a chat, the experts at work, and the engine. They are
// built from src into dist, which is committed, so that building the program needs no Node.
//
//	http.Handle("/ui/", http.StripPrefix("/ui", web.Handler()))
package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed all:dist
var files embed.FS

// Policy is the Content-Security-Policy of the pages: everything comes from this very server,
// and nothing written in a page is executed.
const Policy = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page is a file as it is sent.
type page struct {
	data, zipped []byte
	kind         string
	forever      bool // its name has a digest of what is in it
}

// Handler serves the pages, below "/". A path without an ending is one of the pages' own: it
// gets index.html, which reads it.
func Handler() http.Handler {
	pages := sync.OnceValue(load)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		if path.Ext(name) == "" {
			name = "index.html"
		}
		p, ok := pages()[name]
		if !ok {
			http.Error(w, "there is no such file among the pages", http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", p.kind)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", Policy)
		h.Set("Cache-Control", "no-cache")
		if p.forever {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		h.Set("Vary", "Accept-Encoding")
		data := p.data
		if p.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			data = p.zipped
		}
		if r.Method != http.MethodHead {
			_, _ = w.Write(data) // a browser that has left
		}
	})
}

// kinds are the media types of the files: what a machine says of endings differs.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

// load reads the files, and compresses what becomes smaller.
func load() map[string]*page {
	pages := map[string]*page{}
	root, err := fs.Sub(files, "dist")
	if err != nil {
		panic(err) // the name is ours
	}
	_ = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error { // embedded files can be read
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		p := &page{data: data, kind: kinds[path.Ext(name)], forever: strings.HasPrefix(name, "assets/")}
		if p.kind == "" {
			panic("web: " + name + " has an ending that kinds does not know: add it")
		}
		var zipped bytes.Buffer
		z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is one of gzip's
		_, _ = z.Write(data)                                       // into memory
		if z.Close() == nil && zipped.Len() < len(data) {
			p.zipped = zipped.Bytes()
		}
		pages[name] = p
		return nil
	})
	return pages
}
