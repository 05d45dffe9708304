package autoround

import (
	"encoding/binary"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// Bind finds the tensors of a module with k inputs and n outputs and says what
// they mean. A module is quantised if and only if it has a qweight; otherwise it
// must have a weight. Warnings are disagreements with the configuration.
func Bind(c *safetensors.Checkpoint, cfg *Config, module string, k, n int) (m *ops.Matrix, warnings []string, err error) {
	b := binding{c: c, module: module, m: &ops.Matrix{Name: module, K: k, N: n}}
	if cfg != nil {
		settings := cfg.module(module)
		b.cfg, b.listed = &settings, cfg.lists(module)
	}
	if t, ok := c.Lookup(module + ".bias"); ok {
		return nil, nil, b.refuse(t, "the model has no biases, and none would be added: this is another architecture or a damaged export")
	}
	if _, packed := c.Lookup(module + ".qweight"); packed {
		err = b.packed()
	} else {
		err = b.dense()
	}
	if err != nil {
		return nil, nil, err
	}
	return b.m, b.warnings, nil
}

type binding struct {
	c        *safetensors.Checkpoint
	cfg      *Config // as it is for this module; nil when there is none
	listed   bool    // by its name in extra_config
	module   string
	m        *ops.Matrix
	warnings []string
}

// tensor finds module.name and checks type and rank 2 (or 1).
func (b *binding) tensor(name string, rank int, types ...safetensors.DType) (*safetensors.Tensor, error) {
	t, ok := b.c.Lookup(b.module + "." + name)
	if !ok {
		return nil, fmt.Errorf("%s.%s is missing from the checkpoint", b.module, name)
	}
	for _, allowed := range types {
		if t.DType == allowed && len(t.Shape) == rank {
			return t, nil
		}
	}
	return nil, b.refuse(t, "expected rank %d of %v", rank, types)
}

func (b *binding) refuse(t *safetensors.Tensor, format string, args ...any) error {
	return fmt.Errorf("%s in %s at offset %d is %s %v: %s", t.Name, t.File, t.Offset, t.DType, t.Shape, fmt.Sprintf(format, args...))
}

func (b *binding) warn(format string, args ...any) {
	b.warnings = append(b.warnings, b.module+" "+fmt.Sprintf(format, args...)+": the tensors count")
}

func extent(t *safetensors.Tensor) ops.Extent {
	return ops.Extent{File: t.File, Offset: t.Offset, Data: t.Data(), Reader: t.Reader()}
}

// dense binds module.weight [N, K].
func (b *binding) dense() error {
	m := b.m
	t, err := b.tensor("weight", 2, safetensors.BF16, safetensors.F16, safetensors.F32)
	if err != nil {
		return err
	}
	if t.Shape[0] != int64(m.N) || t.Shape[1] != int64(m.K) {
		return b.refuse(t, "config.json asks for [%d %d]", m.N, m.K)
	}
	m.Type = map[safetensors.DType]ops.Type{safetensors.BF16: ops.BF16, safetensors.F16: ops.F16, safetensors.F32: ops.F32}[t.DType]
	m.Layout, m.Bits, m.Weight = ops.Dense, int(8*m.Type.Size()), extent(t)
	if b.listed && b.cfg.quantised() {
		b.warn("is not quantised, extra_config says %d bits", b.cfg.Bits)
	}
	return nil
}

// packed binds qweight, scales, and where they count qzeros and g_idx.
func (b *binding) packed() error {
	m := b.m
	codes, err := b.tensor("qweight", 2, safetensors.I32)
	if err != nil {
		return err
	}
	scales, err := b.tensor("scales", 2, safetensors.F16)
	if err != nil {
		return err
	}
	if b.cfg == nil {
		return b.refuse(codes, "the tensor is packed, but neither config.json nor quantization_config.json says how: fetch the model's config.json again")
	}
	if m.K%32 != 0 {
		return b.refuse(codes, "%d inputs: packed matrices need a multiple of 32", m.K)
	}
	if err := b.shape(codes); err != nil {
		return err
	}
	if err := b.groups(scales); err != nil {
		return err
	}
	if bits := b.cfg.Bits; !b.cfg.quantised() || bits != 0 && bits != m.Bits {
		b.warn("has %d bits, quantization_config says %d of type %q", m.Bits, bits, b.cfg.DataType)
	}
	m.Weight, m.Scales = extent(codes), extent(scales)
	if err := b.groupIndex(); err != nil {
		return err
	}
	return b.zeros()
}

// shape takes layout and bits from the shape of the codes.
func (b *binding) shape(t *safetensors.Tensor) error {
	m := b.m
	rows, columns := t.Shape[0], t.Shape[1]
	if rows == int64(m.K) && columns*8 == int64(m.N) {
		m.Layout, m.Bits = ops.AWQ, 4
		return nil
	}
	if columns != int64(m.N) {
		return b.refuse(t, "config.json asks for %d inputs and %d outputs", m.K, m.N)
	}
	bits := 32 * rows / int64(m.K)
	if bits*int64(m.K) != 32*rows || bits != 2 && bits != 3 && bits != 4 && bits != 8 {
		return b.refuse(t, "that is %.3g bits for %d inputs: 2, 3, 4 and 8 are supported", float64(32*rows)/float64(m.K), m.K)
	}
	m.Layout, m.Bits = ops.GPTQ, int(bits)
	if m.N*m.Bits%32 != 0 {
		return b.refuse(t, "%d outputs of %d bits do not fill whole words", m.N, m.Bits)
	}
	return nil
}

// groups takes the group size from the shape of the scales.
func (b *binding) groups(t *safetensors.Tensor) error {
	m := b.m
	count := int(min(t.Shape[0], 1<<30))
	if t.Shape[1] != int64(m.N) || count < 1 || count > m.K {
		return b.refuse(t, "expected [groups %d] with 1 to %d groups", m.N, m.K)
	}
	group := b.cfg.GroupSize
	if group == -1 {
		group = m.K
	}
	switch {
	case group > 0 && (m.K+group-1)/group == count:
		// The last group may be short: 2 groups of 96 inputs are 64 and 32 if
		// the config says 64, which the shape alone cannot tell from 48 and 48.
		m.Group = min(group, m.K)
	case m.K%count == 0:
		m.Group = m.K / count
		if group != 0 {
			b.warn("has groups of %d, quantization_config says %d", m.Group, group)
		}
	default:
		return b.refuse(t, "%d groups do not divide %d inputs, and group_size %d of the config gives another number", count, m.K, b.cfg.GroupSize)
	}
	return nil
}

// groupIndex binds g_idx unless it only repeats k / group.
func (b *binding) groupIndex() error {
	m := b.m
	if _, ok := b.c.Lookup(b.module + ".g_idx"); !ok {
		if b.cfg.DescAct {
			return fmt.Errorf("%s.g_idx is missing from the checkpoint: desc_act true in quantization_config needs it", b.module)
		}
		return nil
	}
	t, err := b.tensor("g_idx", 1, safetensors.I32)
	if err != nil {
		return err
	}
	if t.Shape[0] != int64(m.K) {
		return b.refuse(t, "expected one group for each of %d inputs", m.K)
	}
	plain := true
	for k, data := 0, t.Data(); k < m.K; k++ {
		g := int32(binary.LittleEndian.Uint32(data[4*k:]))
		if g < 0 || int(g) >= m.Groups() {
			return b.refuse(t, "input %d is in group %d of %d", k, g, m.Groups())
		}
		plain = plain && int(g) == k/m.Group
	}
	if !plain {
		m.GroupOf = extent(t)
	}
	return nil
}

// zeros decides about the zero points. Symmetric ones are 2^(bits-1) and are not
// read, because writers stored them with and without one subtracted.
func (b *binding) zeros() error {
	m := b.m
	width := int64(m.N * m.Bits / 32)
	t, err := b.tensor("qzeros", 2, safetensors.I32)
	switch {
	case err != nil && b.cfg.symmetric():
		if _, there := b.c.Lookup(b.module + ".qzeros"); there {
			return err
		}
		return nil // none stored, none needed
	case err != nil:
		return err
	case t.Shape[0] != int64(m.Groups()) || t.Shape[1] != width:
		return b.refuse(t, "expected [%d %d]", m.Groups(), width)
	case b.cfg.symmetric():
		return nil
	}
	m.QZeros = extent(t)
	m.Zeros = ops.Stored
	if m.Layout == ops.GPTQ && b.cfg.minusOne() {
		m.Zeros = ops.StoredMinusOne
	}
	return nil
}
