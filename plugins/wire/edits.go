package wire

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// kinds pairs the kinds of edits.
var kinds = map[pb.EditKind]hook.Op{
	pb.EditKind_EDIT_KIND_BIAS: hook.Bias, pb.EditKind_EDIT_KIND_BAN: hook.Ban, pb.EditKind_EDIT_KIND_ONLY: hook.Only,
	pb.EditKind_EDIT_KIND_SCALE: hook.Scale, pb.EditKind_EDIT_KIND_ADD: hook.Add,
}

// Edits makes messages of what was recorded of a row.
func Edits(e *hook.Edits) ([]*pb.Edit, *pb.Settings) {
	var list []*pb.Edit
	for _, x := range e.List() {
		m := &pb.Edit{Ids: x.IDs, Value: x.Value, Sequence: uint32(x.Other)}
		for kind, op := range kinds {
			if op == x.Op {
				m.Kind = kind
			}
		}
		list = append(list, m)
	}
	values := e.Values()
	all := values.All()
	if len(all) == 0 {
		return list, nil
	}
	s := &pb.Settings{}
	for setting, field := range settings(s) {
		if v, ok := all[setting]; ok {
			*field = &v
		}
	}
	return list, s
}

// settings pairs the settings with their fields.
func settings(s *pb.Settings) map[hook.Setting]**float64 {
	return map[hook.Setting]**float64{hook.Temperature: &s.Temperature, hook.TopK: &s.TopK, hook.TopP: &s.TopP, hook.MinP: &s.MinP, hook.Typical: &s.Typical}
}

// ToEdits records the edits of messages, checking each. sequences are the indices of the
// plugin's own sequences beside.
func ToEdits(into *hook.Edits, list []*pb.Edit, s *pb.Settings, sequences []int) error {
	edits := make([]hook.Edit, len(list))
	for i, m := range list {
		op, ok := kinds[m.GetKind()]
		if !ok {
			return &hook.Fault{Kind: hook.Unsupported, Err: fmt.Errorf("edit %v: this version of the host has none", m.GetKind())}
		}
		edits[i] = hook.Edit{Op: op, IDs: m.GetIds(), Value: m.GetValue()}
		if op == hook.Add {
			if int(m.GetSequence()) >= len(sequences) {
				return &hook.Fault{Kind: hook.BadID, Err: fmt.Errorf("add of sequence %d: the plugin has %d", m.GetSequence(), len(sequences))}
			}
			edits[i].Other = sequences[m.GetSequence()]
		}
	}
	values := map[hook.Setting]float64{}
	if s != nil {
		for setting, field := range settings(s) {
			if *field != nil {
				values[setting] = **field
			}
		}
	}
	return into.Adopt(edits, values)
}

// Steering makes a message of steering. Nil is neutral.
func Steering(s *hook.Steering, layers int) *pb.Steering {
	m := &pb.Steering{Layers: map[uint32]*pb.LayerSteering{}}
	if s == nil {
		return m
	}
	m.DecodeOnly = s.DecodeOnly()
	for n := range layers {
		l := s.Layer(n)
		if len(l.Bias)+len(l.Scale)+len(l.Ban)+len(l.Force) == 0 && l.Gate == 1 && l.K == 0 {
			continue
		}
		out := &pb.LayerSteering{Bias: values(l.Bias), Scale: values(l.Scale), Ban: experts(l.Ban), Force: experts(l.Force), TopK: uint32(l.K)}
		if l.Gate != 1 {
			out.Gate = &l.Gate
		}
		m.Layers[uint32(n)] = out
	}
	for _, v := range s.Vectors() {
		m.Vectors = append(m.Vectors, &pb.Vector{Name: v.Name, Values: Floats(v.Values), Layer: uint32(v.Layer), Scale: v.Scale})
	}
	return m
}

func values(list []hook.ExpertValue) map[uint32]float32 {
	out := make(map[uint32]float32, len(list))
	for _, v := range list {
		out[uint32(v.Expert)] = v.Value
	}
	return out
}

func experts(list []int32) (out []uint32) {
	for _, e := range list {
		out = append(out, uint32(e))
	}
	return out
}

// ids reads experts: what does not fit becomes -1, which is no expert.
func ids(list ...uint32) []int32 {
	out := make([]int32, len(list))
	for i, e := range list {
		if out[i] = int32(e); e > 1<<16 {
			out[i] = -1
		}
	}
	return out
}

// ToSteering reads steering for a model. vector finds vectors without values by name; nil
// for none. Errors are *hook.Fault.
func ToSteering(m *pb.Steering, shape hook.Shape, vector func(string) ([]float32, error)) (*hook.Steering, error) {
	s := hook.NewSteering(shape)
	for n, l := range m.GetLayers() {
		if err := toLayer(s, int(min(n, 1<<20)), l); err != nil {
			return nil, err
		}
	}
	for _, v := range m.GetVectors() {
		values, err := ToFloats(v.GetValues(), -1)
		if len(values) == 0 && err == nil {
			if err = errors.New("the host knows no vectors"); vector != nil {
				values, err = vector(v.GetName())
			}
		}
		if err != nil {
			return nil, &hook.Fault{Kind: hook.BadValue, Err: fmt.Errorf("the vector %.64q: %w", v.GetName(), err)}
		}
		if err := s.AddVector(hook.Vector{Name: v.GetName(), Values: values, Layer: int(min(v.GetLayer(), 1<<20)), Scale: v.GetScale()}); err != nil {
			return nil, err
		}
	}
	if m.GetDecodeOnly() {
		s.OnlyDecode()
	}
	return s, nil
}

// toLayer sets what a message has of a layer.
func toLayer(s *hook.Steering, n int, l *pb.LayerSteering) error {
	layer := []int{n}
	for e, v := range l.GetBias() {
		if err := s.Bias(layer, ids(e), v); err != nil {
			return err
		}
	}
	for e, v := range l.GetScale() {
		if err := s.Scale(layer, ids(e), v); err != nil {
			return err
		}
	}
	// k first: more experts can be forced then.
	err := s.TopK(layer, int(min(l.GetTopK(), 1<<20)))
	if err == nil {
		err = s.Ban(layer, ids(l.GetBan()...))
	}
	if err == nil {
		err = s.Force(layer, ids(l.GetForce()...))
	}
	if err == nil && l.Gate != nil {
		err = s.Gate(layer, l.GetGate())
	}
	return err
}
