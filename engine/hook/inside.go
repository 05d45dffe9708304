package hook

import (
	"math"
	"slices"
)

// MaxInside is how many layers the hooks of a request may look into.
const MaxInside = 8

// HiddenRecord is the residual behind some layers of a row that was read.
type HiddenRecord struct {
	Position int
	Prompt   bool
	Layers   []int // ascending
	Width    int
	Values   []float32 // [len(Layers), Width]
}

// Hidden is the residual behind a layer, its steering vector added, of one row.
type Hidden struct {
	Position, Layer int
	values          []float32
	call            *Call
	within          *writing // nil behind the forward pass
}

// Router are the logits of a layer's router for one row, before biases of steering and
// the choice of experts.
type Router struct {
	Position, Layer int
	logits          []float32
	call            *Call
	within          *writing
	k               int
}

// writing collects what a call in the midst of the forward pass writes.
type writing struct{ written []float32 }

// Read returns a copy of the residual, [hidden].
func (h *Hidden) Read() ([]float32, error) {
	if err := h.call.Usable(); err != nil {
		return nil, err
	}
	h.call.wait(ReadHidden)()
	return slices.Clone(h.values), nil
}

// Lens returns the k most likely tokens if this were the residual behind the last layer:
// the logit lens. Nothing may be waited for within the forward pass, and there it is a
// Misuse.
func (h *Hidden) Lens(k int) ([]Candidate, error) {
	if err := h.call.Usable(); err != nil {
		return nil, err
	}
	options := &h.call.chain.options
	switch {
	case k < 1 || k > min(MaxCandidates, options.Tokens):
		return nil, faultf(BadValue, "lens of %d tokens: 1 to %d are possible", k, min(MaxCandidates, options.Tokens))
	case h.within != nil:
		return nil, faultf(Misuse, "lens in a hidden handler that writes: use it in one that only reads")
	case options.Lens == nil:
		return nil, faultf(Unsupported, "lens does not work here: there is no model behind this run")
	}
	defer h.call.wait(ReadLens)()
	source, err := options.Lens(h.values)
	if err != nil {
		return nil, err
	}
	return source.Top(k)
}

// Write makes other values the residual. It works where Spec.Write says so.
func (h *Hidden) Write(values []float32) error {
	if err := h.call.Usable(); err != nil {
		return err
	}
	if h.within == nil {
		return faultf(Misuse, "write in a hidden handler that did not say so: declare hidden: { layers, write: true, at }")
	}
	return h.within.write("the residual", values, len(h.values), false)
}

// Read returns a copy of the logits, [experts].
func (r *Router) Read() ([]float32, error) {
	if err := r.call.Usable(); err != nil {
		return nil, err
	}
	r.call.wait(ReadHidden)()
	return slices.Clone(r.logits), nil
}

// Write makes other values the logits; minus infinity keeps an expert from being chosen,
// and must leave as many as are.
func (r *Router) Write(logits []float32) error {
	if err := r.call.Usable(); err != nil {
		return err
	}
	left := 0
	for _, x := range logits {
		if !math.IsInf(float64(x), -1) {
			left++
		}
	}
	if len(logits) == len(r.logits) && left < r.k {
		return faultf(NothingLeft, "write leaves %d experts, of which %d are chosen", left, r.k)
	}
	return r.within.write("the router logits", logits, len(r.logits), true)
}

// write keeps a copy of the values.
func (w *writing) write(what string, values []float32, width int, bans bool) error {
	if len(values) != width {
		return faultf(BadValue, "write of %d values: %s are %d", len(values), what, width)
	}
	for i, x := range values {
		if x != x || math.IsInf(float64(x), 1) || math.IsInf(float64(x), -1) && !bans {
			return faultf(NotANumber, "write of %v to %s at %d", x, what, i)
		}
	}
	w.written = slices.Clone(values)
	return nil
}

// Inside says where hooks look into the forward pass.
type Inside struct {
	Read         []int // layers whose residual is told behind it; ascending, as the others
	Write, Route []int // layers where hooks are called within it
	Prompt       bool  // of the rows of the prompt too, not only its last
}

// Empty says that they do not.
func (i *Inside) Empty() bool { return len(i.Read)+len(i.Write)+len(i.Route) == 0 }

// Inside returns where the hooks that are still on look in.
func (c *Chain) Inside() (in Inside) {
	if c == nil {
		return in
	}
	for _, l := range c.links {
		if l.off {
			continue
		}
		if l.spec.Events.Has(OnHidden) && l.spec.Write {
			in.Write = union(in.Write, l.spec.Hidden)
		} else if l.spec.Events.Has(OnHidden) {
			in.Read = union(in.Read, l.spec.Hidden)
		}
		if l.spec.Events.Has(OnRoute) {
			in.Route = union(in.Route, l.spec.Route)
		}
		in.Prompt = in.Prompt || l.spec.CaptureAll && l.spec.Events&(OnHidden|OnRoute) != 0
	}
	return in
}

