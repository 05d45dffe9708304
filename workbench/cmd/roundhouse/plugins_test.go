//go:build unix

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// ampersands lets nothing be drawn but one token.
type ampersands struct{}

func (ampersands) Logits(_ *plugins.Call, l *plugins.Logits) error { return l.Only([]int32{5}) }

// servePlugin serves a plugin of these tests, where the program was started as one.
func servePlugin() {
	if os.Getenv(wire.CookieKey) == "" {
		return
	}
	plugins.Serve(&plugins.Plugin{Name: "ampersands", Version: "1.0", New: func(*plugins.Sequence) (any, error) {
		plugins.Log("a choice begins")
		plugins.Metric("choices", 1)
		return ampersands{}, nil
	}})
	os.Exit(0)
}

// The whole program with a plugin: requests use it, verbs ask of it, nothing is left of it.
func TestServeWithPlugins(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"ampersands", "other"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "roundhouse.toml")
	if err := os.WriteFile(file, []byte("[plugins]\ndir = \""+dir+"\"\nallow = [\"ampersands\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--config", file)
	p.ready()
	ask := func(plugin string) (int, string) {
		body := `{"model": "demo", "prompt": "Once upon", "max_tokens": 4, "roundhouse": {"plugin": "` + plugin + `"}}`
		answer, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if status, text := ask("ampersands"); status != http.StatusOK || !strings.Contains(text, `"text":"&&&&"`) || !strings.Contains(text, `"kind":"plugin","version":"1.0"`) {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := ask("other"); status != http.StatusForbidden || !strings.Contains(text, "plugins.allow") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := ask("none"); status != http.StatusNotFound || !strings.Contains(text, "plugin_not_found") {
		t.Errorf("%d %s", status, text)
	}
	verb := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("roundhouse", append(append([]string{"plugins"}, args...), "--config", file, "--server", p.url)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	var rows []struct {
		Name    string
		Allowed bool
		Live    *struct {
			PID, Launches int
			State         string
			Metrics       map[string]float64
		}
	}
	list := func() {
		if err := json.Unmarshal([]byte(verb("list", "--json")), &rows); err != nil {
			t.Fatal(err)
		}
	}
	list()
	if len(rows) != 2 || !rows[0].Allowed || rows[1].Allowed || rows[0].Live == nil || rows[0].Live.State != "ready" || rows[0].Live.Metrics["choices"] != 1 {
		t.Fatalf("%+v", rows)
	}
	if text := verb("list"); !strings.Contains(text, "ready, version 1.0") || !strings.Contains(text, "not allowed") {
		t.Errorf("%s", text)
	}
	if text := verb("logs", "ampersands"); !strings.Contains(text, "info   a choice begins") {
		t.Errorf("%s", text)
	}
	first := rows[0].Live.PID
	verb("restart", "ampersands")
	for until := time.Now().Add(10 * time.Second); rows[0].Live.PID == first || rows[0].Live.State != "ready"; list() {
		if time.Now().After(until) {
			t.Fatalf("%+v", rows[0].Live)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if status, text := ask("ampersands"); status != http.StatusOK || !strings.Contains(text, `"text":"&&&&"`) {
		t.Errorf("%d %s", status, text)
	}
	p.signal(syscall.SIGTERM)
	if _, code := p.wait(); code != 0 {
		t.Errorf("ended with %d\n%s", code, p.errors())
	}
	if err := syscall.Kill(rows[0].Live.PID, 0); err == nil {
		t.Errorf("process %d of the plugin is still there", rows[0].Live.PID)
	}
}
