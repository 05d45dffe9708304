package metrics

import "github.com/prometheus/client_golang/prometheus"

// Plugin is how a plugin fares, as it is exported.
type Plugin struct {
	Name                                         string
	Ready                                        bool
	Launches, Choices, Calls, Faults, Late, Lost float64
	Own                                          map[string]float64 // metrics of its own, by name
}

// SetPlugins names who says how plugins fare, at each scrape.
func (m *Metrics) SetPlugins(list func() []Plugin) { m.plugins.Store(&list) }

// pluginCollector reads the plugins at each scrape.
type pluginCollector struct{ *Metrics }

func pluginDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
}

var (
	pluginReady    = pluginDesc("ready", "Whether the plugin can be used now.")
	pluginLaunches = pluginDesc("launches_total", "How often the plugin was started.")
	pluginChoices  = pluginDesc("choices", "Choices that use the plugin now.")
	pluginCalls    = pluginDesc("calls_total", "Calls of the plugin's handlers.")
	pluginFaults   = pluginDesc("faults_total", "Calls without an answer that counts.")
	pluginLate     = pluginDesc("late_replies_total", "Replies that came too late, and were ignored.")
	pluginLost     = pluginDesc("events_lost_total", "Events that an observer was too slow for.")
	pluginMetric   = pluginDesc("metric", "What the plugin tells of itself, by name.", "name")
)

// Describe implements prometheus.Collector.
func (pluginCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pluginReady, pluginLaunches, pluginChoices, pluginCalls, pluginFaults, pluginLate, pluginLost, pluginMetric} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c pluginCollector) Collect(out chan<- prometheus.Metric) {
	list := c.plugins.Load()
	if list == nil {
		return
	}
	for _, p := range (*list)() {
		ready := 0.0
		if p.Ready {
			ready = 1
		}
		for d, v := range map[*prometheus.Desc]float64{pluginReady: ready, pluginChoices: p.Choices} {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, p.Name)
		}
		for d, v := range map[*prometheus.Desc]float64{pluginLaunches: p.Launches, pluginCalls: p.Calls, pluginFaults: p.Faults, pluginLate: p.Late, pluginLost: p.Lost} {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, p.Name)
		}
		for name, v := range p.Own {
			out <- prometheus.MustNewConstMetric(pluginMetric, prometheus.GaugeValue, v, p.Name, name)
		}
	}
}