// checkInside refuses layers that are not there, or too many of all hooks together.
func (c *Chain) checkInside(spec *Spec) error {
	in := c.Inside()
	for what, list := range map[string][]int{"hidden": spec.Hidden, "route": spec.Route} {
		if n := len(union(in.Read, list)); what == "hidden" && n > MaxInside || len(list) > MaxInside {
			return faultf(BadValue, "%s of %d layers, those of other hooks among them: %d at most", what, max(n, len(list)), MaxInside)
		}
		for i, layer := range list {
			if layer < 0 || layer >= c.options.Shape.Layers {
				return faultf(BadID, "%s of layer %d: the model has 0 to %d", what, layer, c.options.Shape.Layers-1)
			}
			if i > 0 && layer <= list[i-1] {
				return faultf(BadValue, "%s of layer %d behind %d: layers ascend, each once", what, layer, list[i-1])
			}
		}
	}
	switch {
	case spec.Events.Has(OnHidden) && len(spec.Hidden) == 0:
		return faultf(BadValue, "hidden of no layer: name some")
	case spec.Events.Has(OnRoute) && len(spec.Route) == 0:
		return faultf(BadValue, "route of no layer: name some")
	case spec.Events&(OnHidden|OnRoute) != 0 && c.solo != nil && !c.solo.Inside:
		return faultf(Unsupported, "a hook in another process does not look into the forward pass: make it a script of the folder, or steer")
	}
	return nil
}

// Hidden tells the residual of a row, as Routing tells what it was routed to. The
// record's slices are kept.
func (c *Chain) Hidden(r HiddenRecord) {
	if c != nil && c.wants.Has(OnHidden) {
		kept := r
		c.enqueue(event{position: r.Position, hidden: &kept})
	}
}

// tellHidden delivers a record to a hook, layer by layer.
func (c *Chain) tellHidden(l *link, r *HiddenRecord, at At) error {
	if l.off || l.spec.Write || !l.spec.Events.Has(OnHidden) {
		return nil
	}
	if r.Prompt {
		if at.Phase = InPrompt; !l.spec.CaptureAll && r.Position != c.prompt-1 {
			return nil
		}
	}
	for i, layer := range r.Layers {
		if l.off || !slices.Contains(l.spec.Hidden, layer) {
			continue
		}
		h := &Hidden{Position: r.Position, Layer: layer, values: r.Values[i*r.Width:][:r.Width]}
		call, ok, err := c.call(l, OnHidden, at, func(call *Call) error {
			h.call = call
			return l.Hidden(call, h)
		})
		if err != nil {
			return err
		}
		if ok {
			c.take(call)
		}
	}
	return nil
}

// Place is where in the forward pass a hook is called.
type Place uint8

// Places.
const (
	AtRouter   Place = iota // router logits, before experts are chosen
	AtResidual              // the residual behind a layer
)

// Within calls hooks in the midst of the forward pass of the row at a position, by
// priority, and changes the values in place. What they do beside comes into force with
// the next row. The error ends the choice; values then are as they were.
func (c *Chain) Within(place Place, position, layer int, values []float32) error {
	turn := c.turn
	defer func() { c.turn = turn }()
	c.turn = max(position+1, c.prompt)
	at := At{Position: position, Choice: c.options.Choice, Attempt: c.attempt, Phase: InDecode}
	if position < c.prompt {
		at.Phase = InPrompt
	}
	for _, l := range c.links {
		event, layers := OnRoute, l.spec.Route
		if place == AtResidual {
			event, layers = OnHidden, l.spec.Hidden
		}
		if l.off || !l.spec.Events.Has(event) || place == AtResidual && !l.spec.Write || !slices.Contains(layers, layer) ||
			position < c.prompt-1 && !l.spec.CaptureAll {
			continue
		}
		w := &writing{}
		_, ok, err := c.call(l, event, at, func(call *Call) error {
			if place == AtRouter {
				return l.Route(call, &Router{Position: position, Layer: layer, logits: values, call: call, within: w, k: c.options.Shape.K})
			}
			return l.Hidden(call, &Hidden{Position: position, Layer: layer, values: values, call: call, within: w})
		})
		if err != nil {
			return err
		}
		l.usage.Within++
		if ok && w.written != nil {
			copy(values, w.written)
			l.usage.Written++
		}
	}
	return nil
}
