package engine

// MemoryShare is what a model has taken of memory for one purpose.
type MemoryShare struct {
	Name  string
	Bytes int64
}

// Memory says what the model has taken since it was loaded, on the device that runs it:
// the weights, then what is allocated beside them. Nothing is allocated later.
func (m *Model) Memory() []MemoryShare {
	if m.plan != nil {
		var list []MemoryShare
		for _, s := range m.plan.Shares {
			list = append(list, MemoryShare(s))
		}
		return list
	}
	list := []MemoryShare{{"weights", m.info.WeightBytes}}
	for i, a := range m.arenas {
		list = append(list, MemoryShare{m.names[i], a.Used()})
	}
	return list
}
