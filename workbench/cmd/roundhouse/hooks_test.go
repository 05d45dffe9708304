//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// folder is a folder of scripts that make an answer of one word.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := `import { script } from "roundhouse";
export default script({ api: 1, lag: 1, hooks({ tokens, stop, inject }) {
  let said = false;
  return {
    sample() { if (!said) inject("Lantern"); said = true; },
    token(t) { if (t.text.endsWith("n")) stop("one word"); },
  };
} });`
	if err := os.WriteFile(filepath.Join(dir, "word.ts"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A script of every request works in serve and in chat; who watches events does not keep
// the server from ending.
func TestServeWithScripts(t *testing.T) {
	dir := folder(t)
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--scripts", dir, "--script", "word")
	p.ready()
	events, err := http.Get(p.url + "/roundhouse/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	status, text := p.ask("demo", "")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	var answer struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			Finish string `json:"finish_reason"`
			Stop   string `json:"stop_reason"`
		} `json:"choices"`
		Extension struct {
			Degraded *int   `json:"degraded_tokens"`
			Stop     string `json:"stop_hook"`
			Scripts  []struct {
				Name string `json:"name"`
			} `json:"scripts"`
		} `json:"roundhouse"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	c, e := answer.Choices[0], answer.Extension
	if c.Message.Content != "Lantern" || c.Finish != "stop" || c.Stop != "one word" || e.Degraded == nil || *e.Degraded != 0 || e.Stop != "one word" || e.Scripts[0].Name != "word" {
		t.Errorf("%s", text)
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if _, code := p.wait(); code != 0 || time.Since(began) > 5*time.Second {
		t.Errorf("ended with %d after %v\n%s", code, time.Since(began), p.errors())
	}

	out, err := exec.Command("roundhouse", "chat", "--once", "Tell me.", "--scripts", dir, "--script", "word").Output()
	if err != nil || string(out) != "Lantern\n" {
		t.Errorf("chat: %q, %v", out, err)
	}
	refused, err := exec.Command("roundhouse", "serve", "--listen", "127.0.0.1:0", "--scripts", dir, "--script", "wrd").CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "there are word") {
		t.Errorf("a script that is not there: %v %s", err, refused)
	}
}
