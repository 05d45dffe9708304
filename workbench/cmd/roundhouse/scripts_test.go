//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
)

// The program itself is what scripts run in that come with requests; no help tells.
func TestProgramIsScriptWorker(t *testing.T) {
	program, err := exec.LookPath("roundhouse")
	if err != nil {
		t.Fatal(err)
	}
	host := worker.New(worker.Options{Command: []string{program, worker.Verb}})
	defer host.Close()
	script, err := host.Load(context.Background(), "inline.ts", `import { script } from "roundhouse";
export default script({ api: 1, hooks: () => ({ logits(l) { l.ban(3); } }) });`)
	if err != nil {
		t.Fatal(err)
	}
	model := hook.Model{Shape: hook.Shape{Layers: 1, Experts: 4, K: 1, Hidden: 1}, Tokens: 8}
	instance, err := script.Start(context.Background(), scripts.Env{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, instance)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	row := make(hook.Plain, model.Tokens)
	if v, err := chain.Logits(hook.At{Position: 1}, row, row); err != nil || v.Edits == nil || v.Edits.Allows(3) {
		t.Errorf("%+v, %v", v, err)
	}

	var exit *exec.ExitError
	out, err := exec.Command(program, worker.Verb, "much").CombinedOutput()
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(string(out), `"much" is no number of bytes`) {
		t.Errorf("%v: %s", err, out)
	}
	if help, err := exec.Command(program, "--help").Output(); err != nil || strings.Contains(string(help), worker.Verb) {
		t.Errorf("--help: %v\n%s", err, help)
	}
}

// Where the configuration lets them, requests bring scripts as source.
func TestServeWithInlineScripts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "roundhouse.toml")
	if err := os.WriteFile(file, []byte("[scripts]\ninline = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--config", file)
	p.ready()
	body := `{"model": "demo", "prompt": "Once upon", "max_tokens": 4, "roundhouse": {"return": ["hooks"], "source": {"text":
		"import { script } from 'roundhouse'; export default script({ api: 1, budget: 200, hooks: () => ({ logits(l) { l.only(5); } }) });"}}}`
	answer, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), `"text":"&&&&"`) || !strings.Contains(string(text), `"name":"inline","calls":4`) {
		t.Errorf("%v: %s", err, text)
	}
}
