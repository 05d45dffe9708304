package hook

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"slices"
)

// Shape is what steering must fit.
type Shape struct {
	Layers, Experts int
	K               int // experts that a token chooses
	MaxK            int // that the engine can choose; 0 stands for K
	Hidden          int
}

// MaxK is the most experts that any engine lets a token choose.
const MaxK = 16

// Bounds of steering.
const (
	maxVectors  = 64
	maxStrength = 1e4
)

// Steering changes how a sequence is routed, layer by layer, until it is changed
// again: unlike an edit of logits, a value set twice is set, not added. It starts
// neutral. Every method takes a list of layers, nil for all, checks what it is given,
// and changes nothing when it refuses it. Errors are *Fault.
type Steering struct {
	shape      Shape
	layers     []*LayerSteering // nil where neutral; shared between copies, not written to
	vectors    []Vector         // likewise
	decodeOnly bool
	changes    int
}

// ExpertValue is a number for one expert.
type ExpertValue struct {
	Expert int32
	Value  float32
}

// LayerSteering is the steering of one layer. Bias is added to the router logits that
// experts are ranked by; weights are made of the logits as they were, then scaled, and
// not renormalised again. A forced expert takes the place of the weakest.
type LayerSteering struct {
	Bias  []ExpertValue // ids ascending, each once; likewise below
	Scale []ExpertValue // factors of weights
	Ban   []int32
	Force []int32
	Gate  float32 // factor of the shared expert's gate; 1 for none
	K     int     // experts to choose; 0 for the model's
}

// Vector is added to the residual at the end of a layer, times Scale.
type Vector struct {
	Name   string // where it has one
	Values []float32
	Layer  int
	Scale  float32
}

// NewSteering returns neutral steering for a model.
func NewSteering(shape Shape) *Steering {
	if shape.MaxK == 0 {
		shape.MaxK = shape.K
	}
	shape.MaxK = min(shape.MaxK, MaxK, shape.Experts)
	return &Steering{shape: shape, layers: make([]*LayerSteering, shape.Layers)}
}

// Layer returns the steering of a layer.
func (s *Steering) Layer(n int) LayerSteering {
	if s.layers[n] == nil {
		return LayerSteering{Gate: 1}
	}
	return *s.layers[n]
}

// Vectors returns the vectors that are added. They are not to be written to.
func (s *Steering) Vectors() []Vector { return s.vectors }

// DecodeOnly says that prompt rows are left alone.
func (s *Steering) DecodeOnly() bool { return s.decodeOnly }

// Neutral says that nothing is changed. Nil is neutral.
func (s *Steering) Neutral() bool {
	return s == nil || len(s.vectors) == 0 && !slices.ContainsFunc(s.layers, func(l *LayerSteering) bool { return l != nil })
}

func (l *LayerSteering) neutral() bool {
	return len(l.Bias)+len(l.Scale)+len(l.Ban)+len(l.Force) == 0 && l.Gate == 1 && l.K == 0
}

// Bias adds a value to the router logits of experts; 0 takes it back.
func (s *Steering) Bias(layers []int, experts []int32, value float32) error {
	if err := within("bias", value, -maxStrength, maxStrength); err != nil {
		return err
	}
	return s.edit(layers, experts, func(l *LayerSteering) { l.Bias = set(l.Bias, experts, value, 0) })
}

// Scale multiplies the weights of experts, where they are chosen; 1 takes it back.
func (s *Steering) Scale(layers []int, experts []int32, factor float32) error {
	if err := within("scale", factor, -maxStrength, maxStrength); err != nil {
		return err
	}
	return s.edit(layers, experts, func(l *LayerSteering) { l.Scale = set(l.Scale, experts, factor, 1) })
}

// Ban keeps experts from being chosen.
func (s *Steering) Ban(layers []int, experts []int32) error {
	return s.edit(layers, experts, func(l *LayerSteering) { l.Ban = union(l.Ban, experts) })
}

// Force has experts chosen, in the place of the weakest.
func (s *Steering) Force(layers []int, experts []int32) error {
	return s.edit(layers, experts, func(l *LayerSteering) { l.Force = union(l.Force, experts) })
}

// Gate multiplies the gate of the shared expert; 1 takes it back.
func (s *Steering) Gate(layers []int, factor float32) error {
	if err := within("gate", factor, -maxStrength, maxStrength); err != nil {
		return err
	}
	return s.edit(layers, nil, func(l *LayerSteering) { l.Gate = factor })
}

