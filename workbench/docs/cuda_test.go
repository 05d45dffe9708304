package docs

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/openai"
	"github.com/roundhouse-ai/roundhouse/workbench/synth"
)

// cuda.md shows what the program prints, word for word: each message is made here as a
// GPU would make it. The sizes in a memory plan are an example.
func TestCUDAPageShowsRealMessages(t *testing.T) {
	page, err := fs.ReadFile(Files, "cuda.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := unsized(string(page))
	for what, text := range messages(t) {
		if !strings.Contains(shown, unsized(text)) {
			t.Errorf("%s: cuda.md does not show\n%s", what, text)
		}
	}
}

// unsized is a text without the numbers of a memory plan.
func unsized(text string) string {
	return regexp.MustCompile(` +[0-9.]+ GB\n`).ReplaceAllString(text, " GB\n")
}

// messages are what the program says, by what is wrong.
func messages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	small, ok := demo.FS()
	if !ok {
		t.Skip(demo.ErrLeftOut)
	}

	none := fake(t, drivertest.Options{})
	none.Fail(1, driver.NoDevice)
	all["no GPU"] = refusal(t, small, none)

	_, err := drivertest.New(drivertest.Options{Version: 12080})
	all["old driver"] = err.Error()

	all["old GPU"] = refusal(t, small, fake(t, drivertest.Options{Arch: 75}))

	// The real model's folder, but for what is in it: its plan needs no more.
	shape, err := synth.New(synth.Options{Shape: "qwen3-next-80b", Layout: "int4-mixed-2026"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := shape.Outline(dir); err != nil {
		t.Fatal(err)
	}
	all["GPU too small"] = refusal(t, os.DirFS(dir), fake(t, drivertest.Options{Memory: 24e9}))

	large := fake(t, drivertest.Options{Memory: 48e9})
	_, err = engine.Open(t.Context(), os.DirFS(dir), engine.Options{Name: "demo", Device: "cuda", Driver: large, Progress: func(p engine.Progress) {
		if p.Stage == "memory" {
			all["memory plan"] = p.Plan
			large.Fail(2, driver.OutOfMemory) // the allocation: somebody else was faster
		}
	}})
	_, all["memory that is gone"], _ = strings.Cut(spoken(err), "weights: ")

	lost := fake(t, drivertest.Options{})
	m, err := engine.Open(t.Context(), small, engine.Options{Name: "demo", Device: "cuda", Driver: lost})
	if err != nil {
		t.Fatal(err)
	}
	lost.Fail(1, driver.IllegalAddress)
	server, err := openai.New(openai.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server.SetModel(m)
	request := httptest.NewRequest(http.MethodPost, "http://localhost/v1/completions", strings.NewReader(`{"model":"demo","prompt":"Once"}`))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	server.Handler().ServeHTTP(answer, request)
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("a lost device is status %d", answer.Code)
	}
	all["answer after the loss"] = answer.Body.String()
	all["end after the loss"] = (&driver.Error{Code: driver.IllegalAddress, Call: "cuEventSynchronize"}).Error()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for what, text := range all {
		if text == "" {
			t.Errorf("%s says nothing", what)
		}
	}
	return all
}

func fake(t *testing.T, o drivertest.Options) *drivertest.Fake {
	t.Helper()
	f, err := drivertest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// refusal is why a model does not open on a device.
func refusal(t *testing.T, folder fs.FS, f *drivertest.Fake) string {
	t.Helper()
	m, err := engine.Open(t.Context(), folder, engine.Options{Name: "demo", Device: "cuda", Driver: f})
	if err == nil {
		t.Fatal("the model opens", m.Close())
	}
	return spoken(err)
}

// spoken is an error as a GPU would have it: without what the fake driver says of itself.
func spoken(err error) string {
	text := regexp.MustCompile(`injected at call \d+: `).ReplaceAllString(err.Error(), "")
	return strings.TrimPrefix(strings.ReplaceAll(text, "fake device", "Tesla T4"), "open model demo: ")
}
