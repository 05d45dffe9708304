// Command balancer is a plugin that spreads the load over the experts: those that were chosen
// more often than others lately get a bias against them, those that were chosen less one in
// their favour, without any loss to train (the rule is that of auxiliary-loss-free balancing,
// DeepSeek-V3, section 2.1.2, applied while the model runs).
//
//	go build -o ~/.config/roundhouse/plugins/balancer ./plugins/examples/balancer
package main

import (
	"math"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

func main() { plugins.Serve(plugin()) }

func plugin() *plugins.Plugin {
	zero, least, most := 0.0, 1.0, 1000.0
	return &plugins.Plugin{
		Name: "balancer", Version: "1.0", Description: "biases the router towards experts that had little to do",
		Params: plugins.Params{
			"rate":   {Type: "number", Default: 0.02, Minimum: &zero, Description: "of a bias, for each token"},
			"limit":  {Type: "number", Default: 1.0, Minimum: &zero, Description: "most that a bias can be"},
			"window": {Type: "integer", Default: 64.0, Minimum: &least, Maximum: &most, Description: "tokens that count"},
		},
		New: func(s *plugins.Sequence) (any, error) {
			b := &balancer{rate: s.Params["rate"].(float64), limit: s.Params["limit"].(float64), window: int(s.Params["window"].(float64))}
			for range s.Model.Shape.Layers {
				b.bias = append(b.bias, make([]float64, s.Model.Shape.Experts))
				b.load = append(b.load, make([]int, s.Model.Shape.Experts))
			}
			return b, nil
		},
	}
}

// balancer is one choice.
type balancer struct {
	rate, limit float64
	window      int
	bias        [][]float64 // [layers][experts]
	load        [][]int     // of the window, likewise
	rows        []row
}

// row is what one row was routed to.
type row struct {
	position int
	experts  [][]uint16 // [layers]
}

// Routing implements plugins.RoutingHook.
func (b *balancer) Routing(c *plugins.Call, r *plugins.Routing) error {
	now := row{r.Position, make([][]uint16, r.Layers)}
	for layer := range now.experts {
		ids, err := r.Experts(layer)
		if err != nil {
			return err
		}
		now.experts[layer] = ids
	}
	b.count(now, 1)
	if b.rows = append(b.rows, now); len(b.rows) > b.window {
		b.count(b.rows[0], -1)
		b.rows = b.rows[1:]
	}
	spread := 0.0
	for layer := range b.bias {
		if err := b.steer(c, layer); err != nil {
			return err
		}
		spread += variation(b.load[layer]) / float64(r.Layers)
	}
	return c.Emit("variation", spread)
}

// Rewound implements plugins.RewoundHook.
func (b *balancer) Rewound(to int) {
	for len(b.rows) > 0 && b.rows[len(b.rows)-1].position >= to {
		b.count(b.rows[len(b.rows)-1], -1)
		b.rows = b.rows[:len(b.rows)-1]
	}
}

// count adds a row to the load, or takes it away.
func (b *balancer) count(r row, times int) {
	for layer, ids := range r.experts {
		for _, id := range ids {
			b.load[layer][id] += times
		}
	}
}

// steer moves the biases of a layer by one step.
func (b *balancer) steer(c *plugins.Call, layer int) error {
	total := 0
	for _, n := range b.load[layer] {
		total += n
	}
	mean := float64(total) / float64(len(b.load[layer]))
	for expert, n := range b.load[layer] {
		step := 0.0
		if over := float64(n) - mean; over != 0 {
			step = -math.Copysign(b.rate, over)
		}
		v := min(max(b.bias[layer][expert]+step, -b.limit), b.limit)
		if v == b.bias[layer][expert] {
			continue
		}
		b.bias[layer][expert] = v
		if err := c.Steer.Bias([]int{layer}, []int32{int32(expert)}, float32(v)); err != nil {
			return err
		}
	}
	return nil
}

// variation is the coefficient of variation of a load: 0 where all have the same.
func variation(load []int) float64 {
	sum, squares := 0.0, 0.0
	for _, n := range load {
		sum += float64(n)
	}
	mean := sum / float64(len(load))
	for _, n := range load {
		squares += (float64(n) - mean) * (float64(n) - mean)
	}
	if mean == 0 {
		return 0
	}
	return math.Sqrt(squares/float64(len(load))) / mean
}
