//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is the program, running.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	stdout *bufio.Reader

	mu     sync.Mutex
	stderr bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// start runs the program until it has printed its URL. The test's end kills it.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startAs(t, "roundhouse", args...)
}

// startAs is start for a program by another name.
func startAs(t *testing.T, program string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &process{t: t, cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Stderr = p
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Wait() // killed by cancel
		}
	})
	line, err := p.stdout.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://127.0.0.1:") {
		t.Fatalf("the first line is %q, %v\n%s", line, err, p.errors())
	}
	p.url = strings.TrimSpace(line)
	return p
}

// ready waits until the model is served.
func (p *process) ready() {
	p.t.Helper()
	for range 600 {
		answer, err := http.Get(p.url + "/health")
		if err != nil {
			p.t.Fatalf("%v\n%s", err, p.errors())
		}
		if err := answer.Body.Close(); err != nil {
			p.t.Fatal(err)
		}
		switch answer.StatusCode {
		case http.StatusOK:
			return
		case http.StatusServiceUnavailable:
			time.Sleep(50 * time.Millisecond)
		default:
			p.t.Fatalf("/health answers %s", answer.Status)
		}
	}
	p.t.Fatalf("the model is not ready after 30 s\n%s", p.errors())
}

// wait returns the rest of standard output and the exit code.
func (p *process) wait() (rest string, code int) {
	p.t.Helper()
	out, err := io.ReadAll(p.stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // the code tells
	return string(out), p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ask posts a chat request and returns status and body.
func (p *process) ask(model, key string) (int, string) {
	p.t.Helper()
	body := fmt.Sprintf(`{"model":%q,"temperature":0,"messages":[{"role":"user","content":"What is seven plus five?"}]}`, model)
	request, err := http.NewRequest(http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// Both verbs serve without a terminal; SIGTERM and SIGINT end them in order.
func TestServe(t *testing.T) {
	for verb, stop := range map[string]syscall.Signal{"serve": syscall.SIGTERM, "run": syscall.SIGINT} {
		t.Run(verb, func(t *testing.T) {
			p := start(t, verb, "--listen", "127.0.0.1:0")
			p.ready()
			status, text := p.ask("demo", "")
			if status != http.StatusOK || !strings.Contains(text, "Seven plus five is twelve.") {
				t.Errorf("%d %s", status, text)
			}
			curl := fmt.Sprintf("curl %s/v1/chat/completions -H 'Content-Type: application/json' -d '{", p.url)
			if !strings.Contains(p.errors(), curl) {
				t.Errorf("no line begins with %s in\n%s", curl, p.errors())
			}
			p.signal(stop)
			if rest, code := p.wait(); rest != "" || code != 0 {
				t.Errorf("ended with %d after printing %q\n%s", code, rest, p.errors())
			}
			if log := p.errors(); !strings.Contains(log, "request_id=") || strings.Contains(log, "seven") {
				t.Errorf("the log lacks request ids or holds a prompt:\n%s", log)
			}
		})
	}
}

func TestServeNamesAndKeys(t *testing.T) {
	p := start(t, "serve", "--listen", ":0", "--model-name", "tiny", "--api-key", "secret", "--log-format", "json", "--log-level", "debug")
	p.ready()
	if status, _ := p.ask("tiny", ""); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d", status)
	}
	if status, text := p.ask("tiny", "secret"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	if status, text := p.ask("demo", "secret"); status != http.StatusNotFound || !strings.Contains(text, "tiny") {
		t.Errorf("%d %s", status, text)
	}
	for line := range strings.Lines(p.errors()) {
		if !strings.HasPrefix(line, "curl ") && !strings.HasPrefix(line, "pages ") && !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if strings.Contains(p.errors(), "secret") {
		t.Errorf("the key is in the log:\n%s", p.errors())
	}
}

// A second signal ends the program at once, though a request is running.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, "serve", "--listen", ":0")
	p.ready()
	body := `{"model":"demo","prompt":"Once","stream":true,"max_tokens":1900,"ignore_eos":true}`
	answer, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond) // the first signal is being handled
	p.signal(syscall.SIGTERM)
	start := time.Now()
	if _, code := p.wait(); code != -1 {
		t.Errorf("exit code %d, want the signal's death", code)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestPortInUse(t *testing.T) {
	p := start(t, "serve", "--listen", ":0")
	out, err := exec.Command("roundhouse", "serve", "--listen", strings.TrimPrefix(p.url, "http://")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use: choose another address with --listen") {
		t.Errorf("%v: %s", err, out)
	}
}
