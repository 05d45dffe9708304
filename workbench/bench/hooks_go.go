package bench

import (
	"embed"
	"math"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Scripts are the hooks that are measured, as a user would write them.
//
//go:embed hooks/*.ts
var Scripts embed.FS

// HookScript is a hook whose cost is measured: as a script of Scripts, and in Go.
type HookScript struct {
	Name   string
	File   string         // of Scripts; "" for Go alone
	Params map[string]any // of the script
	Go     func(m hook.Model) hook.Hook
}

// HookScripts are all that are measured. What the script costs more than the hook in Go
// is the price of JavaScript.
var HookScripts = []HookScript{
	{"empty", "hooks/empty.ts", nil, func(hook.Model) hook.Hook { return &edits{change: func(*hook.Logits) error { return nil }} }},
	{"edits only", "hooks/edits.ts", nil, func(hook.Model) hook.Hook { return &edits{change: someEdits} }},
	{"50 candidates", "hooks/top.ts", map[string]any{"k": 50}, func(hook.Model) hook.Hook {
		return &edits{change: func(l *hook.Logits) error { return keepNear(l, 50) }}
	}},
	{"256 candidates", "hooks/top.ts", map[string]any{"k": 256}, func(hook.Model) hook.Hook {
		return &edits{change: func(l *hook.Logits) error { return keepNear(l, 256) }}
	}},
	{"sampler of 50", "hooks/sampler.ts", nil, func(hook.Model) hook.Hook { return &sampler{} }},
	{"observe routing", "hooks/observe.ts", nil, func(m hook.Model) hook.Hook {
		return &observer{layer: m.Shape.Layers / 2, counts: make([]uint32, m.Shape.Experts)}
	}},
	{"steer every token", "hooks/steer.ts", nil, func(m hook.Model) hook.Hook { return &steerer{layer: m.Shape.Layers / 2} }},
	{"steer once", "hooks/fixed.ts", nil, func(hook.Model) hook.Hook { return &fixed{} }},
	{"wait for 1 ms", "", nil, func(hook.Model) hook.Hook {
		return &edits{budget: 100 * time.Millisecond, change: func(*hook.Logits) error { time.Sleep(time.Millisecond); return nil }}
	}},
}

// edits is a hook that edits logits.
type edits struct {
	hook.None
	budget time.Duration
	change func(*hook.Logits) error
}

// Spec implements hook.Hook.
func (h *edits) Spec() hook.Spec {
	return hook.Spec{Name: "edits", Events: hook.OnLogits, Budget: h.budget}
}

// Logits implements hook.Hook.
func (h *edits) Logits(_ *hook.Call, l *hook.Logits) error { return h.change(l) }

// someEdits is edits.ts.
func someEdits(l *hook.Logits) error {
	if err := l.Bias([]int32{5, 9}, -0.5); err != nil {
		return err
	}
	if err := l.Ban([]int32{11}); err != nil {
		return err
	}
	return l.Set(hook.Temperature, 0.8)
}

// keepNear is top.ts.
func keepNear(l *hook.Logits, k int) error {
	top, err := l.Top(k)
	if err != nil {
		return err
	}
	var kept []int32
	for _, c := range top {
		if c.Logprob > top[0].Logprob-4 {
			kept = append(kept, c.ID)
		}
	}
	return l.Only(kept)
}

// sampler is sampler.ts.
type sampler struct{ hook.None }

// Spec implements hook.Hook.
func (*sampler) Spec() hook.Spec { return hook.Spec{Name: "sampler", Events: hook.OnSample} }

// Sample implements hook.Hook.
func (*sampler) Sample(call *hook.Call, c *hook.Candidates) (id int32, chosen bool, err error) {
	top, err := c.Top()
	if err != nil || len(top) == 0 {
		return 0, false, err
	}
	weights, sum := make([]float64, len(top)), 0.0
	for i, t := range top {
		weights[i] = math.Exp(float64(t.Logprob) / 0.9)
		sum += weights[i]
	}
	left := call.Random() * sum
	for i, w := range weights {
		if left -= w; left < 0 {
			return top[i].ID, true, nil
		}
	}
	return top[len(top)-1].ID, true, nil
}

// observer is observe.ts.
type observer struct {
	hook.None
	layer  int
	counts []uint32
}

// Spec implements hook.Hook.
func (*observer) Spec() hook.Spec { return hook.Spec{Name: "observer", Events: hook.OnRouting} }

// Routing implements hook.Hook.
func (h *observer) Routing(_ *hook.Call, r *hook.Routing) error {
	ids, err := r.Experts(h.layer)
	for _, id := range ids {
		h.counts[id]++
	}
	return err
}

// steerer is steer.ts.
type steerer struct {
	hook.None
	layer int
}

// Spec implements hook.Hook.
func (*steerer) Spec() hook.Spec { return hook.Spec{Name: "steerer", Events: hook.OnRouting} }

// Routing implements hook.Hook.
func (h *steerer) Routing(call *hook.Call, r *hook.Routing) error {
	share, err := r.Share(h.layer, 3, 64)
	if err != nil {
		return err
	}
	return call.Steer.Bias([]int{h.layer}, []int32{3}, -float32(share))
}

// fixed is fixed.ts.
type fixed struct{ hook.None }

// Spec implements hook.Hook.
func (*fixed) Spec() hook.Spec { return hook.Spec{Name: "fixed"} }

// Start implements hook.Hook.
func (*fixed) Start(call *hook.Call) error { return call.Steer.Bias(nil, []int32{3}, -0.5) }
