// Package metrics exports the counters of the engine, and the times of the
// requests that it is told of, to Prometheus. metrics.md of the handbook lists
// every name; names are vLLM's where vLLM has the thing.
package metrics

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

const namespace = "roundhouse"

// Source is what engine counters are read from, at each scrape; *engine.Model
// is one.
type Source interface {
	Info() engine.Info
	Stats() engine.Stats
}

// Metrics is a registry of its own with what a server exports.
type Metrics struct {
	registry *prometheus.Registry
	source   atomic.Pointer[Source]

	firstToken, perToken, total, queued, prefill, decode prometheus.Histogram
	prompt, completion                                   prometheus.Histogram
	hookCalls, hookSeconds, degraded                     prometheus.Counter
	hookFaults                                           *prometheus.CounterVec
	hooks                                                atomic.Pointer[Hooks]
	plugins                                              atomic.Pointer[func() []Plugin]
}

// Hooks is what counters of hooks are read from, at each scrape.
type Hooks interface {
	Abandoned() int
}

// New makes the registry. Before SetSource it has no engine metrics.
func New(version, commit string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	seconds := func(name, help string, low float64, doublings int) prometheus.Histogram {
		return m.histogram(name, help, prometheus.ExponentialBuckets(low, 2, doublings))
	}
	m.firstToken = seconds("time_to_first_token_seconds", "Time from a request's arrival to its first token.", 0.005, 16)
	m.perToken = seconds("time_per_output_token_seconds", "Mean time of a token after the first, by choice.", 0.001, 14)
	m.total = seconds("e2e_request_latency_seconds", "Time from a request's arrival to its end.", 0.01, 18)
	m.queued = seconds("request_queue_time_seconds", "Time that a request waited for its first step.", 0.001, 18)
	m.prefill = seconds("request_prefill_time_seconds", "Time that reading the prompt took.", 0.005, 16)
	m.decode = seconds("request_decode_time_seconds", "Time from the first token to the last.", 0.01, 18)
	m.prompt = m.histogram("request_prompt_tokens", "Prompt tokens of a request.", prometheus.ExponentialBuckets(1, 2, 19))
	m.completion = m.histogram("request_generation_tokens", "Tokens made for a choice.", prometheus.ExponentialBuckets(1, 2, 19))
	m.countHooks()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version of the program.",
	}, []string{"version", "commit"})
	build.WithLabelValues(version, commit).Set(1)
	m.registry.MustRegister(build, engineCollector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// countHooks makes the counters of hooks.
func (m *Metrics) countHooks() {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	m.hookCalls = counter("hook_calls_total", "Calls of hooks' handlers.")
	m.hookSeconds = counter("hook_seconds_total", "Time that hooks took, reads not counted.")
	m.degraded = counter("hook_degraded_tokens_total", "Tokens that took the default because a hook failed.")
	m.hookFaults = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "hook_faults_total", Help: "Failures of hooks, by kind."}, []string{"kind"})
	for kind := hook.Exception; kind <= hook.Unsupported; kind++ {
		m.hookFaults.WithLabelValues(kind.String()) // so that a rate can be taken from the first scrape
	}
	abandoned := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "hook_machines_abandoned", Help: "Scripts that could not be stopped and still run.",
	}, func() float64 {
		if h := m.hooks.Load(); h != nil {
			return float64((*h).Abandoned())
		}
		return 0
	})
	m.registry.MustRegister(m.hookFaults, abandoned, pluginCollector{m})
}

// SetHooks names the hooks whose state is exported from now on.
func (m *Metrics) SetHooks(h Hooks) { m.hooks.Store(&h) }

// observe counts what the hooks of a choice did.
func (m *Metrics) observe(r hook.Report) {
	m.degraded.Add(float64(r.Degraded))
	for _, u := range r.Hooks {
		m.hookCalls.Add(float64(u.Calls))
		m.hookSeconds.Add(u.Time.Seconds())
		for kind, n := range u.Faults {
			m.hookFaults.WithLabelValues(hook.ParseFaultKind(kind).String()).Add(float64(n))
		}
	}
}

// SetSource names the model whose counters are exported from now on.
func (m *Metrics) SetSource(s Source) { m.source.Store(&s) }

// Observe counts a request that has ended: its choices share queue and prefill.
// Choices that failed have no times worth counting; the engine counts them.
func (m *Metrics) Observe(outcomes []engine.Outcome) {
	first := true
	for _, o := range outcomes {
		r := o.Result
		m.observe(r.Hooks)
		if o.Err != nil || r.Completion == 0 {
			continue
		}
		if first {
			first = false
			m.queued.Observe(r.Queued.Seconds())
			m.prefill.Observe(r.Prefill.Seconds())
			m.firstToken.Observe((r.Queued + r.Prefill).Seconds())
			m.prompt.Observe(float64(r.Prompt))
		}
		m.total.Observe((r.Queued + r.Prefill + r.Decode).Seconds())
		m.decode.Observe(r.Decode.Seconds())
		m.completion.Observe(float64(r.Completion))
		if r.Completion > 1 {
			m.perToken.Observe(r.Decode.Seconds() / float64(r.Completion-1))
		}
	}
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 10 * time.Second})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// number is a metric that is one value of the engine's Stats.
type number struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(engine.Stats) float64
}

