// Command entropy is a plugin that draws boldly where the model is sure and with care where it is
// not: the temperature falls from high to low as the entropy of a row rises from 0 to limit.
//
//	go build -o ~/.config/roundhouse/plugins/entropy ./plugins/examples/entropy
package main

import "github.com/roundhouse-ai/roundhouse/plugins"

func main() { plugins.Serve(plugin()) }

func plugin() *plugins.Plugin {
	zero := 0.0
	return &plugins.Plugin{
		Name: "entropy", Version: "1.0", Description: "a temperature by the entropy of each row",
		Params: plugins.Params{
			"high":  {Type: "number", Default: 1.2, Minimum: &zero, Description: "temperature of a row without entropy"},
			"low":   {Type: "number", Default: 0.3, Minimum: &zero, Description: "temperature from limit on"},
			"limit": {Type: "number", Default: 3.0, Minimum: &zero, Description: "entropy in nats"},
		},
		Riding: plugins.Riding{Entropy: true},
		New: func(s *plugins.Sequence) (any, error) {
			number := func(name string) float64 { return s.Params[name].(float64) }
			return &sampler{number("high"), number("low"), number("limit")}, nil
		},
	}
}

// sampler is one choice.
type sampler struct{ high, low, limit float64 }

// Logits implements plugins.LogitsHook.
func (s *sampler) Logits(_ *plugins.Call, l *plugins.Logits) error {
	h, err := l.Entropy()
	if err != nil {
		return err
	}
	share := 1.0
	if s.limit > 0 {
		share = min(float64(h)/s.limit, 1)
	}
	return l.Set(plugins.Temperature, s.high+(s.low-s.high)*share)
}
