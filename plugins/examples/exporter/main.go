// Command exporter is a plugin that counts which experts tokens choose, and serves the counts
// to Prometheus on a port of its own. It is an observer: no answer ever waits for it, and
// what it misses under load is counted by the host.
//
//	go build -o ~/.config/roundhouse/plugins/exporter ./plugins/examples/exporter
//
// EXPORTER_LISTEN, which plugins.env has to name, is the address: 127.0.0.1:0, any free port,
// where it is not set; the plugin's log says which.
package main

import (
	"cmp"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

func main() {
	e := newExporter()
	if os.Getenv("ROUNDHOUSE_PLUGIN") != "" { // a host started this
		go e.serve(cmp.Or(os.Getenv("EXPORTER_LISTEN"), "127.0.0.1:0")) // as long as the program
	}
	plugins.Serve(e.plugin())
}

// exporter counts over all answers. Its series are as many as the model has experts.
type exporter struct {
	registry *prometheus.Registry
	tokens   *prometheus.CounterVec
	entropy  *prometheus.GaugeVec
	choices  prometheus.Counter

	mu   sync.Mutex
	load [][]float64 // [layers][experts]
}

func newExporter() *exporter {
	e := &exporter{
		registry: prometheus.NewRegistry(),
		tokens:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "roundhouse_expert_tokens_total", Help: "Tokens that chose an expert."}, []string{"layer", "expert"}),
		entropy:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "roundhouse_expert_load_entropy", Help: "Entropy of the load of a layer's experts, 1 where all have the same."}, []string{"layer"}),
		choices:  prometheus.NewCounter(prometheus.CounterOpts{Name: "roundhouse_expert_answers_total", Help: "Answers that were looked at."}),
	}
	e.registry.MustRegister(e.tokens, e.entropy, e.choices)
	return e
}

// serve serves the counts.
func (e *exporter) serve(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		plugins.Warn("no metrics are served: " + err.Error())
		return
	}
	plugins.Log("metrics are at http://" + listener.Addr().String() + "/metrics")
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	plugins.Warn("metrics: " + server.Serve(listener).Error())
}

func (e *exporter) plugin() *plugins.Plugin {
	return &plugins.Plugin{
		Name: "exporter", Version: "1.0", Description: "counts of chosen experts, for Prometheus", Observer: true,
		New: func(s *plugins.Sequence) (any, error) {
			e.choices.Inc()
			return &watcher{e, e.shape(s.Model.Shape.Layers, s.Model.Shape.Experts)}, nil
		},
	}
}

// shape makes room for a model, and returns it: answers that run on while another model comes
// keep their own.
func (e *exporter) shape(layers, experts int) [][]float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.load) == layers && len(e.load[0]) == experts {
		return e.load
	}
	e.load = make([][]float64, layers)
	for layer := range e.load {
		e.load[layer] = make([]float64, experts)
	}
	return e.load
}

// watcher is one choice.
type watcher struct {
	*exporter
	load [][]float64 // of its model
}

// Routing implements plugins.RoutingHook.
func (w *watcher) Routing(_ *plugins.Call, r *plugins.Routing) error {
	for layer := range r.Layers {
		ids, err := r.Experts(layer)
		if err != nil {
			return err
		}
		name := strconv.Itoa(layer)
		for _, id := range ids {
			w.tokens.WithLabelValues(name, strconv.Itoa(int(id))).Inc()
		}
		w.entropy.WithLabelValues(name).Set(w.add(layer, ids))
	}
	return nil
}

// add counts the experts of a row, and returns the entropy of their layer's load.
func (w *watcher) add(layer int, ids []uint16) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	load, sum, h := w.load[layer], 0.0, 0.0
	for _, id := range ids {
		load[id]++
	}
	for _, n := range load {
		sum += n
	}
	for _, n := range load {
		if n > 0 {
			h -= n / sum * math.Log(n/sum)
		}
	}
	return h / math.Log(float64(len(load)))
}

// Finish implements plugins.FinishHook.
func (w *watcher) Finish(*plugins.Call, *plugins.Finish) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	unused := 0
	for _, load := range w.load {
		for _, n := range load {
			if n == 0 {
				unused++
			}
		}
	}
	plugins.Metric("unused_experts", float64(unused))
	return nil
}
