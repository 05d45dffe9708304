package metrics

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/workbench/docs"
)

type fixed struct{ stats engine.Stats }

func (f fixed) Stats() engine.Stats { return f.stats }
func (fixed) Abandoned() int        { return 1 }
func (fixed) Info() engine.Info {
	return engine.Info{Name: "org/fake", Fingerprint: "fp", Backend: ops.Caps{Name: "cpu", Kernels: "avx2", Numerics: "exact"}}
}

func full() *Metrics {
	m := New("v1", "abc")
	stats := engine.Stats{
		Queued: 2, Running: 3, PagesUsed: 5, PagesTotal: 20, SlotsUsed: 3, SlotsTotal: 4, PromptTokens: 100,
		Finished: map[string]uint64{"stop": 7}, Preempted: 1,
		Steps: engine.StepStats{Decode: 4, Mixed: 2, Seconds: 1.5, Buckets: []uint64{1, 3, 2}, Bounds: []float64{0.1, 0.5}},
	}
	stats.PhaseTimes[ops.PhaseExperts] = 2 * time.Second
	m.SetSource(fixed{stats})
	m.SetHooks(fixed{})
	m.SetPlugins(func() []Plugin { return []Plugin{{Name: "calm", Ready: true, Own: map[string]float64{"load": 2}}} })
	m.Observe([]engine.Outcome{
		{Result: engine.Result{Prompt: 10, Completion: 5, Queued: time.Second, Prefill: 2 * time.Second, Decode: 4 * time.Second}},
		{Result: engine.Result{Prompt: 10, Completion: 1, Queued: time.Second, Prefill: 2 * time.Second}},
		{Err: errors.New("cancelled"), Result: engine.Result{Hooks: hook.Report{Degraded: 2, Hooks: []hook.Usage{
			{Calls: 7, Time: time.Second, Faults: map[string]int{"bad_id": 3}}, {Calls: 2},
		}}}},
	})
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestScrape(t *testing.T) {
	text := scrape(t, full())
	for _, line := range []string{
		`roundhouse_num_requests_running 3`, `roundhouse_num_requests_waiting 2`, `roundhouse_kv_cache_usage_perc 0.25`,
		`roundhouse_prompt_tokens_total 100`, `roundhouse_request_success_total{finished_reason="stop"} 7`,
		`roundhouse_request_success_total{finished_reason="error"} 0`, `roundhouse_num_preemptions_total 1`,
		`roundhouse_phase_seconds_total{phase="experts"} 2`, `roundhouse_steps_total{kind="mixed"} 2`,
		`roundhouse_step_duration_seconds_bucket{le="0.1"} 1`, `roundhouse_step_duration_seconds_bucket{le="0.5"} 4`,
		`roundhouse_step_duration_seconds_bucket{le="+Inf"} 6`, `roundhouse_step_duration_seconds_sum 1.5`,
		`roundhouse_time_to_first_token_seconds_sum 3`, `roundhouse_time_to_first_token_seconds_count 1`,
		`roundhouse_e2e_request_latency_seconds_count 2`, `roundhouse_time_per_output_token_seconds_sum 1`,
		`roundhouse_hook_calls_total 9`, `roundhouse_hook_seconds_total 1`, `roundhouse_hook_degraded_tokens_total 2`, `roundhouse_hook_machines_abandoned 1`,
		`roundhouse_hook_faults_total{kind="bad_id"} 3`, `roundhouse_hook_faults_total{kind="lost"} 0`,
		`roundhouse_build_info{commit="abc",version="v1"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if !strings.Contains(text, "go_goroutines ") {
		t.Error("the Go runtime is not exported")
	}
}

// Before there is a model, a scrape has the process alone.
func TestScrapeBeforeTheModel(t *testing.T) {
	if text := scrape(t, New("v1", "")); strings.Contains(text, "num_requests") || !strings.Contains(text, "roundhouse_build_info") {
		t.Errorf("%s", text)
	}
}

func TestNamesAreWellFormed(t *testing.T) {
	problems, err := testutil.GatherAndLint(full().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The handbook's page lists every name, and no other.
func TestPageNamesEveryMetric(t *testing.T) {
	families, err := full().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported, listed := map[string]bool{}, map[string]bool{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace+"_") {
			exported[f.GetName()] = true
		}
	}
	page, err := docs.Files.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(roundhouse_\\w+)").FindAllStringSubmatch(string(page), -1) {
		listed[m[1]] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(exported)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("names of the registry (-) and of metrics.md (+):\n%s", diff)
	}
}
