package hook

// What a hook did to one token.
const (
	Edited  = "logits"   // it edited the row that the token was drawn from
	Chose   = "sample"   // it chose the token of the row
	Wrote   = "inject"   // it put the token there, without a row
	Steered = "steering" // its steering was in force for the row
)

// A Change is what a hook did to one token.
type Change struct {
	Hook string `json:"hook"`
	What string `json:"what"` // one of the above
	// Instead is the token that would have been there without it, where that is known and
	// another one.
	Instead *int32 `json:"instead,omitempty"`
}

// OfRequest is the name of the steering that the request itself has, among hooks.
const OfRequest = "request"

// Changes says what was done to the token of a position, whose turn it is, and that a
// verdict may have decided; nil for a token that was left alone.
func (c *Chain) Changes(position int, v Verdict) (list []Change) {
	if c == nil {
		return nil
	}
	add := func(hook, what string, instead *int32) { list = append(list, Change{hook, what, instead}) }
	if !v.Forced { // what has no row can be neither edited nor steered
		in := func(s *Steering) bool { return !s.Neutral() && !(s.decodeOnly && position-1 < c.prompt) }
		if in(c.options.Steer) {
			add(OfRequest, Steered, nil)
		}
		for _, l := range c.links {
			if in(l.at(position - 1)) {
				add(l.spec.Name, Steered, nil)
			}
			switch {
			case l.edited != c.turn || l.struck == c.turn:
			case v.By == "":
				add(l.spec.Name, Edited, v.Instead)
			default:
				add(l.spec.Name, Edited, nil)
			}
		}
	}
	switch {
	case v.Forced:
		add(v.By, Wrote, nil)
	case v.By != "":
		add(v.By, Chose, v.Instead)
	}
	return list
}
