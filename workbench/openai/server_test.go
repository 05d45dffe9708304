package openai

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
)

const hello = `{"model":"org/fake","messages":[{"role":"user","content":"hi"}]}`

func get(tb testing.TB, url string, change func(*http.Request)) (int, []byte) {
	tb.Helper()
	return send(tb, http.MethodGet, url, "", change)
}

func send(tb testing.TB, method, url, body string, change func(*http.Request)) (int, []byte) {
	tb.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, data
}

type errorBody struct {
	Error Error `json:"error"`
}

func wantError(tb testing.TB, status int, body []byte, wantStatus int, code string) Error {
	tb.Helper()
	if status != wantStatus {
		tb.Fatalf("status %d, want %d: %s", status, wantStatus, body)
	}
	e := decode[errorBody](tb, body).Error
	if e.code() != code {
		tb.Fatalf("code %s, want %s: %s", e.code(), code, body)
	}
	return e
}

func TestSecurity(t *testing.T) {
	_, web := newTest(t, newFake(t, plainTemplate), Config{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
		Key:     "secret", Hosts: []string{"box.example"}, Origins: []string{"https://app.example"}, MaxBody: 200,
	})
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer secret")
			r.Header.Set(name, value)
		}
	}
	host := func(h string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer secret")
			r.Host = h
		}
	}
	none := func(*http.Request) {}
	for _, c := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		status                   int
		code                     string
	}{
		{"key", "GET", "/v1/models", "", host(""), 200, ""},
		{"no key", "GET", "/v1/models", "", none, 401, "invalid_api_key"},
		{"wrong key", "GET", "/v1/models", "", header("Authorization", "Bearer secre"), 401, "invalid_api_key"},
		{"key of another scheme", "GET", "/v1/models", "", header("Authorization", "Basic secret"), 401, "invalid_api_key"},
		{"health needs no key", "GET", "/health", "", none, 200, ""},
		{"metrics need the key", "GET", "/metrics", "", none, 401, "invalid_api_key"},
		{"metrics", "GET", "/metrics", "", header("A", "b"), 200, ""},
		{"rebinding", "GET", "/v1/models", "", host("evil.example"), 403, "host_not_allowed"},
		{"rebinding with port", "GET", "/health", "", host("evil.example:80"), 403, "host_not_allowed"},
		{"name that begins like ours", "GET", "/health", "", host("localhost.evil.example"), 403, "host_not_allowed"},
		{"another address", "GET", "/health", "", host("10.0.0.1"), 403, "host_not_allowed"},
		{"localhost", "GET", "/health", "", host("localhost:1"), 200, ""},
		{"IPv6 loopback", "GET", "/health", "", host("[::1]:80"), 200, ""},
		{"configured host", "GET", "/health", "", host("BOX.example:99"), 200, ""},
		{"foreign page", "GET", "/health", "", header("Origin", "https://evil.example"), 403, "origin_not_allowed"},
		{"null origin", "GET", "/health", "", header("Origin", "null"), 403, "origin_not_allowed"},
		{"other port of this host", "GET", "/health", "", header("Origin", "http://127.0.0.1:1"), 403, "origin_not_allowed"},
		{"own page", "GET", "/health", "", header("Origin", web.URL), 200, ""},
		{"configured origin", "GET", "/health", "", header("Origin", "https://app.example"), 200, ""},
		{"form post", "POST", "/v1/completions", "x", header("Content-Type", "text/plain"), 415, "unsupported_media_type"},
		{"no content type", "POST", "/v1/completions", "x", func(r *http.Request) { header("A", "b")(r); r.Header.Del("Content-Type") }, 415, "unsupported_media_type"},
		{"charset", "POST", "/tokenize", `{"prompt":"a"}`, header("Content-Type", "application/json; charset=utf-8"), 200, ""},
		{"large body", "POST", "/tokenize", `{"prompt":"` + strings.Repeat("a", 200) + `"}`, header("A", "b"), 413, "request_too_large"},
		{"unknown path", "GET", "/v2/models", "", header("A", "b"), 404, "unknown_url"},
		{"wrong method", "GET", "/v1/completions", "", header("A", "b"), 405, "method_not_allowed"},
		{"wrong method on a known path", "DELETE", "/v1/models", "", header("A", "b"), 405, "method_not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := send(t, c.method, web.URL+c.path, c.body, c.change)
			if c.code != "" {
				wantError(t, status, body, c.status, c.code)
			} else if status != c.status {
				t.Errorf("status %d, want %d: %s", status, c.status, body)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	_, web := newTest(t, newFake(t, plainTemplate), Config{Key: "secret", Origins: []string{"https://app.example"}})
	for origin, want := range map[string]string{"https://app.example": "https://app.example", "https://evil.example": ""} {
		req, _ := http.NewRequest(http.MethodOptions, web.URL+"/v1/models", nil)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "GET")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want || (resp.StatusCode == http.StatusNoContent) != (want != "") {
			t.Errorf("%s: %d, allowed origin %q, want %q", origin, resp.StatusCode, got, want)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:80": true, "[::1]:80": true, "127.9.9.9:1": true,
		"0.0.0.0:80": false, ":80": false, "[::]:80": false, "192.168.1.2:80": false, "example.org:80": false, "127.0.0.1": false,
	} {
		if err := CheckListen(addr, false); (err == nil) != ok {
			t.Errorf("%s without a key: %v", addr, err)
		}
	}
	if err := CheckListen("0.0.0.0:80", true); err != nil {
		t.Error(err)
	}
}

func TestRequestIDs(t *testing.T) {
	_, web := newTest(t, newFake(t, plainTemplate), Config{})
	for given, kept := range map[string]bool{"abc-1": true, "": false, strings.Repeat("a", 129): false, "a b": false} {
		req, _ := http.NewRequest(http.MethodGet, web.URL+"/health", nil)
		req.Header.Set("X-Request-Id", given)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Request-Id"); (got == given) != kept || got == "" {
			t.Errorf("%q: answered with %q", given, got)
		}
	}
}

func TestLogHasNoPrompts(t *testing.T) {
	var out bytes.Buffer
	m := newFake(t, plainTemplate)
	s, err := New(Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.SetModel(m)
	web := newWeb(t, s)
	post(t, web+"/v1/chat/completions", strings.Replace(hello, "hi", "my secret words", 1))
	post(t, web+"/v1/chat/completions", `{"model":"my secret words","messages":[]}`)
	log := out.String()
	if strings.Contains(log, "secret words") || strings.Contains(log, "fox") {
		t.Errorf("the log repeats texts:\n%s", log)
	}
	for _, want := range []string{"prompt_tokens=", "completion_tokens=", "request_id=req_", "status=200", "status=404", "error=model_not_found"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// newWeb serves until the test's end, and returns when all requests have ended.
func newWeb(tb testing.TB, s *Server) (url string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	tb.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func TestLoading(t *testing.T) {
	s, web := newTest(t, nil, Config{})
	s.SetProgress(engine.Progress{Stage: "weights", Done: 3, Total: 10})
	status, body := get(t, web.URL+"/health", nil)
	if status != 503 || !bytes.Contains(body, []byte(`"done":3`)) || !bytes.Contains(body, []byte(`"stage":"weights"`)) {
		t.Errorf("%d %s", status, body)
	}
	status, body = post(t, web.URL+"/v1/chat/completions", hello)
	wantError(t, status, body, 503, "model_loading")
	resp, err := http.Get(web.URL + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.SetModel(newFake(t, plainTemplate))
	if status, body := get(t, web.URL+"/health", nil); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// The engine's queue is the one limit. A stream is refused with a status too:
// its head waits for what the engine says.
func TestQueueIsBounded(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.full = &engine.QueueError{Limit: 2, RetryAfter: 2100 * time.Millisecond}
	_, web := newTest(t, m, Config{})
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		for _, fields := range []string{`"n":1`, `"n":3`, `"stream":true`, `"stream":true,"n":2`} {
			body := `{"model":"org/fake","prompt":"hi","messages":[{"role":"user","content":"hi"}],` + fields + `}`
			resp, err := http.Post(web.URL+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			e := wantError(t, resp.StatusCode, data, 429, "queue_full")
			if e.Type != "rate_limit_error" || resp.Header.Get("Retry-After") != "3" || !strings.Contains(e.Message, "2 requests") {
				t.Errorf("%s %s: Retry-After %q, %s", path, fields, resp.Header.Get("Retry-After"), data)
			}
		}
	}
	m.full = nil
	if status, body := post(t, web.URL+"/v1/chat/completions", hello); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.broken = true
	_, web := newTest(t, m, Config{})
	for _, body := range []string{hello, strings.Replace(hello, "{", `{"stream":true,`, 1)} {
		status, data := post(t, web.URL+"/v1/chat/completions", body)
		wantError(t, status, data, 500, "internal_error")
	}
	m.broken, m.breaks = false, true

	// Within a stream only a cut connection tells the client.
	resp, err := http.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader(strings.Replace(hello, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the stream seems complete: %s", data)
	}
}

func TestEngineErrors(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.fail = errors.New("the machine broke")
	_, web := newTest(t, m, Config{})
	status, body := post(t, web.URL+"/v1/chat/completions", hello)
	wantError(t, status, body, 500, "engine_error")
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		status, body = post(t, web.URL+path, `{"model":"org/fake","stream":true,"prompt":"hi","messages":[{"role":"user","content":"hi"}]}`)
		data, done := events(t, body)
		if status != 200 || done {
			t.Fatalf("%d, done %v: %s", status, done, body)
		}
		wantError(t, 500, []byte(data[len(data)-1]), 500, "engine_error")
	}
}

// A client that leaves stops the work, streamed or not.
func TestDisconnectStopsTheWork(t *testing.T) {
	before := runtime.NumGoroutine()
	m := newFake(t, plainTemplate)
	m.hang = make(chan struct{})
	s, err := New(Config{KeepAlive: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.SetModel(m)
	t.Run("serve", func(t *testing.T) {
		web := newWeb(t, s)
		for _, stream := range []string{"true", "false"} {
			ctx, leave := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, web+"/v1/chat/completions",
				strings.NewReader(strings.Replace(hello, "{", `{"n":3,"stream":`+stream+`,`, 1)))
			req.Header.Set("Content-Type", "application/json")
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			eventually(t, "the request runs", func() bool { return m.running.Load() == 3 })
			leave()
			<-gone
			eventually(t, "the work stops", func() bool { return m.running.Load() == 0 })
		}
	})
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// A long prefill sends comments, and the first byte comes at once.
func TestKeepAlive(t *testing.T) {
	m := newFake(t, plainTemplate)
	m.pieces, m.hang = []string{}, make(chan struct{})
	_, web := newTest(t, m, Config{KeepAlive: 2 * time.Millisecond})
	resp, err := http.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader(strings.Replace(hello, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var comments int
	for comments < 3 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			comments++
		}
	}
	close(m.hang)
	rest, err := io.ReadAll(resp.Body)
	if comments < 3 || err != nil {
		t.Fatalf("%d comments, then %v", comments, err)
	}
	_ = rest
}

// A shutdown lets running work end, then cuts it with a typed error.
func TestShutdown(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream bool
		finish bool
	}{{"stream cut", true, false}, {"whole cut", false, false}, {"stream ends in time", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			m := newFake(t, plainTemplate)
			m.hang = make(chan struct{})
			grace := 20 * time.Millisecond
			if c.finish {
				grace = 10 * time.Second
			}
			s, err := New(Config{Grace: grace})
			if err != nil {
				t.Fatal(err)
			}
			s.SetModel(m)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(ctx, l) }()
			body := hello
			if c.stream {
				body = strings.Replace(hello, "{", `{"stream":true,`, 1)
			}
			type answer struct {
				status int
				data   []byte
				err    error
			}
			got := make(chan answer, 1)
			go func() {
				resp, err := http.Post("http://"+l.Addr().String()+"/v1/chat/completions", "application/json", strings.NewReader(body))
				if err != nil {
					got <- answer{err: err}
					return
				}
				defer resp.Body.Close()
				data, err := io.ReadAll(resp.Body)
				got <- answer{resp.StatusCode, data, err}
			}()
			eventually(t, "the request runs", func() bool { return m.running.Load() == 1 })
			stop()
			if c.finish {
				eventually(t, "health says so", func() bool {
					s.mu.RLock()
					defer s.mu.RUnlock()
					return s.stopping
				})
				close(m.hang)
			}
			a := <-got
			if a.err != nil {
				t.Fatal(a.err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			switch {
			case c.finish:
				if _, done := events(t, a.data); !done {
					t.Errorf("the stream was cut: %s", a.data)
				}
			case c.stream:
				data, _ := events(t, a.data)
				wantError(t, 503, []byte(data[len(data)-1]), 503, "shutting_down")
			default:
				wantError(t, a.status, a.data, 503, "shutting_down")
			}
			if m.running.Load() != 0 {
				t.Error("Serve returned while work was running")
			}
			if _, err := s.current(); !errors.Is(err, errShutdown) {
				t.Errorf("a request after the end: %v", err)
			}
		})
	}
}

// A lost device ends answers with a code of its own, in a last event where a stream
// has begun, and what is asked afterwards gets the same.
func TestDeviceLost(t *testing.T) {
	lost := fmt.Errorf("the stream's state is lost: %w", engine.ErrDeviceLost)
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		body := hello
		if path == "/v1/completions" {
			body = `{"model":"org/fake","prompt":"hi"}`
		}
		m := newFake(t, plainTemplate)
		m.fail = lost
		_, web := newTest(t, m, Config{})
		status, data := post(t, web.URL+path, body)
		e := wantError(t, status, data, 503, "device_lost")
		if e.Type != "server_error" || strings.Contains(e.Message, "state") {
			t.Errorf("%s: %+v", path, e)
		}
		status, data = post(t, web.URL+path, strings.Replace(body, "{", `{"stream":true,`, 1))
		told, done := events(t, data)
		if status != 200 || done {
			t.Errorf("%s: the stream has status %d, ends %t", path, status, done)
		}
		wantError(t, 503, []byte(told[len(told)-1]), 503, "device_lost")
	}
	m := newFake(t, plainTemplate)
	m.lost = lost
	s, web := newTest(t, m, Config{})
	s.stopping = true // which comes next, and is no better reason
	for _, stream := range []string{"", `"stream":true,`} {
		status, data := post(t, web.URL+"/v1/chat/completions", strings.Replace(hello, "{", "{"+stream, 1))
		wantError(t, status, data, 503, "device_lost")
	}
	if status, data := get(t, web.URL+"/health", nil); status != 503 || !strings.Contains(string(data), `"device_lost"`) {
		t.Errorf("/health: %d %s", status, data)
	}
}
