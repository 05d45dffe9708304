package engine

import "github.com/roundhouse-ai/roundhouse/engine/cuda"

// MemoryShare is what a model has taken of memory for one purpose, in bytes.
type MemoryShare = cuda.Share

// Memory says what the model has taken since it was loaded, on the device that runs it:
// the weights, then what is allocated beside them. Nothing is allocated later.
func (m *Model) Memory() []MemoryShare {
	if m.plan != nil {
		return m.plan.Shares
	}
	list := []MemoryShare{{Name: "weights", Bytes: m.info.WeightBytes}}
	for _, a := range m.arenas {
		list = append(list, MemoryShare{Name: a.name, Bytes: a.Used()})
	}
	return list
}
