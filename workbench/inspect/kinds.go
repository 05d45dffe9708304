package inspect

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

const mtpPrefix = "mtp."

// roles are the tensors that a module can have.
var roles = []string{".qweight", ".qzeros", ".scales", ".g_idx", ".weight", ".bias"}

// moduleOf splits a tensor's name into module and role; a tensor without a role
// (A_log) is a module by itself.
func moduleOf(tensor string) (module, role string) {
	for _, role := range roles {
		if module, ok := strings.CutSuffix(tensor, role); ok {
			return module, role
		}
	}
	return tensor, ""
}

// layerOf splits model.layers.N.rest and mtp.layers.N.rest.
func layerOf(module string) (layer int, rest string, ok bool) {
	_, rest, ok = strings.Cut(module, "layers.")
	if !ok {
		return 0, module, false
	}
	number, rest, ok := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	if !ok || err != nil || layer < 0 {
		return 0, module, false
	}
	return layer, rest, true
}

// kindOf removes the numbers of layer and expert from a module's name.
func kindOf(module string) string {
	_, name, inLayer := layerOf(module)
	if before, after, ok := strings.Cut(name, ".experts."); ok {
		if number, projection, ok := strings.Cut(after, "."); ok {
			if _, err := strconv.Atoi(number); err == nil {
				name = before + ".experts." + projection
			}
		}
	}
	if inLayer && strings.HasPrefix(module, mtpPrefix) {
		name = mtpPrefix + name
	}
	return name
}

// module is the tensors of one module and what they mean.
type module struct {
	name    string
	tensors []*safetensors.Tensor
	matrix  *ops.Matrix // nil for vectors, and for matrices that cannot be bound
}

func (m *module) tensor(role string) *safetensors.Tensor {
	for _, t := range m.tensors {
		if t.Name == m.name+role {
			return t
		}
	}
	return nil
}

// kind is a row of the report with the modules that it counts.
type kind struct {
	Kind
	modules []*module
	tensors int
}

// sortTensors sorts all tensors into kinds, in the order of their names.
func (x *inspection) sortTensors() {
	modules := map[string]*module{}
	for _, f := range x.checkpoint.Files {
		for i := range f.Tensors {
			t := &f.Tensors[i]
			name, _ := moduleOf(t.Name)
			m := modules[name]
			if m == nil {
				m = &module{name: name}
				modules[name] = m
			}
			m.tensors = append(m.tensors, t)
		}
	}
	rows := map[Kind]*kind{}
	unused := 0
	var example string
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		m := modules[name]
		row := x.describe(m)
		row.Kernel = x.kernelOf(m)
		k := rows[row]
		if k == nil {
			k = &kind{Kind: row}
			rows[row] = k
			x.kinds = append(x.kinds, k)
		}
		k.modules = append(k.modules, m)
		k.Modules++
		for _, t := range m.tensors {
			k.tensors++
			k.Bytes += t.Bytes
		}
		if !x.used[name] {
			if unused += len(m.tensors); example == "" {
				example = m.tensors[0].Name
			}
		}
	}
	if unused > 0 && x.cfg != nil && len(x.r.Findings) == 0 {
		x.note("%d tensors are not part of the model and are not used, the first is %s", unused, example)
	}
	slices.SortStableFunc(x.kinds, func(a, b *kind) int { return cmp.Compare(a.Name, b.Name) })
}

// kernelOf names the kernel of a matrix that the model reads.
func (x *inspection) kernelOf(m *module) string {
	matrix := x.bound[m.name]
	if x.kernel == nil || matrix == nil {
		return ""
	}
	return x.kernel(matrix)
}

// describe says how a module is stored. The result is the key of its row.
func (x *inspection) describe(m *module) Kind {
	k := Kind{Name: kindOf(m.name), Layout: "vector", DType: string(m.tensors[0].DType)}
	if codes := m.tensor(".qweight"); codes != nil {
		m.matrix = x.packed(m)
		k.Layout, k.DType = "packed", string(codes.DType)
		if m.matrix == nil {
			return k
		}
		k.Layout, k.Bits, k.Group, k.Zeros = m.matrix.Layout.String(), m.matrix.Bits, m.matrix.Group, m.matrix.Zeros.String()
		k.Inputs, k.Outputs = m.matrix.K, m.matrix.N
		return k
	}
	if t := m.tensor(".weight"); t != nil {
		k.DType = string(t.DType)
		if len(t.Shape) == 2 {
			k.Layout, k.Outputs, k.Inputs = ops.Dense.String(), int(t.Shape[0]), int(t.Shape[1])
		}
	}
	k.Bits = width(safetensors.DType(k.DType))
	return k
}

// packed says what a quantised module means: as the model bound it or, for one
// that it did not (the config is damaged, or the module is no part of it), by
// its own shapes. Zeros have as many fields as there are outputs, so their
// width gives the bits without knowing the inputs.
func (x *inspection) packed(m *module) *ops.Matrix {
	if bound := x.bound[m.name]; bound != nil {
		return bound
	}
	codes, zeros, scales := m.tensor(".qweight"), m.tensor(".qzeros"), m.tensor(".scales")
	if zeros == nil || scales == nil || len(codes.Shape) != 2 || len(zeros.Shape) != 2 || len(scales.Shape) != 2 || scales.Shape[1] == 0 {
		return nil
	}
	n := scales.Shape[1]
	bits := 32 * zeros.Shape[1] / n
	inputs := codes.Shape[0]
	if codes.Shape[1] == n { // gptq: rows are words
		if bits == 0 {
			return nil
		}
		inputs = 32 * codes.Shape[0] / bits
	}
	quant := x.quant
	if quant == nil {
		quant = &autoround.Config{}
	}
	if inputs > 1<<24 || n > 1<<24 {
		return nil
	}
	matrix, _, err := autoround.Bind(x.checkpoint, quant, m.name, int(inputs), int(n))
	if err != nil {
		if !x.used[m.name] && x.cfg == nil {
			x.finding("%v", err)
		}
		return nil
	}
	return matrix
}

// width returns the bits of an element.
func width(t safetensors.DType) int {
	switch t {
	case safetensors.F16, safetensors.BF16, "I16", "U16":
		return 16
	case safetensors.F32, safetensors.I32, "U32":
		return 32
	case safetensors.I64, "F64", "U64":
		return 64
	}
	return 8
}
