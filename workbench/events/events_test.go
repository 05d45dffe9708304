package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"strings"
	"testing"
)

// next reads one event.
func next(t *testing.T, pull func() ([]byte, bool)) Event {
	t.Helper()
	data, ok := pull()
	if !ok {
		t.Fatal("the subscription has ended")
	}
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return e
}

func TestHub(t *testing.T) {
	hub := New(slog.New(slog.DiscardHandler))
	hub.Publish("before", "", nil)
	all, stop := iter.Pull(hub.Subscribe(t.Context(), ""))
	defer stop()
	one, stop := iter.Pull(hub.Subscribe(t.Context(), "a"))
	defer stop()
	hub.Publish("x", "b", 1)
	hub.Publish("y", "a", map[string]string{"k": "v"})
	if e := next(t, all); e.Kind != "x" || e.Seq != 2 || e.Request != "b" || e.Data != 1.0 {
		t.Errorf("%+v", e)
	}
	for _, pull := range []func() ([]byte, bool){all, one} {
		if e := next(t, pull); e.Kind != "y" || e.Seq != 3 || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	hub.Publish("z", "a", math.NaN())
	if e := next(t, one); !strings.Contains(fmt.Sprint(e.Data), "NaN") {
		t.Errorf("what cannot be JSON: %+v", e)
	}
	hub.Close()
	if e := next(t, all); e.Kind != "z" {
		t.Errorf("%+v: what was queued comes before the end", e)
	}
	if _, ok := all(); ok {
		t.Error("events after the end")
	}
	for range hub.Subscribe(t.Context(), "") {
		t.Error("an event of a hub that is closed")
	}
}

// Nobody waits for a slow subscriber; it is told what it lost, and goes on.
func TestSlowSubscribersLoseEvents(t *testing.T) {
	hub := New(slog.New(slog.DiscardHandler))
	pull, stop := iter.Pull(hub.Subscribe(t.Context(), ""))
	defer stop()
	for i := range buffered + 7 {
		hub.Publish("n", "", i)
	}
	for i := range buffered {
		if e := next(t, pull); e.Data != float64(i) {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
	if e := next(t, pull); e.Kind != "dropped" || e.Data.(map[string]any)["dropped"] != 7.0 {
		t.Errorf("%+v", e)
	}
	hub.Publish("n", "", strings.Repeat("x", bufferedBytes))
	hub.Publish("n", "", 1)
	if e := next(t, pull); e.Kind != "dropped" || e.Data.(map[string]any)["dropped"] != 2.0 {
		t.Errorf("%+v", e)
	}
	hub.Publish("n", "", "again")
	if e := next(t, pull); e.Data != "again" {
		t.Errorf("%+v", e)
	}
}

func TestSubscribersAreBounded(t *testing.T) {
	hub := New(slog.New(slog.DiscardHandler))
	for range maxSubscribers {
		_, stop := iter.Pull(hub.Subscribe(t.Context(), ""))
		defer stop()
	}
	pull, stop := iter.Pull(hub.Subscribe(t.Context(), ""))
	defer stop()
	if e := next(t, pull); e.Kind != "refused" {
		t.Errorf("%+v", e)
	}
	if _, ok := pull(); ok {
		t.Error("it stays")
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	hub := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	hub.Publish("hook_fault", "r1", 5)
	hub.Publish("hook_log", "r2", "line\nbreak")
	for _, want := range []string{"level=WARN msg=hook_fault request_id=r1 event=5", `level=DEBUG msg=hook_log request_id=r2 event="\"line\\nbreak\""`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