// TopK sets how many experts a token chooses; 0 for the model's number.
func (s *Steering) TopK(layers []int, k int) error {
	if k < 0 || k > s.shape.MaxK {
		return faultf(BadValue, "topK of %d experts: the engine chooses 1 to %d of this model, 0 stands for its own %d", k, s.shape.MaxK, s.shape.K)
	}
	return s.edit(layers, nil, func(l *LayerSteering) { l.K = k })
}

// AddVector adds a vector to the residual behind a layer. One of the same name at the
// same layer is replaced.
func (s *Steering) AddVector(v Vector) error {
	if err := within("strength of the vector", v.Scale, -maxStrength, maxStrength); err != nil {
		return err
	}
	if v.Layer < 0 || v.Layer >= s.shape.Layers {
		return faultf(BadID, "a vector at layer %d: the model has 0 to %d", v.Layer, s.shape.Layers-1)
	}
	if len(v.Values) != s.shape.Hidden {
		return faultf(BadValue, "a vector of %d values: the hidden size is %d", len(v.Values), s.shape.Hidden)
	}
	for i, x := range v.Values {
		if x-x != 0 {
			return faultf(NotANumber, "value %d of the vector is %v", i, x)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(s.vectors), func(o Vector) bool { return v.Name != "" && o.Name == v.Name && o.Layer == v.Layer })
	if len(kept) >= maxVectors {
		return faultf(BadValue, "one more vector: %d are in force, the most there can be", len(kept))
	}
	v.Values = slices.Clone(v.Values)
	if v.Scale != 0 {
		kept = append(kept, v)
	}
	s.vectors = kept
	s.changes++
	return nil
}

// OnlyDecode leaves the rows of the prompt alone.
func (s *Steering) OnlyDecode() {
	if !s.decodeOnly {
		s.decodeOnly = true
		s.changes++
	}
}

// Clear takes back what was set of some layers, but for vectors.
func (s *Steering) Clear(layers []int) error {
	return s.edit(layers, nil, func(l *LayerSteering) { *l = LayerSteering{Gate: 1} })
}

// Reset makes the steering neutral again.
func (s *Steering) Reset() {
	if !s.Neutral() || s.decodeOnly {
		*s = Steering{shape: s.shape, layers: make([]*LayerSteering, s.shape.Layers), changes: s.changes + 1}
	}
}

// edit changes copies of some layers, and keeps them when all are valid.
func (s *Steering) edit(layers []int, experts []int32, change func(*LayerSteering)) error {
	for _, e := range experts {
		if e < 0 || int(e) >= s.shape.Experts {
			return faultf(BadID, "expert %d: ids lie in 0 to %d", e, s.shape.Experts-1)
		}
	}
	if layers == nil {
		layers = make([]int, s.shape.Layers)
		for i := range layers {
			layers[i] = i
		}
	}
	changed := slices.Clone(s.layers)
	for _, n := range layers {
		if n < 0 || n >= s.shape.Layers {
			return faultf(BadID, "layer %d: the model has 0 to %d", n, s.shape.Layers-1)
		}
		l := s.Layer(n)
		change(&l)
		if err := l.check(n, s.shape); err != nil {
			return err
		}
		if changed[n] = &l; l.neutral() {
			changed[n] = nil
		}
	}
	if !slices.EqualFunc(changed, s.layers, same) {
		s.layers = changed
		s.changes++
	}
	return nil
}

// same compares two layers by value.
func same(a, b *LayerSteering) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Bias, b.Bias) && slices.Equal(a.Scale, b.Scale) && slices.Equal(a.Ban, b.Ban) &&
		slices.Equal(a.Force, b.Force) && a.Gate == b.Gate && a.K == b.K
}

// check refuses a layer that contradicts itself or leaves too little.
func (l *LayerSteering) check(n int, shape Shape) error {
	for _, e := range l.Force {
		if _, banned := slices.BinarySearch(l.Ban, e); banned {
			return faultf(BadValue, "layer %d: expert %d is both forced and banned; clear one first", n, e)
		}
	}
	k := l.K
	if k == 0 {
		k = shape.K
	}
	if len(l.Force) > k {
		return faultf(BadValue, "layer %d: %d experts are forced where %d are chosen", n, len(l.Force), k)
	}
	if left := shape.Experts - len(l.Ban); left < k {
		return faultf(NothingLeft, "layer %d: %d of %d experts are banned, which leaves fewer than the %d to choose", n, len(l.Ban), shape.Experts, k)
	}
	return nil
}