func gauge(name, help string, value func(engine.Stats) float64) number {
	return number{desc(name, help), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(engine.Stats) float64) number {
	return number{desc(name, help), prometheus.CounterValue, value}
}

var numbers = []number{
	gauge("num_requests_running", "Streams in the batch.", func(s engine.Stats) float64 { return float64(s.Running) }),
	gauge("num_requests_waiting", "Requests in the queue.", func(s engine.Stats) float64 { return float64(s.Queued) }),
	gauge("num_requests_swapped", "Streams put aside under overcommit.", func(s engine.Stats) float64 { return float64(s.Swapped) }),
	gauge("kv_cache_usage_perc", "Share of the KV pages in use, 0 to 1.", func(s engine.Stats) float64 { return share(s.PagesUsed, s.PagesTotal) }),
	gauge("kv_pages_used", "KV pages in use.", func(s engine.Stats) float64 { return float64(s.PagesUsed) }),
	gauge("kv_pages", "KV pages of the pool.", func(s engine.Stats) float64 { return float64(s.PagesTotal) }),
	gauge("state_slots_used", "Recurrent-state slots in use.", func(s engine.Stats) float64 { return float64(s.SlotsUsed) }),
	gauge("state_slots", "Recurrent-state slots of the pool.", func(s engine.Stats) float64 { return float64(s.SlotsTotal) }),
	counter("prompt_tokens_total", "Prompt tokens read.", func(s engine.Stats) float64 { return float64(s.PromptTokens) }),
	counter("generation_tokens_total", "Tokens made.", func(s engine.Stats) float64 { return float64(s.GeneratedTokens) }),
	counter("requests_admitted_total", "Requests taken from the queue into the batch.", func(s engine.Stats) float64 { return float64(s.Admitted) }),
	counter("requests_refused_total", "Requests refused because the queue was full.", func(s engine.Stats) float64 { return float64(s.Refused) }),
	counter("num_preemptions_total", "Streams put aside under overcommit.", func(s engine.Stats) float64 { return float64(s.Preempted) }),
	counter("num_restorations_total", "Streams brought back after they were put aside.", func(s engine.Stats) float64 { return float64(s.Restored) }),
	counter("step_decode_rows_total", "Decode rows of all steps; by steps_total, the mean batch.", func(s engine.Stats) float64 { return float64(s.Steps.BatchRows) }),
}

var (
	finished     = desc("request_success_total", "Choices that ended, by why: stop, length, cancelled or error.", "finished_reason")
	steps        = desc("steps_total", "Steps, by what they held: decode, prefill or mixed.", "kind")
	stepDuration = desc("step_duration_seconds", "Wall time of a step.")
	phaseTime    = desc("phase_seconds_total", "Wall time of the forward pass, by phase.", "phase")
	modelInfo    = desc("model_info", "1, with the model and what it runs on.", "model", "fingerprint", "backend", "kernels", "numerics")
)

// reasons are always exported, so that a rate can be taken from the first scrape.
var reasons = []string{"stop", "length", "cancelled", "error"}

func share(used, total int) float64 {
	if total == 0 {
		return 0
	}
	return float64(used) / float64(total)
}

// engineCollector reads the source's counters at each scrape.
type engineCollector struct{ m *Metrics }

// Describe implements prometheus.Collector.
func (engineCollector) Describe(out chan<- *prometheus.Desc) {
	for _, n := range numbers {
		out <- n.desc
	}
	for _, d := range []*prometheus.Desc{finished, steps, stepDuration, phaseTime, modelInfo} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c engineCollector) Collect(out chan<- prometheus.Metric) {
	source := c.m.source.Load()
	if source == nil {
		return
	}
	stats, info := (*source).Stats(), (*source).Info()
	for _, n := range numbers {
		out <- prometheus.MustNewConstMetric(n.desc, n.kind, n.value(stats))
	}
	count := func(d *prometheus.Desc, v float64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, label)
	}
	for _, reason := range reasons {
		count(finished, float64(stats.Finished[reason]), reason)
	}
	count(steps, float64(stats.Steps.Decode), "decode")
	count(steps, float64(stats.Steps.Prefill), "prefill")
	count(steps, float64(stats.Steps.Mixed), "mixed")
	for phase, took := range stats.PhaseTimes {
		count(phaseTime, took.Seconds(), ops.Phase(phase).String())
	}
	total, buckets := cumulative(stats.Steps)
	out <- prometheus.MustNewConstHistogram(stepDuration, total, stats.Steps.Seconds, buckets)
	out <- prometheus.MustNewConstMetric(modelInfo, prometheus.GaugeValue, 1,
		info.Name, info.Fingerprint, info.Backend.Name, info.Backend.Kernels, info.Backend.Numerics)
}

// cumulative turns counts of buckets into Prometheus' counts of all below.
func cumulative(s engine.StepStats) (total uint64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(s.Bounds))
	for i, n := range s.Buckets {
		total += n
		if i < len(s.Bounds) {
			buckets[s.Bounds[i]] = total
		}
	}
	return total, buckets
}
