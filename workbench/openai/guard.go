package openai

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// bodyTimeout is how long a client may take to send a request's body.
const bodyTimeout = 30 * time.Second

// CheckListen refuses to listen for other machines without an API key.
func CheckListen(addr string, hasKey bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address %q: %w: write host:port, such as 127.0.0.1:8480", addr, err)
	}
	if hasKey || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("listen address %q can be reached by other machines: set an API key (--api-key), or listen on 127.0.0.1", addr)
}

// isLoopback knows the names and addresses that lead to this machine only.
func isLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// guard wraps the handlers with what every request goes through: an id, the
// access log, recovery from panics, and the checks of check.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		// A kept-alive connection still has the deadline of its last response.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // not possible on test recorders
		entry := &logEntry{id: requestID(r.Header.Get("X-Request-Id"))}
		out := &response{ResponseWriter: w}
		out.Header().Set("X-Request-Id", entry.id)
		out.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			broken := recover()
			if broken != nil {
				s.recovered(out, entry, broken)
			}
			s.log(r, out, entry, time.Since(start))
			if broken != nil && out.status == 0 {
				panic(http.ErrAbortHandler) // net/http cuts the connection
			}
		}()
		if err := s.check(r); err != nil {
			err.write(out)
			return
		}
		if s.preflight(out, r) {
			return
		}
		next.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), logKey{}, entry)))
	})
}

// recovered logs a panic with its stack and answers 500. A response that has
// begun cannot be mended: its status is cleared so that guard cuts it.
func (s *Server) recovered(out *response, entry *logEntry, broken any) {
	s.cfg.Log.Error("panic in a handler", "request_id", entry.id, "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
	if out.status != 0 {
		out.status = 0
		return
	}
	failure(http.StatusInternalServerError, "internal_error",
		"a bug in the server ended this request; its log has the details under request id %s", entry.id).write(out)
}

// check decides whether a request may be served at all.
func (s *Server) check(r *http.Request) *Error {
	if !s.hostAllowed(r) {
		return refuse(http.StatusForbidden, "host_not_allowed", "",
			"the Host header %.64q is not a name of this server: use its address, or add the name to the allowed hosts", r.Host)
	}
	if !s.originAllowed(r) {
		return refuse(http.StatusForbidden, "origin_not_allowed", "",
			"pages from %.64q may not use this server: add the origin to the allowed origins", r.Header.Get("Origin"))
	}
	if !s.open(r) && r.Method != http.MethodOptions && !s.keyMatches(r) {
		e := refuse(http.StatusUnauthorized, "invalid_api_key", "", "the API key is missing or wrong: send it as Authorization: Bearer KEY")
		e.Type = "authentication_error"
		return e
	}
	if r.Method == http.MethodPost {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "", "send the body as Content-Type: application/json")
		}
	}
	return nil
}

// PagesAt is where the pages for people are.
const PagesAt = "/ui/"

// open says what everybody may read: whether the server is well, and the program's own
// pages, which hold nothing of the server's and ask for the key themselves.
func (s *Server) open(r *http.Request) bool {
	return r.URL.Path == "/health" || s.cfg.Pages != nil && (strings.HasPrefix(r.URL.Path, PagesAt) || r.URL.Path == "/" && browses(r))
}

// browses says whether a person asks, with a browser.
func browses(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// hostAllowed keeps pages of the web from reaching a loopback server through
// a name that they point at it (DNS rebinding): the Host must be a loopback
// name, the address the connection came in on, or configured.
func (s *Server) hostAllowed(r *http.Request) bool {
	host := hostname(r.Host)
	if isLoopback(host) || slices.ContainsFunc(s.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	addr, err := netip.ParseAddr(host)
	return ok && err == nil && addr.Unmap() == local.AddrPort().Addr().Unmap()
}

// hostname takes the port and the brackets off a Host header.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// originAllowed lets in what is no page of a browser, pages of this very
// server, and configured ones.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(s.cfg.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// preflight tells browsers what pages of configured origins may send.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if !slices.Contains(s.cfg.Origins, origin) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// keyMatches compares hashes, so that neither time nor length tell anything.
func (s *Server) keyMatches(r *http.Request) bool {
	if s.cfg.Key == "" {
		return true
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if sent, ok := socketKey(r); ok {
		scheme, key = "Bearer", sent
	}
	want, got := sha256.Sum256([]byte(s.cfg.Key)), sha256.Sum256([]byte(key))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// socketKey is the key of a WebSocket of a page, which cannot send headers of its own: a
// subprotocol "roundhouse.key.HEX", the key's bytes in hexadecimal.
func socketKey(r *http.Request) (key string, ok bool) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "", false
	}
	for name := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if text, found := strings.CutPrefix(strings.TrimSpace(name), "roundhouse.key."); found {
			raw, err := hex.DecodeString(text)
			return string(raw), err == nil
		}
	}
	return "", false
}

// body reads a request's body, bounded in size and in time. The deadline is
// taken back at the end: it would otherwise end the request itself, because
// net/http keeps reading to notice a client that leaves.
func (s *Server) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not possible on test recorders
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	_ = control.SetReadDeadline(time.Time{})
	return data, err
}

// logEntry collects what the access log says beside status and time.
type logEntry struct {
	id                 string
	prompt, completion int // tokens
	err                string
}

type logKey struct{}

// entryOf returns the request's log entry.
func entryOf(ctx context.Context) *logEntry {
	if e, ok := ctx.Value(logKey{}).(*logEntry); ok {
		return e
	}
	return &logEntry{}
}

// log writes the access log: counts and times, never a prompt or an answer.
func (s *Server) log(r *http.Request, w *response, e *logEntry, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request_id", e.id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", w.status), slog.Int64("bytes", w.bytes), slog.Duration("took", took),
		slog.String("remote", r.RemoteAddr),
	}
	if e.prompt > 0 {
		attrs = append(attrs, slog.Int("prompt_tokens", e.prompt), slog.Int("completion_tokens", e.completion))
	}
	if e.err != "" {
		attrs = append(attrs, slog.String("error", e.err))
	}
	level := slog.LevelInfo
	if r.URL.Path == "/health" || r.URL.Path == "/metrics" {
		level = slog.LevelDebug // machines ask every second
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// maxRequestID is the longest id that a client may give its request, in bytes.
const maxRequestID = 128

// requestID keeps a client's id when it is short and plain, else makes one.
func requestID(given string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.:", c)
	}
	if given != "" && len(given) <= maxRequestID && strings.IndexFunc(given, func(c rune) bool { return !plain(c) }) < 0 {
		return given
	}
	return "req_" + randomID()
}

// randomID returns 24 hexadecimal digits.
func randomID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// response remembers what was sent, for the log and for recovery.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Hijack lets a WebSocket have the connection.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.status = http.StatusSwitchingProtocols
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
