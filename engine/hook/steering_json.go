package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// MaxSteerJSON bounds the JSON form of steering, in bytes.
const MaxSteerJSON = 4 << 20

// SteerError says which field of the JSON form cannot be served, and why.
type SteerError struct {
	Field string // "layers.7.ban"
	Err   error
}

func (e *SteerError) Error() string { return fmt.Sprintf("steer.%s: %v", e.Field, e.Err) }

func (e *SteerError) Unwrap() error { return e.Err }

// steerJSON is the form of the API's steer field.
type steerJSON struct {
	Layers     map[string]layerJSON `json:"layers,omitempty"`
	Vectors    []vectorJSON         `json:"vectors,omitempty"`
	DecodeOnly bool                 `json:"decode_only,omitempty"`
}

type layerJSON struct {
	Bias  map[int32]float32 `json:"bias,omitempty"`
	Scale map[int32]float32 `json:"scale,omitempty"`
	Ban   []int32           `json:"ban,omitempty"`
	Force []int32           `json:"force,omitempty"`
	Gate  *float32          `json:"gate,omitempty"`
	K     int               `json:"top_k,omitempty"`
}

type vectorJSON struct {
	Name   string    `json:"name,omitempty"`
	Values []float32 `json:"values,omitempty"`
	Layer  int       `json:"layer"`
	Scale  *float32  `json:"scale,omitempty"` // 1
}

// everyLayer is the key of what holds for all layers; a layer's own comes on top.
const everyLayer = "all"

// ParseSteering reads the JSON form:
//
//	{"layers": {"all": {"gate": 0.5}, "7": {"ban": [12], "bias": {"3": -1.5}, "top_k": 8}},
//	 "vectors": [{"name": "calm", "layer": 20, "scale": 2}], "decode_only": true}
//
// vector finds vectors that have a name and no values; it may be nil. Unknown fields
// are errors. Errors are *SteerError.
func ParseSteering(data []byte, shape Shape, vector func(name string) ([]float32, error)) (*Steering, error) {
	if len(data) > MaxSteerJSON {
		return nil, &SteerError{"", fmt.Errorf("%d bytes: at most %d", len(data), MaxSteerJSON)}
	}
	var form steerJSON
	from := json.NewDecoder(bytes.NewReader(data))
	from.DisallowUnknownFields()
	if err := from.Decode(&form); err != nil {
		return nil, &SteerError{"", fmt.Errorf("%w: the fields are layers, vectors and decode_only", err)}
	}
	if _, err := from.Token(); !errors.Is(err, io.EOF) {
		return nil, &SteerError{"", errors.New("something stands behind the object")}
	}
	s := NewSteering(shape)
	if all, ok := form.Layers[everyLayer]; ok {
		if err := all.apply(s, everyLayer, nil); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(form.Layers)) {
		if key == everyLayer {
			continue
		}
		n, err := strconv.Atoi(key)
		if err != nil || strconv.Itoa(n) != key {
			return nil, &SteerError{"layers." + key, errors.New(`a layer is its number, or "all"`)}
		}
		if err := form.Layers[key].apply(s, key, []int{n}); err != nil {
			return nil, err
		}
	}
	for i, v := range form.Vectors {
		if err := v.apply(s, vector); err != nil {
			return nil, &SteerError{fmt.Sprintf("vectors.%d", i), err}
		}
	}
	if form.DecodeOnly {
		s.OnlyDecode()
	}
	return s, nil
}

// apply steers some layers. k comes first: what may be banned and forced depends on it.
func (l layerJSON) apply(s *Steering, key string, layers []int) error {
	at := func(field string, err error) error {
		if err == nil {
			return nil
		}
		return &SteerError{"layers." + key + "." + field, err}
	}
	if l.K != 0 {
		if err := at("top_k", s.TopK(layers, l.K)); err != nil {
			return err
		}
	}
	for _, e := range slices.Sorted(maps.Keys(l.Bias)) {
		if err := at("bias", s.Bias(layers, []int32{e}, l.Bias[e])); err != nil {
			return err
		}
	}
	for _, e := range slices.Sorted(maps.Keys(l.Scale)) {
		if err := at("scale", s.Scale(layers, []int32{e}, l.Scale[e])); err != nil {
			return err
		}
	}
	if l.Gate != nil {
		if err := at("gate", s.Gate(layers, *l.Gate)); err != nil {
			return err
		}
	}
	if err := at("ban", s.Ban(layers, l.Ban)); err != nil {
		return err
	}
	return at("force", s.Force(layers, l.Force))
}

func (v vectorJSON) apply(s *Steering, find func(string) ([]float32, error)) error {
	if v.Values == nil {
		if v.Name == "" || find == nil {
			return errors.New("a vector has values, or the name of one that the server knows")
		}
		var err error
		if v.Values, err = find(v.Name); err != nil {
			return err
		}
	}
	scale := float32(1)
	if v.Scale != nil {
		scale = *v.Scale
	}
	return s.AddVector(Vector{Name: v.Name, Values: v.Values, Layer: v.Layer, Scale: scale})
}

// MarshalJSON writes the form that ParseSteering reads. Vectors are written out.
func (s *Steering) MarshalJSON() ([]byte, error) {
	form := steerJSON{DecodeOnly: s.decodeOnly}
	for n, l := range s.layers {
		if l == nil {
			continue
		}
		if form.Layers == nil {
			form.Layers = map[string]layerJSON{}
		}
		j := layerJSON{Bias: valuesOf(l.Bias), Scale: valuesOf(l.Scale), Ban: l.Ban, Force: l.Force, K: l.K}
		if l.Gate != 1 {
			j.Gate = &l.Gate
		}
		form.Layers[strconv.Itoa(n)] = j
	}
	for _, v := range s.vectors {
		form.Vectors = append(form.Vectors, vectorJSON{v.Name, v.Values, v.Layer, &v.Scale})
	}
	return json.Marshal(form)
}

func valuesOf(list []ExpertValue) map[int32]float32 {
	if len(list) == 0 {
		return nil
	}
	out := map[int32]float32{}
	for _, v := range list {
		out[v.Expert] = v.Value
	}
	return out
}
