package cuda

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// KernelNames says in a few words what will multiply with each matrix of a model: "W4
// tensor cores", or "W3 generic: 3 bits" with what keeps it from a fast kernel. It
// lays the weights out as Place does, and kernels are recorded by that layout.
func KernelNames(w ops.Weights, o Options) (func(*ops.Matrix) string, error) {
	fast, err := o.resolve()
	if err != nil {
		return nil, err
	}
	l := lay(w, fast, 0)
	experts := map[*ops.Matrix]int{} // with how many bits they are in slabs
	for _, m := range w.Mixtures {
		if len(m.Experts) == 0 {
			continue
		}
		placed := l.mixtures[m.Experts[0].Gate]
		for _, e := range m.Experts {
			experts[e.Gate], experts[e.Up], experts[e.Down] = placed.experts.gateUp.bits, placed.experts.gateUp.bits, placed.experts.down.bits
		}
		s := m.Shared
		experts[s.Gate], experts[s.Up], experts[s.Down] = placed.shared.gateUp.bits, placed.shared.gateUp.bits, placed.shared.down.bits
	}
	return func(m *ops.Matrix) string {
		bits, expert := experts[m]
		if placed := l.matrices[m]; !expert && placed != nil {
			bits = placed.slabs.bits
		}
		switch {
		case m == w.Embed && m != w.Head:
			return stored(m) + " lookup"
		case bits == 16:
			return "F16 tensor cores"
		case bits > 0:
			return fmt.Sprintf("W%d tensor cores", bits)
		}
		return stored(m) + " generic: " + o.whyGeneric(m)
	}, nil
}

// stored is how a checkpoint has a matrix: "W4", "BF16".
func stored(m *ops.Matrix) string {
	if m.Layout == ops.Dense {
		return m.Type.String()
	}
	return fmt.Sprintf("W%d", m.Bits)
}

// whyGeneric says what kept a matrix out of slabs.
func (o Options) whyGeneric(m *ops.Matrix) string {
	switch _, why := slabBits(m); {
	case o.Kernels == "generic":
		return "asked for"
	case o.Numerics == Exact:
		return "exact numerics"
	case why != "":
		return why
	}
	return "other experts of the layer are stored otherwise"
}
