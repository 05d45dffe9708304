package hook

import "slices"

// MaxWindow is how many tokens back a hook can look at routing.
const MaxWindow = 256

// history is the routing that one hook has been told.
type history struct {
	ring   [MaxWindow]*Record
	told   int      // records so far
	kept   int      // of them, in the ring
	counts []uint32 // [layer, expert]
}

// add takes a record in; it is not changed from here on.
func (h *history) add(r *Record, experts int) {
	if h.counts == nil {
		h.counts = make([]uint32, r.Layers*experts)
	}
	h.ring[h.told%MaxWindow] = r
	h.told, h.kept = h.told+1, min(h.kept+1, MaxWindow)
	for layer := range r.Layers {
		for _, id := range r.of(layer) {
			if int(id) < experts {
				h.counts[layer*experts+int(id)]++
			}
		}
	}
}

// Routing is what a row was routed to, and what the hook was told before.
type Routing struct {
	*Record
	call    *Call
	history *history
	experts int
	back    int // records before the newest
}

// Experts returns the ids that a layer chose, best first.
func (r *Routing) Experts(layer int) ([]uint16, error) {
	if err := r.check(layer); err != nil {
		return nil, err
	}
	ids := r.of(layer)
	if none := slices.Index(ids, NoExpert); none >= 0 {
		ids = ids[:none]
	}
	return slices.Clone(ids), nil
}

// Applied returns the weights of the experts that a layer chose, likewise.
func (r *Routing) Applied(layer int) ([]float32, error) {
	ids, err := r.Experts(layer)
	if err != nil {
		return nil, err
	}
	return slices.Clone(r.Weights[layer*r.K:][:len(ids)]), nil
}

// Counts returns how often a layer chose each expert, over all that the hook was told.
func (r *Routing) Counts(layer int) ([]uint32, error) {
	if err := r.check(layer); err != nil {
		return nil, err
	}
	return slices.Clone(r.history.counts[layer*r.experts:][:r.experts]), nil
}

// Share returns the part of the last window tokens, this one included, for which a
// layer chose an expert. Of fewer tokens there are, it is the part of those.
func (r *Routing) Share(layer, expert, window int) (float64, error) {
	if err := r.check(layer); err != nil {
		return 0, err
	}
	if expert < 0 || expert >= r.experts {
		return 0, faultf(BadID, "expert %d: ids lie in 0 to %d", expert, r.experts-1)
	}
	if window < 1 || window > MaxWindow {
		return 0, faultf(BadValue, "a window of %d tokens: 1 to %d are kept", window, MaxWindow)
	}
	newest := r.history.told - 1 - r.back
	window = min(window, r.history.kept-r.back)
	chosen := 0
	for i := range window {
		if slices.Contains(r.history.ring[(newest-i)%MaxWindow].of(layer), uint16(expert)) {
			chosen++
		}
	}
	return float64(chosen) / float64(window), nil
}

// Overlap returns which part of the experts two rows have in common, over all layers.
func (r *Routing) Overlap(other *Routing) (float64, error) {
	if err := r.check(0); err != nil {
		return 0, err
	}
	common, all := 0, 0
	for layer := range min(r.Layers, other.Layers) {
		theirs := other.of(layer)
		for _, id := range r.of(layer) {
			if id == NoExpert {
				continue
			}
			if all++; slices.Contains(theirs, id) {
				common++
			}
		}
	}
	return float64(common) / float64(max(all, 1)), nil
}

// Back returns what the hook was told n records ago; nil where that is no longer, or
// not yet, known.
func (r *Routing) Back(n int) *Routing {
	at := r.history.told - 1 - r.back - n
	if n < 0 || r.back+n >= r.history.kept {
		return nil
	}
	c := *r
	c.Record, c.back = r.history.ring[at%MaxWindow], r.back+n
	return &c
}

func (r *Routing) check(layer int) error {
	if layer < 0 || layer >= r.Layers {
		return faultf(BadID, "layer %d: the model has 0 to %d", layer, r.Layers-1)
	}
	return r.call.Usable()
}
