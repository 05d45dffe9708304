package ops

// Steering changes how the rows of a segment are routed: what a backend keeps in
// its steering tables. A nil Steering, and one that changes nothing, give the bits
// of a build without steering.
type Steering struct {
	Layers []LayerSteering // by layer; shorter where the rest is left alone
}

// LayerSteering is the steering of one layer. The zero value changes nothing.
//
// Choice: bias is added to the router logits that experts are ranked by; -Inf bans
// an expert, +Inf forces it to be chosen, before all others. Weights are made of
// the router logits as they were: softmax over all experts, divided by the sum of
// the chosen where the model renormalises. Then they are scaled, and not
// renormalised again.
type LayerSteering struct {
	Bias  []ExpertValue // ids ascending, each once
	Scale []ExpertValue // factor of the weight; ids ascending, each once
	K     int           // experts to choose, 1 to the model's; 0 for the model's
	// Gate is the factor of the shared expert's gate, less one: 0 leaves it alone,
	// -1 turns the shared expert off.
	Gate float32
	// Vector [hidden], times Strength, is added to the residual behind the layer;
	// nil adds nothing.
	Vector   []float32
	Strength float32
}

// ExpertValue is a number for one expert.
type ExpertValue struct {
	Expert int32
	Value  float32
}