// within refuses numbers that are none, or outside a range.
func within(what string, v float32, low, high float64) error {
	switch {
	case v != v:
		return faultf(NotANumber, "%s of NaN", what)
	case !(float64(v) >= low && float64(v) <= high):
		return faultf(BadValue, "%s of %v: it lies in %g to %g", what, v, low, high)
	}
	return nil
}

// set returns the list with the value of some experts; off is what leaves it out.
func set(list []ExpertValue, experts []int32, value, off float32) []ExpertValue {
	list = slices.Clone(list)
	for _, e := range experts {
		at, found := slices.BinarySearchFunc(list, e, func(v ExpertValue, e int32) int { return int(v.Expert) - int(e) })
		switch {
		case found && value == off:
			list = slices.Delete(list, at, at+1)
		case found:
			list[at].Value = value
		case value != off:
			list = slices.Insert(list, at, ExpertValue{e, value})
		}
	}
	return list
}

// union returns what either list holds, ascending, each once.
func union[T int | int32](list, more []T) []T {
	list = append(slices.Clone(list), more...)
	slices.Sort(list)
	return slices.Compact(list)
}

// behind adds the steering of a client with a lower priority: biases add up, scales
// and gates multiply, bans and forced experts of both hold, k counts where there is
// none, vectors of both are added. It refuses what contradicts, and then changes
// nothing.
func (s *Steering) behind(o *Steering) error {
	changed := slices.Clone(s.layers)
	for n, theirs := range o.layers {
		if theirs == nil {
			continue
		}
		l := s.Layer(n)
		for _, v := range theirs.Bias {
			l.Bias = set(l.Bias, []int32{v.Expert}, value(l.Bias, v.Expert, 0)+v.Value, 0)
		}
		for _, v := range theirs.Scale {
			l.Scale = set(l.Scale, []int32{v.Expert}, value(l.Scale, v.Expert, 1)*v.Value, 1)
		}
		l.Ban, l.Force = union(l.Ban, theirs.Ban), union(l.Force, theirs.Force)
		if l.Gate *= theirs.Gate; l.K == 0 {
			l.K = theirs.K
		}
		if err := l.check(n, s.shape); err != nil {
			return err
		}
		if changed[n] = &l; l.neutral() {
			changed[n] = nil
		}
	}
	if len(s.vectors)+len(o.vectors) > maxVectors {
		return faultf(BadValue, "%d vectors of several hooks: %d at most", len(s.vectors)+len(o.vectors), maxVectors)
	}
	s.layers, s.vectors = changed, append(slices.Clone(s.vectors), o.vectors...)
	return nil
}

// value returns the value of an expert, or what stands for none.
func value(list []ExpertValue, expert int32, none float32) float32 {
	for _, v := range list {
		if v.Expert == expert {
			return v.Value
		}
	}
	return none
}

// Digest names what steering does to the rows of a prompt, for the key of a prefix
// cache: equal only where all numbers are; "" for neutral steering.
func (s *Steering) Digest() string {
	if s.Neutral() {
		return ""
	}
	h := sha256.New()
	put(h, 1, uint64(s.shape.Layers), uint64(s.shape.Experts))
	for n, l := range s.layers {
		if l == nil {
			continue
		}
		put(h, uint64(n), word32(l.Gate), uint64(l.K), uint64(len(l.Bias)), uint64(len(l.Scale)), uint64(len(l.Ban)), uint64(len(l.Force)))
		for _, v := range slices.Concat(l.Bias, l.Scale) {
			put(h, uint64(v.Expert), word32(v.Value))
		}
		for _, e := range slices.Concat(l.Ban, l.Force) {
			put(h, uint64(e))
		}
	}
	for _, v := range s.vectors {
		put(h, uint64(v.Layer), word32(v.Scale), uint64(len(v.Values)))
		for _, x := range v.Values {
			put(h, word32(x))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func word32(v float32) uint64 { return uint64(math.Float32bits(v)) }

func put(h hash.Hash, words ...uint64) {
	for _, w := range words {
		h.Write(binary.LittleEndian.AppendUint64(nil, w))
	}
}
