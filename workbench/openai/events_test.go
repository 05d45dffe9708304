package openai

import (
	"bufio"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	feeds "github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
)

var testLog = slog.New(slog.DiscardHandler)

// watch calls do and then tells of the events until the request's end.
func watch(t *testing.T, hub *feeds.Hub, do func(), tell func(feeds.Event)) {
	t.Helper()
	next, stop := iter.Pull(hub.Subscribe(t.Context(), ""))
	defer stop()
	do()
	for {
		data, ok := next()
		if !ok {
			t.Fatal("the subscription has ended")
		}
		e := decode[feeds.Event](t, data)
		if tell(e); e.Kind == "request_ended" {
			return
		}
	}
}

// The stream of events tells what hooks do, by request.
func TestEvents(t *testing.T) {
	_, url, _ := scripted(t, hooks.Options{}, map[string]string{
		"talk.ts": scriptOf(``, `logits(l, at) { if (at.phase === "decode") emit("depth", at.position); log("hello", 1); l.ban(-1); }`),
	})
	resp, err := http.Get(url + "/roundhouse/v1/events?request=mine")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		t.Fatalf("%s", kind)
	}
	for _, id := range []string{"other", "mine"} {
		req, _ := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(chatBody(`"max_tokens":1,"roundhouse":{"script":"talk"}`)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Request-Id", id)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", body, err)
		}
		answer.Body.Close()
	}
	var kinds []string
	byKind := map[string]map[string]any{}
	for lines := bufio.NewScanner(resp.Body); byKind["request_ended"] == nil && lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e feeds.Event
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if e.Request != "mine" {
			t.Errorf("an event of another request: %s", text)
		}
		kinds = append(kinds, e.Kind)
		byKind[e.Kind], _ = e.Data.(map[string]any)
	}
	if want := []string{"request_started", "hook_emit", "hook_log", "hook_fault", "request_ended"}; !slices.Equal(kinds, want) {
		t.Fatalf("%q, want %q", kinds, want)
	}
	if d := byKind["hook_emit"]; d["hook"] != "talk" || d["name"] != "depth" || d["value"] != d["position"] || d["choice"] != 0.0 {
		t.Errorf("%v", d)
	}
	if d := byKind["hook_log"]; d["value"] != "hello 1" {
		t.Errorf("%v", d)
	}
	if d := byKind["hook_fault"]; d["kind"] != "bad_id" || d["event"] != "logits" || !strings.HasPrefix(d["line"].(string), "talk.ts:2:") {
		t.Errorf("%v", d)
	}
	if d := byKind["request_started"]; d["endpoint"] != "chat" || d["choices"] != 1.0 {
		t.Errorf("%v", d)
	}
	if d := byKind["request_ended"]; d["outcome"] != "ok" || d["degraded_tokens"] != 1.0 || len(d["hooks"].([]any)) != 1 || d["completion_tokens"] != 1.0 {
		t.Errorf("%v", d)
	}
	status, body := get(t, url+"/roundhouse/v1/events?request="+strings.Repeat("x", 129), nil)
	wantError(t, status, body, 400, "invalid_value")
}

// How requests end is told, whatever becomes of them.
func TestOutcomes(t *testing.T) {
	m := newFake(t, plainTemplate)
	hub := feeds.New(testLog)
	_, web := newTest(t, m, Config{Events: hub, Key: "secret"})
	if status, _ := get(t, web.URL+"/roundhouse/v1/events", nil); status != 401 {
		t.Errorf("without the key: %d", status)
	}
	ask := func() {
		send(t, http.MethodPost, web.URL+"/v1/chat/completions", hello, func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") })
	}
	for want, set := range map[string]func(){
		"ok": func() {}, "engine_error": func() { m.fail = io.ErrUnexpectedEOF }, "internal_error": func() { m.broken = true },
	} {
		m.fail, m.broken = nil, false
		set()
		watch(t, hub, ask, func(e feeds.Event) {
			if d, _ := e.Data.(map[string]any); e.Kind == "request_ended" && d["outcome"] != want {
				t.Errorf("%v, want %s", d, want)
			}
		})
	}
}
